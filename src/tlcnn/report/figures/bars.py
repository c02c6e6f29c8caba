"""Cells side by side, one dot each: mean and interval, and the seeds that they are paired by."""

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
    Drawn,
    begin,
    count,
    describe_metric,
    finish,
    make_figure,
    make_name,
    name_ticks,
    shorten,
    styled,
    wrap,
)
from tlcnn.report.words import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 8  # cells in one panel


@dataclass(frozen=True)
class Panel:
    """Cells that answer one question.

    Attributes:
        axis: what the names of the cells say.
        cells: columns name, value, low, high, j; one row a cell, in order.
        seeds: columns position (a row of `cells`), seed, value; one row a run.
    """

    title: str
    axis: str
    cells: pd.DataFrame
    seeds: pd.DataFrame


def draw_bars(content: Content) -> list[Drawn]:
    """Draw, for each dataset and model, where to start from and how much to freeze."""
    drawn = []
    for dataset in list_datasets(content):
        cells = content.cells[content.cells["dataset"] == dataset].drop_duplicates("cell")
        for model, mine in cells.groupby("model", sort=False):
            panels = _make_panels(content, dataset, mine)
            if panels:
                drawn.append(_draw(content, dataset, str(model), panels))
    return drawn


def _draw(content: Content, dataset: str, model: str, panels: list[Panel]) -> Drawn:
    score = describe_metric(content.metric)
    wide = sum(len(panel.cells) for panel in panels) > 4
    n_seeds = max(int(panel.seeds["seed"].nunique()) for panel in panels)
    best = [panel.cells.nlargest(1, "value").iloc[0] for panel in panels]
    said = [
        f"{panel.title}: highest is {row['name']} with {shorten(row['value'])}."
        for panel, row in zip(panels, best, strict=True)
    ]
    return Drawn(
        name=make_name("bars", dataset, model),
        title=f"Starts and frozen units, seed by seed: {name_dataset(dataset)}",
        caption=(
            f"{begin(score)} of {model} on {name_dataset(dataset)}, by where weights come "
            "from (all units transferred, none frozen) and by the frozen units. Filled marks are "
            "means over seeds with 95 % intervals (squares where units are frozen); small marks "
            "are single seeds, and a line joins the same seed in neighbouring cells. Seeds are "
            "paired (same draws, same test images), so lines that rise together show a "
            "difference that intervals side by side hide. "
            f"Up to {count(n_seeds, 'seed')} a cell."
        ),
        figure=plot_bars(panels, metric=content.metric, width=FULL if wide else COLUMN),
        alt=f"Means of {score} for {model} on {name_dataset(dataset)}. {' '.join(said)}",
        wide=wide,
        section="predictions",
    )


def _make_panels(content: Content, dataset: str, cells: pd.DataFrame) -> list[Panel]:
    """Return the questions that the cells of one model can answer: starts, frozen units."""
    depth = cells["k"].max()
    cells = cells[cells["init"] != "self"]
    starts = cells[((cells["k"] == depth) | (cells["k"] == 0)) & (cells["j"] == 0)]
    starts = sort_cells(starts).iloc[:MOST]
    panels = [("Where to start from", starts, "start")]
    init = _choose_init(content, dataset, cells, depth)
    ladder = cells[(cells["init"] == init) & (cells["k"] == depth) & (cells["k"] > 0)]
    ladder = ladder.sort_values("j", kind="stable").iloc[: MOST + 1]
    panels.append((f"How much to freeze ({_name_source(cells, init)})", ladder, "depth"))
    return [
        _make_panel(content, title, rows, by)
        for title, rows, by in panels
        if len(rows) > 1 and rows[content.metric].notna().any()
    ]


def _name_source(cells: pd.DataFrame, init: str) -> str:
    """Return a source in words."""
    rows = cells[cells["init"] == init]
    return str(rows["source"].iloc[0]) if "source" in rows and len(rows) else init


def _choose_init(content: Content, dataset: str, cells: pd.DataFrame, depth: int) -> str:
    """Return the source whose frozen units are shown: the best cell's, else the most trained."""
    deep = cells[(cells["k"] == depth) & (cells["k"] > 0)]
    sizes = deep.groupby("init")["j"].nunique()
    best = find_highlights(content, dataset)
    wanted = [init for init in best["init"] if sizes.get(init, 0) > 1]
    return str(wanted[0] if wanted else sizes.idxmax() if len(sizes) else "")


def _make_panel(content: Content, title: str, cells: pd.DataFrame, by: str) -> Panel:
    metric = content.metric
    rows, seeds = [], []
    same_name = cells.duplicated("init" if by == "start" else "j", keep=False)
    for position, (_, cell) in enumerate(cells.iterrows()):
        start = str(cell.get("source", cell["init"])) if cell["k"] else "random"
        name = start if by == "start" else _name_depth(cell)
        rows.append(
            {
                "name": str(cell["label"]) if same_name.iloc[position] else name,
                "value": cell[metric],
                "low": cell.get(f"{metric} low", np.nan),
                "high": cell.get(f"{metric} high", np.nan),
                "j": cell["j"],
            }
        )
        for _, run in list_runs(content, cell).iterrows():
            seeds.append({"position": position, "seed": run["seed"], "value": run.get(metric)})
    axis = "weights from" if by == "start" else "units frozen, through …"
    return Panel(
        title, axis, pd.DataFrame(rows), pd.DataFrame(seeds, columns=["position", "seed", "value"])
    )


def _name_depth(cell: pd.Series) -> str:
    j, units = int(cell["j"]), tuple(cell.get("units", ()))
    through = "none" if j == 0 else units[j - 1] if j <= len(units) else ""
    return f"{j} {through}".strip()


def plot_bars(panels: list[Panel], *, metric: str, width: float = FULL) -> "Figure":
    """Plot cells as means with intervals, and each seed as a line through them.

    Args:
        panels: one a question; they share the scale.
        metric: what the values are.
        width: inches; below 5 the panels stand on each other.
    """
    beside = width >= 5
    with styled():
        figure = make_figure(width, 3.0 if beside else 2.75 * len(panels))
        shares = [len(panel.cells) + 1 for panel in panels]
        axes = (
            figure.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=shares)
            if beside
            else figure.subplots(len(panels), 1, squeeze=False, sharey=True)
        ).ravel()
        inches = (width - 0.6) / sum(shares) if beside else (width - 0.6) / max(shares)
        for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
            _plot_panel(ax, panel, inches)
            if i == 0 or not beside:
                ax.set_ylabel(describe_metric(metric))
        axes[0].set_ylim(*_find_limits(panels))
        turned = [ax.get_xticklabels()[0].get_rotation() > 0 for ax in axes]
        more = 0.7 * (any(turned) if beside else sum(turned))
        figure.set_figheight(figure.get_figheight() + more)
        return finish(figure)


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
        colour = BLUE if row["j"] == 0 else ORANGE
        _plot_mean(ax, position, row, colour, "o" if row["j"] == 0 else "s")
    _plot_seeds(ax, panel.seeds)
    ax.set_xticks(range(len(cells)))
    name_ticks(ax.xaxis, list(cells["name"]), inches)
    ax.set_xlim(-0.6, len(cells) - 0.4)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")
    title = wrap(panel.title, max(20, int(inches * (len(cells) + 0.6) * 72 / 4.5)))
    ax.set_title(title, fontweight="normal")
    ax.set_xlabel(panel.axis)


def _plot_mean(ax: "Axes", x: float, row: dict[Any, Any], colour: str, marker: str) -> None:
    """Plot a cell's mean with its interval, left of its seeds."""
    value, low, high = row["value"], row["low"], row["high"]
    known = not (pd.isna(low) or pd.isna(high))
    reach = [[max(value - low, 0)], [max(high - value, 0)]] if known else None
    look: dict[str, Any] = {
        "color": colour,
        "marker": marker,
        "ms": 5.5,
        "elinewidth": 1.6,
        "zorder": 4,
    }
    ax.errorbar(x - 0.16, value, yerr=reach, **look)


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
