"""Learning curves: the validation score of the main cells over epochs."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tlcnn.report.content import Content
from tlcnn.report.figures import style
from tlcnn.report.figures.choose import find_val_metric, list_histories
from tlcnn.report.numbers import describe_metric
from tlcnn.report.words import join_words, name_dataset
from tlcnn.text import count


def draw_learning(content: Content) -> Iterator[style.ReportFigure]:
    """Draw the learning curves of the main cells, a panel a dataset."""
    histories = dict(list_histories(content))
    if not histories:
        return
    metric = find_val_metric(content.metric, pd.concat(histories.values()))
    counts = [history.groupby("cell")["seed"].nunique() for history in histories.values()]
    fewest, most = int(pd.concat(counts).min()), int(pd.concat(counts).max())
    n_seeds = count(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    ends = []
    for dataset, history in histories.items():
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
            f"{style.begin(describe_metric(metric))} after each epoch, for the main cells of "
            f"{join_words([name_dataset(name) for name in histories])}. Lines are means over "
            f"{n_seeds}. Bands reach from the lowest to the highest seed and are no "
            "confidence intervals. Cells with solid lines train all units; those with broken "
            "lines and open marks freeze some. Each run's epoch is chosen by its own curve, "
            "so the highest point of a curve is too optimistic; test scores are not."
        ),
        figure=plot_learning(histories, metric=metric),
        alt=f"Lines of {describe_metric(metric)} over epochs. {' '.join(ends)}",
        section="training",
    )


def plot_learning(histories: Mapping[str, pd.DataFrame], *, metric: str) -> Figure:
    """Plot a score over epochs, a panel a dataset, a line a cell.

    Args:
        histories: columns cell, label, j, seed, epoch and the metric, by dataset.
    """
    per_row = min(len(histories), 2)
    n_columns = 3 - per_row  # of a legend: the same width in a panel of a row or of half a row
    names = {
        dataset: [style.wrap(label, 48) for label in history.drop_duplicates("cell")["label"]]
        for dataset, history in histories.items()
    }
    lines = max(
        -(-sum(name.count("\n") + 1 for name in labels) // n_columns) for labels in names.values()
    )
    height = 2.35 + 0.145 * lines
    with style.drawing_panels(len(histories), per_row, height) as (figure, axes):
        for ax, (dataset, history) in zip(axes, histories.items(), strict=True):
            handles = _plot_panel(ax, history, metric)
            ax.set_title(style.make_literal(name_dataset(dataset), 30))
            style.add_legend(ax, handles, names[dataset], n_columns, gap=0.42)
    return figure


def _plot_panel(ax: Axes, history: pd.DataFrame, metric: str) -> list[Any]:
    handles = []
    for i, (_, rows) in enumerate(history.groupby("cell", sort=False)):
        curve = rows.groupby("epoch")[metric].agg(["mean", "min", "max"])
        look = style.choose_look(i, rows["j"].iloc[0])
        step = max(1, len(curve) // 6)
        handles += ax.plot(curve.index, curve["mean"], markevery=(i % step, step), ms=3.5, **look)
        if rows["seed"].nunique() > 1:
            low, high = curve["min"], curve["max"]
            ax.fill_between(curve.index, low, high, color=look["color"], alpha=0.13, lw=0)
    first, last = history["epoch"].min(), history["epoch"].max()
    ax.set(xlim=(first - 0.3, last + 0.3), xlabel="epoch", ylabel=describe_metric(metric))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.grid(axis="y")
    return handles
