"""Measures of the networks over units, beside what freezing costs: one panel a measure."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlcnn.report.content import Content, LayerMeasures, LayerScores
from tlcnn.report.figures import style
from tlcnn.report.forest import make_scale
from tlcnn.report.grid import describe_transfer
from tlcnn.report.measure_words import find_words
from tlcnn.report.numbers import describe_metric, name_unit
from tlcnn.report.words import GAP_NAMES, is_share, name_dataset

_PER_ROW = 3
_ABOVE = 26  # points between an axis and its title, where the legend is
_MOST_NAMED = 8  # units that a panel has the width to name; of more it shows the numbers
# The looks of the variants of a measure, told apart by mark and dash in grey too.
_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": style.BLUE, "marker": "o", "ls": "-"},
    {"color": style.ORANGE, "marker": "s", "ls": (0, (4, 1.5)), "mfc": "white"},
    {"color": style.GREEN, "marker": "^", "ls": (0, (1, 1)), "mfc": "white"},
)
_REFERENCES: dict[str, dict[str, Any]] = {
    "null": {"color": style.GREY, "ls": (0, (1, 1)), "lw": 1.5},
    "ceiling": {"color": "#333333", "ls": (0, (5, 1.5)), "lw": 1.0},
}
_ARROWS = {1: "specific →", -1: "general →", 0: ""}  # along the axis, which is read upwards


def draw_measures(content: Content) -> Iterator[style.ReportFigure]:
    """Draw one figure for each source that was analysed."""
    for part in content.measures:
        if part.readings["value"].isna().all():
            continue
        subject = describe_transfer(part)
        source, dataset = part.source_name or part.source, name_dataset(part.dataset)
        names = (part.dataset, part.model, part.source, part.recipe)
        seeds = part.readings.loc[part.readings["value"].notna(), "n_seeds"]
        yield style.ReportFigure(
            name=style.make_name("measures", *names),
            title=f"Measures of the units: {source} to {dataset}",
            caption=(
                f"What freezing the first n units costs, and what measures of the networks say of "
                f"each unit, of {subject}; networks of the cell {part.cell}. "
                f"{_describe_panels(part)} Arrows show which way is specific or general. Bars are "
                "95 % intervals, over seeds where there are several; a bar may leave its panel. "
                f"{style.begin(style.describe_seeds(seeds, 'reading'))}.{_name_units(part)}"
            ),
            figure=plot_measures(part),
            alt=(
                f"Small panels over the units for {subject}: the cost of freezing and one measure "
                f"a panel. {part.summary}"
            ),
            section="layers",
        )


def _describe_panels(part: LayerMeasures) -> str:
    text = "Each panel has one measure; open marks are further variants of it."
    if part.readings["null"].notna().any():
        text += " Dotted: the null (nothing is shared)."
    if part.readings["ceiling"].notna().any():
        text += " Short dashes: the ceiling (two networks that differ in the seed alone)."
    if part.costs is not None:
        text += (
            f" (a) is in {describe_metric(part.costs.metric)}; its broken line is the margin δ."
        )
    return text


def _name_units(part: LayerMeasures) -> str:
    if len(part.units) <= _MOST_NAMED:
        return ""
    return f" Units: {', '.join(f'{n} {unit}' for n, unit in enumerate(part.units, 1))}."


def plot_measures(part: LayerMeasures) -> Figure:
    """Plot the costs, if any, and every measure that has a reading, a panel each."""
    shown = part.readings[part.readings["is_shown"] & part.readings["value"].notna()]
    measures = list(dict.fromkeys(shown["measure"]))
    n_panels = len(measures) + (part.costs is not None)
    with style.drawing_panels(n_panels, _PER_ROW, 2.1) as (figure, axes):
        panels = iter(axes)
        if part.costs is not None:
            _plot_costs(next(panels), part.costs)
        for measure, ax in zip(measures, panels, strict=True):
            _plot_measure(ax, shown[shown["measure"] == measure])
        for letter, ax in zip("abcdefghijklmnopqrstuvwxyz", axes, strict=False):
            ax.set_title(f"{letter}  {ax.get_title(loc='left')}", loc="left", pad=_ABOVE)
            _name_axis(ax, part.units)
    return figure


def _plot_costs(ax: Axes, costs: LayerScores) -> None:
    basis, factor = costs.basis, 100 if is_share(costs.metric) else 1
    rows = factor * costs.scores[[basis, f"{basis}_low", f"{basis}_high"]].astype(float)
    rows.columns = pd.Index(["value", "low", "high"])
    margin = factor * costs.margin
    handles: list[Any] = [ax.axhline(margin, **style.MARGIN)]
    ax.axhline(0, color="#555555", lw=0.8, zorder=1)
    look = {"color": style.PURPLE, "marker": "^", "ls": "-"}
    handles.append(style.plot_intervals(ax, costs.scores["n"], rows, elinewidth=0.8, **look))
    _set_limits(ax, rows, [0.0, margin])
    ax.set_title(GAP_NAMES[basis], loc="left")
    unit = name_unit(costs.metric)
    ax.set_ylabel(f"{unit or 'score'} lost, specific →")
    names = [f"margin δ, {margin:.2g} {unit}".strip(), "cost"]
    style.add_legend(ax, handles, names, 2, gap=-0.03)


def _plot_measure(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot the variants of a measure, with the null and the ceiling of the first."""
    measure = find_words(str(rows["measure"].iloc[0]))
    variants = list(dict.fromkeys(rows["variant"]))
    handles: list[Any] = []
    names: list[str] = []
    first = rows[rows["variant"] == variants[0]].sort_values("n")
    for name, look in _REFERENCES.items():
        if first[name].notna().any():
            place = (first[name], first["n"] - 0.42, first["n"] + 0.42)
            handles.append(ax.hlines(*place, zorder=1, **look))
            names.append(name)
    for i, (variant, look) in enumerate(zip(variants, _LOOKS, strict=False)):
        part = rows[rows["variant"] == variant].sort_values("n")
        x = part["n"] + 0.14 * (i - (min(len(variants), len(_LOOKS)) - 1) / 2)
        handles.append(style.plot_intervals(ax, x, part, elinewidth=0.8, **look))
        names.append(style.make_literal(variant, 18))
    _set_limits(ax, rows, [*first["null"], *first["ceiling"]])
    ax.set_title(style.make_literal(measure.title, 34), loc="left")
    ax.set_ylabel(_ARROWS[measure.side])
    style.add_legend(ax, handles, names, 2, gap=-0.03)


def _set_limits(ax: Axes, rows: pd.DataFrame, edges: Sequence[float]) -> None:
    """Set limits with every value and edge inside; a far wider interval leaves the panel."""
    values = rows[["low", "value", "high"]].astype(float)
    first = values["value"].dropna().iloc[0]
    scale = make_scale(values - first, "low", "value", "high", 0.0)
    inside = [edge for edge in edges if np.isfinite(edge)]
    inside += [*values["value"].dropna(), *(first + scale[0], first + scale[1])]
    pad = 0.06 * (max(inside) - min(inside))
    ax.set_ylim(min(inside) - pad, max(inside) + pad)


def _name_axis(ax: Axes, units: Sequence[str]) -> None:
    """Name the units at the ticks, or number some of them where there is no room."""
    n_units = len(units)
    if n_units > _MOST_NAMED:
        ax.set_xticks(range(1, n_units + 1, -(-n_units // 10)))
    else:
        names = [f"{n}\n{style.make_literal(unit, 14)}" for n, unit in enumerate(units, 1)]
        inches = (style.FULL / _PER_ROW - 0.6) / n_units
        style.name_ticks(ax, range(1, n_units + 1), names, inches)
    ax.set_xlim(0.5, n_units + 0.5)
    ax.grid(axis="y")
