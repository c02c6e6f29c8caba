"""Do intervals of cross-validated cells cover? Folds that share images, repeats that share all."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tlcnn.statistics.arm import Arm
from tlcnn.statistics.estimate import estimate_contrast

N_IMAGES = 1000
WORLDS = {  # sd of a seed in all folds, sd of a single network; in shares of the metric
    "networks differ by 0.5 points": (0.0, 0.005),
    "networks differ by 3 points": (0.0, 0.03),
    "seeds differ by 0.5 points": (0.005, 0.0),
    "seeds differ by 3 points": (0.03, 0.0),
}


def draw_cell(
    rng: np.random.Generator, n_seeds: int, n_folds: int, n_repeats: int, sds: tuple[float, float]
) -> Arm:
    """Return a cell whose true score is 0: what images, training sets, seeds and networks add."""
    seed_sd, network_sd = sds
    images = 0.3 * rng.normal(size=N_IMAGES)
    shared = rng.normal(size=(n_seeds, 1)) * seed_sd + 0.005 * 0.2**0.5 * rng.normal()
    n_tested = N_IMAGES // n_folds
    parts = []
    for _ in range(n_repeats):
        tested = rng.permutation(images)[: n_folds * n_tested].reshape(n_folds, n_tested)
        training = 0.005 * 0.8**0.5 * rng.normal(size=n_folds)
        noise_sd = (network_sd**2 + 0.3**2 / n_tested) ** 0.5
        noise = noise_sd * rng.normal(size=(n_seeds, n_folds))
        parts.append(tested.mean(axis=1) + training + noise + shared)
    scores = np.concatenate(parts, axis=1)
    return Arm(
        "cell",
        np.arange(n_seeds),
        scores.mean(axis=1),
        folds=tuple((repeat, fold) for repeat in range(n_repeats) for fold in range(n_folds)),
        fold_scores=scores,
        fold_ratio=1 / (n_folds - 1),
    )


def simulate_folds(
    n_seeds: int,
    sds: tuple[float, float],
    *,
    n_folds: int,
    n_repeats: int,
    n_studies: int,
    seed: int,
) -> tuple[float, float]:
    """Return the coverage of the interval, and of that of the folds alone, without the seeds."""
    rng = np.random.default_rng([seed, 4, n_seeds, n_folds, n_repeats])
    hits = []
    for _ in range(n_studies):
        arm = draw_cell(rng, n_seeds, n_folds, n_repeats, sds)
        assert arm.fold_scores is not None
        one = np.array([arm.mean])
        alone = replace(arm, seeds=one, scores=one, fold_scores=arm.fold_scores.mean(axis=0)[None])
        estimates = (estimate_contrast([(1.0, cell)]) for cell in (arm, alone))
        hits.append([estimate.low <= 0 <= estimate.high for estimate in estimates])
    whole, folds_alone = np.mean(hits, axis=0).tolist()
    return whole, folds_alone


def tabulate_folds(seeds: Sequence[int], *, n_studies: int, seed: int) -> str:
    """Return the coverage of every world in Markdown, and in brackets that without the seeds."""
    lines = ["| folds | " + " | ".join(f"S = {n}" for n in seeds) + " |"]
    lines.append("|---" * (1 + len(seeds)) + "|")
    for n_folds, n_repeats in ((2, 1), (5, 1), (5, 3)):
        for name, sds in WORLDS.items():
            cells = []
            for n_seeds in seeds:
                design = {"n_folds": n_folds, "n_repeats": n_repeats, "n_studies": n_studies}
                whole, alone = simulate_folds(n_seeds, sds, **design, seed=seed)
                cells.append(f"{whole:.3f} ({alone:.3f})")
            lines.append(f"| {n_repeats} × {n_folds}, {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
