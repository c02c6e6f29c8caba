"""The table of runs that `tlcnn compare` shows, and the order of its rows."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from tlcnn.records.settings import CELL, check_columns, spread_settings
from tlcnn.report.numbers import format_estimate, format_seconds, format_value, is_number
from tlcnn.report.show import show_column
from tlcnn.report.table import Column, Entry, Table
from tlcnn.statistics.metrics import is_lower_better

DEFAULT_METRICS = ("val/balanced_accuracy", "test/balanced_accuracy", "test/macro_auroc")
BEST = "the best of {} by this metric; to choose a cell, use a val/ metric"


def make_run_table(runs: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS) -> Table:
    """Return one row a run, whatever its state, sorted by cell and seed.

    Args:
        runs: what `read_runs` returned.
        metrics: metric columns; one that no run has is left empty.
    """
    runs, varying = spread_settings(runs)
    has_imported = "imported" in runs and runs["imported"].eq(True).any()
    names = [*CELL, *varying, *(["imported"] if has_imported else []), "seed"]
    runs, roles = _add_roles(runs)
    shown = [*names, *metrics, "epochs", "train_s", "state", *roles, "run_id"]
    records: list[dict[Any, Any]] = runs.reindex(columns=shown).to_dict("records")
    records.sort(key=lambda record: [make_sort_key(record[name]) for name in names])
    columns = []
    for name in shown:
        values = [record[name] for record in records]
        if name in metrics:
            entries = [Entry(format_estimate(value), value) for value in values]
            columns.append((Column(name, "number", role="score"), entries))
        else:
            form = format_seconds if name == "train_s" else format_value
            columns.append(show_column(name, values, form, role="key" if name in names else ""))
    return join_columns(columns)


def _add_roles(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return runs with a column that says which are trials and which are final runs of a search.

    The names of added columns come with them: none, where no run is of a search.
    """
    if not {"is_trial", "searched"} <= {*runs.columns}:
        return runs, []
    pairs = zip(runs["is_trial"], runs["searched"], strict=True)
    roles = ["trial" if is_trial else "final" if any(arms) else None for is_trial, arms in pairs]
    column = pd.Series(roles, runs.index, dtype=object)
    return runs.assign(search=column), ["search"] if any(roles) else []


def join_columns(
    columns: Sequence[tuple[Column, Sequence[Entry]]],
    notes: Sequence[str] = (),
    *,
    best_of: str = "its dataset",
) -> Table:
    """Return the table of some columns with their entries.

    Args:
        best_of: the rows among which an entry is marked as the best.
    """
    rows = tuple(zip(*(entries for _, entries in columns), strict=True))
    return Table(
        tuple(column for column, _ in columns), rows, notes=tuple(notes), best=BEST.format(best_of)
    )


def make_sort_key(value: Any) -> tuple[bool, float, str]:
    """Return what a value of any type sorts by: numbers, then texts, then what is missing."""
    if is_number(value):
        return False, float(value), ""
    is_missing = value is None or (pd.api.types.is_scalar(value) and pd.isna(value))
    return is_missing, math.inf, "" if is_missing else str(value)


def sort_table(table: Table, columns: Sequence[str]) -> Table:
    """Return a table sorted by columns, a metric's best first.

    Raises:
        ConfigError: a column that the table has not got.
    """
    check_columns(table.frame.assign(settings=None), columns, "--sort")
    values = table.frame
    for name in table.list_columns("score"):
        if not is_lower_better(name):
            values[name] = -pd.to_numeric(values[name])
    keys = [[make_sort_key(value) for value in row] for row in values[list(columns)].to_numpy()]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return replace(table, rows=tuple(table.rows[i] for i in order))
