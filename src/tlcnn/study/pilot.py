"""What finished runs tell about the runs that are still to be planned."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.errors import DataError, list_names
from tlcnn.records.read import read_runs
from tlcnn.statistics.power import Design
from tlcnn.study.predictions import CellPredictions, load_cell

N_PAIRS = 200  # of cells; more would tell nothing new

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pilot:
    """A design as finished runs suggest it, and what it was taken from."""

    design: Design
    n_cells: int
    n_pairs: int
    dataset: str


def load_pilot(folder: str | Path, *, alpha: float = 0.05) -> Pilot:
    """Estimate a design from the finished runs below a folder.

    Cells of one dataset and test split with two seeds or more are taken: of several such sets the
    one with the most cells.

    Raises:
        DataError: no folder, or no two such cells with two common seeds.
    """
    runs = read_runs(folder)
    done = runs[(runs["state"] == "done") & (runs["has_predictions"] == True)]  # noqa: E712
    cells: dict[str, list[tuple[str, CellPredictions]]] = {}
    keys = ["dataset", "model", "init", "k", "j", "bn", "cell_id"]
    for _, rows in done.groupby(keys, dropna=False, sort=True) if len(done) else ():
        rows = rows.drop_duplicates("seed")
        if len(rows) > 1:
            cell = _load(rows)
            if cell is not None and not cell.multi_label:
                cells.setdefault(cell.sample.name, []).append((str(rows["dataset"].iloc[0]), cell))
    most = max(cells.values(), key=len, default=[])
    pairs = _find_pairs([cell for _, cell in most])
    if not pairs:
        raise DataError(
            f"{folder} has no two cells with two common seeds on the same test images, so nothing "
            "is known of how cells differ. Train two cells with two seeds, or give --seed-sd, "
            "--score and --agreement"
        )
    return Pilot(make_design(pairs, alpha=alpha), len(most), len(pairs), most[0][0])


def _load(rows: pd.DataFrame) -> CellPredictions | None:
    """Return a cell's predictions; None, with a line that says why, where they are damaged."""
    seeds = [int(seed) for seed in rows["seed"]]
    name = list_names([str(Path(folder).name) for folder in rows["folder"]], limit=1)
    try:
        return load_cell(name, seeds, list(rows["folder"]))
    except DataError as error:
        log.warning("left out: %s", error)
        return None


def _find_pairs(cells: Sequence[CellPredictions]) -> list[tuple[CellPredictions, CellPredictions]]:
    pairs = [
        (a, b)
        for a, b in combinations(cells, 2)
        if a.classes == b.classes and len(np.intersect1d(a.seeds, b.seeds)) > 1
    ]
    return pairs[:N_PAIRS]


def make_design(
    pairs: Sequence[tuple[CellPredictions, CellPredictions]], *, alpha: float = 0.05
) -> Design:
    """Return the design of a pair of cells like these, by class where it can be.

    The deviation over seeds is the root mean square over pairs, of the paired difference in
    balanced accuracy. Agreements are means over runs of different seeds.
    """
    cell = pairs[0][0]
    n_classes = len(cell.classes)
    found = [_measure(a, b) for a, b in pairs]
    score, agreement, seed_agreement = np.mean([one[1:] for one in found], axis=0)
    return Design(
        groups_per_class=tuple(np.bincount(cell.sample.strata, minlength=n_classes).tolist()),
        seed_sd=float(np.sqrt(np.mean([one[0].mean() for one in found]))),
        score=score,
        agreement=agreement,
        seed_agreement=seed_agreement,
        alpha=alpha,
    )


def _measure(
    a: CellPredictions, b: CellPredictions
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the variance of the paired difference, recalls and both agreements, (K,) each."""
    n_classes = len(a.classes)
    right_a, right_b = (cell.logits.argmax(axis=2) == cell.labels for cell in (a, b))
    seeds = np.intersect1d(a.seeds, b.seeds)
    sizes = np.bincount(a.labels, minlength=n_classes)
    if (sizes == 0).any():
        raise DataError("a class has no test image, so balanced accuracy has no power to speak of")

    def by_class(values: np.ndarray) -> np.ndarray:
        return np.bincount(a.labels, weights=values, minlength=n_classes) / sizes

    paired = [
        by_class(right_a[a.seeds == seed][0] * 1.0 - right_b[b.seeds == seed][0]).mean()
        for seed in seeds
    ]
    within = [
        _agree(right_a, right_a, a.seeds, a.seeds),
        _agree(right_b, right_b, b.seeds, b.seeds),
    ]
    return (
        np.full(n_classes, np.var(paired, ddof=1)),
        by_class((right_a.mean(axis=0) + right_b.mean(axis=0)) / 2),
        by_class(_agree(right_a, right_b, a.seeds, b.seeds)),
        by_class(np.mean(within, axis=0)),
    )


def _agree(
    one: np.ndarray, other: np.ndarray, seeds: np.ndarray, other_seeds: np.ndarray
) -> np.ndarray:
    """Return how often runs of different seeds are both right or both wrong, per image, (N,)."""
    pairs = np.argwhere(seeds[:, None] != other_seeds[None])
    return np.mean([one[i] == other[j] for i, j in pairs], axis=0)
