"""Scores that know that classes are levels: how far off, not only whether."""

from collections.abc import Callable

import numpy as np

from tlcnn.training.metrics import Predictions


def compute_quadratic_kappa(predictions: Predictions) -> float:
    """Return Cohen's kappa with quadratic weights of the most probable class.

    1 is agreement, 0 what chance gives with the same frequencies; NaN where all labels and
    predictions are one level.
    """
    n_classes = predictions.probabilities.shape[1]
    seen = np.zeros((n_classes, n_classes))
    np.add.at(seen, (predictions.labels, predictions.predicted), 1)
    chance = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / seen.sum()
    distance = np.subtract.outer(np.arange(n_classes), np.arange(n_classes)) ** 2
    expected = float((distance * chance).sum())
    return 1 - float((distance * seen).sum()) / expected if expected else float("nan")


def compute_mae(predictions: Predictions) -> float:
    """Return the mean distance of the most probable class to the right one, in levels."""
    return float(np.abs(predictions.predicted - predictions.labels).mean())


ORDINAL_METRICS: dict[str, Callable[[Predictions], float]] = {
    "quadratic_kappa": compute_quadratic_kappa,
    "mae": compute_mae,
}
