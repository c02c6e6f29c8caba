"""The grid: a score for every number k of transferred and j of frozen units."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tlcnn.report.content import Content, Grid
from tlcnn.report.figures.style import (
    COLUMN,
    FULL,
    ORANGE,
    ReportFigure,
    begin,
    choose_ink,
    drawing,
    hide_frame,
    make_literal,
    make_name,
    name_ticks,
)
from tlcnn.report.grid import GridLayout, describe_transfer, lay_out_grid
from tlcnn.report.numbers import count, describe_metric, format_fraction, is_number
from tlcnn.study.cells import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE = 0.6  # inches of a cell in which an interval is one line
_NARROW = 0.41  # inches of a cell below which the zero before the point is left out
_MARGIN = 0.95  # inches beside and below the cells


def draw_grid(content: Content) -> list[ReportFigure]:
    """Draw the grids of a report."""
    return [_draw(grid) for grid in content.grids if grid.table["value"].notna().any()]


def _draw(grid: Grid) -> ReportFigure:
    is_wide, values = len(grid.units) > 6, grid.table["value"]
    score, subject = describe_metric(grid.metric), describe_transfer(grid)
    best = _describe_best(lay_out_grid(grid))
    return ReportFigure(
        name=make_name("grid", grid.dataset, grid.model, grid.init, grid.recipe),
        title=f"{begin(score)} by transferred and frozen units: {name_dataset(grid.dataset)}",
        caption=(
            f"{begin(score)} of {subject}. Each cell is a network whose first k units were "
            "transferred and whose first j units were frozen. The other units were drawn at "
            "random, and all but the frozen ones were trained. k = 0 is training from random "
            f"weights. The second line is the 95 % interval; {_describe_seeds(grid.table)}. The "
            "outlined cell is the best on validation, not by the numbers shown. Grey cells were "
            "not trained. Above the diagonal, more units would be frozen than transferred."
            f"{best}"
        ),
        figure=plot_grid(grid, width=FULL if is_wide else COLUMN),
        alt=(
            f"Heat map of {score} for {subject}: {count(len(grid.table), 'cell')} from "
            f"{format_fraction(values.min())} to {format_fraction(values.max())}.{best}"
        ),
        wide=is_wide,
        section="grid",
    )


def _describe_best(layout: GridLayout) -> str:
    if layout.best is None:
        return ""
    (k, j), row = layout.best, layout.points[layout.best]
    interval = ""
    if is_number(row["low"]) and is_number(row["high"]):
        low, high = format_fraction(row["low"]), format_fraction(row["high"])
        interval = f" (95 % interval {low} to {high})"
    score = format_fraction(row["value"])
    return f" The best cell on validation, k = {k} and j = {j}, has {score}{interval}."


def _describe_seeds(table: pd.DataFrame) -> str:
    seeds = sorted({int(n) for n in table["n_seeds"]})
    if seeds == [1]:
        return "every cell is one seed, so an interval leaves out the variance between seeds"
    if len(seeds) == 1:
        return f"every cell is the mean of {seeds[0]} seeds"
    return (
        f"cells are means of {seeds[0]} to {seeds[-1]} seeds, and a cell of fewer than "
        f"{seeds[-1]} says how many"
    )


def plot_grid(grid: Grid, *, width: float = COLUMN) -> "Figure":
    """Plot a k x j heat map with value and interval printed in every cell.

    Args:
        width: inches.
    """
    layout, n = lay_out_grid(grid), len(grid.units) + 1
    points = {place: row for place, row in layout.points.items() if is_number(row["value"])}
    values, shades = np.full((n, n), np.nan), np.full((n, n), np.nan)
    for place, row in points.items():
        values[place] = row["value"]
    for place in layout.empty:
        shades[place] = 0.0
    size = (width - _MARGIN) / n  # inches of a cell
    n_usual = max(int(row["n_seeds"]) for row in points.values())
    with drawing(width, min(0.82, max(size, 0.5)) * n + _MARGIN) as figure:
        ax = figure.add_subplot()
        look: dict[str, Any] = {"edgecolors": "white", "linewidth": 1.2}
        ax.pcolormesh(shades, cmap="Greys", vmin=-0.06, vmax=1, **look)
        heat = ax.pcolormesh(values, cmap="viridis", **look)
        if np.nanmax(values) - np.nanmin(values) < 1e-9:
            heat.set_clim(np.nanmin(values) - 0.05, np.nanmin(values) + 0.05)
        for (k, j), row in points.items():
            lines = _list_lines(row, size, n_usual)
            _print_cell(ax, k, j, lines, choose_ink(heat, row["value"]), size)
        if layout.best in points:
            _outline(ax, *layout.best)
        _label(ax, layout.names, size)
        _add_key(ax, heat, grid.metric, has_best=layout.best in points)
    return figure


def _list_lines(row: Mapping[str, Any], size: float, n_usual: int) -> list[str]:
    """Return the lines of a cell: the value, its interval, and the seeds where they are fewer."""
    value, low, high, n_seeds = row["value"], row["low"], row["high"], int(row["n_seeds"])
    narrow = size < _NARROW
    lines = [format_fraction(value, narrow=narrow)]
    if is_number(low) and is_number(high):
        ends = [format_fraction(end, narrow=narrow) for end in (low, high)]
        if abs((high - value) - (value - low)) < 0.0015:
            lines.append(f"±{format_fraction((high - low) / 2, narrow=narrow)}")
        else:
            lines += ["–".join(ends)] if size > _WIDE else [f"{ends[0]}–", ends[1]]
    if n_seeds == 1 or n_seeds < n_usual:
        lines.append(f"n={n_seeds}" if narrow and n_seeds > 1 else count(n_seeds, "seed"))
    return lines


def _print_cell(ax: "Axes", k: int, j: int, lines: list[str], ink: str, size: float) -> None:
    bold = 0
    if k == j == 0:
        lines, bold = ["random", *lines], 1
    large = min(8.0, 72 * size / (0.68 * 5))
    small = min(large - 0.7, 72 * size / (0.66 * max(len(line) for line in lines)))
    gap = min(0.3, 0.9 / len(lines))
    top = k + 0.5 - gap * (len(lines) - 1) / 2
    for i, line in enumerate(lines):
        ax.text(
            j + 0.5,
            top + gap * i,
            line,
            fontsize=large if i == bold else max(small, 4.5),
            fontweight="bold" if i == bold else "normal",
            ha="center",
            va="center",
            color=ink,
        )


def _outline(ax: "Axes", k: int, j: int) -> None:
    from matplotlib.patches import Rectangle

    box: dict[str, Any] = {"fill": False, "clip_on": False, "zorder": 5}
    ax.add_patch(Rectangle((j + 0.04, k + 0.04), 0.92, 0.92, ec="white", lw=3.4, **box))
    ax.add_patch(Rectangle((j + 0.04, k + 0.04), 0.92, 0.92, ec=ORANGE, lw=1.8, **box))


def _label(ax: "Axes", names: tuple[str, ...], size: float) -> None:
    ticks = [f"{number}\n{make_literal(name, 14)}" for number, name in enumerate(names)]
    places = np.arange(len(names)) + 0.5
    ax.set_xticks(places)
    name_ticks(ax.xaxis, ticks, size)
    ax.set_yticks(places, ticks)
    ax.set_xlabel("units frozen, j (from the input through …)")
    ax.set_ylabel("units transferred, k (through …)")
    hide_frame(ax, len(names))


def _add_key(ax: "Axes", heat: Any, metric: str, *, has_best: bool) -> None:
    """Put the colour bar and the meaning of the outline into the empty upper triangle."""
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    key = ax.inset_axes((0.52, 0.875, 0.46, 0.035))
    bar = ax.figure.colorbar(heat, cax=key, orientation="horizontal")
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=6, length=2, pad=1.5)
    bar.locator = MaxNLocator(3, steps=[1, 2, 5, 10])
    bar.update_ticks()
    key.set_title(describe_metric(metric), fontsize=7, fontweight="normal", pad=3)
    if has_best:
        ax.legend(
            [Rectangle((0, 0), 1, 1, fill=False, ec=ORANGE, lw=1.8)],
            ["best on validation"],
            loc="upper right",
            bbox_to_anchor=(1.0, 0.82),
            handlelength=1.1,
            handleheight=1.1,
            borderaxespad=0.1,
        )
