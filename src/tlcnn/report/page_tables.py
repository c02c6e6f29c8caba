"""The tables of a page: comparisons, cells, runs, layer scores, commands."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tlcnn.report.content import Content, LayerScores
from tlcnn.report.page_cells import (
    Cell,
    Column,
    Make,
    Table,
    fill_table,
    make_bar,
    make_interval,
    make_number,
    make_scale,
    make_text,
    make_title,
    make_verdict,
)
from tlcnn.report.page_words import (
    format_p,
    format_score,
    format_value,
    name_column,
    name_unit,
)


def make_comparison_table(content: Content) -> Table:
    """Return the comparisons: difference, interval, bar, p after Holm, verdict."""
    frame, metric = content.comparisons, content.metric
    margin, unit = _find_margin(frame), name_unit(metric)
    records: list[Any] = frame.to_dict("records")
    plan: list[tuple[Column, Make]] = [
        (Column("comparison"), make_title(_make_pair, "dataset", records)),
        (Column("Δ (95 % interval)", "number", unit), _make_gap(metric)),
        (Column("difference", "bar", _BAR), make_bar("delta", "low", "high")),
        (Column("Holm p", "number", "corrected in its family"), make_number("p_holm", format_p)),
        (Column("verdict", "verdict"), make_verdict("verdict")),
        (Column("seeds", "number", "pairs of runs"), make_number("n_seeds", format_value)),
        (Column("seeds needed", "number", "to settle what is inconclusive"), _NEEDED),
        (Column("dataset", aside=True), make_text("dataset")),
        (Column("model", aside=True), make_text("model")),
        (Column("family", aside=True), make_text("family")),
        (Column("note"), make_text("note")),
    ]
    scale = make_scale(frame, "low", "delta", "high", margin)
    nouns = ("comparison", "comparisons")
    return fill_table(
        "comparisons", "Comparisons", records, plan, _open_first, scale=scale, noun=nouns
    )


_BAR = "the line is zero, the band the margin; an arrow goes on beyond the scale"
_NEEDED = make_number("seeds_needed", format_value, "it is settled, or nothing tells")


def _find_margin(frame: pd.DataFrame) -> float:
    margins: Sequence[float] = list(frame["margin"].dropna()) if "margin" in frame else []
    return float(max(margins)) if margins else 0.01


def _make_pair(row: Mapping[str, Any]) -> Cell:
    text = f"{format_value(row.get('a_label'))} vs {format_value(row.get('b_label'))}"
    return Cell(text, text)


def _make_gap(metric: str) -> Make:
    return make_interval("delta", "low", "high", metric, signed=True)


def _open_first(row: Mapping[str, Any]) -> str:
    return f"cell:{row['a']}" if isinstance(row.get("a"), str) else ""


_NOT_SHOWN = {
    *("cell", "label", "n_seeds", "run_ids", "note", "units", "seeds", "folders", "ancestry"),
    *("source", "dataset_digest", "n_epochs", "dataset", "model", "init", "k", "j", "bn"),
}


def make_cell_table(content: Content) -> Table:
    """Return one row a cell: mean and interval of every metric over seeds."""
    frame = content.cells
    varying = [c for c in map(str, frame.columns) if c not in _NOT_SHOWN and "/" not in c]
    records: list[Any] = frame.to_dict("records")
    plan: list[tuple[Column, Make]] = [
        (Column("cell"), make_title(make_text("label"), "dataset", records)),
        (Column("k", "count", "units transferred"), make_text("k")),
        (Column("j", "count", "units frozen"), make_text("j")),
        (Column("seeds", "count"), make_number("n_seeds", format_value)),
    ]
    for metric in dict.fromkeys((content.metric, *content.metrics)):
        make = make_interval(metric, f"{metric} low", f"{metric} high", metric)
        plan.append((Column(name_column(metric), "number", metric), make))
        if metric == content.metric:
            sd = _make_score(f"{metric} sd", metric, "one seed has no deviation")
            plan.append((Column("sd", "number", "over seeds"), sd))
    plan.append((Column("note"), make_text("note")))
    names = ("dataset", "model", "init", "bn", *varying)
    plan += [(Column(name, aside=True), make_text(name)) for name in names]
    return fill_table("cells", "Cells", records, plan, _open_cell, noun=("cell", "cells"))


def _open_cell(row: Mapping[str, Any]) -> str:
    return f"cell:{row['cell']}"


def make_run_table(content: Content, names: Sequence[str]) -> Table:
    """Return one row a run, of every state.

    Args:
        names: what each run is called, in the order of `content.runs`.
    """
    why = "the run is not finished"
    metrics = dict.fromkeys((content.metric, "val/balanced_accuracy", *content.metrics))
    named = zip(content.runs.to_dict("records"), names, strict=True)
    records: list[Any] = [
        {**row, "name": _shorten_name(row, name), "at": at} for at, (row, name) in enumerate(named)
    ]
    plan: list[tuple[Column, Make]] = [
        (Column("run"), make_title(make_text("name"), "dataset", records)),
        (Column("k", "count", "units transferred"), make_text("k")),
        (Column("j", "count", "units frozen"), make_text("j")),
        (Column("seed", "count"), make_number("seed", format_value)),
        (Column("state", "verdict"), make_verdict("state")),
        *((Column(name_column(m), "number", m), _make_score(m, m, why)) for m in metrics),
        (Column("epochs", "number"), make_number("epochs", format_value)),
        (Column("training, s", "number", aside=True), make_number("train_s", _format_seconds)),
        (Column("images/s", "number", aside=True), make_number("images_per_s", _format_seconds)),
        *((Column(n, aside=True), make_text(n)) for n in ("dataset", "model", "init", "bn")),
        (Column("id", "code", aside=True), make_text("run_id")),
        (Column("problem"), make_text("problem")),
    ]
    return fill_table("runs", "Runs", records, plan, _open_run, noun=("run", "runs"))


def _shorten_name(row: Mapping[Any, Any], name: str) -> str:
    """Return a run's name without dataset and model, which have columns of their own."""
    return name.removeprefix(f"{row.get('dataset')}-{row.get('model')}-")


def _open_run(row: Mapping[str, Any]) -> str:
    return f"run:{row['at']}"


def _make_score(key: str, metric: str, why: str) -> Make:
    return make_number(key, lambda value: format_score(value, metric), why)


def _format_seconds(value: Any) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


_SCORES = (
    ("S", "specificity S", "what the source's units lose against the target's own"),
    ("C", "co-adaptation C", "what freezing the network's own units costs"),
    ("G", "boost G", "what transferred units gain when all are trained"),
)


def make_layer_table(layers: LayerScores, key: str) -> Table:
    """Return one row a unit: C, S, G, gamma, a bar of S and the verdict."""
    metric, unit = layers.metric, name_unit(layers.metric)
    scores = [
        (
            Column(title, "number", f"{hint}, in {unit or 'the metric'}"),
            make_interval(name, f"{name}_low", f"{name}_high", metric, signed=True),
        )
        for name, title, hint in _SCORES
    ]
    gamma = make_interval("gamma", "gamma_low", "gamma_high", "gamma")
    plan: list[tuple[Column, Make]] = [
        (Column("unit"), make_text("unit")),
        (Column("verdict", "verdict"), make_verdict("verdict")),
        (Column("S", "bar", _BAR), make_bar("S", "S_low", "S_high")),
        *scores,
        (Column("generality γ", "number", "1 is general, 0 no better than random"), gamma),
        (Column("seeds needed", "number", "to settle what is inconclusive"), _NEEDED),
        (Column("note"), make_text("note")),
    ]
    scale = make_scale(layers.scores, "S_low", "S", "S_high", layers.margin)
    records: list[Any] = layers.scores.to_dict("records")
    return fill_table(key, "Layer scores", records, plan, scale=scale, noun=("unit", "units"))


def make_command_table(names: Sequence[str], commands: Sequence[str]) -> Table:
    """Return one row a run that has one: its name and the command that trains it again."""
    plan: list[tuple[Column, Make]] = [
        (Column("run"), make_text("name")),
        (Column("command", "code"), make_text("command")),
    ]
    pairs = zip(names, commands, strict=True)
    records = [{"name": n, "command": c, "at": at} for at, (n, c) in enumerate(pairs) if c]
    return fill_table("commands", "Commands", records, plan, _open_run, noun=("run", "runs"))
