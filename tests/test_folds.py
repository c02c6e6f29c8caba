"""The corrected resampled t test."""

import numpy as np
import pytest
from scipy import stats

from tlcnn.errors import ConfigError
from tlcnn.statistics.folds import compute_fold_p, estimate_folds

DIFFERENCES = np.array([0.02, 0.035, 0.01, 0.025, 0.03])


def test_variance_is_corrected_by_nadeau_and_bengio():
    """Five folds: s^2 (1/5 + 1/4), 2.25 times the naive variance."""
    found = estimate_folds(DIFFERENCES, n_train=80, n_test=20)
    assert found.se**2 == pytest.approx(DIFFERENCES.var(ddof=1) * (1 / 5 + 1 / 4))
    t = found.value / found.se
    naive = stats.ttest_1samp(DIFFERENCES, 0)
    assert t == pytest.approx(naive.statistic / 1.5)  # sqrt(1 + 5 / 4)
    p = compute_fold_p(DIFFERENCES, n_train=80, n_test=20)
    assert p == pytest.approx(2 * stats.t.sf(t, 4)) and found.df == pytest.approx(4)


def test_ten_times_ten_folds():
    """Bouckaert & Frank 2004: s^2 (1/100 + 1/9) of 100 differences."""
    scores = np.random.default_rng(0).normal(size=100)
    found = estimate_folds(scores, n_train=90, n_test=10)
    assert found.se**2 == pytest.approx(scores.var(ddof=1) * (1 / 100 + 1 / 9))
    assert found.df == pytest.approx(99)


def test_one_fold_and_bad_numbers():
    assert np.isnan(estimate_folds(np.array([0.5]), n_train=8, n_test=2).low)
    with pytest.raises(ConfigError, match="at least 1"):
        estimate_folds(DIFFERENCES, n_train=0, n_test=2)
