"""The smallest difference that a test set can show, however many seeds are trained.

With ever more seeds the variance of a contrast falls to T, the part that all seeds share because
they are tested on the same groups (see `estimate`). A margin below what T allows is out of reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tlcnn.statistics.power import ALPHA, POWER
from tlcnn.statistics.variance import Parts, compute_quantile


@dataclass(frozen=True)
class Resolution:
    """What a test set resolves, and how that was computed.

    Attributes:
        value: (level_factor + power_factor) x se. A contrast of 0 is shown to be below it, and one
            of twice its size to be above it, with a power of 80 %.
        se: the standard error that the test groups leave with any number of seeds, the square
            root of T.
        tail: the error that each verdict may have at Holm's first step.
        level_factor, power_factor: normal quantiles of 1 - tail and of the power.
    """

    value: float
    se: float
    tail: float
    level_factor: float
    power_factor: float


def compute_resolution(contrasts: Sequence[Parts], *, n_compared: int = 1) -> Resolution | None:
    """Return what the test set behind some contrasts resolves; None where it is not known.

    T is pooled: the mean over the contrasts whose test groups are known.

    Args:
        n_compared: verdicts that Holm's method adjusts together.

    Example:
        >>> same = Parts(0.0, ((0.0, 3),), test=0.01**2, test_df=50.0)
        >>> resolution = compute_resolution([same, same])
        >>> round(resolution.value, 4), round(resolution.level_factor, 2)
        (0.028, 1.96)
    """
    shared = [parts.test for parts in contrasts if np.isfinite([parts.test, parts.test_df]).all()]
    if not shared or not sum(shared) > 0:
        return None
    se, tail = float(np.sqrt(np.mean(shared))), min(ALPHA / 2, ALPHA / n_compared)
    factors = [compute_quantile(float("inf"), p) for p in (1 - tail, POWER)]
    return Resolution(sum(factors) * se, se, tail, *factors)
