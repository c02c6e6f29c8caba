"""Do intervals cover and do tests hold their level? Answered with simulated classifiers.

    python tests/simulate_statistics.py --repeats 600 --truth 4000 --seeds 2 3 5 10

Runs are drawn from worlds (see `simulated_world`) whose true scores are means over fresh lesions
and seeds.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from simulate_choice import print_choice
from simulate_designs import print_detection, print_equivalence
from simulate_few import write_few_seeds, write_small_classes
from simulate_folds import tabulate_folds
from simulate_layers import print_layers
from simulate_subgroups import print_subgroups
from simulated_world import (
    CELLS,
    NOISES,
    Draw,
    World,
    compute_truth,
    draw_runs,
    draw_sample,
    make_simulated_arm,
)

from tlcnn.statistics.arm import Arm, Comparison, Estimate
from tlcnn.statistics.comparison import adjust_holm, compare_arms
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.power import Design, compute_design_power
from tlcnn.statistics.predictions import Predictions
from tlcnn.statistics.ratio import estimate_ratio

N_PERMUTATIONS = 999


# ---- what is counted ----------------------------------------------------------------------------


@dataclass
class Tally:
    """Shares of repeats in which something held."""

    hits: dict[str, list[bool]] = field(default_factory=dict)

    def add(self, name: str, hit: bool) -> None:
        """Count one repeat."""
        self.hits.setdefault(name, []).append(bool(hit))

    def shares(self) -> dict[str, float]:
        """Return the share of hits of each name."""
        return {name: float(np.mean(hits)) for name, hits in self.hits.items()}


def is_covered(estimate: Estimate, truth: float) -> bool:
    """Return whether an interval holds the truth."""
    return estimate.low <= truth <= estimate.high


def simulate(
    world: World,
    truth: dict[str, float],
    *,
    n_seeds: int,
    n_repeats: int,
    seed: int,
    n_draws: int = 250,
    n_areas: int = 0,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return how often each procedure was right (or wrong), and what runs were like.

    Args:
        n_areas: repeats in which AUROC is scored as well; it takes most of the time.

    Returns:
        Shares by name, and the means over repeats that a `Design` takes.
    """
    rng = np.random.default_rng([seed, 2, n_seeds])
    tally, seen = Tally(), []
    for number in range(n_repeats):
        draw = draw_sample(world, rng, number)
        common = rng.normal(size=(n_seeds, len(world.lesions)))
        runs = {n: draw_runs(world, draw, x, common, rng) for n, x in CELLS.items()}
        runs["A2"] = draw_runs(world, draw, CELLS["A"], common, rng)
        arms = {
            name: make_simulated_arm(name, draw, one, "balanced_accuracy", n_draws)
            for name, one in runs.items()
        }
        _count_intervals(tally, arms, truth)
        _count_tests(tally, arms, truth)
        seen.append(measure_runs(draw, runs["A"], runs["B"], arms["A"], arms["B"]))
        if number < n_areas:
            area = make_simulated_arm("A", draw, runs["A"], "macro_auroc", 200)
            covered = is_covered(estimate_contrast([(1.0, area)]), truth["auroc"])
            tally.add("cover AUROC", covered)
    means = {key: np.mean([one[key] for one in seen], axis=0) for key in seen[0]}
    return tally.shares(), means


def _count_intervals(tally: Tally, arms: dict[str, Arm], truth: dict[str, float]) -> None:
    a, b, r = (arms[name] for name in "ABR")
    tally.add("cover cell", is_covered(estimate_contrast([(1.0, a)]), truth["A"]))
    difference = truth["B"] - truth["A"]
    tally.add("cover paired", is_covered(estimate_contrast([(1.0, b), (-1.0, a)]), difference))
    few = max(2, len(a.seeds) // 2)
    other = replace(drop_runs(a, few), seeds=1000 + np.arange(few))
    tally.add(
        "cover unpaired", is_covered(estimate_contrast([(1.0, b), (-1.0, other)]), difference)
    )
    gamma = (truth["A"] - truth["R"]) / (truth["B"] - truth["R"])
    ratio = estimate_ratio([(1.0, a), (-1.0, r)], [(1.0, b), (-1.0, r)])
    tally.add("cover gamma", is_covered(ratio, gamma))


def drop_runs(arm: Arm, n_kept: int) -> Arm:
    """Return the arm with its last runs."""
    assert arm.replicates is not None and arm.influence is not None
    return replace(
        arm,
        seeds=arm.seeds[-n_kept:],
        scores=arm.scores[-n_kept:],
        replicates=arm.replicates[-n_kept:],
        influence=arm.influence[-n_kept:],
        contributions=None,
    )


def _count_tests(tally: Tally, arms: dict[str, Arm], truth: dict[str, float]) -> None:
    null = compare(arms["A2"], arms["A"])
    tally.add("type I", null.p < 0.05)
    tally.add("type I of p_seed", null.p_seed < 0.05)
    tally.add("type I of p_swap", null.p_swap < 0.05)
    edge = compare(arms["B"], arms["A"], margin=truth["B"] - truth["A"])
    tally.add("type I of TOST", edge.p_equivalent < 0.05)
    tally.add("called equivalent", edge.verdict == "equivalent")
    tally.add("power", edge.p < 0.05)


def compare(a: Arm, b: Arm, margin: float = 0.01, family: str = "") -> Comparison:
    """Compare with as many permutations as a simulation can pay for."""
    return compare_arms(a, b, margin=margin, family=family, n_permutations=N_PERMUTATIONS)


def measure_runs(
    draw: Draw, a_runs: Sequence[Predictions], b_runs: Sequence[Predictions], a: Arm, b: Arm
) -> dict[str, np.ndarray]:
    """Return what a `Design` says of two cells: by class where it can be."""
    right_a, right_b = (
        np.stack([run.probabilities.argmax(axis=1) == run.labels for run in runs])
        for runs in (a_runs, b_runs)
    )
    both = np.concatenate([right_a, right_b])
    across = np.mean([right_a[0] == other for other in right_b[1:]], axis=0)
    within = np.mean([right_a[0] == right_a[1], right_b[0] == right_b[1]], axis=0)
    sizes = np.bincount(draw.labels)

    def by_class(values: np.ndarray) -> np.ndarray:
        return np.bincount(draw.labels, weights=values) / sizes

    return {
        "seed_variance": np.var(b.scores - a.scores, ddof=1),
        "score": by_class(both.mean(axis=0)),
        "agreement": by_class(across),
        "seed_agreement": by_class(within),
    }


def simulate_family(
    world: World, *, n_seeds: int, n_repeats: int, seed: int, n_cells: int = 5
) -> float:
    """Return how often Holm's adjustment finds any difference among equal cells."""
    rng = np.random.default_rng([seed, 3, n_seeds])
    found = []
    for number in range(n_repeats):
        draw = draw_sample(world, rng, number)
        common = rng.normal(size=(n_seeds, len(world.lesions)))
        arms = []
        for _ in range(n_cells + 1):
            runs = draw_runs(world, draw, CELLS["A"], common, rng)
            arms.append(make_simulated_arm("A", draw, runs, "balanced_accuracy", 250))
        family = adjust_holm([compare(arm, arms[0], family="F") for arm in arms[1:]])
        found.append(any(one.p_holm < 0.05 for one in family))
    return float(np.mean(found))


# ---- the table ----------------------------------------------------------------------------------

NO_NOISE = World(seed_sd=0.0, run_sd=0.0)  # every seed predicts the same
Shares = dict[tuple[str, int], dict[str, float]]  # by seed noise and number of seeds


def predict_power(world: World, effect: float, n_seeds: int, seen: dict[str, np.ndarray]) -> float:
    """Return what the calculator would have said, told what runs are like."""
    seed_sd = float(np.sqrt(seen["seed_variance"]))
    shares = (seen["score"], seen["agreement"], seen["seed_agreement"])
    return compute_design_power(effect, Design(tuple(world.lesions), seed_sd, *shares), n_seeds)


def run_all(
    seeds: Sequence[int], *, n_repeats: int, n_areas: int, n_truth: int, seed: int
) -> Shares:
    """Return the share of every row of the table, for each seed noise and number of seeds."""
    shares: Shares = {}
    fewer = max(1, n_repeats // 2)
    for noise, world in NOISES.items():
        truth = compute_truth(world, seed, n_truth)
        effect = truth["B"] - truth["A"]
        for n_seeds in seeds:
            same = {"n_seeds": n_seeds, "seed": seed}
            cell, means = simulate(world, truth, n_areas=n_areas, n_repeats=n_repeats, **same)
            cell["predicted power"] = predict_power(world, effect, n_seeds, means)
            cell["family"] = simulate_family(world, n_repeats=fewer, **same)
            shares[noise, n_seeds] = cell
    for n_seeds in seeds:
        same = {"n_seeds": n_seeds, "n_repeats": fewer, "seed": seed, "n_cells": 1}
        shares["0", n_seeds] = {"type I": simulate_family(NO_NOISE, **same)}
    return shares


ROWS = (
    ("95 % interval of one cell, balanced accuracy", "0.95", "cover cell"),
    ("95 % interval of one cell, macro AUROC", "0.95", "cover AUROC"),
    ("95 % interval of a paired difference", "0.95", "cover paired"),
    ("95 % interval, S against S/2 other seeds", "0.95", "cover unpaired"),
    ("95 % Fieller interval of gamma", "0.95", "cover gamma"),
    ("equal cells found different, p", "at most 0.05", "type I"),
    ("equal cells, p_seed alone", "at most 0.05", "type I of p_seed"),
    ("equal cells, p_swap alone (not of new seeds)", "-", "type I of p_swap"),
    ("any of 5 equal cells found different, Holm", "at most 0.05", "family"),
    ("equivalent by TOST though a margin apart", "at most 0.05", "type I of TOST"),
    ("called equivalent though a margin apart", "at most 0.05", "called equivalent"),
    ("power, simulated", "-", "power"),
    ("power, predicted by `tlcnn power`", "as simulated", "predicted power"),
)


def render(shares: Shares) -> str:
    """Return the table in Markdown."""
    noises, seeds = (list(dict.fromkeys(keys)) for keys in zip(*shares, strict=True))
    heads = " | ".join(f"S = {n_seeds}" for n_seeds in seeds)
    lines = [f"| what | nominal | seed sd | {heads} |", "|---" * (3 + len(seeds)) + "|"]
    for what, nominal, key in ROWS:
        for noise in noises:
            values = [shares[noise, n_seeds].get(key) for n_seeds in seeds]
            cells = ["-" if value is None else f"{value:.3f}" for value in values]
            if set(cells) != {"-"}:
                lines.append(f"| {what} | {nominal} | {noise} | {' | '.join(cells)} |")
    return "\n".join(lines)


PARTS = {
    "classes": lambda o: print(write_small_classes(o.seeds, o.repeats)),
    "seeds": lambda o: print(write_few_seeds(o.seeds, o.repeats)),
    "layers": lambda o: print_layers(o.seeds, o.repeats, o.truth, o.seed),
    "subgroups": lambda o: print_subgroups(o.seeds, o.repeats),
    "folds": lambda o: print(tabulate_folds(o.seeds, n_studies=o.repeats, seed=o.seed)),
    "choice": lambda o: print_choice(o.seeds, o.repeats, o.seed),
    "detection": lambda o: print_detection(o.seeds, o.repeats, o.truth, o.seed),
    "equivalence": lambda o: print_equivalence(o.seeds, o.repeats, o.truth, o.seed),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000, help="default: 2000")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[3, 5, 10], help="runs a cell; default: 3 5 10"
    )
    parser.add_argument("--areas", type=int, help="repeats with AUROC; default: a quarter")
    parser.add_argument("--truth", type=int, default=10_000, help="samples; default: 10000")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--part", choices=PARTS, help="instead of the table of all procedures")
    options = parser.parse_args(arguments)
    if options.part:
        PARTS[options.part](options)
        return
    shares = run_all(
        options.seeds,
        n_repeats=options.repeats,
        n_areas=options.repeats // 4 if options.areas is None else options.areas,
        n_truth=options.truth,
        seed=options.seed,
    )
    print(render(shares))


if __name__ == "__main__":
    main()
