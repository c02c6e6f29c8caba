"""The predictions of a cell's runs, read and checked.

predictions.parquet of each run  ->  CellPredictions  ->  Arm (`tlcnn.study.arms`)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.errors import DataError, TlcnnError, list_names
from tlcnn.records.read import PREDICTIONS, read_predictions
from tlcnn.statistics.arm import Sample
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.statistics.predictions import compute_softmax
from tlcnn.statistics.resample import make_sample
from tlcnn.study.class_weights import correct_logits
from tlcnn.study.runs import Run
from tlcnn.text import first_line


@dataclass(frozen=True)
class CellPredictions:
    """The predictions of a cell's S runs on the N images of one split.

    Attributes:
        seeds: (S,) int.
        classes: K names.
        labels: (N,) int.
        groups: (N,) str.
        image_ids: (N,) str.
        probabilities: (S, N, K); rows in the order of their image ids.
        sample: the groups, named after the images.
        multi_label: several classes may hold at once; `labels` then only stratify.
    """

    seeds: np.ndarray
    classes: tuple[str, ...]
    labels: np.ndarray
    groups: np.ndarray
    image_ids: np.ndarray
    probabilities: np.ndarray
    sample: Sample
    multi_label: bool


def load_predictions(
    *folds: Sequence[Run], split: str = "test", is_corrected: bool = False
) -> CellPredictions | Note:
    """Return the predictions of runs with different seeds, or a note on why there are none.

    Predictions count where all runs have them, of the same classes and images.

    Args:
        folds: the runs by seed; with folds those of each, whose images are put together.
        is_corrected: correct the probabilities for the class weights of the loss.
    """
    by_seed = list(zip(*folds, strict=True))
    if not all((Path(run.folder) / PREDICTIONS).is_file() for fold in folds for run in fold):
        return Note(NoteKind.NO_PREDICTIONS)
    try:
        frames = [_read_frame(runs, split, is_corrected) for runs in by_seed]
        first, first_dir = frames[0], by_seed[0][0].folder
        for runs, frame in zip(by_seed[1:], frames[1:], strict=True):
            _check_same_images(first, frame, first_dir, runs[0].folder)
        logits = [column for column in first.columns if column.startswith("logit/")]
        labels, groups = first["label"].to_numpy(), first["group"].to_numpy().astype(str)
        image_ids = first["image_id"].to_numpy()
        multi_label = any(column.startswith("target/") for column in first.columns)
        if not multi_label and not np.isin(labels, range(len(logits))).all():
            raise DataError(f"{first_dir} has labels beyond its {len(logits)} classes")
        return CellPredictions(
            seeds=np.array([runs[0].seed for runs in by_seed], dtype=np.int64),
            classes=tuple(column.removeprefix("logit/") for column in logits),
            labels=labels,
            groups=groups,
            image_ids=image_ids,
            probabilities=np.stack([compute_softmax(f[logits].to_numpy()) for f in frames]),
            sample=make_sample(groups, labels, image_ids),
            multi_label=multi_label,
        )
    except (TlcnnError, OSError, ValueError, KeyError) as error:
        return Note(NoteKind.UNUSABLE_PREDICTIONS, text=first_line(error))


def _read_frame(runs: Sequence[Run], split: str, is_corrected: bool) -> pd.DataFrame:
    frames = [read_predictions(run.folder) for run in runs]
    if is_corrected:
        frames = [correct_logits(f, run.plan) for f, run in zip(frames, runs, strict=True)]
    frame = pd.concat(frames)
    frame = frame[frame["split"] == split]
    if frame.empty:
        raise DataError(f"{runs[0].folder} has no predictions of split {split}")
    if len(runs) > 1 and (frame["image_id"].duplicated() | frame.isna().any(axis=1)).any():
        raise DataError(f"{runs[0].folder} and other folds share test images or differ in classes")
    return frame.sort_values("image_id", kind="stable", ignore_index=True)


def _check_same_images(
    first: pd.DataFrame, other: pd.DataFrame, first_dir: str, other_dir: str
) -> None:
    facts = ["image_id", "group", "label"]
    if list(first.columns) != list(other.columns):
        raise DataError(f"{first_dir} and {other_dir} tell different classes apart: not one cell")
    if first[facts].equals(other[facts]):
        return
    odd = sorted(set(first["image_id"].astype(str)) ^ set(other["image_id"].astype(str)))
    what = f"e.g. {list_names(odd)}" if odd else "with different groups or labels"
    raise DataError(
        f"{first_dir} and {other_dir} were scored on different images ({what}), so they are not "
        "runs of one cell. Compare runs of one dataset, split seed and fold"
    )
