"""Yosinski's curves: the loss when the first n units come from elsewhere and stay frozen."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from tlcnn.report.content import Content, LayerScores
from tlcnn.report.figures.style import (
    BLUE,
    FULL,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    ReportFigure,
    add_legend,
    begin,
    drawing,
    letter_panels,
    make_literal,
    make_name,
    make_reach,
    name_ticks,
)
from tlcnn.report.grid import describe_transfer
from tlcnn.report.numbers import count, describe_metric
from tlcnn.study.cells import name_dataset, name_source
from tlcnn.study.words import join_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The look and the name of each treatment; filled marks are frozen, open ones fine-tuned.
ARMS: dict[str, tuple[dict[str, Any], str]] = {
    "AnB": ({"color": ORANGE, "marker": "o", "ls": "-"}, "{source}, frozen (AnB)"),
    "AnB+": (
        {"color": ORANGE, "marker": "o", "ls": (0, (4, 1.5)), "mfc": "white"},
        "{source}, fine-tuned (AnB+)",
    ),
    "BnB": ({"color": BLUE, "marker": "s", "ls": "-"}, "itself, frozen (BnB)"),
    "BnB+": (
        {"color": BLUE, "marker": "s", "ls": (0, (4, 1.5)), "mfc": "white"},
        "itself, fine-tuned (BnB+)",
    ),
    "random-frozen": (
        {"color": GREY, "marker": "x", "ls": (0, (1, 1.2))},
        "random filters, frozen",
    ),
}
VERDICTS: dict[str, dict[str, Any]] = {
    "general": {"marker": "o", "mfc": GREEN, "mec": GREEN},
    "specific": {"marker": "s", "mfc": ORANGE, "mec": ORANGE},
    "undetermined": {"marker": "D", "mfc": "white", "mec": GREY},
}


def draw_layers(content: Content) -> list[ReportFigure]:
    """Draw the layer scores of a report."""
    return [_draw(layers) for layers in content.layers if layers.curves["value"].notna().any()]


def _draw(layers: LayerScores) -> ReportFigure:
    score, subject = describe_metric(layers.metric), describe_transfer(layers)
    source, dataset = name_source(layers.source), name_dataset(layers.dataset)
    verdicts = _describe_verdicts(layers.scores)
    margin = f"±{100 * layers.margin:g} points"
    return ReportFigure(
        name=make_name("layers", layers.dataset, layers.model, layers.source, layers.recipe),
        title=f"General and specific units: {source} to {dataset}",
        caption=(
            f"Treatments of Yosinski et al. (2014) for {subject}. "
            f"(a) {begin(score)} when the first n units come from {source} (A) or from a network "
            "trained on the same data with another seed (B), are frozen or fine-tuned, and the "
            "rest is trained anew. The grey band is the base network, trained from random "
            "weights. (b) Co-adaptation loss C(n) = base − BnB and specificity gap "
            f"S(n) = BnB − AnB, in points. The shaded band is the margin of {margin}: a unit is "
            "general when the interval of S ends below it, and specific when the interval begins "
            "above zero and S lies above the margin. Bars are 95 % intervals; "
            f"{_describe_seeds(layers.curves)}. {verdicts}"
        ),
        figure=plot_layers(layers, width=FULL),
        alt=(
            f"Two panels over n for {subject}: curves of {score} for transferred and retrained "
            f"units, and the losses C and S. {verdicts}"
        ),
        wide=True,
        section="layers",
    )


def _describe_seeds(curves: pd.DataFrame) -> str:
    seeds = sorted({int(n) for n in curves["n_seeds"].dropna()})
    if len(seeds) == 1:
        return f"every point is {'the mean of ' if seeds[0] > 1 else ''}{count(seeds[0], 'seed')}"
    return f"points are means of {seeds[0]} to {seeds[-1]} seeds"


def _describe_verdicts(scores: pd.DataFrame) -> str:
    groups = []
    for verdict in (*VERDICTS, "not measured"):
        rows = scores[scores["verdict"] == verdict]
        if len(rows):
            names = [f"{n} ({unit})" for n, unit in zip(rows["n"], rows["unit"], strict=True)]
            groups.append(f"{join_words(names)} {verdict}")
    return f"Through unit n = {'; '.join(groups)}." if groups else ""


def plot_layers(layers: LayerScores, *, width: float = FULL) -> "Figure":
    """Plot the treatments over n, and C(n) and S(n) with their verdicts.

    Args:
        width: inches; below 5 the panels are in one column.
    """
    is_row = width >= 5
    with drawing(width, 3.3 if is_row else 5.6) as figure:
        first, second = figure.subplots(1, 2) if is_row else figure.subplots(2, 1)
        _plot_arms(first, layers)
        _plot_scores(second, layers)
        names = [f"{n}\n{make_literal(unit, 14)}" for n, unit in enumerate(layers.units, 1)]
        inches = ((width / 2 if is_row else width) - 0.7) / len(names)
        for ax in (first, second):
            ax.set_xticks(range(1, len(names) + 1))
            name_ticks(ax.xaxis, names, inches)
            ax.set_xlim(0.5, len(names) + 0.5)
            ax.set_xlabel("units 1 to n, through …")
            ax.grid(axis="y")
        letter_panels([first, second])
    return figure


def _plot_arms(ax: "Axes", layers: LayerScores) -> None:
    curves = layers.curves
    handles: list[Any] = []
    names: list[str] = []
    base = curves[curves["arm"] == "base"]
    if len(base):
        row = base.iloc[0]
        if pd.notna(row["low"]) and pd.notna(row["high"]):
            ax.axhspan(row["low"], row["high"], color="#E3E3E3", lw=0, zorder=0)
        handles.append(ax.axhline(row["value"], color="#555555", lw=1, zorder=1))
        names.append("base (random weights)")
    arms = [arm for arm in ARMS if (curves["arm"] == arm).any()]
    for i, arm in enumerate(arms):
        look, name = ARMS[arm]
        rows = curves[curves["arm"] == arm].sort_values("n")
        x = rows["n"] + 0.11 * (i - (len(arms) - 1) / 2)
        reach = make_reach(rows["value"], rows["low"], rows["high"])
        value = rows["value"].to_numpy(float)
        handles.append(ax.errorbar(x, value, yerr=reach, elinewidth=0.8, **look))
        names.append(name.format(source=make_literal(name_source(layers.source), 18)))
    ax.set_ylabel(describe_metric(layers.metric))
    add_legend(ax, handles, names, 2, down=-0.22)


def _plot_scores(ax: "Axes", layers: LayerScores) -> None:
    scores, margin = layers.scores, 100 * layers.margin
    handles: list[Any] = [ax.axhspan(-margin, margin, color="#E9E9E9", lw=0, zorder=0)]
    names = [f"margin, ±{margin:g} points", "co-adaptation loss C", "specificity gap S"]
    ax.axhline(0, color="#555555", lw=0.8, zorder=1)
    loss = {"color": SKY, "marker": "^", "ls": (0, (4, 1.5)), "mfc": "white"}
    gap = {"color": PURPLE, "ls": "-"}
    for name, shift, look in (("C", -0.08, loss), ("S", 0.08, gap)):
        columns = scores[[name, f"{name}_low", f"{name}_high"]]
        value, low, high = 100 * columns.to_numpy(float).T
        x, reach = scores["n"] + shift, make_reach(value, low, high)
        handles.append(ax.errorbar(x, value, yerr=reach, elinewidth=0.8, **look))
    for verdict, look in VERDICTS.items():
        rows = scores[scores["verdict"] == verdict]
        marks = ax.plot(rows["n"] + 0.08, 100 * rows["S"], ls="", ms=6, zorder=4, **look)
        if len(rows):
            handles += marks
            names.append(f"S, {verdict}")
    ax.set_ylabel(f"{describe_metric(layers.metric)} lost, points")
    add_legend(ax, handles, names, 2, down=-0.22)
