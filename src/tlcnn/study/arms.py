"""Cells to arms: the scores of each cell's runs, under redraws of the test groups where known.

This is the one place that scores a cell, for every table and every answer.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.choice import SPREAD
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.metrics import (
    find_range,
    is_lower_better,
    is_weightable,
    make_score,
    parse_metric,
)
from tlcnn.statistics.notes import Note, NoteKind, merge_notes
from tlcnn.statistics.predictions import Predictions, compute_group_means
from tlcnn.statistics.resample import make_arm
from tlcnn.study.cells import Cell
from tlcnn.study.predictions import CellPredictions, load_predictions


def load_arms(
    cell: Cell, metrics: Sequence[str], *, redraws: bool = True, include_single_runs: bool = True
) -> dict[str, Arm]:
    """Return the arm of a cell for every metric that its runs have.

    A cell whose runs all have predictions is scored from them. Otherwise the scores of the
    summaries are taken, and the interval is over seeds alone. Seeds without a metric are left out
    of its arm; a note counts them. A metric that no run has gets no arm.

    Args:
        metrics: `SPLIT/METRIC` or `SPLIT/group/METRIC`.
        redraws: read predictions, so that the sampling of test images is in the interval.
        include_single_runs: read the predictions of a single run too. It has no interval, but it
            can be compared.
    """
    loaded: dict[tuple[str, tuple[int, ...]], CellPredictions | Note] = {}
    arms = {}
    for metric in metrics:
        seeds = list_scored_seeds(cell, metric)
        if not seeds:
            continue
        arm = _make_plain_arm(cell, metric, seeds)
        if cell.fold_ratio is None and redraws and (include_single_runs or len(seeds) > 1):
            split = parse_metric(metric).split
            if (split, seeds) not in loaded:
                runs_of_seeds = [run for run in cell.runs if run.seed in seeds]
                loaded[split, seeds] = load_predictions(runs_of_seeds, split)
            predictions = loaded[split, seeds]
            if isinstance(predictions, Note):
                arm = replace(arm, notes=(predictions,))
            else:
                arm = score_predictions(arm, predictions, metric)
        n_missing = len(cell.seeds) - len(seeds)
        if n_missing:
            note = Note(NoteKind.LACKS_METRIC, (n_missing,), metric)
            arm = replace(arm, notes=merge_notes(arm.notes, [note]))
        arms[metric] = replace(arm, spread=SPREAD) if len(cell.candidates) > 1 else arm
    return arms


def list_scored_seeds(cell: Cell, metric: str) -> tuple[int, ...]:
    """Return the seeds of a cell whose runs all have a metric, on every fold."""
    runs_by_seed = zip(*cell.folds, strict=True)
    return tuple(
        runs[0].seed for runs in runs_by_seed if all(metric in run.scores for run in runs)
    )


def _make_plain_arm(cell: Cell, metric: str, seeds: Sequence[int]) -> Arm:
    """Return the scores of the runs' summaries.

    With folds, `seeds` holds the fold numbers and each score is a mean over seeds.
    """
    scores = np.array(
        [[run.scores[metric] for run in fold if run.seed in seeds] for fold in cell.folds]
    )
    is_folded = cell.fold_ratio is not None
    return Arm(
        cell.key,
        np.array(cell.fold_numbers if is_folded else seeds, dtype=np.int64),
        scores.mean(axis=1) if is_folded else scores[0],
        lower_is_better=is_lower_better(metric),
        images="" if is_folded else cell.image_digest,
        fold_ratio=cell.fold_ratio,
        notes=(Note(NoteKind.FOLDS),) if is_folded else (),
        bounds=find_range(metric),
    )


def score_predictions(arm: Arm, predictions: CellPredictions, metric: str) -> Arm:
    """Return an arm scored from its runs' predictions, under redraws of the test groups as well.

    A metric that cannot be computed under weights of groups (of multi-label tasks, for example)
    keeps its scores, and the arm has a note of that.
    """
    by_group = parse_metric(metric).by_group
    sample, classes = predictions.sample, predictions.classes
    if predictions.multi_label or not is_weightable(metric, classes):
        return replace(arm, sample=sample, notes=(Note(NoteKind.NO_REDRAWS),))
    scores = []
    for rows in predictions.probabilities:
        labels, group = predictions.labels, np.searchsorted(sample.groups, predictions.groups)
        if by_group:
            rows, labels = compute_group_means(rows, labels, predictions.groups)
            group = np.arange(len(sample.groups))
        run = Predictions(rows, labels, group, len(sample.groups))
        scores.append(make_score(metric, run, classes))
    scored = make_arm(
        arm.name, predictions.seeds, scores, sample, lower_is_better=arm.lower_is_better
    )
    return replace(scored, images=arm.images, bounds=arm.bounds)


def estimate_mean(arms: Sequence[Arm]) -> Estimate:
    """Return the mean over all runs of one or several cells, with its interval.

    Cells of different seeds count as unpaired, so that none of their runs is left out.
    """
    if any(set(arm.seeds) != set(arms[0].seeds) for arm in arms):
        starts = np.cumsum([0, *(len(arm.seeds) for arm in arms)]).tolist()
        arms = [
            replace(arm, seeds=start + np.arange(len(arm.seeds)))
            for start, arm in zip(starts, arms, strict=False)
        ]
    n_runs = sum(len(arm.scores) for arm in arms)
    return estimate_contrast([(len(arm.scores) / n_runs, arm) for arm in arms])
