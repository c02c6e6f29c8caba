"""What the variance of an estimate is made of, and Student's t."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from tlcnn.statistics.notes import Notes

ROUNDING = 1e-12  # a share of a sum that is not told from 0


@dataclass(frozen=True)
class Parts:
    """What an estimate and its variance are made of.

    Attributes:
        value: the contrast of means over seeds.
        seeds: (variance of one run or pair, how many) of each independent set of runs; NaN for
            one run.
        test: the variance of the test samples that all seeds share, T.
        test_df: its degrees of freedom.
        notes: see `Estimate`.
        most_df: the degrees of freedom that `df` cannot exceed: one less than there are folds.
        bounds: between which values the contrast lies, whatever was measured.
    """

    value: float
    seeds: tuple[tuple[float, int], ...]
    test: float
    test_df: float
    notes: Notes = ()
    most_df: float = float("inf")
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @property
    def n_seeds(self) -> int:
        """The least number of runs (or pairs)."""
        return min(n for _, n in self.seeds)

    @property
    def variance(self) -> float:
        """se^2."""
        return sum(variance / n for variance, n in self.seeds) + self.test

    @property
    def se(self) -> float:
        """The standard error."""
        return float(np.sqrt(self.variance))

    @property
    def df(self) -> float:
        """Degrees of freedom of `variance` (Satterthwaite 1946), at least 1; inf where it is 0.

        Where runs are one set (a cell, or pairs), the seeds' part is weighed 1 + 4 / (n - 1)
        times, since it is often estimated too small from few seeds. Of independent sets only so
        much is due as their variances are unequal. This keeps 93 to 97 % from 2 seeds on
        (docs/statistics.md).
        """
        sets = [(variance / n, n - 1.0) for variance, n in self.seeds if n > 1]
        factor = 1 + 4 / combine_df(sets)
        if len(sets) > 1:
            factor -= 4 / sum(df for _, df in sets)
        parts = [(max(factor, 1.0) * variance, df) for variance, df in sets]
        return max(min(combine_df([*parts, (self.test, self.test_df)]), self.most_df), 1.0)


@dataclass(frozen=True)
class Noise:
    """What hides a difference between two cells, whatever the difference is.

    Attributes:
        n_seeds: the seeds of each cell.
        n_sets: 1 where the cells are paired by seed, 2 where each has runs of its own.
        variance: over the seeds of a set, of one difference or of one score.
        joint: the part of `variance` that is what the test groups do to a single run. Like
            `test`, it falls with the number of test groups. NaN where the groups are not known.
        test, test_df: as in `Parts`.
        largest: the largest difference that is possible.
    """

    n_seeds: int
    n_sets: int
    variance: float
    joint: float
    test: float
    test_df: float
    largest: float = float("inf")

    def plan(
        self, n_seeds: int | None = None, groups: float = 1.0, *, is_paired: bool | None = None
    ) -> Parts:
        """Return what a difference of 0 would be made of, with so many times the test groups.

        Args:
            is_paired: whether so many seeds are paired; None: as they are here. Pairs are taken to
                vary by as much as two runs of their own.
        """
        falling = self.joint * (1 - 1 / groups) if groups != 1 else 0.0
        n_sets = self.n_sets if is_paired is None else 1 if is_paired else 2
        variance = (self.variance - falling) * self.n_sets / n_sets
        seeds = ((variance, n_seeds or self.n_seeds),) * n_sets
        return Parts(0.0, seeds, self.test / groups, self.test_df * groups)

    def split_error(self) -> tuple[float, float]:
        """Return the standard errors that seeds alone give, and that test groups give.

        The first falls with the number of seeds alone. The second falls with the number of test
        groups; where it is not known what the groups do to a single run, that part is in the
        first. Their squares sum to the square of the standard error.

        Example:
            >>> noise = Noise(2, 1, variance=0.5, joint=0.32, test=0.0, test_df=9.0)
            >>> [round(error, 3) for error in noise.split_error()]
            [0.3, 0.4]
        """
        joint = float(np.nan_to_num(self.joint))
        share = self.n_sets / self.n_seeds
        of_seeds = share * (self.variance - joint)
        return float(np.sqrt(of_seeds)), float(np.sqrt(share * joint + self.test))


def combine_df(parts: Sequence[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of variances, each (variance, df); inf for none.

    Satterthwaite 1946: (sum v)^2 / sum (v^2 / df). A part of rounding size counts for nothing,
    and one with 0 degrees of freedom for a variance of the least there are, 1.

    Example:
        >>> combine_df([(1.0, 10.0), (1.0, 10.0)])
        20.0
    """
    total = sum(variance for variance, _ in parts if variance > 0)
    shares = [(v / total, df) for v, df in parts if v > ROUNDING * total]  # they do not underflow
    squares = sum(share**2 / (df or 1.0) for share, df in shares)
    return 1 / squares if squares > 0 else float("inf")


def compute_quantile(df: float, p: float) -> float:
    """Return the p quantile of Student's t.

    Example:
        >>> round(compute_quantile(4, 0.975), 3)
        2.776
    """
    return float(ndtri(p) if np.isinf(df) else stdtrit(df, p))


def compute_tail(t: float, df: float) -> float:
    """Return the upper tail of Student's t.

    Example:
        >>> round(compute_tail(2.776, 4), 4)
        0.025
    """
    return float(ndtr(-t) if np.isinf(df) else stdtr(df, -t))
