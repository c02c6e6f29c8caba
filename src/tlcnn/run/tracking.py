"""The curves of a run while it is trained: `logger=tensorboard` writes them to its folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any

from tlcnn.records.event_file import EventFile, read_scalars
from tlcnn.training.curve import Point

_EPOCH = "train/loss"  # every epoch has it
_AXES = ("epoch", "step")


class Tracker:
    """Writes points of single updates and the records of epochs to the folder of a run.

    A training that was stopped continues the same curves: readers drop the points that are later
    than its checkpoint, and epochs that are missing are added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: EventFile | None = None

    def add_points(self, points: Sequence[Point]) -> None:
        """Write points of a training whose epochs so far are written."""
        assert self._file is not None, "the epochs come first"
        for point in points:
            self._file.add_scalars(point.step, point.values, point.seconds)
        self._file.flush()

    def add_epochs(self, history: Sequence[Mapping[str, Any]], n_updates: int) -> None:
        """Write the records of the epochs that are not written yet.

        Args:
            n_updates: the updates of the training so far.
        """
        if self._file is None:
            epochs = read_scalars(self.folder).get(_EPOCH, [])
            self._steps = {step for step, _ in epochs if step <= n_updates}
            self._file = EventFile(self.folder, first_step=n_updates + 1)
        for record in history:
            if record["step"] not in self._steps:
                self._steps.add(record["step"])
                values = {k: v for k, v in record.items() if k not in _AXES and v is not None}
                self._file.add_scalars(record["step"], values, time())
        self._file.flush()

    def close(self) -> None:
        """Write everything, and close the file."""
        if self._file is not None:
            self._file.close()


@contextmanager
def open_tracker(logger: str, folder: Path) -> Iterator[Tracker | None]:
    """Open what writes the curves of a run; None where nobody asked for them."""
    tracker = Tracker(folder) if logger == "tensorboard" else None
    try:
        yield tracker
    finally:
        if tracker is not None:
            tracker.close()
