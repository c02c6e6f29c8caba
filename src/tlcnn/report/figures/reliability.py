"""Does a network that says 80 % be right in 80 % of cases?"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tlcnn.report.content import Content
from tlcnn.report.figures.choose import list_datasets
from tlcnn.report.figures.predictions import Predicted, describe_test, load_highlights
from tlcnn.report.figures.style import (
    BLUE,
    FULL,
    GREY,
    ORANGE,
    Drawn,
    finish,
    make_figure,
    make_name,
    styled,
    wrap,
)
from tlcnn.study.cells import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 4  # cells in one picture


def draw_reliability(content: Content) -> list[Drawn]:
    """Draw the calibration of the highlighted cells, a picture a dataset."""
    drawn = []
    for dataset in list_datasets(content):
        shown = load_highlights(content, dataset, MOST)
        shown = [one for one in shown if not one.is_multi_label]
        if shown:
            drawn.append(_draw(dataset, shown))
    return drawn


def _draw(dataset: str, shown: list[Predicted]) -> Drawn:
    errors = [f"{100 * compute_errors(one).mean():.1f} points for {one.label}" for one in shown]
    return Drawn(
        name=make_name("reliability", dataset),
        title=f"Calibration: {name_dataset(dataset)}",
        caption=(
            f"Reliability of the most probable class on {name_dataset(dataset)}: "
            f"{describe_test(shown[0])}. Confidences of all seeds together are cut into 15 bins "
            "of equally many predictions; each mark is the share of right ones in a bin at its "
            "mean confidence, thin lines are single seeds. Marks below the diagonal are "
            "overconfident, marks above it underconfident. The expected calibration error (ECE) "
            "is the mean distance from the diagonal, computed for each seed alone and then "
            "averaged. Below, how often each confidence occurs."
        ),
        figure=plot_reliability(
            [one.label for one in shown],
            [one.probabilities.max(axis=2) for one in shown],
            [one.predicted == one.labels for one in shown],
            width=FULL,
        ),
        alt=f"Reliability diagrams. Expected calibration error: {'; '.join(errors)}.",
        wide=True,
        section="predictions",
    )


def compute_errors(shown: Predicted) -> np.ndarray:
    """Return the expected calibration error of each run, (S,)."""
    from tlcnn.statistics.ranking import compute_calibration_error

    confidence, right = shown.probabilities.max(axis=2), shown.predicted == shown.labels
    pairs = zip(confidence, right, strict=True)
    return np.array([compute_calibration_error(c, r) for c, r in pairs])


def compute_reliability(confidence: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """Return the bins of the expected calibration error: equal mass, equals share a bin.

    Args:
        confidence: (n,) of the most probable class.
        right: (n,) bool, whether it was the true one.

    Returns:
        One row a bin that is not empty: n, confidence and accuracy (means), ascending. The gaps,
        weighted by n, sum to n times `compute_calibration_error`.
    """
    from tlcnn.statistics.ranking import N_BINS

    rank = np.searchsorted(np.sort(confidence), confidence)
    bins = pd.DataFrame({"confidence": confidence, "accuracy": right.astype(float)})
    grouped = bins.groupby(rank * N_BINS // len(confidence))
    return grouped.mean().assign(n=grouped.size()).reset_index(drop=True)


def plot_reliability(
    labels: list[str],
    confidences: list[np.ndarray],
    rights: list[np.ndarray],
    *,
    width: float = FULL,
) -> "Figure":
    """Plot reliability diagrams over histograms of the confidences, a panel a cell.

    Args:
        labels: one a cell.
        confidences: (S, N) of each cell.
        rights: (S, N) bool of each cell.
        width: inches.
    """
    n = len(labels)
    per_row = n if width >= 5 else min(n, 2)
    n_rows = -(-n // per_row)
    side = min((width - 0.4) / max(per_row, 2), 2.9)
    with styled():
        figure = make_figure(width, n_rows * (side + 0.75))
        heights = [3.4, 1] * n_rows
        parts = figure.subplots(
            2 * n_rows,
            per_row,
            squeeze=False,
            height_ratios=heights,
            sharex=True,
            sharey="row",
        )
        lowest = min(float(confidence.min()) for confidence in confidences)
        for i, label in enumerate(labels):
            row, column = divmod(i, per_row)
            above, below = parts[2 * row, column], parts[2 * row + 1, column]
            _plot_diagram(above, confidences[i], rights[i], lowest)
            _plot_histogram(below, confidences[i], lowest)
            above.set_title(wrap(label, int(side * 72 / 5.2)), fontweight="normal")
        for ax in parts.T.ravel()[2 * n :] if n < parts.size // 2 else ():
            ax.set_axis_off()
        for above, below in zip(parts[::2], parts[1::2], strict=True):
            _finish_row(above, below)
        figure.align_ylabels(parts[:, 0])
        return finish(figure)


def _finish_row(diagrams: "Sequence[Axes]", histograms: "Sequence[Axes]") -> None:
    """Name the axes of a row of panels, and make its histograms hold the highest bar of all."""
    diagrams[0].set_ylabel("share right")
    histograms[0].set_ylabel("share of\npredictions")
    top = max(bar.get_height() for ax in histograms for bar in ax.patches)  # type: ignore[attr-defined]
    histograms[0].set_ylim(0, 1.05 * top)


def _plot_diagram(ax: "Axes", confidence: np.ndarray, right: np.ndarray, lowest: float) -> None:
    from tlcnn.statistics.ranking import compute_calibration_error

    ax.plot([0, 1], [0, 1], color=GREY, lw=0.9, ls=(0, (4, 2)))
    if len(confidence) > 1:
        for one, hits in zip(confidence, right, strict=True):
            bins = compute_reliability(one, hits)
            ax.plot(bins["confidence"], bins["accuracy"], color=BLUE, lw=0.6, alpha=0.45)
    bins = compute_reliability(confidence.ravel(), right.ravel())
    ax.plot(bins["confidence"], bins["accuracy"], color=BLUE, marker="o", ms=3.2, lw=1.2)
    pairs = zip(confidence, right, strict=True)
    error = np.mean([compute_calibration_error(c, r) for c, r in pairs])
    ax.text(0.04, 0.95, f"ECE {error:.3f}", transform=ax.transAxes, va="top")
    ax.set(xlim=(lowest - 0.02, 1.01), ylim=(0, 1.02))
    ax.grid(True)
    ax.tick_params(labelbottom=False)


def _plot_histogram(ax: "Axes", confidence: np.ndarray, lowest: float) -> None:
    edges = np.linspace(np.floor(20 * lowest) / 20, 1, 16)
    shares = np.histogram(confidence.ravel(), bins=edges)[0] / confidence.size
    ax.bar(
        edges[:-1], shares, width=np.diff(edges), align="edge", color="#BFD9EA", ec=BLUE, lw=0.5
    )
    ax.axvline(confidence.mean(), color=ORANGE, lw=1, ls=(0, (3, 1)))
    ax.set_xlabel("confidence")
