"""Run folders as a table. Imports no torch."""

import json
import math
import os
import platform
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.errors import DataError
from tlcnn.records.plan_record import parse_plan

COLUMNS = ("dataset", "model", "init", "k", "j", "bn", "seed", "state")
_ALWAYS = (
    *("folder", "run_id", "cell_id", "imported", "task", "planned_epochs", "epochs", "train_s"),
    *("settings", "has_predictions", "problem"),
)
# What makes a folder a run, be it the first or the last file of it.
_MARKS = {"plan.json", "holder.json", "summary.json", "DONE", "FAILED"}
# Which of several copies of one run is taken.
_ORDER = ("done", "running", "stopped", "failed", "unreadable")
_DAMAGED = (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError)


def read_runs(*paths: str | Path) -> pd.DataFrame:
    """Read every run below a folder, finished or not.

    Nothing is dropped: a folder that cannot be read has the state `unreadable`, one in `runs`
    that is none the state `no run`, a second copy of a run the state `duplicate`; `problem` says
    why, and `tlcnn.records.describe_left_out` says all of it in words.

    Args:
        paths: output folders (with `runs/` in them), folders of run folders, or run folders.

    Returns:
        One row a run: dataset, model, init, k, j, bn, seed, state (done, running, stopped,
        failed, or one of the above), folder, run_id, cell_id (equal for runs that differ in the
        seed alone), imported (predictions of another tool), task, epochs, train_s, images_per_s,
        settings (a dict of dotted keys), has_predictions, and every metric as `val/...` and
        `test/...`. What a run has not measured is NaN.

    Raises:
        DataError: there is no such folder.

    Example:
        >>> import json, tempfile
        >>> output = Path(tempfile.mkdtemp())
        >>> for seed, score in enumerate((0.5, 0.7)):
        ...     folder = output / "runs" / f"run-{seed}"
        ...     folder.mkdir(parents=True)
        ...     plan = {"dataset": "ham10000", "init": "imagenet", "seed": seed}
        ...     summary = {"metrics": {"test/balanced_accuracy": score}}
        ...     for name, value in {"plan": plan, "summary": summary}.items():
        ...         _ = (folder / f"{name}.json").write_text(json.dumps(value))
        ...     (folder / "DONE").touch()
        >>> runs = read_runs(output)
        >>> done = runs[runs["state"] == "done"]
        >>> done.groupby("init")["test/balanced_accuracy"].mean().round(3).to_dict()
        {'imagenet': 0.6}
    """
    found: dict[str, tuple[Path, str]] = {}
    for path in paths:
        for folder, problem in _scan(_check_folder(Path(path))):
            found.setdefault(os.path.realpath(folder), (folder, problem))
    rows = [
        read_run(folder) if not problem else _make_other(folder, problem)
        for folder, problem in sorted(found.values())
    ]
    _mark_duplicates(rows)
    frame = pd.DataFrame(rows)
    order = dict.fromkeys([*COLUMNS, *_ALWAYS, *frame.columns])
    return frame.reindex(columns=list(order))


def _check_folder(root: Path) -> Path:
    if not root.is_dir():
        is_file = " (it is a file)" if root.is_file() else ""
        raise DataError(
            f"there is no folder {root}{is_file}; train something first, or name another one"
        )
    return root


def _make_other(folder: Path, problem: str) -> dict[str, Any]:
    state = "unreadable" if problem.startswith("PermissionError") else "no run"
    row = {"folder": str(folder), "state": state, "settings": {}, "problem": problem}
    return {**row, "imported": False, "has_predictions": False}


# ---- which folders ------------------------------------------------------------------------------


def find_run_dirs(root: Path) -> list[Path]:
    """Return the run folders at or below a folder."""
    return [folder for folder, problem in _scan(root) if not problem]


def _scan(root: Path) -> list[tuple[Path, str]]:
    """Return run folders, with an empty problem, and what stands among them and is none."""
    if not _find_problem(root):
        return [(root, "")]
    among = _scan_children(root / "runs", all_are_runs=True)
    if not among and not (root / "runs").is_dir() and os.path.lexists(root / "runs"):
        among = [(root / "runs", "a file where the folder of runs is expected")]
    beside = _scan_children(root, all_are_runs=root.name == "runs")
    found = [*among, *((f, p) for f, p in beside if f.name != "runs" or not p)]
    return found if any(not problem for _, problem in found) else found + _walk(root)


def _scan_children(root: Path, *, all_are_runs: bool) -> list[tuple[Path, str]]:
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return []
    pairs = [(root / name, _find_problem(root / name)) for name in names]
    if not all_are_runs:
        return [(folder, problem) for folder, problem in pairs if not problem]
    return [(f, p) for f, p in pairs if not (f.name.startswith(".") and f.is_file())]


def _find_problem(folder: Path) -> str:
    """Return why a path is no run folder, or an empty text."""
    try:
        names = os.listdir(folder)
    except NotADirectoryError:
        return "a file, not a folder"
    except PermissionError as error:
        return f"PermissionError: {error.strerror}"
    except OSError as error:
        return f"a link that leads nowhere ({error.strerror})"
    if not _MARKS.isdisjoint(names):
        return ""
    return "neither plan.json nor holder.json in it" if names else "an empty folder"


def _walk(root: Path) -> list[tuple[Path, str]]:
    """Return all run folders below one, at any depth; links are not followed."""
    found: list[tuple[Path, str]] = []

    def note(error: OSError) -> None:
        if isinstance(error, PermissionError):
            found.append((Path(error.filename), f"PermissionError: {error.strerror}"))

    for place, folders, files in os.walk(root, onerror=note):
        if not _MARKS.isdisjoint(files):
            found.append((Path(place), ""))
            folders.clear()  # runs hold no runs
    return found


def _mark_duplicates(rows: list[dict[str, Any]]) -> None:
    """Give the state `duplicate` to all copies of a run but the most complete one."""
    copies: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("run_id") and row["state"] in _ORDER:
            copies.setdefault(row["run_id"], []).append(row)
    for same in copies.values():
        taken, *others = sorted(same, key=_rank_copy)
        for row in others:
            words = f"a copy of {taken['folder']}, which was taken"
            if row["state"] == "done" and _find_scores(row) != _find_scores(taken):
                words += ", with other numbers"
            row |= {"state": "duplicate", "problem": words}


def _rank_copy(row: dict[str, Any]) -> tuple[int, int]:
    """Return how good a copy is, lower is better: the most complete one, then the shortest name.

    A copy is called `... copy` or `copy-of-...` more often than its original is.
    """
    return _ORDER.index(row["state"]), len(Path(row["folder"]).name)


def _find_scores(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if "/" in key and value == value}


# ---- one of them --------------------------------------------------------------------------------


def read_run(folder: Path) -> dict[str, Any]:
    """Read one run folder into a flat record; a damaged one has the state `unreadable`."""
    row: dict[str, Any] = {"folder": str(folder), "settings": {}}
    row |= {"imported": False, "has_predictions": False}
    try:
        row["state"] = read_state(folder)
        row["has_predictions"] = (folder / "predictions.parquet").is_file()
        if not os.path.lexists(folder / "plan.json") and _has_only_begun(folder, row["state"]):
            return row
        row |= parse_plan(_read_json(folder / "plan.json"), folder.name)
        row = {**_read_results(folder, is_done=row["state"] == "done"), **row}
    except _DAMAGED as error:
        row |= {"state": "unreadable", "problem": f"{type(error).__name__}: {error}"}
    return row


def _has_only_begun(folder: Path, state: str) -> bool:
    """Return whether a run without a plan is running, or ended before it had one."""
    return state != "done" and not os.path.lexists(folder / "summary.json")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is cut or damaged: {error}") from error


def _read_results(folder: Path, *, is_done: bool) -> dict[str, Any]:
    summary = folder / "summary.json"
    if is_done or os.path.lexists(summary):
        found = _read_json(summary)
        metrics = found.pop("metrics", {})
        return {**found, **{key: _number(key, value) for key, value in metrics.items()}}
    history, note = _read_lines(folder)
    if not history:
        return {"epochs": 0, **note}
    best = max(history, key=_rank_epoch)
    scores = {key: _number(key, value) for key, value in best.items() if key.startswith("val/")}
    train_s = sum(record["train_s"] for record in history)
    epochs = {"epochs": len(history), "best_epoch": best["epoch"], "train_s": train_s}
    return {**epochs, **scores, **note}


def _rank_epoch(record: dict[str, Any]) -> tuple[float, float]:
    score = _number("val/balanced_accuracy", record["val/balanced_accuracy"])
    loss = _number("val/nll", record["val/nll"])
    return (-math.inf if math.isnan(score) else score, -math.inf if math.isnan(loss) else -loss)


def _number(key: str, value: Any) -> float:
    if value is None:
        return float("nan")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}, a number is expected")
    return value


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the records of metrics.jsonl, one an epoch; none where there is no file yet.

    Half a line at the end, which a killed copy leaves, is left out.

    Raises:
        ValueError: any other line is no JSON object.
    """
    return _read_lines(folder)[0]


def _read_lines(folder: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    path = folder / "metrics.jsonl"
    if not os.path.lexists(path):
        return [], {}
    lines = path.read_text("utf-8").splitlines(keepends=True)
    records, note = [], {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            if line is not lines[-1] or line.endswith("\n"):
                raise
            note = {"problem": "metrics.jsonl ends in half a line, left out"}
            break
        if not isinstance(record, dict):
            raise ValueError("metrics.jsonl holds a line that is no JSON object")
        records.append(record)
    return records, note


def read_predictions(folder: Path) -> pd.DataFrame:
    """Return split, image_id, group, label and the logits of every image of val and test."""
    return pd.read_parquet(folder / "predictions.parquet")


def read_state(folder: Path) -> str:
    """Return done, failed, running or stopped, from the files alone."""
    if (folder / "DONE").is_file():
        return "done"
    if is_held(folder):
        return "running"
    return "failed" if (folder / "FAILED").is_file() else "stopped"


def is_held(folder: Path) -> bool:
    """Return whether the process that wrote holder.json lives; on another host, assume so."""
    try:
        holder = json.loads((folder / "holder.json").read_text())
        if holder["host"] != platform.node():
            return True
        if os.name != "nt":  # there, signal 0 would end the process
            os.kill(holder["pid"], 0)
    except PermissionError:  # it lives, and is somebody else's
        return True
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return False
    return True
