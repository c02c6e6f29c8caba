"""Cells side by side: means with intervals, and the single seeds that pair them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlcnn.report.content import Content
from tlcnn.report.figures import style
from tlcnn.report.figures.choose import (
    describe_hidden,
    find_highlights,
    list_datasets,
    list_runs,
    name_apart,
    sort_cells,
)
from tlcnn.report.numbers import describe_metric, format_fraction
from tlcnn.report.words import name_dataset

MOST = 8  # cells in one panel
# What the figure is called, and by what its cells differ.
_BY_SETTINGS = (
    "Settings of fine-tuning",
    "by the settings of training, with all units transferred and none frozen",
)
_BY_SOURCE = (
    "Sources and frozen units",
    "by the source of the weights (all units transferred, none frozen) and by the frozen units, "
    "of the source whose cell is the best on validation or, without one, of which most were "
    "trained",
)


@dataclass(frozen=True)
class Panel:
    """Cells that answer one question.

    Attributes:
        axis: the label of the x axis.
        cells: columns cell (key), name, value, low, high, j; one row a cell, in order.
        seeds: columns position (a row of `cells`), seed, value; one row a run.
    """

    title: str
    axis: str
    cells: pd.DataFrame
    seeds: pd.DataFrame


def draw_bars(content: Content) -> Iterator[style.ReportFigure]:
    """Draw, for each dataset and model, where to start from and how much to freeze."""
    score = describe_metric(content.metric)
    for dataset in list_datasets(content):
        cells = content.cells[content.cells["dataset"] == dataset].drop_duplicates("cell")
        for model, model_cells in cells.groupby("model", sort=False):
            panels = _make_panels(content, dataset, model_cells)
            if not panels:
                continue
            is_wide = sum(len(panel.cells) for panel in panels) > 4
            n_seeds = pd.concat([p.seeds.groupby("position")["seed"].nunique() for p in panels])
            subject = f"{model} on {name_dataset(dataset)}"
            highest = [
                f"{panel.title}: highest is {row['name']} with {format_fraction(row['value'])}."
                for panel in panels
                for _, row in panel.cells.nlargest(1, "value").iterrows()
            ]
            shown = {key for panel in panels for key in panel.cells["cell"]}
            of_other_models = set(cells["cell"]) - set(model_cells["cell"])
            hidden = describe_hidden(content, dataset, shown | of_other_models)
            title, by = _BY_SETTINGS if panels[0].axis == "settings" else _BY_SOURCE
            yield style.ReportFigure(
                name=style.make_name("bars", dataset, str(model)),
                title=f"{title}, seed by seed: {name_dataset(dataset)}",
                caption=(
                    f"{style.begin(score)} of {subject}, {by}. Large "
                    "marks are means over seeds with 95 % intervals (squares where units are "
                    "frozen). Small marks are single seeds, and a line joins the same seed in "
                    "neighbouring cells. The runs of a seed share draws and test images, so cells "
                    "may differ although their intervals overlap; see the comparisons for "
                    f"that.{hidden} "
                    f"{style.begin(style.describe_seeds(n_seeds, 'cell'))}."
                ),
                figure=plot_bars(
                    panels, metric=content.metric, width=style.FULL if is_wide else style.COLUMN
                ),
                alt=f"Means of {score} for {subject}. {' '.join(highest)}",
                section="scores",
            )


def _make_panels(content: Content, dataset: str, cells: pd.DataFrame) -> list[Panel]:
    """Return the questions that the cells of one model can answer: source and frozen units.

    Where neither differs, the question is with which settings to train.
    """
    depth = cells["k"].max()
    cells = name_apart(cells[cells["init"] != "self"])
    sources = cells[((cells["k"] == depth) | (cells["k"] == 0)) & (cells["j"] == 0)]
    deep = cells[(cells["k"] == depth) & (cells["k"] > 0)]
    # Units are frozen in the source of the best cell, else in the one that most were trained of.
    sizes = deep.groupby("init")["j"].nunique()
    best = [init for init in find_highlights(content, dataset)["init"] if sizes.get(init, 0) > 1]
    init = best[0] if best else sizes.idxmax() if len(sizes) else ""
    frozen = deep[deep["init"] == init].sort_values("j", kind="stable")
    source = frozen["source"].iloc[0] if "source" in frozen and len(frozen) else init
    sources = sort_cells(sources).iloc[:MOST]
    panels = [
        ("Where to start from", "weights from", sources, "init"),
        (f"How much to freeze ({source})", "units frozen, through …", frozen[: MOST + 1], "j"),
    ]
    panels = [panel for panel in panels if panel[2][panel[3]].nunique() > 1]
    if not panels:
        panels = [(f"How to fine-tune ({source})", "settings", sources, "difference")]
    return [
        _make_panel(content, title, axis, rows, by)
        for title, axis, rows, by in panels
        if len(rows) > 1 and rows[content.metric].notna().any()
    ]


def _make_panel(content: Content, title: str, axis: str, cells: pd.DataFrame, by: str) -> Panel:
    """Return a panel of cells that are named by source (`init`), frozen units or settings."""
    metric = content.metric
    rows, seeds = [], []
    for position, (_, cell) in enumerate(cells.iterrows()):
        j, units = int(cell["j"]), ("none", *cell.get("units", ()))
        if by == "difference":
            plain = ["full fine-tuning"] if "=" not in cell[by] else []
            name = ", ".join([*plain, *filter(None, [cell[by].replace("train.", "")])])
        elif (cells[by] == cell[by]).sum() > 1:
            name = str(cell["label"])
        elif by == "init":
            name = str(cell.get("source", cell["init"])) if cell["k"] else "random"
        else:
            name = f"{j} {units[j]}" if j < len(units) else str(j)
        ends = {end: cell.get(f"{metric} {end}", np.nan) for end in ("low", "high")}
        rows.append({"cell": cell["cell"], "name": name, "value": cell[metric], **ends, "j": j})
        seeds.append(list_runs(content, cell).assign(position=position))
    runs = pd.concat(seeds).rename(columns={metric: "value"})
    return Panel(
        title, axis, pd.DataFrame(rows), runs.reindex(columns=["position", "seed", "value"])
    )


def plot_bars(panels: list[Panel], *, metric: str, width: float = style.FULL) -> Figure:
    """Plot cells as means with intervals, and each seed as a line through them, side by side."""
    sizes = [len(panel.cells) + 1 for panel in panels]
    inches = (width - 0.6) / sum(sizes)  # between two cells
    with style.drawing(width, 2.75) as figure:
        axes = figure.subplots(
            1, len(panels), squeeze=False, sharey=True, gridspec_kw={"width_ratios": sizes}
        )[0]
        pairs = zip(axes, panels, strict=True)
        height = max(_plot_panel(ax, panel, inches) for ax, panel in pairs)
        axes[0].set_ylabel(describe_metric(metric))
        figure.set_figheight(figure.get_figheight() + height)
    return figure


def _plot_panel(ax: Axes, panel: Panel, inches: float) -> float:
    """Plot a panel and return the height of its names in inches."""
    cells, places = panel.cells, range(len(panel.cells))
    x = np.arange(len(cells)) - 0.16  # left of its seeds
    is_frozen = cells["j"] > 0
    for rows, mark, colour in ((~is_frozen, "o", style.BLUE), (is_frozen, "s", style.ORANGE)):
        look = {"marker": mark, "color": colour, "ls": "", "ms": 5.5, "elinewidth": 1.6}
        style.plot_intervals(ax, x[rows], cells[rows], zorder=4, **look)
    seeds = panel.seeds.dropna(subset="value").drop_duplicates(["position", "seed"])
    lines = seeds.pivot(index="position", columns="seed", values="value").reindex(places)
    for i, (_, values) in enumerate(lines.items()):
        mark = style.MARKERS[i % len(style.MARKERS)]
        (line,) = ax.plot(lines.index + 0.12, values, color=style.GREY, lw=0.7, marker=mark)
        line.set(ms=3.6, mfc=style.SKY, mec="black", mew=0.5, zorder=3)
    height = style.name_ticks(ax, places, list(cells["name"]), inches)
    ax.set_xlim(-0.6, len(cells) - 0.4)
    ax.tick_params(axis="x", length=0)
    ax.margins(y=0.08)
    ax.grid(axis="y")
    title = style.wrap(panel.title, max(20, int(inches * (len(cells) + 0.6) * 72 / 4.5)))
    ax.set_title(title, fontweight="normal")
    ax.set_xlabel(panel.axis)
    return height
