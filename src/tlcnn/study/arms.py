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
from tlcnn.statistics.notes import Note, NoteKind, Notes, merge_notes
from tlcnn.statistics.predictions import Predictions, compute_group_means
from tlcnn.statistics.resample import make_arm
from tlcnn.statistics.score import Score
from tlcnn.study.cells import Cell
from tlcnn.study.predictions import CellPredictions, load_predictions
from tlcnn.study.runs import Run

NEAR_CHANCE = 0.05  # of the way from guessing to a perfect score


def load_arms(
    cell: Cell, metrics: Sequence[str], *, redraws: bool = True, include_single_runs: bool = True
) -> dict[str, Arm]:
    """Return the arm of a cell for every metric that its runs have.

    A cell whose runs all have predictions is scored from them; with folds, all test images of a
    seed are scored together, and the scores of repeats averaged. Otherwise the scores of the
    summaries are taken, and the interval is over seeds alone. Seeds without a metric are left out
    of its arm; a note counts them. A metric that no run has gets no arm.

    Args:
        metrics: `SPLIT/METRIC` or `SPLIT/group/METRIC`.
        redraws: read predictions, so that the sampling of test images is in the interval.
        include_single_runs: read the predictions of a single run too. It has no interval, but it
            can be compared.
    """
    loaded: dict[tuple[str, tuple[int, ...]], list[CellPredictions | Note]] = {}
    arms = {}
    for metric in metrics:
        seeds = list_scored_seeds(cell, metric)
        if not seeds:
            continue
        arm = _make_plain_arm(cell, metric, seeds)
        split = parse_metric(metric).split
        # Images for validation are those of several folds, or of none.
        is_scored = split == "test" if cell.places else redraws
        if is_scored and (cell.places or include_single_runs or len(seeds) > 1):
            if (split, seeds) not in loaded:
                loaded[split, seeds] = [
                    load_predictions(*(_pick_runs(fold, seeds) for fold in folds), split=split)
                    for folds in cell.repeats
                ]
            predictions = loaded[split, seeds]
            if cell.places:
                arm = _pool_folds(arm, predictions, metric)
            elif isinstance(predictions[0], Note):
                arm = replace(arm, notes=(predictions[0],))
            else:
                arm = score_predictions(arm, predictions[0], metric)
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


def _pick_runs(runs: Sequence[Run], seeds: Sequence[int]) -> list[Run]:
    return [run for run in runs if run.seed in seeds]


def _make_plain_arm(cell: Cell, metric: str, seeds: Sequence[int]) -> Arm:
    """Return the scores of the runs' summaries; with folds, each seed's mean over them."""
    scores = np.array(
        [[run.scores[metric] for run in _pick_runs(fold, seeds)] for fold in cell.folds]
    ).T
    n_repeats = len(cell.repeats)
    counts = (len(cell.folds) // n_repeats, n_repeats)
    return Arm(
        cell.key,
        np.array(seeds, dtype=np.int64),
        scores.mean(axis=1),
        lower_is_better=is_lower_better(metric),
        n_options=_count_options(cell, metric),
        images="" if cell.places else cell.image_digest,
        folds=cell.places,
        fold_scores=scores if cell.places else None,
        fold_ratio=cell.fold_ratio,
        notes=(Note(NoteKind.FOLDS, counts),) if cell.places else (),
        bounds=find_range(metric),
    )


def _count_options(cell: Cell, metric: str) -> int:
    """Return the classes that a guess is one of, for balanced accuracy; 0 for other metrics."""
    if parse_metric(metric).name != "balanced_accuracy":
        return 0
    # A multi-label task asks of each finding whether it is there.
    return 2 if cell.runs[0].plan.task == "multi-label" else cell.n_classes


def _pool_folds(arm: Arm, repeats: Sequence[CellPredictions | Note], metric: str) -> Arm:
    """Return an arm scored on the images of all folds together, as the mean over repeats.

    Without predictions it stays as it is, with a note on that.
    """
    scores = [
        [score.value for score in list_scores(predictions, metric)]
        for predictions in repeats
        if isinstance(predictions, CellPredictions)
    ]
    if len(scores) < len(repeats) or not all(scores):
        return replace(arm, notes=merge_notes(arm.notes, [Note(NoteKind.FOLD_MEANS)]))
    return replace(arm, scores=np.mean(scores, axis=0))


def score_predictions(arm: Arm, predictions: CellPredictions, metric: str) -> Arm:
    """Return an arm scored from its runs' predictions, under redraws of the test groups as well.

    A metric that cannot be computed under weights of groups (of multi-label tasks, for example)
    keeps its scores, and the arm has a note of that.
    """
    sample = predictions.sample
    scores = list_scores(predictions, metric)
    if not scores:
        return replace(arm, sample=sample, notes=(Note(NoteKind.NO_REDRAWS),))
    scored = make_arm(
        arm.name,
        predictions.seeds,
        scores,
        sample,
        lower_is_better=arm.lower_is_better,
        classes=predictions.classes,
    )
    return replace(scored, images=arm.images, n_options=arm.n_options, bounds=arm.bounds)


def list_scores(predictions: CellPredictions, metric: str) -> list[Score]:
    """Return the score of each seed; empty where the metric needs more than groups' weights."""
    sample, classes = predictions.sample, predictions.classes
    if predictions.multi_label or not is_weightable(metric, classes):
        return []
    by_group = parse_metric(metric).by_group
    scores = []
    for rows in predictions.probabilities:
        labels, group = predictions.labels, np.searchsorted(sample.groups, predictions.groups)
        if by_group:
            rows, labels = compute_group_means(rows, labels, predictions.groups)
            group = np.searchsorted(sample.groups, np.unique(predictions.groups))
        run = Predictions(rows, labels, group, len(sample.groups))
        scores.append(make_score(metric, run, classes))
    return scores


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
    mean = estimate_contrast([(len(arm.scores) / n_runs, arm) for arm in arms])
    options = {arm.n_options for arm in arms}
    notes = judge_chance(mean.low, mean.high, options.pop()) if len(options) == 1 else ()
    return replace(mean, notes=merge_notes(mean.notes, notes))


def judge_chance(low: float, high: float, n_options: int) -> Notes:
    """Return a note where an interval is near guessing as a whole, or includes it.

    The first is shown by an upper bound; an interval that includes guessing may just be wide.

    Example:
        >>> judge_chance(0.12, 0.16, 7)[0].kind.name, judge_chance(0.10, 0.65, 7)[0].kind.name
        ('AT_CHANCE', 'INCLUDES_CHANCE')
    """
    if not n_options:
        return ()
    chance = 1 / n_options
    if high < chance + NEAR_CHANCE * (1 - chance):
        return (Note(NoteKind.AT_CHANCE, (n_options,)),)
    return (Note(NoteKind.INCLUDES_CHANCE, (n_options,)),) if low <= chance else ()
