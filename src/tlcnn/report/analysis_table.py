"""The tables that `tlcnn analyse` prints.

make_analysis_table     runs and units as rows, measures as columns
write_analysis_summary  for each run, measures as rows: narrow, however many measures there are
"""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from tlcnn.records.settings import CELL
from tlcnn.report.numbers import NONE, format_estimate, format_value
from tlcnn.report.show import show_column
from tlcnn.report.table import Column, Entry, Table
from tlcnn.report.tables import join_columns, make_sort_key
from tlcnn.text import align_columns

_PARTS = ("low", "high", "null", "ceiling")


def make_analysis_table(readings: pd.DataFrame) -> Table:
    """Return a row for each run and unit, and a column for each measure and variant.

    The columns that tell runs apart are left out where there is one run. Notes stand below.

    Args:
        readings: what `read_measures` returned.
    """
    readings = readings.rename(columns={"source": "init"})
    is_one = readings["run_id"].nunique() == 1
    names = [*([] if is_one else [*CELL, "seed", "against"]), "n", "unit"]
    readings = readings.assign(column=readings["measure"] + " " + readings["variant"])
    rows = {key: rows for key, rows in readings.groupby(["run_id", "against", "n"], sort=False)}
    firsts = {key: rows.iloc[0].to_dict() for key, rows in rows.items()}
    order = sorted(rows, key=lambda key: [make_sort_key(firsts[key][name]) for name in names])
    columns = [
        show_column(name, [firsts[key][name] for key in order], format_value, role="key")
        for name in names
    ]
    by_column = {key: {r["column"]: r for r in rows[key].to_dict("records")} for key in order}
    for name in dict.fromkeys(readings["column"]):
        entries = [_show_reading(by_column[key].get(name, {})) for key in order]
        columns.append((Column(name, "number"), entries))
    return join_columns(columns, list(_list_notes(readings[readings["note"] != ""])))


def write_analysis_summary(readings: pd.DataFrame, names: Mapping[str, str], width: int) -> str:
    """Return for each run and measure the first and last unit's value, and both extremes.

    Args:
        readings: what `read_measures` returned.
        names: what the run of each analysis is called, by the analysis's id.
        width: the columns of the terminal. Where names of units make a table wider, it has their
            numbers instead.
    """
    heads = ("measure", "first unit", "last unit", "lowest", "highest")
    blocks = []
    for analysis, rows in readings.groupby("analysis", sort=False):
        row = rows.iloc[0]
        against = f"against {row['against']}, " if row["against"] else ""
        units = rows.sort_values("n")["unit"].unique()
        title = f"{names[str(analysis)]}\n{against}units {units[0]} to {units[-1]}"
        named = rows.assign(column=rows["measure"] + " " + rows["variant"])
        parts = [(str(name), part) for name, part in named.groupby("column", sort=False)]
        for key in ("unit", "n"):
            shown = [_summarise(name, part, key) for name, part in parts]
            lines = align_columns([heads, *shown], right=(1, 2))
            if max(map(len, lines)) <= width:
                break
        blocks.append("\n".join([title, *lines]))
    noted = readings.assign(column=readings["measure"] + " " + readings["variant"])
    notes = _list_notes(noted[noted["note"] != ""])
    wrapped = "\n".join(textwrap.fill(note, width, subsequent_indent="  ") for note in notes)
    return "\n\n".join([*blocks, *filter(None, [wrapped])])


def _summarise(name: str, rows: pd.DataFrame, key: str) -> tuple[str, ...]:
    rows = rows.sort_values("n")
    values, units = rows["value"], rows[key]
    ends = [format_estimate(values.iloc[i]) for i in (0, -1)]
    if values.isna().all():
        return (name, *ends, NONE, NONE)
    prefix = "unit " if key == "n" else ""
    extremes = (values.argmin(), values.argmax())
    shown = [f"{format_estimate(values.iloc[i])} ({prefix}{units.iloc[i]})" for i in extremes]
    return (name, *ends, *shown)


def _list_notes(readings: pd.DataFrame) -> Iterator[str]:
    """Yield each note once, after the names of the measures or of the columns that have it."""
    n_columns = readings.groupby("measure")["column"].nunique()
    for note, rows in readings.groupby("note", sort=False):
        names: list[str] = []
        for measure, part in rows.groupby("measure", sort=False):
            columns = part["column"].unique().tolist()
            names += [str(measure)] if len(columns) == n_columns[measure] > 1 else columns
        yield f"{', '.join(names)}: {note}"


def _show_reading(reading: Mapping[Any, Any]) -> Entry:
    value, note = reading.get("value"), str(reading.get("note", ""))
    text = format_estimate(value, low=reading.get("low"), high=reading.get("high"))
    return Entry(text, value, {part: reading.get(part) for part in _PARTS}, why=note)
