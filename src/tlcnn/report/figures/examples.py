"""Test images that the best cell is sure of, right and wrong, and where it looks."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tlcnn.errors import DataError, TlcnnError
from tlcnn.report.content import Content
from tlcnn.report.explain import Examples, load_examples
from tlcnn.report.figures.choose import list_datasets
from tlcnn.report.figures.predictions import Predicted, load_highlights
from tlcnn.report.figures.style import (
    FULL,
    Drawn,
    finish,
    make_figure,
    make_literal,
    make_name,
    styled,
)
from tlcnn.report.words import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_EACH = 6  # right ones, and wrong ones


def draw_examples(content: Content) -> Iterator[Drawn]:
    """Draw examples of the best cell of each dataset.

    Raises:
        DataError: after all others, when the images of a dataset cannot be shown.
    """
    problems = []
    for dataset in list_datasets(content):
        shown = [p for p in load_highlights(content, dataset, 12) if not p.is_multi_label]
        best = [p for p in shown if "best" in p.role] or shown[-1:]
        if not best:
            continue
        try:
            yield _draw(dataset, best[0])
        except (TlcnnError, OSError) as error:
            problems.append(f"{name_dataset(dataset)}: {error}")
    if problems:
        raise DataError("; ".join(problems))


def _draw(dataset: str, shown: Predicted) -> Drawn:
    first = None if shown.positive is None else shown.classes[shown.positive]
    folder = _choose_folder(shown.folders)
    examples = load_examples(folder, n_each=N_EACH, first=first)
    n_right = int(examples.table["is_right"].sum())
    n_wrong = len(examples.table) - n_right
    return Drawn(
        name=make_name("examples", dataset),
        title=f"Examples, right and wrong: {name_dataset(dataset)}",
        caption=(
            f"Test images of {name_dataset(dataset)} that “{shown.label}” (seed "
            f"{int(shown.seeds[shown.folders.index(folder)])}) is surest of: {n_right} right and "
            f"{n_wrong} wrong ones, classes in turn. They are chosen by confidence, not at "
            "random, and show extremes. Above each, its true class, what it was taken for, and "
            f"the probability of that. The network sees {examples.image_size} x "
            f"{examples.image_size} pixels; pictures are shown sharper. {_describe_heat(examples)}"
        ),
        figure=plot_examples(examples.table, examples.pictures, examples.heats, width=FULL),
        alt=_describe(examples.table),
        wide=True,
        section="examples",
    )


def _choose_folder(folders: tuple[Path, ...]) -> Path:
    whole = [folder for folder in folders if (folder / "weights.safetensors").is_file()]
    return (whole or list(folders))[0]


def _describe_heat(examples: Examples) -> str:
    if examples.heats is None:
        return f"Without maps of where it looks: {examples.note}."
    return (
        "Below each, Grad-CAM (Selvaraju et al. 2017): how much each place speaks for the class "
        f"that was said, at {examples.place}, brightest at its own maximum. It hints at "
        "where a network looks and is no proof of why."
    )


def _describe(table: pd.DataFrame) -> str:
    pairs = [
        f"{row['true']} taken for {row['predicted']} ({row['probability']:.2f})"
        for row in table.to_dict("records")
    ]
    return f"{len(table)} test images: {'; '.join(pairs)}."


def plot_examples(
    table: pd.DataFrame,
    pictures: np.ndarray,
    heats: np.ndarray | None,
    *,
    width: float = FULL,
) -> "Figure":
    """Plot pictures with what they are and were taken for, and heat below each.

    Args:
        table: true, predicted, probability, is_right; one row a picture.
        pictures: (n, S, S, 3) uint8.
        heats: (n, S, S) in 0..1, or None.
        width: inches.
    """
    groups = [("right", np.flatnonzero(table["is_right"]))]
    groups.append(("wrong", np.flatnonzero(~table["is_right"].astype(bool))))
    groups = [(name, rows) for name, rows in groups if len(rows)]
    n_columns = max(len(rows) for _, rows in groups)
    height = 1 if heats is None else 2
    side = (width - 0.25) / n_columns
    with styled():
        figure = make_figure(width, len(groups) * (height * side + 0.32) + 0.05)
        axes = figure.subplots(len(groups) * height, n_columns, squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
        letters = max(8, int(side * 72 / 4.2))
        for i, (name, rows) in enumerate(groups):
            for column, row in enumerate(rows):
                said = _describe_one(table.iloc[row].to_dict(), letters)
                _plot_picture(axes[height * i, column], pictures[row], said)
                if heats is not None:
                    _plot_heat(axes[height * i + 1, column], pictures[row], heats[row])
            _name_row(axes[height * i, 0], name)
        return finish(figure)


def _plot_picture(ax: "Axes", picture: np.ndarray, said: str) -> None:
    ax.imshow(picture)
    ax.set_title(said, fontsize=7, fontweight="normal", pad=2)


def _name_row(ax: "Axes", name: str) -> None:
    """Write a name upright to the left of the first picture of a row."""
    where: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": "center"}
    ax.text(-0.06, 0.5, name, rotation=90, fontweight="bold", **where)


def _describe_one(row: dict, letters: int) -> str:
    true = make_literal(row["true"], letters)
    if row["is_right"]:
        return f"{true}\n{row['probability']:.2f}"
    called = make_literal(row["predicted"], letters - 7)
    return f"{true}\nas {called} {row['probability']:.2f}"


def _plot_heat(ax: "Axes", picture: np.ndarray, heat: np.ndarray) -> None:
    ax.imshow(picture.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    ax.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.15 + 0.55 * heat)
