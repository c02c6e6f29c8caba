"""A run's folder: who holds it, what state it is in, and how its files are written.

plan.json config.yaml environment.json   what was asked, resolved, and where it ran
splits.parquet init.json                 which image was where, which tensor came from where
metrics.jsonl log.txt                    one line an epoch, and what was said
checkpoint.last.pt checkpoint.prev.pt    until the run is done
weights.safetensors predictions.parquet  the best epoch, and its logits on val and test
summary.json                             the metrics
DONE | FAILED                            the last thing written; FAILED holds the traceback
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tlcnn.errors import RunLocked
from tlcnn.storage import hold_lock, make_dir, sync_files, write_atomic

DONE, FAILED, HOLDER, LOCK = "DONE", "FAILED", "holder.json", "lock"


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
            wait: wait for another process that holds the run, or refuse.
            say: told once whom we wait for.
            check_stop: polled while waiting.

        Raises:
            RunLocked: somebody else holds it and `wait` is false; says who.
            StorageError: the folder cannot be created.
        """

        def on_wait() -> None:
            held = f"{self.path.name} is held by {self.describe_holder()}"
            if not wait:
                raise RunLocked(f"{held}. Wait for it, stop it, or use on_locked=wait.")
            say(f"waiting: {held}")

        make_dir(self.path)
        with hold_lock(self.path / LOCK, on_wait=on_wait, check_stop=check_stop):
            self.write_json(HOLDER, _describe_self())
            try:
                yield
            finally:
                (self.path / HOLDER).unlink(missing_ok=True)

    def describe_holder(self) -> str:
        """Return in words who holds the run."""
        try:
            holder = json.loads((self.path / HOLDER).read_text())
        except (OSError, ValueError):
            return "another process"
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, whole or not at all. NaN becomes null: JSON has none."""
        text = json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)
        self._write(name, text + "\n")

    def _write(self, name: str, text: str) -> None:
        # Every sitting writes these anew, so only those of a finished run must be durable.
        write_atomic(self.path / name, text, durable=False)

    def add_sitting(self, sitting: dict[str, Any]) -> list[str]:
        """Append where the run runs now to environment.json.

        Returns:
            What differs from the sitting before and can change the last bits of a result.
        """
        path = self.path / "environment.json"
        try:
            sittings = json.loads(path.read_text())["sittings"]
        except (OSError, ValueError):  # none yet, or emptied by a power cut
            sittings = []
        before = sittings[-1] if sittings else sitting
        self.write_json(path.name, {"sittings": [*sittings, sitting]})
        pairs = {key: (before[key], sitting[key]) for key in ("device", "hardware", "threads")}
        pairs["torch"] = (before["packages"]["torch"], sitting["packages"]["torch"])
        return [f"{key} was {old}, is {new}" for key, (old, new) in pairs.items() if old != new]

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.yaml: the resolved configuration, every default included."""
        dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # is ten times as fast
        self._write("config.yaml", yaml.dump(config, Dumper=dumper, sort_keys=False))

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """Write metrics.jsonl, one self-contained line an epoch."""
        lines = [json.dumps(_without_nan(record), allow_nan=False) for record in history]
        self._write("metrics.jsonl", "".join(f"{line}\n" for line in lines))

    def write_done(self, run_id: str) -> None:
        """Say that the run is finished and whole: all its files are on the disk by then."""
        sync_files(self.path)
        write_atomic(self.path / DONE, f"{run_id}\n")

    def delete_leftovers(self) -> None:
        """Delete the checkpoints that a finished run no longer needs, and half-written files."""
        for pattern in ("checkpoint.*.pt", ".*.tmp"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def write_failed(self, traceback: str) -> None:
        """Leave the traceback of a run that failed."""
        write_atomic(self.path / FAILED, traceback)

    def clear_failed(self) -> None:
        """Forget an earlier failure: the run is being tried again."""
        (self.path / FAILED).unlink(missing_ok=True)

    def read_summary(self) -> dict[str, Any]:
        """Return what the finished run measured."""
        return json.loads((self.path / "summary.json").read_text())


def _describe_self() -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"pid": os.getpid(), "host": platform.node(), "since": since}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
