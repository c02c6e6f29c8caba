"""Seeds still needed: within a family, beyond those there are, and of a layer's verdict."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statistics_data import make_score_arm

from tlcnn.statistics.comparison import adjust_holm, compare_arms
from tlcnn.statistics.settle import (
    compute_difference_power,
    compute_seeds_needed,
    compute_seeds_needed_one_sided,
    find_least,
    replace_seeds,
)
from tlcnn.statistics.variance import Parts

MARGIN = 0.01


def make_parts(value, sd=0.002, n=3, test=0.0, test_df=float("inf")):
    return Parts(value, ((sd**2, n),), test, test_df)


def compare(differences, family="F", **more):
    zeros = make_score_arm("b", np.zeros(len(differences)))
    return compare_arms(make_score_arm("a", differences, **more), zeros, family=family)


# ---- within a family ----------------------------------------------------------------------------


def test_a_family_takes_the_seeds_of_its_first_step():
    noisy = compare([0.05, -0.01, 0.03, 0.02])
    family = adjust_holm([noisy] * 5)
    assert {one.verdict for one in family} == {"inconclusive"}
    needed = family[0].seeds_needed
    assert needed > noisy.seeds_needed
    enough = replace_seeds(noisy.parts, int(needed))
    fewer = replace_seeds(noisy.parts, int(needed) - 1)
    assert compute_difference_power(enough, 0.01) >= 0.8 > compute_difference_power(fewer, 0.01)


def test_those_without_p_do_not_count_in_a_family():
    noisy, lone = compare([0.05, -0.01, 0.03, 0.02]), compare([0.05])
    other = replace(noisy, family="G")
    found = adjust_holm([noisy, lone, lone, other])
    assert found[0].seeds_needed == noisy.seeds_needed == found[3].seeds_needed
    assert np.isnan(found[1].seeds_needed)


@pytest.mark.parametrize("n_compared", [1, 4, 20])
def test_what_is_inconclusive_needs_more_seeds_than_there_are(n_compared):
    rng = np.random.default_rng(0)
    n_judged = 0
    for _ in range(40):
        found = adjust_holm([compare(rng.normal(0.02, 0.015, 4))] * n_compared)[0]
        if found.verdict == "inconclusive":
            n_judged += 1
            assert found.seeds_needed > 4
    assert n_judged > 5


def test_an_unlucky_p_asks_for_one_seed_more():
    """80 % power is there, but Holm's p is above 5 %: the largest of its family counts for all."""
    sure = compare([0.020, 0.022, 0.018, 0.021, 0.019])
    unlucky = adjust_holm([replace(sure, p=0.06)])[0]
    assert compute_seeds_needed(sure.parts, margin=MARGIN) < 5
    assert (unlucky.verdict, unlucky.seeds_needed) == ("inconclusive", 6)


def test_a_settled_comparison_may_need_fewer():
    sure = adjust_holm([compare([0.020, 0.022, 0.018, 0.021, 0.019])])[0]
    assert (sure.verdict, sure.seeds_needed) == ("better", 2)


def test_equivalence_is_not_adjusted():
    parts = make_parts(0.0, sd=0.01)
    alone = compute_seeds_needed(parts, margin=MARGIN)
    assert compute_seeds_needed(parts, margin=MARGIN, n_compared=20) == alone


def test_more_seeds_make_no_more_folds():
    folds = {"folds": ((0, 0), (0, 1)), "fold_scores": np.ones((3, 2)), "fold_ratio": 0.25}
    assert np.isnan(adjust_holm([compare([0.05, -0.01, 0.03], **folds)])[0].seeds_needed)


def test_rounding_is_no_difference():
    """A constant 1e-17 between two cells, from summaries here and predictions there."""
    scores = np.array([0.1, 0.1, 0.1])
    found = compare_arms(make_score_arm("a", scores + 2e-17), make_score_arm("b", scores))
    assert found.verdict == "equivalent"
    moved = compare([1e-16, 1e-16, 1e-16])
    assert (moved.p, moved.verdict) == (1.0, "equivalent")


def test_the_least_is_found_from_any_start():
    for least in (2, 5, 9, 40):
        for enough in (2, 7, 33, 6000):
            assert find_least(lambda n, m=enough: n >= m, least) == max(least, enough)
    assert find_least(lambda n: False, 5) == np.inf


# ---- the verdict on a layer ---------------------------------------------------------------------


def judge(values, n_compared=1):
    """general, specific or undetermined, of (R, n) gaps, as `compute_layer_scores` judges one."""
    n = values.shape[1]
    mean, se = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(n)
    t = stats.t.ppf(1 - min(0.025, 0.05 / n_compared), n - 1)
    return mean + t * se < MARGIN, (mean - t * se > 0) & (mean > MARGIN)


@pytest.mark.parametrize("value", [0.008, 0.0, -0.02, 0.013, 0.0105, 0.03])
@pytest.mark.parametrize("n_compared", [1, 8])
def test_so_many_seeds_settle_a_layer_four_times_in_five(value, n_compared):
    """By drawing gaps of that many seeds, and of 4 fifths of them."""
    parts = make_parts(value, sd=0.006)
    needed = compute_seeds_needed_one_sided(parts, margin=MARGIN, n_compared=n_compared)
    draws = np.random.default_rng(0)

    def measure(n):
        drawn = draws.normal(value, 0.006, size=(4000, n))
        return max(one.mean() for one in judge(drawn, n_compared))

    assert measure(int(needed)) > 0.78
    if needed > 6:
        assert measure(int(0.8 * needed)) < 0.8


def test_a_gap_just_below_the_margin_takes_more_than_one_that_is_not_zero():
    """0.8 points are found different from 0 by 3 seeds; general they are by 10 or so."""
    parts = make_parts(0.008)
    assert compute_seeds_needed(parts, margin=MARGIN) == 3
    assert 8 <= compute_seeds_needed_one_sided(parts, margin=MARGIN) <= 14


def test_a_gap_at_the_margin_is_settled_by_no_number_of_seeds():
    assert compute_seeds_needed_one_sided(make_parts(MARGIN), margin=MARGIN) == np.inf
    assert compute_seeds_needed_one_sided(make_parts(MARGIN, sd=0.0), margin=MARGIN) == np.inf


def test_too_few_test_groups_settle_no_layer():
    parts = make_parts(0.005, test=0.01**2, test_df=50.0)
    assert compute_seeds_needed_one_sided(parts, margin=MARGIN) == np.inf
    small = replace(parts, test=0.001**2)
    assert 3 < compute_seeds_needed_one_sided(small, margin=MARGIN) < 10


def test_a_layer_without_variance_is_unknown_and_one_that_is_sure_asks_for_one_more():
    assert np.isnan(compute_seeds_needed_one_sided(make_parts(0.0, sd=np.nan), margin=MARGIN))
    assert np.isnan(compute_seeds_needed_one_sided(make_parts(np.nan), margin=MARGIN))
    for value in (0.05, -0.05):
        assert compute_seeds_needed_one_sided(make_parts(value, sd=1e-6), margin=MARGIN) == 4
