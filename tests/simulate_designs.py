"""Is what a design detects found in 80 % of studies? Are cells a margin apart equivalent?

python tests/simulate_statistics.py --part detection
python tests/simulate_statistics.py --part equivalence
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from simulate_layers import compute_costs
from simulated_world import (
    CELLS,
    NOISES,
    World,
    compute_run_score,
    draw_runs,
    draw_sample,
    make_simulated_arm,
)

from tlcnn.statistics.arm import Arm, Comparison
from tlcnn.statistics.comparison import adjust_holm, compare_arms
from tlcnn.statistics.detect import find_detectable, pool_noise, set_noise

# The deviation of a score over seeds is about 0.7, 2 and 3 points.
WORLDS = {
    "quiet": World(seed_sd=0.1, run_sd=0.1),
    "middle": World(),
    "loud": World(seed_sd=0.5, run_sd=0.5),
}


def draw_study(
    world: World, rng: np.random.Generator, number: int, n_seeds: int, signals: Sequence[float]
) -> list[Arm]:
    """Return an arm for each signal, all tested on one fresh sample."""
    draw = draw_sample(world, rng, number)
    common = rng.normal(size=(n_seeds, len(world.lesions)))
    return [
        make_simulated_arm(str(at), draw, runs, "balanced_accuracy", 200)
        for at, runs in enumerate(draw_runs(world, draw, s, common, rng) for s in signals)
    ]


def compare(a: Arm, b: Arm) -> Comparison:
    """Compare with as many permutations as a simulation can pay for."""
    return compare_arms(a, b, n_permutations=999)


def enlarge(world: World, groups: float) -> World:
    """Return a world with so many times the test lesions."""
    return replace(world, lesions=tuple(round(groups * n) for n in world.lesions))


def find_signal(world: World, gain: float, n_samples: int) -> float:
    """Return the signal of cells whose true score is so much above that of A; NaN for none."""
    signals = CELLS["A"] + np.linspace(0, 2.4, 9)
    sums = np.zeros(len(signals))
    for number in range(n_samples):
        for at, signal in enumerate(signals):
            rng = np.random.default_rng([9, number])  # the same draw for every signal
            draw = draw_sample(world, rng, number)
            common = rng.normal(size=(1, len(world.lesions)))
            run = draw_runs(world, draw, signal, common, rng)[0]
            sums[at] += compute_run_score(run, "balanced_accuracy")
    gains = (sums - sums[0]) / n_samples
    return float(np.interp(gain, gains, signals, right=np.nan))


def measure_detectable(
    world: World,
    n_seeds: int,
    designs: Sequence[tuple[int | None, float]],
    *,
    n_studies: int,
    n_cells: int = 8,
    seed: int = 0,
) -> np.ndarray:
    """Return what studies of equal cells say of designs, (studies, designs)."""
    rng = np.random.default_rng([seed, 11, n_seeds])
    sizes = []
    for number in range(n_studies):
        arms = draw_study(world, rng, number, n_seeds, [CELLS["A"]] * n_cells)
        (first,) = set_noise([compare(*arms[:2])], pool_noise(arms))
        sizes.append([find_detectable(first, *design) for design in designs])
    return np.array(sizes)


def measure_power(
    world: World, signal: float, n_seeds: int, *, n_studies: int, seed: int = 0
) -> float:
    """Return how often a cell of this signal is found different from cell A."""
    rng = np.random.default_rng([seed, 12, n_seeds])
    hits = []
    for number in range(n_studies):
        a, b = draw_study(world, rng, number, n_seeds, [CELLS["A"], signal])
        hits.append(compare(b, a).p < 0.05)
    return float(np.mean(hits))


def measure_false_equivalence(
    world: World, n_seeds: int, n_cells: int, *, margin: float, n_studies: int, seed: int = 0
) -> tuple[float, float]:
    """Return how often any of some cells A is equivalent to B: by adjusted and raw p.

    Args:
        margin: what B is truly better than A by.
    """
    rng = np.random.default_rng([seed, 13, n_seeds])
    adjusted, raw = [], []
    for number in range(n_studies):
        signals = [CELLS["B"], *[CELLS["A"]] * n_cells]
        reference, *cells = draw_study(world, rng, number, n_seeds, signals)
        same = {"margin": margin, "n_permutations": 9}  # p has no part in equivalence
        family = adjust_holm([compare_arms(cell, reference, **same) for cell in cells])
        adjusted.append(any(one.p_equivalent_holm < 0.05 for one in family))
        raw.append(any(one.p_equivalent < 0.05 for one in family))
    return float(np.mean(adjusted)), float(np.mean(raw))


def print_detection(seeds: Sequence[int], n_repeats: int, n_truth: int, seed: int) -> None:
    """Print, for each world and design, the size that is said to be found and how often it is."""
    print("| world | studies of | design | smallest difference, points (10-90 %) | found |")
    print("|---|---|---|---|---|")
    for name, world in WORLDS.items():
        for n_seeds in seeds:
            designs: list[tuple[int | None, float]] = [(None, 1)]
            designs += [(10, 1), (20, 1), (None, 4)] if n_seeds == 3 else []
            studies = max(n_repeats // 4, 20)
            sizes = measure_detectable(world, n_seeds, designs, n_studies=studies, seed=seed)
            for (planned, groups), column in zip(designs, sizes.T, strict=True):
                n, larger = planned or n_seeds, enlarge(world, groups)
                # A study of two seeds may say anything: the mean of such studies has no sense.
                size = float(np.median(column) if n_seeds < 3 else np.mean(column))
                low, high = np.quantile(column, [0.1, 0.9])
                signal = find_signal(world, size, n_truth)
                shape = f"{n} seeds, {groups:g} x groups"
                said = f"{100 * size:.1f} ({100 * low:.1f}-{100 * high:.1f})"
                found = "-"
                if np.isfinite(signal):
                    power = measure_power(larger, signal, n, n_studies=n_repeats, seed=seed)
                    found = f"{power:.3f}"
                print(f"| {name} | {n_seeds} seeds | {shape} | {said} | {found} |", flush=True)


def print_equivalence(seeds: Sequence[int], n_repeats: int, n_truth: int, seed: int) -> None:
    """Print how often any of 20 cells a margin apart is called equivalent."""
    print("| seed sd | margin, points | seeds | adjusted | raw |\n|---|---|---|---|---|")
    for noise, world in NOISES.items():
        (margin,) = compute_costs(world, (CELLS["B"], CELLS["A"]), seed, n_truth)
        same = {"margin": float(margin), "n_studies": n_repeats, "seed": seed}
        for n_seeds in seeds:
            adjusted, raw = measure_false_equivalence(world, n_seeds, 20, **same)
            row = f"| {noise} | {100 * margin:.1f} | {n_seeds} | {adjusted:.3f} | {raw:.3f} |"
            print(row, flush=True)
