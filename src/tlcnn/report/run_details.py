"""The details of one run that a page shows in a dialog, small enough to embed.

Every record may be missing or damaged: then its part is left out and `missing` says why.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tlcnn.errors import DataError
from tlcnn.records.environment import read_sessions
from tlcnn.records.files import read_text
from tlcnn.records.plan_record import read_plan
from tlcnn.records.read import read_predictions
from tlcnn.records.summary import read_history

LOG_LINES, LINE_LENGTH, MAX_POINTS, MAX_WARNINGS = 30, 240, 200, 20
PACKAGES = ("torch", "timm", "tlcnn")
CURVES = ("train/loss", "val/nll", "val/balanced_accuracy")


def read_details(folder: Path) -> dict[str, Any]:
    """Read a run folder: curve, confusion, log tail, warnings, units and where it ran.

    Returns:
        JSON without NaN: `epochs`, `curves` (per name), `classes`, `confusion` (K x K, rows are
        true classes), `log`, `warnings`, `units`, `typed` and `where`, and `missing`: the reason
        for each part that is left out.
    """
    missing: dict[str, str] = {}
    parts: dict[str, Any] = {}
    for name, read in READERS.items():
        try:
            parts |= read(folder)
        except DataError as reason:
            missing[name] = str(reason)
        except Exception as error:  # a damaged file of one run must not cost the whole report
            missing[name] = f"cannot be read ({type(error).__name__})"
    return {**parts, "missing": missing}


def _read_curve(folder: Path) -> dict[str, Any]:
    history = read_history(folder)
    if not history:
        raise DataError("no epoch was finished")
    n_points = min(len(history), MAX_POINTS)
    positions = {round(p) for p in np.linspace(0, len(history) - 1, n_points)}  # first to last
    points = [history[position] for position in sorted(positions)]
    curves = {name: [round_number(epoch.values.get(name)) for epoch in points] for name in CURVES}
    curves = {name: values for name, values in curves.items() if set(values) != {None}}
    return {"epochs": [epoch.epoch for epoch in points], "curves": curves}


def round_number(value: Any, digits: int = 4) -> float | int | None:
    """Return a number in a few significant digits, or None for one that is none.

    Example:
        >>> round_number(0.123456), round_number(float("nan")), round_number(3)
        (0.1235, None, 3)
    """
    if value is None or isinstance(value, (str, bool)) or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.{digits}g}")


def _read_confusion(folder: Path) -> dict[str, Any]:
    if not (folder / "predictions.parquet").is_file():
        raise DataError("the run has not predicted the test images")
    table = read_predictions(folder)
    table = table[table["split"] == "test"]
    names = [str(c).removeprefix("logit/") for c in table.columns if str(c).startswith("logit/")]
    if any(str(column).startswith("target/") for column in table.columns):
        raise DataError("an image may have several findings, so there is no confusion matrix")
    counts = compute_confusion(
        table["label"].to_numpy(), table[[f"logit/{name}" for name in names]].to_numpy()
    )
    return {"classes": names, "confusion": counts.tolist()}


def compute_confusion(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return (K, K) counts: true class by most probable class.

    Args:
        labels: (N,) of 0..K-1.
        logits: (N, K).
    """
    counts = np.zeros((logits.shape[1], logits.shape[1]), dtype=np.int64)
    np.add.at(counts, (labels.astype(np.int64), logits.argmax(axis=1)), 1)
    return counts


def _read_log(folder: Path) -> dict[str, Any]:
    path = folder / "log.txt"
    if not path.is_file():
        raise DataError("there is no log.txt")
    lines = read_text(path).splitlines()
    warnings = [line for line in lines if " WARNING " in line or line.startswith("warning:")]
    traceback = folder / "FAILED"
    if traceback.is_file():
        lines = read_text(traceback).splitlines()
        warnings += lines[-1:]
    shown = {"log": lines[-LOG_LINES:], "warnings": [*dict.fromkeys(warnings)][:MAX_WARNINGS]}
    return {name: list(map(_shorten, part)) for name, part in shown.items()}


def _shorten(line: str) -> str:
    return line if len(line) <= LINE_LENGTH else f"{line[: LINE_LENGTH - 1]}…"


def _read_units(folder: Path) -> dict[str, Any]:
    plan = read_plan(folder)
    if not plan.units:
        raise DataError("the plan does not list its units")
    # An imported run has k and j alone.
    units = [
        [
            unit.unit,
            number <= plan.k if unit.weights is None else unit.weights not in ("fresh", "stats"),
            number <= plan.j if unit.frozen is None else unit.frozen,
        ]
        for number, unit in enumerate(plan.units, start=1)
    ]
    return {"units": units}  # name, is it transferred, is it frozen


def _read_where(folder: Path) -> dict[str, Any]:
    sessions, places = read_sessions(folder), []
    for session in sessions:
        threads = "1 thread" if session.threads == 1 else f"{session.threads} threads"
        parts = [f"{session.device} ({session.hardware}, {threads})"]
        parts += [f"{p} {session.packages[p]}" for p in PACKAGES if p in session.packages]
        parts += [f"Python {session.python}"]
        parts += [f"commit {session.commit[:12]}"] if session.commit else []
        places.append(", ".join(parts))
    typed = dict.fromkeys(session.command for session in sessions)
    return {"typed": list(typed), "where": list(dict.fromkeys(places))}


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "curve": _read_curve,
    "confusion": _read_confusion,
    "log": _read_log,
    "units": _read_units,
    "where": _read_where,
}
