"""How far two tensors are apart that should be the same."""

import math

from torch import Tensor

from tlcnn.model.freeze import are_same_bits

_SMALLEST = 1e-45  # of zeros with two signs: other bits without a difference


def measure_difference(expected: Tensor, found: Tensor) -> float:
    """Return the largest difference, relative to the largest magnitude of what is expected.

    0.0 for the same bits and only for them; inf where the tensors cannot be compared: another
    type or shape, values that are not finite, or nothing but zeros expected.
    """
    if expected.dtype != found.dtype or expected.shape != found.shape:
        return math.inf
    if are_same_bits(expected, found):
        return 0.0
    largest = expected.float().abs().max().item()
    difference = (expected.float() - found.float()).abs().max().item()
    if not (math.isfinite(largest) and math.isfinite(difference)) or largest == 0:
        return math.inf
    return max(difference / largest, _SMALLEST)
