"""Shapes drawn into a picture at world coordinates: spots, strokes, curves and trees."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tlcnn.data.drawing.field import Array, Draws, Frame

OVERSAMPLING = 4  # strokes are drawn this many times larger


def spots(
    frame: Frame, points: Array, radii: Array, softness: float = 0.35, flat: float = 0.0
) -> Array:
    """Return soft discs at world points: 1 inside, 0 outside, (H, W).

    Args:
        points: centres, (n, 2).
        radii: radii in world lengths, (n,).
        softness: width of the rim as a part of the radius, at least one pixel.
        flat: 0 draws discs, up to 0.8 draws ever longer ellipses of any direction.
    """
    cover = np.zeros((frame.size, frame.size))
    centres = (frame.locate(points) + 1) * frame.size / 2 - 0.5
    sizes = np.maximum(radii / frame.pixel, 0.6)
    turns = np.arange(len(points)) * 2.4  # the golden angle: no two alike
    for centre, size, turn in zip(centres, sizes, turns, strict=True):
        reach = size * (1 + flat) + 1.5
        x0, y0 = np.maximum(np.floor(centre - reach).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(centre + reach).astype(int) + 1, frame.size)
        if x0 >= x1 or y0 >= y1:
            continue
        dx = np.arange(x0, x1) - centre[0]
        dy = (np.arange(y0, y1) - centre[1])[:, None]
        if flat:
            cos, sin = np.cos(turn), np.sin(turn)
            far = np.hypot((dx * cos + dy * sin) / (1 + flat), (dy * cos - dx * sin) * (1 + flat))
        else:
            far = np.hypot(dx, dy)
        disc = np.clip((size - far) / max(softness * size, 1.0) + 0.5, 0, 1)
        window = cover[y0:y1, x0:x1]
        np.maximum(window, disc, out=window)
    return cover


@dataclass(frozen=True)
class Stroke:
    """A curved line through points (n, 2) that grows from one width to another."""

    points: Array
    start_width: float
    end_width: float


def strokes(frame: Frame, lines: Sequence[Stroke]) -> Array:
    """Return how much of each pixel the lines cover, 0 to 1. Points and widths in the world."""
    side = frame.size * OVERSAMPLING
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    for line in lines:
        points = (frame.locate(line.points) + 1) * side / 2
        widths = np.linspace(line.start_width, line.end_width, len(points) - 1)
        widths = np.maximum(widths / frame.pixel * OVERSAMPLING, 1.0)
        for a, b, width in zip(points[:-1], points[1:], widths, strict=True):
            pen.line([tuple(a), tuple(b)], fill=255, width=round(width))
            if width > 2.5:  # a round joint, invisible on thinner lines
                r = width / 2
                pen.ellipse([b[0] - r, b[1] - r, b[0] + r, b[1] + r], fill=255)
    return np.asarray(canvas.reduce(OVERSAMPLING), dtype=float) / 255


def curve(
    draws: Draws, start: Array, angle: float, length: float, bend: float, wobble: float, n: int
) -> Array:
    """Return the points (n, 2) of a walk that turns by `bend` radians and wobbles on its way."""
    turn = angle + bend * np.linspace(0, 1, n - 1)
    turn = turn + np.cumsum(draws.array(n - 1, low=-wobble, high=wobble))
    steps = np.stack([np.cos(turn), np.sin(turn)], axis=1) * (length / (n - 1))
    return np.concatenate([start[None], start + np.cumsum(steps, axis=0)])


def tree(
    draws: Draws, start: Array, angle: float, length: float, width: float, depth: int
) -> list[Stroke]:
    """Return the strokes of a branching tree, thinner from fork to fork."""
    points = curve(draws, start, angle, length, draws.uniform(-0.5, 0.5), 0.22, n=6)
    lines = [Stroke(points, width, width * 0.6)]
    if depth:
        for side in (-1, 1):
            fork = points[draws.count(2, 4) if side > 0 else -1]
            turn = angle + side * draws.uniform(0.3, 0.95)
            branch = length * draws.uniform(0.55, 0.85)
            lines += tree(draws, fork, turn, branch, width * 0.6, depth - 1)
    return lines
