"""Yosinski's curves: what is lost when the first n units come from elsewhere, and stay."""

from typing import TYPE_CHECKING, Any

import numpy as np
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
    Drawn,
    add_legend,
    begin,
    count,
    describe_metric,
    finish,
    letter_panels,
    list_words,
    make_figure,
    make_literal,
    make_name,
    name_ticks,
    styled,
)
from tlcnn.report.words import name_dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# arm -> what its line looks like and what it is; filled marks are frozen, open ones fine-tuned.
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


def draw_layers(content: Content) -> list[Drawn]:
    """Draw the layer scores of a report."""
    return [_draw(layers) for layers in content.layers if layers.curves["value"].notna().any()]


def _draw(layers: LayerScores) -> Drawn:
    score = describe_metric(layers.metric)
    source, dataset = layers.source_name or layers.source, name_dataset(layers.dataset)
    verdicts = _describe_verdicts(layers.scores)
    seeds = _describe_seeds(layers.curves)
    return Drawn(
        name=make_name("layers", layers.dataset, layers.model, layers.source, layers.recipe),
        title=f"General and specific units: {source} to {dataset}",
        caption=(
            f"Treatments of Yosinski et al. (2014) for {layers.model} on {dataset}. "
            f"(a) {begin(score)} when the first n units come from {source} (A) or "
            "from a network trained on the same data with another seed (B), are frozen or "
            "fine-tuned, and the rest is trained anew; the grey band is the base network, "
            "trained from random weights. (b) Co-adaptation loss C(n) = base − BnB and "
            "specificity gap S(n) = BnB − AnB, in points. The shaded band is the margin of "
            f"±{100 * layers.margin:g} points: a unit is general when the interval of S ends "
            "below it, and specific when it begins above zero and S lies above the margin. "
            f"Bars are 95 % intervals; {seeds}. {verdicts}"
        ),
        figure=plot_layers(
            layers.curves,
            layers.scores,
            units=layers.units,
            source=source,
            metric=layers.metric,
            margin=layers.margin,
            width=FULL,
        ),
        alt=(
            f"Two panels over n for {layers.model} on {dataset}: curves of {score} for "
            f"transferred and retrained units, and the losses C and S. {verdicts}"
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
        mine = scores[scores["verdict"] == verdict]
        if len(mine):
            names = [f"{n} ({unit})" for n, unit in zip(mine["n"], mine["unit"], strict=True)]
            groups.append(f"{list_words(names)} {verdict}")
    return f"Through unit n = {'; '.join(groups)}." if groups else ""


def plot_layers(
    curves: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    units: tuple[str, ...],
    source: str,
    metric: str,
    margin: float,
    width: float = FULL,
) -> "Figure":
    """Plot the treatments over n, and C(n) and S(n) with their verdicts.

    Args:
        curves: columns arm, n, value, low, high; one row a point.
        scores: columns n, C, C_low, C_high, S, S_low, S_high, verdict.
        units: names of units 1..L.
        source: where A's units come from.
        metric: what `value` is.
        margin: delta, in units of the metric.
        width: inches; below 5 the panels stand on each other.
    """
    beside = width >= 5
    with styled():
        figure = make_figure(width, 3.3 if beside else 5.6)
        above, below = figure.subplots(1, 2) if beside else figure.subplots(2, 1)
        _plot_arms(above, curves, source, metric)
        _plot_scores(below, scores, metric, margin)
        for ax in (above, below):
            _label_units(ax, units, width / 2 if beside else width)
            ax.grid(axis="y")
        letter_panels([above, below])
        return finish(figure)


def _plot_arms(ax: "Axes", curves: pd.DataFrame, source: str, metric: str) -> None:
    handles, names = [], []
    base = curves[curves["arm"] == "base"]
    if len(base):
        row = base.iloc[0]
        if pd.notna(row["low"]) and pd.notna(row["high"]):
            ax.axhspan(row["low"], row["high"], color="#E3E3E3", lw=0, zorder=0)
        line = ax.axhline(row["value"], color="#555555", lw=1, zorder=1)
        handles.append(line)
        names.append("base (random weights)")
    drawn = [arm for arm in ARMS if (curves["arm"] == arm).any()]
    for i, arm in enumerate(drawn):
        look, name = ARMS[arm]
        rows = curves[curves["arm"] == arm].sort_values("n")
        shift = 0.11 * (i - (len(drawn) - 1) / 2)
        handles.append(_plot_points(ax, rows["n"] + shift, rows, "value", look))
        names.append(name.format(source=make_literal(source, 18)))
    ax.set_ylabel(describe_metric(metric))
    add_legend(ax, handles, names, 2, down=-0.22)


def _plot_points(ax: "Axes", x: Any, rows: pd.DataFrame, key: str, look: dict[str, Any]) -> Any:
    low, high = ("low", "high") if key == "value" else (f"{key}_low", f"{key}_high")
    value = rows[key].to_numpy(float)
    reach = np.vstack([value - rows[low].to_numpy(float), rows[high].to_numpy(float) - value])
    reach = np.nan_to_num(np.maximum(reach, 0.0))
    return ax.errorbar(x, value, yerr=reach, elinewidth=0.8, **look)


def _plot_scores(ax: "Axes", scores: pd.DataFrame, metric: str, margin: float) -> None:
    points = scores.copy()
    columns = [f"{name}{end}" for name in "CS" for end in ("", "_low", "_high")]
    points[columns] = 100 * points[columns].astype(float)
    band = ax.axhspan(-100 * margin, 100 * margin, color="#E9E9E9", lw=0, zorder=0)
    ax.axhline(0, color="#555555", lw=0.8, zorder=1)
    loss = {"color": SKY, "marker": "^", "ls": (0, (4, 1.5)), "mfc": "white"}
    gap = {"color": PURPLE, "ls": "-"}
    handles = [
        band,
        _plot_points(ax, points["n"] - 0.08, points, "C", loss),
        _plot_points(ax, points["n"] + 0.08, points, "S", gap),
    ]
    names = [f"margin, ±{100 * margin:g} points", "co-adaptation loss C", "specificity gap S:"]
    for verdict, look in VERDICTS.items():
        mine = points[points["verdict"] == verdict]
        marks = ax.plot(mine["n"] + 0.08, mine["S"], ls="", ms=6, zorder=4, **look)
        if len(mine):
            handles += marks
            names.append(verdict)
    ax.set_ylabel(f"{describe_metric(metric)} lost, points")
    add_legend(ax, handles, names, 2, down=-0.22)


def _label_units(ax: "Axes", units: tuple[str, ...], width: float) -> None:
    ax.set_xticks(range(1, len(units) + 1))
    names = [f"{n}\n{make_literal(unit, 14)}" for n, unit in enumerate(units, 1)]
    name_ticks(ax.xaxis, names, (width - 0.7) / len(units))
    ax.set_xlim(0.5, len(units) + 0.5)
    ax.set_xlabel("units 1 to n, through …")
