"""What a table of a page is made of: what each cell says, sorts by and opens. No HTML here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from tlcnn.report.page_words import (
    NONE,
    find_tone,
    format_gap,
    format_range,
    format_score,
    format_value,
    is_number,
)


@dataclass(frozen=True)
class Cell:
    """What a table cell says.

    Attributes:
        value: what it sorts by; None sorts last.
        why: shown on hover, e.g. why there is no number.
        tone: of a verdict.
        bar: low, point and high of a forest bar, in units of the metric.
        below: said in small letters below the text.
    """

    text: str
    value: float | str | None = None
    why: str = ""
    tone: str = ""
    bar: tuple[float, float, float] | None = None
    below: str = ""

    def pack(self) -> list[Any]:
        """Return it as short JSON."""
        return [self.text, self.value, self.why, self.tone, self.bar, self.below]


@dataclass(frozen=True)
class Column:
    """A table column.

    Attributes:
        kind: text, number, count, verdict, bar or code.
        choices: texts to filter by, where there are few.
        aside: not worth its width in print.
    """

    name: str
    kind: str = "text"
    hint: str = ""
    choices: tuple[str, ...] = ()
    aside: bool = False


@dataclass(frozen=True)
class Row:
    """Cells, and what a click on the first opens: `cell:KEY`, `run:NUMBER` or nothing."""

    cells: tuple[Cell, ...]
    opens: str = ""


@dataclass(frozen=True)
class Table:
    """Columns, rows, what is the same in all rows, the scale of its bars, numbered notes."""

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    everywhere: tuple[tuple[str, str], ...] = ()
    scale: tuple[float, float, float] | None = None
    noun: tuple[str, str] = ("row", "rows")
    notes: tuple[str, ...] = ()

    @property
    def filters(self) -> list[tuple[int, Column]]:
        """Columns to filter by, with their places; those of words before those of numbers."""
        found = [(at, column) for at, column in enumerate(self.columns) if column.choices]
        order = {"text": 0, "verdict": 1, "count": 2}
        return sorted(found, key=lambda item: order[item[1].kind])

    def flatten(self) -> tuple[list[str], list[list[str]], set[int]]:
        """Return heads, rows of texts, and which columns are flush right; without bars."""
        kept = [at for at, column in enumerate(self.columns) if column.kind != "bar"]
        rows = [[row.cells[at].text for at in kept] for row in self.rows]
        kinds = [self.columns[at].kind for at in kept]
        right = {at for at, kind in enumerate(kinds) if kind in ("number", "count")}
        return [self.columns[at].name for at in kept], rows, right


Make = Callable[[Mapping[str, Any]], Cell]
_MAX_CHOICES = 14


def make_text(key: str, why: str = "") -> Make:
    """Return a maker of cells that show a value as it is."""

    def make(row: Mapping[str, Any]) -> Cell:
        value = row.get(key)
        text = format_value(value)
        sort = None if text == NONE else float(value) if is_number(value) else text  # type: ignore[arg-type]
        return Cell(text, sort, why if text == NONE else "")

    return make


def make_title(make: Make, key: str, records: Sequence[Mapping[str, Any]]) -> Make:
    """Return a maker that says below the text what another column says, where that differs."""
    if len({format_value(record.get(key)) for record in records}) < 2:
        return make
    return lambda row: replace(make(row), below=format_value(row.get(key)))


def make_number(key: str, form: Callable[[Any], str], why: str = "") -> Make:
    """Return a maker of cells that show a number in a form."""

    def make(row: Mapping[str, Any]) -> Cell:
        value = row.get(key)
        if not is_number(value):
            return Cell(NONE, None, _explain_none(value, why))
        return Cell(form(value), float(value))  # type: ignore[arg-type]

    return make


def _explain_none(value: Any, why: str) -> str:
    infinite = isinstance(value, float) and value in (float("inf"), float("-inf"))
    return "infinite: no number would do" if infinite else why


def make_verdict(key: str) -> Make:
    """Return a maker of verdict badges."""

    def make(row: Mapping[str, Any]) -> Cell:
        text = format_value(row.get(key))
        return Cell(text, None if text == NONE else text, tone=find_tone(text))

    return make


def make_interval(key: str, low: str, high: str, metric: str, *, signed: bool = False) -> Make:
    """Return a maker of `value (low to high)`."""
    form = format_gap if signed and metric != "gamma" else format_score

    def make(row: Mapping[str, Any]) -> Cell:
        value = row.get(key)
        if not is_number(value):
            return Cell(NONE, None, "not measured")
        between = format_range(row.get(low), row.get(high), metric, signed=signed)
        text = form(value, metric) + (f" ({between})" if between != NONE else "")
        return Cell(text, float(value))  # type: ignore[arg-type]

    return make


def make_bar(key: str, low: str, high: str) -> Make:
    """Return a maker of forest bars."""

    def make(row: Mapping[str, Any]) -> Cell:
        numbers = [row.get(name) for name in (low, key, high)]
        if not all(is_number(number) for number in numbers):
            return Cell("", None)
        a, b, c = (round(float(number), 5) for number in numbers)  # type: ignore[arg-type]
        return Cell("", b, bar=(a, b, c))

    return make


def fill_table(
    key: str,
    title: str,
    records: Sequence[Mapping[str, Any]],
    plan: Iterable[tuple[Column, Make]],
    opens: Callable[[Mapping[str, Any]], str] = lambda row: "",
    **more: Any,
) -> Table:
    """Make a table of records; columns that say the same in every row go into its caption."""
    columns, makers = zip(*plan, strict=True)
    cells = [[make(record) for make in makers] for record in records]
    notes = _number_notes(columns, cells)
    kept, everywhere = _choose_columns(columns, cells)
    rows = tuple(
        Row(tuple(row[i] for i in kept), opens(record))
        for row, record in zip(cells, records, strict=True)
    )
    shown = tuple(_with_choices(columns[i], [row[i].text for row in cells]) for i in kept)
    return Table(key, title, shown, rows, everywhere, notes=notes, **more)


def _choose_columns(
    columns: Sequence[Column], cells: Sequence[Sequence[Cell]]
) -> tuple[list[int], tuple[tuple[str, str], ...]]:
    """Return the columns to show, and (name, text) of those that say the same in every row."""
    kept, everywhere = [], []
    for i, column in enumerate(columns):
        texts = {row[i].text for row in cells}
        plain = bool(i) and column.kind in ("text", "count")
        if plain and texts == {NONE}:
            continue
        if plain and len(texts) == 1 and len(cells) > 1:
            everywhere.append((column.name, texts.pop()))
        else:
            kept.append(i)
    return kept, tuple(everywhere)


def _number_notes(columns: Sequence[Column], cells: list[list[Cell]]) -> tuple[str, ...]:
    """Put numbers for the notes into their column, and return the notes in that order.

    A note is often the same in many rows, and longer than a column is wide.
    """
    at = next((i for i, column in enumerate(columns) if column.name == "note"), None)
    if at is None:
        return ()
    notes = list(dict.fromkeys(row[at].text for row in cells if row[at].text != NONE))
    for row in cells:
        if row[at].text != NONE:
            number = notes.index(row[at].text) + 1
            row[at] = Cell(f"{number}", float(number), row[at].text)
    return tuple(notes)


def _with_choices(column: Column, texts: Sequence[str]) -> Column:
    distinct = sorted(set(texts) - {NONE}, key=lambda text: (len(text), text))
    few = (
        column.name != "note"
        and column.kind in ("text", "count", "verdict")
        and 1 < len(distinct) <= _MAX_CHOICES
    )
    repeated = len(distinct) < len(texts)
    choices = tuple(distinct) if few and repeated else ()
    return replace(column, choices=choices)


def make_scale(
    frame: pd.DataFrame, low: str, value: str, high: str, margin: float
) -> tuple[float, float, float]:
    """Return low end, high end and margin of forest bars.

    Zero, the margin and every point are inside. An interval may be far wider than the others
    (two seeds give such): it then ends in an arrow rather than make all others invisible.
    """
    known = frame.reindex(columns=[low, value, high]).apply(pd.to_numeric, errors="coerce")
    known = known[known.map(is_number).all(axis=1)]
    width = margin if is_number(margin) else 0.0
    points = [*known[value], -width, width, 0.0]
    usual = 2.5 * float((known[high] - known[low]).median()) if len(known) else 0.0
    smallest = max(min([*known[low], *points]), min(points) - usual)
    largest = min(max([*known[high], *points]), max(points) + usual)
    pad = 0.04 * (largest - smallest) or 0.01
    return (smallest - pad, largest + pad, width)


def list_ticks(scale: tuple[float, float, float]) -> list[float]:
    """Return two to five round numbers inside the scale of a forest bar, zero among them.

    Example:
        >>> [round(100 * tick) for tick in list_ticks((-0.031, 0.112, 0.01))]
        [0, 5, 10]
    """
    low, high, _ = scale
    size = 10.0 ** math.floor(math.log10(high - low))
    steps = (size / 5, size / 2, size, 2 * size, 5 * size)  # a width is below 10 sizes
    step = next(s for s in steps if (high - low) / s <= 4)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
