"""Recall of each class: what a mean over classes hides."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tlcnn.report.content import Content
from tlcnn.report.figures.choose import list_datasets
from tlcnn.report.figures.learning import choose_look
from tlcnn.report.figures.predictions import Predicted, describe_test, load_highlights
from tlcnn.report.figures.style import (
    COLUMN,
    FULL,
    Drawn,
    add_legend,
    finish,
    list_words,
    make_figure,
    make_name,
    name_ticks,
    styled,
    wrap,
)
from tlcnn.report.words import name_dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 4  # cells side by side


def draw_recall(content: Content) -> list[Drawn]:
    """Draw the recall of every class for the highlighted cells, a picture a dataset."""
    drawn = []
    for dataset in list_datasets(content):
        shown = load_highlights(content, dataset, MOST)
        if shown:
            drawn.append(_draw(dataset, shown))
    return drawn


def _draw(dataset: str, shown: list[Predicted]) -> Drawn:
    table = pd.concat([compute_recalls(one).assign(label=one.label, j=one.j) for one in shown])
    last = table[table["label"] == shown[-1].label]
    wide = len(table) > 14
    hardest = last.loc[last["value"].idxmin()]
    return Drawn(
        name=make_name("recall", dataset),
        title=f"Recall of every class: {name_dataset(dataset)}",
        caption=(
            f"Share of each class's test images that are recognised on {name_dataset(dataset)}: "
            f"{describe_test(shown[0])} a cell; n is the number of test images of the class. "
            "Marks are means over seeds. Bars are 95 % intervals over new seeds and new test "
            "groups (Wilson's, for the number of independent images that those two leave), so a "
            "class of few groups has a wide one however sure the network is."
        ),
        figure=plot_recall(table, width=FULL if wide else COLUMN),
        alt=(
            f"Recall of {list_words(list(shown[0].classes))} for {len(shown)} cells. With "
            f"{shown[-1].label}, the hardest class is {hardest['class']} "
            f"({hardest['value']:.2f})."
        ),
        wide=wide,
        section="predictions",
    )


def compute_recalls(shown: Predicted) -> pd.DataFrame:
    """Return the recall of each class with its interval.

    Returns:
        One row a class that occurs: class, n (test images), value, low, high.
    """
    hits = _find_hits(shown)
    rows = []
    for position, name in enumerate(shown.classes):
        mine = shown.truth[:, position]
        if mine.any():
            low, high = compute_interval(hits[:, mine, position], shown.groups[mine])
            value = float(hits[:, mine, position].mean())
            rows.append(
                {"class": name, "n": int(mine.sum()), "value": value, "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def _find_hits(shown: Predicted) -> np.ndarray:
    """Return whether each class was said of each image, (S, N, K) bool."""
    if shown.is_multi_label:
        return shown.probabilities > 0.5
    return np.eye(len(shown.classes), dtype=bool)[shown.predicted]


def compute_interval(
    hits: np.ndarray, groups: np.ndarray, level: float = 0.95
) -> tuple[float, float]:
    """Return an interval of a share over new seeds and new groups.

    The variance is s^2 / S between seeds plus that of the seeds' mean between groups (a ratio of
    sums, linearised); Wilson's interval (1927) for the number of independent images that would
    have this variance, with Student's t for few seeds, stays within 0 and 1.

    Args:
        hits: (S, n) bool, the images of one class.
        groups: (n,) the group of each.
    """
    from scipy.stats import t

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
    n_effective = share * (1 - share) / variance if variance > 0 else float(n_groups)
    return compute_wilson(
        share, min(n_effective, float(n_groups)), float(t.ppf((1 + level) / 2, df))
    )


def compute_wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Return Wilson's interval of a share of n.

    Example:
        >>> low, high = compute_wilson(0.5, 10, 1.96)
        >>> round(low, 3), round(high, 3)
        (0.237, 0.763)
    """
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def plot_recall(table: pd.DataFrame, *, width: float = FULL) -> "Figure":
    """Plot recall with intervals, cells side by side in each class.

    Args:
        table: columns label (of the cell), j, class, n, value, low, high.
        width: inches.
    """
    classes = list(dict.fromkeys(table["class"]))
    counts = table.drop_duplicates("class").set_index("class")["n"]
    cells = list(table.groupby("label", sort=False))
    with styled():
        figure = make_figure(width, 2.7 + 0.16 * len(cells))
        ax = figure.add_subplot()
        handles, names = [], []
        for i, (label, rows) in enumerate(cells):
            look = choose_look(i, is_frozen=int(rows["j"].iloc[0]) > 0) | {"ls": ""}
            shift = 0.68 * ((i + 0.5) / len(cells) - 0.5)
            x = np.array([classes.index(name) for name in rows["class"]]) + shift
            value = rows["value"].to_numpy(float)
            reach = np.vstack([value - rows["low"], rows["high"] - value])
            reach = np.maximum(np.nan_to_num(reach), 0)
            handles.append(ax.errorbar(x, value, yerr=reach, elinewidth=1, ms=4.5, **look))
            names.append(wrap(label, 46 if width < 5 else 100))
        for edge in range(1, len(classes)):
            ax.axvline(edge - 0.5, color="#E3E3E3", lw=0.6)
        ax.set_xticks(range(len(classes)))
        ticks = [f"{name}\nn = {counts[name]:,}" for name in classes]
        lines = name_ticks(ax.xaxis, ticks, (width - 0.6) / len(classes))
        ax.set(xlim=(-0.5, len(classes) - 0.5), ylim=(-0.02, 1.02), ylabel="recall")
        ax.tick_params(axis="x", length=0)
        ax.grid(axis="y")
        turned = ax.get_xticklabels()[0].get_rotation() > 0
        figure.set_figheight(figure.get_figheight() + 0.9 * turned)
        add_legend(ax, handles, names, down=1.3 if turned else 0.1 + 0.125 * lines)
        return finish(figure)
