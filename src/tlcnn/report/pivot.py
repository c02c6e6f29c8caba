"""A table of cells with the values of some columns across: k down, j across, scores inside."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tlcnn.errors import ConfigError
from tlcnn.report.tables import PARTS, Table, sort_rows

GRID = (("k",), ("j",))
# What a cell is beside its key: never part of a pivot's rows.
_BESIDE = ("n", "folds", "train_s", "cell_id")


def pivot_table(
    table: Table, rows: Sequence[str], columns: Sequence[str], *, across_random: bool = False
) -> Table:
    """Return a table with one row for every value of `rows` and one column for every `columns`.

    What else tells cells apart (dataset, model, source, recipe) and differs stands in front.

    Args:
        table: of cells.
        rows, columns: columns of it.
        across_random: cells that transfer nothing (k = 0) stand beside those of every source of
            their dataset and model, since they are the same cells.

    Raises:
        ConfigError: a column that is not there, or cells that would share a place.
    """
    for name in (*rows, *columns):
        if name not in table.frame or name in table.scored:
            shown = [c for c in table.columns if c not in table.scored and c not in _BESIDE]
            raise ConfigError(f"--rows/--columns {name}: choose of {', '.join(shown)}")
    metrics = [m for m in table.scored if m not in table.differences]
    keys = [c for c in table.columns if c not in (*table.scored, *_BESIDE)]
    keys = [c for c in keys if not c.startswith(("p ", "verdict "))]
    front = [c for c in keys if c not in (*rows, *columns)]
    if table.frame.empty:
        return table
    frame = _spread_random(table, front) if across_random else _keep_best(table)
    front = [c for c in front if c in frame]
    names = _name_columns(frame, columns)
    frame = frame.assign(column=names)
    order = sort_rows(frame[[*columns, "column"]].drop_duplicates("column"), columns)["column"]
    records = []
    for metric in metrics:
        for key, part in _group(frame, [*front, *rows]):
            _check_places(part, key)
            title = {"metric": metric} if len(metrics) > 1 else {}
            records.append({**title, **key, **_make_cells(part, metric), "_metric": metric})
    return _make_table(table, records, [*front, *rows], list(order), metrics)


def _keep_best(table: Table) -> pd.DataFrame:
    """Return the frame with a list of the metrics in which each row is the best."""
    marks = [[m for m in table.scored if (i, m) in table.best] for i in range(len(table.frame))]
    return table.frame.assign(_best=pd.Series(marks, table.frame.index, dtype=object))


def _spread_random(table: Table, front: Sequence[str]) -> pd.DataFrame:
    """Return the frame with the cells that transfer nothing under every source."""
    frame = _keep_best(table)
    if "init" not in front or "k" not in frame:
        return frame
    is_random = (frame["init"] == "random") & (frame["k"] == 0)
    outer = [c for c in front if c != "init"]
    copies = []
    for _, part in _group(frame, outer):
        sources = part.loc[part["init"] != "random", "init"].unique()
        base = part[is_random.loc[part.index]]
        if len(sources) and len(base):
            copies += [base.assign(init=source) for source in sources]
            frame = frame.drop(index=base.index)
    return pd.concat([frame, *copies]) if copies else frame


def _group(frame: pd.DataFrame, keys: Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    if not keys:
        return [({}, frame)]
    texts = pd.Series(list(zip(*(frame[k].map(str) for k in keys), strict=True)), frame.index)
    parts = [part for _, part in frame.groupby(texts, sort=False)]
    groups = [({key: part[key].iloc[0] for key in keys}, part) for part in parts]
    order = sort_rows(pd.DataFrame([k for k, _ in groups]).assign(at=range(len(groups))), keys)[
        "at"
    ]
    return [groups[i] for i in order]


def _name_columns(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    values = [[f"{c}={_write(v)}" for v in frame[c]] for c in columns]
    return [" ".join(parts) for parts in zip(*values, strict=True)]


def _write(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "-" if pd.isna(value) else str(value)


def _check_places(part: pd.DataFrame, key: dict[str, Any]) -> None:
    twice = part[part["column"].duplicated()]
    if len(twice):
        place = ", ".join(f"{name}={_write(value)}" for name, value in key.items())
        raise ConfigError(
            f"several cells share {place}, {twice['column'].iloc[0]}: name what tells them apart "
            "in --rows or --columns, or average them with --group"
        )


def _make_cells(part: pd.DataFrame, metric: str) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    marked = []
    for record in part.to_dict("records"):
        column = record["column"]
        cells[column] = record[metric]
        for name in PARTS:
            value = record.get(f"{metric} {name}", record.get("n") if name == "n" else None)
            if value is not None:
                cells[f"{column} {name}"] = value
        if metric in record["_best"]:
            marked.append(column)
    return {**cells, "_best": marked}


def _make_table(
    table: Table,
    records: list[dict[str, Any]],
    keys: Sequence[str],
    columns: list[str],
    metrics: Sequence[str],
) -> Table:
    kinds = [part for part in PARTS if any(f"{c} {part}" in r for r in records for c in columns)]
    first = ["metric"] if len(metrics) > 1 else []
    spread = [name for c in columns for name in (c, *(f"{c} {part}" for part in kinds))]
    frame = pd.DataFrame(records, columns=[*first, *keys, *spread])
    best = {(i, column) for i, record in enumerate(records) for column in record["_best"]}
    notes = [] if len(metrics) > 1 else [f"cells: {metrics[0]}"]
    sizes = [record.get(f"{c} n") for record in records for c in columns]
    counts = {int(n) for n in sizes if n is not None}
    if len(counts) == 1:
        frame = frame.drop(columns=[f"{c} n" for c in columns])
        notes.append(f"{counts.pop()} runs in every cell")
    return Table(frame, tuple(columns), (), frozenset(best), (*notes, *table.notes))
