"""Test images that the best cell is surest of, right and wrong, and where the network looks."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from tlcnn.errors import DataError, TlcnnError
from tlcnn.report.content import Content
from tlcnn.report.explain import Examples, load_examples
from tlcnn.report.figures import style
from tlcnn.report.figures.predictions import CellTest, list_tests
from tlcnn.report.words import name_dataset

N_EACH = 6  # right images, and as many wrong ones


def draw_examples(content: Content) -> Iterator[style.ReportFigure]:
    """Draw examples of the best cell of each dataset.

    Raises:
        DataError: after all others, when the images of a dataset cannot be shown.
    """
    problems = []
    for dataset, tests in list_tests(content, 12, with_multi_label=False):
        try:
            yield _draw(dataset, next((test for test in tests if "best" in test.role), tests[-1]))
        except (TlcnnError, OSError) as error:
            problems.append(f"{name_dataset(dataset)}: {error}")
    if problems:
        raise DataError("; ".join(problems))


def _draw(dataset: str, test: CellTest) -> style.ReportFigure:
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
    if examples.heats is None:
        heat = f"There are no maps of where it looks: {examples.note}."
    else:
        heat = (
            "Below each is its Grad-CAM (Selvaraju et al. 2017) for the predicted class, at "
            f"{examples.place}: bright places raise the class's score, relative to the brightest "
            "place of the image. It hints at where a network looks and does not prove why."
        )
    return style.ReportFigure(
        name=style.make_name("examples", dataset),
        title=f"Examples, right and wrong: {name_dataset(dataset)}",
        caption=(
            f"The test images of {name_dataset(dataset)} that “{test.label}” (seed {seed}) is "
            f"surest of: {n_right} right and {len(table) - n_right} wrong ones, classes in turn. "
            "They are chosen by confidence, not at random, so they are extremes. Above each stand "
            "its true class, the class it was taken for, and the probability of that class. The "
            f"network sees {side} x {side} pixels; the images are shown sharper. {heat}"
        ),
        figure=plot_examples(examples),
        alt=f"{len(table)} test images: {'; '.join(pairs)}.",
        section="examples",
    )


def plot_examples(examples: Examples) -> Figure:
    """Plot pictures with their true and predicted classes, and the heat below each."""
    table, heats = examples.table, examples.heats
    groups = {name: table[table["is_right"] == (name == "right")] for name in ("right", "wrong")}
    groups = {name: rows for name, rows in groups.items() if len(rows)}
    n_columns = max(map(len, groups.values()))
    height = 1 if heats is None else 2
    side = (style.FULL - 0.25) / n_columns
    letters = max(8, int(side * 72 / 4.2))
    with style.drawing(style.FULL, len(groups) * (height * side + 0.32) + 0.05) as figure:
        axes = figure.subplots(len(groups) * height, n_columns, squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
        for i, (name, rows) in enumerate(groups.items()):
            above, below = axes[height * i], axes[height * (i + 1) - 1]
            for column, (n, row) in enumerate(rows.iterrows()):
                picture = examples.pictures[n]
                above[column].imshow(picture)
                text = f"{row['probability']:.2f}"
                if not row["is_right"]:
                    text = f"as {style.make_literal(row['predicted'], letters - 7)} {text}"
                title = f"{style.make_literal(row['true'], letters)}\n{text}"
                above[column].set_title(title, fontsize=7, fontweight="normal", pad=2)
                if heats is not None:
                    below[column].imshow(picture.mean(axis=2), cmap="gray", vmin=0, vmax=255)
                    alpha = 0.15 + 0.55 * heats[n]
                    below[column].imshow(heats[n], alpha=alpha, cmap="inferno", vmin=0, vmax=1)
            side_label = above[0].text(-0.06, 0.5, name, transform=above[0].transAxes, rotation=90)
            side_label.set(fontweight="bold", ha="right", va="center")
    return figure
