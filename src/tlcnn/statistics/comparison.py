"""One cell against another: difference, p values, equivalence, families."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from tlcnn.errors import ConfigError
from tlcnn.statistics.arm import Arm, Comparison, Estimate
from tlcnn.statistics.estimate import estimate_contrast, pair_arms
from tlcnn.statistics.notes import Note, NoteKind, merge_notes
from tlcnn.statistics.score import Score
from tlcnn.statistics.variance import compute_tail

N_PERMUTATIONS = 10_000
BLOCK = 4_000_000  # signs in one block: 32 MB


def compare_arms(
    a: Arm,
    b: Arm,
    *,
    margin: float = 0.01,
    family: Hashable = "",
    n_permutations: int = N_PERMUTATIONS,
) -> Comparison:
    """Compare two cells, paired by (seed, test group) where they can be.

    A difference counts when it holds both for new test groups with these networks (`p_swap`) and
    for networks trained again with new seeds (`p_seed`): `p` is the larger one.

    Args:
        margin: differences smaller than this do not matter, in units of the metric.
        family: comparisons that `adjust_holm` adjusts together.
        n_permutations: sign flips; all 2^n of them where that is fewer.

    Raises:
        ConfigError: the margin is not positive, or the arms are of different metrics.
    """
    if not margin > 0:
        raise ConfigError(f"margin={margin} is not allowed: above 0, e.g. 0.01 for one point")
    if a.lower_is_better != b.lower_is_better:
        raise ConfigError(f"{a.name} and {b.name} are scored by different metrics")
    delta = estimate_contrast([(1.0, a), (-1.0, b)])
    p_swap = compute_swap_p(a, b, n_permutations=n_permutations)
    comparison = judge_difference(delta, p_swap=p_swap, margin=margin, family=family)
    return replace(comparison, a=a.name, b=b.name, lower_is_better=a.lower_is_better)


def judge_difference(
    delta: Estimate, *, p_swap: float, margin: float, family: Hashable
) -> Comparison:
    """Return the tests of a difference, of names that the caller sets; see `compare_arms`.

    Args:
        p_swap: NaN where nothing can be swapped.
    """
    p_seed = compute_t_p(delta)
    p = max((value for value in (p_swap, p_seed) if value == value), default=float("nan"))
    if p_seed != p_seed and p == p:
        note = Note(NoteKind.P_OF_THESE_NETWORKS)
        delta = replace(delta, notes=merge_notes(delta.notes, [note]))
    # two one-sided tests (TOST, Schuirmann 1987)
    p_equivalent = compute_one_sided_p(margin - abs(delta.value), delta)
    return Comparison(
        a="",
        b="",
        delta=delta,
        p=p,
        p_swap=p_swap,
        p_seed=p_seed,
        p_equivalent=p_equivalent,
        margin=margin,
        p_holm=p,
        p_equivalent_holm=p_equivalent,
        family=family,
    )


# ---- t tests ------------------------------------------------------------------------------------


def compute_t_p(delta: Estimate) -> float:
    """Return the two-sided p of no difference, from Student's t; NaN where none can be had."""
    if not delta.is_decidable:
        return float("nan")
    return 2 * compute_tail(abs(delta.value) / delta.se, delta.df)


def compute_one_sided_p(distance: float, estimate: Estimate) -> float:
    """Return the p of a true `distance` of 0 or less, by the estimate's error; NaN as above."""
    if not estimate.is_decidable:
        return float("nan")
    return compute_tail(distance / estimate.se, estimate.df)


# ---- sign flips ---------------------------------------------------------------------------------


def compute_swap_p(a: Arm, b: Arm, *, n_permutations: int = N_PERMUTATIONS) -> float:
    """Return the two-sided p of swapping the arms' predictions of each test group at random.

    NaN for arms of different samples, or without replicates.
    """
    differences = compute_group_differences(a, b)
    if differences is None or not np.isfinite(differences).all():
        return float("nan")
    return compute_flip_p(differences, n_permutations=n_permutations)


def compute_group_differences(a: Arm, b: Arm) -> np.ndarray | None:
    """Return what each test group adds to a - b, (G,), of the mean over (paired) seeds.

    Where the metric is a sum over groups (accuracy, balanced accuracy, recall, NLL, Brier),
    swapping the two arms' predictions of a group flips the sign of its entry, exactly. Of others
    the entries are the linear part, the difference of the influences; the difference itself, which
    influences leave out, is laid on the strata in proportion to their variances.
    """
    sample = a.sample
    if sample is None or b.sample is None or sample.name != b.sample.name:
        return None
    a, b = pair_arms(a, b)
    if a.contributions is not None and b.contributions is not None:
        return a.contributions.mean(axis=0) - b.contributions.mean(axis=0)
    if a.influence is None or b.influence is None:
        return None
    influence = a.influence.mean(axis=0) - b.influence.mean(axis=0)
    strata, delta = sample.strata, a.mean - b.mean
    variances = np.bincount(strata, weights=influence**2)
    if not variances.sum() > 0:
        return influence + delta / len(strata)
    shares = variances / variances.sum() / np.maximum(np.bincount(strata), 1)
    return influence + delta * shares[strata]


def compute_flip_p(differences: np.ndarray, *, n_permutations: int = N_PERMUTATIONS) -> float:
    """Return the two-sided p of a sum under random signs of its entries.

    All sign patterns are counted where there are no more than `n_permutations`; otherwise as many
    are drawn (the same every time), and the observed one counts as one of them, so that p is
    never 0 and never too small (Phipson & Smyth 2010).

    Args:
        differences: (G,); zeros change nothing.

    Example:
        >>> compute_flip_p(np.array([1.0, 1.0, 1.0, 0.0]))
        0.25
    """
    moved = differences[differences != 0]
    if len(moved) == 0:
        return 1.0
    limit = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()  # sums of equals may differ in a bit
    if len(moved) < 63 and 2 ** len(moved) <= n_permutations:
        patterns = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))
        return float((np.abs((1 - 2 * (patterns & 1)) @ moved) >= limit).mean())
    rng = np.random.default_rng(0)
    n_extreme, step = 0, max(1, BLOCK // len(moved))
    for start in range(0, n_permutations, step):
        n = min(step, n_permutations - start)
        signs = rng.integers(0, 2, size=(n, len(moved)), dtype=np.int8) * 2.0 - 1.0
        n_extreme += int((np.abs(signs @ moved) >= limit).sum())
    return (1 + n_extreme) / (1 + n_permutations)


# ---- sides --------------------------------------------------------------------------------------


def compute_side_p(
    scores: Sequence[Score],
    strata: np.ndarray,
    is_inside: np.ndarray,
    *,
    n_permutations: int = N_PERMUTATIONS,
) -> float:
    """Return the two-sided p of giving the test groups of each stratum to two sides at random.

    It is exact where the groups of a stratum are exchangeable: these networks are as good on one
    side as on the other. The observed sides count as one permutation (Phipson & Smyth 2010).

    Args:
        scores: of S runs, on all G groups.
        strata: (G,) int, the class of each group.
        is_inside: (G,) bool, the side of each group.
    """

    def compute_differences(sides: np.ndarray) -> np.ndarray:
        """Return the mean over runs of inside less outside, (B,), of sides (B, G)."""
        inside, outside = sides.astype(float), (~sides).astype(float)
        return np.mean([s.compute(inside) - s.compute(outside) for s in scores], axis=0)

    observed = compute_differences(is_inside[None])[0]
    if not np.isfinite(observed):
        return float("nan")
    limit = abs(observed) - 1e-12  # sums of equals may differ in a bit
    rng = np.random.default_rng(0)
    n_extreme, step = 0, max(1, BLOCK // len(strata))
    for start in range(0, n_permutations, step):
        sides = np.tile(is_inside, (min(step, n_permutations - start), 1))
        for stratum in np.unique(strata):
            members = np.flatnonzero(strata == stratum)
            sides[:, members] = rng.permuted(sides[:, members], axis=1)
        n_extreme += int((np.abs(compute_differences(sides)) >= limit).sum())
    return (1 + n_extreme) / (1 + n_permutations)


# ---- families -----------------------------------------------------------------------------------


def adjust_holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons, adjusted within each family (Holm 1979).

    The p values of differences and those of equivalence are adjusted each among themselves.
    Comparisons without a p are not counted.
    """
    adjusted = list(comparisons)
    for family in dict.fromkeys(comparison.family for comparison in comparisons):
        places = [i for i, c in enumerate(comparisons) if c.family == family]
        different = compute_holm([comparisons[i].p for i in places])
        equivalent = compute_holm([comparisons[i].p_equivalent for i in places])
        size = sum(value == value for value in different)
        for i, p, p_equivalent in zip(places, different, equivalent, strict=True):
            adjusted[i] = replace(
                comparisons[i], p_holm=p, p_equivalent_holm=p_equivalent, family_size=size
            )
    return adjusted


def compute_holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number, step down (Holm 1979); NaN stays NaN.

    Example:
        >>> [round(p, 3) for p in compute_holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    ranked = [i for i, p in enumerate(p_values) if p == p]
    adjusted = list(map(float, p_values))
    largest = 0.0
    for rank, i in enumerate(sorted(ranked, key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(ranked) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
