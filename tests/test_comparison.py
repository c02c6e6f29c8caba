"""p values by hand and against packages; families, verdicts, seeds still needed."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statistics_data import (
    CLASSES,
    draw_scored,
    make_counted_arm,
    make_linear_arm,
    make_score_arm,
)

from tlcnn.errors import ConfigError
from tlcnn.statistics.arm import Sample
from tlcnn.statistics.comparison import (
    adjust_holm,
    compare_arms,
    compute_flip_p,
    compute_group_differences,
    compute_holm,
)
from tlcnn.statistics.metrics import make_score
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.statistics.predictions import Predictions
from tlcnn.statistics.resample import make_arm

STRATA = np.zeros(30, int)


def make_pair(delta=0.0, n_seeds=4, noise=1.0, seed=0, n_groups=30):
    rng = np.random.default_rng(seed)
    lesion = rng.normal(size=n_groups)
    values = lesion + noise * rng.normal(size=(2, n_seeds, n_groups))
    strata = np.zeros(n_groups, int)
    return make_linear_arm("a", values[0] + delta, strata), make_linear_arm("b", values[1], strata)


# ---- sign flips ---------------------------------------------------------------------------------


def test_flips_by_hand():
    """Signs of (3, 1, 1): |sum| is 5, 3, 3, 1 and their negatives."""
    assert compute_flip_p(np.array([3.0, 1.0, 1.0])) == 2 / 8
    assert compute_flip_p(np.array([3.0, -1.0, 1.0])) == 6 / 8
    assert compute_flip_p(np.array([3.0, -1.0, -1.0, 0.0])) == 1.0
    assert compute_flip_p(np.zeros(5)) == 1.0


def test_exact_flips_are_the_sign_test_for_equal_steps():
    differences = np.array([1.0] * 9 + [-1.0] * 2) / 7
    assert compute_flip_p(differences) == pytest.approx(stats.binomtest(2, 11, 0.5).pvalue)


def test_drawn_flips_count_the_observed_one():
    many = np.ones(100)
    assert compute_flip_p(many, n_permutations=99) == 1 / 100  # never 0: Phipson & Smyth 2010
    assert compute_flip_p(many, n_permutations=99) == compute_flip_p(many, n_permutations=99)


def test_drawn_flips_agree_with_the_exact_ones():
    values = np.random.default_rng(1).normal(0.4, 1, 13)
    exact = compute_flip_p(values, n_permutations=2**13)
    assert compute_flip_p(values, n_permutations=8000) == pytest.approx(exact, abs=0.02)


def test_a_flip_is_a_swap_of_predictions():
    """Of balanced accuracy: swap two arms' predictions of a lesion, score anew, and compare."""
    one, two = draw_scored(seed=1, mixed=False), draw_scored(seed=1, mixed=False)
    rng = np.random.default_rng(0)
    two = Predictions(two.probabilities[rng.permutation(len(two.labels))], *_rest(two))
    sample = Sample("1", np.arange(40), np.arange(40) % 4)
    arms = [_score("balanced_accuracy", [run], sample) for run in (one, two)]
    differences = compute_group_differences(*arms)
    for group in range(40):
        mine = (one.group == group)[:, None]
        swapped = [
            Predictions(np.where(mine, y.probabilities, x.probabilities), *_rest(x))
            for x, y in ((one, two), (two, one))
        ]
        a, b = (_score("balanced_accuracy", [run], sample).mean for run in swapped)
        flipped = differences.sum() - 2 * differences[group]
        assert a - b == pytest.approx(flipped, abs=1e-12)


def _rest(scored):
    return scored.labels, scored.group, scored.n_groups


def _score(metric, runs, sample):
    scores = [make_score(metric, run, CLASSES) for run in runs]
    return make_arm("x", np.arange(len(runs)), scores, sample, n_draws=20)


@pytest.mark.parametrize("metric", ["macro_auroc", "macro_f1", "accuracy", "brier"])
def test_group_differences_add_up_to_the_difference(metric):
    sample = Sample("1", np.arange(40), np.arange(40) % 4)
    a, b = (_score(metric, [draw_scored(seed=1), draw_scored(seed=1)], sample) for _ in range(2))
    c = _score(metric, [draw_scored(seed=1, ties=False), draw_scored(seed=1)], sample)
    assert compute_group_differences(a, c).sum() == pytest.approx(a.mean - c.mean, abs=1e-12)
    assert compute_group_differences(a, b) == pytest.approx(np.zeros(40))


# ---- t tests ------------------------------------------------------------------------------------


def test_p_is_the_larger_one():
    found = compare_arms(*make_pair(0.3))
    assert found.p == found.p_holm == max(found.p_seed, found.p_swap)
    assert found.p_seed == pytest.approx(
        2 * stats.t.sf(abs(found.delta.value) / found.delta.se, found.delta.df)
    )


def test_scores_alone_are_a_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.7, 0.02, 6), rng.normal(0.68, 0.02, 6)
    found = compare_arms(make_score_arm("a", a), make_score_arm("b", b))
    assert found.p == found.p_seed == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert np.isnan(found.p_swap)


def test_equivalence_is_two_one_sided_tests():
    """Schuirmann 1987, by statsmodels 0.15's ttost_paired(d, 0, -0.01, 0.01)."""
    d = np.array([0.012, -0.004, 0.006, 0.001, 0.009, -0.002, 0.003])
    found = compare_arms(make_score_arm("a", d), make_score_arm("b", np.zeros(7)), margin=0.01)
    assert found.p_equivalent == pytest.approx(0.01308562430322493, abs=1e-12)
    assert found.verdict == "equivalent"


def test_an_interval_that_passes_the_margin_is_not_equivalent():
    """One-sided tests alone call 7 % of cells equivalent that are a margin apart."""
    d = np.array([0.012, -0.004, 0.006, 0.001, 0.009, -0.002, 0.003])
    found = compare_arms(make_score_arm("a", d), make_score_arm("b", np.zeros(7)), margin=0.0088)
    assert 0.025 < found.p_equivalent_holm < 0.05 and found.delta.high > found.margin
    assert found.verdict == "inconclusive"


def test_one_seed_is_judged_by_swaps_alone():
    a, b = make_pair(2.0, n_seeds=1)
    found = compare_arms(a, b)
    assert np.isnan(found.p_seed) and found.p == found.p_swap < 0.01
    assert Note(NoteKind.P_OF_THESE_NETWORKS) in found.delta.notes and found.noise is None


def test_one_seed_without_predictions_is_unknown():
    found = compare_arms(make_score_arm("a", [0.9]), make_score_arm("b", [0.1]))
    assert np.isnan(found.p) and found.verdict == "inconclusive"


def test_arms_that_never_differ_are_equivalent_on_many_lesions_only():
    """All runs get all lesions right: with 8 or 60 a class that says nothing of one point."""
    for n, verdict in ((8, "inconclusive"), (60, "inconclusive"), (400, "equivalent")):
        a, b = (make_counted_arm(x, np.ones((5, 2 * n)), np.repeat([0, 1], n)) for x in "ab")
        found = compare_arms(a, b, n_permutations=9)
        assert (found.delta.value, found.p, found.verdict) == (0.0, 1.0, verdict)


def test_too_few_groups_of_a_class_give_no_verdict():
    right = np.ones((5, 64))
    a = make_counted_arm("a", right, np.repeat([0, 1], [60, 4]))
    right[:, :50] = 0
    b = make_counted_arm("b", right, np.repeat([0, 1], [60, 4]))
    found = compare_arms(a, b)
    assert found.verdict == "no verdict" and found.p_swap < 0.001 and found.delta.low > 0.2
    assert np.isnan([found.p_seed, found.p_equivalent]).all()


def test_fewer_than_six_groups_in_all_give_no_verdict():
    right = np.ones((8, 5))
    a = make_counted_arm("a", right, [0, 0, 1, 1, 1], metric="accuracy")
    right[::2, 4] = 0
    b = make_counted_arm("b", right, [0, 0, 1, 1, 1], metric="accuracy")
    assert compare_arms(a, b, margin=0.5).verdict == "no verdict"
    elsewhere = replace(b, sample=replace(b.sample, name="6"))
    assert compare_arms(a, elsewhere, margin=0.5).verdict == "no verdict"


def test_equal_runs_say_nothing_of_new_ones():
    """No predictions, and every seed the same score: there is no variance to judge by."""
    found = compare_arms(make_score_arm("a", [0.8, 0.8]), make_score_arm("b", [0.7, 0.7]))
    assert np.isnan([found.p, found.p_equivalent, found.delta.low]).all()
    assert found.verdict == "inconclusive"


def test_verdicts_and_their_direction():
    a, b = make_pair(3.0)
    assert compare_arms(a, b).verdict == "better" and compare_arms(b, a).verdict == "worse"
    losses = [replace(arm, lower_is_better=True) for arm in (a, b)]
    assert compare_arms(*losses).verdict == "worse"
    assert compare_arms(*make_pair(0.1, noise=3.0)).verdict == "inconclusive"


def test_bad_input():
    a, b = make_pair()
    with pytest.raises(ConfigError, match="margin=0 is not allowed: above 0"):
        compare_arms(a, b, margin=0)
    with pytest.raises(ConfigError, match="different metrics"):
        compare_arms(a, replace(b, lower_is_better=True))


# ---- families -----------------------------------------------------------------------------------


def test_holm_known_answer():
    """statsmodels 0.15 multipletests(method="holm")."""
    assert compute_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    found = compute_holm([0.0001, 0.0016, 0.02, 0.021, 0.3, 0.5])
    assert found == pytest.approx([0.0006, 0.008, 0.08, 0.08, 0.6, 0.6])
    with_gap = compute_holm([0.02, np.nan, 0.03])
    assert with_gap[::2] == pytest.approx([0.04, 0.04]) and np.isnan(with_gap[1])


def test_families_are_adjusted_apart():
    base = compare_arms(*make_pair())
    given = [replace(base, p=p, family=f) for p, f in ((0.01, "F"), (0.04, "F"), (0.04, "G"))]
    assert [one.p_holm for one in adjust_holm(given)] == pytest.approx([0.02, 0.04, 0.04])


def test_equivalence_is_adjusted_among_its_own():
    base = compare_arms(*make_pair())
    family = [replace(base, p=0.5, p_equivalent=p) for p in (0.01, 0.03, np.nan)]
    found = adjust_holm(family)
    assert [one.p_equivalent_holm for one in found[:2]] == pytest.approx([0.02, 0.03])
    assert np.isnan(found[2].p_equivalent_holm)
    assert [one.verdict for one in adjust_holm([replace(base, p=1, p_equivalent=0.03)] * 2)] == (
        ["inconclusive"] * 2
    )


def test_rounding_is_no_difference():
    """A constant 1e-17 between two cells, from summaries here and predictions there."""
    scores = np.array([0.1, 0.1, 0.1])
    found = compare_arms(make_score_arm("a", scores + 2e-17), make_score_arm("b", scores))
    assert found.verdict == "inconclusive" and found.p != found.p  # nothing varies
