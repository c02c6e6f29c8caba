"""Sensitivity against false alarms, one class against the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from tlcnn.report.content import Content
from tlcnn.report.figures import style
from tlcnn.report.figures.predictions import CellTest, describe_choice, describe_tests, list_tests
from tlcnn.report.words import name_dataset
from tlcnn.statistics.ranking import compute_sensitivity

MOST = 6  # cells in one figure
MOST_CLASSES = 16  # small multiples
FALSE_RATE = 0.10  # the operating point: 90 % specificity
FALSE_RATES = np.linspace(0, 1, 1001)


@dataclass(frozen=True)
class Curve:
    """The ROC curves of a cell's S runs.

    Attributes:
        rates: (S, 1001) the sensitivity at each of `FALSE_RATES`.
        areas: (S,) the area under each curve.
        sensitivities: (S,) at 90 % specificity.
    """

    label: str
    j: int
    rates: np.ndarray
    areas: np.ndarray
    sensitivities: np.ndarray


def draw_roc(content: Content) -> Iterator[style.ReportFigure]:
    """Draw the positive class's curve, and small ones of all classes, for each dataset."""
    for dataset, tests in list_tests(content, MOST):
        first = tests[0]
        # A curve needs images of the class, and others.
        classes = [i for i, n in enumerate(first.counts) if 0 < n < len(first.truth)]
        choice = describe_choice(content, dataset, tests, MOST)
        if first.positive in classes:
            yield _draw_positive(dataset, tests, first.positive, choice)
        if len(first.classes) > 2 and 0 < len(classes) <= MOST_CLASSES:
            yield _draw_classes(dataset, tests, classes, choice)


def _draw_positive(
    dataset: str, tests: list[CellTest], positive: int, choice: str
) -> style.ReportFigure:
    name = tests[0].classes[positive]
    curves = [make_curve(test, positive) for test in tests]
    sensitivities = "; ".join(
        f"{100 * curve.sensitivities.mean():.0f} % with {curve.label}" for curve in curves
    )
    return style.ReportFigure(
        name=style.make_name("roc", dataset),
        title=f"ROC of {name}: {name_dataset(dataset)}",
        caption=(
            f"{name} against all other classes on {name_dataset(dataset)}: "
            f"{describe_tests(tests)}; {tests[0].counts[positive]:,} images are {name}, the "
            f"positive class. {choice} Thin "
            "lines are single seeds, thick ones their mean sensitivity at equal specificity. "
            "Marks are the operating point at 90 % specificity (broken line), where the "
            "sensitivity is "
            f"{sensitivities}. Each network's threshold is set on these test images. One that is "
            "set on other images meets 90 % specificity only roughly. AUC is the mean over seeds."
        ),
        figure=plot_roc(curves, name=name),
        alt=f"ROC curves of {name}. Sensitivity at 90 % specificity: {sensitivities}.",
        section="predictions",
    )


def _draw_classes(
    dataset: str, tests: list[CellTest], classes: list[int], choice: str
) -> style.ReportFigure:
    curves = {tests[0].classes[i]: [make_curve(test, i) for test in tests] for i in classes}
    areas = [
        f"{name} {parts[0].areas.mean():.3f} to {max(c.areas.mean() for c in parts):.3f}"
        for name, parts in curves.items()
    ]
    return style.ReportFigure(
        name=style.make_name("roc_classes", dataset),
        title=f"ROC of every class: {name_dataset(dataset)}",
        caption=(
            f"Each class that has test images against all others on {name_dataset(dataset)}: "
            f"{describe_tests(tests)}. {choice} Lines are means over seeds of the sensitivity at "
            "equal specificity; n is the number of test images of the class. A curve of few "
            "images has coarse steps. The numbers are areas under the curve, means over seeds, in "
            "the order of the legend."
        ),
        figure=plot_classes(curves, counts=tests[0].counts[classes]),
        alt=(
            f"Small ROC curves. Areas from that of {tests[0].label} to the highest: "
            f"{'; '.join(areas)}."
        ),
        section="predictions",
    )


def make_curve(test: CellTest, position: int) -> Curve:
    """Return the curves of a cell's runs for one class against the rest."""
    truth, scores = test.truth[:, position], test.probabilities[:, :, position]
    return Curve(
        label=test.label,
        j=test.j,
        rates=np.array([np.interp(FALSE_RATES, *roc_curve(truth, row)[:2]) for row in scores]),
        areas=np.array([roc_auc_score(truth, row) for row in scores]),
        sensitivities=np.array([compute_sensitivity(truth, row) for row in scores]),
    )


def plot_roc(curves: Sequence[Curve], *, name: str) -> Figure:
    """Plot the curves of a class, one a cell, with the operating point at 90 % specificity."""
    with style.drawing(style.COLUMN, 3.6 + 0.27 * len(curves)) as figure:
        ax = figure.add_subplot()
        ax.axvline(FALSE_RATE, color=style.GREY, lw=0.9, ls=(0, (4, 2)))
        handles, names = [], []
        for i, curve in enumerate(curves):
            look = style.choose_look(i, curve.j) | {"lw": 1.5, "ms": 5.5}
            if len(curve.rates) > 1:
                ax.plot(FALSE_RATES, curve.rates.T, color=look["color"], lw=0.5, alpha=0.4)
            ax.plot(FALSE_RATES, curve.rates.mean(axis=0), **look | {"marker": ""})
            sensitivity = curve.sensitivities.mean()
            ax.plot([FALSE_RATE], [sensitivity], zorder=5, **look | {"ls": ""})
            handles += ax.plot([], [], **look)
            names.append(
                f"{style.wrap(curve.label, 44)}\nAUC {curve.areas.mean():.3f}, "
                f"sensitivity {100 * sensitivity:.1f} % at 90 % specificity"
            )
        ax.plot([0, 1], [0, 1], color=style.GREY, lw=0.7, ls=(0, (1, 2)))
        ax.set_xlabel("1 − specificity (false alarms)")
        ax.set_ylabel(f"sensitivity for {style.make_literal(name, 24)}")
        ax.set(xlim=(-0.01, 1.0), ylim=(0.0, 1.01), aspect="equal")
        ax.grid(True)
        style.add_legend(ax, handles, names, gap=0.42)
    return figure


def plot_classes(curves: dict[str, list[Curve]], *, counts: np.ndarray) -> Figure:
    """Plot small ROC curves, a panel a class with its test images, a line a cell."""
    per_row = min(4, len(curves))
    labels = [curve.label for curve in next(iter(curves.values()))]
    side = min((style.FULL - 0.4) / per_row, 2.6)
    below = 0.4 + 0.15 * len(labels)
    panels = style.drawing_panels(len(curves), per_row, side + 0.2, below=below, share=True)
    with panels as (figure, axes):
        for i, (ax, (name, parts)) in enumerate(zip(axes, curves.items(), strict=True)):
            handles: list[Any] = []
            for n, curve in enumerate(parts):
                look = style.choose_look(n, curve.j) | {"ms": 3.2, "lw": 1.1}
                y = 0.06 + 0.085 * (len(parts) - 1 - n)  # in the order of the legend
                area = ax.text(0.97, y, f"{curve.areas.mean():.3f}", transform=ax.transAxes)
                area.set(color=look["color"], ha="right", fontsize=6.5)
                marks = (60 + 40 * n, 250)
                handles += ax.plot(FALSE_RATES, curve.rates.mean(axis=0), markevery=marks, **look)
            title = f"{style.make_literal(name, 60)}, n = {counts[i]:,}"
            ax.set_title(style.wrap(title, int(side * 72 / 4.7)), fontweight="normal")
            ax.grid(True)
            if i % per_row == 0:
                ax.set_ylabel("sensitivity")
            if i + per_row >= len(curves):
                ax.tick_params(labelbottom=True)
                ax.set_xlabel("1 − specificity")
        axes[0].set(xlim=(-0.01, 1.0), ylim=(0.0, 1.01))
        axes[0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        names = [style.wrap(label, 90) for label in labels]
        figure.legend(handles, names, loc="outside lower center", handlelength=3.2)
    return figure
