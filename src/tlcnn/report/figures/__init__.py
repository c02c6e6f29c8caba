"""Figures: one file each, with `plot_<name>` of plain values and `draw_<name>` of a report."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from tlcnn.data.progress import watch
from tlcnn.report.content import Content
from tlcnn.report.figures.bars import draw_bars
from tlcnn.report.figures.confusion import draw_confusion
from tlcnn.report.figures.convergence import draw_convergence
from tlcnn.report.figures.examples import draw_examples
from tlcnn.report.figures.grid import draw_grid
from tlcnn.report.figures.layers import draw_layers
from tlcnn.report.figures.learning import draw_learning
from tlcnn.report.figures.measures import draw_measures
from tlcnn.report.figures.recall import draw_recall
from tlcnn.report.figures.reliability import draw_reliability
from tlcnn.report.figures.roc import draw_roc
from tlcnn.report.figures.style import ReportFigure

FIGURES: dict[str, Callable[[Content], Iterable[ReportFigure]]] = {
    "grid": draw_grid,
    "bars": draw_bars,
    "layers": draw_layers,
    "measures": draw_measures,
    "learning": draw_learning,
    "convergence": draw_convergence,
    "confusion": draw_confusion,
    "recall": draw_recall,
    "roc": draw_roc,
    "reliability": draw_reliability,
    "examples": draw_examples,
}


def draw_figures(
    content: Content, *, skip: Collection[str] = ()
) -> tuple[list[ReportFigure], list[str]]:
    """Draw all figures that a report has the data for.

    Args:
        skip: keys of FIGURES that are not drawn.

    Returns:
        The figures, and a line for each that could not be drawn: it does not stop the others.
        Figures that would share a file name are numbered.
    """
    figures: list[ReportFigure] = []
    problems: list[str] = []
    n_uses: Counter[str] = Counter()
    for name, draw in watch(FIGURES.items(), len(FIGURES), "kinds of figures"):
        if name in skip:
            continue
        try:
            for figure in draw(content):  # one by one: those before a failure stay
                key = figure.name.lower()  # some disks do not tell A from a
                n_uses[key] += 1
                number = f"-{n_uses[key]}" if n_uses[key] > 1 else ""
                figures.append(replace(figure, name=f"{figure.name}{number}"))
        except Exception as error:  # odd data may break one figure, not a report
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            problems.append(f"figure {name} was not drawn: {reason}")
    return figures, problems
