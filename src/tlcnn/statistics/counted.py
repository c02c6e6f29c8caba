"""Metrics that are sums over rows, or made of counts of right and wrong ones."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Compute = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scored:
    """N scored rows (images, or groups) of one run.

    Attributes:
        probabilities: (N, K) float64, rows sum to one.
        labels: (N,) int, positions in the K classes.
        group: (N,) int, the group of each row, 0 to G - 1.
        n_groups: G.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    group: np.ndarray
    n_groups: int

    @property
    def n_classes(self) -> int:
        """K."""
        return self.probabilities.shape[1]


@dataclass(frozen=True)
class Score:
    """A metric of one run, as a function of the groups' weights.

    Attributes:
        compute: weights (B, G) -> scores (B,); NaN where the metric is undefined.
        influence: (G,) its derivative by each group's weight where all weigh 1.
        contributions: (G,) what each group adds to it; None where it is no such sum.
        jackknifed: `influence` is instead how much the score falls without the group: of a mean
            of n groups n / (n - 1) times the derivative.
    """

    compute: Compute
    influence: np.ndarray
    contributions: np.ndarray | None = None
    jackknifed: bool = False


# ---- counts: all that is made of right and wrong ------------------------------------------------


def _count(scored: Scored) -> np.ndarray:
    """Return per group and class the rows that are right, of the class, called so: (G, 3, K)."""
    table = np.zeros((3, scored.n_groups, scored.n_classes))
    predicted = scored.probabilities.argmax(axis=1)
    right = predicted == scored.labels
    np.add.at(table[0], (scored.group[right], scored.labels[right]), 1.0)
    np.add.at(table[1], (scored.group, scored.labels), 1.0)
    np.add.at(table[2], (scored.group, predicted), 1.0)
    return table.transpose(1, 0, 2)


def divide(part: np.ndarray, whole: np.ndarray, otherwise: float) -> np.ndarray:
    """Return part / whole, and `otherwise` where the whole is not above 0."""
    filled = np.where(whole > 0, whole, 1.0)
    return np.where(whole > 0, part / filled, otherwise)


def compute_mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what is not NaN; NaN where all of it is."""
    defined = np.isfinite(values)
    total = np.where(defined, values, 0.0).sum(axis=-1)
    return divide(total, defined.sum(axis=-1).astype(float), np.nan)


def _accuracy(counts: np.ndarray) -> np.ndarray:
    return divide(counts[..., 0, :].sum(axis=-1), counts[..., 1, :].sum(axis=-1), np.nan)


def _recall(counts: np.ndarray) -> np.ndarray:
    return divide(counts[..., 0, :], counts[..., 1, :], np.nan)


def _balanced_accuracy(counts: np.ndarray) -> np.ndarray:
    return compute_mean_of_defined(_recall(counts))


def _precision(counts: np.ndarray) -> np.ndarray:
    return divide(counts[..., 0, :], counts[..., 2, :], 0.0)


def _macro_f1(counts: np.ndarray) -> np.ndarray:
    both = counts[..., 1, :] + counts[..., 2, :]
    return divide(2 * counts[..., 0, :], both, 0.0).mean(axis=-1)


def _make_counted(scored: Scored, measure: Compute) -> Score:
    """Return a score of counts, jackknifed."""
    table = _count(scored)
    flat = table.reshape(scored.n_groups, -1)

    def compute(weights: np.ndarray) -> np.ndarray:
        return measure((weights @ flat).reshape(len(weights), *table.shape[1:]))

    return Score(compute, _differ(measure, table), jackknifed=True)


def _differ(measure: Compute, table: np.ndarray) -> np.ndarray:
    """Return how much leaving out each group lowers a score of summed tables (G, ...)."""
    total = table.sum(axis=0)
    without = np.maximum(total - table, 0.0)
    return np.nan_to_num(measure(total[None]) - measure(without), nan=0.0)


def make_accuracy(scored: Scored) -> Score:
    """Return the share of rows that are right."""
    right = scored.probabilities.argmax(axis=1) == scored.labels
    return make_mean(scored, right.astype(float))


def make_balanced_accuracy(scored: Scored) -> Score:
    """Return the mean recall over the classes that occur."""
    table = _count(scored)[:, :2]
    flat = table.reshape(scored.n_groups, -1)
    totals = table[:, 1].sum(axis=0)
    n_present = np.count_nonzero(totals)

    def compute(weights: np.ndarray) -> np.ndarray:
        return _balanced_accuracy((weights @ flat).reshape(len(weights), *table.shape[1:]))

    recalls = divide(table[:, 0].sum(axis=0), totals, 0.0)
    hits = divide(table[:, 0], totals[None], 0.0)
    expected = recalls * divide(table[:, 1], totals[None], 0.0)
    influence = (hits - expected).sum(axis=1) / n_present
    return Score(compute, influence, hits.sum(axis=1) / n_present)


def make_recall(scored: Scored, position: int) -> Score:
    """Return the recall of one class, undefined where no row is of it."""
    table = _count(scored)[:, :2, position]
    total = table[:, 1].sum()
    if total == 0:
        return make_undefined(scored)

    def compute(weights: np.ndarray) -> np.ndarray:
        counts = weights @ table
        return divide(counts[:, 0], counts[:, 1], np.nan)

    recall = table[:, 0].sum() / total
    return Score(compute, (table[:, 0] - recall * table[:, 1]) / total, table[:, 0] / total)


def make_precision(scored: Scored, position: int) -> Score:
    """Return the precision of one class, 0 where no row is called so."""
    return _make_counted(scored, lambda counts: _precision(counts)[..., position])


def make_macro_f1(scored: Scored) -> Score:
    """Return the mean F1 over all classes, 0 for one that neither occurs nor is called."""
    return _make_counted(scored, _macro_f1)


def make_undefined(scored: Scored) -> Score:
    """Return a score that is NaN whatever the weights."""
    nothing = np.full(scored.n_groups, np.nan)
    return Score(lambda weights: np.full(len(weights), np.nan), nothing, nothing)


# ---- means over rows ----------------------------------------------------------------------------


def make_mean(scored: Scored, values: np.ndarray) -> Score:
    """Return the mean of one value a row, (N,)."""
    sums = np.bincount(scored.group, weights=values, minlength=scored.n_groups)
    sizes = np.bincount(scored.group, minlength=scored.n_groups).astype(float)
    mean = sums.sum() / sizes.sum()

    def compute(weights: np.ndarray) -> np.ndarray:
        return (weights @ sums) / (weights @ sizes)

    return Score(compute, (sums - mean * sizes) / sizes.sum(), sums / sizes.sum())


def make_nll(scored: Scored) -> Score:
    """Return the mean negative log-likelihood, in nats."""
    right = scored.probabilities[np.arange(len(scored.labels)), scored.labels]
    return make_mean(scored, -np.log(np.clip(right, 1e-15, 1.0)))


def make_brier(scored: Scored) -> Score:
    """Return the mean squared distance of the probabilities from the label (0 to 2)."""
    errors = scored.probabilities - np.eye(scored.n_classes)[scored.labels]
    return make_mean(scored, (errors**2).sum(axis=1))


def make_mae(scored: Scored) -> Score:
    """Return the mean distance of the called level from the label, in levels."""
    return make_mean(scored, np.abs(scored.probabilities.argmax(axis=1) - scored.labels) * 1.0)


def make_quadratic_kappa(scored: Scored) -> Score:
    """Return Cohen's kappa with quadratic weights."""
    table = _count(scored)
    distance = (scored.probabilities.argmax(axis=1) - scored.labels) ** 2
    apart = np.bincount(scored.group, weights=distance, minlength=scored.n_groups)
    levels = np.arange(scored.n_classes)
    cost = np.subtract.outer(levels, levels) ** 2.0
    flat = np.column_stack([table[:, 1], table[:, 2], apart])

    def measure(sums: np.ndarray) -> np.ndarray:
        true, said = sums[..., : len(levels)], sums[..., len(levels) : -1]
        chance = np.einsum("...i,ij,...j->...", true, cost, said)
        chance = divide(chance, true.sum(axis=-1), 0.0)
        return 1 - divide(sums[..., -1], chance, np.nan)

    return Score(lambda weights: measure(weights @ flat), _differ(measure, flat), jackknifed=True)
