"""The tables of a report, for the page, the paper and report.md alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from tlcnn.report.content import Content, Finding, Grid, LayerScores
from tlcnn.report.forest import Scale, make_scale
from tlcnn.report.grid import lay_out_grid
from tlcnn.report.numbers import (
    format_p,
    format_seconds,
    format_value,
    is_number,
    name_column,
    name_unit,
)
from tlcnn.report.show import (
    show_bar,
    show_interval,
    show_number,
    show_score,
    show_value,
    show_verdict,
)
from tlcnn.report.table import Column, Entry, Table, fill_table

_BAR = "the line is zero, the band the margin; an arrow means that the interval goes on"
_NEEDED = "the number that would settle an inconclusive result"
_NO_NEED = "it is settled, or the number cannot be computed"


def _list_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = frame.to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _find_below(frame: pd.DataFrame) -> str:
    """Return the column that is shown below a row's name: the dataset, where there are several."""
    has_several = "dataset" in frame and frame["dataset"].nunique(dropna=False) > 1
    return "dataset" if has_several else ""


def _show_below(row: Mapping[str, Any], below: str) -> str:
    return format_value(row.get(below)) if below else ""


def _show_place(row: Mapping[str, Any]) -> dict[Column, Entry]:
    return {
        Column("k", "count", "units transferred"): show_value(row.get("k")),
        Column("j", "count", "units frozen"): show_value(row.get("j")),
    }


def _show_settings(row: Mapping[str, Any], names: Sequence[str]) -> dict[Column, Entry]:
    return {Column(name, aside=True): show_value(row.get(name)) for name in names}


# ---- comparisons --------------------------------------------------------------------------------


def make_comparison_scale(content: Content) -> Scale:
    """Return the scale of the bars of all comparisons."""
    frame = content.comparisons
    margins = list(frame["margin"].dropna()) if "margin" in frame else []
    return make_scale(frame, "low", "delta", "high", float(max(margins, default=0.01)))


def make_comparison_table(content: Content) -> Table:
    """Return the comparisons: difference, interval, bar, p after Holm, verdict."""
    frame = content.comparisons
    below = _find_below(frame)

    def describe(row: Mapping[str, Any]) -> dict[Column, Entry]:
        p_value = show_number(row.get("p_holm"), format_p)
        size = row.get("family_size")
        family = f"family: {format_value(row.get('family'))}"
        family += f", {format_value(size)} comparisons" if is_number(size) else ""
        n_needed = show_number(row.get("seeds_needed"), why=_NO_NEED)
        return {
            **_describe_comparison(row, content.metric, below),
            Column("Holm p", "number", "corrected in its family"): replace(p_value, why=family),
            Column("seeds", "number", "pairs of runs"): show_number(row.get("n_seeds")),
            Column("seeds needed", "number", _NEEDED): n_needed,
            **_show_settings(row, ("dataset", "model", "family")),
            Column("note"): show_value(row.get("note")),
        }

    return fill_table(
        _list_records(frame),
        describe,
        lambda row: f"cell:{row['a']}" if isinstance(row.get("a"), str) else "",
        key="comparisons",
        title="Comparisons",
        scale=make_comparison_scale(content),
        nouns=("comparison", "comparisons"),
    )


def make_finding_table(finding: Finding, content: Content) -> Table:
    """Return the comparisons that an answer rests on."""
    frame = content.comparisons
    return fill_table(
        _list_records(frame.loc[[i for i in finding.comparisons if i in frame.index]]),
        lambda row: _describe_comparison(row, content.metric),
        title="Comparisons that this answer rests on",
        scale=make_comparison_scale(content),
    )


def _describe_comparison(
    row: Mapping[str, Any], metric: str, below: str = ""
) -> dict[Column, Entry]:
    """Return the pair, its difference as a number and as a bar, and the verdict."""
    pair = f"{format_value(row.get('a_label'))} vs {format_value(row.get('b_label'))}"
    delta, low, high = row.get("delta"), row.get("low"), row.get("high")
    gap = show_interval(delta, low, high, metric, signed=True)
    return {
        Column("comparison"): show_value(pair, _show_below(row, below)),
        Column("Δ (95 % interval)", "number", name_unit(metric)): gap,
        Column("difference", "bar", _BAR): show_bar(low, delta, high),
        Column("verdict", "verdict"): show_verdict(row.get("verdict")),
    }


# ---- cells and runs -----------------------------------------------------------------------------

# Columns of `Content.cells` that are no settings, or that have a column of their own.
_NO_SETTINGS = {
    *("cell", "label", "n_seeds", "run_ids", "note", "units", "seeds", "folders", "ancestry"),
    *("source", "dataset_digest", "n_epochs", "dataset", "model", "init", "k", "j", "bn"),
}


def make_cell_table(content: Content) -> Table:
    """Return one row a cell: mean and interval of every metric over seeds."""
    frame = content.cells
    settings = [c for c in map(str, frame.columns) if c not in _NO_SETTINGS and "/" not in c]
    below = _find_below(frame)

    def describe(row: Mapping[str, Any]) -> dict[Column, Entry]:
        entries = {
            Column("cell"): show_value(row.get("label"), _show_below(row, below)),
            **_show_place(row),
            Column("seeds", "count"): show_number(row.get("n_seeds")),
        }
        for metric in dict.fromkeys((content.metric, *content.metrics)):
            entries[Column(name_column(metric), "number", metric)] = show_interval(
                row.get(metric), row.get(f"{metric} low"), row.get(f"{metric} high"), metric
            )
            if metric == content.metric:
                deviation = row.get(f"{metric} sd")
                entries[Column("sd", "number", "standard deviation over seeds")] = show_score(
                    deviation, metric, "one seed has no deviation"
                )
        entries[Column("note")] = show_value(row.get("note"))
        return entries | _show_settings(row, ("dataset", "model", "init", "bn", *settings))

    return fill_table(
        _list_records(frame),
        describe,
        lambda row: f"cell:{row['cell']}",
        key="cells",
        title="Cells",
        nouns=("cell", "cells"),
    )


def make_run_table(content: Content, names: Sequence[str]) -> Table:
    """Return one row a run, of every state.

    Args:
        names: the name of each run, in the order of `content.runs`.
    """
    metrics = dict.fromkeys((content.metric, "val/balanced_accuracy", *content.metrics))
    runs = zip(_list_records(content.runs), names, strict=True)
    records = [{**row, "name": name, "position": i} for i, (row, name) in enumerate(runs)]
    below = _find_below(content.runs)

    def describe(row: Mapping[str, Any]) -> dict[Column, Entry]:
        # dataset and model have columns of their own
        name = row["name"].removeprefix(f"{row.get('dataset')}-{row.get('model')}-")
        return {
            Column("run"): show_value(name, _show_below(row, below)),
            **_show_place(row),
            Column("seed", "count"): show_number(row.get("seed")),
            Column("state", "verdict"): show_verdict(row.get("state")),
            **{
                Column(name_column(metric), "number", metric): show_score(
                    row.get(metric), metric, "the run is not finished"
                )
                for metric in metrics
            },
            Column("epochs", "number"): show_number(row.get("epochs")),
            Column("training, s", "number", aside=True): show_number(
                row.get("train_s"), format_seconds
            ),
            Column("images/s", "number", aside=True): show_number(
                row.get("images_per_s"), format_seconds
            ),
            **_show_settings(row, ("dataset", "model", "init", "bn")),
            Column("id", "code", aside=True): show_value(row.get("run_id")),
            Column("problem"): show_value(row.get("problem")),
        }

    return fill_table(
        records,
        describe,
        lambda row: f"run:{row['position']}",
        key="runs",
        title="Runs",
        nouns=("run", "runs"),
    )


def make_command_table(names: Sequence[str], commands: Sequence[str]) -> Table:
    """Return one row a run that has a command: its name and the command that trains it again."""
    pairs = enumerate(zip(names, commands, strict=True))
    records = [{"name": name, "command": c, "position": i} for i, (name, c) in pairs if c]

    def describe(row: Mapping[str, Any]) -> dict[Column, Entry]:
        return {
            Column("run"): show_value(row["name"]),
            Column("command", "code"): show_value(row["command"]),
        }

    return fill_table(
        records,
        describe,
        lambda row: f"run:{row['position']}",
        key="commands",
        title="Commands",
        nouns=("run", "runs"),
    )


# ---- layers and grids ---------------------------------------------------------------------------

_LAYER_SCORES = (
    ("S", "specificity S", "the loss of the source's units against the target's own"),
    ("C", "co-adaptation C", "the loss from freezing the network's own units"),
    ("G", "boost G", "the gain of transferred units when all are trained"),
)


def make_layer_table(layers: LayerScores, key: str) -> Table:
    """Return one row a unit: C, S, G, gamma, a bar of S and the verdict."""
    metric = layers.metric
    unit = name_unit(metric) or "the metric"

    def describe(row: Mapping[str, Any]) -> dict[Column, Entry]:
        bounds = (row.get("gamma"), row.get("gamma_low"), row.get("gamma_high"))
        return {
            Column("unit"): show_value(row.get("unit")),
            Column("verdict", "verdict"): show_verdict(row.get("verdict")),
            Column("S", "bar", _BAR): show_bar(row.get("S_low"), row.get("S"), row.get("S_high")),
            **{
                Column(title, "number", f"{hint}, in {unit}"): show_interval(
                    row.get(name),
                    row.get(f"{name}_low"),
                    row.get(f"{name}_high"),
                    metric,
                    signed=True,
                )
                for name, title, hint in _LAYER_SCORES
            },
            Column("generality γ", "number", "1 is general, 0 no better than random"): (
                show_interval(*bounds, "gamma")
            ),
            Column("seeds needed", "number", _NEEDED): show_number(
                row.get("seeds_needed"), why=_NO_NEED
            ),
            Column("note"): show_value(row.get("note")),
        }

    return fill_table(
        _list_records(layers.scores),
        describe,
        key=key,
        title="Layer scores",
        scale=make_scale(layers.scores, "S_low", "S", "S_high", layers.margin),
        nouns=("unit", "units"),
    )


def make_grid_table(grid: Grid) -> Table:
    """Return a grid as a table: rows are transferred units k, columns frozen units j."""
    layout = lay_out_grid(grid)
    columns = [Column(f"j = {j} ({layout.names[j]})", "number") for j in layout.js]
    rows = []
    for k in layout.ks:
        entries = [Entry(f"{k} ({layout.name_row(k)})")]
        for j in layout.js:
            point = layout.points.get((k, j))
            entries.append(
                Entry("")
                if point is None
                else show_interval(
                    point["value"],
                    point["low"],
                    point["high"],
                    grid.metric,
                    is_best=(k, j) == layout.best,
                )
            )
        rows.append(tuple(entries))
    return Table((Column("k"), *columns), tuple(rows), title="Grid", best="the best on validation")
