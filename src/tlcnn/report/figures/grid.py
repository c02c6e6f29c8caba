"""The grid: a score for every number k of transferred and j of frozen units."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tlcnn.report.content import Content, Grid
from tlcnn.report.figures.style import (
    COLUMN,
    FULL,
    ORANGE,
    Drawn,
    begin,
    count,
    describe_metric,
    finish,
    make_figure,
    make_literal,
    make_name,
    name_ticks,
    shorten,
    styled,
)
from tlcnn.report.words import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE = 0.6  # inches of a cell in which an interval is one line
_NARROW = 0.41  # inches of a cell below which the zero before the point is left out


def draw_grid(content: Content) -> list[Drawn]:
    """Draw the grids of a report."""
    return [_draw(grid) for grid in content.grids if grid.table["value"].notna().any()]


def _draw(grid: Grid) -> Drawn:
    wide, dataset = len(grid.units) > 6, name_dataset(grid.dataset)
    best = grid.table[grid.table["cell"] == grid.best]
    score = describe_metric(grid.metric)
    recipe = f" ({grid.recipe})" if grid.recipe else ""
    what = f"{grid.model} on {dataset}, units from {grid.source_name or grid.init}{recipe}"
    winner = ""
    if len(best):
        row = best.iloc[0]
        winner = (
            f" The best cell on validation, k = {int(row['k'])} and j = {int(row['j'])}, has "
            f"{shorten(row['value'])}{_describe_interval(row)}."
        )
    return Drawn(
        name=make_name("grid", grid.dataset, grid.model, grid.init, grid.recipe),
        title=f"{begin(score)} over transferred and frozen units: {dataset}",
        caption=(
            f"{begin(score)} of {what}. Each cell is a network whose first k units were "
            "transferred and whose first j were frozen; the rest was drawn fresh and all but the "
            "frozen units were trained. k = 0 is training from random weights. The second line "
            f"is the 95 % interval; {_describe_seeds(grid.table)}. The outlined cell was chosen "
            "on validation, not by the numbers shown. Grey cells were not trained; above the "
            f"diagonal more would be frozen than was transferred.{winner}"
        ),
        figure=plot_grid(
            grid.table,
            units=grid.units,
            best=grid.best,
            metric=grid.metric,
            width=FULL if wide else COLUMN,
        ),
        alt=(
            f"Heat map of {score} for {what}: {count(len(grid.table), 'cell')} from "
            f"{shorten(grid.table['value'].min())} to {shorten(grid.table['value'].max())}."
            f"{winner}"
        ),
        wide=wide,
        section="grid",
    )


def _describe_seeds(table: pd.DataFrame) -> str:
    seeds = sorted({int(n) for n in table["n_seeds"]})
    if seeds == [1]:
        return "all cells are one seed, so intervals, where there are any, leave out its luck"
    if len(seeds) == 1:
        return f"every cell is the mean of {seeds[0]} seeds"
    return (
        f"cells are means of {seeds[0]} to {seeds[-1]} seeds (given in the cell where it is not "
        f"{seeds[-1]}); one seed alone says nothing of the luck of training"
    )


def _describe_interval(row: pd.Series) -> str:
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return ""
    return f" (95 % interval {shorten(row['low'])} to {shorten(row['high'])})"


def plot_grid(
    table: pd.DataFrame,
    *,
    units: tuple[str, ...],
    best: str,
    metric: str,
    width: float = COLUMN,
) -> "Figure":
    """Plot a k x j heat map with value and interval printed in every cell.

    Args:
        table: columns k, j, value, low, high, n_seeds, cell; one row a cell.
        units: names of units 1..L.
        best: `cell` of the one to outline.
        metric: what `value` is.
        width: inches.
    """
    n = len(units) + 1
    table = table[table["value"].notna()]
    size = (width - 0.95) / n  # inches of a cell
    values = np.full((n, n), np.nan)
    values[table["k"].astype(int), table["j"].astype(int)] = table["value"]
    with styled():
        figure = make_figure(width, min(0.82, max(size, 0.5)) * n + 0.95)
        ax = figure.add_subplot()
        _shade_missing(ax, values)
        heat = ax.pcolormesh(values, cmap="viridis", edgecolors="white", linewidth=1.2)
        if np.nanmax(values) - np.nanmin(values) < 1e-9:
            heat.set_clim(np.nanmin(values) - 0.05, np.nanmin(values) + 0.05)
        n_usual = int(table["n_seeds"].max())
        for row in table.to_dict("records"):
            colour = _choose_ink(heat, row["value"])
            lines = _list_lines(row, size, n_usual)
            _print_cell(ax, row, lines, colour, size)
        for row in table[table["cell"] == best].to_dict("records"):
            _outline(ax, int(row["k"]), int(row["j"]))
        _label(ax, units, width)
        _add_key(ax, heat, n, metric, has_best=bool((table["cell"] == best).any()))
        return finish(figure)


def _shade_missing(ax: "Axes", values: np.ndarray) -> None:
    """Shade the cells that could be trained (j <= k) and were not, but for random ones."""
    k, j = np.indices(values.shape)
    missing = np.isnan(values) & (j <= k)
    shade = np.where(missing, 0.0, np.nan)
    ax.pcolormesh(shade, cmap="Greys", vmin=-0.06, vmax=1, edgecolors="white", linewidth=1.2)


def _choose_ink(heat: Any, value: float) -> str:
    red, green, blue, _ = heat.cmap(heat.norm(value))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"


def _list_lines(row: dict[Any, Any], size: float, n_usual: int) -> list[str]:
    """Return what a cell says: the value, its interval, and the seeds where they are unusual."""
    value, low, high, seeds = row["value"], row["low"], row["high"], int(row["n_seeds"])
    narrow = size < _NARROW
    lines = [shorten(value, narrow=narrow)]
    if not (pd.isna(low) or pd.isna(high)):
        ends = [shorten(end, narrow=narrow) for end in (low, high)]
        if abs((high - value) - (value - low)) < 0.0015:
            lines.append(f"±{shorten((high - low) / 2, narrow=narrow)}")
        else:
            lines += ["–".join(ends)] if size > _WIDE else [f"{ends[0]}–", ends[1]]
    if seeds == 1 or seeds < n_usual:
        lines.append(f"n={seeds}" if narrow and seeds > 1 else count(seeds, "seed"))
    return lines


def _print_cell(
    ax: "Axes", row: dict[Any, Any], lines: list[str], colour: str, size: float
) -> None:
    bold = 0
    if int(row["k"]) == 0 and int(row["j"]) == 0:
        lines, bold = ["random", *lines], 1
    large = min(8.0, 72 * size / (0.68 * 5))
    small = min(large - 0.7, 72 * size / (0.66 * max(len(line) for line in lines)))
    gap = min(0.3, 0.9 / len(lines))
    top = row["k"] + 0.5 - gap * (len(lines) - 1) / 2
    for i, line in enumerate(lines):
        ax.text(
            row["j"] + 0.5,
            top + gap * i,
            line,
            fontsize=large if i == bold else max(small, 4.5),
            fontweight="bold" if i == bold else "normal",
            ha="center",
            va="center",
            color=colour,
        )


def _outline(ax: "Axes", k: int, j: int) -> None:
    from matplotlib.patches import Rectangle

    box: dict[str, Any] = {"fill": False, "clip_on": False, "zorder": 5}
    ax.add_patch(Rectangle((j + 0.04, k + 0.04), 0.92, 0.92, ec="white", lw=3.4, **box))
    ax.add_patch(Rectangle((j + 0.04, k + 0.04), 0.92, 0.92, ec=ORANGE, lw=1.8, **box))


def _label(ax: "Axes", units: tuple[str, ...], width: float) -> None:
    n = len(units) + 1
    names = ["none", *(make_literal(unit, 14) for unit in units)]
    ticks = [f"{number}\n{name}" for number, name in enumerate(names)]
    ax.set_xticks(np.arange(n) + 0.5)
    name_ticks(ax.xaxis, ticks, (width - 0.95) / n)
    ax.set_yticks(np.arange(n) + 0.5, ticks)
    ax.set_xlabel("units frozen, j (from the input through …)")
    ax.set_ylabel("units transferred, k (through …)")
    ax.tick_params(length=0)
    ax.set_ylim(n, 0)
    ax.set_xlim(0, n)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _add_key(ax: "Axes", heat: Any, n: int, metric: str, *, has_best: bool) -> None:
    """Put the colour bar and the meaning of the outline into the empty upper triangle."""
    place = ax.inset_axes((0.52, 0.875, 0.46, 0.035))
    bar = ax.figure.colorbar(heat, cax=place, orientation="horizontal")
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=6, length=2, pad=1.5)
    bar.locator = _ends(heat)
    bar.update_ticks()
    place.set_title(describe_metric(metric), fontsize=7, fontweight="normal", pad=3)
    if has_best:
        from matplotlib.patches import Rectangle

        outline = Rectangle((0, 0), 1, 1, fill=False, ec=ORANGE, lw=1.8)
        ax.legend(
            [outline],
            ["best on validation"],
            loc="upper right",
            bbox_to_anchor=(1.0, 0.82),
            handlelength=1.1,
            handleheight=1.1,
            borderaxespad=0.1,
        )


def _ends(heat: Any) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3, steps=[1, 2, 5, 10])
