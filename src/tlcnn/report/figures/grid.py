"""The grid: a score for every number k of transferred and j of frozen units."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from tlcnn.report.content import Content, Grid
from tlcnn.report.figures import style
from tlcnn.report.grid import describe_transfer, lay_out_grid
from tlcnn.report.numbers import (
    NONE,
    describe_metric,
    format_range,
    format_score,
    is_number,
    write_score,
)
from tlcnn.report.words import is_share, name_dataset
from tlcnn.text import count

_WIDE = 0.6  # inches of a cell in which an interval is one line
_NARROW = 0.41  # inches of a cell in which a number of seeds is `n=3`
_MARGIN = 0.95  # inches beside and below the cells


def draw_grid(content: Content) -> Iterator[style.ReportFigure]:
    """Draw the grids of a report."""
    for grid in content.grids:
        values = grid.table["value"]
        if values.isna().all():
            continue
        is_wide = len(grid.units) > 6
        score, subject = describe_metric(grid.metric), describe_transfer(grid)
        best = _describe_best(grid)
        unit = " (%)" if is_share(grid.metric) else ""
        yield style.ReportFigure(
            name=style.make_name("grid", grid.dataset, grid.model, grid.init, grid.recipe),
            title=f"{style.begin(score)} by transferred and frozen units: "
            f"{name_dataset(grid.dataset)}",
            caption=(
                f"{style.begin(score)}{unit} of {subject}. Each cell is a network whose first k "
                "units were transferred and first j units frozen. The other units were drawn at "
                "random, and all but the frozen ones were trained. k = 0 is training from "
                "random weights. The second line is the 95 % interval; "
                f"{style.describe_seeds(grid.table['n_seeds'], 'cell')}. A cell with fewer seeds "
                "than others says how many, and one with a single seed has no interval. "
                "The outlined cell is the best on validation, not by the numbers "
                "shown. Grey cells were not trained, and rows of other k neither. The empty "
                f"places would freeze more units than are transferred.{best}"
            ),
            figure=plot_grid(grid, width=style.FULL if is_wide else style.COLUMN),
            alt=(
                f"Heat map of {score} for {subject}: {count(len(grid.table), 'cell')} from "
                f"{format_range(values.min(), values.max(), grid.metric)}{unit}.{best}"
            ),
            section="grid",
        )


def _describe_best(grid: Grid) -> str:
    layout = lay_out_grid(grid)
    if layout.best is None:
        return ""
    (k, j), row = layout.best, layout.points[layout.best]
    interval = format_range(row["low"], row["high"], grid.metric)
    interval = f" (95 % interval {interval})" if interval != NONE else ""
    score = write_score(row["value"], grid.metric)
    return f" The best cell on validation, k = {k} and j = {j}, has {score}{interval}."


def plot_grid(grid: Grid, *, width: float = style.COLUMN) -> Figure:
    """Plot a k x j heat map with value and interval printed in every cell.

    Rows of k that was not trained are left out.
    """
    layout, n = lay_out_grid(grid), len(grid.units) + 1
    ks = sorted({*layout.ks, 0}, reverse=True)  # the largest k is in the first row, as in tables
    row_of = {k: position for position, k in enumerate(ks)}
    points = {place: row for place, row in layout.points.items() if is_number(row["value"])}
    values, shades = np.full((2, len(ks), n), np.nan)
    scale = 100 if is_share(grid.metric) else 1
    for (k, j), row in points.items():
        values[row_of[k], j] = scale * row["value"]
    for k, j in layout.empty:
        if k in row_of:
            shades[row_of[k], j] = 0.0
    size = (width - _MARGIN) / n  # inches of a cell
    most_seeds = max(int(row["n_seeds"]) for row in points.values())
    with style.drawing(width, min(0.82, max(size, 0.5)) * len(ks) + _MARGIN) as figure:
        ax = figure.add_subplot()
        ax.pcolormesh(shades, cmap="Greys", vmin=-0.06, vmax=1, ec="white", lw=1.2)
        heat = ax.pcolormesh(values, cmap="viridis", ec="white", lw=1.2)
        if np.nanmax(values) - np.nanmin(values) < 1e-9:
            heat.set_clim(np.nanmin(values) - 0.05 * scale, np.nanmin(values) + 0.05 * scale)
        for (k, j), row in points.items():
            lines = [*(["random"] if k == j == 0 else [])]
            lines += _list_lines(row, grid.metric, size, most_seeds)
            ink, bold = style.choose_ink(heat, scale * row["value"]), int(k == j == 0)
            style.print_cell(ax, j + 0.5, row_of[k] + 0.5, lines, inches=size, ink=ink, bold=bold)
        if layout.best in points:
            k, j = layout.best
            for colour, thickness in (("white", 3.4), (style.ORANGE, 1.8)):
                place = (j + 0.04, row_of[k] + 0.04)
                box = Rectangle(place, 0.92, 0.92, ec=colour, lw=thickness)
                ax.add_patch(box).set(fill=False, clip_on=False, zorder=5)
        names = [f"{k}\n{style.make_literal(name, 14)}" for k, name in enumerate(layout.names)]
        rows = [f"{k}\n{style.make_literal(layout.name_row(k), 14)}" for k in ks]
        style.name_places(ax, names, rows, size)
        ax.set_xlabel("units frozen, j (from the input through …)")
        gap = " " if len(ks) > 2 else "\n"  # two rows are lower than the line is long
        ax.set_ylabel(f"units transferred,{gap}k (through …)")
        _add_key(ax, heat, grid.metric, shades.shape, has_best=layout.best in points)
    return figure


def _list_lines(row: Mapping[str, Any], metric: str, size: float, most_seeds: int) -> list[str]:
    """Return the lines of a cell: the value, its interval, and the seeds where they are fewer."""
    value, low, high, n_seeds = row["value"], row["low"], row["high"], int(row["n_seeds"])
    lines = [format_score(value, metric)]
    if is_number(low) and is_number(high):
        ends = [format_score(end, metric) for end in (low, high)]
        if abs((high - value) - (value - low)) < 0.0015:
            lines.append(f"±{format_score((high - low) / 2, metric)}")
        else:
            lines += ["–".join(ends)] if size > _WIDE else [f"{ends[0]}–", ends[1]]
    if n_seeds == 1 or n_seeds < most_seeds:
        is_narrow = size < _NARROW and n_seeds > 1
        lines.append(f"n={n_seeds}" if is_narrow else count(n_seeds, "seed"))
    return lines


def _add_key(ax: Axes, heat: Any, metric: str, shape: tuple[int, ...], *, has_best: bool) -> None:
    """Put the colour bar and the meaning of the outline into the empty lower triangle.

    Of a grid of few rows it is the last row, in which k is 0.
    """
    n_rows, n = shape
    corner: Any
    place, spot, corner = (0.52, 0.09, 0.46, 0.035), (1.0, 0.19), "lower right"
    if n_rows < n:
        place = (0.62, 0.42 / n_rows, 0.36, 0.12 / n_rows)
        spot, corner = (1 / n + 0.02, 0.5 / n_rows), "center left"
    key = ax.inset_axes(place)
    ticks = MaxNLocator(3, steps=[1, 2, 5, 10])
    bar = ax.figure.colorbar(heat, cax=key, orientation="horizontal", ticks=ticks)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=6, length=2, pad=1.5)
    key.set_title(
        f"{describe_metric(metric)}{', %' if is_share(metric) else ''}",
        fontsize=7,
        fontweight="normal",
        pad=3,
    )
    if has_best:
        box = Rectangle((0, 0), 1, 1, fill=False, ec=style.ORANGE, lw=1.8)
        ax.legend(
            [box],
            ["best on validation"],
            loc=corner,
            bbox_to_anchor=spot,
            handlelength=1.1,
            handleheight=1.1,
        )
