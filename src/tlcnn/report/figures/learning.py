"""Learning curves: the validation score of the main cells over epochs."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tlcnn.report.content import Content
from tlcnn.report.figures import style
from tlcnn.report.figures.choose import (
    MAIN_CELLS,
    describe_hidden,
    find_val_metric,
    list_histories,
)
from tlcnn.report.numbers import describe_metric
from tlcnn.report.words import join_words, name_dataset
from tlcnn.text import count

_FEW = 8  # epochs between which the marks of all cells have room


def draw_learning(content: Content) -> Iterator[style.ReportFigure]:
    """Draw the learning curves of the main cells."""
    histories = dict(list_histories(content))
    if not histories:
        return
    metric = find_val_metric(content.metric, pd.concat(histories.values()))
    counts = [history.groupby("cell")["seed"].nunique() for history in histories.values()]
    fewest, most = int(pd.concat(counts).min()), int(pd.concat(counts).max())
    n_seeds = count(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    ends, hidden = [], ""
    for dataset, history in histories.items():
        hidden += describe_hidden(content, dataset, set(history["cell"]))
        last = history.sort_values("epoch").groupby(["cell", "seed"]).tail(1)
        means = last.groupby("label")[metric].mean().sort_values()
        ends.append(
            f"On {name_dataset(dataset)}, {means.index[-1]} ends highest ({means.iloc[-1]:.3f})"
            + (f" and {means.index[0]} lowest ({means.iloc[0]:.3f})." if len(means) > 1 else ".")
        )
    yield style.ReportFigure(
        name="learning",
        title="Learning curves",
        caption=(
            f"{style.begin(describe_metric(metric))} after each epoch on "
            f"{join_words([name_dataset(name) for name in histories])}. {MAIN_CELLS}{hidden} "
            f"Lines are means over {n_seeds}. Bars reach from the lowest to the highest seed and "
            "are no confidence intervals. Panels have scales of their own. Each run's epoch is "
            "chosen by its own curve, so the highest point of a curve is too optimistic. Test "
            "scores played no part in choosing the epoch."
        ),
        figure=plot_learning(histories, metric=metric),
        alt=f"Lines of {describe_metric(metric)} over epochs. {' '.join(ends)}",
        section="training",
    )


def plot_learning(histories: Mapping[str, pd.DataFrame], *, metric: str) -> Figure:
    """Plot a score over epochs: for each dataset a panel of cells that train all units, and one of
    cells that freeze some; a line a cell.

    Args:
        histories: columns cell, label, j, seed, epoch and the metric, by dataset.
    """
    panels = []
    for dataset, history in histories.items():
        numbers = {cell: i for i, cell in enumerate(dict.fromkeys(history["cell"]))}
        history, is_frozen = history.assign(number=history["cell"].map(numbers)), history["j"] > 0
        name = style.make_literal(name_dataset(dataset), 30)
        parts = ((history[~is_frozen], "all units trained"), (history[is_frozen], "some frozen"))
        panels += [(f"{name}: {kind}", part) for part, kind in parts if len(part)]
    per_row = min(len(panels), 2)
    n_columns = 3 - per_row  # of a legend: the same width in a panel of a row or of half a row
    names = [
        [style.wrap(label, 48) for label in part.drop_duplicates("cell")["label"]]
        for _, part in panels
    ]
    lines = max(-(-sum(name.count("\n") + 1 for name in labels) // n_columns) for labels in names)
    height = 2.35 + 0.145 * lines
    with style.drawing_panels(len(panels), per_row, height) as (figure, axes):
        for ax, (title, part), labels in zip(axes, panels, names, strict=True):
            handles = _plot_panel(ax, part, metric)
            ax.set_title(title)
            style.add_legend(ax, handles, labels, n_columns, gap=0.42)
    return figure


def _plot_panel(ax: Axes, history: pd.DataFrame, metric: str) -> list[Any]:
    handles = []
    first, last = history["epoch"].min(), history["epoch"].max()
    n_cells = history["cell"].nunique()
    for i, (_, rows) in enumerate(history.groupby("cell", sort=False)):
        curve = rows.groupby("epoch")[metric].agg(["mean", "min", "max"])
        look = style.choose_look(int(rows["number"].iloc[0]), rows["j"].iloc[0])
        step = max(1, len(curve) // 6)
        # Few epochs have room for the cells side by side.
        x = curve.index + (0.5 * ((i + 0.5) / n_cells - 0.5) if last - first < _FEW else 0.0)
        marks = slice(i % step, None, step)
        handles += ax.plot(x, curve["mean"], markevery=(i % step, step), ms=4.2, mew=0.9, **look)
        if rows["seed"].nunique() > 1:
            ends = curve.iloc[marks]
            ax.vlines(x[marks], ends["min"], ends["max"], color=look["color"], lw=0.8)
    ax.set(xlim=(first - 0.3, last + 0.3), xlabel="epoch", ylabel=describe_metric(metric))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.grid(axis="y")
    return handles
