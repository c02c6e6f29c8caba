"""A lesion's outline and what colours it from within: melanin and blood, in world coordinates.

Amounts come from a recipe, 0 is absent. Every trait has its own stream of random numbers, so
photographs of one lesion agree whatever else is drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tlcnn.data.drawing.field import Array, Cells, Draws, Frame, cells, noise, smoothstep
from tlcnn.data.drawing.stroke import Stroke, curve, spots, strokes

Recipe = Mapping[str, float]


@dataclass(frozen=True)
class Shape:
    """Where the lesion is."""

    far: Array  # 0 at its centre, 1 on its border, (H, W)
    inside: Array  # 1 inside, 0 outside, soft across the border, (H, W)
    axes: Array  # its half axes along u and v in world lengths, (2,)

    def scatter(self, draws: Draws, count: int, least: float, most: float) -> Array:
        """Return `count` world points between two depths (0 centre, 1 border), (count, 2)."""
        turn = 2 * np.pi * draws.array(count)
        far = np.sqrt(least**2 + (most**2 - least**2) * draws.array(count))
        return self.axes * np.stack([far * np.cos(turn), far * np.sin(turn)], axis=1)

    def rim(self, turn: float) -> Array:
        """Return the point (2,) of its border in a direction, lobes and bites left aside."""
        return self.axes * np.array([np.cos(turn), np.sin(turn)])


def _cells_inside(shape: Shape, u: Array, v: Array, draws: Draws, jitter: float) -> Cells:
    """Return the cells of `cells`, computed inside the lesion only and 0 elsewhere."""
    here = shape.inside > 0
    part = cells(u[here], v[here], draws, jitter)
    planes = np.zeros((5, *u.shape))
    for plane, values in zip(planes, vars(part).values(), strict=True):
        plane[here] = values
    return Cells(*planes)


def make_shape(frame: Frame, draws: Draws, recipe: Recipe) -> Shape:
    """Return the lesion's outline: an ellipse with lobes (`wobble`) and bites (`notch`)."""
    stretch = recipe["aspect"] ** 0.5
    axes = recipe["radius"] * np.array([1 / stretch, stretch])
    far = np.hypot(frame.u / axes[0], frame.v / axes[1])
    lobes = noise(frame, draws.fork(1), 0.8, 3.2, slope=0.8, n_waves=16)
    far += recipe["wobble"] * np.clip(lobes, -2, 2) * (0.3 + far)
    if recipe["notch"]:
        far += recipe["notch"] * noise(frame, draws.fork(2), 5, 11, slope=0.5, n_waves=24)
    edge = max(recipe["edge"], 1.2 * frame.pixel / recipe["radius"])
    return Shape(far, smoothstep(1 + edge, 1 - edge, far), axes)


def add_pigment(
    frame: Frame, draws: Draws, recipe: Recipe, shape: Shape, melanin: Array, blood: Array
) -> None:
    """Add the lesion's melanin and blood to those of the skin, in place."""
    mottle = np.clip(noise(frame, draws.fork(1), 1.2, 5, n_waves=24), -2.5, 2.5)
    brown = _compute_brown(frame, draws.fork(2), recipe, shape, mottle)
    melanin += np.maximum(brown, 0.05) * recipe["melanin"] * shape.inside
    if recipe["dots"]:
        melanin += recipe["dots"] * _dots(frame, draws.fork(3), shape)
    if recipe["streaks"]:
        melanin += recipe["streaks"] * _streaks(frame, draws.fork(4), shape)
    red = recipe["blood"] * (1 + 0.35 * recipe["mottle"] * mottle)
    if recipe["redness"]:
        patch = smoothstep(0.2, 1.2, noise(frame, draws.fork(5), 0.9, 2.2, n_waves=12))
        red = red + 0.6 * recipe["redness"] * patch
    blood += np.maximum(red, 0) * shape.inside
    if recipe["follicles"]:
        blood += (
            recipe["follicles"] * _strawberry(frame, draws.fork(6), shape, blood) * shape.inside
        )
    if recipe["dotted"]:
        blood += recipe["dotted"] * _dotted_vessels(frame, draws.fork(7), shape) * shape.inside
    if recipe["lacunae"]:
        _add_lacunae(frame, draws.fork(8), recipe["lacunae"], shape, melanin, blood)


def _compute_brown(
    frame: Frame, draws: Draws, recipe: Recipe, shape: Shape, mottle: Array
) -> Array:
    """Return the relative melanin of each pixel, about 1 in a plain brown lesion."""
    brown = np.exp(np.clip(0.4 * recipe["mottle"] * mottle, -1.0, 1.0))
    brown *= 1 + recipe["core"] * (0.7 - 1.4 * np.minimum(shape.far, 1))
    brown *= 1 - 0.85 * recipe["scar"] * smoothstep(0.75, 0.2, shape.far)
    if recipe["blotch"]:
        blotch = smoothstep(0.2, 1.1, noise(frame, draws.fork(1), 0.9, 2.4, n_waves=12))
        brown += 1.3 * recipe["blotch"] * blotch
    if recipe["network"] + recipe["globules"]:
        brown += _network(frame, draws.fork(2), recipe, shape)
    if recipe["ridges"]:
        folds = noise(frame, draws.fork(3), 6, 8, slope=0, n_waves=28)
        brown += 0.45 * recipe["ridges"] * np.tanh(1.5 * folds)
    return brown


def _network(frame: Frame, draws: Draws, recipe: Recipe, shape: Shape) -> Array:
    """Brown lines around pale holes, and brown clods in the same lattice."""
    atypia = recipe["atypia"]
    period = draws.uniform(0.10, 0.165) * (1 + 0.35 * atypia)
    bend_u = noise(frame, draws.fork(1), 1.5, 5, n_waves=12)
    bend_v = noise(frame, draws.fork(2), 1.5, 5, n_waves=12)
    patchy = np.clip(noise(frame, draws.fork(3), 1, 3, n_waves=12), -2, 2)
    warp = 0.10 + 0.40 * atypia
    u, v = frame.u / period + warp * bend_u, frame.v / period + warp * bend_v
    mesh = _cells_inside(shape, u, v, draws.fork(4), 0.3 + 0.4 * atypia)
    thick = 0.42 * np.clip(1 + 0.5 * atypia * patchy, 0.4, 1.8)
    lines = np.exp(-((mesh.gap / thick) ** 2))
    fade = 0.5 + 0.5 * smoothstep(0.0, 0.5, shape.far)
    here = np.clip(1 + 1.2 * atypia * patchy, 0, 1.7)
    clods = smoothstep(0.46, 0.24, mesh.near + 0.12 * mesh.value)
    web = 1.5 * recipe["network"] * fade * (lines - 0.40)
    return here * (web + 1.4 * recipe["globules"] * (clods - 0.25))


def _dots(frame: Frame, draws: Draws, shape: Shape) -> Array:
    """Black dots and globules of every size, scattered without order."""
    count = draws.count(8, 26)
    points = shape.scatter(draws, count, 0.1, 1.02)
    return 1.6 * spots(frame, points, draws.array(count, low=0.012, high=0.042))


def _streaks(frame: Frame, draws: Draws, shape: Shape) -> Array:
    """Streaks and pseudopods that radiate from one side of the border."""
    side, spread = draws.uniform(0, 2 * np.pi), draws.uniform(0.5, 1.5)
    lines = []
    for _ in range(draws.count(12, 24)):
        turn = side + draws.uniform(-spread, spread)
        start, length = shape.rim(turn) * draws.uniform(0.6, 0.8), draws.uniform(0.16, 0.34)
        points = curve(draws, start, turn, length, draws.uniform(-0.4, 0.4), 0.1, n=6)
        lines.append(Stroke(points, 0.026, draws.uniform(0.026, 0.05)))
    ends = smoothstep(1.5, 1.05, shape.far)
    return 1.2 * strokes(frame, lines) * ends


def _strawberry(frame: Frame, draws: Draws, shape: Shape, blood: Array) -> Array:
    """A red net around the pale openings of hair follicles."""
    period = draws.uniform(0.17, 0.25)
    mesh = _cells_inside(shape, frame.u / period, frame.v / period, draws.fork(1), 0.55)
    pale = smoothstep(0.42, 0.20, mesh.near)
    net = smoothstep(0.28, 0.55, mesh.near)
    return 0.5 * net - 0.75 * pale * blood


def _dotted_vessels(frame: Frame, draws: Draws, shape: Shape) -> Array:
    count = draws.count(18, 45)
    points = shape.scatter(draws, count, 0.0, 0.95)
    return 1.1 * spots(frame, points, draws.array(count, low=0.014, high=0.030))


def _add_lacunae(
    frame: Frame, draws: Draws, amount: float, shape: Shape, melanin: Array, blood: Array
) -> None:
    """Red, purple and nearly black lakes of blood, rounded, with pale walls between them."""
    period, purple = draws.uniform(0.22, 0.38), draws.uniform(0, 0.9)
    bend = 0.12 * noise(frame, draws.fork(1), 1.5, 5, n_waves=12)
    mesh = _cells_inside(
        shape, frame.u / period + bend, frame.v / period - bend, draws.fork(2), 0.8
    )
    reach = 0.62 + 0.16 * mesh.value
    lake = smoothstep(0.0, 0.26, np.minimum(mesh.gap, reach - mesh.near))
    lake *= smoothstep(1.05, 0.88, shape.far)
    depth = amount * (lake - 0.3) * shape.inside
    blood += depth * (0.5 + 1.0 * mesh.value)
    np.maximum(blood, 0.02, out=blood)
    melanin += np.maximum(depth, 0) * purple * 1.5 * mesh.value**2
