"""Tables as texts: for the terminal, Markdown and CSV; what comes from data stays inert."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from tlcnn.report.tables import Table
from tlcnn.text import align_columns, make_visible

BEST = "*: the best of its dataset by this metric; choose a cell by a val/ metric"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


# ---- numbers as texts ---------------------------------------------------------------------------


def format_table(
    table: Table,
    mark: Callable[[str], str],
    escape: Callable[[str], str],
    write_score: Callable[[str], str] = str,
) -> list[list[str]]:
    """Return the cells as texts, the header first.

    Args:
        mark: makes a cell the best.
        escape: makes a text inert.
        write_score: turns our own `0.5 [0.4, 0.6]` into the format's signs.
    """
    columns = table.columns
    texts = [[escape(make_visible(column)) for column in columns]]
    for position, record in enumerate(table.frame.to_dict("records")):
        row = [
            write_score(_format_score(table, column, record))
            if column in table.scored
            else escape(make_visible(format_value(column, record[column])))
            for column in columns
        ]
        is_best = [(position, column) in table.best for column in columns]
        texts.append([mark(t) if best else t for t, best in zip(row, is_best, strict=True)])
    return texts


def _format_score(table: Table, column: str, record: dict[Any, Any]) -> str:
    value = record[column]
    if value is None or pd.isna(value):
        return "-"
    sign = "+" if column in table.differences else ""
    low, high, deviation = (record.get(f"{column} {part}") for part in ("low", "high", "sd"))
    n = record.get(f"{column} n")
    if deviation is not None and not pd.isna(deviation):
        text = f"{value:{sign}.4f} ± {deviation:.4f}"
    elif low is not None and not pd.isna(low):
        text = f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
    else:
        text = f"{value:{sign}.{3 if f'{column} low' in record else 4}f}"
    return text if n is None or pd.isna(n) else f"{text} ({int(n)})"


def format_value(column: str, value: Any) -> str:
    """Return a plain value as a text: few digits, no NaN."""
    if value is None or (not isinstance(value, (list, dict)) and pd.isna(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column.startswith("p ") and isinstance(value, float):
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if column == "train_s":
        return f"{value:.1f}"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:g}"
    return str(value)


def find_numeric(table: Table) -> list[int]:
    """Return the positions of the shown columns that are flush right."""
    frame = table.frame
    return [
        i
        for i, column in enumerate(table.columns)
        if column in table.scored
        or (pd.api.types.is_numeric_dtype(frame[column]) and frame[column].dtype != bool)
    ]


# ---- terminal -----------------------------------------------------------------------------------


def render_text(table: Table, width: int | None = None) -> str:
    """Return a table for the terminal: text left, numbers right, without a box, then its notes.

    Args:
        width: of the terminal. Columns that are the same everywhere are said once, above, where
            the table is wider.
    """
    if not len(table.frame):
        return "\n".join(["no finished runs", *table.notes])
    lines = _align(table)
    if width is not None and max(map(len, lines)) > width:
        shorter, said = _take_constant(table)
        lines = [*said, *_align(shorter)]
    notes = [*([BEST] if table.best else []), *table.notes]
    return "\n".join([*lines, *([""] if notes else []), *map(make_visible, notes)])


def _align(table: Table) -> list[str]:
    texts = format_table(table, lambda text: f"{text}*", str)
    right = find_numeric(table)
    scored = [i for i, column in enumerate(table.columns) if column in table.scored]
    starred = {i for i in scored if any(row[i].endswith("*") for row in texts[1:])}
    for row in texts:  # a space where others have a star, so that digits stand below each other
        for i in starred:
            row[i] = row[i] if row[i].endswith("*") else f"{row[i]} "
    return align_columns(texts, right)


def _take_constant(table: Table) -> tuple[Table, list[str]]:
    """Return the table without the plain columns that are the same everywhere, and a line."""
    if len(table.frame) < 2:
        return table, []
    plain = [c for c in table.columns if c not in table.scored]
    same = [c for c in plain if table.frame[c].map(lambda v: str(v)).nunique() == 1]
    if not same:
        return table, []
    values = table.frame.iloc[0]
    said = [f"{c} {make_visible(format_value(c, values[c]))}" for c in same]
    kept = table.frame.drop(columns=same)
    shorter = Table(kept, table.scored, table.differences, table.best, table.notes)
    return shorter, [f"everywhere: {', '.join(said)}"]


# ---- Markdown and CSV ---------------------------------------------------------------------------


def render_markdown(table: Table) -> str:
    """Return a table in Markdown, the best in bold; nothing in the data can break or mark it."""
    header, *rows = format_table(table, lambda text: f"**{text}**", escape_markdown)
    right = find_numeric(table)
    rule = "|".join("---:" if i in right else "---" for i in range(len(header)))
    lines = [_join(header), f"|{rule}|", *map(_join, rows)]
    notes = [escape_markdown(make_visible(note)) for note in table.notes]
    return "\n".join([*lines, *(f"\n{note}" for note in notes)]) + "\n"


def _join(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def escape_markdown(text: str) -> str:
    """Return a text without markup: no HTML, no cell borders, no emphasis, links or formulas.

    Addresses and mentions are parted, as GitHub links them without any markup.

    Example:
        >>> escape_markdown("a|b <i> *c* d_e _f_")
        'a\\\\|b &lt;i&gt; \\\\*c\\\\* d_e \\\\_f\\\\_'
        >>> print(escape_markdown("www.example.org a@example.org"))
        www\\.example.org a&#64;&#8203;example.org
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\|`*\[\]$~#])", r"\\\1", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    text = re.sub(r"(www)\.", r"\1\\.", text, flags=re.IGNORECASE)
    return text.replace("://", ":&#8203;//").replace("@", "&#64;&#8203;")


def render_csv(table: Table) -> str:
    """Return a table as CSV, in full precision; no cell can start a spreadsheet formula.

    Scored columns come with `<column> low` and `<column> high` beside them.
    """
    safe = table.frame.copy()
    for column in safe.columns[[not pd.api.types.is_numeric_dtype(t) for t in safe.dtypes]]:
        safe[column] = [_defuse(value) for value in safe[column]]
    safe.columns = pd.Index([_defuse(column) for column in safe.columns])
    return safe.to_csv(index=False)


def _defuse(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = make_visible(value)
    return f"'{text}" if value.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text
