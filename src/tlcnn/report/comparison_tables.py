"""The tables of comparisons, for the page, the paper and report.md alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from tlcnn.report.content import Content, Finding
from tlcnn.report.detectable import DETECTABLE
from tlcnn.report.forest import Scale, make_scale
from tlcnn.report.numbers import (
    format_error,
    format_gap,
    format_p,
    format_value,
    is_number,
    name_unit,
)
from tlcnn.report.show import show_bar, show_interval, show_number, show_value, show_verdict
from tlcnn.report.table import Column, Entry, Table, fill_table
from tlcnn.text import count

Record = Mapping[Any, Any]

_ARROW = "an arrow means that the interval goes on"
_BAR = f"the line is zero, the band the margin; {_ARROW}"
COST_BAR = f"the line is zero, the band ends at the margin δ; {_ARROW}"


def find_below(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns shown below a row's name: dataset and model, where there are several."""
    names = [name for name in ("dataset", "model") if name in frame]
    return tuple(name for name in names if frame[name].nunique(dropna=False) > 1)


def show_name(name: object, row: Record, below: Sequence[str]) -> Entry:
    """Return the entry of a row's name, with what stands below it."""
    return show_value(name, ", ".join(format_value(row.get(column)) for column in below))


def make_comparison_scale(content: Content) -> Scale:
    """Return the scale of the bars of all comparisons."""
    frame = content.comparisons
    margins = list(frame["margin"].dropna()) if "margin" in frame else []
    return make_scale(frame, "low", "delta", "high", float(max(margins, default=0.01)))


def make_comparison_table(content: Content) -> Table:
    """Return the comparisons: verdict, difference, interval, bar, p after Holm with its family.

    Those that have a verdict come first.
    """
    frame = content.comparisons
    below = find_below(frame)
    rows: list[Record] = [*frame.to_dict("records")]

    def describe(row: Record) -> dict[Column, Entry]:
        of_family = "the comparisons that p and the verdict are adjusted for"
        return {
            **_describe_comparison(row, content.metric, below),
            Column("family", hint=of_family): _show_family(row),
            Column("family size", "count", f"the number of {of_family}"): show_number(
                row.get("family_size")
            ),
            Column("Holm p", "number", "adjusted within its family"): show_number(
                row.get("p_holm"), format_p
            ),
            Column("seeds", "number", "seeds that the difference is of"): show_number(
                row.get("n_seeds")
            ),
            Column("detectable (one number a family)", "number", DETECTABLE): _show_size(
                row, "detectable", content
            ),
            Column("dataset", aside=True): show_value(row.get("dataset")),
            Column("model", aside=True): show_value(row.get("model")),
            Column("note"): _show_remarks(row),
        }

    return fill_table(
        sorted(rows, key=lambda row: row.get("verdict") in ("inconclusive", "no verdict")),
        describe,
        lambda row: f"cell:{row['a']}" if isinstance(row.get("a"), str) else "",
        key="comparisons",
        title="Comparisons",
        scale=make_comparison_scale(content),
        nouns=("comparison", "comparisons"),
    )


def _show_family(row: Record) -> Entry:
    size = row.get("family_size")
    further = f", {count(int(size or 0), 'comparison')}" if is_number(size) else ""
    return show_value(f"{format_value(row.get('family'))}{further}")


def _show_remarks(row: Record) -> Entry:
    remarks = row.get("remarks")
    lines = tuple(remarks) if isinstance(remarks, (list, tuple)) else ()
    return replace(show_value(row.get("note")), lines=lines)


def _show_size(row: Record, name: str, content: Content) -> Entry:
    return show_number(
        row.get(name),
        lambda size: format_gap(size, content.metric).lstrip("+"),
        "the variance is not known",
    )


def make_detectable_table(content: Content) -> Table:
    """Return the smallest differences that are detected, now and with a larger design.

    The two parts of the standard error that they follow from stand beside them.
    """
    frame, metric = content.detectable, content.metric
    not_sizes = ("family", "family_size", "n_seeds", "se_seeds", "se_groups")
    sizes = [str(name) for name in frame if name not in not_sizes]
    errors = {"se_seeds": "error from seeds", "se_groups": "error from test groups"}

    def describe(row: Record) -> dict[Column, Entry]:
        n_seeds, is_zero = row.get("n_seeds"), [row.get(name) == 0 for name in errors]
        note = (
            f"an error of 0 that {count(int(n_seeds or 0), 'seed')} gave is no evidence that "
            "there is none"
        )
        return {
            Column("family of comparisons"): _show_family(row),
            Column("seeds", "count"): show_number(n_seeds),
            **{
                Column(head, "number", "a part of the standard error of a difference"): (
                    show_number(row.get(name), lambda se: format_error(se, metric))
                )
                for name, head in errors.items()
            },
            **{
                Column(name, "number", DETECTABLE): _show_size(row, name, content)
                for name in sizes
            },
            Column("note"): show_value(note if any(is_zero) else ""),
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


def _describe_comparison(
    row: Record, metric: str, below: Sequence[str] = ()
) -> dict[Column, Entry]:
    """Return the pair, its difference as a number and as a bar, and the verdict."""
    pair = f"{format_value(row.get('a_label'))} vs {format_value(row.get('b_label'))}"
    delta, low, high = row.get("delta"), row.get("low"), row.get("high")
    gap = show_interval(delta, low, high, metric, signed=True)
    return {
        Column("comparison"): show_name(pair, row, below),
        Column("verdict", "verdict"): show_verdict(row.get("verdict")),
        Column("Δ (95 % interval)", "number", name_unit(metric)): gap,
        Column("difference", "bar", _BAR): show_bar(low, delta, high),
    }
