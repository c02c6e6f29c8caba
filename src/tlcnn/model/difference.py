"""The difference between two tensors that should be equal."""

import math

from torch import Tensor

from tlcnn.model.freeze import are_same_bits

_SMALLEST = 1e-45  # the result for 0.0 and -0.0, which have other bits but no difference


def measure_difference(expected: Tensor, actual: Tensor) -> float:
    """Return the largest absolute difference, divided by the largest magnitude in `expected`.

    The result is 0.0 if all bits are equal, and only then. It is inf if the tensors cannot be
    compared: they have different types or shapes, a value is not finite, or `expected` is zero.
    """
    if expected.dtype != actual.dtype or expected.shape != actual.shape:
        return math.inf
    if are_same_bits(expected, actual):
        return 0.0
    largest = expected.float().abs().max().item()
    difference = (expected.float() - actual.float()).abs().max().item()
    if not (math.isfinite(largest) and math.isfinite(difference)) or largest == 0:
        return math.inf
    return max(difference / largest, _SMALLEST)
