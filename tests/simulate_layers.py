"""Are layer verdicts right where the cost of freezing each unit is planted?

    python tests/simulate_statistics.py --part layers --seeds 2 3 5 10 --repeats 400 --truth 1500

One cell is fully fine-tuned, and five freeze the first n units of the same source and lose what is
planted. The verdict "better" is counted on pairs of AnB and BnB without any gap.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from simulated_world import (
    NOISES,
    World,
    compute_run_score,
    draw_runs,
    draw_sample,
    make_simulated_arm,
)

from tlcnn.statistics.arm import Arm
from tlcnn.study.layers import POINT, UnitScores, compute_layer_scores, find_basis, resolve_gap

UNITS = ("stem", "stage1", "stage2", "stage3", "stage4")
# How far full fine-tuning (n = 0) and n frozen units raise the right class.
FREE = (1.9,) * 6
LADDER = (1.9, 1.9, 1.9, 1.75, 1.5, 1.0)
# All units cost about what the test set resolves, by seed noise.
EDGE = {
    noise: (1.9, *(level,) * 5) for noise, level in {"0.5": 1.66, "1.5": 1.72, "3": 1.75}.items()
}


def compute_costs(world: World, signals: Sequence[float], seed: int, n_samples: int) -> np.ndarray:
    """Return the true freezing cost F(n) of n = 1..5: means over fresh lesions and seeds."""
    rng = np.random.default_rng([seed, 11])
    levels = sorted(set(signals))
    sums = dict.fromkeys(levels, 0.0)
    for number in range(n_samples):
        draw = draw_sample(world, rng, number)
        common = rng.normal(size=(1, len(world.lesions)))
        for level in levels:
            (run,) = draw_runs(world, draw, level, common, rng)
            sums[level] += compute_run_score(run, "balanced_accuracy") / n_samples
    return np.array([sums[signals[0]] - sums[level] for level in signals[1:]])


def simulate_layers(
    world: World,
    signals: Sequence[float],
    costs: np.ndarray,
    *,
    n_seeds: int,
    n_repeats: int,
    seed: int,
    n_draws: int = 250,
) -> dict[str, float]:
    """Return how often verdicts on planted costs were right or wrong, by what is counted."""
    rng = np.random.default_rng([seed, 12, n_seeds])
    rows = []
    for number in range(n_repeats):
        draw = draw_sample(world, rng, number)
        common = rng.normal(size=(n_seeds, len(world.lesions)))
        cells = []
        for signal in signals:
            runs = draw_runs(world, draw, signal, common, rng)
            cells.append(make_simulated_arm("", draw, runs, "balanced_accuracy", n_draws))
        arms = {("frozen" if n else "full", n): arm for n, arm in enumerate(cells)}
        rows.append(_count(arms, costs))
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def _count(arms: Mapping[tuple[str, int], Arm], costs: np.ndarray) -> dict[str, float]:
    n_units = len(costs)
    assert find_basis(arms, n_units) == "F"
    resolution = resolve_gap(arms, n_units, "F")
    margin = resolution.value if resolution else POINT
    scores = compute_layer_scores(arms, UNITS, margin=margin)
    gaps = [unit.gaps["F"] for unit in scores]
    covered = [gap.low <= cost <= gap.high for gap, cost in zip(gaps, costs, strict=True) if gap]
    general, specific = (_find(scores, verdict) for verdict in ("general", "specific"))
    row = {
        "cover F": np.mean(covered),
        "margin": margin,
        "false general": (general & (costs >= margin)).any(),
        "false specific": (specific & (costs <= margin)).any(),
        "any general": general.any(),
        "any specific": specific.any(),
    }
    if not costs.all():
        row["general at 0"] = general[costs == 0].mean()
        at_one_point = _find(_judge(arms, POINT), "general")
        row["general at 0, one point"] = at_one_point[costs == 0].mean()
    row |= {f"specific, unit {n + 1}": specific[n] for n in np.flatnonzero(costs > 0)}
    edges = np.unique(costs[costs > 0])
    judged = [(costs == edge, _judge(arms, edge)) for edge in edges]  # the margin is a cost
    for verdict in ("general", "specific"):
        hits = [_find(scores, verdict)[is_at_edge] for is_at_edge, scores in judged]
        if hits:
            row[f"{verdict} at a margin of its cost"] = np.mean([hit.mean() for hit in hits])
            row[f"any {verdict} at a margin of its cost"] = np.mean([hit.any() for hit in hits])
    if not costs.any():
        # Equal cells: any two of them are AnB and BnB without a gap.
        full = arms["full", 0]
        pairs = {("BnB", n): full for n in range(1, n_units + 1)}
        pairs |= {("AnB", n): arms["frozen", n] for n in range(1, n_units + 1)}
        better = compute_layer_scores(pairs, UNITS, basis="S", margin=margin)
        row["false better"] = any(unit.serves_better for unit in better)
    return {key: float(value) for key, value in row.items()}


def _judge(arms: Mapping[tuple[str, int], Arm], margin: float) -> list[UnitScores]:
    return compute_layer_scores(arms, UNITS, margin=margin)


def _find(scores: Sequence[UnitScores], verdict: str) -> np.ndarray:
    return np.array([unit.verdict == verdict for unit in scores])


def print_layers(seeds: Sequence[int], n_repeats: int, n_truth: int, seed: int) -> None:
    """Print a table in Markdown: a row for each world, its planted costs and what is counted."""
    print(" | ".join(["| seed noise | costs | what", *(f"S = {n}" for n in seeds)]), "|")
    print("|---" * (3 + len(seeds)) + "|")
    for noise, world in NOISES.items():
        for signals in (FREE, EDGE[noise], LADDER):
            costs = compute_costs(world, signals, seed, n_truth)
            same = {"n_repeats": n_repeats, "seed": seed}
            found = [simulate_layers(world, signals, costs, n_seeds=n, **same) for n in seeds]
            planted = ", ".join(f"{100 * cost:.1f}" for cost in costs)
            for key in found[0]:
                cells = [f"{shares[key]:.3f}" for shares in found]
                print(" | ".join([f"| {noise} | {planted} | {key}", *cells]), "|", flush=True)
