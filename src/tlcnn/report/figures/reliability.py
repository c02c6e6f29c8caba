"""Calibration: is a network that is 80 % confident right in 80 % of cases?"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tlcnn.report.content import Content
from tlcnn.report.figures.predictions import CellTest, list_tests
from tlcnn.report.figures.style import (
    BLUE,
    FULL,
    GREY,
    ORANGE,
    ReportFigure,
    drawing,
    make_name,
    wrap,
)
from tlcnn.report.words import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 4  # cells in one picture


def draw_reliability(content: Content) -> list[ReportFigure]:
    """Draw the calibration of the highlighted cells, a figure a dataset."""
    tests_by_dataset = list_tests(content, MOST, with_multi_label=False)
    return [_draw(dataset, tests) for dataset, tests in tests_by_dataset]


def _draw(dataset: str, tests: list[CellTest]) -> ReportFigure:
    errors = [f"{100 * compute_errors(test).mean():.1f} points for {test.label}" for test in tests]
    return ReportFigure(
        name=make_name("reliability", dataset),
        title=f"Calibration: {name_dataset(dataset)}",
        caption=(
            f"Reliability of the most probable class on {name_dataset(dataset)}: "
            f"{tests[0].describe()}. The confidences of all seeds together are cut into 15 bins "
            "of equally many predictions. Each mark is the share of right predictions in a bin "
            "at its mean confidence; thin lines are single seeds. A network is overconfident "
            "where marks are below the diagonal, and underconfident where they are above it. The "
            "expected calibration error (ECE) is the mean distance from the diagonal, computed "
            "for each seed and then averaged. The histograms show how often each confidence "
            "occurs."
        ),
        figure=plot_reliability(
            [test.label for test in tests],
            [test.probabilities.max(axis=2) for test in tests],
            [test.predicted == test.labels for test in tests],
            width=FULL,
        ),
        alt=f"Reliability diagrams. Expected calibration error: {'; '.join(errors)}.",
        wide=True,
        section="predictions",
    )


def compute_errors(test: CellTest) -> np.ndarray:
    """Return the expected calibration error of each run, (S,)."""
    return _compute_errors(test.probabilities.max(axis=2), test.predicted == test.labels)


def _compute_errors(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    from tlcnn.statistics.ranking import compute_calibration_error

    pairs = zip(confidence, right, strict=True)
    return np.array([compute_calibration_error(c, r) for c, r in pairs])


def compute_reliability(confidence: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """Return the bins of the expected calibration error: of equal size, equal values in one bin.

    Args:
        confidence: (n,) the probability of the most probable class.
        right: (n,) bool, whether that class was the true one.

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
        labels: the name of each cell.
        confidences: the confidences of each cell, (S, N).
        rights: whether each prediction of each cell is right, (S, N) bool.
        width: inches.
    """
    n = len(labels)
    per_row = n if width >= 5 else min(n, 2)
    n_rows = -(-n // per_row)
    side = min((width - 0.4) / max(per_row, 2), 2.9)
    with drawing(width, n_rows * (side + 0.75)) as figure:
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
        for diagrams, histograms in zip(parts[::2], parts[1::2], strict=True):
            diagrams[0].set_ylabel("share right")
            histograms[0].set_ylabel("share of\npredictions")
            top = max(bar.get_height() for ax in histograms for bar in ax.patches)
            histograms[0].set_ylim(0, 1.05 * top)
        figure.align_ylabels(parts[:, 0])
    return figure


def _plot_diagram(ax: "Axes", confidence: np.ndarray, right: np.ndarray, lowest: float) -> None:
    ax.plot([0, 1], [0, 1], color=GREY, lw=0.9, ls=(0, (4, 2)))
    if len(confidence) > 1:
        for seed_confidence, seed_right in zip(confidence, right, strict=True):
            bins = compute_reliability(seed_confidence, seed_right)
            ax.plot(bins["confidence"], bins["accuracy"], color=BLUE, lw=0.6, alpha=0.45)
    bins = compute_reliability(confidence.ravel(), right.ravel())
    ax.plot(bins["confidence"], bins["accuracy"], color=BLUE, marker="o", ms=3.2, lw=1.2)
    error = _compute_errors(confidence, right).mean()
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
