"""Which runs make a row: those of one cell, of one cell over its folds, or what is asked for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tlcnn.records.settings import (
    CELL,
    check_columns,
    list_values,
    spread_settings,
)
from tlcnn.report.tables import list_imported, sort_rows
from tlcnn.study.cells import merge_folds


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
    done = merge_folds(runs[runs["state"] == "done"]).sort_values("seed", kind="stable")
    if group:
        done = check_columns(done, group, "--group")
        keys, notes = list(dict.fromkeys(group)), _describe_averaged(done, group)
        places, keyed = _split(done, keys), _list_keys(done, keys)
    else:
        done, varying = spread_settings(done)
        keys, notes = [*CELL, *varying, *list_imported(done), "cell_id"], []
        places = _split_cells(done, keys)
        keyed = _clear_mixed(_list_keys(done, keys), places, varying)
    rows = _order(_make_all(done, places, keyed), keys)
    shown = keys if group else _choose_shown(rows, keys, varying)
    folded = sum(row.is_folded for row in rows)
    if folded:
        notes.append(
            f"{folded} of {len(rows)} rows are means over folds; their intervals are corrected "
            "for the training images that folds share (Nadeau and Bengio 2003)"
        )
    return Rows(tuple(rows), tuple(shown), tuple(notes))


def _split(done: pd.DataFrame, keys: Sequence[str]) -> list[list[int]]:
    """Return the places of runs by the values of columns; missing ones are equal."""
    return _gather(zip(*(map(_name_value, done[key]) for key in keys), strict=True))


def _split_cells(done: pd.DataFrame, keys: Sequence[str]) -> list[list[int]]:
    """Return the places of runs by their cell.

    Settings that the seed decides (the parent of a chain, `init.self_seed`) do not part a cell;
    where a run names none, all that differs does.
    """
    own = [*(key for key in keys if key in CELL or key == "imported"), "cell_id"]
    whole = zip(*(map(_name_value, done[key]) for key in keys), strict=True)
    short = zip(*(map(_name_value, done[key]) for key in own), strict=True)
    return _gather(s if s[-1] else w for s, w in zip(short, whole, strict=True))


def _gather(names: Iterable[tuple[str, ...]]) -> list[list[int]]:
    places: dict[tuple[str, ...], list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    return list(places.values())


def _list_keys(done: pd.DataFrame, keys: Sequence[str]) -> dict[str, list[Any]]:
    return {key: list(done[key]) for key in keys}


def _clear_mixed(
    keyed: dict[str, list[Any]], places: Sequence[list[int]], varying: Sequence[str]
) -> dict[str, list[Any]]:
    """Return the columns, with None for a setting that differs inside a row."""
    for key in varying:
        texts = [_name_value(value) for value in keyed[key]]
        for found in places:
            if len({texts[at] for at in found}) > 1:
                for at in found:
                    keyed[key][at] = None
    return keyed


def _name_value(value: Any) -> str:
    if isinstance(value, (bool, str)):
        return repr(value)
    return "" if pd.isna(value) else repr(float(value))


def _make_all(
    done: pd.DataFrame, places: Iterable[list[int]], keyed: Mapping[str, Sequence[Any]]
) -> list[Row]:
    """Return a row for every list of places, with its runs by cell and fold."""
    names = list(zip(done["cell_id"].map(str), done["fold"].map(str), strict=True))
    has_fold = done["fold"].notna().tolist()
    rows = []
    for found in places:
        parts: dict[tuple[str, str], list[int]] = {}
        for at in found:
            parts.setdefault(names[at], []).append(at)
        cells = tuple(done.iloc[parts[name]] for name in sorted(parts))
        one_cell = len({cell_id for cell_id, _ in parts}) == 1
        is_folded = one_cell and len(cells) > 1 and all(has_fold[at] for at in found)
        key = {name: values[found[0]] for name, values in keyed.items()}
        rows.append(Row(key, cells, is_folded))
    return rows


def _order(rows: list[Row], keys: Sequence[str]) -> list[Row]:
    """Return rows sorted by their keys."""
    if not rows:
        return []
    frame = pd.DataFrame([row.key for row in rows]).assign(position=range(len(rows)))
    return [rows[i] for i in sort_rows(frame, keys)["position"]]


def _choose_shown(rows: Sequence[Row], keys: Sequence[str], varying: Sequence[str]) -> list[str]:
    """Return the columns without settings that tell no rows apart.

    `cell_id` is among them where nothing else tells all rows apart.
    """
    same = {key for key in varying if len({_name_value(row.key[key]) for row in rows}) < 2}
    others = [key for key in keys if key != "cell_id" and key not in same]
    names = [tuple(_name_value(row.key[key]) for key in others) for row in rows]
    return others if len(set(names)) == len(names) else [*others, "cell_id"]


def _describe_averaged(done: pd.DataFrame, group: Sequence[str]) -> list[str]:
    """Return a line on what differs between runs that are averaged."""
    differ: dict[str, pd.Series] = {}
    spread, varying = spread_settings(done)
    columns = [c for c in (*CELL, *varying) if c not in group]
    for found in _split(spread, list(group)):
        part = spread.iloc[found]
        for column in columns:
            if part[column].map(_name_value).nunique() > 1:
                differ[column] = spread[column]
        if not differ and part["cell_id"].nunique() > 1:
            differ["cell_id"] = spread["cell_id"]
    if not differ:
        return []
    words = [f"{column} ({list_values(values, 6)})" for column, values in differ.items()]
    return [f"averaged over different {'; '.join(words)}"]
