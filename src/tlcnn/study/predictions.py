"""The predictions of a cell's runs, read and scored, under redraws of the test groups as well.

predictions.parquet of each run  ->  CellPredictions  ->  Arm (scores, replicates, influence)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.errors import DataError, list_names
from tlcnn.records.plan_record import read_plan
from tlcnn.records.read import read_predictions, read_run
from tlcnn.statistics.arm import Arm, Sample
from tlcnn.statistics.metrics import is_lower_better, is_weightable, make_score
from tlcnn.statistics.notes import Note, NoteKind, Notes
from tlcnn.statistics.predictions import Predictions, compute_group_means, compute_softmax
from tlcnn.statistics.resample import center_influence, iterate_weights, make_sample
from tlcnn.statistics.score import Score

N_DRAWS = 2000
SPLITS = ("val", "test")


@dataclass(frozen=True)
class CellPredictions:
    """The predictions of a cell's S runs on the N images of one split.

    Attributes:
        name: how a table names it.
        seeds: (S,) int.
        folders: the S run folders.
        classes: K names.
        labels: (N,) int.
        groups: (N,) str.
        logits: (S, N, K); rows in the order of their image ids.
        sample: the groups, named after the images.
        multi_label: several classes may hold at once; `labels` then only stratify.
        images: the digest of the manifest that the first run's plan names; may be empty.
    """

    name: str
    seeds: np.ndarray
    folders: tuple[Path, ...]
    classes: tuple[str, ...]
    labels: np.ndarray
    groups: np.ndarray
    logits: np.ndarray
    sample: Sample
    multi_label: bool = False
    images: str = ""


def load_arm(
    name: str,
    seeds: Sequence[int],
    folders: Sequence[str | Path],
    metric: str,
    *,
    n_draws: int = N_DRAWS,
) -> Arm:
    """Read the runs of a cell and score them.

    Args:
        name: how a table names the cell.
        seeds: S seeds, each once.
        folders: S run folders.
        metric: `SPLIT/METRIC` or `SPLIT/group/METRIC`, as in summary.json.

    Raises:
        DataError: see `load_cell`; or the metric was not measured.
    """
    split = metric.split("/")[0]
    return make_arm(load_cell(name, seeds, folders, split), metric, n_draws=n_draws)


def load_cell(
    name: str, seeds: Sequence[int], folders: Sequence[str | Path], split: str = "test"
) -> CellPredictions:
    """Read the predictions of a cell's runs on one split.

    Raises:
        DataError: no run, a seed twice, predictions that are missing, or runs that were scored
            on different images.
    """
    paths = tuple(Path(folder) for folder in folders)
    if not paths or len(set(seeds)) != len(paths):
        raise DataError(
            f"{name}: {len(paths)} runs with seeds {list(seeds)}; at least one run, and each seed "
            "once, is needed. Name the runs of one cell (read_runs: equal cell_id)"
        )
    frames = [_read_frame(folder, split) for folder in paths]
    for folder, frame in zip(paths[1:], frames[1:], strict=True):
        _check_same_images(frames[0], frame, paths[0], folder)
    first = frames[0]
    logits = [column for column in first.columns if column.startswith("logit/")]
    labels, groups = first["label"].to_numpy(), first["group"].to_numpy().astype(str)
    return CellPredictions(
        name=name,
        seeds=np.asarray(seeds, dtype=np.int64),
        folders=paths,
        classes=tuple(column.removeprefix("logit/") for column in logits),
        labels=labels,
        groups=groups,
        logits=np.stack([frame[logits].to_numpy() for frame in frames]),
        sample=make_sample(groups, labels, first["image_id"].to_numpy()),
        multi_label=any(column.startswith("target/") for column in first.columns),
        images=read_plan(paths[0]).manifest,
    )


def _read_frame(folder: Path, split: str) -> pd.DataFrame:
    if split not in SPLITS:
        raise DataError(f"there are no predictions of split {split}: {' and '.join(SPLITS)}")
    if not (folder / "predictions.parquet").is_file():
        raise DataError(
            f"{folder} has no predictions.parquet: the run is not finished, or the file was "
            "deleted. Run it again, or leave it out"
        )
    try:
        frame = read_predictions(folder)
        frame = frame[frame["split"] == split]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder.name}: predictions.parquet is cut or damaged "
            f"({str(error).splitlines()[0]}). Train the run again, or leave it out"
        ) from error
    if frame.empty:
        raise DataError(f"{folder} has no predictions of split {split}")
    return frame.sort_values("image_id", kind="stable", ignore_index=True)


def _check_same_images(
    first: pd.DataFrame, other: pd.DataFrame, first_dir: Path, other_dir: Path
) -> None:
    facts = ["image_id", "group", "label"]
    if list(first.columns) != list(other.columns):
        raise DataError(f"{first_dir} and {other_dir} tell different classes apart: not one cell")
    if len(first) == len(other) and first[facts].equals(other[facts]):
        return
    odd = sorted(set(first["image_id"].astype(str)) ^ set(other["image_id"].astype(str)))
    what = f"e.g. {list_names(odd)}" if odd else "with different groups or labels"
    raise DataError(
        f"{first_dir} and {other_dir} were scored on different images ({what}), so they are not "
        "runs of one cell. Compare runs of one dataset, split seed and fold"
    )


def make_arm(cell: CellPredictions, metric: str, *, n_draws: int = N_DRAWS) -> Arm:
    """Score a cell's runs, under redraws of the test groups as well.

    A metric that cannot be computed under weights of groups (of multi-label tasks, for example)
    is read from the runs' summaries, without replicates, and the arm has a note of that.

    Args:
        metric: `SPLIT/METRIC` or `SPLIT/group/METRIC`, as in summary.json.

    Raises:
        DataError: the metric was not measured.
    """
    base, by_group = parse_metric(metric)
    is_class = base.partition("/")[2] in ("", *cell.classes)
    if cell.multi_label or not is_class or not is_weightable(base):
        scores = np.array([_read_score(folder, metric) for folder in cell.folders])
        lower = is_lower_better(base)
        notes = (Note(NoteKind.NO_REDRAWS),)
        arm = Arm(cell.name, cell.seeds, scores, lower_is_better=lower, notes=notes)
        return replace(arm, sample=cell.sample, images=cell.images)
    scored = _make_scored(cell, by_group=by_group)
    arm = make_scored_arm(
        cell.name,
        cell.seeds,
        [make_score(base, predictions, cell.classes) for predictions in scored],
        cell.sample,
        n_draws=n_draws,
        lower_is_better=is_lower_better(base),
    )
    return replace(arm, images=cell.images)


def make_scored_arm(
    name: str,
    seeds: np.ndarray,
    scores: Sequence[Score],
    sample: Sample,
    *,
    n_draws: int = N_DRAWS,
    lower_is_better: bool = False,
) -> Arm:
    """Return an arm of S scores on one sample; equal samples are redrawn equally."""
    strata = sample.strata
    seed = int(sample.name, 16)
    parts = [
        np.stack([score.compute(weights) for score in scores])
        for weights in iterate_weights(strata, n_draws, seed)
    ]
    ones = np.ones((1, len(strata)))
    sums = [score.contributions for score in scores if score.contributions is not None]
    return Arm(
        name=name,
        seeds=np.asarray(seeds),
        scores=np.array([score.compute(ones)[0] for score in scores]),
        replicates=np.concatenate(parts, axis=1),
        influence=np.stack([center_influence(score, strata) for score in scores]),
        sample=sample,
        contributions=np.stack(sums) if len(sums) == len(scores) else None,
        lower_is_better=lower_is_better,
        notes=_note_lone_groups(strata),
    )


def _note_lone_groups(strata: np.ndarray) -> Notes:
    n_lone = int((np.unique(strata, return_counts=True)[1] == 1).sum())
    return (Note(NoteKind.LONE_GROUPS, (n_lone,)),) if n_lone else ()


def parse_metric(metric: str) -> tuple[str, bool]:
    """Return a metric without split and level, and whether it is about groups.

    Raises:
        DataError: it does not begin with a split.

    Example:
        >>> parse_metric("test/group/recall/mel")
        ('recall/mel', True)
    """
    split, _, rest = metric.partition("/")
    if split not in SPLITS or not rest:
        raise DataError(
            f"metric {metric}: it must begin with {' or '.join(f'{s}/' for s in SPLITS)}, e.g. "
            "test/balanced_accuracy or test/group/macro_auroc"
        )
    by_group = rest.startswith("group/")
    return rest.removeprefix("group/"), by_group


def _make_scored(cell: CellPredictions, *, by_group: bool) -> Iterator[Predictions]:
    names = cell.sample.groups
    member = np.searchsorted(names, cell.groups)
    for logits in cell.logits:
        rows, labels, group = compute_softmax(logits), cell.labels, member
        if by_group:
            rows, labels = compute_group_means(rows, cell.labels, cell.groups)
            group = np.arange(len(names))
        yield Predictions(rows, labels, group, len(names))


def _read_score(folder: Path, metric: str) -> float:
    record = read_run(folder)
    if metric not in record:
        measured = sorted(key for key in record if key.startswith(metric.split("/")[0] + "/"))
        raise DataError(
            f"{folder} has no metric {metric}; measured, among others: {list_names(measured)}"
        )
    return float(record[metric])
