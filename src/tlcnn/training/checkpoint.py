"""Checkpoints: everything that training changes, with a sha256, and the checkpoint before."""

import hashlib
import io
import os
import time
from pathlib import Path
from typing import Any

import torch

from tlcnn.errors import StorageError
from tlcnn.storage import open_new, read_regular_file, sync_folder, writing

LAST, PREVIOUS = "checkpoint.last.pt", "checkpoint.prev.pt"
_TRAILER = b"tlcnn-sha256:"
_SHARE = 0.05  # the most of the time that checkpoints at the ends of epochs may take
_BYTES_PER_S = 2**28  # the speed of the disk, until a checkpoint has been timed


class Checkpoints:
    """The checkpoints of one run, and when the next one is due.

    Args:
        run_id: the id of the run; a checkpoint of another run is refused.
        every_s: the most seconds between two checkpoints in training; 0: one at every step.
    """

    def __init__(self, run_dir: Path, run_id: str, *, every_s: float) -> None:
        self.run_dir, self.run_id, self.every_s = run_dir, run_id, every_s
        self._cost_s, self._saved = 0.0, time.monotonic()

    def start_clock(self, n_bytes: int) -> None:
        """Count the seconds to the next checkpoint, of about `n_bytes`, from now."""
        self._cost_s, self._saved = n_bytes / _BYTES_PER_S, time.monotonic()

    def is_overdue(self) -> bool:
        """Return whether to save now, in the middle of an epoch."""
        return time.monotonic() - self._saved >= self.every_s

    def is_cheap(self) -> bool:
        """Return whether to save at the end of an epoch, because it takes little of the time."""
        return time.monotonic() - self._saved >= min(self.every_s, self._cost_s / _SHARE)

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, and count the seconds from its end. Raises StorageError."""
        started = time.monotonic()
        save_checkpoint(self.run_dir, {"run_id": self.run_id, **state})
        self._saved = time.monotonic()
        self._cost_s = self._saved - started

    def load(self) -> dict[str, Any] | None:
        """Return the newest whole checkpoint, or None where there is none yet.

        Raises:
            StorageError: all checkpoints are damaged, or they are of another run.
        """
        state = load_checkpoint(self.run_dir)
        if state is not None and state["run_id"] != self.run_id:
            raise StorageError(
                f"the checkpoint in {self.run_dir} is of run {state['run_id']}, not of "
                f"{self.run_id}. Move that folder away to train this run."
            )
        return state


def save_checkpoint(run_dir: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill at any moment leaves this one or the one before.

    Args:
        state: tensors, numbers, strings, lists and dicts only.

    Raises:
        StorageError: the disk is full; the last good checkpoint is as it was.
    """
    buffer = io.BytesIO()  # not the file: torch.save hides why a disk does not take it
    torch.save(state, buffer)
    body = buffer.getbuffer()
    temporary = run_dir / f".{LAST}.tmp"  # only one process holds the run
    with writing(run_dir / LAST):
        temporary.unlink(missing_ok=True)  # it may be a link to a file elsewhere
        try:
            with open_new(temporary) as file:
                file.write(body)
                file.write(_TRAILER + hashlib.sha256(body).digest())
                file.flush()
                os.fsync(file.fileno())
            if (run_dir / LAST).is_file():
                _move_last_to_previous(run_dir)
            os.replace(temporary, run_dir / LAST)
            sync_folder(run_dir)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _move_last_to_previous(run_dir: Path) -> None:
    # With a hard link LAST stays in place meanwhile, so there is always a whole checkpoint.
    last, previous, link = run_dir / LAST, run_dir / PREVIOUS, run_dir / f".{PREVIOUS}.tmp"
    link.unlink(missing_ok=True)
    try:
        os.link(last, link)
    except OSError:  # a file system without hard links
        os.replace(last, previous)
    else:
        os.replace(link, previous)
    sync_folder(run_dir)


def load_checkpoint(run_dir: Path) -> dict[str, Any] | None:
    """Return the newest whole checkpoint, or None where there is none yet.

    A link or a pipe counts as a damaged checkpoint: it is not read.

    Raises:
        StorageError: there are checkpoints, but none is whole.
    """
    files = [run_dir / name for name in (LAST, PREVIOUS) if os.path.lexists(run_dir / name)]
    for path in files:
        try:
            data = read_regular_file(path)
        except OSError:
            continue
        body, trailer = data[: -len(_TRAILER) - 32], data[-len(_TRAILER) - 32 :]
        if trailer == _TRAILER + hashlib.sha256(body).digest():
            if path.name == PREVIOUS:  # otherwise the next save would move the damaged LAST here
                os.replace(path, run_dir / LAST)
            return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    if files:
        raise StorageError(
            f"every checkpoint in {run_dir} is damaged: {', '.join(p.name for p in files)}.\n"
            "Restore one from a backup, or delete both to train this run from the start."
        )
    return None
