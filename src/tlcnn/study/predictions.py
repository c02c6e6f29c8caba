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
        probabilities: (S, N, K); rows in the order of their image ids.
        sample: the groups, named after the images.
        multi_label: several classes may hold at once; `labels` then only stratify.
    """

    seeds: np.ndarray
    classes: tuple[str, ...]
    labels: np.ndarray
    groups: np.ndarray
    probabilities: np.ndarray
    sample: Sample
    multi_label: bool


def load_predictions(*folds: Sequence[Run], split: str = "test") -> CellPredictions | Note:
    """Return the predictions of runs with different seeds, or a note on why there are none.

    Predictions count where all runs have them, of the same classes and images.

    Args:
        folds: the runs by seed; with folds those of each, whose images are put together.
    """
    runs = folds[0]
    folders = [[Path(run.folder) for run in of_seed] for of_seed in zip(*folds, strict=True)]
    if not all((folder / PREDICTIONS).is_file() for of_seed in folders for folder in of_seed):
        return Note(NoteKind.NO_PREDICTIONS)
    try:
        frames = [_read_frame(of_seed, split) for of_seed in folders]
        first = frames[0]
        for of_seed, frame in zip(folders[1:], frames[1:], strict=True):
            _check_same_images(first, frame, folders[0][0], of_seed[0])
        logits = [column for column in first.columns if column.startswith("logit/")]
        labels, groups = first["label"].to_numpy(), first["group"].to_numpy().astype(str)
        multi_label = any(column.startswith("target/") for column in first.columns)
        if not multi_label and not np.isin(labels, range(len(logits))).all():
            raise DataError(f"{folders[0][0]} has labels beyond its {len(logits)} classes")
        return CellPredictions(
            seeds=np.array([run.seed for run in runs], dtype=np.int64),
            classes=tuple(column.removeprefix("logit/") for column in logits),
            labels=labels,
            groups=groups,
            probabilities=np.stack([compute_softmax(f[logits].to_numpy()) for f in frames]),
            sample=make_sample(groups, labels, first["image_id"].to_numpy()),
            multi_label=multi_label,
        )
    except (TlcnnError, OSError, ValueError, KeyError) as error:
        return Note(NoteKind.UNUSABLE_PREDICTIONS, text=first_line(error))


def _read_frame(folders: Sequence[Path], split: str) -> pd.DataFrame:
    frame = pd.concat([read_predictions(folder) for folder in folders])
    frame = frame[frame["split"] == split]
    if frame.empty:
        raise DataError(f"{folders[0]} has no predictions of split {split}")
    if len(folders) > 1 and (frame["image_id"].duplicated() | frame.isna().any(axis=1)).any():
        raise DataError(f"{folders[0]} and other folds share test images or differ in classes")
    return frame.sort_values("image_id", kind="stable", ignore_index=True)


def _check_same_images(
    first: pd.DataFrame, other: pd.DataFrame, first_dir: Path, other_dir: Path
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
