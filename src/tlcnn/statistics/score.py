"""What a metric of a run is: a number as a function of how much each test group weighs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tlcnn.statistics.predictions import Predictions

Compute = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Score:
    """A metric of one run under any weights of its G test groups.

    With whole weights it is the metric of rows that occur as often as their group weighs.

    Attributes:
        compute: weights (B, G) -> scores (B,); NaN where the metric is undefined.
        influence: (G,) the derivative of the score by each group's weight where all weigh 1.
        contributions: (G,) what each group adds to the score; None where it is not such a sum.
        jackknifed: `influence` is instead how much the score falls without the group: for a mean
            of n groups n / (n - 1) times the derivative.
        reach: (K,) the part of the score that each class decides; None where that is not clear.
        is_counted: the score is made of counts of right and wrong rows, which may all be equal.
    """

    compute: Compute
    influence: np.ndarray
    contributions: np.ndarray | None = None
    jackknifed: bool = False
    reach: np.ndarray | None = None
    is_counted: bool = False

    @property
    def value(self) -> float:
        """The score where all groups weigh 1."""
        return float(self.compute(np.ones((1, len(self.influence))))[0])


def make_mean(predictions: Predictions, values: np.ndarray) -> Score:
    """Return the mean of one value a row, (N,)."""
    n_groups = predictions.n_groups
    sums = np.bincount(predictions.group, weights=values, minlength=n_groups)
    sizes = np.bincount(predictions.group, minlength=n_groups).astype(float)
    mean = sums.sum() / sizes.sum()

    def compute(weights: np.ndarray) -> np.ndarray:
        return (weights @ sums) / (weights @ sizes)

    return Score(compute, (sums - mean * sizes) / sizes.sum(), sums / sizes.sum())


def make_jackknifed(
    table: np.ndarray, measure: Compute, *, reach: np.ndarray | None = None
) -> Score:
    """Return a score that is computed from sums over groups.

    Args:
        table: (G, ...) what is summed over the groups.
        measure: sums (B, ...) -> scores (B,).
    """
    flat = table.reshape(len(table), -1)

    def compute(weights: np.ndarray) -> np.ndarray:
        return measure((weights @ flat).reshape(len(weights), *table.shape[1:]))

    total = table.sum(axis=0)
    without = np.maximum(total - table, 0.0)
    influence = np.nan_to_num(measure(total[None]) - measure(without), nan=0.0)
    return Score(compute, influence, jackknifed=True, reach=reach, is_counted=reach is not None)


def make_undefined(predictions: Predictions) -> Score:
    """Return a score that is NaN whatever the weights."""
    undefined = np.full(predictions.n_groups, np.nan)
    return Score(lambda weights: np.full(len(weights), np.nan), undefined, undefined)


def divide(part: np.ndarray, whole: np.ndarray, otherwise: float) -> np.ndarray:
    """Return part / whole, and `otherwise` where the whole is not above 0."""
    filled = np.where(whole > 0, whole, 1.0)
    return np.where(whole > 0, part / filled, otherwise)


def compute_mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what is not NaN; NaN where all of it is."""
    defined = np.isfinite(values)
    total = np.where(defined, values, 0.0).sum(axis=-1)
    return divide(total, defined.sum(axis=-1).astype(float), np.nan)
