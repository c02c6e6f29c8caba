"""A grid laid out once, for every table, page and figure: k down from L, j across from 0."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tlcnn.errors import ConfigError
from tlcnn.report.content import Grid, LayerMeasures, LayerScores
from tlcnn.report.numbers import NONE, is_number
from tlcnn.report.show import show_value
from tlcnn.report.table import Column, Entry, Table
from tlcnn.report.tables import make_sort_key
from tlcnn.report.words import name_dataset
from tlcnn.text import count

Record = Mapping[str, Entry]  # column -> entry


@dataclass(frozen=True)
class GridLayout:
    """Where each cell of a grid stands.

    Attributes:
        ks: numbers of transferred units that were trained, the largest first.
        js: numbers of frozen units that were trained, ascending.
        names: names[k] is the name of unit k; names[0] is `none`.
        points: the row of `Grid.table` of each trained (k, j), in the table's order.
        best: (k, j) of the best on validation, or None.
        empty: (k, j) that could be trained (j <= k) and were not.
    """

    ks: tuple[int, ...]
    js: tuple[int, ...]
    names: tuple[str, ...]
    points: Mapping[tuple[int, int], Mapping[Any, Any]]
    best: tuple[int, int] | None
    empty: frozenset[tuple[int, int]]

    def name_row(self, k: int) -> str:
        """Return what the row of k transferred units is called."""
        return self.names[k] if k else "random"


def lay_out_grid(grid: Grid) -> GridLayout:
    """Return where each cell of a grid stands."""
    points = {(int(row["k"]), int(row["j"])): row for row in grid.table.to_dict("records")}
    ks, js = ({place[axis] for place in points} for axis in (0, 1))
    n_units = len(grid.units)
    places = {(k, j) for k in range(n_units + 1) for j in range(k + 1)}
    scored = {place for place, row in points.items() if is_number(row["value"])}
    return GridLayout(
        ks=tuple(sorted(ks, key=lambda k: order_value("k", k))),
        js=tuple(sorted(js, key=lambda j: order_value("j", j))),
        names=("none", *grid.units),
        points=points,
        best=next((place for place, row in points.items() if row["cell"] == grid.best), None),
        empty=frozenset(places - scored),
    )


def order_value(name: str, value: Any) -> tuple[bool, float, str]:
    """Return what the values of a row or column are sorted by: k from the largest, as in grids.

    Example:
        >>> sorted([0, 5, 3], key=lambda k: order_value("k", k))
        [5, 3, 0]
    """
    is_missing, number, text = make_sort_key(value)
    return is_missing, -number if name == "k" else number, text


def describe_transfer(part: Grid | LayerScores | LayerMeasures) -> str:
    """Return a grid's, layer scores' or measures' model, dataset, source and recipe in words."""
    source = part.init if isinstance(part, Grid) else part.source
    recipe = f" ({part.recipe})" if part.recipe else ""
    dataset = name_dataset(part.dataset)
    return f"{part.model} on {dataset}, units from {part.source_name or source}{recipe}"


# ---- tables of cells, turned --------------------------------------------------------------------


def pivot_table(
    table: Table, rows: Sequence[str], columns: Sequence[str], *, across_random: bool = False
) -> Table:
    """Return a table with a row for every value of `rows` and a column for every `columns`.

    What else tells cells apart (dataset, model, source, recipe) stands in front. Several metrics
    are rows of their own.

    Args:
        rows, columns: columns of the table.
        across_random: show cells that transfer nothing (k = 0) beside those of every source of
            their dataset, model and recipe, since they are the same cells.

    Raises:
        ConfigError: a column that is not there, or cells that would share a place.
    """
    keys, metrics = table.list_columns("key"), table.list_columns("score")
    for name in (*rows, *columns):
        if name not in keys:
            raise ConfigError(f"--rows/--columns {name}: choose of {', '.join(keys)}")
    if not table.rows:
        return table
    heads = {column.name: column for column in table.columns}
    front = [key for key in keys if key not in (*rows, *columns, "cell_id")] + [*rows]
    records: list[Record] = [dict(zip(heads, row, strict=True)) for row in table.rows]
    if across_random and "init" in front and "k" in front:
        records = _spread_random(records, front)
    records.sort(key=lambda record: _order(record, front))
    sizes = {record["n"].value for record in records}
    across: dict[str, list[Any]] = {}
    lines: dict[tuple[str, ...], dict[str, Entry]] = {}
    for metric in metrics:
        for record in records:
            place = " ".join(f"{name}={record[name].text}" for name in columns)
            across[place] = _order(record, columns)
            start = {"metric": show_value(metric), **{name: record[name] for name in front}}
            line = lines.setdefault((metric, *_list_texts(record, front)), start)
            if place in line:
                key = ", ".join(f"{name}={record[name].text}" for name in front)
                raise ConfigError(
                    f"several cells share {key}, {place}: name what tells them apart in --rows "
                    "or --columns, or average them with --group"
                )
            line[place] = record[metric] if len(sizes) == 1 else _add_size(record, metric)
    shown = [Column("metric")] if len(metrics) > 1 else []
    shown += [heads[name] for name in front]
    shown += [
        Column(name, "number", role="score") for name in sorted(across, key=across.__getitem__)
    ]
    notes = [] if len(metrics) > 1 else [f"the cells show {metrics[0]}"]
    notes += [f"{count(int(*sizes), 'run')} in every cell"] if len(sizes) == 1 else []
    return replace(
        table,
        columns=tuple(shown),
        rows=tuple(tuple(line.get(c.name, Entry(NONE)) for c in shown) for line in lines.values()),
        notes=(*notes, *table.notes),
    )


def _order(record: Record, names: Iterable[str]) -> list[tuple[bool, float, str]]:
    return [order_value(name, record[name].value) for name in names]


def _list_texts(record: Record, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(record[name].value) for name in names)


def _spread_random(records: Sequence[Record], front: Sequence[str]) -> list[Record]:
    """Return the records with the cells that transfer nothing under every source.

    A source is `init` and the settings `init.*` that tell it from others of the name.
    """
    source = [name for name in front if name == "init" or name.startswith("init.")]
    block = [name for name in front if name not in ("k", *source)]
    sources: dict[tuple[str, ...], dict[tuple[str, ...], Record]] = {}
    for record in records:
        if record["k"].value:
            of_block = sources.setdefault(_list_texts(record, block), {})
            of_block[_list_texts(record, source)] = {name: record[name] for name in source}
    spread: list[Record] = []
    for record in records:
        heads = {} if record["k"].value else sources.get(_list_texts(record, block), {})
        spread += [{**record, **head} for head in heads.values()] or [record]
    return spread


def _add_size(record: Record, metric: str) -> Entry:
    """Return a score with the number of its runs."""
    score, n = record[metric], record["n"]
    if score.text == NONE:
        return score
    return replace(score, text=f"{score.text} ({n.text})", parts={**score.parts, "n": n.value})
