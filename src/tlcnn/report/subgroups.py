"""Scores by subgroup of the test images, such as sex or a band of age."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.data.tabular import write_cell
from tlcnn.errors import DataError, TlcnnError
from tlcnn.memory import Memory
from tlcnn.report.cell_rows import list_cells
from tlcnn.report.comparison_tables import find_below, show_name
from tlcnn.report.content import Content
from tlcnn.report.forest import make_scale
from tlcnn.report.numbers import format_estimate, format_p, name_column, name_unit
from tlcnn.report.remarks import list_remarks, write_notes
from tlcnn.report.show import (
    show_bar,
    show_column,
    show_interval,
    show_number,
    show_value,
    show_verdict,
)
from tlcnn.report.table import Column, Entry, Table, fill_table
from tlcnn.report.tables import join_columns
from tlcnn.report.words import join_words, name_cell, write_settings
from tlcnn.statistics.few_groups import LEAST_GROUPS
from tlcnn.statistics.metrics import parse_metric
from tlcnn.study.cells import Cell
from tlcnn.study.divisions import Division
from tlcnn.study.held_out import find_hold_out, list_rest
from tlcnn.study.metadata import NoColumn
from tlcnn.study.subgroups import CLASS_MEANS, Subgroup, load_subgroups
from tlcnn.text import first_line

_COLUMNS = (
    *("cell", "dataset", "model", "label", "recipe", "column", "subgroup", "n_images", "n_groups"),
    *("classes", "left_out", "n_seeds", "value", "low", "high", "rest", "rest_low", "rest_high"),
    *("delta", "delta_low", "delta_high", "p", "p_holm", "family_size", "margin", "verdict"),
    "note",
)


@dataclass(frozen=True)
class Asked:
    """What subgroups were asked for.

    Attributes:
        metadata: a table with an image a row; None reads the datasets again.
    """

    divisions: tuple[Division, ...] = ()
    metadata: Path | None = None


@dataclass(frozen=True)
class Tabulated:
    """The subgroups of some cells.

    Attributes:
        frame: one row a cell and subgroup.
        lines: what has no subgroups, and why.
        lacking: the datasets without a column that was asked for.
    """

    frame: pd.DataFrame
    lines: tuple[str, ...]
    lacking: tuple[str, ...]


def tabulate_subgroups(
    cells: Sequence[Cell], asked: Asked, metric: str, margin: float
) -> Tabulated:
    """Return the subgroups of cells.

    Raises:
        TlcnnError: no cell can be divided: why the first one cannot.
    """
    memory, rows, errors = Memory(), [], {}
    undivided: dict[str, None] = {}
    for cell in cells if asked.divisions else ():
        try:
            subgroups = load_subgroups(
                cell, asked.divisions, metric, memory, margin=margin, metadata=asked.metadata
            )
        except TlcnnError as error:
            errors[cell.key] = error
            continue
        whole = [subgroup for subgroup in subgroups if not _is_held_out(cell, subgroup)]
        rows += [_describe(cell, subgroup) for subgroup in whole]
        undivided |= dict.fromkeys({s.column for s in subgroups} - {s.column for s in whole})
    if errors and len(errors) == len(cells):
        raise next(iter(errors.values()))
    names = {cell.key: f"{cell.dataset}, {name_cell(cell)}" for cell in cells}
    lines = [f"no subgroups of {names[k]}: {first_line(error)}" for k, error in errors.items()]
    lines += [
        f"no subgroups by {column} of runs that hold out one {column}. Their test images all have "
        f"the held-out {column}, or are of a group with it, so there is nothing to compare it with"
        for column in undivided
    ]
    lacking = {cell.dataset for cell in cells if isinstance(errors.get(cell.key), NoColumn)}
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    return Tabulated(frame, tuple(dict.fromkeys(lines)), tuple(sorted(lacking)))


def _is_held_out(cell: Cell, subgroup: Subgroup) -> bool:
    """Return whether a subgroup has no score because of what the cell holds out.

    All that is tested then has one value of the column, but for other images of the same groups.
    """
    hold_out = find_hold_out(cell)
    if hold_out is None or hold_out.column != subgroup.column or subgroup.result is not None:
        return False
    values = {write_cell(value) for value in hold_out.values}
    return len(values) == 1 or subgroup.name not in values


def _describe(cell: Cell, subgroup: Subgroup) -> dict[str, Any]:
    score, rest, result = subgroup.score, subgroup.rest, subgroup.result
    row: dict[str, Any] = {"cell": cell.key, "dataset": cell.dataset, "model": cell.model}
    row |= {"label": name_cell(cell), "recipe": write_settings(list_rest(cell))}
    row |= {"column": subgroup.column, "subgroup": subgroup.name or "not recorded"}
    row |= {"n_images": subgroup.n_images, "n_groups": subgroup.n_groups}
    if score is None or rest is None or result is None:
        return row | {"note": write_notes([subgroup.note] if subgroup.note else [])}
    delta, names = result.delta, cell.runs[0].plan.classes
    row |= {"classes": len(subgroup.classes), "n_seeds": len(cell.seeds)}
    row["left_out"] = ", ".join(name for name in names if name not in subgroup.classes)
    row |= {"value": score.value, "low": score.low, "high": score.high}
    row |= {"rest": rest.value, "rest_low": rest.low, "rest_high": rest.high}
    row |= {"delta": delta.value, "delta_low": delta.low, "delta_high": delta.high}
    row |= {name: getattr(result, name) for name in ("p", "p_holm", "family_size", "margin")}
    return row | {"verdict": result.verdict, "note": "; ".join(list_remarks(result))}


def choose_cells(
    highlights: Iterable[tuple[str, str, str]],
    cells: Mapping[str, Cell],
    vals: Mapping[str, float],
) -> list[Cell]:
    """Return, for each dataset, model and recipe, the best highlighted cell on validation.

    Args:
        highlights: as in `Content`.
        vals: mean validation scores of cells, by key.
    """
    chosen: dict[Any, Cell] = {}
    for _, _, key in highlights:
        cell = cells[key]
        place = (cell.dataset, cell.model, cell.recipe)
        if place not in chosen or vals.get(key, 0.0) > vals.get(chosen[place].key, 0.0):
            chosen[place] = cell
    return list(chosen.values())


# ---- in a report --------------------------------------------------------------------------------


def describe_subgroups(content: Content) -> str:
    """Return what the table of subgroups holds; empty without one."""
    if content.subgroups.empty:
        return ""
    unit = f", in {name_unit(content.metric)}" if name_unit(content.metric) else ""
    return (
        "Scores of parts of the test images, with 95 % intervals. Of each dataset and model the "
        "table has the cell that validation chose. The rest are the images with another recorded "
        f"value. Δ is the score of the subgroup minus that of the rest{unit}. "
        f"{_describe_classes(content.metric)} A difference says nothing of its cause: images of "
        "subgroups also differ in how hard they are."
    )


def describe_subgroup_tests(content: Content) -> tuple[str, ...]:
    """Return how subgroups were compared, in sentences; none without subgroups."""
    if content.subgroups.empty:
        return ()
    columns = join_words(list(dict.fromkeys(content.subgroups["column"])))
    return (
        f"Test images were divided by {columns}; the subgroups were chosen by whoever asked for "
        "them. Each was compared with the rest, the images with another recorded value.",
        "The same networks were scored on both sides, so differences are paired by seed. The "
        "images are others. All images of a test group were redrawn together, also where they "
        "stand on both sides, and redraws kept the number of groups of each class on each side.",
        "p is the larger of two: that of a permutation of the test groups of each class between "
        "the sides, and that of a t test over new seeds and new test groups (over new test groups "
        "alone for a cell of one seed). It is adjusted by Holm over all subgroups of a cell. Of "
        "two subgroups of a column the second is the rest of the first, and no comparison of its "
        "own.",
        _describe_classes(content.metric),
    )


def _describe_classes(metric: str) -> str:
    """Return which classes a score of a subgroup is of."""
    if parse_metric(metric).name in CLASS_MEANS:
        return (
            f"Only classes with at least {LEAST_GROUPS} test groups in the subgroup and in the "
            "rest are counted, the same on both sides, so scores of different subgroups may be "
            "of different classes. Fewer than two such classes give no score."
        )
    return (
        f"A score needs {LEAST_GROUPS} test groups on both sides. Subgroups with other shares of "
        "easy classes differ in this metric for that reason alone."
    )


def make_subgroup_table(content: Content) -> Table:
    """Return one row a subgroup: its score, that of the rest, their difference, the verdict."""
    frame, metric = content.subgroups, content.metric
    shown = [name for name in ("label", "recipe") if name in frame and frame[name].nunique() > 1]
    below = (*find_below(frame), *shown)
    margin = float(frame["margin"].max()) if len(frame) else 0.01
    unit = name_unit(metric)

    def describe(row: Mapping[Any, Any]) -> dict[Column, Entry]:
        delta = (row["delta_low"], row["delta"], row["delta_high"])
        name = f"{row['column']} {row['subgroup']}"
        why = str(row["left_out"] or "") if isinstance(row["left_out"], str) else ""
        return {
            Column("subgroup"): show_name(name, row, below),
            Column("verdict", "verdict", "of the subgroup against the rest"): show_verdict(
                row["verdict"]
            ),
            Column("images", "count"): show_number(row["n_images"], "{:,.0f}".format),
            Column("groups", "count"): show_number(row["n_groups"], "{:,.0f}".format),
            Column("classes", "number", "those that are counted"): show_number(
                row["classes"], why=f"left out: {why}" if why else ""
            ),
            Column(name_column(metric), "number"): show_interval(
                row["value"], row["low"], row["high"], metric
            ),
            Column("the rest", "number"): show_interval(
                row["rest"], row["rest_low"], row["rest_high"], metric
            ),
            Column("Δ", "number", unit): show_interval(
                row["delta"], row["delta_low"], row["delta_high"], metric, signed=True
            ),
            Column("difference", "bar", "the line is zero, the band the margin"): show_bar(*delta),
            Column("Holm p", "number", "adjusted over the subgroups of the cell"): show_number(
                row["p_holm"], format_p
            ),
            Column("column"): show_value(row["column"]),
            Column("cell"): show_value(row["label"]),
            **{Column(head): show_value(row[head]) for head in ("dataset", "model", "recipe")},
            Column("comparisons", "count", "those that p is adjusted for"): show_number(
                row["family_size"]
            ),
            Column("seeds", "count"): show_number(row["n_seeds"]),
            Column("note"): show_value(row["note"]),
        }

    return fill_table(
        frame.to_dict("records"),
        describe,
        lambda row: f"cell:{row['cell']}",
        key="subgroups",
        title="Scores by subgroup",
        scale=make_scale(frame, "delta_low", "delta", "delta_high", margin),
        nouns=("subgroup", "subgroups"),
    )


# ---- in the terminal ----------------------------------------------------------------------------


def make_compared_table(cells: Sequence[Cell], asked: Asked, metric: str, margin: float) -> Table:
    """Return the table of `tlcnn compare --by`: cells and subgroups as rows."""
    tabulated = tabulate_subgroups(cells, asked, metric, margin)
    frame, lines = tabulated.frame, tabulated.lines
    if cells and frame.empty:
        raise DataError("; ".join(lines))
    keys, names = list_cells(cells)
    by_cell = {members[0].key: key for key, members in keys}
    order = {cell_key: number for number, cell_key in enumerate(by_cell)}
    records = sorted(frame.to_dict("records"), key=lambda row: order[row["cell"]])
    columns = [
        show_column(name, [by_cell[row["cell"]].get(name) for row in records], role="key")
        for name in names
    ]
    for head, name in (("by", "column"), ("subgroup", "subgroup")):
        columns.append(show_column(head, [row[name] for row in records], role="key"))
    for head in ("images", "groups", "classes"):
        name = head if head == "classes" else f"n_{head}"
        columns.append(show_column(head, [row[name] for row in records]))
    for head, name, low, high in (
        (metric, "value", "low", "high"),
        ("the rest", "rest", "rest_low", "rest_high"),
        ("Δ", "delta", "delta_low", "delta_high"),
    ):
        entries = [_show(row, name, low, high, is_signed=name == "delta") for row in records]
        columns.append((Column(head, "number"), entries))
    columns.append(show_column("p Holm", [row["p_holm"] for row in records], format_p))
    columns.append(show_column("verdict", [row["verdict"] for row in records]))
    return join_columns(columns, [*_list_notes(records, metric), *lines])


def _show(row: Mapping[Any, Any], name: str, low: str, high: str, *, is_signed: bool) -> Entry:
    parts = {"low": row[low], "high": row[high]}
    text = format_estimate(row[name], **parts, digits=3, signed=is_signed)
    return Entry(text, row[name], parts)


def _list_notes(records: Sequence[Mapping[Any, Any]], metric: str) -> Iterator[str]:
    notes: dict[str, list[str]] = {}
    for row in records:
        if row["note"] and isinstance(row["note"], str):
            notes.setdefault(row["note"], []).append(f"{row['column']} {row['subgroup']}")
    for note, names in notes.items():
        yield f"{join_words(list(dict.fromkeys(names)))}: {note}"
    yield (
        "Δ is the score of the subgroup minus that of the rest, which is the images with another "
        "recorded value, with its 95 % interval; p is adjusted by Holm over the subgroups of a "
        "cell"
    )
    if parse_metric(metric).name in CLASS_MEANS:
        yield (
            f"classes: those with at least {LEAST_GROUPS} test groups in the subgroup and in the "
            "rest; no others are counted, on either side"
        )
