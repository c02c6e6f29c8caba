"""The table that every format writes: entries with their text and their value."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from tlcnn.report.forest import Scale
from tlcnn.report.numbers import NONE, is_number
from tlcnn.text import make_visible

_MAX_CHOICES = 14


@dataclass(frozen=True)
class Entry:
    """One entry of a table. Control characters of its texts are made visible here.

    Attributes:
        value: the value in full precision; None or NaN for none.
        parts: further numbers by name (`low`, `high`, `sd`, `n`): columns of their own in CSV.
        why: the text shown on hover, e.g. why there is no number.
        tone: the look of a verdict.
        bar: low end, point and high end of a forest bar, in units of the metric.
        below: a second line in small letters.
        lines: the parts of the text: a value and its interval, one below the other where print is
            narrow, or several notes.
        is_best: printed bold, or with a star where there is no bold.
    """

    text: str
    value: Any = None
    parts: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    tone: str = ""
    bar: tuple[float, float, float] | None = None
    below: str = ""
    lines: tuple[str, ...] = ()
    is_best: bool = False

    def __post_init__(self) -> None:
        for name in ("text", "why", "below"):
            object.__setattr__(self, name, make_visible(getattr(self, name)))

    @property
    def sort_key(self) -> float | str | None:
        """What the page sorts by: a number or a text; None, which comes last, for no value."""
        if is_number(self.value):
            return float(self.value)
        return None if self.text in ("", NONE) else self.text

    def pack(self) -> list[Any]:
        """Return the entry as short JSON, in the order that the page's script reads."""
        return [self.text, self.sort_key, self.why, self.tone, self.bar, self.below]


@dataclass(frozen=True)
class Column:
    """A table column.

    Attributes:
        kind: text, number, count, verdict, bar or code.
        hint: the text shown on hover.
        choices: texts to filter by, where there are few.
        aside: whether the column is left out in print.
        role: `key` for what tells rows apart, `score` for a metric.
    """

    name: str
    kind: str = "text"
    hint: str = ""
    choices: tuple[str, ...] = ()
    aside: bool = False
    role: Literal["", "key", "score"] = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", make_visible(self.name))

    @property
    def is_right(self) -> bool:
        """Whether the column is flush right."""
        return self.kind in ("number", "count")


@dataclass(frozen=True)
class Table:
    """A table of entries, which every format writes.

    Attributes:
        rows: the entries, one a column.
        key: the table's id in a page.
        opens: what a click on each row's first entry opens (`cell:KEY`, `run:NUMBER` or "").
        everywhere: (column, text) of the columns that say the same in every row.
        scale: the scale of its forest bars.
        nouns: what one row and several rows are called.
        families: texts that the column `family` refers to by letter, from A.
        footnotes: texts that the column `note` refers to by number, from 1.
        notes: sentences below the table.
        best: what it means that an entry is the best.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    key: str = ""
    title: str = ""
    opens: tuple[str, ...] = ()
    everywhere: tuple[tuple[str, str], ...] = ()
    scale: Scale | None = None
    nouns: tuple[str, str] = ("row", "rows")
    families: tuple[str, ...] = ()
    footnotes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    best: str = ""

    @property
    def frame(self) -> pd.DataFrame:
        """The values in full precision; parts stand beside them as `<column> <part>`."""
        values: dict[str, list[Any]] = {}
        for i, column in enumerate(self.columns):
            entries = [row[i] for row in self.rows]
            values[column.name] = [entry.value for entry in entries]
            for part in dict.fromkeys(part for entry in entries for part in entry.parts):
                values[f"{column.name} {part}"] = [entry.parts.get(part) for entry in entries]
        return pd.DataFrame(values)

    @property
    def filters(self) -> list[tuple[int, Column]]:
        """The columns to filter by, with their positions; text before verdicts and counts."""
        order = {"text": 0, "verdict": 1, "count": 2}
        columns = [(i, column) for i, column in enumerate(self.columns) if column.choices]
        return sorted(columns, key=lambda item: order[item[1].kind])

    def list_columns(self, role: str) -> list[str]:
        """Return the names of the columns of a role."""
        return [column.name for column in self.columns if column.role == role]

    def describe_everywhere(self) -> str:
        """Return a line on the columns that say the same in every row; empty without any."""
        pairs = ", ".join(f"{name} {text}" for name, text in self.everywhere if name != "note")
        notes = [f"Every row: {text}." for name, text in self.everywhere if name == "note"]
        return " ".join([*([f"The same in every row: {pairs}."] if pairs else []), *notes])

    def select(self, positions: Sequence[int]) -> "Table":
        """Return the table with some of its columns."""
        return replace(
            self,
            columns=tuple(self.columns[i] for i in positions),
            rows=tuple(tuple(row[i] for i in positions) for row in self.rows),
        )

    def drop_bars(self) -> "Table":
        """Return the table without forest bars, which only a page can draw."""
        return self.select([i for i, column in enumerate(self.columns) if column.kind != "bar"])


def fill_table(
    records: Sequence[Mapping[Any, Any]],
    describe: Callable[[Mapping[Any, Any]], Mapping[Column, Entry]],
    open_row: Callable[[Mapping[Any, Any]], str] = lambda record: "",
    **more: Any,
) -> Table:
    """Return the table of some records.

    Families are lettered and notes are numbered. What says the same in every row goes into
    `everywhere`, and columns of few texts get them as choices.

    Args:
        records: one a row.
        describe: the columns and entries of a record, the same columns for all.
        open_row: what a click on a record's first entry opens.
        more: further fields of the table.
    """
    described = [describe(record) for record in records]
    columns = tuple(described[0]) if described else ()
    table = Table(
        columns,
        tuple(tuple(row.values()) for row in described),
        opens=tuple(map(open_row, records)),
        **more,
    )
    table = _number_notes(move_constants(table, skip_first=True))
    texts = list(zip(*([entry.text for entry in row] for row in table.rows), strict=True))
    pairs = zip(table.columns, texts, strict=True) if texts else ()
    return replace(table, columns=tuple(_add_choices(*pair) for pair in pairs))


def move_constants(table: Table, *, skip_first: bool = False) -> Table:
    """Return the table with the columns that say the same in every row moved to `everywhere`.

    Only text and counts are moved; columns that are empty in every row are dropped.

    Args:
        skip_first: the first column names the row and stays.
    """
    shown, everywhere = [], []
    for i, column in enumerate(table.columns):
        texts = {row[i].text for row in table.rows}
        is_plain = column.kind in ("text", "count") and not (skip_first and i == 0)
        if not is_plain or (len(texts) > 1 or len(table.rows) == 1) and texts != {NONE}:
            shown.append(i)
        elif texts and texts != {NONE}:
            everywhere.append((column.name, texts.pop()))
    return replace(table.select(shown), everywhere=tuple(everywhere))


def _number_notes(table: Table) -> Table:
    """Return the table with letters in the column `family`, numbers in `note`, and their texts.

    A note is often the same in many rows, and longer than a column is wide. One that stands in
    every row goes into `everywhere`.
    """
    marked: dict[str, Callable[[int], str]] = {"family": name_letter, "note": str}
    positions = {c.name: i for i, c in enumerate(table.columns) if c.name in marked}
    texts: dict[str, tuple[str, ...]] = {"family": (), "note": ()}
    rows = [list(row) for row in table.rows]
    everywhere = list(table.everywhere)
    for name, i in positions.items():
        parts = [[t for t in row[i].lines or (row[i].text,) if t != NONE] for row in rows]
        shared = [text for text in parts[0] if all(text in part for part in parts)]
        shared = shared if len(rows) > 1 else []
        everywhere += [(name, text) for text in shared]
        parts = [[text for text in part if text not in shared] for part in parts]
        texts[name] = tuple(dict.fromkeys(text for part in parts for text in part))
        numbers = {text: n for n, text in enumerate(texts[name], start=1)}
        for row, part in zip(rows, parts, strict=True):
            marks = ", ".join(marked[name](numbers[text]) for text in part)
            row[i] = Entry(marks or NONE, marks or None, why="; ".join(part))
    table = replace(table, rows=tuple(map(tuple, rows)), everywhere=tuple(everywhere))
    empty = [i for name, i in positions.items() if not texts[name]]
    table = table.select([i for i in range(len(table.columns)) if i not in empty])
    return replace(table, families=texts["family"], footnotes=texts["note"])


def name_letter(number: int) -> str:
    """Return the letter of a number from 1 on.

    Example:
        >>> [name_letter(n) for n in (1, 26, 27, 53)]
        ['A', 'Z', 'AA', 'BA']
    """
    before, last = divmod(number - 1, 26)
    return (name_letter(before) if before else "") + chr(ord("A") + last)


def _add_choices(column: Column, texts: Sequence[str]) -> Column:
    """Return a column with the texts to filter by, where they are few and some repeat."""
    choices = sorted(set(texts) - {NONE}, key=lambda text: (len(text), text))
    is_useful = 1 < len(choices) <= _MAX_CHOICES and len(choices) < len(texts)
    if column.name == "note" or column.kind not in ("text", "count", "verdict") or not is_useful:
        return column
    return replace(column, choices=tuple(choices))
