"""How many seeds a question takes: power of t tests with two sources of variance."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tlcnn.statistics.estimate import compute_quantile
from tlcnn.statistics.variance import Parts

MAX_SEEDS = 10_000
POWER = 0.8


def compute_seeds_needed(
    parts: Parts,
    *,
    margin: float,
    alpha: float = 0.05,
    power: float = POWER,
    n_compared: int = 1,
    least: int = 2,
) -> float:
    """Return the least number of seeds (pairs) that would settle a comparison.

    Settled is: found different, or found equivalent within the margin, each if the true
    difference and variances are those seen; whichever takes fewer. inf where no number of seeds
    would do, as the test groups are too few; NaN where a variance is unknown.

    Args:
        n_compared: comparisons of the family. A difference must hold at alpha / n_compared, the
            first step of Holm's method, which is enough whatever the others give. Equivalence is
            not adjusted.
        least: fewer are not an answer.
    """
    if not np.isfinite(parts.variance) or not np.isfinite(parts.value):
        return float("nan")

    def is_settled(n_seeds: int) -> bool:
        planned = replace_seeds(parts, n_seeds)
        different = compute_difference_power(planned, alpha / n_compared)
        return max(different, compute_equivalence_power(planned, margin, alpha)) >= power

    return find_least(is_settled, least)


def compute_seeds_needed_one_sided(
    parts: Parts,
    *,
    margin: float,
    alpha: float = 0.05,
    power: float = POWER,
    n_compared: int = 1,
) -> float:
    """Return the least number of seeds, above those there are, that would settle a layer's gap.

    Settled is: general (the upper bound is below the margin) or specific (the lower bound is
    above 0, and the value above the margin), each if the true gap and variances are those seen;
    whichever takes fewer. inf where no number of seeds would do: the test groups are too few, or
    the gap is too near the margin to be told from it. NaN where a variance is unknown.

    Args:
        alpha: of the two-sided interval whose bounds these are.
        n_compared: layers; each is also tested at alpha / n_compared, one-sided, the first step
            of Holm's method.
    """
    if not np.isfinite(parts.variance) or not np.isfinite(parts.value):
        return float("nan")
    tail = min(alpha / 2, alpha / n_compared)

    def is_settled(n_seeds: int) -> bool:
        return compute_layer_power(replace_seeds(parts, n_seeds), margin, tail) >= power

    return find_least(is_settled, parts.n_seeds + 1)


def replace_seeds(parts: Parts, n_seeds: int) -> Parts:
    """Return what would be known after so many seeds of each arm, variances as they are."""
    return replace(parts, seeds=tuple((variance, n_seeds) for variance, _ in parts.seeds))


def find_least(is_enough: Callable[[int], bool], least: int = 2) -> float:
    """Return the least n from `least` to `MAX_SEEDS` that is enough, inf if none is."""
    if not is_enough(max(MAX_SEEDS, least)):
        return float("inf")
    high = least
    while not is_enough(high):
        high = min(2 * high, MAX_SEEDS)
    low = max(high // 2, least - 1)  # not enough, or less than the least
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


def compute_layer_power(parts: Parts, margin: float, tail: float) -> float:
    """Return the power to find a gap general, or specific, the larger, if `parts` are the truth.

    Args:
        tail: beyond each bound of the interval.
    """
    from scipy.special import ndtr

    se, df = float(np.sqrt(parts.variance)), parts.df
    if se == 0:
        return float(parts.value != margin)
    half = compute_quantile(df, 1 - tail) * _spread_errors(df)  # in units of the true error
    value, limit = parts.value / se, margin / se
    general = float(ndtr(limit - half - value).mean())
    return max(general, float(ndtr(value - np.maximum(half, limit)).mean()))


def _spread_errors(df: float, n: int = 400) -> np.ndarray:
    """Return the quantiles of an estimated standard error over the true one, (n,)."""
    from scipy.special import chdtri

    if df > 1e6:
        return np.ones(1)
    return np.sqrt(chdtri(df, (np.arange(n) + 0.5) / n) / df)


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
