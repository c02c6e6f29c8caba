"""A shape filled with stripes: two cues in one picture, drawn independently of each other."""

import numpy as np

from tlcnn.data.drawing.field import Array, Draws

TEXTURES = ("level", "falling", "upright", "rising")  # the direction of the stripes
OUTLINES = ("disc", "diamond", "square", "trefoil")

JITTER = 0.15  # radians: stripes and shapes are turned by up to this, either way
CENTRE = 0.2  # the largest distance of the shape from the middle, along each axis
RADIUS = (0.54, 0.67)  # of the shape, where the picture is 2 wide
PERIODS = (3.4, 4.5)  # stripes in the width of the picture
EDGE = 30.0  # steepness of the outline
BACKGROUND, SHAPE, STRIPES = 0.25, 0.55, 0.25  # grey levels; the last is the stripes' amplitude
TINT = 0.15  # each colour channel is scaled by up to this, either way


def draw_cues(draws: Draws, texture: int, outline: int, size: int, noise: float) -> Array:
    """Return a picture, (size, size, 3) uint8 RGB.

    Args:
        draws: the stream of everything that the two cues leave open.
        texture, outline: positions in `TEXTURES` and `OUTLINES`.
        noise: the standard deviation of the noise of each pixel and channel; white is 1.
    """
    ticks = (np.arange(size) + 0.5) * (2 / size) - 1
    x, y = ticks[None, :], ticks[:, None]
    across = texture * np.pi / 4 + np.pi / 2 + draws.uniform(-JITTER, JITTER)
    frequency, phase = np.pi * draws.uniform(*PERIODS), draws.uniform(0, 2 * np.pi)
    stripes = np.sin(frequency * (x * np.cos(across) + y * np.sin(across)) + phase)
    inside = draw_outline(draws, outline, x, y)
    grey = BACKGROUND + inside * (SHAPE - BACKGROUND + STRIPES * stripes)
    picture = grey[..., None] * draws.array(3, low=1 - TINT, high=1 + TINT)
    spread = noise * 3**0.5  # a uniform distribution of this half-width has that deviation
    picture += draws.array(size, size, 3, low=-spread, high=spread)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def draw_outline(draws: Draws, outline: int, x: Array, y: Array) -> Array:
    """Return 1 inside the shape and 0 outside, with a soft edge."""
    left, top = draws.array(2, low=-CENTRE, high=CENTRE)
    radius, turn = draws.uniform(*RADIUS), draws.uniform(-JITTER, JITTER)
    x, y = x - left, y - top
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    if OUTLINES[outline] == "disc":
        distance = np.hypot(u, v)
    elif OUTLINES[outline] == "diamond":
        distance = 0.85 * (np.abs(u) + np.abs(v))
    elif OUTLINES[outline] == "square":
        distance = 1.15 * np.maximum(np.abs(u), np.abs(v))
    else:
        distance = np.hypot(u, v) * (1 + 0.25 * np.cos(3 * np.arctan2(v, u)))
    return 1 / (1 + np.exp(np.clip(EDGE * (distance - radius), -50, 50)))


def scramble(picture: Array, draws: Draws, block: int) -> Array:
    """Return a picture whose square blocks of `block` pixels have changed places.

    The stream decides the permutation; the side of the picture is a multiple of `block`.
    """
    n = len(picture) // block
    order = np.argsort(draws.array(n * n), kind="stable")
    blocks = picture.reshape(n, block, n, block, 3).swapaxes(1, 2).reshape(n * n, block, block, 3)
    return blocks[order].reshape(n, n, block, block, 3).swapaxes(1, 2).reshape(picture.shape)
