"""One cell's runs as numbers: what every interval and every comparison is made of."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tlcnn.statistics.notes import NoteKind, Notes
from tlcnn.statistics.variance import Noise

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "no verdict"]


@dataclass(frozen=True)
class Sample:
    """The test groups (lesions) that the runs of an arm were scored on.

    Attributes:
        name: equal for arms that were scored on the same images; only these can be paired.
        groups: (G,) the groups, sorted.
        strata: (G,) int, the class of each group; redraws keep the number of groups of each.
    """

    name: str
    groups: np.ndarray
    strata: np.ndarray


@dataclass(frozen=True)
class Arm:
    """The S runs of one cell, scored by one metric.

    Attributes:
        seeds: (S,) int; runs of two arms with the same seed are a pair.
        scores: (S,) the metric of each run.
        replicates: (S, B) the metric under B redraws of the test groups, the same draws for every
            arm of a sample; None where only the scores are known.
        influence: (S, G) the score's derivative by each test group's weight; rows sum to 0 in each
            stratum; NaN where there is no such (ECE); None with `replicates`.
        sample: the test groups; None where only the scores are known.
        contributions: (S, G) what each test group adds to the score, rows sum to the score; None
            with `replicates`, and for metrics that are no sum over groups (AUROC, F1, ECE).
        notes: why there are no replicates, and what is odd about the sample; mostly empty.
        images: the digest of the manifest that names the test images, empty if unknown; arms
            without a sample are paired where these are equal.
        folds: the split seed and number of each of the F folds of a cross-validation; empty
            without. `scores` are then those of all images together, and `replicates` None.
        fold_scores: (S, F) the metric of each fold alone; None without folds.
        fold_ratio: test images over training images of a fold; None without folds.
        n_options: what guessing chooses from, which then scores 1 / n_options; 0 where unknown.
        spread: what the variance between its seeds is multiplied by; above 1 where the runs were
            chosen (see `tlcnn.statistics.choice`).
        floor: (K,) the least variance that each class of test groups gives the score; None for
            metrics without one.
        bounds: the least and the greatest value of the metric.
        is_fixed: the question is about these very networks, not about others of new seeds. An
            interval of such arms is over new test groups alone, and one run is enough for it.
    """

    name: str
    seeds: np.ndarray
    scores: np.ndarray
    replicates: np.ndarray | None = None
    influence: np.ndarray | None = None
    sample: Sample | None = None
    contributions: np.ndarray | None = None
    lower_is_better: bool = False
    notes: Notes = ()
    images: str = ""
    folds: tuple[tuple[int, int], ...] = ()
    fold_scores: np.ndarray | None = None
    fold_ratio: float | None = None
    n_options: int = 0
    spread: float = 1.0
    floor: np.ndarray | None = None
    bounds: tuple[float, float] = (-np.inf, np.inf)
    is_fixed: bool = False

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        se: standard error over new seeds and new test groups; NaN where it cannot be known.
        df: degrees of freedom of Student's t (Satterthwaite); NaN with `se`.
        low, high: the interval; NaN with `se`.
        n_seeds: seeds (pairs of seeds, for a paired difference).
        notes: what the interval leaves out, or why there is none; mostly empty.
    """

    value: float
    se: float
    df: float
    low: float
    high: float
    n_seeds: int
    notes: Notes = ()

    @property
    def is_decidable(self) -> bool:
        """Whether there are enough test groups of every class for a verdict."""
        return all(note.kind is not NoteKind.FEW_GROUPS for note in self.notes)


@dataclass(frozen=True)
class Comparison:
    """Arm `a` against arm `b`.

    Attributes:
        delta: a - b, paired by (seed, group) where it can be.
        p: two-sided; the larger of `p_swap` and `p_seed`. NaN where neither can be had.
        p_swap: sign-flip permutation over test groups: do *these* networks differ on new groups?
            Of a subgroup and the rest: permutation of test groups between the two sides.
        p_seed: t test with both variances: would they, trained again with other seeds?
        p_equivalent: TOST with `margin`.
        p_holm: `p`, adjusted within its family; equal to `p` until a family is adjusted.
        p_equivalent_holm: `p_equivalent`, adjusted among those of the family in the same way.
        family: the key of the comparisons that are adjusted together.
        family_size: the comparisons of the family that have a p.
        lower_is_better: a negative `delta` is then the better one.
        noise: what hides a difference, pooled over the cells of a block; None where it is not
            known.
    """

    a: str
    b: str
    delta: Estimate
    p: float
    p_swap: float
    p_seed: float
    p_equivalent: float
    margin: float
    p_holm: float
    p_equivalent_holm: float
    family: Hashable = ""
    family_size: int = 1
    lower_is_better: bool = False
    noise: Noise | None = None

    @property
    def verdict(self) -> Verdict:
        """better | worse | equivalent | inconclusive, of `a` against `b`, at 5 % after Holm.

        Too few test groups give `no verdict`, whatever the numbers. One seed decides nothing:
        without `p_seed` it is inconclusive. Equivalence also needs the 95 % interval within the
        margin, because differences that come out small have small standard errors: one-sided
        tests at 5 % alone are false too often.
        """
        if not self.delta.is_decidable:
            return "no verdict"
        if self.p_holm < 0.05 and self.p_seed == self.p_seed:
            higher = self.delta.value > 0
            return "worse" if higher == self.lower_is_better else "better"
        is_within = -self.margin < self.delta.low and self.delta.high < self.margin
        return "equivalent" if is_within and self.p_equivalent_holm < 0.05 else "inconclusive"
