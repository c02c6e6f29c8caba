"""Which runs make a row: those of one cell, of one cell over its folds, or what is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tlcnn.analysis.cells import merge_folds
from tlcnn.records.settings import (
    CELL,
    check_columns,
    list_values,
    spread_settings,
)
from tlcnn.report.tables import list_imported, sort_rows


@dataclass(frozen=True)
class Row:
    """The finished runs of one row.

    Attributes:
        key: column -> value.
        cells: runs by cell; of a row over folds, by fold.
        is_folded: the cells are folds of one cell.
    """

    key: dict[str, Any]
    cells: tuple[pd.DataFrame, ...]
    is_folded: bool = False

    @property
    def runs(self) -> pd.DataFrame:
        """All its runs."""
        return pd.concat(self.cells) if len(self.cells) > 1 else self.cells[0]


@dataclass(frozen=True)
class Rows:
    """The rows of a table, in order.

    Attributes:
        columns: those of the keys that a table shows.
    """

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


def make_rows(runs: pd.DataFrame, group: Sequence[str] = ()) -> Rows:
    """Return what makes a row: without `group` runs that differ in the seed (and fold) alone.

    Args:
        runs: what `read_runs` returned; only finished ones count.
        group: columns or settings whose values make a row, whatever else differs.

    Raises:
        ConfigError: a column that no run has.
    """
    done = merge_folds(runs[runs["state"] == "done"])
    if group:
        done = check_columns(done, group, "--group")
        keys, notes = list(dict.fromkeys(group)), _describe_averaged(done, group)
    else:
        done, varying = spread_settings(done)
        keys, notes = [*CELL, *varying, *list_imported(done), "cell_id"], []
    rows = _order([_make_row(part, keys) for part in _split(done, keys)], keys)
    shown = keys if group else _drop_cell_id(rows, keys)
    folded = sum(row.is_folded for row in rows)
    if folded:
        notes.append(
            f"{folded} of {len(rows)} rows are means over folds; their intervals are corrected "
            "for the training images that folds share (Nadeau and Bengio 2003)"
        )
    return Rows(tuple(rows), tuple(shown), tuple(notes))


def _split(done: pd.DataFrame, keys: Sequence[str]) -> list[pd.DataFrame]:
    """Return runs by the values of columns; missing ones are equal."""
    if done.empty:
        return []
    texts = list(zip(*(done[key].map(_name_value) for key in keys), strict=True))
    places: dict[tuple[str, ...], list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, []).append(place)
    return [done.iloc[found] for found in places.values()]


def _name_value(value: Any) -> str:
    if isinstance(value, (bool, str)):
        return repr(value)
    return "" if pd.isna(value) else repr(float(value))


def _make_row(part: pd.DataFrame, keys: Sequence[str]) -> Row:
    part = part.sort_values("seed", kind="stable")
    by_fold = part["cell_id"].map(str) + "/" + part["fold"].map(str)
    cells = tuple(cell for _, cell in part.groupby(by_fold, sort=True))
    is_folded = part["cell_id"].nunique() == 1 and part["fold"].notna().all()
    key = {name: part[name].iloc[0] for name in keys}
    return Row(key, cells, bool(is_folded) and len(cells) > 1)


def _order(rows: list[Row], keys: Sequence[str]) -> list[Row]:
    """Return rows sorted by their keys."""
    if not rows:
        return []
    frame = pd.DataFrame([row.key for row in rows]).assign(position=range(len(rows)))
    return [rows[i] for i in sort_rows(frame, keys)["position"]]


def _drop_cell_id(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """Return the columns without `cell_id` where the others tell all rows apart."""
    others = [key for key in keys if key != "cell_id"]
    names = [tuple(_name_value(row.key[key]) for key in others) for row in rows]
    return others if len(set(names)) == len(names) else list(keys)


def _describe_averaged(done: pd.DataFrame, group: Sequence[str]) -> list[str]:
    """Return a line on what differs between runs that are averaged."""
    differ: dict[str, pd.Series] = {}
    spread, varying = spread_settings(done)
    columns = [c for c in (*CELL, *varying) if c not in group]
    for part in _split(spread, list(group)):
        for column in columns:
            if part[column].map(_name_value).nunique() > 1:
                differ[column] = spread[column]
        if not differ and part["cell_id"].nunique() > 1:
            differ["cell_id"] = spread["cell_id"]
    if not differ:
        return []
    words = [f"{column} ({list_values(values, 6)})" for column, values in differ.items()]
    return [f"averaged over different {'; '.join(words)}"]
