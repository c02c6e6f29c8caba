"""Values as entries of a table, and the tables of `tlcnn compare` as texts."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from tlcnn.report.numbers import (
    NONE,
    format_estimate,
    format_gap,
    format_p,
    format_range,
    format_score,
    format_seconds,
    format_value,
    is_number,
)
from tlcnn.report.tables import Table
from tlcnn.report.text_table import Column, Entry, TextTable
from tlcnn.text import make_visible

BEST = "the best of its dataset by this metric; choose a cell by a val/ metric"

TONES = {
    **dict.fromkeys(("yes", "better", "general"), "for"),
    **dict.fromkeys(("no", "worse", "specific", "failed", "unreadable"), "against"),
    **dict.fromkeys(("inconclusive", "undetermined", "running", "stopped", "partly"), "open"),
    **dict.fromkeys(("equivalent", "as good", "full fine-tuning"), "same"),
    "done": "calm",
    **dict.fromkeys(("not measured", "missing", ""), "open"),
}


def find_tone(verdict: Any) -> str:
    """Return the look of a verdict: for, against, same, calm, open, or said."""
    return TONES.get(str(verdict).strip().lower(), "said")


def show_value(value: Any, below: str = "") -> Entry:
    """Return the entry of a value of any type."""
    text = format_value(value)
    sort_key = None if text == NONE else float(value) if is_number(value) else text
    return Entry(text, sort_key, below=below)


def show_number(value: Any, form: Callable[[Any], str] = format_value, why: str = "") -> Entry:
    """Return the entry of a number.

    Args:
        why: why there may be no number.
    """
    if is_number(value):
        return Entry(form(value), float(value))
    is_infinite = isinstance(value, float) and value in (float("inf"), float("-inf"))
    return Entry(NONE, None, "infinite: no number would do" if is_infinite else why)


def show_score(value: Any, metric: str, why: str = "") -> Entry:
    """Return the entry of a score."""
    return show_number(value, lambda score: format_score(score, metric), why)


def show_interval(
    value: Any, low: Any, high: Any, metric: str, *, signed: bool = False, is_best: bool = False
) -> Entry:
    """Return the entry of `value (low to high)`."""
    if not is_number(value):
        return Entry(NONE, None, "not measured")
    text = format_gap(value, metric) if signed else format_score(value, metric)
    interval = format_range(low, high, metric, signed=signed)
    text += "" if interval == NONE else f" ({interval})"
    return Entry(text, float(value), is_best=is_best)


def show_bar(low: Any, value: Any, high: Any) -> Entry:
    """Return the entry of a forest bar; empty where a number is missing."""
    numbers = (low, value, high)
    if not all(map(is_number, numbers)):
        return Entry("")
    first, point, last = (round(float(number), 5) for number in numbers)
    return Entry("", point, bar=(first, point, last))


def show_verdict(value: Any) -> Entry:
    """Return the entry of a verdict or a state, shown as a badge."""
    text = format_value(value)
    return Entry(text, None if text == NONE else text, tone=find_tone(text))


# ---- tables of `tlcnn compare` ------------------------------------------------------------------


def show_table(table: Table) -> TextTable:
    """Return a table of numbers as texts: scores as fractions with their intervals."""
    frame = table.frame
    columns = []
    for name in table.columns:
        is_plain_number = pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype != bool
        kind = "number" if name in table.scored else "count" if is_plain_number else "text"
        columns.append(Column(make_visible(name), kind))
    rows = [
        tuple(
            _show_scored(table, record, name, is_best=(i, name) in table.best)
            if name in table.scored
            else _show_plain(name, record[name])
            for name in table.columns
        )
        for i, record in enumerate(frame.to_dict("records"))
    ]
    return TextTable(tuple(columns), tuple(rows), notes=table.notes, best=BEST)


def _show_scored(table: Table, record: Any, name: str, *, is_best: bool) -> Entry:
    value = record[name]
    text = format_estimate(
        value,
        **{part: record.get(f"{name} {part}") for part in ("low", "high", "sd", "n")},
        digits=3 if f"{name} low" in record else 4,
        signed=name in table.differences,
    )
    return Entry(text, float(value) if is_number(value) else None, is_best=is_best)


def _show_plain(name: str, value: Any) -> Entry:
    forms = {"p": format_p, "train_s": format_seconds}  # by the first word of a column's name
    form = forms.get(name.split(" ")[0])
    return show_number(value, form) if form and is_number(value) else show_value(value)
