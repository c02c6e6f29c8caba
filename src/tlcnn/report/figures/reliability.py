"""Calibration: is a network that is 80 % confident right in 80 % of cases?"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlcnn.report.content import Content
from tlcnn.report.figures import style
from tlcnn.report.figures.predictions import list_tests
from tlcnn.report.words import name_dataset
from tlcnn.statistics.ranking import N_BINS, compute_calibration_error

MOST = 4  # cells in one picture


def draw_reliability(content: Content) -> Iterator[style.ReportFigure]:
    """Draw the calibration of the highlighted cells, a figure a dataset."""
    for dataset, tests in list_tests(content, MOST, with_multi_label=False):
        confidences = [test.probabilities.max(axis=2) for test in tests]
        rights = [test.predicted == test.labels for test in tests]
        errors = [
            f"{100 * compute_errors(confidence, right).mean():.1f} points for {test.label}"
            for test, confidence, right in zip(tests, confidences, rights, strict=True)
        ]
        yield style.ReportFigure(
            name=style.make_name("reliability", dataset),
            title=f"Calibration: {name_dataset(dataset)}",
            caption=(
                f"Reliability of the most probable class on {name_dataset(dataset)}: "
                f"{tests[0].describe()}. The confidences of all seeds together are cut into 15 "
                "bins of equally many predictions. Each mark is the share of right predictions in "
                "a bin at its mean confidence; thin lines are single seeds. A network is "
                "overconfident where marks are below the diagonal, and underconfident where they "
                "are above it. The expected calibration error (ECE) is the mean distance from the "
                "diagonal, computed for each seed and then averaged. The histograms show how "
                "often each confidence occurs."
            ),
            figure=plot_reliability([test.label for test in tests], confidences, rights),
            alt=f"Reliability diagrams. Expected calibration error: {'; '.join(errors)}.",
            section="predictions",
        )


def compute_errors(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the expected calibration error of each run, (S,), of values (S, N)."""
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
    rank = np.searchsorted(np.sort(confidence), confidence)
    bins = pd.DataFrame({"confidence": confidence, "accuracy": right.astype(float)})
    grouped = bins.groupby(rank * N_BINS // len(confidence))
    return grouped.mean().assign(n=grouped.size()).reset_index(drop=True)


def plot_reliability(
    labels: list[str], confidences: list[np.ndarray], rights: list[np.ndarray]
) -> Figure:
    """Plot reliability diagrams over histograms of the confidences, a column a cell.

    Args:
        confidences: the confidences of each cell, (S, N).
        rights: whether each prediction of each cell is right, (S, N) bool.
    """
    n = len(labels)
    side = min((style.FULL - 0.4) / max(n, 2), 2.9)
    with style.drawing(style.FULL, side + 0.75) as figure:
        diagrams, histograms = figure.subplots(
            2, n, squeeze=False, sharex=True, sharey="row", gridspec_kw={"height_ratios": [3.4, 1]}
        )
        lowest = min(float(confidence.min()) for confidence in confidences)
        for i, label in enumerate(labels):
            _plot_diagram(diagrams[i], confidences[i], rights[i], lowest)
            _plot_histogram(histograms[i], confidences[i], lowest)
            title = style.wrap(label, int(side * 72 / 5.2))
            diagrams[i].set_title(title, fontweight="normal")
        diagrams[0].set_ylabel("share right")
        histograms[0].set_ylabel("share of\npredictions")
        figure.align_ylabels([diagrams[0], histograms[0]])
    return figure


def _plot_diagram(ax: Axes, confidence: np.ndarray, right: np.ndarray, lowest: float) -> None:
    ax.plot([0, 1], [0, 1], color=style.GREY, lw=0.9, ls=(0, (4, 2)))
    if len(confidence) > 1:
        for seed_confidence, seed_right in zip(confidence, right, strict=True):
            bins = compute_reliability(seed_confidence, seed_right)
            ax.plot(bins["confidence"], bins["accuracy"], color=style.BLUE, lw=0.6, alpha=0.45)
    bins = compute_reliability(confidence.ravel(), right.ravel())
    ax.plot(bins["confidence"], bins["accuracy"], color=style.BLUE, marker="o", ms=3.2, lw=1.2)
    error = compute_errors(confidence, right).mean()
    ax.text(0.04, 0.95, f"ECE {error:.3f}", transform=ax.transAxes, va="top")
    ax.set(xlim=(lowest - 0.02, 1.01), ylim=(0, 1.02))
    ax.grid(True)
    ax.tick_params(labelbottom=False)


def _plot_histogram(ax: Axes, confidence: np.ndarray, lowest: float) -> None:
    edges = np.linspace(np.floor(20 * lowest) / 20, 1, 16).tolist()
    weights = np.full(confidence.size, 1 / confidence.size)
    ax.hist(confidence.ravel(), edges, weights=weights, color="#BFD9EA", ec=style.BLUE, lw=0.5)
    ax.axvline(confidence.mean(), color=style.ORANGE, lw=1, ls=(0, (3, 1)))
    ax.set_xlabel("confidence")
