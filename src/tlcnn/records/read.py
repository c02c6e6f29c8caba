"""Run folders as a table. Imports no torch."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.errors import DataError

COLUMNS = ("dataset", "model", "init", "k", "j", "bn", "seed", "state")


def read_runs(path: str | Path) -> pd.DataFrame:
    """Read every run below a folder, finished or not.

    Args:
        path: an output folder (with `runs/` in it), a folder of run folders, or one run folder.

    Returns:
        One row a run: dataset, model, init, k, j, bn, seed, state, epochs, train_s,
        images_per_s, run_id, folder, settings (a dict) and every metric as `val/...` and
        `test/...`. What a run has not measured is NaN. A folder that cannot be read has the state
        `unreadable` and says why in `problem`.

    Raises:
        DataError: there is no such folder.

    Example:
        >>> runs = read_runs("outputs")  # doctest: +SKIP
        >>> runs[runs.state == "done"].groupby("init")["test/balanced_accuracy"].mean()
        ... # doctest: +SKIP
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; train something first, or name another one")
    rows = [read_run(folder) for folder in sorted(find_run_dirs(root))]
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*COLUMNS, *[c for c in frame.columns if c not in COLUMNS]])


def find_run_dirs(root: Path) -> list[Path]:
    """Return the run folders at or below a folder: those that hold a plan.json or a lock."""
    if _is_run(root):
        return [root]
    places = [root / "runs", root] if (root / "runs").is_dir() else [root]
    found = [child for place in places for child in place.iterdir() if _is_run(child)]
    if found:
        return found
    return sorted({plan.parent for plan in root.rglob("plan.json")})


def _is_run(folder: Path) -> bool:
    return (folder / "plan.json").is_file() or (folder / "holder.json").is_file()


def read_run(folder: Path) -> dict[str, Any]:
    """Read one run folder into a flat record."""
    row: dict[str, Any] = {"folder": str(folder), "state": read_state(folder)}
    if row["state"] == "running" and not (folder / "plan.json").is_file():
        return row  # it has only just begun
    try:
        plan = json.loads((folder / "plan.json").read_text())
        row |= {key: plan.get(key) for key in ("dataset", "model", "init", "k", "j", "bn", "seed")}
        row |= {"run_id": plan.get("run_id"), "cell_id": plan.get("cell_id")}
        row |= {"planned_epochs": plan.get("epochs"), "settings": plan.get("settings", {})}
        row |= _read_results(folder)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        row |= {"state": "unreadable", "problem": f"{type(error).__name__}: {error}"}
    return row


def _read_results(folder: Path) -> dict[str, Any]:
    summary = folder / "summary.json"
    if summary.is_file():
        found = json.loads(summary.read_text())
        metrics = found.pop("metrics", {})
        return {**found, **{key: _number(value) for key, value in metrics.items()}}
    history = read_history(folder)
    if not history:
        return {"epochs": 0}
    best = max(history, key=lambda r: (r["val/balanced_accuracy"], -r["val/nll"]))
    scores = {key: _number(value) for key, value in best.items() if key.startswith("val/")}
    train_s = sum(record["train_s"] for record in history)
    return {"epochs": len(history), "best_epoch": best["epoch"], "train_s": train_s, **scores}


def _number(value: Any) -> float:
    return float("nan") if value is None else value


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the records of metrics.jsonl, one an epoch; none where there is no file yet."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


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
    except (OSError, ValueError, KeyError):
        return False
    return True
