"""Cells to arms: the scores of each cell's runs, under redraws of the test groups where known.

This is the one place that scores a cell, for every table and every answer.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tlcnn.errors import TlcnnError
from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.metrics import is_lower_better
from tlcnn.statistics.notes import Note, NoteKind, merge_notes
from tlcnn.study.cells import Cell
from tlcnn.study.predictions import CellPredictions, load_cell, make_arm


def load_arms(
    cell: Cell, metrics: Sequence[str], *, redraws: bool = True, lone: bool = True
) -> dict[str, Arm]:
    """Return the arm of a cell for every metric that its runs have.

    A cell whose runs all have predictions is scored from them. Otherwise the scores of the
    summaries are taken, and the interval is over seeds alone. Seeds without a metric are left out
    of its arm; a note counts them. A metric that no run has gets no arm.

    Args:
        metrics: `SPLIT/METRIC`.
        redraws: read predictions, so that the sampling of test images is in the interval.
        lone: read those of a single run too, which has no interval but can be compared.
    """
    seeds_of = {
        metric: tuple(
            seed
            for at, seed in enumerate(cell.seeds)
            if all(metric in fold[at].scores for fold in cell.folds)
        )
        for metric in metrics
    }
    loaded: dict[tuple[str, tuple[int, ...]], CellPredictions | Note] = {}
    arms = {}
    for metric, seeds in seeds_of.items():
        if not seeds:
            continue
        if cell.fold_ratio is not None:
            arm = _make_fold_arm(cell, metric, seeds, cell.fold_ratio)
        elif not redraws or (len(seeds) == 1 and not lone):
            arm = _make_bare_arm(cell, metric, seeds)
        else:
            split = metric.split("/")[0]
            if (split, seeds) not in loaded:
                loaded[split, seeds] = _load_predictions(cell, split, seeds)
            arm = _score_predictions(cell, metric, seeds, loaded[split, seeds])
        n_missing = len(cell.seeds) - len(seeds)
        if n_missing:
            note = Note(NoteKind.LACKS_METRIC, (n_missing,), metric)
            arm = replace(arm, notes=merge_notes(arm.notes, [note]))
        arms[metric] = arm
    return arms


def _load_predictions(cell: Cell, split: str, seeds: Sequence[int]) -> CellPredictions | Note:
    folders = [run.folder for run in cell.folds[0] if run.seed in seeds]
    if not all((Path(folder) / "predictions.parquet").is_file() for folder in folders):
        return Note(NoteKind.NO_PREDICTIONS)
    try:
        return load_cell(cell.key, seeds, folders, split)
    except (TlcnnError, OSError, ValueError, KeyError) as error:
        return Note(NoteKind.UNUSABLE_PREDICTIONS, text=str(error).splitlines()[0])


def _score_predictions(
    cell: Cell, metric: str, seeds: Sequence[int], predictions: CellPredictions | Note
) -> Arm:
    if isinstance(predictions, Note):
        return _make_bare_arm(cell, metric, seeds, predictions)
    try:
        return make_arm(predictions, metric)
    except (TlcnnError, OSError, ValueError, KeyError) as error:
        note = Note(NoteKind.UNUSABLE_PREDICTIONS, text=str(error).splitlines()[0])
        return _make_bare_arm(cell, metric, seeds, note)


def _make_bare_arm(cell: Cell, metric: str, seeds: Sequence[int], *notes: Note) -> Arm:
    """Return the scores of the runs' summaries, without redraws."""
    return Arm(
        cell.key,
        np.array(seeds, dtype=np.int64),
        np.array([run.scores[metric] for run in cell.folds[0] if run.seed in seeds]),
        lower_is_better=is_lower_better(metric),
        images=cell.image_digest,
        notes=notes,
    )


def _make_fold_arm(cell: Cell, metric: str, seeds: Sequence[int], fold_ratio: float) -> Arm:
    """Return folds as an arm: fold numbers in the place of seeds, means over seeds as scores."""
    means = [
        np.mean([run.scores[metric] for run in fold if run.seed in seeds]) for fold in cell.folds
    ]
    return Arm(
        cell.key,
        np.array(cell.fold_numbers, dtype=np.int64),
        np.array(means),
        lower_is_better=is_lower_better(metric),
        fold_ratio=fold_ratio,
        notes=(Note(NoteKind.FOLDS),),
    )


def estimate_cell(arm: Arm, metric: str) -> Estimate:
    """Return the mean of a cell's runs with its interval."""
    return estimate_mean([arm], metric)


def estimate_mean(arms: Sequence[Arm], metric: str) -> Estimate:
    """Return the mean over all runs of several cells, with its interval.

    Cells of different seeds count as unpaired, so that none of their runs is left out.
    """
    if any(set(arm.seeds) != set(arms[0].seeds) for arm in arms):
        starts = np.cumsum([0, *(len(arm.seeds) for arm in arms)]).tolist()
        arms = [
            replace(arm, seeds=start + np.arange(len(arm.seeds)))
            for start, arm in zip(starts, arms, strict=False)
        ]
    n_runs = sum(len(arm.scores) for arm in arms)
    mean = estimate_contrast([(len(arm.scores) / n_runs, arm) for arm in arms])
    # Student's t knows no bounds: two seeds near 100 % can give an interval beyond it.
    least, most = find_range(metric)
    low, high = max(mean.low, least), min(mean.high, most)  # NaN stays NaN: it comes first
    return replace(mean, low=low, high=high)


def find_range(metric: str) -> tuple[float, float]:
    """Return the least and the greatest value of a metric.

    Example:
        >>> find_range("test/recall/mel"), find_range("test/nll")
        ((0.0, 1.0), (0.0, inf))
    """
    name = metric.removeprefix("test/").removeprefix("val/").removeprefix("group/")
    least = -1.0 if "kappa" in name else 0.0
    most = {"nll": float("inf"), "n_absent_classes": float("inf"), "mae": float("inf")}
    return least, 2.0 if name == "brier" else most.get(name, 1.0)
