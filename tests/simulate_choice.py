"""What choosing among cells on validation does to bias, error rates and coverage.

    python tests/simulate_statistics.py --part choice --repeats 1000

Scores are balanced accuracies near 70 %. The luck of a run moves its validation score and its test
score alike, and validation and test lesions are separate draws of HAM10000's class counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.special import ndtri
from simulated_world import World

from tlcnn.statistics.arm import Arm, Sample
from tlcnn.statistics.choice import choose_arm, cross_arms
from tlcnn.statistics.comparison import compare_arms
from tlcnn.statistics.resample import iterate_weights

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
    """Return the arm of runs, (S, G), with redraws as `tlcnn.statistics.resample` has them."""
    strata = sample.strata
    weights = np.concatenate(list(iterate_weights(strata, 250, int(sample.name, 16))))
    means = np.stack([added[:, strata == s].mean(axis=1) for s in np.unique(strata)], axis=1)
    return Arm(
        name,
        np.arange(len(added)),
        added.sum(axis=1),
        replicates=added @ weights.T,
        influence=added - means[:, strata],
        sample=sample,
        contributions=added,
    )


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
    n_all = world.n_cells + world.has_reference
    truth = np.full(n_all, SCORE)
    truth[-1] += world.gain
    levels = ndtri(truth) * np.sqrt(1 + world.luck_sd**2)  # their means over luck are `truth`
    strata = np.repeat(np.arange(len(world.lesions)), world.lesions)
    seeds = np.arange(n_seeds)
    rows: dict[str, list[tuple[float, ...]]] = {"before": [], "crossed": []}
    for number in range(n_repeats):
        luck = world.luck_sd * rng.normal(size=(n_all, n_seeds))
        val_arms = {
            str(cell): Arm(str(cell), seeds, scores)
            for cell, scores in enumerate(draw_answers(world, levels, luck, rng).sum(axis=-1))
            if cell or not world.has_reference
        }
        choice = choose_arm(val_arms)
        added = draw_answers(world, levels, luck, rng)
        sample = Sample(f"{number // 10:x}", np.arange(len(strata)), strata)
        arms = {
            key: make_test_arm(key, added[int(key)], sample)
            for key in {"0", choice.best, *choice.by_seed.values()}
        }
        all_seeds = dict.fromkeys(range(n_seeds), choice.best)
        for name, by_seed in (("before", all_seeds), ("crossed", choice.by_seed)):
            gain = float(np.mean([truth[int(key)] for key in by_seed.values()])) - truth[0]
            rows[name].append((gain, *compare_choice(arms, by_seed, is_crossed=name == "crossed")))
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


def compare_choice(
    arms: Mapping[str, Arm], by_seed: Mapping[int, str], *, is_crossed: bool
) -> tuple[float, float, float, float]:
    """Return delta, its interval and p of the chosen cells against cell 0."""
    if {*by_seed.values()} == {"0"}:
        return 0.0, 0.0, 0.0, 1.0
    chosen = cross_arms("best", arms, by_seed)
    chosen = chosen if is_crossed else replace(chosen, spread=1.0)
    result = compare_arms(chosen, arms["0"], n_permutations=499)
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
