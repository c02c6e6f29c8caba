"""The confusion matrix: which class is taken for which."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from tlcnn.report.content import Content
from tlcnn.report.figures import style
from tlcnn.report.figures.predictions import CellTest, list_tests
from tlcnn.report.words import name_dataset

# Classes whose nature is known, as their publications give it (Tschandl et al. 2018; Borkowski et
# al. 2019).
_BENIGN = ("bkl", "df", "nv", "vasc", "lung_n")
_CANCERS = ("mel", "bcc", "lung_aca", "lung_scc")
_COLOURS = ["#FFFFFF", "#8FA6C8", "#00224E"]  # white to the dark end of cividis


def draw_confusion(content: Content) -> Iterator[style.ReportFigure]:
    """Draw the confusion matrix of the best cell of each dataset."""
    for dataset, tests in list_tests(content, 12, with_multi_label=False):
        test = next((test for test in tests if "best" in test.role), tests[0])
        matrix, is_wide = compute_confusion(test), len(test.classes) > 7
        role = "is the best of its source on validation" if "best" in test.role else "comes first"
        positive = None if test.positive is None else test.classes[test.positive]
        missed = describe_missed(matrix, test.classes, positive)
        worst = f"{missed}{describe_worst(matrix, test.classes)}"
        yield style.ReportFigure(
            name=style.make_name("confusion", dataset),
            title=f"Confusions: {name_dataset(dataset)}, {test.label}",
            caption=(
                f"Confusion matrix of the cell “{test.label}” on {name_dataset(dataset)}: "
                f"{test.describe()}. Of the cells of this dataset it {role}. Each row is a true "
                "class with n test images. The upper number is the share of the row's predictions "
                "in %, so rows sum to 100 and the diagonal is recall. The lower number counts "
                "predictions: every seed makes one of each image. "
                f"{worst}"
            ),
            figure=plot_confusion(
                matrix,
                classes=test.classes,
                counts=test.counts,
                width=style.FULL if is_wide else style.COLUMN,
            ),
            alt=f"Confusion matrix of {len(test.classes)} classes. {worst}",
            section="predictions",
        )


def describe_missed(matrix: np.ndarray, classes: Sequence[str], positive: str | None) -> str:
    """Return how many cancers are recognised, and how many are taken for a benign class.

    Args:
        matrix: (K, K) how often class i was called j.
        classes: K names.
        positive: the positive class, which is then the only one that is described.

    Returns:
        A sentence for each class, with a space after it; empty where no class is known.

    Example:
        >>> describe_missed(np.array([[8, 2], [1, 3]]), ["nv", "mel"], "mel")
        'Of the 4 predictions made on images of mel, 75 % say mel and 25 % a benign class (nv). '
        >>> describe_missed(np.array([[8, 2], [1, 3]]), ["a", "b"], "b")
        'Of the 4 predictions made on images of b, 75 % say b. '
    """
    benign = [name for name in classes if name in _BENIGN]
    cancers = [name for name in classes if name in _CANCERS and benign]
    lines = ""
    for name in [positive] if positive else cancers:
        row = dict(zip(classes, matrix[classes.index(name)].tolist(), strict=True))
        total = sum(row.values())
        if not total:
            continue
        lines += f"Of the {total:,} predictions made on images of {name}, "
        lines += f"{100 * row[name] / total:.0f} % say {name}"
        if name in cancers:
            called = 100 * sum(row[benign_name] for benign_name in benign) / total
            lines += f" and {called:.0f} % a benign class ({', '.join(benign)})"
        lines += ". "
    return lines


def describe_worst(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Return which confusion has the highest rate, and which the highest number, as sentences.

    Args:
        matrix: (K, K) how often class i was called j.
        classes: K names.

    Example:
        >>> lines = describe_worst(np.array([[8, 2], [1, 1]]), ["nv", "mel"]).split(". ")
        >>> lines[0]
        'The highest rate of confusion is that of mel taken for nv: 1 of its 2 predictions (50 %)'
        >>> lines[1]
        'The highest number is that of nv taken for mel: 2 predictions.'
    """
    wrong = matrix - np.diag(np.diag(matrix))
    if not wrong.any():
        return "No image was taken for one of another class."
    totals = matrix.sum(axis=1)
    rates = wrong / np.maximum(totals, 1)[:, None]
    by_rate, by_number = (np.unravel_index(a.argmax(), a.shape) for a in (rates, wrong))
    pairs = [f"{classes[true]} taken for {classes[j]}" for true, j in (by_rate, by_number)]
    line = (
        f"The highest rate of confusion is that of {pairs[0]}: {wrong[by_rate]:,} of its "
        f"{totals[by_rate[0]]:,} predictions ({100 * rates[by_rate]:.0f} %)."
    )
    if wrong[by_rate] == wrong[by_number]:
        return f"{line} No other confusion has a higher number."
    return f"{line} The highest number is that of {pairs[1]}: {wrong[by_number]:,} predictions."


def compute_confusion(test: CellTest) -> np.ndarray:
    """Return how often class i was called j, (K, K), summed over seeds."""
    n_classes = len(test.classes)
    pairs = (test.labels * n_classes + test.predicted).ravel()
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def plot_confusion(
    matrix: np.ndarray,
    *,
    classes: tuple[str, ...],
    counts: np.ndarray,
    width: float = style.COLUMN,
) -> Figure:
    """Plot shares of the rows of a confusion matrix (K, K), with its numbers in small.

    Args:
        counts: (K,) test images of each class.
    """
    n, totals = len(classes), matrix.sum(axis=1)
    size = (width - 1.0) / n  # inches of a cell
    height = min(max(size * n, 1.8), 6.5)
    with style.drawing(width, height + 0.85) as figure:
        ax = figure.add_subplot()
        shares = np.full((n, n), np.nan)
        shares[totals > 0] = 100 * matrix[totals > 0] / totals[totals > 0, None]
        colours = LinearSegmentedColormap.from_list("blues", _COLOURS)
        heat = ax.pcolormesh(shares, cmap=colours, vmin=0, vmax=100, ec="white", lw=0.8)
        for (true, predicted), share in np.ndenumerate(shares):
            number = matrix[true, predicted]
            lines, bold = [f"{share:.0f}", f"{number:,}"], 0 if true == predicted else -1
            ink = style.choose_ink(heat, share)
            if number == 0 and true != predicted:  # most cells of many classes: keep them quiet
                lines, ink = ["0"], style.GREY
            lines = lines[: 1 if size * 72 < 15 else 2]
            if totals[true]:
                x, y = predicted + 0.5, true + 0.5
                style.print_cell(ax, x, y, lines, inches=size, ink=ink, bold=bold)
        n_lines = max(1, int(height / n * 72 / 8.6) - 1)  # lines of a name that fit beside a row
        rows = []
        for name, number in zip(classes, counts, strict=True):
            wrapped = style.wrap(name, 16)
            is_high = wrapped.count("\n") >= n_lines
            rows.append(f"{style.make_literal(name, 22) if is_high else wrapped}\nn = {number:,}")
        style.name_places(ax, classes, rows, size)
        ax.set(xlabel="predicted class", ylabel="true class")
    return figure
