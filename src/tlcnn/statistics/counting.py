"""Metrics that are means over rows, or made of counts of right and wrong predictions."""

from dataclasses import replace

import numpy as np

from tlcnn.statistics.predictions import N_PREDICTED, N_RIGHT, N_TRUE, Predictions
from tlcnn.statistics.score import (
    Score,
    compute_mean_of_defined,
    divide,
    make_jackknifed,
    make_mean,
    make_undefined,
)

# ---- means over rows ----------------------------------------------------------------------------


def make_accuracy(predictions: Predictions) -> Score:
    """Return the share of rows whose most probable class is the label."""
    shares = np.bincount(predictions.labels, minlength=predictions.n_classes)
    right = make_mean(predictions, predictions.is_right.astype(float))
    return replace(right, reach=shares / shares.sum(), is_counted=True)


def make_nll(predictions: Predictions) -> Score:
    """Return the mean negative log-likelihood, in nats, probabilities clipped at 1e-15."""
    rows = np.arange(len(predictions.labels))
    likelihood = predictions.probabilities[rows, predictions.labels]
    return make_mean(predictions, -np.log(np.clip(likelihood, 1e-15, 1.0)))


def make_brier(predictions: Predictions) -> Score:
    """Return the mean squared distance of the probabilities from the one-hot label (0 to 2)."""
    errors = predictions.probabilities - np.eye(predictions.n_classes)[predictions.labels]
    return make_mean(predictions, (errors**2).sum(axis=1))


def make_mae(predictions: Predictions) -> Score:
    """Return the mean distance of the most probable class from the label, in levels."""
    return make_mean(predictions, np.abs(predictions.predicted - predictions.labels).astype(float))


# ---- counts -------------------------------------------------------------------------------------


def make_balanced_accuracy(predictions: Predictions) -> Score:
    """Return the mean recall over the classes that occur among the labels.

    A class without rows has no recall. It is left out, so that a tiny validation set can still
    choose an epoch; `n_absent_classes` counts such classes, and numbers with absent classes are
    not comparable with numbers without.
    """
    table = predictions.counts[:, : N_TRUE + 1]
    flat = table.reshape(len(table), -1)
    totals = table[:, N_TRUE].sum(axis=0)
    n_present = np.count_nonzero(totals)

    def compute(weights: np.ndarray) -> np.ndarray:
        sums = (weights @ flat).reshape(len(weights), *table.shape[1:])
        return compute_mean_of_defined(divide(sums[:, N_RIGHT], sums[:, N_TRUE], np.nan))

    recalls = divide(table[:, N_RIGHT].sum(axis=0), totals, 0.0)
    hits = divide(table[:, N_RIGHT], totals[None], 0.0)
    expected = recalls * divide(table[:, N_TRUE], totals[None], 0.0)
    influence = (hits - expected).sum(axis=1) / n_present
    reach = (totals > 0) / n_present
    sums = hits.sum(axis=1) / n_present
    return Score(compute, influence, sums, reach=reach, is_counted=True)


def make_recall(predictions: Predictions, position: int) -> Score:
    """Return the recall of one class; undefined where no row has this label."""
    n_right, n_true = predictions.counts[:, : N_TRUE + 1, position].T
    total = n_true.sum()
    if total == 0:
        return make_undefined(predictions)

    def compute(weights: np.ndarray) -> np.ndarray:
        return divide(weights @ n_right, weights @ n_true, np.nan)

    recall = n_right.sum() / total
    influence = (n_right - recall * n_true) / total
    reach = np.eye(predictions.n_classes)[position]
    return Score(compute, influence, n_right / total, reach=reach, is_counted=True)


def make_precision(predictions: Predictions, position: int) -> Score:
    """Return the precision of one class, 0 where it is never predicted."""
    return make_jackknifed(
        predictions.counts[:, :, position],
        lambda sums: divide(sums[:, N_RIGHT], sums[:, N_PREDICTED], 0.0),
        reach=np.eye(predictions.n_classes)[position],
    )


def make_macro_f1(predictions: Predictions) -> Score:
    """Return the mean F1 over all K classes, 0 for one that is neither a label nor predicted."""
    reach = np.full(predictions.n_classes, 1 / predictions.n_classes)
    return make_jackknifed(predictions.counts, _compute_mean_f1, reach=reach)


def make_f1(predictions: Predictions, position: int) -> Score:
    """Return the F1 of one class, 0 where it is neither a label nor predicted."""
    reach = np.eye(predictions.n_classes)[position]
    return make_jackknifed(predictions.counts[:, :, [position]], _compute_mean_f1, reach=reach)


def _compute_mean_f1(sums: np.ndarray) -> np.ndarray:
    both = sums[:, N_TRUE] + sums[:, N_PREDICTED]
    return divide(2 * sums[:, N_RIGHT], both, 0.0).mean(axis=-1)


def make_quadratic_kappa(predictions: Predictions) -> Score:
    """Return Cohen's kappa with quadratic weights (Cohen 1968).

    1 is agreement and 0 what chance gives with the same frequencies; NaN where all labels and
    predictions are one level.
    """
    distance = (predictions.predicted - predictions.labels) ** 2
    disagreement = np.bincount(predictions.group, weights=distance, minlength=predictions.n_groups)
    n_classes = predictions.n_classes
    levels = np.arange(n_classes)
    cost = np.subtract.outer(levels, levels) ** 2.0
    counts = predictions.counts
    table = np.column_stack([counts[:, N_TRUE], counts[:, N_PREDICTED], disagreement])

    def measure(sums: np.ndarray) -> np.ndarray:
        n_true, n_predicted = sums[:, :n_classes], sums[:, n_classes:-1]
        chance = np.einsum("bi,ij,bj->b", n_true, cost, n_predicted)
        chance = divide(chance, n_true.sum(axis=-1), 0.0)
        return 1 - divide(sums[:, -1], chance, np.nan)

    return make_jackknifed(table, measure)


def make_n_absent_classes(predictions: Predictions) -> Score:
    """Return how many of the K classes do not occur among the labels; it has no influence."""
    n_true = predictions.counts[:, N_TRUE]

    def compute(weights: np.ndarray) -> np.ndarray:
        return np.count_nonzero(weights @ n_true == 0, axis=1).astype(float)

    return Score(compute, np.full(predictions.n_groups, np.nan))
