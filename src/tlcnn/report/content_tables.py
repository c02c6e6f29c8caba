"""The tables of a report, for the page, the paper and report.md alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from tlcnn.report.content import Content, Finding, Grid, LayerScores
from tlcnn.report.forest import Scale, make_scale
from tlcnn.report.grid import lay_out_grid
from tlcnn.report.numbers import (
    count_further_digits,
    format_gap,
    format_p,
    format_score,
    format_seconds,
    format_value,
    is_number,
    name_column,
    name_unit,
    write_ratio,
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
from tlcnn.report.words import name_first_units
from tlcnn.statistics.metrics import is_lower_better
from tlcnn.text import count

Record = Mapping[Any, Any]

_BAR = "the line is zero, the band the margin; an arrow means that the interval goes on"
_ONE_SIDED = "one-sided test, adjusted over n (Holm)"
_DETECTABLE = "the smallest true difference that is found in 80 % of studies"


def _find_below(frame: pd.DataFrame) -> str:
    """Return the column that is shown below a row's name: the dataset, where there are several."""
    has_several = "dataset" in frame and frame["dataset"].nunique(dropna=False) > 1
    return "dataset" if has_several else ""


def _show_name(name: object, row: Record, below: str) -> Entry:
    return show_value(name, format_value(row.get(below)) if below else "")


def _show_place(row: Record) -> dict[Column, Entry]:
    return {
        Column("k", "count", "units transferred"): show_value(row.get("k")),
        Column("j", "count", "units frozen"): show_value(row.get("j")),
    }


def _show_settings(row: Record, names: Sequence[str]) -> dict[Column, Entry]:
    """Return settings; norm layers that are frozen with their units need no mention."""
    shown = {name: row.get(name) for name in names if (name, row.get(name)) != ("bn", "frozen")}
    return {Column(name, aside=True): show_value(shown.get(name)) for name in names}


# ---- comparisons --------------------------------------------------------------------------------


def make_comparison_scale(content: Content) -> Scale:
    """Return the scale of the bars of all comparisons."""
    frame = content.comparisons
    margins = list(frame["margin"].dropna()) if "margin" in frame else []
    return make_scale(frame, "low", "delta", "high", float(max(margins, default=0.01)))


def make_comparison_table(content: Content) -> Table:
    """Return the comparisons: difference, interval, bar, p after Holm with its family, verdict."""
    frame = content.comparisons
    below = _find_below(frame)

    def describe(row: Record) -> dict[Column, Entry]:
        size = row.get("family_size")
        family = format_value(row.get("family"))
        family += f", {count(int(size or 0), 'comparison')}" if is_number(size) else ""
        of_family = "the comparisons that p and the verdict are adjusted for"
        return {
            **_describe_comparison(row, content.metric, below),
            Column("family", hint=of_family): show_value(family),
            Column("family size", "count", f"the number of {of_family}"): show_number(size),
            Column("Holm p", "number", "adjusted within its family"): show_number(
                row.get("p_holm"), format_p
            ),
            Column("seeds", "number", "seeds that the difference is of"): show_number(
                row.get("n_seeds")
            ),
            Column("detectable", "number", _DETECTABLE): _show_size(row, "detectable", content),
            **_show_settings(row, ("dataset", "model")),
            Column("note"): show_value(row.get("note")),
        }

    return fill_table(
        frame.to_dict("records"),
        describe,
        lambda row: f"cell:{row['a']}" if isinstance(row.get("a"), str) else "",
        key="comparisons",
        title="Comparisons",
        scale=make_comparison_scale(content),
        nouns=("comparison", "comparisons"),
    )


def _show_size(row: Record, name: str, content: Content) -> Entry:
    return show_number(
        row.get(name),
        lambda size: format_gap(size, content.metric).lstrip("+"),
        "the variance is not known",
    )


def make_detectable_table(content: Content) -> Table:
    """Return the smallest differences that are detected, now and with a larger design."""
    frame = content.detectable
    sizes = [str(n) for n in frame if n not in ("family", "family_size", "n_seeds")]

    def describe(row: Record) -> dict[Column, Entry]:
        return {
            Column("family"): show_value(row.get("family")),
            Column("comparisons", "count"): show_number(row.get("family_size")),
            Column("seeds", "count"): show_number(row.get("n_seeds")),
            **{
                Column(name, "number", _DETECTABLE): _show_size(row, name, content)
                for name in sizes
            },
        }

    return fill_table(
        frame.to_dict("records"),
        describe,
        key="detectable",
        title="What could be detected",
        nouns=("family", "families"),
    )


def make_finding_table(finding: Finding, content: Content) -> Table:
    """Return the comparisons that an answer rests on."""
    frame = content.comparisons
    return fill_table(
        frame.loc[[i for i in finding.comparisons if i in frame.index]].to_dict("records"),
        lambda row: _describe_comparison(row, content.metric),
        title="Comparisons that this answer rests on",
        scale=make_comparison_scale(content),
    )


def _describe_comparison(row: Record, metric: str, below: str = "") -> dict[Column, Entry]:
    """Return the pair, its difference as a number and as a bar, and the verdict."""
    pair = f"{format_value(row.get('a_label'))} vs {format_value(row.get('b_label'))}"
    delta, low, high = row.get("delta"), row.get("low"), row.get("high")
    gap = show_interval(delta, low, high, metric, signed=True)
    return {
        Column("comparison"): _show_name(pair, row, below),
        Column("Δ (95 % interval)", "number", name_unit(metric)): gap,
        Column("difference", "bar", _BAR): show_bar(low, delta, high),
        Column("verdict", "verdict"): show_verdict(row.get("verdict")),
    }


# ---- cells and runs -----------------------------------------------------------------------------

# Columns of `Content.cells` that are shown beside the label, where cells differ in them.
_CELL_SETTINGS = ("dataset", "model", "source", "bn", "recipe", "missing", "imported")


def make_cell_table(content: Content) -> Table:
    """Return one row a cell: mean and interval of every metric over seeds."""
    frame = content.cells
    below = _find_below(frame)
    settings = [name for name in _CELL_SETTINGS if name in frame]
    if "imported" in settings and not frame["imported"].any():
        settings.remove("imported")
    best = {metric: _find_best(frame, metric) for metric in frame.columns if "/" in metric}

    def describe(row: Record) -> dict[Column, Entry]:
        entries = {
            Column("cell"): _show_name(row.get("label"), row, below),
            **_show_place(row),
            Column("seeds", "count"): show_number(row.get("n_seeds")),
        }
        for metric in dict.fromkeys((content.metric, *content.metrics)):
            low, high = row.get(f"{metric} low"), row.get(f"{metric} high")
            head = Column(name_column(metric), "number", metric)
            is_best = row["cell"] in best.get(metric, ())
            entries[head] = show_interval(row.get(metric), low, high, metric, is_best=is_best)
            if metric == content.metric:
                deviation = row.get(f"{metric} sd")
                entries[Column("sd", "number", "standard deviation over seeds")] = show_score(
                    deviation, metric, "one seed has no deviation"
                )
        entries[Column("note")] = show_value(row.get("note"))
        return entries | _show_settings(row, settings)

    return fill_table(
        frame.to_dict("records"),
        describe,
        lambda row: f"cell:{row['cell']}",
        key="cells",
        title="Cells",
        nouns=("cell", "cells"),
    )


def make_calibration_table(content: Content) -> Table:
    """Return the errors of probabilities and the mean one of a class, raw and corrected."""
    frame = content.calibration
    below = _find_below(frame)
    errors = {"ece": "ECE", "nll": "NLL", "brier": "Brier score"}

    def describe(row: Record) -> dict[Column, Entry]:
        def show(name: str, metric: str, start: str = "") -> Entry:
            raw, corrected = row[name], row[f"{name} corrected"]
            text = f"{format_score(raw, metric)} → {format_score(corrected, metric)}"
            return Entry(f"{start}: {text}" if start else text, corrected)

        return {
            Column("cell"): _show_name(row["label"], row, below),
            **{Column(head): show(name, f"test/{name}") for name, head in errors.items()},
            Column("mean probability, %"): show("probability", "test/accuracy", row["class"]),
            Column("share of test images, %", "number"): show_score(
                row["prevalence"], "test/accuracy"
            ),
        }

    return fill_table(
        frame.to_dict("records"), describe, title="Calibration", nouns=("cell", "cells")
    )


def _find_best(cells: pd.DataFrame, metric: str) -> set[str]:
    """Return the best cells of each dataset by a metric, where cells differ in it."""
    values = cells[metric].groupby(cells["dataset"])
    best = values.transform("min" if is_lower_better(metric) else "max")
    is_best = (cells[metric] == best) & (values.transform("nunique") > 1)
    return set(cells["cell"][is_best])


def make_run_table(content: Content, names: Sequence[str]) -> Table:
    """Return one row a run, of every state.

    Args:
        names: the name of each run, in the order of `content.runs`.
    """
    metrics = dict.fromkeys((content.metric, "val/balanced_accuracy", *content.metrics))
    runs = zip(content.runs.to_dict("records"), names, strict=True)
    records = [{**row, "name": name, "position": i} for i, (row, name) in enumerate(runs)]
    below = _find_below(content.runs)
    rates = {"train_s": "training, s", "images_per_s": "images/s"}

    def describe(row: Record) -> dict[Column, Entry]:
        # dataset and model have columns of their own
        name = row["name"].removeprefix(f"{row.get('dataset')}-{row.get('model')}-")
        why = "the run is not finished"
        return {
            Column("run"): _show_name(name, row, below),
            **_show_place(row),
            Column("seed", "count"): show_number(row.get("seed")),
            Column("state", "verdict"): show_verdict(row.get("state")),
            **{
                Column(name_column(m), "number", m): show_score(row.get(m), m, why)
                for m in metrics
            },
            Column("epochs", "number"): show_number(row.get("epochs")),
            Column("best epoch", "number", "on validation"): _show_best_epoch(row),
            **{
                Column(head, "number", aside=True): show_number(row.get(name), format_seconds)
                for name, head in rates.items()
            },
            **_show_settings(row, ("dataset", "model", "init", "bn")),
            Column("id", "code", aside=True): show_value(row.get("run_id")),
            Column("problem"): show_value(row.get("problem")),
        }

    return _fill_run_table(records, describe, key="runs", title="Runs")


def _show_best_epoch(row: Record) -> Entry:
    best = row.get("best_epoch")
    if is_number(best) and best == row.get("planned_epochs"):
        lines = (f"{best:.0f}", "still improving")
        return Entry(", ".join(lines), best, lines=lines, why="more epochs may help")
    return show_number(best)


def make_command_table(names: Sequence[str], commands: Sequence[str]) -> Table:
    """Return one row a run that has a command: its name and the command that trains it again."""
    pairs = enumerate(zip(names, commands, strict=True))
    records = [{"run": name, "command": c, "position": i} for i, (name, c) in pairs if c]
    heads = (Column("run"), Column("command", "code"))
    return _fill_run_table(
        records,
        lambda row: {head: show_value(row[head.name]) for head in heads},
        key="commands",
        title="Commands",
    )


def _fill_run_table(
    records: Sequence[Record], describe: Callable[[Record], Mapping[Column, Entry]], **more: str
) -> Table:
    return fill_table(
        records, describe, lambda row: f"run:{row['position']}", nouns=("run", "runs"), **more
    )


# ---- layers and grids ---------------------------------------------------------------------------

_LAYER_SCORES = (
    ("F", "freezing cost F", "the loss from freezing the first n units of the source"),
    ("S", "specificity S", "the loss of the source's units against the network's own"),
    ("S_control", "S of a size-matched source", "S of a source of as many images"),
    ("C", "co-adaptation C", "the loss from freezing the network's own units"),
    ("G", "boost G", "the gain of transferred units when all are trained"),
)


def count_layer_digits(layers: LayerScores) -> int:
    """Return how many more digits tell the margin from the ends of all intervals."""
    ends = layers.scores[[f"{layers.basis}_low", f"{layers.basis}_high"]].to_numpy().ravel()
    return count_further_digits(ends, layers.margin, layers.metric)


def make_layer_table(layers: LayerScores, key: str) -> Table:
    """Return one row a unit: the gaps that were measured, gamma, a bar and the verdict."""
    metric, basis = layers.metric, layers.basis
    unit = name_unit(metric) or "the metric"
    measured = set(layers.scores.columns[layers.scores.notna().any()])
    more = count_layer_digits(layers)
    ratio = write_ratio(layers.image_ratio) if is_number(layers.image_ratio) else "unknown"
    names = {"S": f"specificity S (ratio of images {ratio})"}

    def describe(row: Record) -> dict[Column, Entry]:
        def show(name: str, as_metric: str, *, signed: bool = False) -> Entry:
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            digits = more * (name == basis)
            return show_interval(row[name], low, high, as_metric, signed=signed, more=digits)

        units = name_first_units(int(row["n"]), str(row["unit"]), len(layers.units))
        entries = {
            Column("units"): show_value(units),
            Column("verdict", "verdict"): show_verdict(row.get("verdict")),
            Column(basis, "bar", _BAR): show_bar(
                row[f"{basis}_low"], row[basis], row[f"{basis}_high"]
            ),
        }
        for name, title, hint in _LAYER_SCORES:
            if name in measured:
                head = Column(names.get(name, title), "number", f"{hint}, in {unit}")
                entries[head] = show(name, metric, signed=True)
        if "gamma" in measured:
            head = Column("generality γ", "number", "1 is general, 0 no better than random")
            entries[head] = show("gamma", "gamma")
        tests = {"general": f"{basis} < δ", "specific": f"{basis} > δ", "better": "S < 0"}
        for verdict, side in tests.items():
            if f"p_{verdict}" in measured:
                head = Column(f"p, {side}", "number", _ONE_SIDED)
                entries[head] = show_number(row[f"p_{verdict}"], format_p)
        return {**entries, Column("note"): show_value(row.get("note"))}

    return fill_table(
        layers.scores.to_dict("records"),
        describe,
        key=key,
        title="Layer scores",
        scale=make_scale(layers.scores, f"{basis}_low", basis, f"{basis}_high", layers.margin),
        nouns=("unit", "units"),
    )


def make_grid_table(grid: Grid) -> Table:
    """Return a grid as a table: rows are transferred units k, columns frozen units j."""
    layout = lay_out_grid(grid)

    def show(k: int, j: int) -> Entry:
        if (k, j) not in layout.points:
            return Entry("")
        value, low, high = (layout.points[k, j][name] for name in ("value", "low", "high"))
        return show_interval(value, low, high, grid.metric, is_best=(k, j) == layout.best)

    columns = [Column(f"j = {j} ({layout.names[j]})", "number") for j in layout.js]
    rows = tuple(
        (Entry(f"{k} ({layout.name_row(k)})"), *(show(k, j) for j in layout.js)) for k in layout.ks
    )
    return Table((Column("k"), *columns), rows, title="Grid", best="the best on validation")
