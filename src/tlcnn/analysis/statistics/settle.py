"""How many seeds a question takes: power of t tests with two sources of variance."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tlcnn.analysis.statistics.estimate import Parts, compute_quantile

MAX_SEEDS = 10_000
POWER = 0.8


def compute_seeds_needed(
    parts: Parts, *, margin: float, alpha: float = 0.05, power: float = POWER
) -> float:
    """Return the least number of seeds (pairs) that would settle a comparison.

    Settled is: found different, or found equivalent within the margin, each if the true
    difference and variances are those seen; whichever takes fewer. inf where no number of seeds
    would do, as the test groups are too few; NaN where a variance is unknown.
    """
    if not np.isfinite(parts.variance) or not np.isfinite(parts.value):
        return float("nan")

    def is_settled(n_seeds: int) -> bool:
        planned = replace_seeds(parts, n_seeds)
        different = compute_difference_power(planned, alpha)
        return max(different, compute_equivalence_power(planned, margin, alpha)) >= power

    return find_least(is_settled)


def replace_seeds(parts: Parts, n_seeds: int) -> Parts:
    """Return what would be known after so many seeds of each arm, variances as they are."""
    return replace(parts, seeds=tuple((variance, n_seeds) for variance, _ in parts.seeds))


def find_least(is_enough: Callable[[int], bool]) -> float:
    """Return the least n from 2 to `MAX_SEEDS` that is enough, inf if none is."""
    high = 2
    while not is_enough(high):
        if high >= MAX_SEEDS:
            return float("inf")
        high = min(2 * high, MAX_SEEDS)
    low = max(high // 2, 1)  # not enough, or less than 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return float(high)


def compute_difference_power(parts: Parts, alpha: float = 0.05) -> float:
    """Return the power of the two-sided t test of no difference, if `parts` are the truth."""
    from scipy.special import nctdtr, ndtr

    se, df = float(np.sqrt(parts.variance)), parts.df
    if se == 0:
        return float(parts.value != 0)
    limit, shift = compute_quantile(df, 1 - alpha / 2), abs(parts.value) / se
    if df > 1e6:
        return float(ndtr(shift - limit) + ndtr(-shift - limit))
    tails = np.nan_to_num(nctdtr(df, shift, np.array([-limit, limit])))  # NaN far out, for 0
    return float(1 - tails[1] + tails[0])


def compute_equivalence_power(parts: Parts, margin: float, alpha: float = 0.05) -> float:
    """Return the power of TOST, if `parts` are the truth; se is taken as known."""
    from scipy.special import ndtr, stdtr

    se, df = float(np.sqrt(parts.variance)), parts.df
    if se == 0:
        return float(abs(parts.value) < margin)
    limit = compute_quantile(df, 1 - alpha)

    def tail(t: float) -> float:
        return float(ndtr(t) if np.isinf(df) else stdtr(df, t))

    high = tail((margin - parts.value) / se - limit)
    return max(0.0, high - tail((-margin - parts.value) / se + limit))
