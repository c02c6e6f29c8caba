"""Scores of a cell on parts of its test images, such as those of women, against the rest.

metadata of the test images -> subgroups -> for each: score, score of the rest, their difference

The runs are scored on both sides, so that a difference is paired by seed. The images are others,
and the images of one lesion may stand on both sides: all of a group is redrawn together, and
redraws keep the number of groups of each class on each side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.errors import ConfigError, DataError
from tlcnn.memory import Memory
from tlcnn.statistics.arm import Arm, Comparison, Estimate, Sample
from tlcnn.statistics.choice import SPREAD
from tlcnn.statistics.comparison import adjust_holm, compute_side_p, judge_difference
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.few_groups import LEAST_GROUPS
from tlcnn.statistics.metrics import find_range, is_lower_better, parse_metric
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.statistics.resample import N_DRAWS, make_arm, make_sample
from tlcnn.statistics.score import Score
from tlcnn.study.arms import list_scores
from tlcnn.study.cells import Cell
from tlcnn.study.divisions import Division, name_subgroups
from tlcnn.study.metadata import load_metadata
from tlcnn.study.predictions import CellPredictions, load_predictions

CLASS_MEANS = ("balanced_accuracy", "macro_auroc")  # of the classes that both sides have
METRICS = (*CLASS_MEANS, "accuracy", "nll", "brier", "recall")


@dataclass(frozen=True)
class Subgroup:
    """One subgroup of a cell's test images, against all others with a recorded value.

    Attributes:
        name: the value, or the band; "" for images of which it is not recorded.
        n_images, n_groups: of the subgroup.
        classes: those that are scored, on both sides; empty where there is no score.
        note: why there is no score; None where there is one.
        score, rest: of the subgroup and of the rest; None without a score.
        result: of the subgroup against the rest, adjusted for all subgroups that were asked for.
    """

    column: str
    name: str
    n_images: int
    n_groups: int
    classes: tuple[str, ...] = ()
    note: Note | None = None
    score: Estimate | None = None
    rest: Estimate | None = None
    result: Comparison | None = None


def load_subgroups(
    cell: Cell,
    divisions: Sequence[Division],
    metric: str,
    memory: Memory,
    *,
    margin: float,
    metadata: Path | None = None,
) -> list[Subgroup]:
    """Return the subgroups of a cell's test images, each with its scores.

    Args:
        metric: `test/...`, of those in `METRICS`.
        margin: differences below it do not matter.
        metadata: a table with an image a row; None reads the dataset again.

    Raises:
        ConfigError: a column or a metric that cannot be used.
        DataError: the cell has no predictions, or is of folds, or there is no metadata.
    """
    key = parse_metric(metric)
    if key.split != "test" or key.name not in METRICS:
        raise ConfigError(
            f"--by: there are no scores of subgroups by {metric}; there are test/"
            f"{', test/'.join(METRICS)}/CLASS, each also as test/group/..."
        )
    if cell.places:
        raise DataError("there are no scores of subgroups over folds")
    predictions = load_predictions(*cell.folds)
    if isinstance(predictions, Note):
        raise DataError(f"no predictions that can be used. {predictions.text}".rstrip())
    columns = [division.column for division in divisions]
    ids = predictions.image_ids.astype(str).tolist()
    texts, n_without_row = load_metadata(cell.runs[0], ids, columns, memory, file=metadata)
    subgroups = score_subgroups(
        predictions,
        [(division, texts[division.column]) for division in divisions],
        metric,
        margin=margin,
        spread=SPREAD if len(cell.candidates) > 1 else 1.0,
    )
    if not n_without_row:
        return subgroups
    source = metadata.name if metadata else cell.dataset
    lost = Note(NoteKind.WITHOUT_ROW, (n_without_row, len(ids)), source)
    return [s if s.name else replace(s, note=lost) for s in subgroups]


def score_subgroups(
    predictions: CellPredictions,
    columns: Sequence[tuple[Division, pd.Series]],
    metric: str,
    *,
    margin: float,
    spread: float = 1.0,
    n_draws: int = N_DRAWS,
) -> list[Subgroup]:
    """Return every subgroup of a cell's test images; one family of comparisons.

    The second of two subgroups of a column is the rest of the first, and no further comparison.

    Args:
        columns: divisions with the values of the N images.
        metric: `test/...`, of those in `METRICS`.
        margin: differences below it do not matter.
        spread: as in `Arm`.
    """
    subgroups: list[Subgroup] = []
    pairs: list[int] = []  # the first of two subgroups
    for division, values in columns:
        members, names = name_subgroups(values, division)
        present = [name for name in names if (members == name).any()]
        is_pair = len(present) == 2
        pairs += [len(subgroups)] * is_pair
        for name in present[: 1 if is_pair else None]:
            inside = _count(predictions, division.column, name, members == name)
            scores = _Scoring(metric, margin, spread, n_draws)
            subgroups.append(_score(inside, predictions, members == name, members != "", scores))
        for name in present[1:] * is_pair:
            subgroups.append(_count(predictions, division.column, name, members == name))
        if (members == "").any():
            lost = _count(predictions, division.column, "", members == "")
            subgroups.append(replace(lost, note=Note(NoteKind.NOT_RECORDED)))
    tested = [i for i, subgroup in enumerate(subgroups) if subgroup.result]
    adjusted = adjust_holm([result for s in subgroups if (result := s.result)])
    for i, result in zip(tested, adjusted, strict=True):
        subgroups[i] = replace(subgroups[i], result=result)
    for i in pairs:
        subgroups[i + 1] = _mirror(subgroups[i], subgroups[i + 1])
    return subgroups


@dataclass(frozen=True)
class _Scoring:
    """How subgroups are scored: the arguments of `score_subgroups`."""

    metric: str
    margin: float
    spread: float
    n_draws: int


def _count(
    predictions: CellPredictions, column: str, name: str, is_inside: np.ndarray
) -> Subgroup:
    n_groups = len(set(predictions.groups[is_inside]))
    return Subgroup(column, name, int(is_inside.sum()), n_groups)


def _mirror(first: Subgroup, second: Subgroup) -> Subgroup:
    """Return the second of two subgroups with the scores of the first, seen from its side."""
    scored = replace(
        second, classes=first.classes, note=first.note, score=first.rest, rest=first.score
    )
    result = first.result
    if result is None:
        return scored
    delta = result.delta
    turned = replace(delta, value=-delta.value, low=-delta.high, high=-delta.low)
    return replace(scored, result=replace(result, a=second.name, delta=turned))


def _score(
    subgroup: Subgroup,
    predictions: CellPredictions,
    is_inside: np.ndarray,
    is_known: np.ndarray,
    scoring: _Scoring,
) -> Subgroup:
    """Return a subgroup with its scores, or with a note on why it has none."""
    metric, key = scoring.metric, parse_metric(scoring.metric)
    if predictions.multi_label or key.name not in METRICS:
        return replace(subgroup, note=Note(NoteKind.NO_SUBGROUP_METRIC))
    is_outside = is_known & ~is_inside
    names = np.array(predictions.classes, dtype=object)
    counted = [
        number
        for number in range(len(names))
        if min(_count_groups(predictions, side, number) for side in (is_inside, is_outside))
        >= LEAST_GROUPS
    ]
    if key.name == "recall":
        counted = [number for number in counted if names[number] == key.class_name]
    least = 2 if key.name in CLASS_MEANS else 1
    few = Note(NoteKind.SMALL_SUBGROUP, (LEAST_GROUPS, least))
    if len(counted) < least:
        return replace(subgroup, note=few)
    is_used = is_known.copy()
    if key.name in (*CLASS_MEANS, "recall"):
        is_used &= np.isin(predictions.labels, counted)
    else:
        counted = np.unique(predictions.labels[is_used]).tolist()
    used, is_inside = _select(predictions, is_used), is_inside[is_used]
    side = _find_sides(used, is_inside)
    score, rest, delta = (
        estimate_contrast([(1.0, arm)]) for arm in _make_arms(used, is_inside, side, scoring)
    )
    scores, strata = list_scores(used, metric), used.sample.strata
    p_swap = compute_side_p(scores, strata, side, n_permutations=scoring.n_draws)
    result = replace(
        judge_difference(delta, p_swap=p_swap, margin=scoring.margin, family="subgroups"),
        a=subgroup.name,
        b="the rest",
        lower_is_better=is_lower_better(metric),
    )
    return replace(subgroup, classes=tuple(names[counted]), score=score, rest=rest, result=result)


def _count_groups(predictions: CellPredictions, is_side: np.ndarray, label: int) -> int:
    return len(set(predictions.groups[is_side & (predictions.labels == label)]))


def _select(predictions: CellPredictions, is_used: np.ndarray) -> CellPredictions:
    """Return the predictions of some of the N images."""
    labels, groups = predictions.labels[is_used], predictions.groups[is_used]
    image_ids = predictions.image_ids[is_used]
    return replace(
        predictions,
        labels=labels,
        groups=groups,
        image_ids=image_ids,
        probabilities=predictions.probabilities[:, is_used],
        sample=make_sample(groups, labels, image_ids),
    )


def _make_arms(
    predictions: CellPredictions, is_inside: np.ndarray, side: np.ndarray, scoring: _Scoring
) -> Iterator[Arm]:
    """Yield the arms of a subgroup's score, of that of the rest, and of their difference.

    All are functions of the weights of the same test groups. The strata are the classes on either
    side.
    """
    whole, n_classes = predictions.sample, len(predictions.classes)
    strata = whole.strata + n_classes * ~side
    sample = Sample(whole.name, whole.groups, strata)
    low, high = find_range(scoring.metric)
    sides = []
    for is_side in (is_inside, ~is_inside):
        part = replace(_select(predictions, is_side), sample=whole)
        sides.append(list_scores(part, scoring.metric))
    inside = [_place(score, 0, n_classes) for score in sides[0]]
    outside = [_place(score, n_classes, n_classes) for score in sides[1]]
    difference = [_subtract(a, b) for a, b in zip(inside, outside, strict=True)]
    for scores, bounds in (
        (inside, (low, high)),
        (outside, (low, high)),
        (difference, (low - high, high - low)),
    ):
        arm = make_arm("", predictions.seeds, scores, sample, n_draws=scoring.n_draws)
        is_fixed = len(predictions.seeds) == 1
        notes = (Note(NoteKind.ONE_NETWORK),) if is_fixed else ()
        yield replace(arm, bounds=bounds, notes=notes, is_fixed=is_fixed, spread=scoring.spread)


def _find_sides(predictions: CellPredictions, is_inside: np.ndarray) -> np.ndarray:
    """Return which groups have most of their images in a subgroup, (G,) bool."""
    member = np.searchsorted(predictions.sample.groups, predictions.groups)
    return np.bincount(member, weights=is_inside) / np.bincount(member) > 0.5


def _place(score: Score, start: int, n_classes: int) -> Score:
    """Return a score whose classes are strata from a number on, among those of both sides."""
    if score.reach is None:
        return score
    reach = np.zeros(2 * n_classes)
    reach[start : start + n_classes] = score.reach
    return replace(score, reach=reach)


def _subtract(a: Score, b: Score) -> Score:
    """Return the difference of two scores of one metric as a score."""
    reach = None if a.reach is None or b.reach is None else a.reach + b.reach
    return Score(
        lambda weights: a.compute(weights) - b.compute(weights),
        a.influence - b.influence,
        reach=reach,
        jackknifed=a.jackknifed,
        is_counted=a.is_counted,
    )
