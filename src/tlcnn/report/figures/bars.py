"""Cells side by side: means with intervals, and the single seeds that pair them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tlcnn.report.content import Content
from tlcnn.report.figures.choose import find_highlights, list_datasets, list_runs, sort_cells
from tlcnn.report.figures.style import (
    BLUE,
    COLUMN,
    FULL,
    GREY,
    MARKERS,
    ORANGE,
    SKY,
    ReportFigure,
    add_panels,
    begin,
    drawing,
    make_name,
    make_reach,
    name_ticks,
    wrap,
)
from tlcnn.report.numbers import count, describe_metric, format_fraction
from tlcnn.study.cells import name_dataset, name_source

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 8  # cells in one panel


@dataclass(frozen=True)
class Panel:
    """Cells that answer one question.

    Attributes:
        axis: the label of the x axis.
        cells: columns name, value, low, high, j; one row a cell, in order.
        seeds: columns position (a row of `cells`), seed, value; one row a run.
    """

    title: str
    axis: str
    cells: pd.DataFrame
    seeds: pd.DataFrame


def draw_bars(content: Content) -> list[ReportFigure]:
    """Draw, for each dataset and model, where to start from and how much to freeze."""
    figures = []
    for dataset in list_datasets(content):
        cells = content.cells[content.cells["dataset"] == dataset].drop_duplicates("cell")
        for model, model_cells in cells.groupby("model", sort=False):
            panels = _make_panels(content, dataset, model_cells)
            if panels:
                figures.append(_draw(content, dataset, str(model), panels))
    return figures


def _draw(content: Content, dataset: str, model: str, panels: list[Panel]) -> ReportFigure:
    score = describe_metric(content.metric)
    is_wide = sum(len(panel.cells) for panel in panels) > 4
    n_seeds = max(int(panel.seeds["seed"].nunique()) for panel in panels)
    best = [panel.cells.nlargest(1, "value").iloc[0] for panel in panels]
    highest = [
        f"{panel.title}: highest is {row['name']} with {format_fraction(row['value'])}."
        for panel, row in zip(panels, best, strict=True)
    ]
    return ReportFigure(
        name=make_name("bars", dataset, model),
        title=f"Sources and frozen units, seed by seed: {name_dataset(dataset)}",
        caption=(
            f"{begin(score)} of {model} on {name_dataset(dataset)}, by the source of the weights "
            "(all units transferred, none frozen) and by the frozen units. Large marks are means "
            "over seeds with 95 % intervals (squares where units are frozen). Small marks are "
            "single seeds, and a line joins the same seed in neighbouring cells. Seeds are "
            "paired: they share draws and test images. Where all lines rise, the cells differ "
            f"even if their intervals overlap. Up to {count(n_seeds, 'seed')} a cell."
        ),
        figure=plot_bars(panels, metric=content.metric, width=FULL if is_wide else COLUMN),
        alt=f"Means of {score} for {model} on {name_dataset(dataset)}. {' '.join(highest)}",
        wide=is_wide,
        section="predictions",
    )


def _make_panels(content: Content, dataset: str, cells: pd.DataFrame) -> list[Panel]:
    """Return the questions that the cells of one model can answer: source, frozen units."""
    depth = cells["k"].max()
    cells = cells[cells["init"] != "self"]
    sources = cells[((cells["k"] == depth) | (cells["k"] == 0)) & (cells["j"] == 0)]
    init = _choose_init(content, dataset, cells, depth)
    frozen = cells[(cells["init"] == init) & (cells["k"] == depth) & (cells["k"] > 0)]
    frozen = frozen.sort_values("j", kind="stable").iloc[: MOST + 1]
    panels = [
        ("Where to start from", "weights from", sort_cells(sources).iloc[:MOST], "init"),
        (f"How much to freeze ({name_source(init)})", "units frozen, through …", frozen, "j"),
    ]
    return [
        _make_panel(content, title, axis, rows, by)
        for title, axis, rows, by in panels
        if len(rows) > 1 and rows[content.metric].notna().any()
    ]


def _choose_init(content: Content, dataset: str, cells: pd.DataFrame, depth: int) -> str:
    """Return the source whose frozen units are shown: the best cell's, else the most trained."""
    deep = cells[(cells["k"] == depth) & (cells["k"] > 0)]
    sizes = deep.groupby("init")["j"].nunique()
    highlights = find_highlights(content, dataset)
    candidates = [init for init in highlights["init"] if sizes.get(init, 0) > 1]
    return str(candidates[0] if candidates else sizes.idxmax() if len(sizes) else "")


def _make_panel(content: Content, title: str, axis: str, cells: pd.DataFrame, by: str) -> Panel:
    """Return a panel of cells that are named by their source (`init`) or frozen units (`j`)."""
    metric = content.metric
    rows, seeds = [], []
    for position, (_, cell) in enumerate(cells.iterrows()):
        j, units = int(cell["j"]), tuple(cell.get("units", ()))
        if (cells[by] == cell[by]).sum() > 1:
            name = str(cell["label"])
        elif by == "init":
            name = name_source(cell["init"]) if cell["k"] else "random"
        else:
            name = f"{j} {units[j - 1] if 0 < j <= len(units) else '' if j else 'none'}".strip()
        ends = {end: cell.get(f"{metric} {end}", np.nan) for end in ("low", "high")}
        rows.append({"name": name, "value": cell[metric], **ends, "j": j})
        for _, run in list_runs(content, cell).iterrows():
            seeds.append({"position": position, "seed": run["seed"], "value": run.get(metric)})
    seed_frame = pd.DataFrame(seeds, columns=["position", "seed", "value"])
    return Panel(title, axis, pd.DataFrame(rows), seed_frame)


def plot_bars(panels: list[Panel], *, metric: str, width: float = FULL) -> "Figure":
    """Plot cells as means with intervals, and each seed as a line through them.

    Args:
        panels: a panel a question; they share the scale.
        metric: the metric of the values.
        width: inches; below 5 the panels are in one column.
    """
    is_row = width >= 5
    sizes = [len(panel.cells) + 1 for panel in panels]
    inches = (width - 0.6) / (sum(sizes) if is_row else max(sizes))  # between two cells
    with drawing(width, 3.0 if is_row else 2.75 * len(panels)) as figure:
        if is_row:
            axes = list(
                figure.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=sizes)[0]
            )
        else:
            axes = add_panels(figure, len(panels), 1)
        for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
            _plot_panel(ax, panel, inches)
            ax.set_ylim(*_find_limits(panels))
            if i == 0 or not is_row:
                ax.set_ylabel(describe_metric(metric))
        is_turned = [ax.get_xticklabels()[0].get_rotation() > 0 for ax in axes]
        extra = 0.7 * (any(is_turned) if is_row else sum(is_turned))
        figure.set_figheight(figure.get_figheight() + extra)
    return figure


def _find_limits(panels: list[Panel]) -> tuple[float, float]:
    cells = pd.concat([panel.cells for panel in panels])
    seeds = pd.concat([panel.seeds for panel in panels])
    numbers = np.concatenate(
        [cells[["value", "low", "high"]].to_numpy(float).ravel(), seeds["value"].to_numpy(float)]
    )
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    room = max(0.08 * (high - low), 0.005)
    return low - 1.5 * room, high + room


def _plot_panel(ax: "Axes", panel: Panel, inches: float) -> None:
    cells = panel.cells
    for position, row in enumerate(cells.to_dict("records")):
        look: dict[str, Any] = {"marker": "o", "color": BLUE}
        if row["j"]:
            look = {"marker": "s", "color": ORANGE}
        has_interval = pd.notna(row["low"]) and pd.notna(row["high"])
        reach = make_reach(row["value"], row["low"], row["high"]) if has_interval else None
        x = position - 0.16  # left of its seeds
        ax.errorbar(x, row["value"], yerr=reach, ms=5.5, elinewidth=1.6, zorder=4, **look)
    _plot_seeds(ax, panel.seeds)
    ax.set_xticks(range(len(cells)))
    name_ticks(ax.xaxis, list(cells["name"]), inches)
    ax.set_xlim(-0.6, len(cells) - 0.4)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")
    title = wrap(panel.title, max(20, int(inches * (len(cells) + 0.6) * 72 / 4.5)))
    ax.set_title(title, fontweight="normal")
    ax.set_xlabel(panel.axis)


def _plot_seeds(ax: "Axes", seeds: pd.DataFrame) -> None:
    for i, (_, line) in enumerate(seeds.dropna(subset="value").groupby("seed", sort=True)):
        line = line.drop_duplicates("position").set_index("position")["value"].sort_index()
        values = line.reindex(range(int(line.index.min()), int(line.index.max()) + 1))
        ax.plot(
            values.index.to_numpy(float) + 0.12,
            values.to_numpy(float),
            color=GREY,
            lw=0.7,
            marker=MARKERS[i % len(MARKERS)],
            ms=3.6,
            mfc=SKY,
            mec="black",
            mew=0.5,
            zorder=3,
        )
