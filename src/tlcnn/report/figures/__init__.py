"""Figures: one file each, with `plot_<name>` of plain frames and `draw_<name>` of a report."""

from collections.abc import Callable, Collection, Iterable

from tlcnn.report.content import Content
from tlcnn.report.figures.bars import draw_bars
from tlcnn.report.figures.confusion import draw_confusion
from tlcnn.report.figures.convergence import draw_convergence
from tlcnn.report.figures.examples import draw_examples
from tlcnn.report.figures.grid import draw_grid
from tlcnn.report.figures.layers import draw_layers
from tlcnn.report.figures.learning import draw_learning
from tlcnn.report.figures.recall import draw_recall
from tlcnn.report.figures.reliability import draw_reliability
from tlcnn.report.figures.roc import draw_roc
from tlcnn.report.figures.style import Drawn

FIGURES: dict[str, Callable[[Content], Iterable[Drawn]]] = {
    "grid": draw_grid,
    "bars": draw_bars,
    "layers": draw_layers,
    "learning": draw_learning,
    "convergence": draw_convergence,
    "confusion": draw_confusion,
    "recall": draw_recall,
    "roc": draw_roc,
    "reliability": draw_reliability,
    "examples": draw_examples,
}


def draw_figures(content: Content, *, skip: Collection[str] = ()) -> tuple[list[Drawn], list[str]]:
    """Draw all figures that a report has the data for.

    Args:
        skip: keys of FIGURES that are not wanted.

    Returns:
        The figures, and a line for each that could not be drawn: it does not stop the others.
    """
    drawn: list[Drawn] = []
    problems: list[str] = []
    for name, draw in FIGURES.items():
        if name in skip:
            continue
        try:
            for one in draw(content):  # so that those before a failure are kept
                drawn.append(one)
        except Exception as error:  # odd data may break one figure, not a report
            why = str(error).splitlines()[0] if str(error) else ""
            problems.append(f"figure {name} was not drawn: {why or type(error).__name__}")
    return _name_apart(drawn), problems


def _name_apart(drawn: list[Drawn]) -> list[Drawn]:
    """Number the names that two figures share, so that no file overwrites another."""
    from dataclasses import replace

    seen: dict[str, int] = {}
    named = []
    for one in drawn:
        key = one.name.lower()  # some disks do not know A from a
        seen[key] = seen.get(key, 0) + 1
        named.append(one if seen[key] == 1 else replace(one, name=f"{one.name}-{seen[key]}"))
    return named
