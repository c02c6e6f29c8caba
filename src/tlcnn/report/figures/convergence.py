"""How many steps a cell needs to reach a given validation score."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tlcnn.report.content import Content
from tlcnn.report.figures.choose import find_val_metric, list_histories
from tlcnn.report.figures.style import (
    FULL,
    GREY,
    ReportFigure,
    add_panels,
    choose_look,
    drawing,
    make_literal,
    wrap,
)
from tlcnn.report.numbers import describe_metric
from tlcnn.study.cells import name_dataset
from tlcnn.study.words import join_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARE = 0.9  # of the best cell's score: the threshold


def draw_convergence(content: Content) -> list[ReportFigure]:
    """Draw how fast the main cells learn, a panel a dataset."""
    tables, thresholds = {}, []
    metric = "val/balanced_accuracy"
    for dataset, history in list_histories(content):
        metric = find_val_metric(content.metric, history)
        best = float(history.groupby(["cell", "epoch"])[metric].mean().max())
        thresholds.append(f"{SHARE * best:.3f} on {name_dataset(dataset)}")
        tables[dataset] = compute_steps(history, metric, SHARE * best)
    if not tables:
        return []
    return [
        ReportFigure(
            name="convergence",
            title="Steps until a network is nearly as good as the best",
            caption=(
                f"Optimiser steps until the {describe_metric(metric)} of a run first reaches "
                f"{100 * SHARE:.0f} % of the best cell's highest mean ({join_words(thresholds)}). "
                "Each mark is one seed, the bar their median. Scores are computed once an epoch, "
                "so steps are whole epochs (upper axis). An open mark at `never` is a run that "
                "did not reach the threshold. Steps do not measure time: a step with frozen units "
                "takes less of it."
            ),
            figure=plot_convergence(tables, width=FULL),
            alt=f"Dot plot of steps to the threshold. {' '.join(_describe(tables))}",
            wide=True,
            section="training",
        )
    ]


def _describe(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    lines = []
    for dataset, table in tables.items():
        steps = table.assign(step=table["step"].fillna(np.inf))
        parts = [
            f"{label}: {f'{median:,.0f} steps' if np.isfinite(median) else 'not reached'}"
            for label, median in steps.groupby("label", sort=False)["step"].median().items()
        ]
        lines.append(f"On {name_dataset(dataset)}, medians are {'; '.join(parts)}.")
    return lines


def compute_steps(history: pd.DataFrame, metric: str, threshold: float) -> pd.DataFrame:
    """Return when each run first reached a score.

    Returns:
        One row a run: cell, label, j, seed, step and epoch (NaN where never), last_step and
        last_epoch.
    """
    rows = []
    for (cell, seed), run in history.groupby(["cell", "seed"], sort=False):
        run = run.sort_values("epoch")
        reached = run[run[metric] >= threshold]
        first = reached.iloc[0] if len(reached) else None
        rows.append(
            {
                "cell": cell,
                "label": run["label"].iloc[0],
                "j": run["j"].iloc[0],
                "seed": seed,
                "step": float("nan") if first is None else first["step"],
                "epoch": float("nan") if first is None else first["epoch"],
                "last_step": run["step"].max(),
                "last_epoch": run["epoch"].max(),
            }
        )
    return pd.DataFrame(rows)


def plot_convergence(tables: Mapping[str, pd.DataFrame], *, width: float = FULL) -> "Figure":
    """Plot a mark a run at the step where it was good enough, a row a cell, a panel a dataset.

    Args:
        tables: what `compute_steps` returned, by dataset.
        width: inches; below 5 the panels are in one column.
    """
    n = len(tables)
    per_row = 1 if width < 5 else min(n, 2)
    n_rows = -(-n // per_row)
    letters = 25 if width / per_row < 5 else 44
    labels = [wrap(label, letters) for table in tables.values() for label in table["label"]]
    lines = max(label.count("\n") for label in labels) + 1
    most = max(table["cell"].nunique() for table in tables.values())
    with drawing(width, n_rows * (1.0 + max(0.3, 0.06 + 0.115 * lines) * most)) as figure:
        axes = add_panels(figure, n, per_row)
        for ax, (dataset, table) in zip(axes, tables.items(), strict=True):
            _plot_panel(ax, table, letters)
            ax.set_title(make_literal(name_dataset(dataset), 30))
    return figure


def _plot_panel(ax: "Axes", table: pd.DataFrame, letters: int) -> None:
    edge = float(table["last_step"].max()) * 1.18
    labels = []
    for i, (_, rows) in enumerate(table.groupby("cell", sort=False)):
        look = choose_look(i, is_frozen=int(rows["j"].iloc[0]) > 0)
        mark = {"ls": "", "marker": look["marker"], "clip_on": False, "ms": 5, "zorder": 3}
        colour, steps = look["color"], rows["step"].to_numpy()
        y = i + _spread(rows["step"].fillna(edge).to_numpy())
        is_reached = ~np.isnan(steps)
        if is_reached.any():  # an empty line that is not clipped breaks the layout
            x = steps[is_reached]
            ax.plot(x, y[is_reached], mfc=colour, mec="white", mew=0.3, **mark)
        if not is_reached.all():
            x = np.full((~is_reached).sum(), edge)
            ax.plot(x, y[~is_reached], mfc="white", mec=colour, mew=0.7, **mark)
        median = float(np.median(np.where(is_reached, steps, np.inf)))
        if np.isfinite(median):
            ax.plot([median] * 2, [i - 0.38, i + 0.38], color="black", lw=1, zorder=2)
        labels.append(wrap(rows["label"].iloc[0], letters))
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlim(0, edge)
    ax.set_xlabel("optimiser steps")
    ax.grid(axis="x")
    _set_steps(ax, table, edge)
    _add_epochs(ax, table)


def _spread(values: np.ndarray) -> np.ndarray:
    """Return small shifts, (n,), so that equal values do not hide each other."""
    shifts = np.zeros(len(values))
    for value in np.unique(values):
        equal = np.flatnonzero(values == value)
        shifts[equal] = 0.21 * (np.arange(len(equal)) - (len(equal) - 1) / 2)
    return shifts


def _set_steps(ax: "Axes", table: pd.DataFrame, edge: float) -> None:
    ticks = _list_ticks(4, float(table["last_step"].max()))
    labels = [f"{tick:,.0f}" for tick in ticks]
    if table["step"].isna().any():
        ax.axvline(edge, color=GREY, lw=0.8, ls=(0, (2, 2)))
        ticks, labels = [*ticks, edge], [*labels, "never"]
    ax.set_xticks(ticks, labels)


def _add_epochs(ax: "Axes", table: pd.DataFrame) -> None:
    """Show epochs on the upper axis where all runs have the same number of steps in one."""
    paces = (table["last_step"] / table["last_epoch"]).unique()
    if len(paces) != 1 or not paces[0] > 0:
        return
    pace = float(paces[0])
    upper = ax.secondary_xaxis(
        "top",
        functions=(lambda x: np.asarray(x, float) / pace, lambda x: np.asarray(x, float) * pace),
    )
    ticks = _list_ticks(5, float(table["last_epoch"].max()))
    upper.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    upper.set_xlabel("epochs")


def _list_ticks(n_most: int, last: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(n_most, integer=True).tick_values(0, last)
    return [float(tick) for tick in ticks if 0 <= tick <= last]
