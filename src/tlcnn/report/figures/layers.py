"""What freezing the first n units costs, and Yosinski's curves where they were trained."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlcnn.report.content import Content, LayerScores
from tlcnn.report.figures import style
from tlcnn.report.grid import describe_transfer
from tlcnn.report.numbers import describe_metric, is_number, write_ratio
from tlcnn.report.words import join_words, name_dataset

_DASHED: dict[str, Any] = {"ls": (0, (4, 1.5)), "mfc": "white"}
# The look and the name of each treatment; filled marks are frozen, open ones fine-tuned.
ARMS: dict[str, tuple[dict[str, Any], str]] = {
    "frozen": (
        {"color": style.GREEN, "marker": "^", "ls": "-"},
        "{source} in all units, first n frozen",
    ),
    "AnB": ({"color": style.ORANGE, "marker": "o", "ls": "-"}, "{source}, frozen (AnB)"),
    "AnB+": ({"color": style.ORANGE, "marker": "o", **_DASHED}, "{source}, fine-tuned (AnB+)"),
    "BnB": ({"color": style.BLUE, "marker": "s", "ls": "-"}, "itself, frozen (BnB)"),
    "BnB+": ({"color": style.BLUE, "marker": "s", **_DASHED}, "itself, fine-tuned (BnB+)"),
    "random-frozen": (
        {"color": style.GREY, "marker": "x", "ls": (0, (1, 1.2))},
        "random filters, frozen",
    ),
}
VERDICTS: dict[str, dict[str, Any]] = {
    "general": {"marker": "o", "mfc": style.GREEN, "mec": style.GREEN},
    "specific": {"marker": "s", "mfc": style.ORANGE, "mec": style.ORANGE},
    "better": {"marker": "^", "mfc": style.BLUE, "mec": style.BLUE},
    "undetermined": {"marker": "D", "mfc": "white", "mec": style.GREY},
}
# The look and the name of each gap of the second panel.
GAPS: dict[str, tuple[dict[str, Any], str]] = {
    "C": ({"color": style.SKY, "marker": "v", **_DASHED}, "co-adaptation loss C"),
    "S": ({"color": style.AMBER, "marker": "s", **_DASHED}, "specificity gap S"),
    "F": ({"color": style.PURPLE, "marker": "^", **_DASHED}, "freezing cost F"),
}
_MEANINGS = {
    "F": "freezing cost F(n) = full fine-tuning − first n frozen",
    "C": "co-adaptation loss C(n) = base − BnB",
    "S": "specificity gap S(n) = BnB − AnB",
}


def draw_layers(content: Content) -> Iterator[style.ReportFigure]:
    """Draw the layer scores of a report."""
    for layers in content.layers:
        if layers.curves["value"].isna().all():
            continue
        score, subject = describe_metric(layers.metric), describe_transfer(layers)
        source, dataset = layers.source_name or layers.source, name_dataset(layers.dataset)
        verdicts = _describe_verdicts(layers.scores)
        names = (layers.dataset, layers.model, layers.source, layers.recipe)
        yield style.ReportFigure(
            name=style.make_name("layers", *names),
            title=f"General and specific units: {source} to {dataset}",
            caption=(
                f"What the first n units cost. (a) {style.begin(score)} of {subject}."
                f"{_describe_treatments(layers, source)} (b) {_describe_gaps(layers)} The broken "
                f"line is the margin δ, {100 * layers.margin:.1f} points. General needs the "
                f"whole interval of {layers.basis} below it, and specific "
                "the whole interval above it; both need a test that is adjusted over n as well. "
                "Bars are 95 % intervals; "
                f"{style.describe_seeds(layers.curves['n_seeds'], 'point')}. {verdicts}"
            ),
            figure=plot_layers(layers),
            alt=(
                f"Two panels over n for {subject}: curves of {score} for transferred and "
                f"retrained units, and what the first n cost. {verdicts}"
            ),
            section="layers",
        )


def _describe_treatments(layers: LayerScores, source: str) -> str:
    """Return which networks the curves are of, a sentence for each kind that was trained."""
    arms, text = set(select_curves(layers)["arm"]), ""
    if "frozen" in arms:
        text += f" Triangles: all units come from {source}, and the first n are frozen."
    if arms & {"AnB", "AnB+", "BnB", "BnB+"}:
        text += (
            f" AnB and BnB (Yosinski et al. 2014): the first n units come from {source} (A), or "
            "from a network trained on the same data with another seed (B), and are frozen or "
            "(+) fine-tuned; the rest is trained anew."
        )
    if "base" in arms:
        text += " The grey line is the base network, trained from random weights, and the grey "
        text += "band its interval."
    return text


def select_curves(layers: LayerScores) -> pd.DataFrame:
    """Return the curves without AnB and AnB+ where they have n = L alone.

    There they are the networks of `frozen` and `full`, whose units come from the source as well.
    """
    curves, doubles = layers.curves, {"AnB": "frozen", "AnB+": "full"}
    hidden = [
        arm
        for arm, double in doubles.items()
        if double in set(curves["arm"])
        and set(curves.loc[curves["arm"] == arm, "n"]) == {len(layers.units)}
    ]
    return curves[~curves["arm"].isin(hidden)]


def _describe_gaps(layers: LayerScores) -> str:
    names = _list_gaps(layers)
    text = f"{style.begin(join_words([_MEANINGS[name] for name in names]))}, in points."
    if "S" in names:
        ratio = write_ratio(layers.image_ratio) if is_number(layers.image_ratio) else "unknown"
        text += f" S compares two sources; their ratio of training images is {ratio}."
    return text


def _list_gaps(layers: LayerScores) -> list[str]:
    """Return the gaps that were measured for some n, that of the verdicts last."""
    measured = [name for name in GAPS if layers.scores[name].notna().any()]
    return sorted(measured, key=lambda name: name == layers.basis)


def _describe_verdicts(scores: pd.DataFrame) -> str:
    groups = []
    for verdict in (*VERDICTS, "not measured"):
        rows = scores[scores["verdict"] == verdict]
        if len(rows):
            names = [
                f"{n} ({'all units' if n == len(scores) else f'through {unit}'})"
                for n, unit in zip(rows["n"], rows["unit"], strict=True)
            ]
            groups.append(f"n = {join_words(names)} {verdict}")
    return f"Verdicts: {'; '.join(groups)}." if groups else ""


def plot_layers(layers: LayerScores) -> Figure:
    """Plot the treatments over n, and the gaps with the verdicts."""
    with style.drawing(style.FULL, 3.3) as figure:
        first, second = figure.subplots(1, 2)
        _plot_arms(first, layers)
        _plot_scores(second, layers)
        names = [f"{n}\n{style.make_literal(unit, 14)}" for n, unit in enumerate(layers.units, 1)]
        for letter, ax in (("a", first), ("b", second)):
            inches = (style.FULL / 2 - 0.7) / len(names)
            style.name_ticks(ax, range(1, len(names) + 1), names, inches)
            ax.set(xlim=(0.5, len(names) + 0.5), xlabel="units 1 to n, through …")
            ax.set_title(letter, loc="left", fontsize=9)
            ax.grid(axis="y")
    return figure


def _plot_arms(ax: Axes, layers: LayerScores) -> None:
    handles: list[Any] = []
    names: list[str] = []
    curves = dict(list(select_curves(layers).groupby("arm")))
    if "base" in curves:
        base, name = curves["base"].iloc[0], "base (random weights)"
        line: Any = ax.axhline(base["value"], color="#555555", lw=1, zorder=1)
        if pd.notna(base["low"]) and pd.notna(base["high"]):
            band = ax.axhspan(base["low"], base["high"], color="#E3E3E3", lw=0, zorder=0)
            line, name = (band, line), "base with its interval"
        handles.append(line)
        names.append(name)
    source = style.make_literal(layers.source_name or layers.source, 18)
    if "full" in curves:
        full = curves["full"].iloc[0]["value"]
        handles.append(ax.axhline(full, color=style.GREEN, lw=1, ls="--", zorder=1))
        names.append(f"{source}, full fine-tuning")
    arms = [arm for arm in ARMS if arm in curves]
    for i, arm in enumerate(arms):
        (look, name), rows = ARMS[arm], curves[arm].sort_values("n")
        x = rows["n"] + 0.11 * (i - (len(arms) - 1) / 2)
        handles.append(style.plot_intervals(ax, x, rows, elinewidth=0.8, **look))
        names.append(name.format(source=source))
    ax.set_ylabel(describe_metric(layers.metric))
    style.add_legend(ax, handles, names, 2, gap=-0.22)


def _plot_scores(ax: Axes, layers: LayerScores) -> None:
    scores, margin = layers.scores, 100 * layers.margin
    handles: list[Any] = [ax.axhline(margin, **style.MARGIN)]
    names = [f"margin δ, {margin:.1f} points"]
    ax.axhline(0, color="#555555", lw=0.8, zorder=1)
    shown, basis = _list_gaps(layers), layers.basis
    shifts = {name: 0.12 * (i - (len(shown) - 1) / 2) for i, name in enumerate(shown)}
    for name in shown:
        look, title = GAPS[name]
        look = {"color": style.PURPLE, "ls": "-"} if name == basis else look
        rows = 100 * scores[[name, f"{name}_low", f"{name}_high"]].astype(float)
        rows.columns = pd.Index(["value", "low", "high"])
        x = scores["n"] + shifts[name]
        handles.append(style.plot_intervals(ax, x, rows, elinewidth=0.8, **look))
        is_counted = name == "S" and is_number(layers.image_ratio)
        names.append(title + f" ({write_ratio(layers.image_ratio)} × the images)" * is_counted)
    for verdict, look in VERDICTS.items():
        rows = scores[scores["verdict"] == verdict]
        if len(rows):
            x, y = rows["n"] + shifts.get(basis, 0.0), 100 * rows[basis]
            handles += ax.plot(x, y, ls="", ms=6, zorder=4, **look)
            names.append(f"{basis}, {verdict}")
    ax.set_ylabel(f"{describe_metric(layers.metric)} lost, points")
    style.add_legend(ax, handles, names, 2, gap=-0.22)
