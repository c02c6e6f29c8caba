"""A finished run as trackers take it: names, settings, curves and metrics, from its records."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.config.schema import list_local_keys
from tlcnn.errors import DataError
from tlcnn.records.files import DONE
from tlcnn.records.summary import read_history, read_summary
from tlcnn.storage import digest_of
from tlcnn.sweep.study_record import find_studies, read_study

_AXES = ("epoch", "step")
_TAGS = ("dataset", "model", "k", "j", "bn", "seed")


@dataclass(frozen=True)
class TrackedEpoch:
    """The values of an epoch.

    Attributes:
        step: the number of updates until its end.
        seconds: its end, in seconds since the epoch of the system's clock. Only the time in
            training counts, so it is earlier than it was in a run that was interrupted.
        values: the scores, losses and rates by name.
    """

    epoch: int
    step: int
    seconds: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """A finished run.

    Attributes:
        name: the name of its folder.
        cell_id: equal for runs that differ in the seed alone.
        tags: dataset, model, source, k, j, bn and seed; its studies, where there are any.
        config: the settings that decide its numbers, as dotted keys and plain values.
        epochs: its curves; none for an imported run.
        metrics: the final metrics, such as `test/balanced_accuracy`.
        begun, finished: seconds since the epoch of the system's clock.
    """

    name: str
    run_id: str
    cell_id: str
    tags: Mapping[str, str | int]
    config: Mapping[str, Any]
    epochs: tuple[TrackedEpoch, ...]
    metrics: Mapping[str, float]
    begun: float
    finished: float

    @property
    def digest(self) -> str:
        """A digest of all of it: a tracker that has it need not take the run again."""
        return digest_of(asdict(self), 16)


def make_tracked_runs(runs: pd.DataFrame) -> list[TrackedRun]:
    """Return the finished runs of a table of `read_runs`, in its order.

    Raises:
        DataError: the records of a run are damaged.
    """
    done = runs[runs["state"] == "done"]
    studies = _list_studies({Path(folder).absolute().parents[1] for folder in done["folder"]})
    return [_make_tracked_run(row, studies) for row in done.to_dict("records")]


def _list_studies(output_dirs: set[Path]) -> dict[str, list[str]]:
    """Return the names of the studies of each run id; a damaged study is in no run."""
    names: dict[str, list[str]] = {}
    for path in (path for folder in sorted(output_dirs) for path in find_studies(folder)):
        with suppress(DataError):
            record = read_study(path)
            for run in record["runs"]:
                names.setdefault(run["run_id"], []).append(record["name"])
    return names


def _make_tracked_run(row: Mapping[Any, Any], studies: Mapping[str, Sequence[str]]) -> TrackedRun:
    folder, record = Path(row["folder"]), row["plan"]
    summary, history = read_summary(folder), read_history(folder)
    try:
        finished = time.mktime(time.strptime(summary.finished, "%Y-%m-%d %H:%M:%S"))
    except ValueError:  # an imported run
        finished = (folder / DONE).stat().st_mtime
    begun = seconds = finished - sum(epoch.train_s for epoch in history)
    epochs = []
    for number, epoch in enumerate(history, start=1):
        seconds += epoch.train_s
        values = {k: v for k, v in epoch.values.items() if k not in _AXES and v is not None}
        step = int(epoch.values.get("step") or number)
        epochs.append(TrackedEpoch(epoch.epoch, step, seconds, values))
    tags = {name: getattr(record, name) for name in _TAGS} | {"source": row["init"]}
    if row["is_trial"]:
        tags["role"] = "trial of a search"
    if names := studies.get(record.run_id):
        tags["study"] = ", ".join(dict.fromkeys(names))
    return TrackedRun(
        folder.name,
        record.run_id,
        record.cell_id,
        tags,
        {key: v for key, v in record.settings.items() if key not in list_local_keys()},
        tuple(epochs),
        {name: value for name, value in summary.metrics.items() if value is not None},
        begun,
        finished,
    )
