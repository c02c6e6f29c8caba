"""A run's folder: who holds it, what state it is in, and how its files are written.

plan.json config.yaml environment.json   what was asked, resolved, and where it ran
splits.parquet init.json                 which image was where, which tensor came from where
seen.parquet                             what the runs before this one have trained on
metrics.jsonl log.txt                    one line an epoch, and the log
checkpoint.last.pt checkpoint.prev.pt    until the run is done
weights.safetensors predictions.parquet  the best epoch, and its logits on val and test
summary.json                             the metrics
DONE | FAILED                            the last file written: DONE holds the sha256 of the
                                         others but the log, FAILED the traceback
PRUNED                                   which search gave the run up, and when; its checkpoint
                                         stays, and a later training deletes the mark
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tlcnn.errors import CannotCreate, DataError, Diverged, RunLocked
from tlcnn.records.files import CONFIG, DONE, HISTORY, compute_digests, read_json, read_text
from tlcnn.storage import hold_lock, make_dir, sync_files, write_atomic

FAILED, HOLDER, LOCK = "FAILED", "holder.json", "lock"
PRUNED = "PRUNED"


class RunDir:
    """The folder of one run, from lock to DONE."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_done(self) -> bool:
        """Whether the run is finished: DONE is written last."""
        return (self.path / DONE).is_file()

    @contextmanager
    def hold(
        self,
        *,
        wait: bool,
        say: Callable[[str], None],
        check_stop: Callable[[], None] = lambda: None,
    ) -> Iterator[None]:
        """Hold the run for this process; the lock dies with it, also by kill -9.

        Args:
            wait: whether to wait for another process that holds the run, or to refuse.
            say: called once with a text that names the process that the run waits for.
            check_stop: called while waiting; it may raise.

        Raises:
            RunLocked: another process holds the run, and `wait` is false.
            CannotCreate: the folder cannot be created, or is a link.
            StorageError: the lock cannot be written.
        """

        def on_wait() -> None:
            holder = f"{self.path.name} is held by {self.describe_holder()}"
            if not wait:
                raise RunLocked(f"{holder}. Wait for it, stop it, or use on_locked=wait.")
            say(f"waiting: {holder}")

        if self.path.is_symlink():  # whoever made the link decides what would be overwritten
            raise CannotCreate(
                f"{self.path} is a link to {os.readlink(self.path)}, and a run writes only into "
                "a folder of its own. Move that folder here, or link the whole output_dir instead."
            )
        make_dir(self.path)
        with hold_lock(self.path / LOCK, on_wait=on_wait, check_stop=check_stop):
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            self.write_json(HOLDER, {"pid": os.getpid(), "host": platform.node(), "since": since})
            try:
                yield
            finally:
                (self.path / HOLDER).unlink(missing_ok=True)

    def describe_holder(self) -> str:
        """Return in words who holds the run."""
        try:
            holder = read_json(self.path / HOLDER)
            return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        except (DataError, KeyError, TypeError):
            return "another process"

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, whole or not at all. NaN becomes null: JSON has none.

        It is made durable at the end, by `write_done`, because every session writes it anew.
        """
        text = json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(self.path / name, text + "\n", durable=False)

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.yaml: the resolved configuration, every default included."""
        dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # is ten times as fast
        text = yaml.dump(config, Dumper=dumper, sort_keys=False)
        write_atomic(self.path / CONFIG, text, durable=False)

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write metrics.jsonl, one self-contained line an epoch."""
        lines = [json.dumps(_without_nan(record), allow_nan=False) for record in history]
        text = "".join(f"{line}\n" for line in lines)
        write_atomic(self.path / HISTORY, text, durable=False)

    def write_done(self, run_id: str) -> None:
        """Mark the run as finished, once its files are on the disk, with their sha256."""
        sync_files(self.path)
        record = {"run_id": run_id, "sha256": compute_digests(self.path)}
        write_atomic(self.path / DONE, json.dumps(record, indent=2) + "\n")

    def delete_leftovers(self) -> None:
        """Delete the checkpoints that a finished run no longer needs, and half-written files."""
        if self.path.is_symlink():  # nothing is deleted in a folder elsewhere
            return
        for pattern in ("checkpoint.*.pt", ".*.tmp"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def write_failed(self, traceback: str) -> None:
        """Leave the traceback of a run that failed."""
        write_atomic(self.path / FAILED, traceback)

    def find_divergence(self) -> str | None:
        """Return the message of the error that ended the run, if its loss was not finite."""
        if not (self.path / FAILED).is_file():
            return None
        error = f"{Diverged.__module__}.{Diverged.__name__}: "
        lines = read_text(self.path / FAILED).splitlines()
        return next((ln.removeprefix(error) for ln in lines if ln.startswith(error)), None)

    def write_pruned(self, reason: Mapping[str, Any]) -> None:
        """Mark a paused run as given up by a search, unless another process trains it or has."""
        if not self.is_done and not (self.path / PRUNED).exists():
            write_atomic(self.path / PRUNED, json.dumps(reason, indent=2) + "\n")

    def clear_marks(self) -> None:
        """Delete the marks of an earlier failure and of a search: the run is being trained."""
        for name in (FAILED, PRUNED):
            (self.path / name).unlink(missing_ok=True)


def find_beside(run_dir: Path, kind: str) -> Path:
    """Return the folder of further records of a run: `KIND/NAME` beside `runs/NAME`."""
    place = run_dir.absolute().parent
    return (place.parent if place.name == "runs" else place) / kind / run_dir.name


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
