"""One cell's runs as numbers: what every interval and every comparison is made of."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tlcnn.statistics.notes import Notes
from tlcnn.statistics.variance import Parts

Verdict = Literal["better", "worse", "equivalent", "inconclusive"]


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


@dataclass(frozen=True)
class Comparison:
    """Arm `a` against arm `b`.

    Attributes:
        delta: a - b, paired by (seed, group) where it can be.
        p: two-sided; the larger of `p_swap` and `p_seed`. NaN where neither can be had.
        p_swap: sign-flip permutation over test groups: do *these* networks differ on new lesions?
        p_seed: t test with both variances: would they, trained again with other seeds?
        p_equivalent: TOST with `margin`; below 0.05 the two are equivalent.
        p_holm: adjusted within its family; equal to `p` until a family is adjusted.
        family: the key of the comparisons that are adjusted together.
        family_size: the comparisons of the family that have a p.
        seeds_needed: pairs of seeds that would settle it with 80 % power, if the truth is what was
            seen, at Holm's first step (5 % over the size of the family); more than there are
            while it is inconclusive; inf where more seeds never would (more test groups might),
            NaN where unknown.
        lower_is_better: a negative `delta` is then the better one.
        parts: the variance parts of `delta`; None if no number of seeds was asked for.
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
    seeds_needed: float
    family: Hashable = ""
    family_size: int = 1
    lower_is_better: bool = False
    parts: Parts | None = None

    @property
    def verdict(self) -> Verdict:
        """better | worse | equivalent | inconclusive, of `a` against `b`, at 5 % after Holm.

        One seed decides nothing: without `p_seed` it is inconclusive.
        """
        if self.p_holm < 0.05 and self.p_seed == self.p_seed:
            higher = self.delta.value > 0
            return "worse" if higher == self.lower_is_better else "better"
        return "equivalent" if self.p_equivalent < 0.05 else "inconclusive"
