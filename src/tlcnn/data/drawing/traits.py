"""A lesion's outline and its traits: pigment within, and what is seen over it.

Amounts come from a recipe, 0 is absent. Every trait has its own stream of random numbers, so
photographs of one lesion agree whatever else is drawn. Points are world coordinates.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tlcnn.data.drawing.field import Array, Draws, Frame, make_mesh, noise, smoothstep
from tlcnn.data.drawing.skin import apply_colour, reflect
from tlcnn.data.drawing.stroke import Stroke, curve, spots, strokes, tree

Recipe = Mapping[str, float]

BLUE_WHITE = (0.50, 0.53, 0.62)
BLUE_GREY = (0.36, 0.37, 0.46)
WHITE = (0.94, 0.86, 0.83)
YELLOW = (0.84, 0.66, 0.40)
CYST = (0.97, 0.92, 0.80)
PLUG = (0.22, 0.13, 0.09)
SCALE = (0.95, 0.89, 0.78)
VESSEL = (0.70, 0.15, 0.19)
ULCER = (0.58, 0.22, 0.12)
CRUST = (0.22, 0.07, 0.10)


@dataclass(frozen=True)
class Lesion:
    """Where a lesion is in a picture, and how much of each trait it has."""

    frame: Frame
    recipe: Recipe
    far: Array  # (H, W), 0 at its centre, 1 on its border
    inside: Array  # (H, W), 1 inside, 0 outside, soft across the border
    axes: Array  # (2,), its half axes along u and v

    def scatter(self, draws: Draws, count: int, least: float, most: float) -> Array:
        """Return `count` points between two depths (0 centre, 1 border), (count, 2)."""
        turn = 2 * np.pi * draws.array(count)
        far = np.sqrt(least**2 + (most**2 - least**2) * draws.array(count))
        return self.axes * np.stack([far * np.cos(turn), far * np.sin(turn)], axis=1)

    def scatter_spots(
        self,
        draws: Draws,
        counts: tuple[int, int],
        depths: tuple[float, float],
        radii: tuple[float, float],
        **shape: float,
    ) -> Array:
        """Return spots (H, W) whose number, depths and radii lie in ranges."""
        count = draws.count(*counts)
        points = self.scatter(draws, count, *depths)
        return spots(self.frame, points, draws.array(count, low=radii[0], high=radii[1]), **shape)

    def find_rim(self, turn: float) -> Array:
        """Return the point (2,) of the ellipse's border in a direction."""
        return self.axes * np.array([np.cos(turn), np.sin(turn)])


def make_lesion(frame: Frame, draws: Draws, recipe: Recipe) -> Lesion:
    """Return a lesion's outline: an ellipse with lobes (`wobble`) and bites (`notch`)."""
    stretch = recipe["aspect"] ** 0.5
    axes = recipe["radius"] * np.array([1 / stretch, stretch])
    far = np.hypot(frame.u / axes[0], frame.v / axes[1])
    lobes = noise(frame, draws.fork(1), 0.8, 3.2, slope=0.8, n_waves=16)
    far += recipe["wobble"] * np.clip(lobes, -2, 2) * (0.3 + far)
    if recipe["notch"]:
        far += recipe["notch"] * noise(frame, draws.fork(2), 5, 11, slope=0.5, n_waves=24)
    edge = max(recipe["edge"], 1.2 * frame.pixel / recipe["radius"])
    return Lesion(frame, recipe, far, smoothstep(1 + edge, 1 - edge, far), axes)


def paint(lesion: Lesion, draws: Draws, melanin: Array, blood: Array) -> Array:
    """Return a lesion on its skin, (H, W, 3), painted from deep to shallow.

    The lesion's melanin and blood are added to those of the skin, (H, W).
    """
    _add_pigment(lesion, draws.fork(2), melanin, blood)
    picture = reflect(melanin, blood)
    _apply_deep_colours(picture, lesion, draws.fork(3))
    if lesion.recipe["vessels"]:
        _apply_vessels(picture, lesion, draws.fork(4))
    _apply_surface(picture, lesion, draws.fork(5))
    return picture


# ---- pigment ------------------------------------------------------------------------------------


def _add_pigment(lesion: Lesion, draws: Draws, melanin: Array, blood: Array) -> None:
    frame, recipe, inside = lesion.frame, lesion.recipe, lesion.inside
    mottle = np.clip(noise(frame, draws.fork(1), 1.2, 5, n_waves=24), -2.5, 2.5)
    brown = _compute_brown(lesion, draws.fork(2), mottle)
    melanin += np.maximum(brown, 0.05) * recipe["melanin"] * inside
    if recipe["dots"]:  # black, of every size, scattered without order
        dots = lesion.scatter_spots(draws.fork(3), (8, 26), (0.1, 1.02), (0.012, 0.042))
        melanin += recipe["dots"] * (1.6 * dots)
    if recipe["streaks"]:
        melanin += recipe["streaks"] * _make_streaks(lesion, draws.fork(4))
    red = recipe["blood"] * (1 + 0.35 * recipe["mottle"] * mottle)
    if recipe["redness"]:
        patch = smoothstep(0.2, 1.2, noise(frame, draws.fork(5), 0.9, 2.2, n_waves=12))
        red = red + 0.6 * recipe["redness"] * patch
    blood += np.maximum(red, 0) * inside
    if recipe["follicles"]:  # a red net around the pale openings of hair follicles
        net_draws = draws.fork(6)
        period = net_draws.uniform(0.17, 0.25)
        u, v = frame.u / period, frame.v / period
        near = make_mesh(u, v, net_draws.fork(1), 0.55).near
        net = 0.5 * smoothstep(0.28, 0.55, near) - 0.75 * smoothstep(0.42, 0.20, near) * blood
        blood += recipe["follicles"] * net * inside
    if recipe["dotted"]:  # dotted vessels
        dots = lesion.scatter_spots(draws.fork(7), (18, 45), (0.0, 0.95), (0.014, 0.030))
        blood += recipe["dotted"] * (1.1 * dots) * inside
    if recipe["lacunae"]:
        _add_lacunae(lesion, draws.fork(8), melanin, blood)


def _compute_brown(lesion: Lesion, draws: Draws, mottle: Array) -> Array:
    """Return the relative melanin of each pixel, about 1 in a plain brown lesion."""
    frame, recipe, far = lesion.frame, lesion.recipe, lesion.far
    brown = np.exp(np.clip(0.4 * recipe["mottle"] * mottle, -1.0, 1.0))
    brown *= 1 + recipe["core"] * (0.7 - 1.4 * np.minimum(far, 1))
    brown *= 1 - 0.85 * recipe["scar"] * smoothstep(0.75, 0.2, far)
    if recipe["blotch"]:
        blotch = smoothstep(0.2, 1.1, noise(frame, draws.fork(1), 0.9, 2.4, n_waves=12))
        brown += 1.3 * recipe["blotch"] * blotch
    if recipe["network"] + recipe["globules"]:
        brown += _make_network(lesion, draws.fork(2))
    if recipe["ridges"]:
        folds = noise(frame, draws.fork(3), 6, 8, slope=0, n_waves=28)
        brown += 0.45 * recipe["ridges"] * np.tanh(1.5 * folds)
    return brown


def _make_network(lesion: Lesion, draws: Draws) -> Array:
    """Brown lines around pale holes, and brown clods in the same lattice."""
    frame, recipe, atypia = lesion.frame, lesion.recipe, lesion.recipe["atypia"]
    period = draws.uniform(0.10, 0.165) * (1 + 0.35 * atypia)
    warp = 0.10 + 0.40 * atypia
    u = frame.u / period + warp * noise(frame, draws.fork(1), 1.5, 5, n_waves=12)
    v = frame.v / period + warp * noise(frame, draws.fork(2), 1.5, 5, n_waves=12)
    patchy = np.clip(noise(frame, draws.fork(3), 1, 3, n_waves=12), -2, 2)
    mesh = make_mesh(u, v, draws.fork(4), 0.3 + 0.4 * atypia)
    thickness = 0.42 * np.clip(1 + 0.5 * atypia * patchy, 0.4, 1.8)
    lines = np.exp(-((mesh.gap / thickness) ** 2))
    fade = 0.5 + 0.5 * smoothstep(0.0, 0.5, lesion.far)
    density = np.clip(1 + 1.2 * atypia * patchy, 0, 1.7)
    clods = smoothstep(0.46, 0.24, mesh.near + 0.12 * mesh.value)
    web = 1.5 * recipe["network"] * fade * (lines - 0.40)
    return density * (web + 1.4 * recipe["globules"] * (clods - 0.25))


def _make_streaks(lesion: Lesion, draws: Draws) -> Array:
    """Streaks and pseudopods that radiate from one side of the border."""
    side, spread = draws.uniform(0, 2 * np.pi), draws.uniform(0.5, 1.5)
    lines = []
    for _ in range(draws.count(12, 24)):
        turn = side + draws.uniform(-spread, spread)
        start, length = lesion.find_rim(turn) * draws.uniform(0.6, 0.8), draws.uniform(0.16, 0.34)
        points = curve(draws, start, turn, length, draws.uniform(-0.4, 0.4), 0.1, n=6)
        lines.append(Stroke(points, 0.026, draws.uniform(0.026, 0.05)))
    return 1.2 * strokes(lesion.frame, lines) * smoothstep(1.5, 1.05, lesion.far)


def _add_lacunae(lesion: Lesion, draws: Draws, melanin: Array, blood: Array) -> None:
    """Red, purple and nearly black lakes of blood, rounded, with pale walls between them."""
    frame = lesion.frame
    period, purple = draws.uniform(0.22, 0.38), draws.uniform(0, 0.9)
    bend = 0.12 * noise(frame, draws.fork(1), 1.5, 5, n_waves=12)
    u, v = frame.u / period + bend, frame.v / period - bend
    mesh = make_mesh(u, v, draws.fork(2), 0.8)
    reach = 0.62 + 0.16 * mesh.value
    lake = smoothstep(0.0, 0.26, np.minimum(mesh.gap, reach - mesh.near))
    lake *= smoothstep(1.05, 0.88, lesion.far)
    depth = lesion.recipe["lacunae"] * (lake - 0.3) * lesion.inside
    blood += depth * (0.5 + 1.0 * mesh.value)
    np.maximum(blood, 0.02, out=blood)
    melanin += np.maximum(depth, 0) * purple * 1.5 * mesh.value**2


# ---- what is seen over the pigment: colours are blended into the picture in place ---------------


def _apply_deep_colours(picture: Array, lesion: Lesion, draws: Draws) -> None:
    """Blue-white veil, regression, nests and scar."""
    frame, recipe, far = lesion.frame, lesion.recipe, lesion.far
    cloud = noise(frame, draws.fork(1), 0.9, 2.2, n_waves=12)
    grain = noise(frame, draws.fork(2), 4, 12, slope=0.5, n_waves=20)
    within = smoothstep(1.0, 0.75, far)
    veil = smoothstep(-0.3, 1.0, cloud + 0.15 * grain) * within
    apply_colour(picture, 0.64 * recipe["veil"] * veil, BLUE_WHITE)
    pale = smoothstep(0.2, 1.1, -cloud + 0.2 * grain) * within
    apply_colour(picture, 0.65 * recipe["regression"] * pale, WHITE)
    if recipe["nests"]:  # ovoid, large and few, with small globules beside them
        nest_draws = draws.fork(3)
        n_large, n_small = nest_draws.count(2, 6), nest_draws.count(3, 12)
        points = lesion.scatter(nest_draws, n_large + n_small, 0.1, 0.9)
        large = nest_draws.array(n_large, low=0.07, high=0.16)
        radii = np.concatenate([large, nest_draws.array(n_small, low=0.02, high=0.05)])
        nests = spots(frame, points, radii, softness=0.7, flat=0.3)
        apply_colour(picture, 0.85 * recipe["nests"] * nests, BLUE_GREY)
    scar = smoothstep(0.62, 0.12, far + 0.07 * grain + 0.08 * cloud)
    apply_colour(picture, 0.68 * recipe["scar"] * scar, WHITE)


def _apply_vessels(picture: Array, lesion: Lesion, draws: Draws) -> None:
    """Arborising vessels: sharp red trees that grow inwards from the border."""
    lines: list[Stroke] = []
    for _ in range(draws.count(2, 4)):
        turn = draws.uniform(0, 2 * np.pi)
        inward = turn + np.pi + draws.uniform(-0.6, 0.6)
        start = lesion.find_rim(turn) * 1.05
        lines += tree(draws, start, inward, draws.uniform(0.3, 0.5), 0.034, 3)
    cover = strokes(lesion.frame, lines) * smoothstep(1.35, 1.0, lesion.far)
    apply_colour(picture, 0.85 * lesion.recipe["vessels"] * cover, VESSEL)


def _apply_surface(picture: Array, lesion: Lesion, draws: Draws) -> None:
    """Keratin, plugs, cysts, scale, wounds and white lines."""
    frame, recipe = lesion.frame, lesion.recipe
    film = noise(frame, draws.fork(1), 1, 4, n_waves=16)
    keratin = smoothstep(-0.6, 1.0, film) * lesion.inside
    apply_colour(picture, 0.55 * recipe["keratin"] * keratin, YELLOW)
    if recipe["plugs"]:  # comedo-like openings, dark and oval
        ranges = (4, 12), (0.0, 0.88), (0.022, 0.058)
        plugs = lesion.scatter_spots(draws.fork(2), *ranges, flat=0.25)
        apply_colour(picture, 0.85 * recipe["plugs"] * plugs, PLUG)
    if recipe["cysts"]:  # milia-like, bright and round, sharp or blurred
        ranges = (6, 18), (0.0, 0.9), (0.018, 0.045)
        cysts = lesion.scatter_spots(draws.fork(3), *ranges, softness=0.9)
        apply_colour(picture, 0.9 * recipe["cysts"] * cysts, CYST)
    if recipe["scale"]:
        flakes = noise(frame, draws.fork(4), 6, 22, slope=0.4, n_waves=40) + 0.8 * film
        scale = smoothstep(0.5, 1.8, flakes) * smoothstep(1.0, 0.75, lesion.far)
        apply_colour(picture, 0.85 * recipe["scale"] * scale, SCALE)
    if recipe["ulcer"] + recipe["crust"]:  # an orange-red bed, or the dark crust of clotted blood
        wound_draws = draws.fork(5)
        points = lesion.scatter(wound_draws, 3, 0.0, 0.5)
        radii = wound_draws.array(3, low=0.08, high=0.20)
        cover = spots(frame, points, radii, softness=1.5)
        ragged = noise(frame, wound_draws.fork(1), 4, 12, n_waves=16)
        wound = smoothstep(0.3, 0.75, cover + 0.13 * ragged) * smoothstep(1.0, 0.85, lesion.far)
        apply_colour(picture, 0.8 * recipe["ulcer"] * wound, ULCER)
        apply_colour(picture, 0.8 * recipe["crust"] * wound, CRUST)
    if recipe["shine"]:  # short white lines at right angles, seen in polarised light
        line_draws, lines = draws.fork(6), []
        turn = line_draws.uniform(0, np.pi)
        for start in lesion.scatter(line_draws, 9, 0.0, 0.7):
            angle = turn + (np.pi / 2 if line_draws.chance(0.5) else 0.0)
            step = line_draws.uniform(0.1, 0.24) * np.array([np.cos(angle), np.sin(angle)])
            lines.append(Stroke(np.stack([start, start + step]), 0.02, 0.02))
        apply_colour(picture, 0.5 * recipe["shine"] * strokes(frame, lines), WHITE)
