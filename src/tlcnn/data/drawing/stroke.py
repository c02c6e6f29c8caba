"""Shapes drawn into a picture at world coordinates: spots, strokes, curves and trees."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tlcnn.data.drawing.field import Array, Draws, Frame


def spots(
    frame: Frame,
    points: Array,
    radii: Array,
    heights: Array | float = 1.0,
    softness: float = 0.35,
    flat: float = 0.0,
) -> Array:
    """Return soft discs at world points, the highest where they overlap.

    Args:
        points: centres, (n, 2).
        radii: radii in world lengths, (n,).
        heights: value inside each disc, (n,) or one number.
        softness: width of the rim as a part of the radius, at least one pixel.
        flat: 0 draws discs, up to 0.8 draws ever longer ellipses of any direction.
    """
    out = np.zeros((frame.size, frame.size))
    centres = (frame.find(points) + 1) * frame.size / 2 - 0.5
    sizes = np.maximum(radii / frame.pixel, 0.6)
    turns = np.arange(len(points)) * 2.4  # the golden angle: no two alike
    tops = np.broadcast_to(heights, (len(points),))
    for (x, y), size, top, turn in zip(centres, sizes, tops, turns, strict=True):
        reach = size * (1 + flat) + 1.5
        x0, x1 = _window(x, reach, frame.size)
        y0, y1 = _window(y, reach, frame.size)
        if x0 >= x1 or y0 >= y1:
            continue
        dx = np.arange(x0, x1) - x
        dy = (np.arange(y0, y1) - y)[:, None]
        if flat:
            cos, sin = np.cos(turn), np.sin(turn)
            far = np.hypot((dx * cos + dy * sin) / (1 + flat), (dy * cos - dx * sin) * (1 + flat))
        else:
            far = np.hypot(dx, dy)
        rim = max(softness * size, 1.0)
        disc = top * np.clip((size - far) / rim + 0.5, 0, 1)
        window = out[y0:y1, x0:x1]
        np.maximum(window, disc, out=window)
    return out


def _window(centre: float, reach: float, size: int) -> tuple[int, int]:
    return max(int(np.floor(centre - reach)), 0), min(int(np.ceil(centre + reach)) + 1, size)


@dataclass(frozen=True)
class Stroke:
    """A curved line through points (n, 2) that grows from one width to another."""

    points: Array
    start_width: float
    end_width: float


def strokes(frame: Frame, lines: Sequence[Stroke], oversample: int = 4) -> Array:
    """Return how much of each pixel the lines cover, 0 to 1. Points and widths in the world."""
    side = frame.size * oversample
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    for line in lines:
        points = (frame.find(line.points) + 1) * side / 2
        widths = np.linspace(line.start_width, line.end_width, len(points) - 1)
        widths = np.maximum(widths / frame.pixel * oversample, 1.0)
        for a, b, width in zip(points[:-1], points[1:], widths, strict=True):
            _segment(pen, a, b, width)
    return np.asarray(canvas.reduce(oversample), dtype=float) / 255


def _segment(pen: ImageDraw.ImageDraw, a: Array, b: Array, width: float) -> None:
    pen.line([tuple(a), tuple(b)], fill=255, width=round(width))
    if width > 2.5:  # a round joint, invisible on thinner lines
        radius = width / 2
        pen.ellipse([b[0] - radius, b[1] - radius, b[0] + radius, b[1] + radius], fill=255)


def curve(
    draws: Draws,
    start: Array,
    angle: float,
    length: float,
    bend: float,
    wobble: float,
    n: int = 12,
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
    if depth == 0:
        return lines
    for side in (-1, 1):
        fork = points[draws.count(2, 4) if side > 0 else -1]
        turn = angle + side * draws.uniform(0.3, 0.95)
        lines += tree(
            draws, fork, turn, length * draws.uniform(0.55, 0.85), width * 0.6, depth - 1
        )
    return lines
