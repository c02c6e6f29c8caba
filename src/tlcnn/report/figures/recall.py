"""Recall of each class, which a mean over classes hides."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import t

from tlcnn.report.content import Content
from tlcnn.report.figures import style
from tlcnn.report.figures.predictions import CellTest, describe_choice, describe_tests, list_tests
from tlcnn.report.words import join_words, name_dataset
from tlcnn.text import count

MOST = 4  # cells side by side


def draw_recall(content: Content) -> Iterator[style.ReportFigure]:
    """Draw the recall of every class for the highlighted cells, a figure a dataset."""
    for dataset, tests in list_tests(content, MOST):
        tables = [compute_recalls(test).assign(label=test.label, j=test.j) for test in tests]
        table = pd.concat(tables, ignore_index=True)
        is_wide = len(table) > 14
        hardest = table.loc[table["value"].idxmin()]
        yield style.ReportFigure(
            name=style.make_name("recall", dataset),
            title=f"Recall of every class: {name_dataset(dataset)}",
            caption=(
                "Share of each class's test images that are recognised on "
                f"{name_dataset(dataset)}: {describe_tests(tests)}; n is the number of test "
                "images of the class. Marks are means over seeds. Bars are 95 % intervals that "
                "hold for new seeds and new test groups (Wilson's interval, for as many "
                "independent images as would have this variance). The fewer test groups a class "
                "has, the wider its intervals tend to be. "
                f"{describe_choice(content, dataset, tests, MOST)}"
            ),
            figure=plot_recall(table, width=style.FULL if is_wide else style.COLUMN),
            alt=(
                f"Recall of {join_words(tests[0].classes)} for {count(len(tests), 'cell')}. The "
                f"lowest is {hardest['value']:.2f}, of {hardest['class']} with "
                f"{hardest['label']}."
            ),
            section="predictions",
        )


def compute_recalls(test: CellTest) -> pd.DataFrame:
    """Return the recall of each class with its interval.

    Returns:
        One row a class that occurs: class, n (test images), value, low, high.
    """
    hits = np.eye(len(test.classes), dtype=bool)[test.predicted]  # (S, N, K)
    if test.is_multi_label:
        hits = test.probabilities > 0.5
    rows = []
    for position, name in enumerate(test.classes):
        in_class = test.truth[:, position]
        if in_class.any():
            class_hits = hits[:, in_class, position]
            low, high = compute_interval(class_hits, test.groups[in_class])
            ends = {"value": float(class_hits.mean()), "low": low, "high": high}
            rows.append({"class": name, "n": int(in_class.sum()), **ends})
    return pd.DataFrame(rows)


def compute_interval(
    hits: np.ndarray, groups: np.ndarray, level: float = 0.95
) -> tuple[float, float]:
    """Return an interval of a share over new seeds and new groups.

    The variance is s^2 / S between seeds plus that of the seeds' mean between groups (a ratio of
    sums, linearised); Wilson's interval (1927) for the number of independent images that would
    have this variance, with Student's t for few seeds, stays within 0 and 1.

    Args:
        hits: (S, n) bool, whether each image of one class was recognised.
        groups: (n,) the group of each image.
    """
    n_seeds, n_images = hits.shape
    share = float(hits.mean())
    _, member = np.unique(groups, return_inverse=True)
    n_groups = int(member.max()) + 1
    residual = np.bincount(member, weights=hits.mean(axis=0) - share)
    grouped = (residual**2).sum() / n_images**2 * n_groups / max(n_groups - 1, 1)
    between = hits.mean(axis=1).var(ddof=1) / n_seeds if n_seeds > 1 else 0.0
    variance = grouped + between
    parts = [(grouped, n_groups - 1), (between, n_seeds - 1)]
    spread = sum(part**2 / df for part, df in parts if df > 0 and part > 0)
    df = variance**2 / spread if spread > 0 else float("inf")
    n = min(share * (1 - share) / variance if variance > 0 else n_groups, n_groups)
    z = float(t.ppf((1 + level) / 2, df))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def plot_recall(table: pd.DataFrame, *, width: float = style.FULL) -> Figure:
    """Plot recall with intervals, cells side by side in each class.

    Args:
        table: columns label (the cell's name), j, class, n, value, low, high.
    """
    classes = list(dict.fromkeys(table["class"]))
    counts = table.drop_duplicates("class").set_index("class")["n"]
    cells = list(table.groupby("label", sort=False))
    with style.drawing(width, 2.45 + 0.16 * len(cells)) as figure:
        ax = figure.add_subplot()
        handles = []
        for i, (_, rows) in enumerate(cells):
            look = style.choose_look(i, rows["j"].iloc[0]) | {"ls": ""}
            shift = 0.68 * ((i + 0.5) / len(cells) - 0.5)
            x = np.array([classes.index(name) for name in rows["class"]]) + shift
            handles.append(style.plot_intervals(ax, x, rows, elinewidth=1, ms=4.5, **look))
        for edge in range(1, len(classes)):
            ax.axvline(edge - 0.5, color="#E3E3E3", lw=0.6)
        ticks = [f"{name}\nn = {counts[name]:,}" for name in classes]
        inches = (width - 0.6) / len(classes)
        height = style.name_ticks(ax, range(len(classes)), ticks, inches)
        ax.set(xlim=(-0.5, len(classes) - 0.5), ylim=(-0.02, 1.02), ylabel="recall")
        ax.tick_params(axis="x", length=0)
        ax.grid(axis="y")
        figure.set_figheight(figure.get_figheight() + height)
        names = [style.wrap(label, 46 if width < 5 else 100) for label, _ in cells]
        style.add_legend(ax, handles, names, gap=0.1 + height)
    return figure
