"""A world of lesions and classifiers, where the truth of every score is known.

Lesions have 1 to 3 images, in the class counts of a HAM10000 test split; classifiers are noisy
logits. Lesions are hard or easy for all runs, for one cell, or for one run; seeds favour classes;
images add noise of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tlcnn.statistics.arm import Arm, Sample
from tlcnn.statistics.metrics import make_score
from tlcnn.statistics.predictions import Predictions
from tlcnn.statistics.resample import make_arm

HAM10000_IMAGES = (65, 103, 220, 23, 223, 1341, 29)  # akiec bcc bkl df mel nv vasc, test split
CELLS = {"A": 1.7, "B": 1.9, "R": 1.2}  # cell: how far the right class's logit is raised


@dataclass(frozen=True)
class World:
    """Where runs are drawn from; deviations are of logits.

    Attributes:
        lesions: (K,) test lesions of each class.
        lesion_sd: of what a lesion does to all runs; `cell_sd` to a cell's runs, `run_sd` to one.
        seed_sd: of what a run does to a class; half of its variance is the seed's, in all cells.
        image_sd: of an image, to all runs.
        bias: (K,) what a class is favoured by.
    """

    lesions: tuple[int, ...] = tuple(round(0.75 * n) for n in HAM10000_IMAGES)
    lesion_sd: float = 0.8
    cell_sd: float = 0.4
    run_sd: float = 0.5
    seed_sd: float = 0.25
    image_sd: float = 0.4
    bias: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.4, 0.0)


# By the standard deviation of a cell's score over seeds, in points of balanced accuracy.
NOISES = {
    "0.5": World(seed_sd=0.03, run_sd=0.03),
    "1.5": World(seed_sd=0.15, run_sd=0.3),
    "3": World(seed_sd=0.42, run_sd=0.5),
}


@dataclass(frozen=True)
class Draw:
    """One test sample: labels (N,), lesion of each image (N,), and what all runs see (N, K)."""

    labels: np.ndarray
    lesion: np.ndarray
    shared: np.ndarray
    sample: Sample


def draw_sample(world: World, rng: np.random.Generator, number: int) -> Draw:
    """Return fresh lesions and images; ten samples in a row share their redraws."""
    of_lesion = np.repeat(np.arange(len(world.lesions)), world.lesions)
    n_images = rng.choice(3, size=len(of_lesion), p=[0.75, 0.17, 0.08]) + 1
    lesion = np.repeat(np.arange(len(of_lesion)), n_images)
    n_classes = len(world.lesions)
    shared = world.lesion_sd * rng.normal(size=(len(of_lesion), n_classes))[lesion]
    shared += world.image_sd * rng.normal(size=(len(lesion), n_classes)) + np.array(world.bias)
    sample = Sample(f"{number // 10:x}", np.arange(len(of_lesion)), of_lesion)
    return Draw(of_lesion[lesion], lesion, shared, sample)


def draw_runs(
    world: World, draw: Draw, signal: float, common: np.ndarray, rng: np.random.Generator
) -> list[Predictions]:
    """Return the predictions of a cell's runs.

    Args:
        signal: how far the right class is raised.
        common: (S, K) what each seed does to a class in all cells, standard normal.
    """
    n_lesions, n_classes = len(draw.sample.groups), common.shape[1]
    cell = draw.shared + world.cell_sd * rng.normal(size=(n_lesions, n_classes))[draw.lesion]
    cell[np.arange(len(draw.labels)), draw.labels] += signal
    runs = []
    for own in common:
        favour = world.seed_sd * np.sqrt(0.5) * (own + rng.normal(size=n_classes))
        noise = world.run_sd * rng.normal(size=(n_lesions, n_classes))
        logits = np.exp(cell + noise[draw.lesion] + favour)
        logits /= logits.sum(axis=1, keepdims=True)
        runs.append(Predictions(logits, draw.labels, draw.lesion, n_lesions))
    return runs


def make_simulated_arm(
    name: str, draw: Draw, runs: Sequence[Predictions], metric: str, n_draws: int
) -> Arm:
    """Score simulated runs as real ones are."""
    classes = tuple(map(str, range(runs[0].n_classes)))
    scores = [make_score(metric, run, classes) for run in runs]
    return make_arm(name, np.arange(len(runs)), scores, draw.sample, n_draws=n_draws)


def compute_truth(world: World, seed: int, n_samples: int) -> dict[str, float]:
    """Return the mean score of each cell over fresh lesions and seeds, and `auroc` of A."""
    rng = np.random.default_rng([seed, 1])
    sums = dict.fromkeys([*CELLS, "auroc"], 0.0)
    for number in range(n_samples):
        draw = draw_sample(world, rng, number)
        common = rng.normal(size=(1, len(world.lesions)))
        for name, signal in CELLS.items():
            run = draw_runs(world, draw, signal, common, rng)[0]
            sums[name] += compute_run_score(run, "balanced_accuracy")
            if name == "A" and number % 4 == 0:
                sums["auroc"] += 4 * compute_run_score(run, "macro_auroc")
    return {name: total / n_samples for name, total in sums.items()}


def compute_run_score(run: Predictions, metric: str) -> float:
    """Return the score of one run where every group weighs 1."""
    ones = np.ones((1, run.n_groups))
    return float(make_score(metric, run, ()).compute(ones)[0])
