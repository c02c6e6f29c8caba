"""Which class is taken for which."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tlcnn.report.content import Content
from tlcnn.report.figures.choose import list_datasets
from tlcnn.report.figures.predictions import Predicted, describe_test, load_highlights
from tlcnn.report.figures.style import (
    COLUMN,
    FULL,
    GREY,
    Drawn,
    finish,
    make_figure,
    make_literal,
    make_name,
    name_ticks,
    styled,
    wrap,
)
from tlcnn.report.words import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_confusion(content: Content) -> list[Drawn]:
    """Draw the confusion matrix of the best cell of each dataset."""
    found = [_choose(load_highlights(content, name, 12)) for name in list_datasets(content)]
    pairs = zip(list_datasets(content), found, strict=True)
    return [_draw(name, shown) for name, shown in pairs if shown is not None]


def _choose(shown: list[Predicted]) -> Predicted | None:
    single = [one for one in shown if not one.is_multi_label]
    best = [one for one in single if "best" in one.role]
    return next(iter([*best, *single]), None)


def _draw(dataset: str, shown: Predicted) -> Drawn:
    matrix = compute_confusion(shown)
    wide = len(shown.classes) > 7
    worst = _describe_worst(matrix, shown.classes)
    return Drawn(
        name=make_name("confusion", dataset),
        title=f"Confusions: {name_dataset(dataset)}, {shown.label}",
        caption=(
            f"Confusion matrix of the cell “{shown.label}” on {name_dataset(dataset)}: "
            f"{describe_test(shown)}. Each row is a true class (n is its test images); the upper "
            "number is the share of its predictions in %, so rows sum to 100 and the diagonal is "
            f"recall; the lower one counts predictions, summed over seeds. {worst}"
        ),
        figure=plot_confusion(
            matrix,
            classes=shown.classes,
            counts=shown.counts,
            width=FULL if wide else COLUMN,
        ),
        alt=f"Confusion matrix of {len(shown.classes)} classes. {worst}",
        wide=wide,
        section="predictions",
    )


def compute_confusion(shown: Predicted) -> np.ndarray:
    """Return how often class i was called j, (K, K), summed over seeds."""
    n_classes = len(shown.classes)
    pairs = (shown.labels * n_classes + shown.predicted).ravel()
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def _describe_worst(matrix: np.ndarray, classes: tuple[str, ...]) -> str:
    shares = _make_shares(matrix)
    np.fill_diagonal(shares, -1)
    true, called = np.unravel_index(np.nanargmax(shares), shares.shape)
    return (
        f"The commonest confusion is {classes[true]} taken for {classes[called]} "
        f"({100 * shares[true, called]:.0f} % of its images)."
    )


def _make_shares(matrix: np.ndarray) -> np.ndarray:
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
    n = len(classes)
    shares = _make_shares(matrix)
    size = (width - 1.0) / n  # inches of a cell
    with styled():
        figure = make_figure(width, min(max(size * n, 1.8), 6.5) + 0.85)
        ax = figure.add_subplot()
        heat = ax.pcolormesh(
            100 * shares, cmap=_make_colours(), vmin=0, vmax=100, edgecolors="white", linewidth=0.8
        )
        for (true, called), number in np.ndenumerate(matrix):
            _print_cell(ax, heat, true, called, 100 * shares[true, called], int(number), size)
        ticks = np.arange(n) + 0.5
        fit = max(1, int((figure.get_figheight() - 0.85) / n * 72 / 8.6) - 1)  # lines of a name
        pairs = zip(classes, counts, strict=True)
        ax.set_yticks(ticks, [f"{_fold(name, fit)}\nn = {total:,}" for name, total in pairs])
        ax.set_xticks(ticks)
        name_ticks(ax.xaxis, list(classes), size)
        ax.set(xlim=(0, n), ylim=(n, 0), xlabel="predicted class", ylabel="true class")
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
        return finish(figure)


def _fold(name: str, n_lines: int) -> str:
    folded = wrap(name, 16)
    return folded if folded.count("\n") < n_lines else make_literal(name, 22)


def _make_colours() -> Any:
    """Return colours from white to the dark end of cividis, told apart by everybody."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("blues", ["#FFFFFF", "#8FA6C8", "#00224E"])


def _print_cell(
    ax: "Axes", heat: Any, true: int, called: int, share: float, number: int, size: float
) -> None:
    if np.isnan(share):
        return
    if number == 0 and true != called:  # most cells of many classes: keep them quiet
        ax.text(called + 0.5, true + 0.5, "0", ha="center", va="center", color=GREY, fontsize=6)
        return
    red, green, blue, _ = heat.cmap(heat.norm(share))
    ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"
    large = min(8.0, 72 * size / 2.9)
    said: dict[str, Any] = {"ha": "center", "color": ink}
    weight = "bold" if true == called else "normal"
    y = true + 0.5
    if size * 72 < 15:  # too small for two lines
        ax.text(
            called + 0.5,
            y,
            f"{share:.0f}",
            va="center",
            fontsize=max(large, 4.5),
            fontweight=weight,
            **said,
        )
        return
    ax.text(
        called + 0.5, y, f"{share:.0f}", va="bottom", fontsize=large, fontweight=weight, **said
    )
    small = max(4.2, min(6.0, 72 * size / (0.68 * max(len(f"{number:,}"), 4))))
    ax.text(called + 0.5, y + 0.08, f"{number:,}", va="top", fontsize=small, **said)
