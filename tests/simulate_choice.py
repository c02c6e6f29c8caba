"""What choosing among cells on validation does to bias, error rates and coverage.

    python tests/simulate_statistics.py --part choice --repeats 1000

Scores are balanced accuracies near 70 %. The luck of a run moves its validation score and its test
score alike, and validation and test lesions are separate draws of HAM10000's class counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


def draw_arms(
    world: ChoiceWorld, levels: np.ndarray, luck: np.ndarray, name: str, rng: np.random.Generator
) -> list[Arm]:
    """Return the arm of each cell on fresh lesions.

    Args:
        levels: (C,) the normal deviate of each cell's score.
        luck: (C, S) what it is raised by in each run.
    """
    strata = np.repeat(np.arange(len(world.lesions)), world.lesions)
    n_cells, n_seeds = luck.shape
    of_lesion, of_cell, of_run = np.sqrt(SHARES)
    answers = of_run * rng.standard_normal((n_cells, n_seeds, len(strata)), dtype=np.float32)
    answers += of_cell * rng.standard_normal((n_cells, 1, len(strata)), dtype=np.float32)
    answers += of_lesion * rng.standard_normal(len(strata), dtype=np.float32)
    is_right = answers + (levels[:, None] + luck)[..., None] > 0
    sizes = np.array(world.lesions)[strata]
    added = is_right / (len(world.lesions) * sizes)  # (C, S, G)
    means = np.stack([added[..., strata == s].mean(axis=-1) for s in np.unique(strata)], axis=-1)
    weights = np.concatenate(list(iterate_weights(strata, 250, int(name, 16))))
    sample = Sample(name, np.arange(len(strata)), strata)
    return [
        Arm(
            str(number),
            np.arange(n_seeds),
            runs.sum(axis=1),
            replicates=runs @ weights.T,
            influence=runs - centers[:, strata],
            sample=sample,
            contributions=runs,
        )
        for number, (runs, centers) in enumerate(zip(added, means, strict=True))
    ]


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
    # the mean over luck is the truth
    levels = ndtri(truth) * np.sqrt(1 + world.luck_sd**2)
    rows: dict[str, list[tuple[float, ...]]] = {"before": [], "crossed": []}
    for number in range(n_repeats):
        luck = world.luck_sd * rng.normal(size=(n_all, n_seeds))
        val = draw_arms(world, levels, luck, f"{2 * (number // 10):x}", rng)
        test = draw_arms(world, levels, luck, f"{2 * (number // 10) + 1:x}", rng)
        arms = {arm.name: arm for arm in test}
        choice = choose_arm({arm.name: arm for arm in val[world.has_reference :]})
        all_seeds = dict.fromkeys(range(n_seeds), choice.best)
        for name, by_seed in (("before", all_seeds), ("crossed", choice.by_seed)):
            gain = float(np.mean([truth[int(key)] for key in by_seed.values()])) - truth[0]
            rows[name].append((gain, *compare_choice(arms, by_seed)))
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
    arms: Mapping[str, Arm], by_seed: Mapping[int, str]
) -> tuple[float, float, float, float]:
    """Return delta, its interval and p of the chosen cells against cell 0."""
    if {*by_seed.values()} == {"0"}:
        return 0.0, 0.0, 0.0, 1.0
    result = compare_arms(cross_arms("best", arms, by_seed), arms["0"], n_permutations=499)
    return result.delta.value, result.delta.low, result.delta.high, result.p


WORLDS = {
    "21 equal cells, full fine-tuning among them": ChoiceWorld(),
    "one of 21 is 4 points better": ChoiceWorld(gain=0.04),
    "3 equal rates against a cell of one rate": ChoiceWorld(n_cells=3, has_reference=True),
}


def render_choice(seeds: Sequence[int], n_repeats: int, seed: int) -> str:
    """Return the table in Markdown: a line for each world, seed noise and number of seeds."""
    heads = ("before better", "crossed better", "crossed worse", "before bias", "crossed bias")
    heads += ("before cover true", "crossed cover true", "crossed cover mean", "crossed gain")
    lines = [f"| cells | seed sd | S | {' | '.join(heads)} |", "|---" * (3 + len(heads)) + "|"]
    for title, world in WORLDS.items():
        for seed_sd in (0.005, 0.015, 0.03):
            for n_seeds in seeds:
                noisy = ChoiceWorld(world.n_cells, world.has_reference, seed_sd, world.gain)
                shares = simulate_choice(noisy, n_seeds=n_seeds, n_repeats=n_repeats, seed=seed)
                texts = [f"{shares[head]:.3f}" for head in heads]
                lines.append(f"| {title} | {seed_sd} | {n_seeds} | {' | '.join(texts)} |")
    return "\n".join(lines)
