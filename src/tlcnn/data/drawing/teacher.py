"""A small trained network that labels pictures, so that two tasks share its first units.

pictures -> its units 1..m, which both tasks share -> units of each task, drawn at random
    -> outputs -> signs of many of them, or classes

It was trained on both cues by `scripts/train_teacher.py`. Its weights are in `teacher.json`, with
the norms folded into the convolutions.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlcnn.data.drawing.field import Array, Draws
from tlcnn.data.policy import NORMALIZE
from tlcnn.storage import digest_of

SIZE = 32  # pixels a side of a picture
WIDTH = 6  # channels of its units
UPPER_WIDTH = 3  # channels of random units: so few that they drop what another task needs
# The convolutions of each unit: whether two by two positions are averaged after it.
POOLED = ((True, True), (False,), (True,), (True,), (True,))
N_UNITS = len(POOLED)
CENTRAL = (0.35, 0.65)  # the quantiles between which outputs are cut
BLOCK = 100  # pictures at a time


@dataclass(frozen=True)
class Layer:
    """A convolution with a ReLU, and the mean over two by two positions.

    Attributes:
        kernel: (C_out, C_in, 3, 3).
        bias: (C_out,).
    """

    kernel: Array
    bias: Array
    is_pooled: bool


@dataclass(frozen=True)
class Labeller:
    """The network of one task.

    Attributes:
        layers: of all units.
        centre, axes: outputs are (features - centre) @ axes, (C,) and (C, UPPER_WIDTH).
        reference: (N', UPPER_WIDTH) outputs for the pictures that it was scaled with.
    """

    layers: tuple[Layer, ...]
    centre: Array
    axes: Array
    reference: Array

    def compute_outputs(self, pictures: Array) -> Array:
        """Return the outputs for pictures, (N, UPPER_WIDTH) of (N, SIZE, SIZE, 3) uint8."""
        features = compute_means(apply_layers(self.layers, normalize(pictures)))
        outputs: Array = (features - self.centre) @ self.axes
        return outputs


def load_teacher() -> list[list[Layer]]:
    """Return the layers of the trained units, by unit."""
    units = _read_file()["units"]
    return [
        [
            Layer(np.array(layer["kernel"]), np.array(layer["bias"]), is_pooled)
            for layer, is_pooled in zip(layers, pooled, strict=True)
        ]
        for layers, pooled in zip(units, POOLED, strict=True)
    ]


def find_digest() -> str:
    """Return the digest of the teacher's weights and of the constants above."""
    return digest_of([_read_file(), SIZE, UPPER_WIDTH, POOLED, CENTRAL])


def _read_file() -> dict[str, Any]:
    text = Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def make_labeller(pictures: Array, m: int, task: int) -> Labeller:
    """Return the network of a task: the teacher's units 1..m, and random ones above them.

    Every channel of a random unit has mean 0 and deviation 1 over the pictures before its ReLU.
    The outputs are the leading principal components of the channels' means over the last
    positions.

    Args:
        pictures: (N', SIZE, SIZE, 3) uint8, with which it is scaled.
        task: tasks of different numbers share the units 1..m alone.
    """
    layers = [layer for unit in load_teacher()[:m] for layer in unit]
    values = apply_layers(layers, normalize(pictures))
    draws = Draws(task, m)
    for is_pooled in (is_pooled for unit in POOLED[m:] for is_pooled in unit):
        kernel = draws.array(UPPER_WIDTH, values.shape[-1], 3, 3, low=-1, high=1)
        if len(layers) == 0:  # edges and colours, not the light of the whole picture
            kernel -= kernel.mean(axis=(2, 3), keepdims=True)
        raw = convolve(values, kernel)
        mean, deviation = raw.mean(axis=(0, 1, 2)), raw.std(axis=(0, 1, 2))
        layers.append(Layer(kernel / deviation[:, None, None, None], -mean / deviation, is_pooled))
        values = apply_layers(layers[-1:], values)
    features = compute_means(values)
    centre = features.mean(axis=0)
    axes = find_components(features - centre)[:, :UPPER_WIDTH]
    return Labeller(tuple(layers), centre, axes, (features - centre) @ axes)


def compute_signs(outputs: Array, reference: Array, n_signs: int, draws: Draws) -> Array:
    """Return the signs of random mixtures of outputs, (N, n_signs) uint8.

    Each mixture is cut near its median over the reference.

    Args:
        outputs, reference: (N, K) and (N', K).
    """
    mixtures = draws.array(outputs.shape[1], n_signs, low=-1, high=1)
    thresholds = np.array([find_sparse_value(mixed) for mixed in (reference @ mixtures).T])
    return (outputs @ mixtures > thresholds).astype(np.uint8)


def compute_codes(outputs: Array, reference: Array) -> Array:
    """Return classes 0..2^K - 1, (N,) int64: a binary tree that cuts output k at its level k.

    Each node is cut near the median of the reference that reaches it, so that no class is rare.

    Args:
        outputs, reference: (N, K) and (N', K).
    """
    codes, reference_codes = (np.zeros(len(each), dtype=np.int64) for each in (outputs, reference))
    for axis in range(outputs.shape[1]):
        thresholds = np.array(
            [find_sparse_value(reference[reference_codes == n, axis]) for n in range(2**axis)]
        )
        codes = 2 * codes + (outputs[:, axis] > thresholds[codes])
        above = reference[:, axis] > thresholds[reference_codes]
        reference_codes = 2 * reference_codes + above
    return codes


def find_components(features: Array) -> Array:
    """Return the principal axes of centred features, (D, D), the leading one first.

    Their lengths are such that a component has the root of its deviation as its deviation.
    """
    variances, axes = np.linalg.eigh(features.T @ features / len(features))
    axes = axes[:, ::-1] / np.maximum(variances[::-1], 1e-12) ** 0.25
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return axes * np.sign(largest)  # a library is free to choose the sign


def find_sparse_value(values: Array) -> float:
    """Return the value near the median around which the fewest values are.

    Example:
        >>> values = np.concatenate([np.linspace(0, 1, 45), np.linspace(5, 6, 55)])
        >>> round(find_sparse_value(values), 1)
        3.0
    """
    ordered = np.sort(values)
    reach = max(len(ordered) // 40, 1)
    low, high = (round(len(ordered) * quantile) for quantile in CENTRAL)
    gaps = ordered[low + reach : high + reach] - ordered[low - reach : high - reach]
    first = low + int(np.argmax(gaps)) - reach
    return float((ordered[first] + ordered[first + 2 * reach]) / 2)


# ---- the network --------------------------------------------------------------------------------


def normalize(pictures: Array) -> Array:
    """Return pictures as the teacher was trained on, float64."""
    mean, deviation = NORMALIZE["imagenet"]
    return (pictures / 255 - mean) / deviation


def apply_layers(layers: Sequence[Layer], values: Array) -> Array:
    """Return the outputs of some layers, (N, H, W, C) of (N, H', W', C')."""
    blocks = []
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        for layer in layers:
            block = np.maximum(convolve(block, layer.kernel) + layer.bias, 0)
            if layer.is_pooled:
                n, height, width, n_channels = block.shape
                block = block.reshape(n, height // 2, 2, width // 2, 2, n_channels).mean((2, 4))
        blocks.append(block)
    return np.concatenate(blocks)


def convolve(values: Array, kernel: Array) -> Array:
    """Return a convolution with zeros around, (N, H, W, C_out) of (N, H, W, C_in)."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = values.shape[1:3]
    result = np.zeros((*values.shape[:3], len(kernel)))
    for i in range(3):
        for j in range(3):
            result += padded[:, i : i + height, j : j + width] @ kernel[:, :, i, j].T
    return result


def compute_means(values: Array) -> Array:
    """Return the mean over positions, (N, C)."""
    means: Array = values.mean(axis=(1, 2))
    return means
