"""Curves for TensorBoard: files of events in a folder, written and read with its own package."""

import logging
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from tlcnn.errors import ConfigError
from tlcnn.storage import make_dir, writing

PATTERN = "events.out.tfevents.*"


def check_tensorboard(option: str) -> None:
    """Raise ConfigError where TensorBoard is not installed, naming the option that needs it."""
    if find_spec("tensorboard") is None:
        raise ConfigError(f"{option} needs TensorBoard: pip install 'tlcnn[tensorboard]'")


class EventFile:
    """A new file of events in a folder; a thread of its own writes it.

    Args:
        first_step: readers drop the points of earlier files at this step and later; None: no
            points are dropped.
    """

    def __init__(self, folder: Path, *, first_step: int | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.folder = make_dir(folder)
        _wait_for_later_name(folder)
        with writing(folder):
            self._writer = EventFileWriter(str(folder))
        if first_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._add(first_step, None, session_log=start)

    def add_scalars(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Add points of one step.

        Args:
            seconds: their time, since the epoch of the system's clock.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step, seconds, summary=Summary(value=points))

    def add_summary(self, summary: object) -> None:
        """Add a summary that TensorBoard's package made, such as hyperparameters."""
        self._add(0, None, summary=summary)

    def flush(self) -> None:
        """Write what was added, so that a kill loses none of it. Raises StorageError."""
        with writing(self.folder):
            self._writer.flush()

    def close(self) -> None:
        """Write everything, and end the thread. Raises StorageError."""
        with writing(self.folder):
            self._writer.close()

    def _add(self, step: int, seconds: float | None, **content: object) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        wall_time = time.time() if seconds is None else seconds
        with writing(self.folder):
            self._writer.add_event(Event(wall_time=wall_time, step=step, **content))


def _wait_for_later_name(folder: Path) -> None:
    """Sleep until a new file has a later second in its name than those of the folder.

    Readers read files in the order of their names. A name from a clock that is ahead is not
    waited for.
    """
    parts = [path.name.split(".") for path in folder.glob(PATTERN)]
    seconds = [int(part[3]) for part in parts if part[3].isdigit()]
    wait_s = max(seconds, default=0) + 1 - time.time()
    if 0 < wait_s <= 2:
        time.sleep(wait_s)


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the points (step, value) in the event files of a folder, as TensorBoard sees them.

    Half an event at the end, which a kill leaves, is left out.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not any(folder.glob(PATTERN)):
        return {}
    logger = logging.getLogger("tensorboard")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of what readers drop, which is as it should be
    try:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    finally:
        logger.setLevel(level)
    tags = events.Tags()["scalars"]
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in tags}
