"""What a run has measured: summary.json at its end, metrics.jsonl epoch by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tlcnn.errors import DataError
from tlcnn.records.files import HISTORY, SUMMARY, read_json, read_json_lines
from tlcnn.records.folder import RunDir
from tlcnn.records.parse import parse_record
from tlcnn.statistics.metrics import rank_epoch

LEAST_RESPONSE = 0.05  # of `Summary.frozen_response`: with less, there is nothing to learn from


@dataclass(frozen=True)
class Summary:
    """What a finished run has measured. An imported run has metrics alone.

    Attributes:
        metrics: `SPLIT/METRIC` and its value; None where it is not defined.
        best_epoch: the epoch whose weights were tested, from 1.
        steps: the number of optimiser updates.
        train_s: seconds in training, without evaluations.
        n_skipped_images: the number of images that could not be decoded.
        finished: the local time at the end.
        reuse: what the frozen units computed and what was read from the store.
        frozen_response: the share of the frozen units' outputs that differed between training
            images before the first step; None without frozen units.
    """

    metrics: Mapping[str, float | None]
    run_id: str = ""
    epochs: int | None = None
    best_epoch: int | None = None
    steps: int | None = None
    train_s: float | None = None
    images_per_s: float | None = None
    n_skipped_images: int = 0
    finished: str = ""
    reuse: Mapping[str, Any] | None = None
    frozen_response: float | None = None


@dataclass(frozen=True)
class Epoch:
    """What one epoch has measured: a line of metrics.jsonl.

    Attributes:
        epoch: the number of the epoch, from 1.
        train_s: seconds in training, without the evaluation.
        values: every value of the line by its key; None where it is not defined.
    """

    epoch: int
    train_s: float
    values: Mapping[str, float | None]


def write_summary(folder: Path, summary: Summary) -> None:
    """Write summary.json, whole or not at all."""
    RunDir(folder).write_json(SUMMARY, asdict(summary))


def read_summary(folder: Path) -> Summary:
    """Return what a finished run has measured.

    Raises:
        DataError: summary.json is missing, damaged, or not what the run wrote.
    """
    return parse_record(Summary, read_json(folder / SUMMARY), SUMMARY)


def read_history(folder: Path) -> list[Epoch]:
    """Return the epochs in metrics.jsonl; none where there is no file yet.

    Half a line at the end, which a killed copy leaves, is left out.

    Raises:
        DataError: another line is no JSON object, it has no epoch or train_s, or one of its values
            is no number.
    """
    return read_epochs(folder)[0]


def read_epochs(folder: Path) -> tuple[list[Epoch], bool]:
    """Return the epochs in metrics.jsonl, and whether half a line was left out at its end."""
    path = folder / HISTORY
    if not path.is_symlink() and not path.exists():
        return [], False
    lines, is_cut = read_json_lines(path)
    epochs = []
    for line in lines:
        fields = {**line, "values": line} if isinstance(line, dict) else line
        epochs.append(parse_record(Epoch, fields, HISTORY))
    return epochs, is_cut


def summarize_epochs(history: Sequence[Epoch], select: str = "balanced_accuracy") -> Summary:
    """Return what a run has measured so far: the validation scores of its best epoch by `select`.

    Raises:
        DataError: an epoch lacks the scores that the best one is chosen by.
    """
    if not history:
        return Summary(metrics={}, epochs=0)
    try:
        best = max(history, key=lambda epoch: rank_epoch(epoch.values, select))
    except KeyError as error:
        raise DataError(f"an epoch in {HISTORY} has no {error}") from error
    return Summary(
        metrics={key: value for key, value in best.values.items() if key.startswith("val/")},
        epochs=len(history),
        best_epoch=best.epoch,
        train_s=sum(epoch.train_s for epoch in history),
    )
