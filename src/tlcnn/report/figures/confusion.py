"""The confusion matrix: which class is taken for which."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tlcnn.report.content import Content
from tlcnn.report.figures.predictions import CellTest, list_tests
from tlcnn.report.figures.style import (
    COLUMN,
    FULL,
    GREY,
    ReportFigure,
    choose_ink,
    drawing,
    hide_frame,
    make_literal,
    make_name,
    name_ticks,
    wrap,
)
from tlcnn.study.cells import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ["#FFFFFF", "#8FA6C8", "#00224E"]  # white to the dark end of cividis


def draw_confusion(content: Content) -> list[ReportFigure]:
    """Draw the confusion matrix of the best cell of each dataset."""
    figures = []
    for dataset, tests in list_tests(content, 12, with_multi_label=False):
        best = [test for test in tests if "best" in test.role]
        figures.append(_draw(dataset, (best or tests)[0]))
    return figures


def _draw(dataset: str, test: CellTest) -> ReportFigure:
    matrix = compute_confusion(test)
    is_wide = len(test.classes) > 7
    worst = _describe_worst(matrix, test.classes)
    return ReportFigure(
        name=make_name("confusion", dataset),
        title=f"Confusions: {name_dataset(dataset)}, {test.label}",
        caption=(
            f"Confusion matrix of the cell “{test.label}” on {name_dataset(dataset)}: "
            f"{test.describe()}. Each row is a true class with n test images. The upper number of "
            "a cell is the share of the row's predictions in %, so rows sum to 100 and the "
            f"diagonal is recall. The lower number counts predictions over all seeds. {worst}"
        ),
        figure=plot_confusion(
            matrix,
            classes=test.classes,
            counts=test.counts,
            width=FULL if is_wide else COLUMN,
        ),
        alt=f"Confusion matrix of {len(test.classes)} classes. {worst}",
        wide=is_wide,
        section="predictions",
    )


def compute_confusion(test: CellTest) -> np.ndarray:
    """Return how often class i was called j, (K, K), summed over seeds."""
    n_classes = len(test.classes)
    pairs = (test.labels * n_classes + test.predicted).ravel()
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def _describe_worst(matrix: np.ndarray, classes: tuple[str, ...]) -> str:
    shares = _compute_shares(matrix)
    np.fill_diagonal(shares, -1)
    true, predicted = np.unravel_index(np.nanargmax(shares), shares.shape)
    return (
        f"The commonest confusion is {classes[true]} taken for {classes[predicted]} "
        f"({100 * shares[true, predicted]:.0f} % of its images)."
    )


def _compute_shares(matrix: np.ndarray) -> np.ndarray:
    totals = matrix.sum(axis=1, keepdims=True)
    return np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)


def plot_confusion(
    matrix: np.ndarray,
    *,
    classes: tuple[str, ...],
    counts: np.ndarray,
    width: float = COLUMN,
) -> "Figure":
    """Plot a row-normalised confusion matrix with shares and counts.

    Args:
        matrix: (K, K), how often class i was called j.
        classes: K names.
        counts: (K,) test images of each class.
        width: inches.
    """
    from matplotlib.colors import LinearSegmentedColormap

    n = len(classes)
    shares = 100 * _compute_shares(matrix)
    size = (width - 1.0) / n  # inches of a cell
    height = min(max(size * n, 1.8), 6.5)
    with drawing(width, height + 0.85) as figure:
        ax = figure.add_subplot()
        colours = LinearSegmentedColormap.from_list("blues", _COLOURS)
        look: dict[str, Any] = {"edgecolors": "white", "linewidth": 0.8}
        heat = ax.pcolormesh(shares, cmap=colours, vmin=0, vmax=100, **look)
        for (true, predicted), number in np.ndenumerate(matrix):
            if not np.isnan(shares[true, predicted]):
                _print_cell(ax, heat, (true, predicted), shares[true, predicted], number, size)
        n_lines = max(1, int(height / n * 72 / 8.6) - 1)  # lines of a name that fit beside a row
        ticks = np.arange(n) + 0.5
        pairs = zip(classes, counts, strict=True)
        ax.set_yticks(ticks, [f"{_fold(name, n_lines)}\nn = {total:,}" for name, total in pairs])
        ax.set_xticks(ticks)
        name_ticks(ax.xaxis, list(classes), size)
        ax.set(xlabel="predicted class", ylabel="true class")
        hide_frame(ax, n)
    return figure


def _fold(name: str, n_lines: int) -> str:
    folded = wrap(name, 16)
    return folded if folded.count("\n") < n_lines else make_literal(name, 22)


def _print_cell(
    ax: "Axes", heat: Any, place: tuple[int, int], share: float, number: int, size: float
) -> None:
    """Print the share in % and, where there is room, the count of a cell of `size` inches."""
    true, predicted = place
    x, y = predicted + 0.5, true + 0.5
    if number == 0 and true != predicted:  # most cells of many classes: keep them quiet
        ax.text(x, y, "0", ha="center", va="center", color=GREY, fontsize=6)
        return
    ink = choose_ink(heat, share)
    large = min(8.0, 72 * size / 2.9)
    has_count = size * 72 >= 15
    ax.text(
        x,
        y,
        f"{share:.0f}",
        ha="center",
        va="bottom" if has_count else "center",
        color=ink,
        fontsize=large if has_count else max(large, 4.5),
        fontweight="bold" if true == predicted else "normal",
    )
    if has_count:
        small = max(4.2, min(6.0, 72 * size / (0.68 * max(len(f"{number:,}"), 4))))
        ax.text(x, y + 0.08, f"{number:,}", ha="center", va="top", color=ink, fontsize=small)
