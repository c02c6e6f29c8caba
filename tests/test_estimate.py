"""Intervals against scipy, closed forms and textbooks."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statistics_data import list_kinds, make_counted_arm, make_linear_arm, make_score_arm

from tlcnn.statistics.estimate import (
    Parts,
    choose_seeds,
    compute_parts,
    estimate_contrast,
    make_estimate,
)
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.statistics.ratio import compute_fieller, estimate_ratio
from tlcnn.statistics.variance import combine_df, compute_quantile

A = np.array([0.71, 0.73, 0.72, 0.75, 0.70])
B = np.array([0.70, 0.735, 0.71, 0.74, 0.69])
SCALED = ("scores", "replicates", "influence")


def draw_values(n_seeds=4, n_groups=60, seed=0, lesion=None):
    rng = np.random.default_rng(seed)
    lesion = rng.normal(size=n_groups) if lesion is None else lesion
    return lesion + rng.normal(size=(n_seeds, 1)) * 0.2 + rng.normal(size=(n_seeds, n_groups))


# ---- scores alone -------------------------------------------------------------------------------


def test_one_cell_is_a_t_interval():
    found = estimate_contrast([(1.0, make_score_arm("a", A))])
    low, high = stats.t.interval(0.95, 4, A.mean(), stats.sem(A))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.value, found.df, found.n_seeds) == (pytest.approx(A.mean()), pytest.approx(4), 5)
    assert list_kinds(found) == {NoteKind.SEEDS_ALONE}


def test_equal_seeds_are_a_paired_t_test_in_any_order():
    order = [3, 0, 4, 1, 2]
    arms = make_score_arm("a", A), make_score_arm("b", B[order], seeds=order)
    found = estimate_contrast([(1.0, arms[0]), (-1.0, arms[1])])
    expected = stats.ttest_rel(A, B)
    assert found.value / found.se == pytest.approx(expected.statistic)
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval())


def test_other_seeds_are_welch_and_satterthwaite():
    c = np.array([0.68, 0.72, 0.75])
    found = estimate_contrast(
        [(1.0, make_score_arm("a", A)), (-1.0, make_score_arm("c", c, seeds=[7, 8, 9]))]
    )
    expected = stats.ttest_ind(A, c, equal_var=False)
    assert (found.df, found.n_seeds) == (pytest.approx(expected.df), 3)
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval())
    assert Note(NoteKind.UNPAIRED_SEEDS, (5, 3)) in found.notes


def test_mostly_common_seeds_are_paired_by_those():
    a, b = make_score_arm("a", [0.6, *A]), make_score_arm("b", B, seeds=[1, 2, 3, 4, 5])
    found = estimate_contrast([(1.0, a), (-1.0, b)])
    assert found.value == pytest.approx((A - B).mean()) and found.n_seeds == 5
    assert Note(NoteKind.COMMON_SEEDS, (5, 6, 5)) in found.notes
    few = make_score_arm("b", A[:4]), make_score_arm("b", A[:2], seeds=[3, 4])
    assert all(choose_seeds([a, arm])[0] is None for arm in few)


def test_fewer_than_five_seeds_are_not_paired():
    """With 4 seeds Welch's t has up to 6 degrees of freedom, the paired one 3."""
    arms = make_score_arm("a", A[:4]), make_score_arm("b", B[:4])
    found = estimate_contrast([(1.0, arms[0]), (-1.0, arms[1])])
    expected = stats.ttest_ind(A[:4], B[:4], equal_var=False)
    assert found.se == pytest.approx((A - B)[:4].mean() / expected.statistic)
    assert 5 < found.df <= 6 and Note(NoteKind.FEW_SEEDS, (4, 5)) in found.notes
    mean = compute_parts([(0.5, arms[0]), (0.5, arms[1])])
    assert mean.seeds == ((pytest.approx(np.var((A + B)[:4] / 2, ddof=1)), 4),)


def test_two_seeds_have_a_degree_of_freedom_and_a_bounded_interval():
    """The shared variance here has 1e-6 degrees of freedom, and t would be beyond all numbers."""
    parts = Parts(0.3, ((1e-6, 2),), 0.01, 1e-6, bounds=(-1.0, 1.0))
    found = make_estimate(parts)
    assert (found.df, found.low, found.high) == (1.0, pytest.approx(0.3 - 1.2711, abs=1e-3), 1.0)
    arms = [make_score_arm(n, s, bounds=(0.0, 1.0)) for n, s in (("a", [0.1, 0.9]), ("b", A[:2]))]
    assert estimate_contrast([(1.0, arms[0])]).low == 0.0
    assert estimate_contrast([(1.0, arms[0]), (-1.0, arms[1])]).low == -1.0
    halves = estimate_contrast([(0.5, arms[0]), (0.5, arms[1])])
    assert (halves.low, halves.high) == (0.0, 1.0)


def test_three_seeds_need_a_wide_interval():
    assert [round(compute_quantile(df, 0.975), 2) for df in (2, 4, 9)] == [4.30, 2.78, 2.26]


# ---- with the sampling of test images -----------------------------------------------------------


def test_shared_variance_is_the_covariance_between_seeds():
    values = draw_values()
    arm = make_linear_arm("a", values, np.zeros(60, int), n_draws=20_000)
    parts = compute_parts([(1.0, arm)])
    covariance = np.cov(values)[~np.eye(4, dtype=bool)].mean() / 60
    assert parts.test == pytest.approx(covariance, rel=0.05)
    assert parts.seeds == ((pytest.approx(np.var(arm.scores, ddof=1)), 4),)
    found = estimate_contrast([(1.0, arm)])
    assert found.se**2 == pytest.approx(np.var(arm.scores, ddof=1) / 4 + parts.test)
    assert arm.replicates.mean(axis=0).var() > 1.15 * parts.test  # that counts seeds twice


def test_a_paired_difference_loses_what_both_share():
    lesion = np.random.default_rng(5).normal(size=60) * 3
    a, b = (
        make_linear_arm(name, draw_values(seed=i, lesion=lesion), np.zeros(60, int))
        for i, name in enumerate("ab")
    )
    alone, paired = compute_parts([(1.0, a)]), compute_parts([(1.0, a), (-1.0, b)])
    assert paired.test < alone.test / 10
    rows = a.replicates - b.replicates
    between = np.cov(rows)[~np.eye(4, dtype=bool)].mean()
    assert paired.test == pytest.approx(max(between, 0), abs=1e-12)


def test_unpaired_arms_of_one_sample_share_their_test_images():
    lesion = np.random.default_rng(5).normal(size=60) * 3
    a = make_linear_arm("a", draw_values(4, lesion=lesion), np.zeros(60, int))
    values = draw_values(2, seed=1, lesion=lesion)
    b = make_linear_arm("b", values, np.zeros(60, int), seeds=[8, 9])
    parts = compute_parts([(1.0, a), (-1.0, b)])
    within = np.cov(a.replicates)[~np.eye(4, dtype=bool)].mean() + np.cov(b.replicates)[0, 1]
    across = np.cov(np.concatenate([a.replicates, b.replicates]))[:4, 4:].mean()
    assert parts.test == pytest.approx(max(within - 2 * across, 0), abs=1e-12)
    assert [n for _, n in parts.seeds] == [4, 2]


def test_degrees_of_freedom_come_from_the_strata_that_matter():
    """All of the variance in a class of 5 groups: 4 degrees; in two alike of 30: 58."""
    values, strata = np.zeros((3, 35)), np.repeat([0, 1], [30, 5])
    values[:, 30:] = [0, 1, 1, 0, 1]
    assert compute_parts([(1.0, make_linear_arm("a", values, strata))]).test_df == pytest.approx(4)
    alike = np.tile([0.0, 1.0], 30)
    arm = make_linear_arm("a", [alike, alike], np.repeat([0, 1], 30))
    assert compute_parts([(1.0, arm)]).test_df == pytest.approx(58)


def test_different_samples_are_independent():
    a = make_linear_arm("a", draw_values(), np.zeros(60, int), sample="1")
    b = make_linear_arm("b", draw_values(seed=1), np.zeros(60, int), sample="2")
    parts = compute_parts([(1.0, a), (-1.0, b)])
    alone = [compute_parts([(1.0, arm)]) for arm in (a, b)]
    assert parts.variance == pytest.approx(sum(one.variance for one in alone))
    assert NoteKind.OTHER_IMAGES in list_kinds(parts)


def test_an_arm_minus_itself_is_nothing():
    arm = make_linear_arm("a", draw_values(), np.zeros(60, int))
    found = estimate_contrast([(1.0, arm), (-1.0, arm)])
    assert found.value == 0 and np.isnan([found.se, found.low, found.high]).all()
    assert NoteKind.ALL_EQUAL in list_kinds(found)


def test_one_seed_has_no_interval():
    arm = make_linear_arm("a", draw_values(1), np.zeros(60, int))
    found = estimate_contrast([(1.0, arm)])
    assert np.isnan([found.se, found.df, found.low, found.high]).all()
    assert list_kinds(found) == {NoteKind.ONE_SEED}


def test_undefined_scores_have_no_interval():
    found = estimate_contrast([(1.0, make_score_arm("a", [0.5, np.nan, 0.4]))])
    assert np.isnan(found.low) and NoteKind.UNDEFINED in list_kinds(found)


# ---- small and saturated classes ----------------------------------------------------------------


def test_perfect_classes_have_the_variance_of_what_was_not_seen():
    """Two classes of n lesions, all right: 1 / ((n + 1) (n + 2)) each, over 2 classes squared."""
    arm = make_counted_arm("a", np.ones((3, 60)), np.repeat([0, 1], 30))
    for terms in (
        [(1.0, arm)],
        [(1.0, arm), (-1.0, replace(arm))],
        [(0.5, arm), (0.5, replace(arm))],
    ):
        parts = compute_parts(terms)
        assert (parts.variance, parts.df) == (pytest.approx(2 / 4 / (31 * 32)), np.inf)


def test_a_class_with_enough_errors_keeps_its_own_variance():
    right = np.tile(np.repeat([1.0, 0.0], 10), 2)
    arm = make_counted_arm("a", [right] * 3, np.repeat([0, 1], 20))
    parts = compute_parts([(1.0, arm)])
    assert parts.test == pytest.approx(2 / 4 * 0.25 / 19, rel=0.1)
    assert parts.test_df == pytest.approx(38, rel=0.01)


def test_a_lone_group_has_a_variance_and_no_verdict():
    right = np.ones((3, 31))
    right[:, :8] = 0
    arm = make_counted_arm("a", right, np.repeat([0, 1], [30, 1]))
    found = estimate_contrast([(1.0, arm)])
    assert found.se**2 == pytest.approx((8 / 30 * 22 / 30 / 29 + 1 / 6) / 4, rel=0.02)
    assert Note(NoteKind.FEW_GROUPS, (1, 5)) in found.notes and not found.is_decidable
    five = make_counted_arm("a", right, np.repeat([0, 1], [26, 5]))
    assert five.notes == ()


def test_a_small_class_does_not_matter_to_a_metric_that_counts_images_alike():
    right = np.ones((3, 31))
    arm = make_counted_arm("a", right, np.repeat([0, 1], [30, 1]), metric="accuracy")
    assert arm.notes == ()


# ---- which test images --------------------------------------------------------------------------


def contrast(a, b):
    return compute_parts([(1.0, a), (-1.0, b)])


def make_bare(scores, **more):
    return make_score_arm("bare", scores, notes=(Note(NoteKind.NO_PREDICTIONS),), **more)


def test_scores_alone_are_paired_only_on_images_of_one_name():
    paired = np.var(A - B, ddof=1) / 5
    for name in ("", "split 0"):
        found = contrast(make_bare(A, images=name), make_bare(B, images=name))
        assert found.variance == pytest.approx(paired)
        assert list_kinds(found) == {NoteKind.NO_PREDICTIONS}
    alone = (np.var(A, ddof=1) + np.var(B, ddof=1)) / 5
    other = contrast(make_bare(A, images="split 0"), make_bare(B, images="split 1"))
    assert other.variance == pytest.approx(alone)
    assert NoteKind.OTHER_IMAGES in list_kinds(other)
    unnamed = contrast(make_bare(A, images="split 0"), make_bare(B))
    assert unnamed.variance == pytest.approx(alone)
    assert NoteKind.MAYBE_OTHER_IMAGES in list_kinds(unnamed)


def test_one_cell_without_predictions_is_paired_by_seed():
    whole = make_linear_arm("a", draw_values(5), np.zeros(60, int))
    bare = make_bare(A, images="split 0")
    found = contrast(replace(whole, images="split 0"), bare)
    assert found.variance == pytest.approx(np.var(whole.scores - A, ddof=1) / 5)
    assert list_kinds(found) == {NoteKind.NO_PREDICTIONS, NoteKind.PARTLY_KNOWN}
    assert found.test == 0
    for images, note in (
        ("split 1", NoteKind.OTHER_IMAGES),
        ("", NoteKind.MAYBE_OTHER_IMAGES),
    ):
        apart = contrast(replace(whole, images=images), bare)
        assert len(apart.seeds) == 2 and note in list_kinds(apart)


def test_predictions_on_the_same_images_are_paired_whatever_the_record_says():
    arms = [make_linear_arm("a", draw_values(5, seed=i), np.zeros(60, int)) for i in (0, 1)]
    found = contrast(replace(arms[0], images="x"), replace(arms[1], images="y"))
    assert found == contrast(*arms) and len(found.seeds) == 1


FOLDS = tuple((0, number) for number in range(5))


def fold(scores, places):
    spread = np.resize([-0.1, 0.1], len(places))
    more = {"folds": places, "fold_scores": scores[:, None] + spread, "fold_ratio": 0.25}
    return make_bare(scores, **more)


def test_folds_are_not_paired_with_seeds():
    a, b = fold(A, FOLDS), fold(B, FOLDS)
    assert len(contrast(a, b).seeds) == 1
    for other in (make_bare(B), fold(B, (*FOLDS, (1, 0)))):
        found = contrast(a, other)
        assert len(found.seeds) == 2 and NoteKind.OTHER_IMAGES in list_kinds(found)


def test_repeated_folds_have_the_corrected_interval():
    """Ten folds, two repeats of five: s2 (1/10 + 1/4) on 9 df, and what seeds add."""
    places = tuple((repeat, number) for repeat in (0, 1) for number in range(5))
    means = np.array([0.1, 0.2, 0.3, 0.2, 0.2, 0.15, 0.25, 0.2, 0.1, 0.3])
    spread = np.array([-0.01, 0.01])
    a = make_bare(means.mean() + spread, folds=places, fold_ratio=0.25)
    found = estimate_contrast([(1.0, replace(a, fold_scores=means + spread[:, None]))])
    variance = np.var(means, ddof=1) * (1 / 10 + 1 / 4) + np.var(spread, ddof=1) / 2
    assert found.value == pytest.approx(0.2) and found.n_seeds == 2 and 8 < found.df <= 9
    assert found.high == pytest.approx(0.2 + compute_quantile(found.df, 0.975) * variance**0.5)
    lone = make_bare(means.mean(keepdims=True), folds=places, fold_ratio=0.25)
    found = estimate_contrast([(1.0, replace(lone, fold_scores=means[None]))])
    variance = np.var(means, ddof=1) * (1 / 10 + 1 / 4)
    assert (found.df, found.se) == (9, pytest.approx(variance**0.5))


def test_folds_have_the_spread_of_a_choice_and_the_bounds_of_the_metric():
    """Where a lone seed leaves no part of seeds, the part of folds has the spread."""
    arm = replace(fold(np.array([0.1, 0.3]), FOLDS), bounds=(0.0, 1.0))
    plain, chosen = (compute_parts([(1.0, each)]) for each in (arm, replace(arm, spread=1.2)))
    assert chosen.seeds[0][0] == pytest.approx(1.2 * plain.seeds[0][0])
    assert chosen.test == plain.test and chosen.most_df == 4
    assert (estimate_contrast([(1.0, arm)]).low, chosen.bounds) == (0.0, (0.0, 1.0))
    lone = replace(fold(np.array([0.2]), FOLDS), bounds=(0.0, 1.0))
    plain, chosen = (compute_parts([(1.0, each)]) for each in (lone, replace(lone, spread=1.2)))
    assert chosen.variance == pytest.approx(1.2 * plain.variance) and chosen.df == 4
    few = compute_parts([(1.0, fold(np.array([0.2]), FOLDS[:2]))])
    assert few.df == 1.0


def test_few_seeds_of_folds_are_not_paired_but_their_folds_are():
    a, b = fold(A[:2], FOLDS), fold(B[:2], FOLDS)
    found = contrast(a, b)
    assert len(found.seeds) == 2 and NoteKind.FEW_SEEDS in list_kinds(found)
    assert found.test == pytest.approx(0.0)  # the folds of both vary alike


# ---- degrees of freedom -------------------------------------------------------------------------


def test_parts_of_rounding_size_do_not_count():
    assert combine_df([(1.0, 4.0), (1e-30, 0.0)]) == pytest.approx(4)
    assert combine_df([(1.0, 4.0), (1e-30, 1e-9)]) == pytest.approx(4)
    assert combine_df([(1e-30, 4.0)]) == pytest.approx(4)
    assert combine_df([(1e-200, 4.0), (1e-200, 4.0)]) == pytest.approx(8)  # squares underflow
    assert combine_df([(1.0, 0.0)]) == 1.0
    assert combine_df([(0.0, 0.0)]) == combine_df([]) == np.inf
    parts = Parts(0.1, ((0.01, 3),), 1e-30, 0.0)
    assert parts.df == pytest.approx(2)


@pytest.mark.parametrize("seed", [7, 8, 9, 10])
def test_shares_of_one_arm_leave_no_test_variance(seed):
    """Cancelling terms leave rounding, of seed 10 without degrees of freedom."""
    arm = make_linear_arm("a", draw_values(seed=seed), np.zeros(60, int), n_draws=100)
    shares = [
        replace(arm, **{name: share * getattr(arm, name) for name in SCALED})
        for share in (0.2, 0.3, 0.5)
    ]
    found = compute_parts([(1.0, arm), *((-1.0, one) for one in shares)])
    assert (found.test, found.test_df) == (0.0, np.inf)


# ---- fixed networks -----------------------------------------------------------------------------


def test_the_interval_of_fixed_networks_is_over_test_groups_alone():
    """A paired t interval over groups, whether there is one run of each network or several."""
    values = draw_values(5)
    a, b = (
        replace(make_linear_arm(name, rows, np.zeros(60, int), n_draws=20_000), is_fixed=True)
        for name, rows in (("a", values[:1]), ("b", values[1:2]))
    )
    difference = values[0] - values[1]
    found = estimate_contrast([(1.0, a), (-1.0, b)])
    expected = stats.ttest_1samp(difference, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.01 * np.ptp(expected))
    assert found.df == pytest.approx(59)
    several = make_linear_arm("c", values, np.zeros(60, int), n_draws=20_000)
    found = estimate_contrast([(1.0, replace(several, is_fixed=True))])
    assert found.se == pytest.approx(stats.sem(values.mean(axis=0)), rel=0.02)
    assert found.df == pytest.approx(59)


def test_a_ratio_of_equal_fixed_networks_is_one_whatever_the_test_groups():
    a, b, r = (
        replace(
            make_linear_arm(n, draw_values(seed)[:1] + shift, np.zeros(60, int)), is_fixed=True
        )
        for n, seed, shift in (("a", 1, 2.0), ("b", 1, 2.0), ("r", 2, 0.0))
    )
    found = estimate_ratio([(1.0, a), (-1.0, r)], [(1.0, b), (-1.0, r)])
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1), abs=1e-6)


# ---- ratios -------------------------------------------------------------------------------------


def test_fieller_is_the_textbook_formula():
    """Motulsky, Intuitive Biostatistics: Q / (1 - g) ± t SE, for independent parts."""
    top, bottom, se_top, se_bottom, t = 10.0, 4.0, 1.2, 0.6, 2.1
    g = (t * se_bottom / bottom) ** 2
    ratio = top / bottom / (1 - g)
    se = ratio * np.sqrt((1 - g) * (se_top / top) ** 2 + (se_bottom / bottom) ** 2)
    found = compute_fieller(top, bottom, se_top**2, se_bottom**2, 0.0, t)
    assert found == pytest.approx((ratio - t * se, ratio + t * se))


@pytest.mark.parametrize("t", [1e90, 1e200, np.inf])
def test_fieller_does_not_overflow(t):
    assert compute_fieller(0.1, 0.2, 1e-4, 1e-4, 5e-5, t) == (-np.inf, np.inf)
    assert compute_fieller(0.1, 0.2, 0.0, 0.0, 0.0, 12.7) == pytest.approx((0.5, 0.5))


def test_fieller_of_multiples_of_each_other_is_their_factor():
    """Rounding makes the width of some of these the root of a number below 0."""
    rng = np.random.default_rng(0)
    for top, variance, factor in zip(*rng.uniform(0.1, 1, (3, 50)), strict=True):
        v = 1e-3 * variance
        found = compute_fieller(top, factor * top, v, factor**2 * v, factor * v, 2.0)
        assert found == pytest.approx((1 / factor, 1 / factor), abs=1e-6)


def test_fieller_holds_what_a_t_test_does_not_reject():
    rng = np.random.default_rng(3)
    x, y = rng.normal(2, 0.3, 6), rng.normal(3, 0.3, 6)
    found = estimate_ratio([(1.0, make_score_arm("x", x))], [(1.0, make_score_arm("y", y))])
    for bound in (found.low, found.high):
        assert stats.ttest_1samp(x - bound * y, 0).pvalue == pytest.approx(0.05, abs=1e-6)
    assert found.value == pytest.approx(x.mean() / y.mean())
    assert found.low < found.value < found.high


def test_a_denominator_that_may_be_zero_is_not_identifiable():
    x, y = make_score_arm("x", [0.1, 0.2, 0.15]), make_score_arm("y", [-0.1, 0.1, 0.02])
    found = estimate_ratio([(1.0, x)], [(1.0, y)])
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert NoteKind.UNBOUNDED_RATIO in list_kinds(found)
    nothing = make_score_arm("z", [0.0, 0.0, 0.0])
    assert NoteKind.ZERO_DENOMINATOR in list_kinds(estimate_ratio([(1.0, x)], [(1.0, nothing)]))


def test_a_ratio_of_contrasts_with_a_common_arm():
    a, b, r = (
        make_linear_arm(n, draw_values(seed=i) + shift, np.zeros(60, int))
        for i, (n, shift) in enumerate((("a", 2.0), ("b", 2.4), ("r", 0.0)))
    )
    found = estimate_ratio([(1.0, a), (-1.0, r)], [(1.0, b), (-1.0, r)])
    assert found.value == pytest.approx((a.mean - r.mean) / (b.mean - r.mean))
    assert found.low < found.value < found.high
    one = make_linear_arm("a", draw_values(1), np.zeros(60, int))
    assert np.isnan(estimate_ratio([(1.0, one)], [(1.0, one)]).low)
