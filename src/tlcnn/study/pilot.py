"""The design of a comparison, estimated from finished runs, to plan further runs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np

from tlcnn.errors import DataError
from tlcnn.records.read import read_runs
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.statistics.power import Design
from tlcnn.study.cells import make_cells
from tlcnn.study.predictions import CellPredictions, load_predictions
from tlcnn.study.runs import make_runs

MAX_PAIRS = 200  # pairs of cells; the mean over more would not change

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pilot:
    """A design as finished runs suggest it, and the cells that it was estimated from."""

    design: Design
    n_cells: int
    n_pairs: int
    dataset: str


def load_pilot(folder: str | Path, *, alpha: float = 0.05) -> Pilot:
    """Estimate a design from the finished runs below a folder.

    Cells of one dataset and test split with two seeds or more are taken. Of several such sets it
    is the one with the most cells.

    Raises DataError where no two such cells have two common seeds.
    """
    samples: dict[str, list[tuple[str, CellPredictions]]] = {}
    for cell in make_cells(make_runs(read_runs(folder))):
        for runs in cell.folds:
            if len(runs) < 2:
                continue
            predictions = load_predictions(runs)
            if isinstance(predictions, Note):
                if predictions.kind is NoteKind.UNUSABLE_PREDICTIONS:
                    log.warning("left out: %s", predictions.text)
            elif not predictions.multi_label:
                name = predictions.sample.name
                samples.setdefault(name, []).append((cell.dataset, predictions))
    largest = max(samples.values(), key=len, default=[])
    pairs = [
        (a, b)
        for (_, a), (_, b) in combinations(largest, 2)
        if a.classes == b.classes and len(np.intersect1d(a.seeds, b.seeds)) > 1
    ][:MAX_PAIRS]
    if not pairs:
        raise DataError(
            f"{folder} has no two cells with two common seeds on the same test images, so nothing "
            "is known of how cells differ. Train two cells with two seeds, or give --seed-sd, "
            "--score and --agreement"
        )
    return Pilot(make_design(pairs, alpha=alpha), len(largest), len(pairs), largest[0][0])


def make_design(
    pairs: Sequence[tuple[CellPredictions, CellPredictions]], *, alpha: float = 0.05
) -> Design:
    """Return the design of a comparison of two such cells, by class where it can be.

    The deviation over seeds is the root mean square over pairs, of the paired difference in
    balanced accuracy. Agreements are means over runs of different seeds.
    """
    sample, n_classes = pairs[0][0].sample, len(pairs[0][0].classes)
    variances, shares = zip(*(_measure(a, b) for a, b in pairs), strict=True)
    score, agreement, seed_agreement = np.mean(shares, axis=0)
    return Design(
        groups_per_class=tuple(np.bincount(sample.strata, minlength=n_classes).tolist()),
        seed_sd=float(np.sqrt(np.mean(variances))),
        score=score,
        agreement=agreement,
        seed_agreement=seed_agreement,
        alpha=alpha,
    )


def _measure(a: CellPredictions, b: CellPredictions) -> tuple[float, np.ndarray]:
    """Return the variance of the paired difference; recall and both agreements, (3, K).

    All are of the seeds that both cells have: over other sets of seeds, recall and agreement could
    contradict each other.
    """
    n_classes = len(a.classes)
    _, in_a, in_b = np.intersect1d(a.seeds, b.seeds, return_indices=True)
    right_a = a.probabilities[in_a].argmax(axis=2) == a.labels
    right_b = b.probabilities[in_b].argmax(axis=2) == b.labels
    sizes = np.bincount(a.labels, minlength=n_classes)
    if (sizes == 0).any():
        raise DataError(
            "a class has no test image, so the power for balanced accuracy cannot be computed"
        )

    def by_class(values: np.ndarray) -> np.ndarray:
        return np.bincount(a.labels, weights=values, minlength=n_classes) / sizes

    paired = [
        by_class(in_a * 1.0 - in_b).mean() for in_a, in_b in zip(right_a, right_b, strict=True)
    ]
    within = [_agree(right_a, right_a), _agree(right_b, right_b)]
    shares = [
        (right_a.mean(axis=0) + right_b.mean(axis=0)) / 2,
        _agree(right_a, right_b),
        np.mean(within, axis=0),
    ]
    return float(np.var(paired, ddof=1)), np.stack([by_class(values) for values in shares])


def _agree(right_a: np.ndarray, right_b: np.ndarray) -> np.ndarray:
    """Return how often runs of different seeds are both right or both wrong, per image, (N,)."""
    pairs = permutations(range(len(right_a)), 2)
    return np.mean([right_a[i] == right_b[j] for i, j in pairs], axis=0)
