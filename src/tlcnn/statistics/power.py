"""Before a sweep: how likely a difference in balanced accuracy would be found.

A pair of runs differs on the test groups on which one is right and the other wrong. What of that
comes back with other seeds is the test sample's share of the variance, which no number of seeds
takes away; the rest is in the seeds' own deviation. See `estimate` for the two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import nctdtr, ndtr

from tlcnn.errors import ConfigError
from tlcnn.statistics.variance import Parts, combine_df, compute_quantile

MAX_SEEDS = 10_000
POWER = 0.8
ALPHA = 0.05

Numbers = float | Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Design:
    """What a comparison of two cells would be made of.

    Attributes:
        groups_per_class: (K,) test groups of each class.
        seed_sd: standard deviation over seeds of the paired difference, as a table shows it.
        score: recall, one number or one a class.
        agreement: share of a class's test images on which two runs of different cells (and seeds)
            are both right or both wrong; None: as if they were independent, the worst case.
        seed_agreement: the same of two seeds of one cell; None: 1, the worst case, in which no
            disagreement is the seeds' own.
        alpha: the level of the two-sided test; 0.05 / m is safe for m comparisons.
    """

    groups_per_class: tuple[int, ...]
    seed_sd: float
    score: Numbers
    agreement: Numbers | None = None
    seed_agreement: Numbers | None = None
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        """Raise ConfigError for numbers that are not possible."""
        groups = np.asarray(self.groups_per_class)
        if len(groups) < 2 or (groups < 1).any():
            raise ConfigError(
                f"test groups per class {list(self.groups_per_class)}: at least two classes with "
                "at least one group each are needed"
            )
        if not 0 <= self.seed_sd < 1:
            raise ConfigError(f"seed sd {self.seed_sd}: from 0 to 1, e.g. 0.01 for one point")
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha {self.alpha}: between 0 and 1, e.g. 0.05")
        score = self.spread(self.score)
        if (score < 0).any() or (score > 1).any() or score.min() == 1 or score.max() == 0:
            raise ConfigError(f"score {self.score}: between 0 and 1, e.g. 0.65")
        least = np.abs(2 * score - 1)  # right and wrong cannot differ more often
        shares = {"agreement": self.agreement, "seed agreement": self.seed_agreement}
        for name, values in shares.items():
            agreement = self.spread(1.0 if values is None else values)
            if (agreement > 1).any() or (agreement < least - 0.05).any():
                worst = int(np.argmin(agreement - least))
                raise ConfigError(
                    f"{name} {agreement[worst]:.3f} is not possible at a score of "
                    f"{score[worst]:.3f}: it must be from {least[worst]:.3f} to 1"
                )

    def spread(self, values: Numbers) -> np.ndarray:
        """Return one number a class, (K,). Raises ConfigError: another number of them."""
        numbers = np.atleast_1d(np.asarray(values, dtype=float))
        n_classes = len(self.groups_per_class)
        if numbers.shape not in ((1,), (n_classes,)):
            raise ConfigError(
                f"{len(numbers)} numbers for {n_classes} classes: give one, or one a class"
            )
        return np.broadcast_to(numbers, (n_classes,))

    @property
    def disagreement(self) -> np.ndarray:
        """The share of each class on which runs of the two cells disagree, (K,)."""
        if self.agreement is not None:
            return 1 - self.spread(self.agreement)
        score = self.spread(self.score)
        return 2 * score * (1 - score)


def compute_design_power(effect: float, design: Design, n_seeds: int) -> float:
    """Return the probability that `compare_arms` finds a true difference in balanced accuracy.

    Raises ConfigError as `plan_parts` does.
    """
    return compute_difference_power(plan_parts(effect, design, n_seeds), design.alpha)


def find_seeds(effect: float, design: Design, *, power: float = POWER) -> float:
    """Return the least number of seeds with that power; inf where the test set is too small."""
    if compute_design_power(effect, design, MAX_SEEDS) < power:
        return float("inf")
    low, high = 1, 2  # fewer than two seeds are no answer
    while compute_design_power(effect, design, high) < power:
        low, high = high, min(2 * high, MAX_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        enough = compute_design_power(effect, design, middle) >= power
        low, high = (low, middle) if enough else (middle, high)
    return float(high)


def find_effect(design: Design, n_seeds: float, *, power: float = POWER) -> float:
    """Return the smallest true difference that is found with that power; NaN if none is.

    With `n_seeds=inf` it is what no number of seeds goes below.
    """
    high = float(np.mean(design.disagreement))
    many = 10**9 if np.isinf(n_seeds) else int(n_seeds)
    if high <= 0 or compute_design_power(high, design, many) < power:
        return float("nan")
    return bisect(lambda effect: compute_design_power(effect, design, many) >= power, high)


def bisect(is_enough: Callable[[float], bool], high: float) -> float:
    """Return the least number from 0 to `high` that is enough; `high` itself must be."""
    low = 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def compute_difference_power(parts: Parts, alpha: float = ALPHA) -> float:
    """Return the power of the two-sided t test of no difference, if `parts` are the truth."""
    se, df = parts.se, parts.df
    if se == 0:
        return float(parts.value != 0)
    limit, shift = compute_quantile(df, 1 - alpha / 2), abs(parts.value) / se
    if df > 1e6:
        return float(ndtr(shift - limit) + ndtr(-shift - limit))
    limits = np.array([-limit, limit])
    tails = nctdtr(df, shift, limits)
    tails = np.where(np.isnan(tails), limits > shift, tails)  # NaN far out, for 0 and 1
    return float(1 - tails[1] + tails[0])


def plan_parts(effect: float, design: Design, n_seeds: int) -> Parts:
    """Return what the difference and its variance would be made of.

    The variance is seed_sd^2 / S + sum_c v_c / (K^2 n_c), where v_c is the share of class c's
    groups on which the cells disagree beyond what seeds do, less effect^2.

    Raises:
        ConfigError: fewer than two seeds, or a difference that the design leaves no room for.
    """
    largest = float(np.mean(design.disagreement))
    if not 0 < abs(effect) <= largest + 1e-12:
        raise ConfigError(
            f"a difference of {effect} is not possible: above 0, and at most the share of test "
            f"groups on which the cells disagree, {largest:.3f}"
        )
    if n_seeds < 2:
        raise ConfigError(f"{n_seeds} seeds: at least 2 are needed to know how seeds differ")
    n = np.asarray(design.groups_per_class, dtype=float)
    seed_agreement = 1.0 if design.seed_agreement is None else design.seed_agreement
    lasting = design.disagreement - (1 - design.spread(seed_agreement))
    variances = np.maximum(lasting - effect**2, 0.0) / (len(n) ** 2 * n)
    df = combine_df(list(zip(variances.tolist(), np.maximum(n - 1, 1.0).tolist(), strict=True)))
    return Parts(effect, ((design.seed_sd**2, n_seeds),), float(variances.sum()), df)
