"""What the dialogs of a page show of cells and runs, as compact JSON.

content -> names, commands and details of the runs -> one JSON value, safe inside a script element
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.report.content import Content
from tlcnn.report.numbers import (
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
from tlcnn.statistics.metrics import parse_metric
from tlcnn.text import count, make_visible

MAX_DETAILED = 1000  # a run takes about 4 kB; more would not open within seconds


@dataclass(frozen=True)
class PageData:
    """What the page needs beside its content.

    Attributes:
        names: the name of each run, in the order of `content.runs`.
        commands: the command that trains each run again; empty where no record has it.
        cells: what the dialog of a cell says, by the cell's key.
        runs: what the dialog of each run says; None for a run without details.
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
        max_detailed: how many runs keep their curve, confusion matrix and log; those of cells come
            first.
    """
    records: Any = content.runs.to_dict("records")
    folders = [str(record.get("folder", "")) for record in records]
    by_folder = find_commands(filter(None, folders))
    commands = tuple(by_folder.get(folder, "") for folder in folders)
    # The id has a column of its own.
    names = tuple(
        Path(folder).name.removesuffix(f"-{record.get('run_id')}") or NONE
        for folder, record in zip(folders, records, strict=True)
    )
    in_cells = {run_id for run_ids in content.cells.get("run_ids", []) for run_id in run_ids}
    order = sorted(range(len(records)), key=lambda i: records[i].get("run_id") not in in_cells)
    detailed = set(order[:max_detailed])
    settings = [record.get("settings") for record in records]
    texts = [
        {str(key): format_value(value) for key, value in run.items()}
        if isinstance(run, dict)
        else {}
        for run in settings
    ]
    shared, varying = split_settings(texts)
    classes: list[list[str]] = []
    metrics = tuple(dict.fromkeys((content.metric, "val/balanced_accuracy", *content.metrics)))
    runs: list[dict[str, Any] | None] = [None] * len(records)
    for i in sorted(detailed):
        names_of_run = {"name": names[i], "settings": varying[i], "command": commands[i]}
        runs[i] = names_of_run | _describe_run(records[i], classes, metrics)
    notes: tuple[str, ...] = ()
    if len(detailed) < len(records):
        notes = (
            f"The learning curves, confusion matrices and logs of {len(detailed):,} of "
            f"{len(records):,} runs are in this page. Those of the others are in the run folders.",
        )
    cells = _describe_cells(content, records)
    return PageData(names, commands, cells, runs, shared, classes, notes)


def split_settings(
    settings: Sequence[Mapping[str, str]],
) -> tuple[list[tuple[str, str]], list[list[tuple[str, str]]]]:
    """Split the settings of runs into those that all share, and those of each run alone.

    Example:
        >>> split_settings([{"lr": "1", "seed": "0"}, {"lr": "1", "seed": "1"}])
        ([('lr', '1')], [[('seed', '0')], [('seed', '1')]])
    """
    recorded = [run for run in settings if run]
    keys = list(dict.fromkeys(key for run in recorded for key in run))
    constant = {key for key in keys if len({run.get(key) for run in recorded}) == 1}
    shared = [(key, recorded[0][key]) for key in keys if key in constant]
    varying = [
        [(key, run[key]) for key in keys if key in run and key not in constant] for run in settings
    ]
    return shared, varying


def _describe_run(
    record: Mapping[str, Any], classes: list[list[str]], metrics: Sequence[str]
) -> dict[str, Any]:
    """Return what the dialog of a run says; new lists of class names are added to `classes`."""
    details = read_details(Path(str(record.get("folder", ""))))
    recall = "test/recall/"
    scored_classes = [
        parse_metric(key).class_name
        for key, value in record.items()
        if key.startswith(recall) and is_number(value)
    ]
    names = details.pop("classes", scored_classes)
    if names not in classes:
        classes.append(names)
    problem = record.get("problem")
    return {
        "id": format_value(record.get("run_id")),
        "seed": format_value(record.get("seed")),
        "state": format_value(record.get("state")),
        "problem": problem if isinstance(problem, str) else "",
        "best": round_number(record.get("best_epoch")),
        "scores": [[name_column(m), format_score(record.get(m), m)] for m in metrics],
        "classes": classes.index(names),
        "recall": [round_number(record.get(f"{recall}{name}"), 3) for name in names],
        **details,
    }


def _describe_cells(
    content: Content, records: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return what the dialog of each cell says, by the cell's key."""
    positions: dict[Any, int] = {}
    for i, record in enumerate(records):
        positions.setdefault(record.get("run_id"), i)
    metric, unit = content.metric, " %" if is_share(content.metric) else ""
    cells = {}
    for row in content.cells.to_dict("records"):
        interval = format_range(row.get(f"{metric} low"), row.get(f"{metric} high"), metric)
        score = f"{name_metric(metric)} {format_score(row.get(metric), metric)}{unit}"
        line = [f"{format_value(row.get('dataset'))}: {score}"]
        line += [f"95 % interval {interval}{unit}"] if interval != NONE else []
        line += [count(int(row.get("n_seeds") or 0), "seed")]
        run_ids = row.get("run_ids")
        cells[str(row["cell"])] = {
            "label": format_value(row.get("label")),
            "line": ", ".join(line),
            "note": row["note"] if isinstance(row.get("note"), str) else "",
            "runs": [positions[run_id] for run_id in run_ids if run_id in positions]
            if isinstance(run_ids, list)
            else [],
        }
    return cells


def compute_tints(values: pd.Series) -> list[float | None]:
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
    shown = _show_texts(value)
    text = json.dumps(shown, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _show_texts(value: Any) -> Any:
    """Return a value of JSON with the control characters of its texts made visible."""
    if isinstance(value, str):
        return make_visible(value)
    if isinstance(value, dict):
        return {make_visible(key): _show_texts(item) for key, item in value.items()}
    return [_show_texts(item) for item in value] if isinstance(value, (list, tuple)) else value
