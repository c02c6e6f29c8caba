"""Which cells make a row of the table of cells, and the columns that tell rows apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tlcnn.records.settings import (
    CELL,
    list_held_out,
    list_naming,
    list_values,
    list_varying,
    write_value,
)
from tlcnn.report.tables import make_sort_key
from tlcnn.study.cells import FOLD, SEARCH, SPLIT_SEED, Cell, make_cells
from tlcnn.study.runs import make_runs
from tlcnn.study.select import group_runs, name_value

Key = Mapping[str, Any]  # column -> value
Members = list[tuple[Key, tuple[Cell, ...]]]


def list_cells(cells: Sequence[Cell]) -> tuple[Members, list[str]]:
    """Return a row for each cell, and the columns that tell them apart.

    The columns are those of a cell, the settings that name some cell beside them, and those in
    which runs of one name differ, with nothing for a setting that differs inside a cell.
    """
    members = [(cell, run) for cell in cells for run in cell.runs]
    settings = [
        {k: v for k, v in run.settings.items() if k not in (FOLD, SPLIT_SEED) or not cell.places}
        for cell, run in members
    ]
    varying = [
        name
        for name in list_varying([run.name for _, run in members], settings)
        if len({name_value(cell.settings.get(name)) for cell in cells}) > 1
    ]
    named = [*list_naming(cell.settings for cell in cells), *varying, *list_held_out(settings)]
    varying = list(dict.fromkeys(named))
    shown = {key for cell in cells for key in cell.shown_settings}
    varying = [name for name in varying if name in shown]
    columns = [*CELL, *varying]
    columns += [SEARCH] if any(cell.searched for cell in cells) else []
    columns += ["imported"] if any(cell.source.is_imported for cell in cells) else []
    keys = [
        {
            **{name: getattr(cell, name) for name in CELL},
            **{name: write_value(cell.shown_settings.get(name)) for name in varying},
            SEARCH: cell.searched.search.study if cell.searched else None,
            "imported": cell.source.is_imported,
            "cell_id": cell.cell_id,
        }
        for cell in cells
    ]
    names = {tuple(name_value(key[name]) for name in columns) for key in keys}
    rows = _sort([(k, (c,)) for k, c in zip(keys, cells, strict=True)], [*columns, "cell_id"])
    columns += ["cell_id"] if len(names) < len(keys) else []
    return rows, columns


def group_cells(runs: pd.DataFrame, group: Sequence[str]) -> tuple[Members, list[str]]:
    """Return a row for each combination of values of some columns, and those columns."""
    parts = group_runs(runs, group)
    rows: Members = [(key, make_cells(make_runs(part))) for key, part in parts]
    columns = list(dict.fromkeys(group))
    return _sort(rows, columns), columns


def _sort(rows: Members, columns: Sequence[str]) -> Members:
    return sorted(rows, key=lambda row: [make_sort_key(row[0].get(name)) for name in columns])


def describe_averaged(rows: Members, group: Sequence[str]) -> list[str]:
    """Return a line on what differs between cells that share a row."""
    members = [(at, cell) for at, (_, cells) in enumerate(rows) for cell in cells]
    facts = [
        {**{name: getattr(cell, name) for name in CELL}, **cell.settings} for _, cell in members
    ]
    texts = []
    for name in list_varying([at for at, _ in members], facts):
        if name not in group:
            values = pd.Series([write_value(cell.get(name)) for cell in facts], dtype=object)
            texts.append(f"{name} ({list_values(values, 6)})")
    n_cells = max((len(cells) for _, cells in rows), default=0)
    if not texts and n_cells > 1:
        texts = [f"cells ({n_cells} in a row)"]
    return [f"averaged over different {'; '.join(texts)}"] if texts else []
