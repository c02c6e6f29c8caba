"""Learning curves: the validation score of the main cells over epochs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from tlcnn.report.content import Content
from tlcnn.report.figures.choose import find_val_metric, list_histories
from tlcnn.report.figures.style import (
    FULL,
    ReportFigure,
    add_legend,
    add_panels,
    begin,
    choose_look,
    drawing,
    make_literal,
    wrap,
)
from tlcnn.report.numbers import count, describe_metric
from tlcnn.study.cells import name_dataset
from tlcnn.study.words import join_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_learning(content: Content) -> list[ReportFigure]:
    """Draw the learning curves of the main cells, a panel a dataset."""
    histories = dict(list_histories(content))
    if not histories:
        return []
    metric = find_val_metric(content.metric, pd.concat(histories.values()))
    counts = [history.groupby("cell")["seed"].nunique() for history in histories.values()]
    fewest, most = int(pd.concat(counts).min()), int(pd.concat(counts).max())
    n_seeds = count(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    ends = [_describe_ends(dataset, history, metric) for dataset, history in histories.items()]
    return [
        ReportFigure(
            name="learning",
            title="Learning curves",
            caption=(
                f"{begin(describe_metric(metric))} after each epoch, for the main cells of "
                f"{join_words([name_dataset(name) for name in histories])}. Lines are means over "
                f"{n_seeds}. Bands reach from the lowest to the highest seed and are no "
                "confidence intervals. Cells with solid lines train all units; those with broken "
                "lines and open marks freeze some. Each run's epoch is chosen by its own curve, "
                "so the highest point of a curve is too optimistic; test scores are not."
            ),
            figure=plot_learning(histories, metric=metric, width=FULL),
            alt=f"Lines of {describe_metric(metric)} over epochs. {' '.join(ends)}",
            wide=True,
            section="training",
        )
    ]


def _describe_ends(dataset: str, history: pd.DataFrame, metric: str) -> str:
    last = history.sort_values("epoch").groupby(["cell", "seed"]).tail(1)
    means = last.groupby("label")[metric].mean().sort_values()
    first, final = means.index[-1], means.index[0]
    return (
        f"On {name_dataset(dataset)}, {first} ends highest ({means.iloc[-1]:.3f}) and {final} "
        f"lowest ({means.iloc[0]:.3f})."
    )


def plot_learning(
    histories: Mapping[str, pd.DataFrame], *, metric: str, width: float = FULL
) -> "Figure":
    """Plot a score over epochs, a panel a dataset, a line a cell.

    Args:
        histories: columns cell, label, j, seed, epoch and the metric, by dataset.
        metric: the column of the score.
        width: inches; below 5 the panels are in one column.
    """
    n = len(histories)
    longest = max(len(label) for history in histories.values() for label in history["label"])
    per_row = 1 if width < 5 else min(n, 3 if longest <= 28 else 2)
    n_rows = -(-n // per_row)
    legends = [_lay_out_legend(width / per_row, history) for history in histories.values()]
    lines = max(
        -(-sum(name.count("\n") + 1 for name in names) // n_columns)
        for names, n_columns in legends
    )
    with drawing(width, n_rows * (2.35 + 0.145 * lines)) as figure:
        axes = add_panels(figure, n, per_row)
        for ax, (dataset, history) in zip(axes, histories.items(), strict=True):
            _plot_panel(ax, history, metric, width / per_row)
            ax.set_title(make_literal(name_dataset(dataset), 30))
    return figure


def _lay_out_legend(width: float, history: pd.DataFrame) -> tuple[list[str], int]:
    """Return the names of the cells in lines, and the columns that fit below a panel.

    Args:
        width: the panel's width in inches.
    """
    labels = history.drop_duplicates("cell")["label"]
    names = [wrap(make_literal(label, 90), int((width - 0.8) * 72 / 4.2)) for label in labels]
    longest = max(len(line) for name in names for line in name.splitlines())
    return names, max(1, min(3, int((width - 0.5) / (0.062 * longest + 0.5))))


def _plot_panel(ax: "Axes", history: pd.DataFrame, metric: str, width: float) -> None:
    from matplotlib.ticker import MaxNLocator

    handles = []
    names, n_columns = _lay_out_legend(width, history)
    for i, (_, rows) in enumerate(history.groupby("cell", sort=False)):
        curve = rows.groupby("epoch")[metric].agg(["mean", "min", "max"])
        look = choose_look(i, is_frozen=int(rows["j"].iloc[0]) > 0)
        step = max(1, len(curve) // 6)
        epochs = curve.index.to_numpy(float)
        handles += ax.plot(
            epochs, curve["mean"].to_numpy(), markevery=(i % step, step), ms=3.5, **look
        )
        if rows["seed"].nunique() > 1:
            low, high = curve["min"].to_numpy(), curve["max"].to_numpy()
            ax.fill_between(epochs, low, high, color=look["color"], alpha=0.13, lw=0)
    ax.set_xlabel("epoch")
    ax.set_ylabel(describe_metric(metric))
    ax.grid(axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlim(history["epoch"].min() - 0.3, history["epoch"].max() + 0.3)
    add_legend(ax, handles, names, n_columns)
