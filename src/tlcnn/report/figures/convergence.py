"""How many steps a cell needs to reach a given validation score."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
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

SHARE = 0.9  # of the best cell's score: the threshold


def draw_convergence(content: Content) -> Iterator[style.ReportFigure]:
    """Draw how fast the main cells learn, a panel a dataset."""
    tables, thresholds, medians, hidden = {}, [], [], ""
    metric = "val/balanced_accuracy"
    for dataset, history in list_histories(content):
        metric = find_val_metric(content.metric, history)
        threshold = SHARE * float(history.groupby(["cell", "epoch"])[metric].mean().max())
        thresholds.append(f"{threshold:.3f} on {name_dataset(dataset)}")
        table = tables[dataset] = compute_steps(history, metric, threshold)
        hidden += describe_hidden(content, dataset, set(history["cell"]))
        steps = table.fillna({"step": np.inf}).groupby("label", sort=False)["step"].median()
        parts = [
            f"{label}: {f'{median:,.0f} steps' if np.isfinite(median) else 'not reached'}"
            for label, median in steps.items()
        ]
        medians.append(f"On {name_dataset(dataset)}, medians are {'; '.join(parts)}.")
    if tables:
        yield style.ReportFigure(
            name="convergence",
            title=f"First epoch at {100 * SHARE:.0f} % of the best validation score",
            caption=(
                f"The first epoch at which the {describe_metric(metric)} of a run reaches a "
                f"threshold: {join_words(thresholds)}. That is {100 * SHARE:.0f} % of the highest "
                "mean over seeds that any of these cells reaches. "
                f"{MAIN_CELLS}{hidden} "
                "Each mark is one seed, the bar their median. Scores are computed once an epoch, "
                "so optimiser steps (lower axis) are whole epochs (upper axis). An open mark at "
                "“never” is a run that did not reach the threshold. Steps do not measure time: a "
                "step with frozen units takes less of it."
            ),
            figure=plot_convergence(tables),
            alt=f"Dot plot of steps to the threshold. {' '.join(medians)}",
            section="training",
        )


def compute_steps(history: pd.DataFrame, metric: str, threshold: float) -> pd.DataFrame:
    """Return when each run first reached a score.

    Returns:
        One row a run: cell, label, j, seed, step and epoch (NaN where never), last_step and
        last_epoch.
    """
    by = ["cell", "seed"]
    table = history.groupby(by, sort=False).agg(
        label=("label", "first"),
        j=("j", "first"),
        last_step=("step", "max"),
        last_epoch=("epoch", "max"),
    )
    reached = history[history[metric] >= threshold].groupby(by)[["step", "epoch"]].min()
    return table.join(reached).reset_index()


def plot_convergence(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot what `compute_steps` returned: a mark a run, a row a cell, a panel a dataset."""
    per_row = min(len(tables), 2)
    letters = 44 if per_row == 1 else 25
    labels = [style.wrap(label, letters) for table in tables.values() for label in table["label"]]
    lines = max(label.count("\n") for label in labels) + 1
    n_most = max(table["cell"].nunique() for table in tables.values())
    height = 1.0 + max(0.3, 0.06 + 0.115 * lines) * n_most
    with style.drawing_panels(len(tables), per_row, height) as (figure, axes):
        for ax, (dataset, table) in zip(axes, tables.items(), strict=True):
            _plot_panel(ax, table, letters)
            ax.set_title(style.make_literal(name_dataset(dataset), 30))
    return figure


def _plot_panel(ax: Axes, table: pd.DataFrame, letters: int) -> None:
    last_step, last_epoch = float(table["last_step"].max()), float(table["last_epoch"].max())
    never = 1.18 * last_step
    labels = []
    for i, (_, rows) in enumerate(table.groupby("cell", sort=False)):
        look = style.choose_look(i, rows["j"].iloc[0])
        x = rows["step"].fillna(never)
        equal = x.groupby(x)  # side by side, all are seen
        y = i + 0.21 * (equal.cumcount() - (equal.transform("size") - 1) / 2)
        for points, face, rim, width in (
            (x < never, look["color"], "white", 0.3),
            (x == never, "white", look["color"], 0.7),
        ):
            if points.any():  # an empty line that is not clipped breaks the layout
                mark = {"marker": look["marker"], "ms": 5, "mfc": face, "mec": rim, "mew": width}
                ax.plot(x[points], y[points], ls="", clip_on=False, zorder=3, **mark)
        median = rows["step"].fillna(np.inf).median()
        if np.isfinite(median):
            ax.plot([median] * 2, [i - 0.38, i + 0.38], color="black", lw=1, zorder=2)
        labels.append(style.wrap(rows["label"].iloc[0], letters))
    ax.set_yticks(range(len(labels)), labels)
    ax.set(xlim=(0, never), ylim=(len(labels) - 0.4, -0.6), xlabel="optimiser steps")
    ax.grid(axis="x")
    ticks = _list_ticks(4, last_step)
    names = [f"{tick:,.0f}" for tick in ticks]
    if table["step"].isna().any():
        ax.axvline(never, color=style.GREY, lw=0.8, ls=(0, (2, 2)))
        ticks, names = [*ticks, never], [*names, "never"]
    ax.set_xticks(ticks, names)
    paces = (table["last_step"] / table["last_epoch"]).unique()
    if len(paces) == 1 and paces[0] > 0:  # the epochs of all runs have equally many steps
        to_epochs, to_steps = partial(np.multiply, 1 / paces[0]), partial(np.multiply, paces[0])
        upper = ax.secondary_xaxis("top", functions=(to_epochs, to_steps))
        ticks = _list_ticks(5, last_epoch)
        upper.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        upper.set_xlabel("epochs")


def _list_ticks(n_most: int, last: float) -> list[float]:
    ticks = MaxNLocator(n_most, integer=True).tick_values(0, last)
    return [float(tick) for tick in ticks if 0 <= tick <= last]
