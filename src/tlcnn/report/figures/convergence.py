"""How many steps a cell needs to reach a given validation score."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tlcnn.report.content import Content
from tlcnn.report.figures.choose import (
    choose_cells,
    find_val_metric,
    list_datasets,
    read_histories,
)
from tlcnn.report.figures.learning import choose_look
from tlcnn.report.figures.style import (
    FULL,
    GREY,
    Drawn,
    describe_metric,
    finish,
    list_words,
    make_figure,
    make_literal,
    styled,
    wrap,
)
from tlcnn.report.words import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARE = 0.9  # of the best cell's score: the threshold


def draw_convergence(content: Content) -> list[Drawn]:
    """Draw how fast the main cells learn, a panel a dataset."""
    tables, thresholds = {}, {}
    metric = "val/balanced_accuracy"
    for dataset in list_datasets(content):
        history = read_histories(content, choose_cells(content, dataset))
        if not len(history):
            continue
        metric = find_val_metric(content.metric, history)
        thresholds[dataset] = SHARE * compute_best(history, metric)
        tables[dataset] = compute_steps(history, metric, thresholds[dataset])
    if not tables:
        return []
    said = [f"{value:.3f} on {name_dataset(dataset)}" for dataset, value in thresholds.items()]
    return [
        Drawn(
            name="convergence",
            title="Steps until a network is nearly as good as the best",
            caption=(
                f"Optimiser steps until the {describe_metric(metric)} of a run first reaches "
                f"{100 * SHARE:.0f} % of the best cell's highest mean ({list_words(said)}). Each "
                "mark is one seed, the bar their median. Scores are taken once an epoch, so steps "
                "are whole epochs (upper axis). An open mark at `never` is a run that has not "
                "reached the threshold in the steps that it was given. Steps are no seconds: a "
                "step with frozen units is cheaper."
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
        medians = table.assign(step=table["step"].fillna(np.inf)).groupby("label", sort=False)
        middle = medians["step"].median()
        parts = [
            f"{label}: {f'{step:,.0f} steps' if np.isfinite(step) else 'not reached'}"
            for label, step in middle.items()
        ]
        lines.append(f"On {name_dataset(dataset)}, medians are {'; '.join(parts)}.")
    return lines


def compute_best(history: pd.DataFrame, metric: str) -> float:
    """Return the highest mean over seeds of any cell at any epoch."""
    return float(history.groupby(["cell", "epoch"])[metric].mean().max())


def compute_steps(history: pd.DataFrame, metric: str, threshold: float) -> pd.DataFrame:
    """Return when each run first reached a score.

    Returns:
        One row a run: cell, label, j, seed, step and epoch (NaN where never), and the last
        step and epoch that it was given.
    """
    rows = []
    for (cell, seed), run in history.groupby(["cell", "seed"], sort=False):
        run = run.sort_values("epoch")
        there = run[run[metric] >= threshold]
        first = there.iloc[0] if len(there) else None
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
        tables: of each dataset, what `compute_steps` returned.
        width: inches; below 5 the panels stand on each other.
    """
    n = len(tables)
    per_row = 1 if width < 5 else min(n, 2)
    n_rows = -(-n // per_row)
    letters = 25 if width / per_row < 5 else 44
    labels = [wrap(label, letters) for table in tables.values() for label in table["label"]]
    lines = max(label.count("\n") for label in labels) + 1
    most = max(table["cell"].nunique() for table in tables.values())
    with styled():
        figure = make_figure(width, n_rows * (1.0 + max(0.3, 0.06 + 0.115 * lines) * most))
        axes = figure.subplots(n_rows, per_row, squeeze=False).ravel()
        for ax, (dataset, table) in zip(axes, tables.items(), strict=False):
            _plot_panel(ax, table, letters)
            ax.set_title(make_literal(name_dataset(dataset), 30))
        for ax in axes[n:]:
            ax.set_axis_off()
        return finish(figure)


def _plot_panel(ax: "Axes", table: pd.DataFrame, letters: int) -> None:
    edge = float(table["last_step"].max()) * 1.18
    labels = []
    for i, (_, rows) in enumerate(table.groupby("cell", sort=False)):
        look = choose_look(i, is_frozen=int(rows["j"].iloc[0]) > 0)
        place = i + _spread(rows["step"].fillna(edge).to_numpy())
        reached = rows["step"].notna().to_numpy()
        mark = {"ls": "", "marker": look["marker"], "clip_on": False, "ms": 5, "zorder": 3}
        steps = rows["step"].to_numpy()
        inks = (look["color"], "white")
        for at, x, (fill, line) in ((reached, steps, inks), (~reached, edge, inks[::-1])):
            if at.any():  # an empty line that is not clipped breaks the layout
                where = np.broadcast_to(x, len(at))[at]
                ax.plot(
                    where,
                    place[at],
                    mfc=fill,
                    mec=line,
                    mew=0.7 if fill == "white" else 0.3,
                    **mark,
                )
        middle = float(np.median(np.where(reached, steps, np.inf)))
        if np.isfinite(middle):
            ax.plot([middle] * 2, [i - 0.38, i + 0.38], color="black", lw=1, zorder=2)
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
        at = np.flatnonzero(values == value)
        shifts[at] = 0.21 * (np.arange(len(at)) - (len(at) - 1) / 2)
    return shifts


def _set_steps(ax: "Axes", table: pd.DataFrame, edge: float) -> None:
    from matplotlib.ticker import MaxNLocator

    last = float(table["last_step"].max())
    ticks = [t for t in MaxNLocator(4, integer=True).tick_values(0, last) if 0 <= t <= last]
    labels = [f"{tick:,.0f}" for tick in ticks]
    if table["step"].isna().any():
        ax.axvline(edge, color=GREY, lw=0.8, ls=(0, (2, 2)))
        ticks, labels = [*ticks, edge], [*labels, "never"]
    ax.set_xticks(ticks, labels)


def _add_epochs(ax: "Axes", table: pd.DataFrame) -> None:
    """Show epochs on the upper axis where all runs have the same number of steps in one."""
    from matplotlib.ticker import MaxNLocator

    paces = (table["last_step"] / table["last_epoch"]).unique()
    if len(paces) != 1 or not paces[0] > 0:
        return
    pace = float(paces[0])
    upper = ax.secondary_xaxis("top", functions=(_divide_by(pace), _divide_by(1 / pace)))
    last = float(table["last_epoch"].max())
    ticks = [t for t in MaxNLocator(5, integer=True).tick_values(0, last) if 0 <= t <= last]
    upper.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    upper.set_xlabel("epochs")


def _divide_by(pace: float) -> Callable[[Any], Any]:
    return lambda steps: np.asarray(steps, dtype=float) / pace
