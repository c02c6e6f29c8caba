"""Test images that the best cell is surest of, right and wrong, and where the network looks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tlcnn.errors import DataError, TlcnnError
from tlcnn.report.content import Content
from tlcnn.report.explain import Examples, load_examples
from tlcnn.report.figures.predictions import CellTest, list_tests
from tlcnn.report.figures.style import (
    FULL,
    ReportFigure,
    drawing,
    make_literal,
    make_name,
)
from tlcnn.study.cells import name_dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_EACH = 6  # right images, and as many wrong ones


def draw_examples(content: Content) -> Iterator[ReportFigure]:
    """Draw examples of the best cell of each dataset.

    Raises:
        DataError: after all others, when the images of a dataset cannot be shown.
    """
    problems = []
    for dataset, tests in list_tests(content, 12, with_multi_label=False):
        best = [test for test in tests if "best" in test.role] or tests[-1:]
        try:
            yield _draw(dataset, best[0])
        except (TlcnnError, OSError) as error:
            problems.append(f"{name_dataset(dataset)}: {error}")
    if problems:
        raise DataError("; ".join(problems))


def _draw(dataset: str, test: CellTest) -> ReportFigure:
    first_class = None if test.positive is None else test.classes[test.positive]
    with_weights = [path for path in test.folders if (path / "weights.safetensors").is_file()]
    folder = (with_weights or test.folders)[0]
    seed = int(test.seeds[test.folders.index(folder)])
    examples = load_examples(folder, n_each=N_EACH, first=first_class)
    table, side = examples.table, examples.image_size
    n_right = int(table["is_right"].sum())
    pairs = [
        f"{row['true']} taken for {row['predicted']} ({row['probability']:.2f})"
        for row in table.to_dict("records")
    ]
    return ReportFigure(
        name=make_name("examples", dataset),
        title=f"Examples, right and wrong: {name_dataset(dataset)}",
        caption=(
            f"The test images of {name_dataset(dataset)} that “{test.label}” (seed {seed}) is "
            f"surest of: {n_right} right and {len(table) - n_right} wrong ones, classes in turn. "
            "They are chosen by confidence, not at random, so they are extremes. Above each stand "
            "its true class, the class it was taken for, and the probability of that class. The "
            f"network sees {side} x {side} pixels; the images are shown sharper. "
            f"{_describe_heat(examples)}"
        ),
        figure=plot_examples(table, examples.pictures, examples.heats, width=FULL),
        alt=f"{len(table)} test images: {'; '.join(pairs)}.",
        wide=True,
        section="examples",
    )


def _describe_heat(examples: Examples) -> str:
    if examples.heats is None:
        return f"There are no maps of where it looks: {examples.note}."
    return (
        "Below each is its Grad-CAM (Selvaraju et al. 2017) for the predicted class, at "
        f"{examples.place}: bright places raise the class's score, relative to the brightest "
        "place of the image. It hints at where a network looks and does not prove why."
    )


def plot_examples(
    table: pd.DataFrame,
    pictures: np.ndarray,
    heats: np.ndarray | None,
    *,
    width: float = FULL,
) -> "Figure":
    """Plot pictures with their true and predicted classes, and the heat below each.

    Args:
        table: true, predicted, probability, is_right; one row a picture.
        pictures: (n, S, S, 3) uint8.
        heats: (n, S, S) in 0..1, or None.
        width: inches.
    """
    is_right = table["is_right"].to_numpy(bool)
    groups = {"right": np.flatnonzero(is_right), "wrong": np.flatnonzero(~is_right)}
    groups = {name: rows for name, rows in groups.items() if len(rows)}
    n_columns = max(len(rows) for rows in groups.values())
    height = 1 if heats is None else 2
    side = (width - 0.25) / n_columns
    letters = max(8, int(side * 72 / 4.2))
    with drawing(width, len(groups) * (height * side + 0.32) + 0.05) as figure:
        axes = figure.subplots(len(groups) * height, n_columns, squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
        for i, (name, rows) in enumerate(groups.items()):
            for column, row in enumerate(rows):
                ax = axes[height * i, column]
                ax.imshow(pictures[row])
                title = _name_picture(table.iloc[row].to_dict(), letters)
                ax.set_title(title, fontsize=7, fontweight="normal", pad=2)
                if heats is not None:
                    ax, heat = axes[height * i + 1, column], heats[row]
                    ax.imshow(pictures[row].mean(axis=2), cmap="gray", vmin=0, vmax=255)
                    ax.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.15 + 0.55 * heat)
            first = axes[height * i, 0]
            look: dict[str, Any] = {"rotation": 90, "fontweight": "bold", "ha": "right"}
            first.text(-0.06, 0.5, name, transform=first.transAxes, va="center", **look)
    return figure


def _name_picture(row: dict, letters: int) -> str:
    true = make_literal(row["true"], letters)
    if row["is_right"]:
        return f"{true}\n{row['probability']:.2f}"
    predicted = make_literal(row["predicted"], letters - 7)
    return f"{true}\nas {predicted} {row['probability']:.2f}"
