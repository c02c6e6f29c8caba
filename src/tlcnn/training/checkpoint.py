"""Checkpoints that are whole or absent: everything that moves, its sha256, and the one before."""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from tlcnn.errors import StorageError
from tlcnn.storage import open_new, sync_folder, writing

LAST, PREVIOUS = "checkpoint.last.pt", "checkpoint.prev.pt"
_TRAILER = b"tlcnn-sha256:"
_SHARE = 0.05  # of the time, at most, that checkpoints at the ends of epochs take
_BYTES_PER_S = 2**28  # until one has been timed


class SaveTimer:
    """When a checkpoint is due: after so many seconds, or sooner where it costs next to nothing.

    Args:
        every_s: the most seconds between two; 0: one at every step.
        n_bytes: about how large one is.
    """

    def __init__(self, every_s: float, *, n_bytes: int) -> None:
        self.every_s, self._cost_s = every_s, n_bytes / _BYTES_PER_S
        self._saved = time.monotonic()

    def start(self) -> None:
        """Count from now."""
        self._saved = time.monotonic()

    def is_overdue(self) -> bool:
        """Return whether to save now, wherever the training stands."""
        return time.monotonic() - self._saved >= self.every_s

    def is_worth_it(self) -> bool:
        """Return whether to save at the end of an epoch."""
        return time.monotonic() - self._saved >= min(self.every_s, self._cost_s / _SHARE)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Time a checkpoint, and count from its end."""
        started = time.monotonic()
        yield
        self._saved = time.monotonic()
        self._cost_s = self._saved - started


def save_checkpoint(run_dir: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill at any moment leaves this one or the one before.

    Args:
        state: tensors, numbers, strings, lists and dicts only.

    Raises:
        StorageError: the disk is full; the last good checkpoint is as it was.
    """
    temporary = run_dir / f".{LAST}.tmp"  # one process holds the run, and sweeps what it left
    with writing(run_dir / LAST):
        try:
            with open_new(temporary) as file:
                digest = _save_hashed(state, file)
                file.write(_TRAILER + digest)
                file.flush()
                os.fsync(file.fileno())
            _keep_last(run_dir)
            os.replace(temporary, run_dir / LAST)
            sync_folder(run_dir)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _save_hashed(state: dict[str, Any], file: BinaryIO) -> bytes:
    """Save to a file and return the sha256 of what went there."""
    hashing = _HashingFile(file)
    try:
        torch.save(state, hashing)  # type: ignore[arg-type]
    except RuntimeError:
        if hashing.error is not None:  # torch does not say that the disk is full
            raise hashing.error from None
        raise
    return hashing.sha256.digest()


class _HashingFile:
    """Hashes what goes to a file on its way: a checkpoint is never whole in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            self.sha256.update(data)
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _keep_last(run_dir: Path) -> None:
    # A hard link keeps LAST in place while PREVIOUS becomes it: there is always a whole one.
    last, previous, link = run_dir / LAST, run_dir / PREVIOUS, run_dir / f".{PREVIOUS}.tmp"
    if not last.is_file():
        return
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

    Raises:
        StorageError: there are checkpoints, but none is whole.
    """
    files = [run_dir / name for name in (LAST, PREVIOUS) if (run_dir / name).is_file()]
    for path in files:
        state = _read(path)
        if state is not None:
            if path.name == PREVIOUS:  # or the next save would keep the damaged one as the spare
                os.replace(path, run_dir / LAST)
            return state
    if files:
        raise StorageError(
            f"every checkpoint in {run_dir} is damaged: {', '.join(p.name for p in files)}.\n"
            "Restore one from a backup, or delete both to train this run from the start."
        )
    return None


def _read(path: Path) -> dict[str, Any] | None:
    data = path.read_bytes()
    body, trailer = data[: -len(_TRAILER) - 32], data[-len(_TRAILER) - 32 :]
    if trailer != _TRAILER + hashlib.sha256(body).digest():
        return None
    return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
