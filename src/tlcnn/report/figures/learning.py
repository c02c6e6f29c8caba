"""Learning curves: the validation score of the main cells over epochs."""

from collections.abc import Mapping
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
from tlcnn.report.figures.style import (
    COLOURS,
    DASHES,
    FULL,
    MARKERS,
    Drawn,
    add_legend,
    begin,
    count,
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


def draw_learning(content: Content) -> list[Drawn]:
    """Draw the learning curves of the main cells, a panel a dataset."""
    found = {
        dataset: read_histories(content, choose_cells(content, dataset))
        for dataset in list_datasets(content)
    }
    found = {dataset: history for dataset, history in found.items() if len(history)}
    if not found:
        return []
    metric = find_val_metric(content.metric, pd.concat(found.values()))
    seeds = sorted({int(n) for h in found.values() for n in h.groupby("cell")["seed"].nunique()})
    n_seeds = count(seeds[-1], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    ends = [_describe_ends(dataset, history, metric) for dataset, history in found.items()]
    return [
        Drawn(
            name="learning",
            title="Learning curves",
            caption=(
                f"{begin(describe_metric(metric))} after each epoch, for the main cells of "
                f"{list_words([name_dataset(name) for name in found])}. Lines are means over "
                f"{n_seeds}, bands reach from the lowest to the highest seed (they are no "
                "confidence intervals). Solid lines train all units, broken lines with open marks "
                "freeze some. The epoch of a run is chosen by its own curve, so the highest "
                "point of a curve flatters it; test scores do not."
            ),
            figure=plot_learning(found, metric=metric, width=FULL),
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
        histories: of each dataset, columns cell, label, j, seed, epoch and the metric.
        metric: a column of them.
        width: inches; below 5 the panels stand on each other.
    """
    n = len(histories)
    longest = max(len(label) for history in histories.values() for label in history["label"])
    per_row = 1 if width < 5 else min(n, 3 if longest <= 28 else 2)
    n_rows = -(-n // per_row)
    lines = max(_count_lines(width / per_row, history) for history in histories.values())
    with styled():
        figure = make_figure(width, n_rows * (2.35 + 0.145 * lines))
        axes = figure.subplots(n_rows, per_row, squeeze=False).ravel()
        for ax, (dataset, history) in zip(axes, histories.items(), strict=False):
            _plot_panel(ax, history, metric, width / per_row)
            ax.set_title(make_literal(name_dataset(dataset), 30))
        for ax in axes[n:]:
            ax.set_axis_off()
        return finish(figure)


def _list_names(width: float, history: pd.DataFrame) -> list[str]:
    """Return the names of the cells in lines that fit below a panel of this width, in inches."""
    labels = history.drop_duplicates("cell")["label"]
    return [wrap(make_literal(label, 90), int((width - 0.8) * 72 / 4.2)) for label in labels]


def _count_columns(width: float, names: list[str]) -> int:
    """Return how many columns of names fit below a panel of this width."""
    longest = max(len(line) for name in names for line in name.splitlines())
    return max(1, min(3, int((width - 0.5) / (0.062 * longest + 0.5))))


def _count_lines(width: float, history: pd.DataFrame) -> int:
    names = _list_names(width, history)
    return -(-sum(name.count("\n") + 1 for name in names) // _count_columns(width, names))


def _plot_panel(ax: "Axes", history: pd.DataFrame, metric: str, width: float) -> None:
    handles, names = [], _list_names(width, history)
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
    _set_epochs(ax, history["epoch"].to_numpy(float))
    add_legend(ax, handles, names, _count_columns(width, names))


def choose_look(number: int, *, is_frozen: bool) -> dict[str, Any]:
    """Return colour, mark and dash of the n-th cell; a solid line only where all is trained."""
    at = number % len(COLOURS)
    return {
        "color": COLOURS[at],
        "marker": MARKERS[at],
        "ls": DASHES[1 + number % (len(DASHES) - 1)] if is_frozen else "-",
        "mfc": "white" if is_frozen else COLOURS[at],
    }


def _set_epochs(ax: "Axes", epochs: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlim(epochs.min() - 0.3, epochs.max() + 0.3)
