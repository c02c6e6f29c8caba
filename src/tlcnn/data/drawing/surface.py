"""What is seen over a lesion's own pigment: veils, nests, scars, vessels, keratin and wounds.

Every function blends colours into the picture (H, W, 3) in place, by the amount of its trait.
"""

import numpy as np

from tlcnn.data.drawing.field import Array, Draws, Frame, noise, smoothstep
from tlcnn.data.drawing.pigment import Recipe, Shape
from tlcnn.data.drawing.skin import apply_colour
from tlcnn.data.drawing.stroke import Stroke, spots, strokes, tree

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


def apply_deep_colours(
    picture: Array, frame: Frame, draws: Draws, recipe: Recipe, shape: Shape
) -> None:
    """Blend in what lies deep: blue-white veil, regression, nests and scar."""
    cloud = noise(frame, draws.fork(1), 0.9, 2.2, n_waves=12)
    grain = noise(frame, draws.fork(2), 4, 12, slope=0.5, n_waves=20)
    within = smoothstep(1.0, 0.75, shape.far)
    if recipe["veil"]:
        veil = smoothstep(-0.3, 1.0, cloud + 0.15 * grain) * within
        apply_colour(picture, 0.64 * recipe["veil"] * veil, BLUE_WHITE)
    if recipe["regression"]:
        pale = smoothstep(0.2, 1.1, -cloud + 0.2 * grain) * within
        apply_colour(picture, 0.65 * recipe["regression"] * pale, WHITE)
    if recipe["nests"]:
        _apply_nests(picture, frame, draws.fork(3), recipe["nests"], shape)
    if recipe["scar"]:
        scar = smoothstep(0.62, 0.12, shape.far + 0.07 * grain + 0.08 * cloud)
        apply_colour(picture, 0.68 * recipe["scar"] * scar, WHITE)


def _apply_nests(picture: Array, frame: Frame, draws: Draws, amount: float, shape: Shape) -> None:
    """Blue-grey ovoid nests, large and few, with small globules beside them."""
    n_large, n_small = draws.count(2, 6), draws.count(3, 12)
    points = shape.scatter(draws, n_large + n_small, 0.1, 0.9)
    large = draws.array(n_large, low=0.07, high=0.16)
    radii = np.concatenate([large, draws.array(n_small, low=0.02, high=0.05)])
    cover = spots(frame, points, radii, softness=0.7, flat=0.3)
    apply_colour(picture, 0.85 * amount * cover, BLUE_GREY)


def apply_vessels(picture: Array, frame: Frame, draws: Draws, amount: float, shape: Shape) -> None:
    """Draw arborising vessels: sharp red trees that grow inwards from the border."""
    if not amount:
        return
    lines: list[Stroke] = []
    for _ in range(draws.count(2, 4)):
        turn = draws.uniform(0, 2 * np.pi)
        inward = turn + np.pi + draws.uniform(-0.6, 0.6)
        lines += tree(draws, shape.rim(turn) * 1.05, inward, draws.uniform(0.3, 0.5), 0.034, 3)
    cover = strokes(frame, lines) * smoothstep(1.35, 1.0, shape.far)
    apply_colour(picture, 0.85 * amount * cover, VESSEL)


def apply_surface(
    picture: Array, frame: Frame, draws: Draws, recipe: Recipe, shape: Shape
) -> None:
    """Draw what lies on top: keratin, plugs, cysts, scale, wounds and white lines."""
    film = noise(frame, draws.fork(1), 1, 4, n_waves=16)
    if recipe["keratin"]:
        keratin = smoothstep(-0.6, 1.0, film) * shape.inside
        apply_colour(picture, 0.55 * recipe["keratin"] * keratin, YELLOW)
    if recipe["plugs"]:
        _apply_plugs(picture, frame, draws.fork(2), recipe["plugs"], shape)
    if recipe["cysts"]:
        _apply_cysts(picture, frame, draws.fork(3), recipe["cysts"], shape)
    if recipe["scale"]:
        flakes = noise(frame, draws.fork(4), 6, 22, slope=0.4, n_waves=40) + 0.8 * film
        scale = smoothstep(0.5, 1.8, flakes) * smoothstep(1.0, 0.75, shape.far)
        apply_colour(picture, 0.85 * recipe["scale"] * scale, SCALE)
    if recipe["ulcer"] + recipe["crust"]:
        _apply_wounds(picture, frame, draws.fork(5), recipe, shape)
    if recipe["shine"]:
        _apply_shine(picture, frame, draws.fork(6), recipe["shine"], shape)


def _apply_plugs(picture: Array, frame: Frame, draws: Draws, amount: float, shape: Shape) -> None:
    """Comedo-like openings, dark and oval."""
    count = draws.count(4, 12)
    points = shape.scatter(draws, count, 0.0, 0.88)
    cover = spots(frame, points, draws.array(count, low=0.022, high=0.058), flat=0.25)
    apply_colour(picture, 0.85 * amount * cover, PLUG)


def _apply_cysts(picture: Array, frame: Frame, draws: Draws, amount: float, shape: Shape) -> None:
    """Milia-like cysts, bright and round, sharp or blurred."""
    count = draws.count(6, 18)
    points = shape.scatter(draws, count, 0.0, 0.9)
    cover = spots(frame, points, draws.array(count, low=0.018, high=0.045), softness=0.9)
    apply_colour(picture, 0.9 * amount * cover, CYST)


def _apply_wounds(
    picture: Array, frame: Frame, draws: Draws, recipe: Recipe, shape: Shape
) -> None:
    """An erosion with an orange-red bed, or the dark crust of clotted blood."""
    points = shape.scatter(draws, 3, 0.0, 0.5)
    radii = draws.array(3, low=0.08, high=0.20)
    ragged = noise(frame, draws.fork(1), 4, 12, n_waves=16)
    wound = smoothstep(0.3, 0.75, spots(frame, points, radii, softness=1.5) + 0.13 * ragged)
    wound *= smoothstep(1.0, 0.85, shape.far)
    apply_colour(picture, 0.8 * recipe["ulcer"] * wound, ULCER)
    apply_colour(picture, 0.8 * recipe["crust"] * wound, CRUST)


def _apply_shine(picture: Array, frame: Frame, draws: Draws, amount: float, shape: Shape) -> None:
    """Short white lines at right angles, seen in polarised light."""
    turn = draws.uniform(0, np.pi)
    lines = []
    for start in shape.scatter(draws, 9, 0.0, 0.7):
        angle = turn + (np.pi / 2 if draws.chance(0.5) else 0.0)
        end = start + draws.uniform(0.1, 0.24) * np.array([np.cos(angle), np.sin(angle)])
        lines.append(Stroke(np.stack([start, end]), 0.02, 0.02))
    apply_colour(picture, 0.5 * amount * strokes(frame, lines), WHITE)
