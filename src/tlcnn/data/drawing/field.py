"""Fields over a picture, (H, W) each: coordinates, band-limited noise, cells, blur.

A picture shows the square [-1, 1] x [-1, 1] of its own coordinates (x, y). Patterns live in world
coordinates (u, v), an affine map of them, so that several photographs of one world agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Array = np.ndarray
HEX = 3**0.5 / 2  # distance of the rows of a hexagonal lattice
SERIAL_PRODUCT = 200_000  # multiplications; OpenBLAS takes a second thread above 262,144
PHASOR_BLOCK = 8


class Draws:
    """A stream of random numbers that depends on its key alone.

    Only `Generator.random` is used: it is the bits of PCG64, which numpy keeps from version to
    version, scaled; its other distributions may change.
    """

    def __init__(self, *key: int) -> None:
        self._key = key
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def fork(self, number: int) -> "Draws":
        """Return the stream of one part, whatever was drawn from this one before."""
        return Draws(*self._key, number)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(self._generator.random())

    def array(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Array:
        return low + (high - low) * self._generator.random(shape)

    def count(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def choice(self, weights: Sequence[float]) -> int:
        """Return a position, drawn with these weights."""
        edges = np.cumsum(weights)
        return int(np.searchsorted(edges, self.uniform() * edges[-1], side="right"))


@dataclass(frozen=True)
class Frame:
    """A square picture of `size` pixels: world = matrix @ (x, y) + shift."""

    size: int
    matrix: Array
    shift: Array

    @cached_property
    def ticks(self) -> Array:
        """The pixel centres along one side, (size,)."""
        return (np.arange(self.size) + 0.5) * (2 / self.size) - 1

    @cached_property
    def u(self) -> Array:
        return self._compute_world(0)

    @cached_property
    def v(self) -> Array:
        return self._compute_world(1)

    def _compute_world(self, axis: int) -> Array:
        along_x, along_y = self.matrix[axis]
        return self.ticks * along_x + (self.ticks * along_y + self.shift[axis])[:, None]

    @cached_property
    def zoom(self) -> float:
        """World lengths a unit of the picture."""
        return float(abs(np.linalg.det(self.matrix)) ** 0.5)

    @property
    def pixel(self) -> float:
        """The side of a pixel in world lengths."""
        return 2 * self.zoom / self.size

    def locate(self, points: Array) -> Array:
        """Return the picture coordinates (x, y) of world points, (n, 2) to (n, 2)."""
        return (points - self.shift) @ np.linalg.inv(self.matrix).T


def make_frame(
    size: int, angle: float = 0.0, zoom: float = 1.0, shift: Array | Sequence[float] = (0.0, 0.0)
) -> Frame:
    """Return a picture turned by `angle` radians that shows `zoom` world lengths a unit."""
    cos, sin = np.cos(angle), np.sin(angle)
    return Frame(size, zoom * np.array([[cos, -sin], [sin, cos]]), np.array(shift, dtype=float))


def smoothstep(low: float, high: float, value: Array) -> Array:
    """Return 0 below `low`, 1 above `high`, and a smooth ramp between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def noise(
    frame: Frame,
    draws: Draws,
    low: float,
    high: float,
    slope: float = 1.0,
    n_waves: int = 32,
    stretch: float = 1.0,
) -> Array:
    """Return smooth noise of mean 0 and variance about 1: a sum of plane waves.

    A plane wave under an affine map is the outer product of a column and a row, so the sum is
    one matrix product.

    Args:
        low: lowest frequency, in cycles per side of an untransformed picture.
        high: highest frequency; frequencies that the pixels cannot show are left out.
        slope: amplitude falls as frequency to the power of minus this.
        stretch: above 1, the pattern is this much longer along v than along u.
    """
    steps = (np.arange(n_waves) + draws.array(n_waves)) / n_waves
    frequency = low * (high / low) ** steps
    angle = 2 * np.pi * draws.array(n_waves)
    phase = 2 * np.pi * draws.array(n_waves)
    amplitude = (frequency / low) ** -slope
    amplitude *= (2 / np.sum(amplitude**2)) ** 0.5
    amplitude *= np.clip(2 - 4 * frequency * frame.zoom / frame.size, 0, 1)
    wave = np.pi * frequency * np.stack([np.cos(angle), np.sin(angle) / stretch])  # (2, M)
    along_x, along_y = frame.matrix.T @ wave
    across = _compute_phasors(frame, along_x, frame.shift @ wave + phase)  # (M, W)
    down = (_compute_phasors(frame, along_y, np.zeros(n_waves)) * amplitude[:, None]).T  # (H, M)
    left = np.concatenate([down.real, down.imag], axis=1)
    right = np.concatenate([across.real, -across.imag])  # (2 M, W)
    rows = max(SERIAL_PRODUCT // right.size, 1)  # so few that BLAS starts no threads
    return np.concatenate([left[i : i + rows] @ right for i in range(0, len(left), rows)])


def _compute_phasors(frame: Frame, rate: Array, phase: Array) -> Array:
    """Return exp(i (rate * tick + phase)) at every tick, (M, size), from few calls of exp."""
    first = phase + rate * frame.ticks[0]
    step = rate * (2 / frame.size)
    starts = np.arange(0, frame.size, PHASOR_BLOCK)
    coarse = np.exp(1j * (first[:, None] + np.outer(step, starts)))
    fine = np.exp(1j * np.outer(step, np.arange(PHASOR_BLOCK)))
    product = coarse[:, :, None] * fine[:, None, :]
    return product.reshape(len(rate), -1)[:, : frame.size]


@dataclass(frozen=True)
class Mesh:
    """The cells around scattered points, lengths in units of the mean distance of points."""

    near: Array  # the distance to the nearest point
    gap: Array  # the extra distance to the second nearest point: 0 on the walls between cells
    value: Array  # a number in [0, 1) of the cell
    du: Array  # the way from the nearest point
    dv: Array


def make_mesh(u: Array, v: Array, draws: Draws, jitter: float) -> Mesh:
    """Return the cells of a hexagonal lattice whose points are moved by up to `jitter` / 2.

    The coordinates are in units of the lattice, of any shape, and may be warped. A jitter of 0
    gives a honeycomb, 1 what is as irregular as foam.
    """
    table = draws.array(3, 1024)
    table[:2] = jitter * (table[:2] - 0.5)
    v = v / HEX
    row0 = np.floor(v)

    def find_point(candidate: Array | int) -> tuple[Array, Array, Array]:
        """Return the key of one of the 9 lattice points around (u, v) and the way from it."""
        row = row0 + (candidate // 3 - 1)
        half = 0.5 * row
        across = u - (half - np.floor(half))  # every other row is shifted by half a step
        column = np.floor(across) + (candidate % 3 - 1)
        key = (column + 37 * row).astype(np.int64) & 1023
        du = across - column - 0.5 - table[0].take(key)
        return key, du, (v - row - 0.5) * HEX - table[1].take(key)

    nearest, second = np.full(u.shape, np.inf), np.full(u.shape, np.inf)
    winner = np.zeros(u.shape, dtype=np.int8)
    for candidate in range(9):
        _, du, dv = find_point(candidate)
        square = du * du + dv * dv
        np.copyto(winner, candidate, where=square < nearest)
        np.minimum(second, np.maximum(square, nearest), out=second)
        np.minimum(nearest, square, out=nearest)
    key, du, dv = find_point(winner)
    near = np.sqrt(nearest)
    return Mesh(near, np.sqrt(second) - near, table[2].take(key), du, dv)


def blur(picture: Array, sigma: float) -> Array:
    """Return the picture (H, W, C) after a Gaussian blur of `sigma` pixels, edges repeated."""
    from scipy.ndimage import gaussian_filter

    if sigma < 0.25:
        return picture
    reach = int(np.ceil(3 * sigma))
    return gaussian_filter(picture, (sigma, sigma, 0), mode="nearest", radius=(reach, reach, 0))


def make_slanted_light(frame: Frame, draws: Draws, most: float) -> Array:
    """Return light (H, W) that grows across the picture, in a drawn direction."""
    angle, slope = draws.uniform(0, 2 * np.pi), draws.uniform(0, most)
    return 1 + slope * (np.cos(angle) * frame.u + np.sin(angle) * frame.v)


def develop(
    picture: Array, draws: Draws, gamma: tuple[float, float], grain: tuple[float, float]
) -> Array:
    """Return (H, W, 3) uint8 of colours around [0, 1]: contrast and the grain of a sensor.

    The exponent and the size of the noise are drawn from these ranges.
    """
    height, width, _ = picture.shape
    picture = np.clip(picture, 0, 1) ** draws.uniform(*gamma)
    speckle = draws.array(height, width, 3) + draws.array(height, width, 1) - 1
    picture += speckle * draws.uniform(*grain)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
