"""A table of cells with the values of some columns across: k down, j across, scores inside."""

from collections.abc import Sequence
from dataclasses import replace

from tlcnn.errors import ConfigError
from tlcnn.report.numbers import NONE, count
from tlcnn.report.show import show_value
from tlcnn.report.table import Column, Entry, Table
from tlcnn.report.tables import make_sort_key

GRID = (("k",), ("j",))

Record = dict[str, Entry]  # column -> entry


def pivot_table(
    table: Table, rows: Sequence[str], columns: Sequence[str], *, across_random: bool = False
) -> Table:
    """Return a table with one row for every value of `rows` and one column for every `columns`.

    What else tells cells apart (dataset, model, source, recipe) and differs stands in front.

    Args:
        rows, columns: columns of the table.
        across_random: cells that transfer nothing (k = 0) stand beside those of every source of
            their dataset and model, since they are the same cells.

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
    records: list[Record] = [dict(zip(heads, row, strict=True)) for row in table.rows]
    left = [key for key in keys if key not in (*rows, *columns, "cell_id")] + [*rows]
    if across_random and "init" in left and "k" in keys:
        records = _spread_random(records, left)
    sizes = {record["n"].value for record in records}
    if len(sizes) > 1:
        records = [_add_sizes(record, metrics) for record in records]
    places = {_name_place(record, columns): _make_key(record, columns) for record in records}
    across = sorted(places, key=places.__getitem__)
    lines = []
    for metric in metrics:
        title = {"metric": show_value(metric)} if len(metrics) > 1 else {}
        for part in _group(records, left):
            scores = {_name_place(record, columns): record[metric] for record in part}
            if len(scores) < len(part):
                raise ConfigError(_describe_shared(part, left, columns))
            lines.append({**title, **{name: part[0][name] for name in left}, **scores})
    shown = [Column("metric")] if len(metrics) > 1 else []
    shown += [heads[name] for name in left]
    shown += [Column(name, "number", role="score") for name in across]
    notes = [] if len(metrics) > 1 else [f"cells: {metrics[0]}"]
    notes += [f"{count(int(*sizes), 'run')} in every cell"] if len(sizes) == 1 else []
    return replace(
        table,
        columns=tuple(shown),
        rows=tuple(tuple(line.get(c.name, Entry(NONE)) for c in shown) for line in lines),
        notes=(*notes, *table.notes),
    )


def _name_place(record: Record, columns: Sequence[str]) -> str:
    return " ".join(f"{name}={record[name].text}" for name in columns)


def _make_key(record: Record, names: Sequence[str]) -> list[tuple[bool, float, str]]:
    return [make_sort_key(record[name].value) for name in names]


def _group(records: Sequence[Record], names: Sequence[str]) -> list[list[Record]]:
    """Return the records of each combination of values, in their order."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in sorted(records, key=lambda record: _make_key(record, names)):
        groups.setdefault(tuple(str(record[name].value) for name in names), []).append(record)
    return list(groups.values())


def _spread_random(records: Sequence[Record], left: Sequence[str]) -> list[Record]:
    """Return the records with the cells that transfer nothing under every source.

    A source is `init` and the settings `init.*` that tell it from others of the name.
    """
    own = [name for name in left if name == "init" or name.startswith("init.")]
    spread = []
    for part in _group(records, [name for name in left if name not in ("k", *own)]):
        is_random = [r["init"].value == "random" and r["k"].value == 0 for r in part]
        sources = _group([r for r in part if r["init"].value != "random"], own)
        for record, is_free in zip(part, is_random, strict=True):
            if is_free and sources:
                copies = [{name: source[0][name] for name in own} for source in sources]
                spread += [{**record, **copy} for copy in copies]
            else:
                spread.append(record)
    return spread


def _add_sizes(record: Record, metrics: Sequence[str]) -> Record:
    """Return a record with the number of runs in its scores."""
    n = record["n"]
    scores = {
        metric: replace(
            entry, text=f"{entry.text} ({n.text})", parts={**entry.parts, "n": n.value}
        )
        for metric, entry in record.items()
        if metric in metrics and entry.text != NONE
    }
    return {**record, **scores}


def _describe_shared(part: Sequence[Record], names: Sequence[str], columns: Sequence[str]) -> str:
    places = [_name_place(record, columns) for record in part]
    shared = next(place for place in places if places.count(place) > 1)
    key = ", ".join(f"{name}={part[0][name].text}" for name in names)
    return (
        f"several cells share {key}, {shared}: name what tells them apart in --rows or --columns, "
        "or average them with --group"
    )
