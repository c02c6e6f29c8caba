"""What became of the runs of a study, or of a folder: done, running, failed, stopped, missing.

State is read from the run folders and nowhere else.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tlcnn.errors import DataError, RunLocked
from tlcnn.records.files import read_json, read_text
from tlcnn.records.folder import HOLDER, RunDir
from tlcnn.records.plan_record import read_plan
from tlcnn.records.read import find_run_dirs, is_held, read_state
from tlcnn.records.summary import read_history
from tlcnn.storage import writing
from tlcnn.sweep.blocks import write_item
from tlcnn.sweep.progress import describe_duration
from tlcnn.sweep.study_record import find_studies, find_study, read_study
from tlcnn.text import align_columns

STATES = ("done", "running", "stopped", "failed", "missing")


@dataclass(frozen=True)
class Entry:
    """One run and its state.

    Attributes:
        state: done, running, stopped (begun, and nobody trains it), failed, or missing.
        detail: who trains it and how far it is, or its error's first line.
        overrides: the words that mean it, where a study recorded them.
    """

    run_id: str
    name: str
    folder: Path
    state: str
    detail: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Status:
    """A study's runs, or those of a folder that no study names."""

    title: str
    entries: tuple[Entry, ...]
    flags: tuple[str, ...] = ()  # of the command line that began it
    record: Path | None = None  # the study's file

    def count(self) -> dict[str, int]:
        """Return how many runs are in each state."""
        found = [entry.state for entry in self.entries]
        return {state: found.count(state) for state in STATES}


def read_status(target: str, output_dir: Path) -> list[Status]:
    """Return the status of a study, or of every study and other run of a folder.

    Args:
        target: a folder, or the name of a study.
        output_dir: where studies are looked for.

    Raises:
        DataError: there is no such folder or study, or its record cannot be read.
    """
    folder = Path(target)
    if not folder.is_dir() and len(folder.parts) > 1:
        raise DataError(f"there is no folder {folder}; train something first, or name another one")
    if not folder.is_dir():
        return [_read_study_status(find_study(target, output_dir))]
    studies = [_read_study_status(path) for path in find_studies(folder)]
    known = {entry.run_id for study in studies for entry in study.entries}
    entries = [_read_entry(found) for found in sorted(find_run_dirs(folder))]
    others = tuple(entry for entry in entries if entry.run_id not in known)
    if not studies and not others:
        raise DataError(f"there is no run in {folder} yet; train something first")
    return [*studies, *([Status("runs of no study", others)] if others else [])]


def _read_study_status(path: Path) -> Status:
    record = read_study(path)
    runs = path.parents[1] / "runs"
    entries = []
    for run in record["runs"]:
        folder = runs / f"{run['run_name']}-{run['run_id']}"
        entry = _read_entry(folder, tuple(run["overrides"]))
        entries.append(_note_failure(entry, record.get("failures", {})))
    return Status(f"study {record['name']}", tuple(entries), tuple(record.get("flags", ())), path)


def _note_failure(entry: Entry, failures: dict[str, str]) -> Entry:
    """Return a run that failed before it could say so, or was killed, as failed."""
    if entry.state not in ("missing", "stopped") or entry.run_id not in failures:
        return entry
    kept = f"  (saved: {entry.detail})" if entry.state == "stopped" else ""
    return replace(entry, state="failed", detail=failures[entry.run_id] + kept)


def _read_entry(folder: Path, overrides: tuple[str, ...] = ()) -> Entry:
    name, _, run_id = folder.name.rpartition("-")
    state = _find_state(folder)
    describe = {"running": _describe_running, "stopped": _describe_running, "failed": _read_error}
    detail = describe.get(state, lambda folder: "")(folder)
    return Entry(run_id, name, folder, state, detail, overrides)


def _find_state(folder: Path) -> str:
    begun = (folder / "plan.json").is_file() or is_held(folder) or (folder / "FAILED").is_file()
    return read_state(folder) if begun else "missing"


def _describe_running(folder: Path) -> str:
    """Return host, process, epoch and time left; of a stopped run, only the epoch."""
    words = []
    if is_held(folder):
        holder = read_json(folder / HOLDER)
        words.append(f"{holder.get('host')} pid {holder.get('pid')}")
    try:
        history, total = read_history(folder), read_plan(folder).epochs
    except DataError:
        history, total = [], None
    if history and total:
        words.append(f"epoch {history[-1]['epoch']} of {total}")
        left = total - history[-1]["epoch"]
        mean = sum(record["train_s"] for record in history) / len(history)
        words.append(f"{describe_duration(left * mean)} left")
    return ", ".join(words) or "in its first epoch"


def _read_error(folder: Path) -> str:
    """Return the error that a traceback ends with, its first line only."""
    try:
        lines = read_text(folder / "FAILED").splitlines()
    except DataError as error:
        return str(error)
    errors = [line for line in lines if line and not line[0].isspace() and ": " in line]
    reason = errors[-1].removeprefix("tlcnn.errors.") if errors else "failed"
    return f"{reason}  ({folder / 'log.txt'})"


def describe_status(statuses: Sequence[Status], *, every: bool = False) -> str:
    """Return a table of counts, and below it the runs that are not done.

    Args:
        statuses: of studies.
        every: list finished runs, too.
    """
    rows: list[tuple[str, ...]] = [("", *STATES, "all")]
    for status in statuses:
        counts = status.count()
        rows.append((status.title, *(str(n) for n in counts.values()), str(len(status.entries))))
    lines = align_columns(rows, right=range(1, len(rows[0])))
    for status in statuses:
        lines += _list_entries(status, every)
    return "\n".join(lines)


def _list_entries(status: Status, every: bool) -> list[str]:
    shown = [entry for entry in status.entries if every or entry.state != "done"]
    rows = [(f"  {e.state}", f"{e.name}-{e.run_id}", e.detail) for e in shown]
    return ["", f"{status.title}:", *align_columns(rows)] if rows else []


def list_failed(statuses: Sequence[Status]) -> list[tuple[str, ...]]:
    """Return the overrides of the failed runs, each once, in the order of their studies.

    Raises:
        DataError: a failed run is in no study, so that its words are not known.
    """
    failed = [entry for status in statuses for entry in status.entries if entry.state == "failed"]
    unknown = [entry.name for entry in failed if not entry.overrides]
    if unknown:
        raise DataError(
            f"{unknown[0]} belongs to no study: repeat the command that began it "
            "(environment.json in its folder has it)"
        )
    places = [str(entry.folder.absolute().parents[1]) for entry in failed]
    words = [
        (*entry.overrides, f"output_dir={write_item(place)}")
        for entry, place in zip(failed, places, strict=True)
    ]
    return list(dict.fromkeys(words))


def list_prunable(statuses: Sequence[Status]) -> list[Entry]:
    """Return the runs whose folders hold no result: failed, or stopped and held by nobody."""
    found = {e.run_id: e for status in statuses for e in status.entries}
    without = [entry for entry in found.values() if entry.state in ("failed", "stopped")]
    return [entry for entry in without if entry.folder.is_dir()]


def measure_mib(folder: Path) -> float:
    """Return the size of a folder's files, MiB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def delete_runs(entries: Sequence[Entry]) -> None:
    """Delete run folders, except of runs that somebody has begun to train meanwhile.

    Raises:
        StorageError: a file cannot be deleted.
    """
    for entry in entries:
        with suppress(RunLocked):
            _delete_run(entry.folder)


def _delete_run(folder: Path) -> None:
    if is_held(folder):  # on another host, where our lock may mean nothing
        return
    with RunDir(folder).hold(wait=False, say=print), writing(folder):
        if not (folder / "DONE").is_file():
            shutil.rmtree(folder, ignore_errors=os.name == "nt")  # there, a lock file stays
