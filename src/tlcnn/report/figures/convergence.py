"""How many steps a cell needs to reach a given validation score."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tlcnn.report.content import Content
from tlcnn.report.figures import style
from tlcnn.report.figures.choose import find_val_metric, list_histories
from tlcnn.report.numbers import describe_metric
from tlcnn.report.words import join_words, name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARE = 0.9  # of the best cell's score: the threshold


def draw_convergence(content: Content) -> Iterator[style.ReportFigure]:
    """Draw how fast the main cells learn, a panel a dataset."""
    tables, thresholds, medians = {}, [], []
    metric = "val/balanced_accuracy"
    for dataset, history in list_histories(content):
        metric = find_val_metric(content.metric, history)
        best = float(history.groupby(["cell", "epoch"])[metric].mean().max())
        thresholds.append(f"{SHARE * best:.3f} on {name_dataset(dataset)}")
        table = tables[dataset] = compute_steps(history, metric, SHARE * best)
        steps = table.fillna({"step": np.inf}).groupby("label", sort=False)["step"].median()
        parts = [
            f"{label}: {f'{median:,.0f} steps' if np.isfinite(median) else 'not reached'}"
            for label, median in steps.items()
        ]
        medians.append(f"On {name_dataset(dataset)}, medians are {'; '.join(parts)}.")
    if tables:
        yield style.ReportFigure(
            name="convergence",
            title="Steps until a network is nearly as good as the best",
            caption=(
                f"Optimiser steps until the {describe_metric(metric)} of a run first reaches "
                f"{100 * SHARE:.0f} % of the best cell's highest mean ({join_words(thresholds)}). "
                "Each mark is one seed, the bar their median. Scores are computed once an epoch, "
                "so steps are whole epochs (upper axis). An open mark at “never” is a run that "
                "did not reach the threshold. Steps do not measure time: a step with frozen units "
                "takes less of it."
            ),
            figure=plot_convergence(tables),
            alt=f"Dot plot of steps to the threshold. {' '.join(medians)}",
            wide=True,
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


def plot_convergence(tables: Mapping[str, pd.DataFrame]) -> "Figure":
    """Plot a mark a run at the step where it was good enough, a row a cell, a panel a dataset.

    Args:
        tables: what `compute_steps` returned, by dataset.
    """
    per_row = min(len(tables), 2)
    n_rows = -(-len(tables) // per_row)
    letters = 44 if per_row == 1 else 25
    labels = [style.wrap(label, letters) for table in tables.values() for label in table["label"]]
    lines = max(label.count("\n") for label in labels) + 1
    most = max(table["cell"].nunique() for table in tables.values())
    height = n_rows * (1.0 + max(0.3, 0.06 + 0.115 * lines) * most)
    with style.drawing(style.FULL, height) as figure:
        axes = style.add_panels(figure, len(tables), per_row)
        for ax, (dataset, table) in zip(axes, tables.items(), strict=True):
            _plot_panel(ax, table, letters)
            ax.set_title(style.make_literal(name_dataset(dataset), 30))
    return figure


def _plot_panel(ax: "Axes", table: pd.DataFrame, letters: int) -> None:
    last_step, last_epoch = float(table["last_step"].max()), float(table["last_epoch"].max())
    edge = 1.18 * last_step
    labels = []
    for i, (_, rows) in enumerate(table.groupby("cell", sort=False)):
        look = style.choose_look(i, is_frozen=int(rows["j"].iloc[0]) > 0)
        equal = rows.fillna({"step": edge}).groupby("step")["step"]  # side by side, all are seen
        y = i + 0.21 * (equal.cumcount() - (equal.transform("size") - 1) / 2)
        mark: dict[str, Any] = {
            "ls": "",
            "marker": look["marker"],
            "clip_on": False,
            "ms": 5,
            "zorder": 3,
        }
        is_reached = rows["step"].notna()
        if is_reached.any():  # an empty line that is not clipped breaks the layout
            full: dict[str, Any] = {"mfc": look["color"], "mec": "white", "mew": 0.3}
            ax.plot(rows["step"][is_reached], y[is_reached], **full, **mark)
        if not is_reached.all():
            y = y[~is_reached]
            ax.plot([edge] * len(y), y, mfc="white", mec=look["color"], mew=0.7, **mark)
        median = float(rows["step"].fillna(np.inf).median())
        if np.isfinite(median):
            ax.plot([median] * 2, [i - 0.38, i + 0.38], color="black", lw=1, zorder=2)
        labels.append(style.wrap(rows["label"].iloc[0], letters))
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlim(0, edge)
    ax.set_xlabel("optimiser steps")
    ax.grid(axis="x")
    ticks = _list_ticks(4, last_step)
    names = [f"{tick:,.0f}" for tick in ticks]
    if table["step"].isna().any():
        ax.axvline(edge, color=style.GREY, lw=0.8, ls=(0, (2, 2)))
        ticks, names = [*ticks, edge], [*names, "never"]
    ax.set_xticks(ticks, names)
    paces = (table["last_step"] / table["last_epoch"]).unique()
    if len(paces) == 1 and paces[0] > 0:  # the epochs of all runs have equally many steps
        pace = float(paces[0])
        scales: Any = (lambda x: x / pace, lambda x: x * pace)
        upper = ax.secondary_xaxis("top", functions=scales)
        ticks = _list_ticks(5, last_epoch)
        upper.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        upper.set_xlabel("epochs")


def _list_ticks(n_most: int, last: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(n_most, integer=True).tick_values(0, last)
    return [float(tick) for tick in ticks if 0 <= tick <= last]
