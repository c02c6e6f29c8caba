"""What choosing among cells on validation does to bias, error rates and coverage.

    python tests/simulate_statistics.py --part choice --repeats 1000

Scores are balanced accuracies near 70 %. The luck of a run moves its validation score and its test
score alike, and validation and test lesions are separate draws of HAM10000's class counts. The
cells are those of records on disk, and the choice is that of a report (`Block.find_best`).
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from records_made import write_cell
from scipy.special import ndtri
from simulated_world import World

from tlcnn.records.read import read_runs
from tlcnn.statistics.arm import Arm, Sample
from tlcnn.statistics.choice import choose_arm
from tlcnn.statistics.comparison import compare_arms
from tlcnn.statistics.resample import make_arm
from tlcnn.statistics.score import Score
from tlcnn.study.arms import load_arms
from tlcnn.study.block import Block, find_val_metric, make_blocks
from tlcnn.study.cells import make_cells
from tlcnn.study.runs import make_runs

METRIC = "test/balanced_accuracy"
GRID = [(k, j) for k in range(5, -1, -1) for j in range(k + 1)]  # full fine-tuning first
SCORE = 0.7
SHARES = (0.6, 0.2, 0.2)  # of the variance of an answer: the lesion's, the cell's, the run's


@dataclass(frozen=True)
class ChoiceWorld:
    """Cells that validation chooses among.

    Attributes:
        n_cells: candidates; the first is the reference unless `has_reference`.
        has_reference: the candidates are compared with a further cell.
        seed_sd: standard deviation of the luck of a run, in units of the score.
        gain: of the last candidate over all others.
        lesions: (K,) lesions of each class, on validation and on test.
    """

    n_cells: int = 21
    has_reference: bool = False
    seed_sd: float = 0.03
    gain: float = 0.0
    lesions: tuple[int, ...] = World.lesions

    @property
    def luck_sd(self) -> float:
        """The luck of a run on the scale of the normal deviates that `SCORE` is a share of."""
        z = ndtri(SCORE)
        return float(self.seed_sd * np.sqrt(2 * np.pi) * np.exp(z**2 / 2))


def draw_answers(
    world: ChoiceWorld, levels: np.ndarray, luck: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return what fresh lesions add to the score of each run, (C, S, G).

    Args:
        levels: (C,) the normal deviate of each cell's score.
        luck: (C, S) what it is raised by in each run.
    """
    sizes = np.repeat(world.lesions, world.lesions)
    of_lesion, of_cell, of_run = np.sqrt(SHARES, dtype=np.float32)
    answers = of_run * rng.standard_normal((*luck.shape, len(sizes)), dtype=np.float32)
    answers += of_cell * rng.standard_normal((len(luck), 1, len(sizes)), dtype=np.float32)
    answers += of_lesion * rng.standard_normal(len(sizes), dtype=np.float32)
    is_right = answers + (levels[:, None] + luck)[..., None] > 0
    return is_right / (len(world.lesions) * sizes)


def make_test_arm(name: str, added: np.ndarray, sample: Sample) -> Arm:
    """Return the arm of runs, (S, G), scored as balanced accuracy is."""
    n_classes = int(sample.strata.max()) + 1
    reach = np.full(n_classes, 1 / n_classes)
    scores = [
        Score(lambda weights, row=row: weights @ row, row, row, reach=reach, is_counted=True)
        for row in added
    ]
    return make_arm(name, np.arange(len(added)), scores, sample, n_draws=250)


def make_block(n_cells: int, n_seeds: int) -> Block:
    """Return the block of a study with the first cells of the grid; their scores mean nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for k, j in GRID[:n_cells]:
            init = "imagenet" if k else "random"
            write_cell(Path(folder), (0.5,) * n_seeds, init=init, k=k, j=j, val=0.5)
        cells = {cell.key: cell for cell in make_cells(make_runs(read_runs(folder)))}
        arms = {
            key: load_arms(cell, [METRIC, find_val_metric(METRIC)]) for key, cell in cells.items()
        }
        (block,) = make_blocks(cells, arms, METRIC)
    return block


def simulate_choice(
    world: ChoiceWorld, *, n_seeds: int, n_repeats: int, seed: int = 0
) -> dict[str, float]:
    """Return what choosing by all seeds (`before`), and crossed over seeds, says and estimates.

    Returns:
        `better` and `worse`, the shares of repeats with this verdict at 5 %; `bias` in points, of
        the estimated gain over the true gain of what was chosen; of crossed choices also `gain`,
        the mean true gain in points, and the coverage of the true gain, and of its mean.
    """
    rng = np.random.default_rng([seed, 7, n_seeds])
    block = make_block(world.n_cells, n_seeds)
    source = block.imagenet
    full = block.find_deepest_trained(source) if source else None
    assert source and full
    reference = "reference" if world.has_reference else full
    keys = [reference, *(key for key in block.cells if key != reference)]
    truth = dict.fromkeys(keys, SCORE)
    truth[keys[-1]] += world.gain
    levels = ndtri(list(truth.values())) * np.sqrt(1 + world.luck_sd**2)  # whose mean is `truth`
    strata = np.repeat(np.arange(len(world.lesions)), world.lesions)
    seeds = np.arange(n_seeds)
    rows: dict[str, list[tuple[float, ...]]] = {"before": [], "crossed": []}
    for number in range(n_repeats):
        luck = world.luck_sd * rng.normal(size=(len(keys), n_seeds))
        val, test = (
            dict(zip(keys, draw_answers(world, levels, luck, rng), strict=True)) for _ in range(2)
        )
        val_arms = {key: Arm(key, seeds, val[key].sum(axis=-1)) for key in block.cells}
        chosen = choose_arm(val_arms)
        sample = Sample(f"{number // 10:x}", np.arange(len(strata)), strata)
        arms = val_arms | {
            key: make_test_arm(key, test[key], sample)
            for key in {reference, chosen.best, *chosen.by_seed.values()}
        }
        best = replace(block, arms=arms, val_arms=val_arms).find_best(source)
        assert best and best.arm
        all_seeds = dict.fromkeys(range(n_seeds), best.cell)
        for name, by_seed, arm in (
            ("before", all_seeds, arms[best.cell]),
            ("crossed", best.by_seed, best.arm),
        ):
            gain = float(np.mean([truth[key] for key in by_seed.values()])) - SCORE
            is_reference = {*by_seed.values()} == {reference}  # there is nothing to compare
            compared = (0.0, 0.0, 0.0, 1.0) if is_reference else compare(arm, arms[reference])
            rows[name].append((gain, *compared))
    return summarize(rows)


def summarize(rows: Mapping[str, Sequence[tuple[float, ...]]]) -> dict[str, float]:
    """Return what `simulate_choice` returns, from (true gain, delta, low, high, p) of repeats."""
    shares = {}
    for name, values in rows.items():
        gain, delta, low, high, p = np.array(values).T
        shares[f"{name} better"] = float(((p < 0.05) & (delta > 0)).mean())
        shares[f"{name} worse"] = float(((p < 0.05) & (delta < 0)).mean())
        shares[f"{name} bias"] = float(100 * (delta - gain).mean())
        is_compared = low < high
        for kind, true in (("true", gain), ("mean", gain.mean())):
            hits = (low <= true) & (true <= high)
            shares[f"{name} cover {kind}"] = float(hits[is_compared].mean())
        shares[f"{name} gain"] = float(100 * gain.mean())
    return shares


def compare(a: Arm, b: Arm) -> tuple[float, float, float, float]:
    """Return the difference, its interval and p, with as few permutations as will do."""
    result = compare_arms(a, b, n_permutations=499)
    return result.delta.value, result.delta.low, result.delta.high, result.p


WORLDS = {
    "21 equal cells, full fine-tuning among them": ChoiceWorld(),
    "one of 21 is 4 points better": ChoiceWorld(gain=0.04),
    "3 equal rates against a cell of one rate": ChoiceWorld(n_cells=3, has_reference=True),
}


def print_choice(seeds: Sequence[int], n_repeats: int, seed: int) -> None:
    """Print the table in Markdown: a line for each world, seed noise and number of seeds."""
    heads = ("before better", "crossed better", "crossed worse", "before bias", "crossed bias")
    heads += ("before cover true", "crossed cover true", "crossed cover mean", "crossed gain")
    print(f"| cells | seed sd | S | {' | '.join(heads)} |")
    print("|---" * (3 + len(heads)) + "|")
    for title, world in WORLDS.items():
        for seed_sd, n_seeds in product((0.005, 0.015, 0.03), seeds):
            noisy = replace(world, seed_sd=seed_sd)
            shares = simulate_choice(noisy, n_seeds=n_seeds, n_repeats=n_repeats, seed=seed)
            texts = [f"{shares[head]:.3f}" for head in heads]
            print(f"| {title} | {seed_sd} | {n_seeds} | {' | '.join(texts)} |", flush=True)
