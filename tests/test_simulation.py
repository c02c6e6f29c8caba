"""Do intervals cover, do tests hold their level? Small worlds here; docs/statistics.md has more.

Bounds are such that formulas known to be wrong miss them; those are tried, too.
"""

import numpy as np
import pytest
from scipy import stats
from simulate_layers import compute_costs, simulate_layers
from simulate_statistics import main, simulate, simulate_family
from simulated_world import (
    World,
    compute_truth,
    draw_runs,
    draw_sample,
    make_simulated_arm,
)
from statistics_data import make_linear_arm

from tlcnn.statistics.comparison import compare_arms, compute_swap_p
from tlcnn.statistics.estimate import compute_parts, make_estimate

N_SEEDS, N_GROUPS = 4, 40
SMALL = World(lesions=(12, 25, 40), bias=(0.0, 0.0, 0.3))
BAND = (0.93, 0.97)


def draw_linear(rng, *, seed_sd, lesion_sd, both_sd):
    """Values (S, G) around 0: a seed's effect, a lesion's, and what a lesion does to a seed."""
    seeds = seed_sd * rng.normal(size=(N_SEEDS, 1))
    return (
        seeds
        + lesion_sd * rng.normal(size=N_GROUPS)
        + both_sd * rng.normal(size=(N_SEEDS, N_GROUPS))
    )


def simulate_linear(n_repeats=700, **sds):
    """Coverage of the interval, and of three wrong ones, in a world whose truth is 0."""
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1], N_GROUPS // 2)
    hits = {"right": 0, "seeds alone": 0, "test alone": 0, "counted twice": 0, "sd": 0}
    for number in range(n_repeats):
        values = draw_linear(rng, **sds)
        arm = make_linear_arm("a", values, strata, sample=f"{number // 50:x}", n_draws=200)
        parts = compute_parts([(1.0, arm)])
        found = make_estimate(parts)
        hits["right"] += found.low <= 0 <= found.high
        seed_variance = np.var(arm.scores, ddof=1) / N_SEEDS
        of_mean = arm.replicates.mean(axis=0).var(ddof=1)
        sd = np.std(arm.scores, ddof=1)
        for name, half in {
            "seeds alone": stats.t.ppf(0.975, N_SEEDS - 1) * np.sqrt(seed_variance),
            "test alone": 1.96 * np.sqrt(of_mean),
            "counted twice": stats.t.ppf(0.975, found.df) * np.sqrt(seed_variance + of_mean),
            "sd": sd,
        }.items():
            hits[name] += abs(found.value) <= half
    return {name: n / n_repeats for name, n in hits.items()}


def test_intervals_cover_where_seeds_and_lesions_matter():
    found = simulate_linear(seed_sd=0.3, lesion_sd=2.0, both_sd=1.0)
    assert BAND[0] <= found["right"] <= BAND[1]
    assert found["seeds alone"] < BAND[0] and found["test alone"] < BAND[0]
    assert found["sd"] < BAND[0]


def test_intervals_cover_where_lesions_fall_out_anew_for_each_seed():
    """The bootstrap variance of the mean over seeds has what s^2 / S has already."""
    found = simulate_linear(seed_sd=0.0, lesion_sd=0.6, both_sd=2.5)
    assert BAND[0] <= found["right"] <= BAND[1] + 0.005
    assert found["counted twice"] > BAND[1] + 0.005


def test_tests_hold_their_level_and_each_p_alone_does_not():
    """Cells that differ in luck with seeds alone: p_swap calls that a difference, p must not."""
    rng = np.random.default_rng(1)
    strata, found = np.zeros(N_GROUPS, int), []
    for _ in range(300):
        a, b = (
            make_linear_arm(
                name,
                draw_linear(rng, seed_sd=1.0, lesion_sd=1.0, both_sd=0.5),
                strata,
                n_draws=100,
            )
            for name in "ab"
        )
        found.append(compare_arms(a, b, n_permutations=199))
    assert np.mean([one.p < 0.05 for one in found]) <= 0.05 + 0.025
    assert np.mean([one.p_swap < 0.05 for one in found]) > 0.2


@pytest.fixture(scope="module")
def shares():
    truth = compute_truth(SMALL, seed=0, n_samples=1500)
    return simulate(SMALL, truth, n_seeds=4, n_repeats=250, seed=0, n_draws=100, n_areas=120)[0]


@pytest.mark.parametrize("what", ["cell", "AUROC", "paired", "unpaired", "gamma"])
def test_simulated_classifiers_are_covered(shares, what):
    assert 0.91 <= shares[f"cover {what}"] <= 0.99  # 250 repeats: 0.95 ± 3 sd


def test_simulated_classifiers_are_tested_at_the_level(shares):
    assert shares["type I"] <= 0.08 and shares["type I of TOST"] <= 0.09


@pytest.mark.parametrize("metric", ["macro_auroc", "macro_f1", "balanced_accuracy"])
def test_swaps_hold_their_level_for_single_networks(metric):
    """Two networks that are equal but for what single lesions do to them; 250 repeats."""
    world, found = World(lesions=(12, 25, 40), seed_sd=0.0, bias=(0, 0, 0)), []
    rng = np.random.default_rng(0)
    for number in range(250):
        draw = draw_sample(world, rng, number)
        runs = [draw_runs(world, draw, 1.0, np.zeros((1, 3)), rng) for _ in "ab"]
        arms = [make_simulated_arm("a", draw, run, metric, 2) for run in runs]
        found.append(compute_swap_p(*arms, n_permutations=199) <= 0.05)
    assert 0.01 <= np.mean(found) <= 0.095


def test_families_of_equal_cells():
    assert simulate_family(SMALL, n_seeds=3, n_repeats=80, seed=0, n_cells=4) <= 0.1


def test_layer_verdicts_are_right_about_planted_costs():
    """A unit that costs just the margin is called neither general nor specific; 100 repeats."""
    signals = (1.5, 1.5, 1.5, 1.2, 0.9, 0.4)
    costs = compute_costs(SMALL, signals, seed=0, n_samples=1500)
    same = {"n_seeds": 4, "n_repeats": 100, "seed": 0, "n_draws": 100}
    found = simulate_layers(SMALL, signals, costs, **same)
    assert 0.91 <= found["cover F"] <= 0.99
    for verdict in ("general", "specific"):
        assert found[f"{verdict} at a margin of its cost"] <= 0.06
        assert found[f"false {verdict}"] <= 0.1
    assert found["general at 0"] > 0.2 > 0.1 > found["general at 0, one point"]
    assert found["specific, unit 5"] > 0.6


def test_the_command_prints_its_table(capsys):
    main(["--repeats", "1", "--areas", "1", "--truth", "4", "--seeds", "3"])
    printed = capsys.readouterr().out
    assert "| what | nominal | seed sd | S = 3 |" in printed
    assert "Holm" in printed and "nan" not in printed
