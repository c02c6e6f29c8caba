"""A grid laid out once, for every table, page and figure: rows k, columns j, and what is best."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlcnn.report.content import Grid, LayerScores
from tlcnn.report.numbers import is_number
from tlcnn.report.words import name_dataset


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
    points: Mapping[tuple[int, int], Mapping[str, Any]]
    best: tuple[int, int] | None
    empty: frozenset[tuple[int, int]]

    def name_row(self, k: int) -> str:
        """Return what the row of k transferred units is called."""
        return self.names[k] if k else "random"


def lay_out_grid(grid: Grid) -> GridLayout:
    """Return where each cell of a grid stands."""
    records: list[dict[str, Any]] = [
        {str(name): value for name, value in row.items()} for row in grid.table.to_dict("records")
    ]
    points = {(int(row["k"]), int(row["j"])): row for row in records}
    n_units = len(grid.units)
    places = {(k, j) for k in range(n_units + 1) for j in range(k + 1)}
    scored = {place for place, row in points.items() if is_number(row["value"])}
    return GridLayout(
        ks=tuple(sorted({k for k, _ in points}, reverse=True)),
        js=tuple(sorted({j for _, j in points})),
        names=("none", *grid.units),
        points=points,
        best=next((place for place, row in points.items() if row["cell"] == grid.best), None),
        empty=frozenset(places - scored),
    )


def describe_transfer(part: Grid | LayerScores) -> str:
    """Return a grid's or layer scores' model, dataset, source and recipe in words."""
    source = part.init if isinstance(part, Grid) else part.source
    recipe = f" ({part.recipe})" if part.recipe else ""
    dataset = name_dataset(part.dataset)
    return f"{part.model} on {dataset}, units from {part.source_name or source}{recipe}"
