"""Before a sweep: how likely a difference in balanced accuracy would be found.

A pair of runs differs on the test groups on which one is right and the other wrong. What of that
comes back with other seeds is the test sample's share of the variance, which no number of seeds
takes away; the rest is in the seeds' own deviation. See `estimate` for the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tlcnn.errors import ConfigError
from tlcnn.statistics.settle import POWER, compute_difference_power, find_least
from tlcnn.statistics.variance import Parts, combine_df

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
        alpha: of the two-sided test; with m comparisons in a family, 0.05 / m is on the safe side.
    """

    groups_per_class: tuple[int, ...]
    seed_sd: float
    score: Numbers
    agreement: Numbers | None = None
    seed_agreement: Numbers | None = None
    alpha: float = 0.05

    def __post_init__(self) -> None:
        check_design(self)


def compute_power(
    effect: float,
    *,
    n_seeds: int,
    seed_sd: float,
    groups_per_class: Sequence[int],
    score: Numbers,
    agreement: Numbers | None = None,
    seed_agreement: Numbers | None = None,
    alpha: float = 0.05,
) -> float:
    """Return the probability that `compare_arms` finds a true difference in balanced accuracy.

    The variance is seed_sd^2 / S + sum_c v_c / (K^2 n_c), where v_c is the share of class c's
    groups on which the cells disagree beyond what seeds do, less effect^2; the test is Student's
    with Satterthwaite's degrees of freedom. See `Design` for the arguments.

    Raises:
        ConfigError: numbers that are not possible, alone or together.
    """
    design = Design(tuple(groups_per_class), seed_sd, score, agreement, seed_agreement, alpha)
    return compute_design_power(effect, design, n_seeds)


def compute_design_power(effect: float, design: Design, n_seeds: int) -> float:
    """Return the power of a design with so many seeds. Raises ConfigError."""
    return compute_difference_power(plan_parts(effect, design, n_seeds), design.alpha)


def find_seeds(effect: float, design: Design, *, power: float = POWER) -> float:
    """Return the least number of seeds with that power; inf where the test set is too small."""
    return find_least(lambda n: compute_design_power(effect, design, n) >= power)


def find_effect(design: Design, n_seeds: float, *, power: float = POWER) -> float:
    """Return the smallest true difference that is found with that power; NaN if none is.

    Args:
        n_seeds: may be inf: what no number of seeds goes below.
    """
    low, high = 0.0, find_largest_effect(design)
    many = 10**9 if np.isinf(n_seeds) else int(n_seeds)
    if high <= 0 or compute_design_power(high, design, many) < power:
        return float("nan")
    for _ in range(50):
        middle = (low + high) / 2
        enough = compute_design_power(middle, design, many) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def find_largest_effect(design: Design) -> float:
    """Return the largest difference that such recalls and agreements leave room for."""
    return float(np.mean(compute_disagreement(design)))


def plan_parts(effect: float, design: Design, n_seeds: int) -> Parts:
    """Return what the difference and its variance would be made of. Raises ConfigError."""
    largest = find_largest_effect(design)
    if not 0 < abs(effect) <= largest + 1e-12:
        raise ConfigError(
            f"a difference of {effect} is not possible: above 0, and at most the share of test "
            f"groups on which the cells disagree, {largest:.3f}"
        )
    if n_seeds < 2:
        raise ConfigError(f"{n_seeds} seeds: at least 2 are needed to know how seeds differ")
    n = np.asarray(design.groups_per_class, dtype=float)
    lasting = compute_disagreement(design) - _compute_seed_disagreement(design)
    variances = np.maximum(lasting - effect**2, 0.0) / (len(n) ** 2 * n)
    df = combine_df(list(zip(variances.tolist(), np.maximum(n - 1, 1.0).tolist(), strict=True)))
    return Parts(effect, ((design.seed_sd**2, n_seeds),), float(variances.sum()), df)


def compute_disagreement(design: Design) -> np.ndarray:
    """Return the share of each class on which runs of the two cells disagree, (K,)."""
    score = _spread(design.score, design)
    if design.agreement is None:
        return 2 * score * (1 - score)
    return 1 - _spread(design.agreement, design)


def _compute_seed_disagreement(design: Design) -> np.ndarray:
    return 1 - _spread(1.0 if design.seed_agreement is None else design.seed_agreement, design)


def _spread(values: Numbers, design: Design) -> np.ndarray:
    """Return one number a class, (K,). Raises ConfigError: another number of them."""
    numbers = np.atleast_1d(np.asarray(values, dtype=float))
    n_classes = len(design.groups_per_class)
    if numbers.shape not in ((1,), (n_classes,)):
        raise ConfigError(
            f"{len(numbers)} numbers for {n_classes} classes: give one, or one a class"
        )
    return np.broadcast_to(numbers, (n_classes,))


def check_design(design: Design) -> None:
    """Raise ConfigError for numbers that are not possible."""
    groups = np.asarray(design.groups_per_class)
    if len(groups) < 2 or (groups < 1).any():
        raise ConfigError(
            f"test groups per class {list(design.groups_per_class)}: at least two classes with at "
            "least one group each are needed"
        )
    if not 0 <= design.seed_sd < 1:
        raise ConfigError(f"seed sd {design.seed_sd}: from 0 to 1, e.g. 0.01 for one point")
    if not 0 < design.alpha < 1:
        raise ConfigError(f"alpha {design.alpha}: between 0 and 1, e.g. 0.05")
    score = _spread(design.score, design)
    if (score < 0).any() or (score > 1).any() or score.min() == 1 or score.max() == 0:
        raise ConfigError(f"score {design.score}: between 0 and 1, e.g. 0.65")
    for name, values in (
        ("agreement", design.agreement),
        ("seed agreement", design.seed_agreement),
    ):
        if values is not None:
            _check_agreement(name, _spread(values, design), score)


def _check_agreement(name: str, agreement: np.ndarray, score: np.ndarray) -> None:
    least = np.abs(2 * score - 1)  # right and wrong cannot differ more often than that allows
    if (agreement > 1).any() or (agreement < least - 0.05).any():
        worst = int(np.argmin(agreement - least))
        raise ConfigError(
            f"{name} {agreement[worst]:.3f} is not possible at a score of {score[worst]:.3f}: "
            f"from {least[worst]:.3f} to 1"
        )
