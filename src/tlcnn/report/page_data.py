"""What a page's dialogs are drawn from: cells, and every run's details, as compact JSON.

content -> names, commands and details of the runs -> one JSON value, safe inside a script element
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.report.content import Content
from tlcnn.report.page_words import (
    NONE,
    format_range,
    format_score,
    format_value,
    is_number,
    name_column,
)
from tlcnn.report.reproduce import find_commands
from tlcnn.report.run_details import read_details, round_number
from tlcnn.report.words import is_share, name_metric

MAX_DETAILED = 1000  # a run takes about 4 kB; more would not open within seconds


@dataclass(frozen=True)
class PageData:
    """What the page needs beside its content.

    Attributes:
        names: of each run, in the order of `content.runs`.
        commands: that train each again; empty where no record tells.
        cells: by key, what a dialog of a cell says.
        runs: what a dialog of a run says; one of `content.runs` that is not detailed is None.
        shared: settings that are the same in every run.
        classes: lists of class names, referred to by position.
        notes: what was left out, and why.
    """

    names: tuple[str, ...]
    commands: tuple[str, ...]
    cells: dict[str, dict[str, Any]]
    runs: list[dict[str, Any] | None]
    shared: list[tuple[str, str]]
    classes: list[list[str]]
    notes: tuple[str, ...]


def make_page_data(content: Content, *, max_detailed: int = MAX_DETAILED) -> PageData:
    """Read the run folders of a report.

    Args:
        max_detailed: runs whose curve, confusion and log are kept; those of cells come first.
    """
    records: list[dict[str, Any]] = [
        {str(key): value for key, value in row.items()} for row in content.runs.to_dict("records")
    ]
    names, commands = _name_runs(records), _find_commands(records)
    chosen = _choose(content, records, max_detailed)
    shared, own = split_settings([_settings(record) for record in records])
    classes: list[list[str]] = []
    metrics = tuple(dict.fromkeys((content.metric, "val/balanced_accuracy", *content.metrics)))
    runs: list[dict[str, Any] | None] = [
        _make_run(record, names[at], commands[at], own[at], classes, metrics)
        if at in chosen
        else None
        for at, record in enumerate(records)
    ]
    notes: tuple[str, ...] = ()
    if len(chosen) < len(records):
        notes = (
            f"Curves, confusions and logs are in this page for {len(chosen):,} of "
            f"{len(records):,} runs; the others have their rows in the tables, and all of it in "
            "their folders.",
        )
    cells = _make_cells(content, records)
    return PageData(names, commands, cells, runs, shared, classes, notes)


def _name_runs(records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the folder's name without the id, which stands in a column of its own."""
    names = []
    for record in records:
        folder, run_id = Path(str(record.get("folder", ""))).name, record.get("run_id")
        names.append(folder.removesuffix(f"-{run_id}") or NONE)
    return tuple(names)


def _find_commands(records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    folders = [str(record.get("folder", "")) for record in records]
    found = find_commands([folder for folder in folders if folder])
    return tuple(found.get(folder, "") for folder in folders)


def _choose(content: Content, records: Sequence[Mapping[str, Any]], limit: int) -> set[int]:
    """Return the positions of the runs to detail: those of cells first, then the others."""
    in_cells = {i for ids in content.cells.get("run_ids", []) for i in ids}
    ranked = sorted(
        range(len(records)), key=lambda at: (records[at].get("run_id") not in in_cells, at)
    )
    return set(ranked[:limit])


def _settings(record: Mapping[str, Any]) -> dict[str, str]:
    settings = record.get("settings")
    if not isinstance(settings, dict):
        return {}
    return {str(key): format_value(value) for key, value in settings.items()}


def split_settings(
    settings: Sequence[Mapping[str, str]],
) -> tuple[list[tuple[str, str]], list[list[tuple[str, str]]]]:
    """Split settings into those that all runs share, and what each has of its own.

    Example:
        >>> split_settings([{"lr": "1", "seed": "0"}, {"lr": "1", "seed": "1"}])
        ([('lr', '1')], [[('seed', '0')], [('seed', '1')]])
    """
    known = [run for run in settings if run]
    keys = list(dict.fromkeys(key for run in known for key in run))
    same = {key for key in keys if len({run.get(key) for run in known}) == 1}
    shared = [(key, known[0][key]) for key in keys if key in same]
    own = [[(key, run[key]) for key in keys if key in run and key not in same] for run in settings]
    return shared, own


def _make_run(
    record: Mapping[str, Any],
    name: str,
    command: str,
    own: list[tuple[str, str]],
    classes: list[list[str]],
    metrics: Sequence[str],
) -> dict[str, Any]:
    details = read_details(Path(str(record.get("folder", ""))))
    found = details.pop("classes", None)
    if found is None:
        lead = "test/recall/"
        found = [
            key.removeprefix(lead)
            for key, value in record.items()
            if key.startswith(lead) and is_number(value)
        ]
    if found not in classes:
        classes.append(found)
    problem = record.get("problem")
    return {
        "name": name,
        "id": format_value(record.get("run_id")),
        "seed": format_value(record.get("seed")),
        "state": format_value(record.get("state")),
        "problem": problem if isinstance(problem, str) else "",
        "best": round_number(record.get("best_epoch")),
        "scores": [[name_column(m), format_score(record.get(m), m)] for m in metrics],
        "classes": classes.index(found),
        "recall": [round_number(record.get(f"test/recall/{c}"), 3) for c in found],
        "settings": own,
        "command": command,
        **details,
    }


def _make_cells(
    content: Content, records: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return what a click on a cell shows, by the cell's key."""
    positions: dict[Any, int] = {}
    for at, record in enumerate(records):
        positions.setdefault(record.get("run_id"), at)
    cells = {}
    for row in content.cells.to_dict("records"):
        ids = row.get("run_ids")
        found = [positions[i] for i in ids if i in positions] if isinstance(ids, list) else []
        cells[str(row["cell"])] = {
            "label": format_value(row.get("label")),
            "line": _describe_cell(row, content.metric),
            "note": "" if format_value(row.get("note")) == NONE else str(row["note"]),
            "runs": found,
        }
    return cells


def _describe_cell(row: Mapping[Any, Any], metric: str) -> str:
    unit = " %" if is_share(metric) else ""
    between = format_range(row.get(f"{metric} low"), row.get(f"{metric} high"), metric)
    seeds = row.get("n_seeds")
    parts = [
        f"{format_value(row.get('dataset'))}: {name_metric(metric)} "
        f"{format_score(row.get(metric), metric)}{unit}",
        "" if between == NONE else f"95 % interval {between}{unit}",
        f"{format_value(seeds)} seed{'' if seeds == 1 else 's'}",
    ]
    return ", ".join(part for part in parts if part)


def compute_tint(values: pd.Series) -> list[float | None]:
    """Return where each value lies between the smallest (0) and the largest (100).

    Values that hardly differ are not spread over the whole scale: it spans at least 2 points.
    """
    numbers = [float(v) for v in values if is_number(v)]
    if not numbers:
        return [None for _ in values]
    low, high = min(numbers), max(numbers)
    span = max(high - low, 0.02)
    start = (low + high - span) / 2
    return [round(100 * (float(v) - start) / span, 1) if is_number(v) else None for v in values]


_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def embed_json(value: Any) -> str:
    """Return JSON that no browser can take for markup, wherever it stands in a page.

    Example:
        >>> embed_json({"a": "</script>&"})
        '{"a":"\\\\u003c/script\\\\u003e\\\\u0026"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)
