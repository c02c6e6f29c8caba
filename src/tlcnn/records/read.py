"""Run folders as a table. Imports no torch."""

import io
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tlcnn.errors import DataError
from tlcnn.records.files import DONE, PLAN, PREDICTIONS, SUMMARY, read_bytes, read_json
from tlcnn.records.folder import FAILED, HOLDER, PRUNED
from tlcnn.records.plan_record import RECORD, read_plan
from tlcnn.records.search import find_roles
from tlcnn.records.settings import add_later_settings
from tlcnn.records.summary import read_epochs, read_summary, summarize_epochs

COLUMNS = ("dataset", "model", "init", "k", "j", "bn", "seed", "state")
_ALWAYS = (
    *("folder", "run_id", "cell_id", "source", "imported", "task", "planned_epochs", "epochs"),
    *("train_s", "settings", "plan", "has_predictions", "is_trial", "searched", "problem"),
)
_PLAN_COLUMNS = (
    *("dataset", "model", "k", "j", "bn", "seed", "run_id", "cell_id", "source", "task"),
    *("imported", "settings"),
)
_EMPTY = {
    "settings": {},
    "imported": False,
    "has_predictions": False,
    "is_trial": False,
    "searched": (),
}
# What makes a folder a run, be it the first or the last file of it.
_MARKS = {PLAN, HOLDER, SUMMARY, DONE, FAILED}
# The states of a run; of several copies of one run the one with the first of these is taken.
_STATES = ("done", "running", "stopped", "pruned", "failed", "unreadable")


def read_runs(*paths: str | Path) -> pd.DataFrame:
    """Read every run below a folder, finished or not.

    Nothing is dropped: a folder that cannot be read has the state `unreadable`, something in
    `runs` that is no run the state `no run`, a second copy of a run the state `duplicate`;
    `problem` says why, and `tlcnn.records.describe_left_out` says all of it in words.

    Args:
        paths: output folders (with `runs/` in them), folders of run folders, or run folders.

    Returns:
        One row a run: dataset, model, init (the source as one text), k, j, bn, seed, state (done,
        running, stopped, pruned, failed, or one of the above), folder, run_id, cell_id (equal for
        runs that differ in the seed alone), source (a tuple of names), imported (predictions of
        another tool), task, epochs, train_s, images_per_s, settings (a dict of dotted keys),
        plan (a `PlanRecord`), has_predictions, is_trial (trained by a search to choose settings,
        and no result), searched (the `SearchedArm`s that it is a final run of, and None if it is
        a cell of another study as well), and every metric as `val/...` and `test/...`. What a
        run has not measured is NaN.

    Raises:
        DataError: there is no such folder.
    """
    places: dict[str, _Place] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            is_file = " (it is a file)" if path.is_file() else ""
            raise DataError(
                f"there is no folder {path}{is_file}; train something first, or name another one"
            )
        for place in _scan(path):
            places.setdefault(os.path.realpath(place.folder), place)
    rows = []
    for place in sorted(places.values(), key=lambda place: place.folder):
        row = {"folder": str(place.folder), "state": place.state, "problem": place.problem}
        rows.append(_EMPTY | row if place.state else read_run(place.folder))
    _mark_duplicates(rows)
    _add_roles(rows)
    frame = pd.DataFrame(rows)
    order = dict.fromkeys([*COLUMNS, *_ALWAYS, *frame.columns])
    return frame.reindex(columns=list(order))


# ---- which folders ------------------------------------------------------------------------------


class _Place(NamedTuple):
    """A run folder, or something else in its place, with a state and a problem."""

    folder: Path
    state: str = ""
    problem: str = ""


def find_run_dirs(root: Path) -> list[Path]:
    """Return the run folders at or below a folder."""
    return [place.folder for place in _scan(root) if not place.state]


def list_run_dirs_below(paths: Iterable[str | Path]) -> list[Path]:
    """Return the run folders at or below some folders, each once, in the order of the folders.

    Raises DataError where a folder is missing.
    """
    run_dirs: dict[str, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise DataError(f"there is no folder {path}; name an output folder or a run folder")
        run_dirs |= {os.path.realpath(run_dir): run_dir for run_dir in find_run_dirs(path)}
    return list(run_dirs.values())


def _scan(root: Path) -> list[_Place]:
    if not _look_at(root).state:
        return [_Place(root)]
    runs = root / "runs"
    inside = _list_children(runs)
    if not inside and not runs.is_dir() and os.path.lexists(runs):
        inside = [_Place(runs, "no run", "a file where the folder of runs is expected")]
    beside = _list_children(root)
    if root.name != "runs":  # other things may stand in any other folder
        beside = [place for place in beside if not place.state]
    places = inside + [place for place in beside if place.folder.name != "runs" or place.state]
    return places if any(not place.state for place in places) else places + _walk(root)


def _list_children(root: Path) -> list[_Place]:
    """Return what stands in a folder, but for hidden files."""
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return []
    places = [_look_at(root / name) for name in names]
    return [p for p in places if not (p.folder.name.startswith(".") and p.folder.is_file())]


def _look_at(folder: Path) -> _Place:
    try:
        names = os.listdir(folder)
    except NotADirectoryError:
        return _Place(folder, "no run", "a file, not a folder")
    except PermissionError as error:
        return _Place(folder, "unreadable", f"PermissionError: {error.strerror}")
    except OSError as error:
        return _Place(folder, "no run", f"a link that leads nowhere ({error.strerror})")
    if not _MARKS.isdisjoint(names):
        return _Place(folder)
    problem = "neither plan.json nor holder.json in it" if names else "an empty folder"
    return _Place(folder, "no run", problem)


def _walk(root: Path) -> list[_Place]:
    """Return all run folders below one, at any depth; links are not followed."""
    places: list[_Place] = []

    def note(error: OSError) -> None:
        if isinstance(error, PermissionError):
            problem = f"PermissionError: {error.strerror}"
            places.append(_Place(Path(error.filename), "unreadable", problem))

    for folder, folders, files in os.walk(root, onerror=note):
        if not _MARKS.isdisjoint(files):
            places.append(_Place(Path(folder)))
            folders.clear()  # runs hold no runs
    return places


def _mark_duplicates(rows: Sequence[dict[str, Any]]) -> None:
    """Give the state `duplicate` to all copies of a run but the most complete one."""

    def rank(row: dict[str, Any]) -> tuple[int, int]:
        # The name of a copy is longer: `... copy`, `copy-of-...`.
        return _STATES.index(row["state"]), len(Path(row["folder"]).name)

    def list_scores(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if "/" in key and value == value}

    rows_by_run: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("run_id") and row["state"] in _STATES:
            rows_by_run.setdefault(row["run_id"], []).append(row)
    for copies in rows_by_run.values():
        best, *duplicates = sorted(copies, key=rank)
        for row in duplicates:
            problem = f"a copy of {best['folder']}, which was taken"
            if row["state"] == "done" and list_scores(row) != list_scores(best):
                problem += ", with other numbers"
            row |= {"state": "duplicate", "problem": problem}


def _add_roles(rows: list[dict[str, Any]]) -> None:
    """Say of each run what it is in the searches of its output folder.

    A study there that cannot be read is one more row.
    """
    by_folder: dict[Path, list[dict[str, Any]]] = {}
    for row in rows:
        folder = Path(row["folder"]).parent
        by_folder.setdefault(folder.parent if folder.name == "runs" else folder, []).append(row)
    for output_dir, members in by_folder.items():
        roles = find_roles(output_dir)
        for row in members:
            run_id = str(row.get("run_id"))
            is_cell = run_id in roles.finals and run_id in roles.cells
            row["searched"] = (*roles.finals.get(run_id, ()), *([None] if is_cell else []))
            row["is_trial"] = run_id in roles.trials
        for path, problem in roles.problems.items():
            rows.append(_EMPTY | {"folder": str(path), "state": "unreadable", "problem": problem})


# ---- one of them --------------------------------------------------------------------------------


def read_run(folder: Path) -> dict[str, Any]:
    """Read one run folder into a flat record; a damaged one has the state `unreadable`."""
    row: dict[str, Any] = _EMPTY | {"folder": str(folder)}
    try:
        row["state"] = read_state(folder)
        files = set(os.listdir(folder))
        has_summary = row["state"] == "done" or SUMMARY in files
        if PLAN not in files and not has_summary:
            return row  # it is running, or ended, before it had a plan
        record = read_plan(folder)
        row |= {name: getattr(record, name) for name in _PLAN_COLUMNS}
        if not record.imported:
            row["settings"] = add_later_settings(record.settings)
        row |= {"init": "-".join(record.source), "planned_epochs": record.epochs, "plan": record}
        if record.record > RECORD:
            versions = f"record {record.record}; this one knows up to {RECORD}"
            row["problem"] = f"written by a newer tlcnn ({versions}): what it knows was read"
        if has_summary:
            summary = read_summary(folder)
        else:
            history, is_cut = read_epochs(folder)
            select = str(record.settings.get("train.select", "balanced_accuracy"))
            summary = summarize_epochs(history, select)
            row |= {"problem": "metrics.jsonl ends in half a line, left out"} if is_cut else {}
        if PREDICTIONS in files:
            read_bytes(folder / PREDICTIONS)  # another sha256 is found before it is a number
            row["has_predictions"] = True
    except (DataError, OSError) as error:
        return row | {"state": "unreadable", "problem": str(error)}
    scores = {key: float("nan") if v is None else v for key, v in summary.metrics.items()}
    measured = {k: v for k, v in vars(summary).items() if k != "metrics" and v is not None}
    return {**scores, **measured, **row}


def read_state(folder: Path) -> str:
    """Return done, failed, running or stopped, from the files alone."""
    if (folder / DONE).is_file():
        return "done"
    if is_held(folder):
        return "running"
    if (folder / FAILED).is_file():
        return "failed"
    return "pruned" if (folder / PRUNED).is_file() else "stopped"


def is_held(folder: Path) -> bool:
    """Return whether the process that wrote holder.json lives; on another host, assume so."""
    try:
        holder = read_json(folder / HOLDER)
        if holder["host"] != platform.node():
            return True
        if os.name != "nt":  # there, signal 0 would end the process
            os.kill(holder["pid"], 0)
    except PermissionError:  # it lives, and is somebody else's
        return True
    except (DataError, OSError, ValueError, KeyError, TypeError, OverflowError):
        return False
    return True


# ---- its tables ---------------------------------------------------------------------------------


def read_predictions(folder: str | Path) -> pd.DataFrame:
    """Return split, image_id, group, label and the logits of every image of val and test.

    Raises:
        DataError: the file is missing, damaged, or not what the run wrote.
    """
    return read_table(Path(folder) / PREDICTIONS)


def read_table(path: Path) -> pd.DataFrame:
    """Return a parquet file of a run: predictions, splits, or what earlier runs have trained on.

    Raises:
        DataError: the file is missing, damaged, or not what the run wrote.
    """
    content = read_bytes(path)
    try:
        return pd.read_parquet(io.BytesIO(content))
    except Exception as error:  # each version of the reader has errors of its own
        reason = (str(error).splitlines() or ["no message"])[0]
        raise DataError(
            f"{path} is cut or damaged ({reason}). Train the run again, or leave it out"
        ) from error
