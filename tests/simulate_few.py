"""Intervals and verdicts where test groups or seeds are few.

`python tests/simulate_statistics.py --part classes` and `--part seeds` print these tables. Test
groups are those of simulated classifiers; seeds are simulated as scores with normal errors, which
a hundred times as many repeats can pay for.
"""

from collections.abc import Sequence
from dataclasses import replace
from unittest import mock

import numpy as np
from scipy.special import digamma, polygamma
from simulated_world import (
    World,
    compute_run_score,
    draw_runs,
    draw_sample,
    make_simulated_arm,
)

from tlcnn.statistics import estimate
from tlcnn.statistics.arm import Arm
from tlcnn.statistics.comparison import compare_arms
from tlcnn.statistics.estimate import compute_parts, estimate_contrast, make_estimate
from tlcnn.statistics.variance import combine_df, compute_quantile

METRIC = "balanced_accuracy"
HAM10000 = World().lesions
SATURATED = World(lesions=(30, 30), bias=(0.0, 0.0))

SMALL_CLASSES = {  # what: (world, signal of both cells)
    "1 lesion in a class": (World(lesions=(*HAM10000[:3], 1, *HAM10000[4:])), 1.7),
    "2 lesions in a class": (World(lesions=(*HAM10000[:3], 2, *HAM10000[4:])), 1.7),
    "5 lesions in a class": (World(lesions=(*HAM10000[:3], 5, *HAM10000[4:])), 1.7),
    "30 + 30 lesions at 99 %": (SATURATED, 3.75),
    "30 + 30 lesions at 97 %": (SATURATED, 3.0),
    "8 + 8 lesions at 99 %": (replace(SATURATED, lesions=(8, 8)), 3.75),
}


def compute_mean_score(world: World, signal: float, n_samples: int) -> float:
    """Return the mean score of a cell over fresh lesions and seeds."""
    rng, total = np.random.default_rng(1), 0.0
    for number in range(n_samples):
        draw = draw_sample(world, rng, number)
        common = rng.normal(size=(1, len(world.lesions)))
        total += compute_run_score(draw_runs(world, draw, signal, common, rng)[0], METRIC)
    return total / n_samples


def simulate_small_classes(
    world: World, signal: float, *, n_seeds: int, n_repeats: int, n_truth: int = 1500
) -> dict[str, float]:
    """Return coverage and false verdicts of two equal cells, or of one a margin below the other.

    The margin is the difference between the cell and another that is a little worse.
    """
    low = signal - 0.2
    truth = compute_mean_score(world, signal, n_truth)
    margin = truth - compute_mean_score(world, low, n_truth)
    rng = np.random.default_rng([3, n_seeds])
    hits: dict[str, list[bool]] = {}
    for number in range(n_repeats):
        draw = draw_sample(world, rng, number)
        common = rng.normal(size=(n_seeds, len(world.lesions)))

        def make_cell(height: float) -> Arm:
            runs = draw_runs(world, draw, height, common, rng)  # noqa: B023
            arm = make_simulated_arm("", draw, runs, METRIC, 100)  # noqa: B023
            return replace(arm, bounds=(0.0, 1.0))

        a, same, worse = make_cell(signal), make_cell(signal), make_cell(low)
        cell, difference = (
            estimate_contrast([(1.0, a)]),
            estimate_contrast([(1.0, a), (-1.0, same)]),
        )
        null = compare_arms(a, same, n_permutations=999)
        edge = compare_arms(a, worse, margin=margin, n_permutations=9)
        repeat = {
            "coverage of a cell": cell.low <= truth <= cell.high,
            "coverage of a difference": difference.low <= 0 <= difference.high,
            "equal cells found different": null.verdict in ("better", "worse"),
            "cells a margin apart found equivalent": edge.verdict == "equivalent",
        }
        for name, hit in repeat.items():
            hits.setdefault(name, []).append(hit)
    return {name: float(np.mean(values)) for name, values in hits.items()}


# ---- few seeds ----------------------------------------------------------------------------------

TEST_SD = 1.5  # of a difference, from the test groups of HAM10000; all scores are in points
TEST_DF = 40.0
EFFECT = 4.0  # a difference to be found
DEVIATIONS = (0.5, 1.0, 2.0, 3.0)  # of a run, over seeds
UNEQUAL = (1.0, 0.33, 2.5)  # how loud the cells of a grid are, in turns


def draw_test_part(rng: np.random.Generator) -> tuple[float, float]:
    """Return what a test sample does to a difference, and the variance that is estimated."""
    variance = TEST_SD**2 * rng.chisquare(TEST_DF) / TEST_DF
    return TEST_SD * float(rng.normal()), float(variance)


def simulate_pairing(
    n_seeds: int, deviations: tuple[float, float], correlation: float, n_repeats: int
) -> tuple[float, float]:
    """Return the coverage of the difference of two cells, and the power to find `EFFECT`."""
    rng = np.random.default_rng([4, n_seeds])
    covered, detected = 0, 0
    for _ in range(n_repeats):
        common = np.sqrt(correlation) * rng.normal(size=n_seeds)
        arms = [
            Arm("", np.arange(n_seeds), sd * (common + np.sqrt(1 - correlation) * noise))
            for sd, noise in zip(deviations, rng.normal(size=(2, n_seeds)), strict=True)
        ]
        parts = compute_parts([(1.0, arms[0]), (-1.0, arms[1])])
        luck, test = draw_test_part(rng)
        found = make_estimate(
            replace(parts, value=parts.value + luck, test=test, test_df=TEST_DF, notes=())
        )
        covered += found.low <= 0 <= found.high
        detected += not found.low <= -EFFECT <= found.high
    return covered / n_repeats, detected / n_repeats


def simulate_moderation(
    n_seeds: int, deviation: float, loudness: Sequence[float], n_repeats: int, n_cells: int = 21
) -> dict[float, tuple[float, float]]:
    """Return (coverage, power) of moderated differences, for each loudness of the first cell.

    The second cell has the loudness 1. Variances over seeds are moderated over all cells of a
    grid (Smyth 2004); limma calls it squeezeVar.
    """
    rng = np.random.default_rng([5, n_seeds])
    sds = deviation * np.resize(loudness, n_cells)
    hits: dict[float, list[tuple[bool, bool]]] = {}
    for _ in range(n_repeats):
        scores = sds[:, None] * rng.normal(size=(n_cells, n_seeds))
        variances, df = moderate_variances(np.var(scores, axis=1, ddof=1), n_seeds - 1.0)
        luck, test = draw_test_part(rng)
        for i in range(1, len(loudness) + 1):  # the last one is as loud as cell 0
            value = float(scores[i].mean() - scores[0].mean()) + luck
            sets = [(float(variances[j]) / n_seeds, df) for j in (i, 0)]
            se = np.sqrt(sum(variance for variance, _ in sets) + test)
            half = compute_quantile(combine_df([*sets, (test, TEST_DF)]), 0.975) * se
            hit = (abs(value) <= half, abs(value + EFFECT) > half)
            hits.setdefault(float(np.resize(loudness, n_cells)[i]), []).append(hit)
    return {loud: tuple(np.mean(pairs, axis=0).tolist()) for loud, pairs in hits.items()}


def moderate_variances(variances: np.ndarray, df: float) -> tuple[np.ndarray, float]:
    """Return variances (C,) moderated by their common prior, and their degrees of freedom.

    Smyth 2004 (Stat. Appl. Genet. Mol. Biol. 3:3), section 6.2: the prior's moments are those of
    log variances.
    """
    logs = np.log(variances) - digamma(df / 2) + np.log(df / 2)
    spread = logs.var(ddof=1) - polygamma(1, df / 2)
    if spread <= 0:
        return np.full_like(variances, np.exp(logs.mean())), 1e9
    low, high = 1e-6, 1e9  # trigamma falls: bisect it for the spread
    for _ in range(40):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if polygamma(1, middle) > spread else (low, middle)
    prior_df = 2 * low
    prior = np.exp(logs.mean() + digamma(prior_df / 2) - np.log(prior_df / 2))
    return (prior_df * prior + df * variances) / (prior_df + df), prior_df + df


# ---- the tables ---------------------------------------------------------------------------------


def write_small_classes(seeds: Sequence[int], n_repeats: int) -> str:
    """Return the table of `SMALL_CLASSES` in Markdown."""
    lines = []
    for what, (world, signal) in SMALL_CLASSES.items():
        for n_seeds in seeds:
            shares = simulate_small_classes(world, signal, n_seeds=n_seeds, n_repeats=n_repeats)
            if not lines:
                lines = [f"| test groups | S | {' | '.join(shares)} |", "|---" * 6 + "|"]
            numbers = " | ".join(f"{share:.3f}" for share in shares.values())
            lines.append(f"| {what} | {n_seeds} | {numbers} |")
    return "\n".join(lines)


def write_few_seeds(seeds: Sequence[int], n_repeats: int) -> str:
    """Return coverage / power of a difference, for each deviation over seeds, in Markdown."""
    heads = [f"{sd} points" for sd in DEVIATIONS]
    lines = [f"| S | what | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for n in seeds:
        rows: dict[str, list[tuple[float, float]]] = {}
        for sd in DEVIATIONS:
            for name, least in (("paired", 2), ("not paired", n + 1)):
                for correlation in (0.0, 0.15, 0.35):
                    with mock.patch.object(estimate, "LEAST_PAIRS", least):
                        pair = simulate_pairing(n, (sd, sd), correlation, n_repeats)
                    rows.setdefault(f"{name}, correlation {correlation}", []).append(pair)
            unequal = simulate_pairing(n, (sd, sd / 3), 0.0, n_repeats)
            rows.setdefault("by the rule, sd of one cell a third", []).append(unequal)
            for what, loudness in (("equal", (1.0,)), ("unequal", UNEQUAL)):
                moderated = simulate_moderation(n, sd, loudness, n_repeats)
                for loud, pair in moderated.items():
                    rows.setdefault(f"moderated, {what} cells, sd x {loud}", []).append(pair)
        for what, pairs in rows.items():
            numbers = " | ".join(f"{covered:.3f} / {power:.2f}" for covered, power in pairs)
            lines.append(f"| {n} | {what} | {numbers} |")
    return "\n".join(lines)
