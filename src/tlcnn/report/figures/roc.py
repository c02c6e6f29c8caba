"""Sensitivity against false alarms, one class against the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tlcnn.report.content import Content
from tlcnn.report.figures.predictions import CellTest, list_tests
from tlcnn.report.figures.style import (
    COLUMN,
    FULL,
    GREY,
    ReportFigure,
    add_legend,
    add_panels,
    choose_look,
    drawing,
    make_literal,
    make_name,
    wrap,
)
from tlcnn.report.words import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 6  # cells in one figure
MOST_CLASSES = 16  # small multiples
FALSE_RATE = 0.10  # the operating point: 90 % specificity
_GRID = np.linspace(0, 1, 1001)


@dataclass(frozen=True)
class Curve:
    """The ROC curves of a cell's S runs.

    Attributes:
        false_rate, true_rate: the points of each run's curve, from (0, 0) to (1, 1).
        areas: (S,) the area under each curve.
        sensitivities: (S,) at 90 % specificity.
    """

    label: str
    is_frozen: bool
    false_rate: tuple[np.ndarray, ...]
    true_rate: tuple[np.ndarray, ...]
    areas: np.ndarray
    sensitivities: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The mean true rate of the runs at false rates 0, 0.001, ..., 1: (1001,)."""
        pairs = zip(self.false_rate, self.true_rate, strict=True)
        return np.mean([np.interp(_GRID, x, y) for x, y in pairs], axis=0)


def draw_roc(content: Content) -> list[ReportFigure]:
    """Draw the positive class's curve, and small ones of all classes, for each dataset."""
    figures = []
    for dataset, tests in list_tests(content, MOST):
        first = tests[0]
        # A curve needs images of the class, and others.
        classes = [i for i, n in enumerate(first.counts) if 0 < n < len(first.truth)]
        if first.positive is not None and first.positive in classes:
            figures.append(_draw_positive(dataset, tests, first.positive))
        if len(first.classes) > 2 and 0 < len(classes) <= MOST_CLASSES:
            figures.append(_draw_classes(dataset, tests, classes))
    return figures


def _draw_positive(dataset: str, tests: list[CellTest], positive: int) -> ReportFigure:
    name = tests[0].classes[positive]
    curves = [make_curve(test, positive) for test in tests]
    sensitivities = "; ".join(
        f"{100 * curve.sensitivities.mean():.0f} % with {curve.label}" for curve in curves
    )
    return ReportFigure(
        name=make_name("roc", dataset),
        title=f"ROC of {name}: {name_dataset(dataset)}",
        caption=(
            f"{name} against all other classes on {name_dataset(dataset)}: "
            f"{tests[0].describe()}; {tests[0].counts[positive]:,} images are {name}. Thin lines "
            "are single seeds, thick ones their mean sensitivity at equal specificity. Marks are "
            "the operating point at 90 % specificity (broken line), where the sensitivity is "
            f"{sensitivities}. The threshold is set on the test images themselves, so in practice "
            "the sensitivity would be a little lower. AUC is the mean over seeds."
        ),
        figure=plot_roc(curves, name=name, width=COLUMN),
        alt=f"ROC curves of {name}. Sensitivity at 90 % specificity: {sensitivities}.",
        wide=False,
        section="predictions",
    )


def _draw_classes(dataset: str, tests: list[CellTest], classes: list[int]) -> ReportFigure:
    curves = {tests[0].classes[i]: [make_curve(test, i) for test in tests] for i in classes}
    areas = [
        f"{name} {parts[0].areas.mean():.3f} to {max(c.areas.mean() for c in parts):.3f}"
        for name, parts in curves.items()
    ]
    return ReportFigure(
        name=make_name("roc_classes", dataset),
        title=f"ROC of every class: {name_dataset(dataset)}",
        caption=(
            f"Each class against all others on {name_dataset(dataset)}: "
            f"{tests[0].describe()} a cell. Lines are means over seeds of the sensitivity at "
            "equal specificity; n is the number of test images of the class. A curve of few "
            "images has coarse steps. The numbers are areas under the curve, means over seeds, in "
            "the order of the legend."
        ),
        figure=plot_classes(curves, counts=tests[0].counts[classes], width=FULL),
        alt=f"Small ROC curves. Areas, {tests[0].label} to the highest: {'; '.join(areas)}.",
        wide=True,
        section="predictions",
    )


def make_curve(test: CellTest, position: int) -> Curve:
    """Return the curves of a cell's runs for one class against the rest."""
    from sklearn.metrics import roc_auc_score, roc_curve

    from tlcnn.statistics.ranking import compute_sensitivity

    truth, scores = test.truth[:, position], test.probabilities[:, :, position]
    curves = [roc_curve(truth, row) for row in scores]
    return Curve(
        label=test.label,
        is_frozen=test.j > 0,
        false_rate=tuple(curve[0] for curve in curves),
        true_rate=tuple(curve[1] for curve in curves),
        areas=np.array([roc_auc_score(truth, row) for row in scores]),
        sensitivities=np.array([compute_sensitivity(truth, row) for row in scores]),
    )


def plot_roc(curves: Sequence[Curve], *, name: str, width: float = COLUMN) -> "Figure":
    """Plot the curves of one class, with the operating point at 90 % specificity.

    Args:
        curves: the curves of each cell.
        name: the class.
        width: inches.
    """
    side = min(width - 0.5, 3.4)
    with drawing(width, side + 0.6 + 0.27 * len(curves)) as figure:
        ax = figure.add_subplot()
        ax.axvline(FALSE_RATE, color=GREY, lw=0.9, ls=(0, (4, 2)))
        handles, names = [], []
        for i, curve in enumerate(curves):
            look = choose_look(i, is_frozen=curve.is_frozen)
            handles.append(_plot_curve(ax, curve, look))
            sensitivity, area = curve.sensitivities.mean(), curve.areas.mean()
            names.append(
                f"{wrap(curve.label, 44)}\n"
                f"AUC {area:.3f}, sensitivity {100 * sensitivity:.1f} % at 90 % specificity"
            )
        ax.plot([0, 1], [0, 1], color=GREY, lw=0.7, ls=(0, (1, 2)))
        ax.set_xlabel("1 − specificity (false alarms)")
        ax.set_ylabel(f"sensitivity for {make_literal(name, 24)}")
        ax.set(xlim=(-0.01, 1.0), ylim=(0.0, 1.01), aspect="equal")
        ax.grid(True)
        add_legend(ax, handles, names)
    return figure


def _plot_curve(ax: "Axes", curve: Curve, look: dict[str, Any]) -> Any:
    colour, dash = look["color"], look["ls"]
    if len(curve.areas) > 1:
        for x, y in zip(curve.false_rate, curve.true_rate, strict=True):
            ax.plot(x, y, color=colour, lw=0.5, alpha=0.4)
    ax.plot(_GRID, curve.mean, color=colour, ls=dash, lw=1.5)
    point = {"marker": look["marker"], "mfc": look["mfc"], "mec": colour, "ms": 5.5, "zorder": 5}
    ax.plot([FALSE_RATE], [curve.sensitivities.mean()], ls="", **point)
    return ax.plot([], [], color=colour, ls=dash, lw=1.5, **point)[0]


def plot_classes(
    curves: dict[str, list[Curve]], *, counts: np.ndarray, width: float = FULL
) -> "Figure":
    """Plot small ROC curves, a panel a class, a line a cell.

    Args:
        curves: the curves of the cells, by class.
        counts: test images of each class.
        width: inches.
    """
    per_row = min(4 if width >= 5 else 2, len(curves))
    n_rows = -(-len(curves) // per_row)
    first = next(iter(curves.values()))
    side = min((width - 0.4) / per_row, 2.6)
    with drawing(width, n_rows * (side + 0.2) + 0.4 + 0.15 * len(first)) as figure:
        axes = add_panels(figure, len(curves), per_row, share=True)
        handles: list[Any] = []
        for i, (ax, (name, parts)) in enumerate(zip(axes, curves.items(), strict=True)):
            handles = [
                _plot_small(ax, n, curve, len(parts) - 1 - n) for n, curve in enumerate(parts)
            ]
            title = f"{make_literal(name, 60)}, n = {counts[i]:,}"
            ax.set_title(wrap(title, int(side * 72 / 4.7)), fontweight="normal")
            ax.grid(True)
            if i % per_row == 0:
                ax.set_ylabel("sensitivity")
            if i + per_row >= len(curves):
                ax.tick_params(labelbottom=True)
            if i >= per_row * (n_rows - 1):
                ax.set_xlabel("1 − specificity")
        axes[0].set(xlim=(-0.01, 1.0), ylim=(0.0, 1.01))
        axes[0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        names = [wrap(curve.label, 90 if width >= 5 else 46) for curve in first]
        figure.legend(handles, names, loc="outside lower center", handlelength=3.2, ncols=1)
    return figure


def _plot_small(ax: "Axes", number: int, curve: Curve, line: int) -> Any:
    """Plot a cell's mean curve, with its area on a line counted from below."""
    look = choose_look(number, is_frozen=curve.is_frozen)
    place: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "fontsize": 6.5}
    area = f"{curve.areas.mean():.3f}"
    ax.text(0.97, 0.06 + 0.085 * line, area, color=look["color"], **place)
    look |= {"markevery": (60 + 40 * number, 250), "ms": 3.2}
    return ax.plot(_GRID, curve.mean, lw=1.1, **look)[0]
