"""Calibration: is a network that is 80 % confident right in 80 % of cases?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlcnn.report.captions import describe_worsened
from tlcnn.report.content import Content
from tlcnn.report.figures import style
from tlcnn.report.figures.predictions import CellTest, describe_choice, describe_tests, list_tests
from tlcnn.report.words import name_dataset
from tlcnn.statistics.ranking import N_BINS, compute_calibration_error

MOST = 4  # cells in one picture


_CORRECTED = (
    " Class weights in the loss raise the probabilities of rare classes (blue). In orange, every "
    "probability is divided by the weight of its class, and those of an image are scaled to a sum "
    "of 1 (prior correction, Saerens et al. 2002): they hold for the class proportions of the "
    "training images, and are no patient's risk in a clinic. ECE: as the network gives it → "
    "corrected."
)


@dataclass(frozen=True)
class Confidence:
    """The probability of the most probable class, and whether it is the true one, both (S, N)."""

    values: np.ndarray
    is_right: np.ndarray
    colour: str = style.BLUE


def list_confidences(test: CellTest) -> list[Confidence]:
    """Return a cell's confidences, and the corrected ones where these differ."""
    parts = [(test.probabilities, style.BLUE)]
    if not np.array_equal(test.probabilities, test.corrected):
        parts.append((test.corrected, style.ORANGE))
    return [
        Confidence(part.max(axis=2), part.argmax(axis=2) == test.labels, colour)
        for part, colour in parts
    ]


def draw_reliability(content: Content) -> Iterator[style.ReportFigure]:
    """Draw the calibration of the highlighted cells, a figure a dataset."""
    for dataset, tests in list_tests(content, MOST, with_multi_label=False):
        confidences = [list_confidences(test) for test in tests]
        errors = [
            f"{write_errors(parts)} for {test.label}"
            for test, parts in zip(tests, confidences, strict=True)
        ]
        means = [list_errors(parts) for parts in confidences]
        worse = [test.label for test, e in zip(tests, means, strict=True) if e[-1] > e[0]]
        further = f"{_CORRECTED}{describe_worsened(worse, len(tests))}"
        is_corrected = any(len(parts) > 1 for parts in confidences)
        yield style.ReportFigure(
            name=style.make_name("reliability", dataset),
            title=f"Calibration: {name_dataset(dataset)}",
            caption=(
                f"Reliability of the most probable class on {name_dataset(dataset)}: "
                f"{describe_tests(tests)}. The confidences of all seeds together are cut into 15 "
                "bins of equally many predictions. Each mark is the share of right predictions in "
                "a bin at its mean confidence; thin lines are single seeds. A network is "
                "overconfident where marks are below the diagonal, and underconfident where they "
                "are above it. The expected calibration error (ECE) is the mean distance from the "
                "diagonal, computed for each seed and then averaged. The histograms show how "
                f"often each confidence occurs. {describe_choice(content, dataset, tests, MOST)}"
                f"{further * is_corrected}"
            ),
            figure=plot_reliability([test.label for test in tests], confidences),
            alt=f"Reliability diagrams. Expected calibration error: {'; '.join(errors)}.",
            section="predictions",
        )


def list_errors(parts: Sequence[Confidence]) -> list[float]:
    """Return the mean calibration error over seeds as it is written, raw and then corrected."""
    return [round(float(compute_errors(p.values, p.is_right).mean()), 3) for p in parts]


def write_errors(parts: Sequence[Confidence]) -> str:
    """Return the mean calibration error over seeds, `raw → corrected` where there are both."""
    return " → ".join(f"{error:.3f}" for error in list_errors(parts))


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


def plot_reliability(labels: list[str], confidences: list[list[Confidence]]) -> Figure:
    """Plot reliability diagrams over histograms of the confidences, a column a cell."""
    n = len(labels)
    side = min((style.FULL - 0.4) / max(n, 2), 2.9)
    with style.drawing(style.FULL, side + 0.75) as figure:
        diagrams, histograms = figure.subplots(
            2, n, squeeze=False, sharex=True, sharey="row", gridspec_kw={"height_ratios": [3.4, 1]}
        )
        lowest = min(float(part.values.min()) for parts in confidences for part in parts)
        for i, label in enumerate(labels):
            diagrams[i].plot([0, 1], [0, 1], color=style.GREY, lw=0.9, ls=(0, (4, 2)))
            for part in confidences[i]:
                _plot_diagram(diagrams[i], part)
            errors = f"ECE {write_errors(confidences[i])}"
            diagrams[i].text(0.04, 0.95, errors, transform=diagrams[i].transAxes, va="top")
            diagrams[i].set(xlim=(lowest - 0.02, 1.01), ylim=(0, 1.02))
            _plot_histogram(histograms[i], confidences[i], lowest)
            title = style.wrap(label, int(side * 72 / 5.2))
            diagrams[i].set_title(title, fontweight="normal")
        diagrams[0].set_ylabel("share right")
        histograms[0].set_ylabel("share of\npredictions")
        figure.align_ylabels([diagrams[0], histograms[0]])
    return figure


def _plot_diagram(ax: Axes, part: Confidence) -> None:
    if len(part.values) > 1:
        for confidence, right in zip(part.values, part.is_right, strict=True):
            bins = compute_reliability(confidence, right)
            ax.plot(bins["confidence"], bins["accuracy"], color=part.colour, lw=0.6, alpha=0.45)
    bins = compute_reliability(part.values.ravel(), part.is_right.ravel())
    ax.plot(bins["confidence"], bins["accuracy"], color=part.colour, marker="o", ms=3.2, lw=1.2)
    ax.grid(True)
    ax.tick_params(labelbottom=False)


def _plot_histogram(ax: Axes, parts: Sequence[Confidence], lowest: float) -> None:
    edges = np.linspace(np.floor(20 * lowest) / 20, 1, 16).tolist()
    for part in parts:
        weights = np.full(part.values.size, 1 / part.values.size)
        ax.hist(part.values.ravel(), edges, weights=weights, histtype="step", ec=part.colour)
        ax.axvline(part.values.mean(), color=part.colour, lw=1, ls=(0, (3, 1)))
    ax.set_xlabel("confidence")
