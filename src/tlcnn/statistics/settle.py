"""How many seeds a question takes: power of t tests with two sources of variance."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import chdtri, nctdtr, ndtr

from tlcnn.statistics.variance import Parts, compute_quantile, compute_tail

MAX_SEEDS = 10_000
POWER = 0.8
ALPHA = 0.05


def compute_seeds_needed(
    parts: Parts, *, margin: float, n_compared: int = 1, least: int = 2
) -> float:
    """Return the least number of seeds (pairs) that would settle a comparison.

    Settled is: found different at 5 %, or found equivalent within the margin, with a power of
    80 % if the true difference and variances are those seen; whichever takes fewer. inf where no
    number of seeds would do, as the test groups are too few; NaN where a variance is unknown.

    Args:
        n_compared: comparisons of the family. A difference must hold at 5 % / n_compared, the
            first step of Holm's method, which is enough whatever the others give. Equivalence is
            not adjusted.
        least: fewer are not an answer.
    """

    def compute_power(planned: Parts) -> float:
        different = compute_difference_power(planned, ALPHA / n_compared)
        return max(different, compute_equivalence_power(planned, margin))

    return _find_seeds(parts, compute_power, least)


def compute_seeds_needed_one_sided(parts: Parts, *, margin: float, n_compared: int = 1) -> float:
    """Return the least number of seeds, above those there are, that would settle a layer's gap.

    A gap is settled if it is general (the upper bound is below the margin) or specific (the lower
    bound is above 0, and the value above the margin). Everything else is as in
    `compute_seeds_needed`. Returns inf if no number of seeds is enough.

    Args:
        n_compared: layers; each is also tested at 5 % / n_compared, one-sided, the first step of
            Holm's method.
    """
    tail = min(ALPHA / 2, ALPHA / n_compared)
    least = parts.n_seeds + 1
    return _find_seeds(parts, lambda planned: compute_layer_power(planned, margin, tail), least)


def _find_seeds(parts: Parts, compute_power: Callable[[Parts], float], least: int) -> float:
    if not np.isfinite(parts.variance) or not np.isfinite(parts.value):
        return float("nan")
    return find_least(lambda n: compute_power(replace_seeds(parts, n)) >= POWER, least)


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


# ---- power, if `parts` are the truth ------------------------------------------------------------


def compute_difference_power(parts: Parts, alpha: float = ALPHA) -> float:
    """Return the power of the two-sided t test of no difference."""
    se, df = parts.se, parts.df
    if se == 0:
        return float(parts.value != 0)
    limit, shift = compute_quantile(df, 1 - alpha / 2), abs(parts.value) / se
    if df > 1e6:
        return float(ndtr(shift - limit) + ndtr(-shift - limit))
    tails = np.nan_to_num(nctdtr(df, shift, np.array([-limit, limit])))  # NaN far out, for 0
    return float(1 - tails[1] + tails[0])


def compute_layer_power(parts: Parts, margin: float, tail: float) -> float:
    """Return the power to find a gap general, or specific, the larger.

    `tail` is the probability beyond each bound of the interval.
    """
    se, df = parts.se, parts.df
    if se == 0:
        return float(parts.value != margin)
    # estimated standard errors over the true one, as quantiles
    errors = np.ones(1) if df > 1e6 else np.sqrt(chdtri(df, (np.arange(400) + 0.5) / 400) / df)
    half = compute_quantile(df, 1 - tail) * errors
    value, limit = parts.value / se, margin / se
    general = float(ndtr(limit - half - value).mean())
    return max(general, float(ndtr(value - np.maximum(half, limit)).mean()))


def compute_equivalence_power(parts: Parts, margin: float) -> float:
    """Return the power of TOST at 5 %; se is taken as known."""
    se, df = parts.se, parts.df
    if se == 0:
        return float(abs(parts.value) < margin)
    limit = compute_quantile(df, 1 - ALPHA)
    below = compute_tail(limit - (margin - parts.value) / se, df)
    return max(0.0, below - compute_tail((margin + parts.value) / se - limit, df))
