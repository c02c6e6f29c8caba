"""What a design detects: known answers, simulated studies, and nothing of what was observed."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from statistics_data import make_linear_arm, make_score_arm

from tlcnn.statistics.comparison import adjust_holm, compare_arms
from tlcnn.statistics.detect import DESIGNS, find_detectable, find_effect_of, pool_noise, set_noise
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.statistics.power import compute_difference_power
from tlcnn.statistics.variance import Parts

STRATA = np.repeat([0, 1], 20)
SDS = {"seed": 0.4, "lesion": 0.8, "both": 1.5}  # of a cell's values


def draw_cells(rng, n_cells, n_seeds, *, gain=0.0, groups=1, n_draws=60, sample="a"):
    """Arms whose values differ by seed, by lesion and by both; the last is better by the gain."""
    strata = np.repeat(STRATA, groups)
    arms = []
    for at in range(n_cells):
        values = SDS["seed"] * rng.normal(size=(n_seeds, 1))
        values = values + SDS["lesion"] * rng.normal(size=len(strata))
        values += SDS["both"] * rng.normal(size=(n_seeds, len(strata)))
        values += gain * (at == n_cells - 1)
        arms.append(make_linear_arm(str(at), values, strata, sample=sample, n_draws=n_draws))
    return arms


def compare(a, b, **more):
    return compare_arms(a, b, n_permutations=399, **more)


def compare_noisy(*arms, **more):
    """The first two arms compared, with the noise of all."""
    (comparison,) = set_noise([compare(*arms[:2])], pool_noise(arms, **more))
    return comparison


def measure(n_studies, n_seeds, designs, seed=0):
    """The mean size that studies of equal cells say of each design."""
    rng, sizes = np.random.default_rng(seed), []
    for number in range(n_studies):
        arms = draw_cells(rng, 5, n_seeds, n_draws=200, sample=f"{number // 5:x}")
        sizes.append([find_detectable(compare_noisy(*arms), *design) for design in designs])
    return np.mean(sizes, axis=0)


@pytest.mark.parametrize(("n_seeds", "groups"), [(6, 1), (12, 1), (6, 4)])
def test_the_size_that_is_said_to_be_found_is_found_in_80_of_100_studies(n_seeds, groups):
    """Studies of 6 seeds say it of themselves, of 12 seeds and of four times the groups.

    400 studies: 0.80 ± 0.04 (2 sd). Without the test groups' part of the variance of seeds, four
    times the groups would be found in 95 %.
    """
    (size,) = measure(30, 6, [(n_seeds, groups)])
    rng = np.random.default_rng(1)
    hits = [
        compare(*draw_cells(rng, 2, n_seeds, gain=-size, groups=groups)).p < 0.05
        for _ in range(400)
    ]
    assert 0.74 <= np.mean(hits) <= 0.86


def test_the_size_is_that_of_the_noncentral_t_distribution():
    """34 pairs find d = 0.5 with 80.8 %, 33 with 79.6 % (G*Power 3.1)."""
    for n, power in ((34, 0.8077775), (33, 0.7954)):
        parts = Parts(0.5, ((1.0, n),), 0.0, np.inf)
        assert compute_difference_power(parts) == pytest.approx(power, abs=1e-4)
    assert find_effect_of(parts) > 0.5 > find_effect_of(replace(parts, seeds=((1.0, 34),)))
    for n, alpha in ((3, 0.05), (5, 0.01), (34, 0.05)):
        size = find_effect_of(Parts(0.0, ((1.0, n),), 0.0, np.inf), alpha)
        limit = stats.t.ppf(1 - alpha / 2, n - 1)
        assert stats.nct.sf(limit, n - 1, size * np.sqrt(n)) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("n_seeds", [2, 3, 10])
@pytest.mark.parametrize("n_compared", [1, 20, 60])
def test_no_difference_is_found_at_the_level_alone(n_seeds, n_compared):
    """Far out in the tails too."""
    parts = Parts(1e-9, ((1.0, n_seeds),), 0.0, np.inf)
    level = 0.05 / n_compared
    assert compute_difference_power(parts, level) == pytest.approx(level, rel=0.01)
    assert find_effect_of(parts, level) > 1 / n_seeds


def test_it_does_not_depend_on_what_was_observed():
    a, b = draw_cells(np.random.default_rng(0), 2, 5)
    moved = replace(a, scores=a.scores + 0.3, replicates=a.replicates + 0.3)
    for design in DESIGNS:
        sizes = [find_detectable(compare_noisy(cell, b), *design) for cell in (a, moved)]
        assert sizes[0] == pytest.approx(sizes[1])


def test_more_seeds_and_more_groups_find_smaller_differences():
    comparison = compare_noisy(*draw_cells(np.random.default_rng(0), 2, 5))
    now, five, ten, twenty, twice, fourfold = (find_detectable(comparison, *d) for d in DESIGNS)
    assert now == five > ten > twenty and now > twice > fourfold
    assert find_detectable(replace(comparison, family_size=20)) > now


def test_variances_are_pooled_over_all_pairs_of_cells():
    values = np.random.default_rng(0).normal(size=(4, 6))
    arms = [make_score_arm(str(at), row) for at, row in enumerate(values)]
    alone = [np.var(a - b, ddof=1) for a, b in combinations(values, 2)]
    assert pool_noise(arms).variance == pytest.approx(np.mean(alone))
    drawn = draw_cells(np.random.default_rng(0), 3, 6)
    further = [make_score_arm("lone", [0.1]), make_score_arm("bare", values[0])]
    assert pool_noise([*drawn, *further]) == pool_noise(drawn)


def test_what_cannot_be_known_is_nan_and_what_cannot_be_found_is_infinite():
    lone = [make_score_arm(name, [0.1]) for name in "ab"]
    scores = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.5]])
    more = {"folds": ((0, 0), (0, 1)), "fold_scores": scores, "fold_ratio": 0.25}
    folds = [make_score_arm(name, scores.mean(axis=1), **more) for name in "ab"]
    assert all(np.isnan(find_detectable(compare_noisy(*arms))) for arms in (lone, folds))
    bare = compare_noisy(make_score_arm("a", [0.1, 0.2, 0.4]), make_score_arm("b", np.zeros(3)))
    assert np.isfinite(find_detectable(bare, 10)) and np.isnan(find_detectable(bare, groups=4))
    wild = [make_score_arm("a", [0.0, 1.0, 0.4]), make_score_arm("b", [1.0, 0.0, 0.6])]
    assert find_detectable(compare_noisy(*wild)) > 1
    assert find_detectable(compare_noisy(*wild, largest=1.0)) == np.inf


# ---- equivalence --------------------------------------------------------------------------------


def test_twenty_cells_a_margin_apart_are_seldom_called_equivalent():
    """Any of them in at most 5 % of studies; by their raw p values in a quarter or more."""
    rng, adjusted, raw = np.random.default_rng(0), [], []
    for _ in range(150):
        scores = 0.01 + 0.0065 * rng.normal(size=(20, 6))
        zeros = make_score_arm("b", np.zeros(6))
        family = adjust_holm([compare_arms(make_score_arm("a", row), zeros) for row in scores])
        adjusted.append(any(one.verdict == "equivalent" for one in family))
        raw.append(any(one.p_equivalent < 0.05 <= one.p_holm for one in family))
    assert np.mean(adjusted) <= 0.09 and np.mean(raw) > 0.25


def test_the_parts_of_the_error_sum_to_it_and_fall_with_their_own_number():
    rng = np.random.default_rng(3)
    comparison = compare_noisy(*draw_cells(rng, 5, 6))
    noise = comparison.noise
    seeds, groups = noise.split_error()
    assert seeds**2 + groups**2 == pytest.approx(noise.plan().variance)
    fourfold = noise.plan(groups=4).variance
    assert fourfold == pytest.approx(seeds**2 + groups**2 / 4)
    none = replace(noise, joint=noise.variance)
    assert none.split_error()[0] == 0
    assert none.plan(groups=4).se == pytest.approx(none.plan().se / 2)


def test_where_no_verdict_is_possible_nothing_is_said_to_be_detectable():
    few = Note(NoteKind.FEW_GROUPS, (1,))
    comparison = compare_noisy(
        make_score_arm("a", [0.1, 0.2, 0.4]), make_score_arm("b", np.zeros(3))
    )
    noise, bare = comparison.noise, replace(comparison, noise=None)
    undecidable = replace(bare, delta=replace(bare.delta, notes=(few,)))
    first, second = set_noise([bare, undecidable], noise)
    assert np.isfinite(find_detectable(first)) and np.isnan(find_detectable(second))
