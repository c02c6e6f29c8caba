"""Means and differences over folds: the corrected resampled t test."""

import numpy as np
import pytest
from scipy import stats
from statistics_data import make_score_arm

from tlcnn.statistics.comparison import compare_arms
from tlcnn.statistics.estimate import estimate_contrast

DIFFERENCES = np.array([0.02, 0.035, 0.01, 0.025, 0.03])


def test_variance_is_corrected_by_nadeau_and_bengio():
    """Five folds: s^2 (1/5 + 1/4), 2.25 times the naive variance."""
    found = estimate_contrast([(1.0, make_score_arm("a", DIFFERENCES, fold_ratio=20 / 80))])
    assert found.se**2 == pytest.approx(DIFFERENCES.var(ddof=1) * (1 / 5 + 1 / 4))
    t = found.value / found.se
    naive = stats.ttest_1samp(DIFFERENCES, 0)
    assert t == pytest.approx(naive.statistic / 1.5)  # sqrt(1 + 5 / 4)
    assert found.df == pytest.approx(4)


def test_arms_are_compared_fold_by_fold():
    base = np.array([0.5, 0.7, 0.6, 0.55, 0.65])
    arms = [
        make_score_arm(n, s, fold_ratio=0.25) for n, s in (("a", base + DIFFERENCES), ("b", base))
    ]
    found = compare_arms(*arms)
    t = stats.ttest_1samp(DIFFERENCES, 0).statistic / 1.5
    assert found.p_seed == found.p == pytest.approx(2 * stats.t.sf(t, 4))
    assert found.delta.value == pytest.approx(DIFFERENCES.mean())


def test_a_fold_that_one_arm_lacks_moves_no_difference():
    """Four common folds of five: the difference is of those, whatever the fifth was."""
    base = np.array([0.5, 0.7, 0.6, 0.55, 0.9])
    whole = make_score_arm("a", base, fold_ratio=0.25)
    part = make_score_arm("b", base[:4] - DIFFERENCES[:4], fold_ratio=0.25)
    found = compare_arms(whole, part)
    assert found.delta.value == pytest.approx(DIFFERENCES[:4].mean())
    assert found.delta.se**2 == pytest.approx(DIFFERENCES[:4].var(ddof=1) * (1 / 4 + 1 / 4))


def test_ten_times_ten_folds():
    """Bouckaert & Frank 2004: s^2 (1/100 + 1/9) of 100 differences."""
    scores = np.random.default_rng(0).normal(size=100)
    found = estimate_contrast([(1.0, make_score_arm("a", scores, fold_ratio=1 / 9))])
    assert found.se**2 == pytest.approx(scores.var(ddof=1) * (1 / 100 + 1 / 9))
    assert found.df == pytest.approx(99)


def test_one_fold_has_no_interval():
    assert np.isnan(estimate_contrast([(1.0, make_score_arm("a", [0.5], fold_ratio=0.25))]).low)
