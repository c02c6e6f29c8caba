"""A planted study in two figures: which measure orders the units as the oracle, and the curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.report.figures import style
from tlcnn.report.measure_words import find_words
from tlcnn.report.planted_tables import describe_source, name_measure
from tlcnn.study.agreement import COST, NUMBER, Score
from tlcnn.study.measures import UnitReading
from tlcnn.study.planted import NETWORKS, TASKS, Family

_ROW = 0.2  # inches of a measure
_SUFFIXES = {NETWORKS: "", TASKS: "-tasks"}  # of the names of figures
_LOOKS: dict[str, dict[str, Any]] = {
    "S": {"color": style.BLUE, "marker": "o"},
    "F": {"color": style.ORANGE, "marker": "s", "mfc": "white"},
}
Curves = Mapping[tuple[str, str], Mapping[int, Sequence[UnitReading]]]


def draw_taus(scores: Sequence[Score]) -> style.ReportFigure:
    """Return one row a measure and variant: tau with S* and its interval, the best first.

    Args:
        scores: of one plant.
    """
    rows = list({(s.measure, s.variant): s for s in scores if s.tau_S.n}.values())
    rows.sort(key=lambda score: score.tau_S.value)
    with style.drawing(style.FULL * 0.75, _ROW * len(rows) + 0.7) as figure:
        ax = figure.subplots()
        handles = []
        for i, (basis, look) in enumerate(_LOOKS.items()):
            taus = [getattr(score, f"tau_{basis}") for score in rows]
            value, low, high = np.array([(t.value, t.low, t.high) for t in taus], float).T
            reach = np.nan_to_num(np.maximum([value - low, high - value], 0.0))
            ys = np.arange(len(rows)) + 0.12 - 0.24 * i
            look = {**look, "ls": "none", "elinewidth": 0.8}
            handles.append(ax.errorbar(value, ys, xerr=reach, **look))
        ax.axvline(0, color="#555555", lw=0.8, zorder=1)
        names = [style.make_literal(f"{name_measure(s)}, {s.variant}", 44) for s in rows]
        ax.set_yticks(range(len(rows)), names)
        ax.set(xlim=(-1.05, 1.05), xlabel="Kendall's τ with the oracle, mean over families")
        ax.grid(axis="x")
        ax.set_ylim(-0.6, len(rows) - 0.4)
        style.add_legend(ax, handles, [f"{basis}*" for basis in _LOOKS], 2, gap=-0.03)
    n = max((score.tau_S.n for score in rows), default=0)
    return style.ReportFigure(
        name=f"agreement{_SUFFIXES[scores[0].plant]}",
        title="Agreement of measures with the planted truth",
        caption=(
            f"Kendall's τ between each measure's order of the units and the oracle's S* (filled) "
            f"and F* (open), mean over up to {n} planted families in which something is specific. "
            "1 is the same order. Bars are 95 % bootstrap intervals over families."
        ),
        figure=figure,
        alt="Kendall's τ of each measure with the oracle, with intervals.",
        section="layers",
    )


def choose_shown(
    scores: Sequence[Score], families: Sequence[Family]
) -> tuple[list[tuple[str, str]], list[int]]:
    """Return the best variants of the three measures that order the units best, and four families.

    The families are of the first network: two plain ones, one whose A was trained in another way,
    and one in which A learnt the same task.

    Args:
        scores: of one plant.
    """
    best: dict[str, str] = {}
    for score in sorted(scores, key=lambda score: -np.nan_to_num(score.tau_S.value, nan=-2)):
        if score.measure not in (COST[0], NUMBER[0]):
            best.setdefault(score.measure, score.variant)
    groups: dict[tuple[bool, bool], list[int]] = {}
    in_plant = [(i, f) for i, f in enumerate(families) if f.plant == scores[0].plant]
    for i, family in in_plant:
        if family.model == in_plant[0][1].model:
            groups.setdefault((family.is_same_task, bool(family.changed)), []).append(i)
    plain, *special = groups.values()
    shown = [*dict.fromkeys((plain[0], plain[len(plain) // 2])), *(group[0] for group in special)]
    return list(best.items())[:3], shown


def draw_families(
    families: Sequence[Family],
    curves: Curves,
    chosen: Sequence[tuple[str, str]],
    margin: float,
    shown: Sequence[int],
) -> style.ReportFigure:
    """Return small multiples: a column a family, S* in the first row and a measure in each other.

    Args:
        chosen: the measures and variants.
        shown: the positions of the families.
    """
    n_rows, n_columns = 1 + len(chosen), len(shown)
    with style.drawing(style.FULL, 1.25 * n_rows + 0.3) as figure:
        axes = figure.subplots(n_rows, n_columns, squeeze=False, sharex="col", sharey="row")
        for column, i in zip(axes.T, shown, strict=True):
            family = families[i]
            depth = family.find_depth(margin)
            gaps = pd.DataFrame(
                [(g.value, g.low, g.high) for g in family.specificity.values()],
                columns=["value", "low", "high"],
            )
            ns = list(family.specificity)
            column[0].axhspan(-margin, margin, color="#E3E3E3", lw=0, zorder=0)
            look = {"color": style.PURPLE, "marker": "^", "elinewidth": 0.8}
            style.plot_intervals(column[0], ns, gaps, **look)
            column[0].set_title(f"m = {family.m}\n{style.wrap(describe_source(family), 24)}")
            for ax, key in zip(column[1:], chosen, strict=True):
                readings = curves.get(key, {}).get(i, ())
                rows = pd.DataFrame(
                    [
                        (r.n, r.estimate.value, r.estimate.low, r.estimate.high, r.null, r.ceiling)
                        for r in readings
                    ],
                    columns=["n", "value", "low", "high", "null", "ceiling"],
                ).astype(float)
                ax.plot(rows["n"], rows["null"], color=style.GREY, ls=(0, (1, 1)))
                ax.plot(rows["n"], rows["ceiling"], color="#333333", ls=(0, (5, 1.5)), lw=1.0)
                look = {"color": style.BLUE, "marker": "o", "elinewidth": 0.8}
                style.plot_intervals(ax, rows["n"], rows, **look)
            for ax in column:
                ax.axvline(depth + 0.5, color="#B00020", lw=0.9, ls=(0, (3, 2)), zorder=1)
                ax.set_xticks(ns)
                ax.grid(axis="y")
            column[-1].set_xlabel("n")
        axes[0, 0].set_ylabel("S*, points")
        for ax, (measure, variant) in zip(axes[1:, 0], chosen, strict=True):
            ax.set_ylabel(style.wrap(f"{find_words(measure).title}, {variant}", 20))
    names = "; ".join(families[i].name for i in shown)
    return style.ReportFigure(
        name=f"agreement-families{_SUFFIXES[families[shown[0]].plant]}",
        title="Curves of planted families",
        caption=(
            f"S* and measures over the units of planted families ({names}). The vertical line is "
            f"n*, behind which S* leaves the margin of {margin:g} points (shaded). Dotted: the "
            "null. Short dashes: the ceiling. Bars are 95 % intervals over seeds."
        ),
        figure=figure,
        alt="The oracle's S* over the units beside curves of measures, a column a family.",
        section="layers",
    )
