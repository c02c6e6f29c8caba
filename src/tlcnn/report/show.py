"""Values as entries of a table."""

from collections.abc import Callable, Sequence
from typing import Any

from tlcnn.report.numbers import (
    NONE,
    format_gap,
    format_range,
    format_score,
    format_value,
    is_number,
)
from tlcnn.report.table import Column, Entry

_TONES = {
    **dict.fromkeys(("yes", "better", "general"), "for"),
    **dict.fromkeys(("no", "worse", "specific", "failed", "unreadable"), "against"),
    **dict.fromkeys(("inconclusive", "undetermined", "running", "stopped", "partly"), "open"),
    **dict.fromkeys(("equivalent", "as good"), "same"),
    "done": "calm",
    **dict.fromkeys(("no verdict", "not measured", "missing", ""), "open"),
}


def find_tone(verdict: Any) -> str:
    """Return the look of a verdict: for, against, same, calm, open, or said."""
    return _TONES.get(str(verdict).strip().lower(), "said")


def show_value(value: Any, below: str = "") -> Entry:
    """Return the entry of a value of any type."""
    return Entry(format_value(value), value, below=below)


def show_number(value: Any, form: Callable[[Any], str] = format_value, why: str = "") -> Entry:
    """Return the entry of a number.

    Args:
        why: why there may be no number.
    """
    if is_number(value):
        return Entry(form(value), value)
    is_infinite = isinstance(value, float) and value in (float("inf"), float("-inf"))
    return Entry(NONE, value, why="no possible one is" if is_infinite else why)


def show_score(value: Any, metric: str, why: str = "") -> Entry:
    """Return the entry of a score."""
    return show_number(value, lambda score: format_score(score, metric), why)


def show_interval(
    value: Any,
    low: Any,
    high: Any,
    metric: str,
    *,
    signed: bool = False,
    is_best: bool = False,
    more: int = 0,
) -> Entry:
    """Return the entry of `value (low to high)`, with so many more digits."""
    if not is_number(value):
        return Entry(NONE, value, why="not measured")
    text = (format_gap if signed else format_score)(value, metric, more)
    interval = format_range(low, high, metric, signed=signed, more=more)
    lines = (text,) if interval == NONE else (text, interval)
    text += "" if interval == NONE else f" ({interval})"
    return Entry(text, value, lines=lines, is_best=is_best)


def show_bar(low: Any, value: Any, high: Any) -> Entry:
    """Return the entry of a forest bar; empty where a number is missing."""
    if not all(map(is_number, (low, value, high))):
        return Entry("")
    first, point, last = (round(float(number), 5) for number in (low, value, high))
    return Entry("", point, bar=(first, point, last))


def show_verdict(value: Any) -> Entry:
    """Return the entry of a verdict or a state, shown as a badge."""
    text = format_value(value)
    return Entry(text, value, tone=find_tone(text))


def show_column(
    name: str, values: Sequence[Any], form: Callable[[Any], str] = format_value, **more: Any
) -> tuple[Column, list[Entry]]:
    """Return a column of values, flush right where all are numbers, and its entries.

    Args:
        form: how a number becomes text.
        more: further fields of the column.
    """
    texts = [value for value in values if not is_number(value) and format_value(value) != NONE]
    kind = "count" if not texts and any(map(is_number, values)) else "text"
    entries = [show_number(v, form) if is_number(v) else show_value(v) for v in values]
    return Column(name, kind, **more), entries
