"""The smallest true difference that a design detects.

It follows from how much scores vary and from the numbers of seeds and test groups, and not from
the difference that was observed. The power "at the observed difference" only repeats the p value
(Hoenig & Heisey 2001).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, starmap

import numpy as np

from tlcnn.statistics.arm import Arm, Comparison
from tlcnn.statistics.estimate import LEAST_PAIRS, compute_parts, pair_arms
from tlcnn.statistics.power import ALPHA, POWER, bisect, compute_difference_power
from tlcnn.statistics.variance import Noise, Parts

MAX_PAIRS = 200  # the mean over more would not change
# Designs that are shown: seeds (None: those there are) and times the test groups.
DESIGNS: tuple[tuple[int | None, float], ...] = (
    *((None, 1), (5, 1), (10, 1), (20, 1)),
    *((None, 2), (None, 4)),
)


def find_detectable(
    comparison: Comparison, n_seeds: int | None = None, groups: float = 1
) -> float:
    """Return the smallest true difference that a comparison finds in 80 % of studies.

    It is found at the first step of Holm's method, at 5 % / size of the family, which is enough
    whatever the other comparisons give.

    Args:
        n_seeds: the seeds of each cell; None for those there are.
        groups: times the test groups there are.

    Returns:
        NaN where a variance is unknown, inf where no possible difference is found.
    """
    noise = comparison.noise
    if noise is None:
        return float("nan")
    is_paired = None if n_seeds is None else n_seeds >= LEAST_PAIRS
    parts = noise.plan(n_seeds, groups, is_paired=is_paired)
    alpha = ALPHA / max(comparison.family_size, 1)
    effect = find_effect_of(parts, alpha)
    return float("inf") if effect > noise.largest else effect


def find_effect_of(parts: Parts, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the smallest true value that a t test with these variances finds.

    Example:
        >>> round(find_effect_of(Parts(0.0, ((1.0, 34),), 0.0, np.inf)), 3)  # 34 pairs
        0.495
    """

    def is_enough(effect: float) -> bool:
        return compute_difference_power(replace(parts, value=effect), alpha) >= power

    high = parts.se
    if not np.isfinite(high) or high == 0:
        return high
    while not is_enough(high):
        high *= 2
    return bisect(is_enough, high)


def pool_noise(arms: Sequence[Arm], largest: float = float("inf")) -> Noise | None:
    """Return what hides the difference of two typical arms; None where it is not known.

    Variances are means over all pairs of arms, since two arms of few seeds say little. Pairs that
    are not paired by seed as most are do not count, nor do those without predictions if others
    have them.

    Args:
        largest: the largest difference that is possible.
    """
    pairs = list(combinations(arms, 2))
    pairs = pairs[:: len(pairs) // MAX_PAIRS + 1]
    noises = [noise for noise in starmap(_measure_noise, pairs) if noise]
    if not noises:
        return None
    (n_sets, _), *_ = Counter(noise.n_sets for noise in noises).most_common(1)
    alike = [noise for noise in noises if noise.n_sets == n_sets]
    alike = [noise for noise in alike if not np.isnan(noise.joint)] or alike
    weights = [noise.n_seeds - 1 for noise in alike]
    numbers = [(noise.variance, noise.joint) for noise in alike]
    variance, joint = np.average(numbers, axis=0, weights=weights).tolist()
    return Noise(
        n_seeds=min(noise.n_seeds for noise in alike),
        n_sets=n_sets,
        variance=variance,
        joint=float(np.clip(joint, 0.0, variance)),
        test=float(np.mean([noise.test for noise in alike])),
        # The median, since a T near 0 has next to no degrees of freedom, whatever the others have.
        test_df=max(float(np.median([noise.test_df for noise in alike])), 1.0),
        largest=largest,
    )


def _measure_noise(a: Arm, b: Arm) -> Noise | None:
    """Return what hides the difference of two arms; None where it is not known.

    With folds it is None, as more seeds do not give more folds.
    """
    parts = compute_parts([(1.0, a), (-1.0, b)])
    if a.folds or b.folds or not np.isfinite(parts.variance):
        return None
    variances, counts = np.array(parts.seeds).T
    sets = [arm.replicates for arm in pair_arms(a, b)]
    if len(variances) == 1:
        sets = [None if sets[0] is None or sets[1] is None else sets[0] - sets[1]]
    return Noise(
        n_seeds=parts.n_seeds,
        n_sets=len(variances),
        variance=float(np.average(variances, weights=counts - 1)),
        joint=float(np.mean([_measure_joint(rows) for rows in sets])),
        test=parts.test,
        test_df=parts.test_df,
    )


def _measure_joint(replicates: np.ndarray | None) -> float:
    """Return the variance of redraws that seeds do not share, from replicates (S, B)."""
    if replicates is None:
        return float("nan")
    rows = replicates[:, np.isfinite(replicates).all(axis=0)]
    if rows.shape[1] < 2:
        return float("nan")
    covariance, n = np.cov(rows), len(rows)
    mean_variance = np.trace(covariance) / n
    return float(mean_variance - (covariance.sum() - n * mean_variance) / (n * (n - 1)))


def set_noise(comparisons: Sequence[Comparison], noise: Noise | None) -> list[Comparison]:
    """Return the comparisons with the noise of their block, where a verdict is possible."""
    return [
        replace(c, noise=replace(noise, n_seeds=c.delta.n_seeds))
        if noise and c.delta.is_decidable and np.isfinite(c.delta.se)
        else c
        for c in comparisons
    ]
