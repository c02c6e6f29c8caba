"""Tests over folds or repeated splits, whose training sets overlap."""

import numpy as np

from tlcnn.errors import ConfigError
from tlcnn.statistics.arm import Estimate
from tlcnn.statistics.comparison import compute_t_p
from tlcnn.statistics.estimate import make_estimate, make_unknown
from tlcnn.statistics.variance import Parts


def estimate_folds(
    scores: np.ndarray, *, n_train: float, n_test: float, level: float = 0.95
) -> Estimate:
    """Return the interval of a mean over J folds, or of a paired difference over them.

    Folds share training images, so their scores are correlated by about n_test / (n_train +
    n_test) and s^2 / J is too small. The corrected variance is s^2 (1 / J + n_test / n_train),
    with J - 1 degrees of freedom (Nadeau & Bengio 2003, eq. 18).

    Args:
        scores: (J,) one a fold; for two arms the differences, fold by fold.
        n_train, n_test: training and test groups of a fold.

    Raises:
        ConfigError: no training or no test groups.
    """
    if n_train < 1 or n_test < 1:
        raise ConfigError(f"n_train={n_train}, n_test={n_test}: both must be at least 1")
    scores = np.asarray(scores, dtype=float)
    n, mean = len(scores), float(np.mean(scores))
    if n < 2:
        return make_unknown(mean, n, "one fold: no interval is possible")
    corrected = float(np.var(scores, ddof=1)) * (1 / n + n_test / n_train)
    note = "folds share training images: corrected by Nadeau & Bengio"
    return make_estimate(Parts(mean, ((corrected * n, n),), 0.0, float("inf"), note), level)


def compute_fold_p(differences: np.ndarray, *, n_train: float, n_test: float) -> float:
    """Return the two-sided p of the corrected resampled t test (Nadeau & Bengio 2003)."""
    return compute_t_p(estimate_folds(differences, n_train=n_train, n_test=n_test))
