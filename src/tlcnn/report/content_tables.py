"""The tables of cells, runs, layers and grids, for the page, the paper and report.md alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from tlcnn.report.comparison_tables import COST_BAR, find_below, show_name
from tlcnn.report.content import Content, Grid, LayerScores
from tlcnn.report.forest import make_scale
from tlcnn.report.grid import describe_transfer, lay_out_grid
from tlcnn.report.numbers import (
    count_further_digits,
    format_p,
    format_score,
    format_seconds,
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

Record = Mapping[Any, Any]

_ONE_SIDED = "one-sided test, adjusted over n (Holm)"


def _show_place(row: Record) -> dict[Column, Entry]:
    return {
        Column("k", "count", "units transferred"): show_value(row.get("k")),
        Column("j", "count", "units frozen"): show_value(row.get("j")),
    }


def _show_settings(row: Record, names: Sequence[str]) -> dict[Column, Entry]:
    """Return settings; norm layers that are frozen with their units need no mention."""
    shown = {name: row.get(name) for name in names if (name, row.get(name)) != ("bn", "frozen")}
    return {Column(name, aside=True): show_value(shown.get(name)) for name in names}


# ---- cells and runs -----------------------------------------------------------------------------

# Columns of `Content.cells` that are shown beside the label, where cells differ in them.
_CELL_SETTINGS = ("dataset", "model", "source", "bn", "recipe", "missing", "imported")


def make_cell_table(content: Content) -> Table:
    """Return one row a cell: mean and interval of every metric over seeds."""
    frame = content.cells
    below = find_below(frame)
    settings = [name for name in _CELL_SETTINGS if name in frame]
    if "imported" in settings and not frame["imported"].any():
        settings.remove("imported")
    best = {metric: _find_best(frame, metric) for metric in frame.columns if "/" in metric}

    def describe(row: Record) -> dict[Column, Entry]:
        entries = {
            Column("cell"): show_name(row.get("label"), row, below),
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
    below = find_below(frame)
    errors = {"ece": "ECE", "nll": "NLL", "brier": "Brier score"}

    def describe(row: Record) -> dict[Column, Entry]:
        def show(name: str, metric: str, start: str = "") -> Entry:
            raw, corrected = row[name], row[f"{name} corrected"]
            text = f"{format_score(raw, metric)} → {format_score(corrected, metric)}"
            return Entry(f"{start}: {text}" if start else text, corrected)

        return {
            Column("cell"): show_name(row["label"], row, below),
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
    """Return the best cells of each dataset by a metric, where cells differ in it.

    Cells that hold out different values were tested on different images.
    """
    images = [cells[name] for name in ("dataset", "held_out") if name in cells]
    values = cells[metric].groupby(images)
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
    below = find_below(content.runs)
    rates = {"train_s": "training, s", "images_per_s": "images/s"}
    has_trials = any(row.get("is_trial") is True for row in records)

    def describe(row: Record) -> dict[Column, Entry]:
        # dataset and model have columns of their own
        name = row["name"].removeprefix(f"{row.get('dataset')}-{row.get('model')}-")
        why = "the run is not finished"
        return {
            Column("run"): show_name(name, row, below),
            **_show_place(row),
            Column("seed", "count"): show_number(row.get("seed")),
            Column("state", "verdict"): show_verdict(row.get("state")),
            **{
                Column(name_column(m), "number", m): show_score(row.get(m), m, why)
                for m in metrics
            },
            Column("epochs", "count"): show_number(row.get("epochs")),
            Column("best epoch", "number", "on validation"): _show_best_epoch(row),
            **{
                Column(head, "number", aside=True): show_number(row.get(name), format_seconds)
                for name, head in rates.items()
            },
            **_show_settings(row, ("dataset", "model", "init", "bn")),
            **({Column("trial", aside=True): _show_trial(row)} if has_trials else {}),
            Column("id", "code", aside=True): show_value(row.get("run_id")),
            Column("problem"): show_value(row.get("problem")),
        }

    return _fill_run_table(records, describe, key="runs", title="Runs")


def _show_trial(row: Record) -> Entry:
    return show_value("of a search" if row.get("is_trial") is True else None)


def _show_best_epoch(row: Record) -> Entry:
    best, planned = row.get("best_epoch"), row.get("planned_epochs")
    if not (is_number(best) and is_number(planned)):
        return show_number(best)
    why = "more epochs may help" if best == planned else ""
    return Entry(f"{best:.0f} of {planned:.0f}", best, why=why)


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
    """Return one row a number n of units: the verdict, a bar, the gaps that were measured, gamma.

    A row is of the first n units together.
    """
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
            Column(basis, "bar", COST_BAR): show_bar(
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
        title=f"Layer scores: {describe_transfer(layers)}",
        scale=make_scale(
            *(layers.scores, f"{basis}_low", basis, f"{basis}_high", layers.margin), is_cost=True
        ),
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
