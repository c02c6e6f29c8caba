"""Scores on held-out values, such as sites: each value, and the mean over them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from tlcnn.report.comparison_tables import find_below, show_name
from tlcnn.report.content import Content
from tlcnn.report.numbers import name_column
from tlcnn.report.remarks import write_notes
from tlcnn.report.show import show_interval, show_number, show_value
from tlcnn.report.table import Column, Entry, Table, fill_table
from tlcnn.report.words import name_treatment, write_settings
from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.estimate import estimate_contrast, make_unknown
from tlcnn.statistics.metrics import parse_metric
from tlcnn.study.arms import estimate_mean
from tlcnn.study.cells import Cell
from tlcnn.study.held_out import HeldOutCells, group_held_out

COUNTED = "The mean over the values counts each of them once, whatever its number of images."
MEAN = (
    f"{COUNTED} Its interval is about new values like these: it is Student's over the values, "
    "with the variance between seeds added, and widened for the training images that the networks "
    "of different values share (Nadeau and Bengio 2003). Few values say little about new ones."
)
CAPTION = (
    "Networks tested on images of a value, such as a site, that training has not seen. The "
    f"interval of a row is over new seeds and new test groups of that value. {MEAN}"
)


@dataclass(frozen=True)
class HeldOutMean:
    """The mean over the held-out values of some cells, as a row of a table.

    Attributes:
        keys: of the cells.
        tested: what stands in place of a held-out value.
        arms, estimates: by metric.
    """

    keys: tuple[str, ...]
    tested: str
    arms: Mapping[str, Arm]
    estimates: Mapping[str, Estimate]


def list_held_out_means(
    cells: Mapping[str, Cell],
    arms: Mapping[str, Mapping[str, Arm]],
    metrics: Sequence[str],
    *,
    interval: bool = True,
) -> list[HeldOutMean]:
    """Return the means over held-out values, of the test split with intervals.

    The images for validation are not of the held-out values, so their mean has no interval.

    Args:
        interval: whether intervals are asked for; they are over new values.
    """
    groups: dict[tuple[str, ...], dict[str, HeldOutCells]] = {}
    for metric in metrics:
        for group in group_held_out(cells, arms, metric):
            if group.mean is not None:
                keys = tuple(cell.key for _, cell in group.cells)
                groups.setdefault(keys, {})[metric] = group
    means = []
    for keys, by_metric in groups.items():
        scored = {metric: group.mean for metric, group in by_metric.items() if group.mean}
        estimates = {
            metric: estimate_contrast([(1.0, arm)])
            if interval and parse_metric(metric).split == "test"
            else make_unknown(arm.mean, len(arm.seeds))
            for metric, arm in scored.items()
        }
        tested = _name_mean(next(iter(by_metric.values())))
        means.append(HeldOutMean(keys, tested, scored, estimates))
    return means


def _name_mean(group: HeldOutCells) -> str:
    return f"mean over {len(group.cells)} values of {group.column}"


def tabulate_held_out(
    cells: Mapping[str, Cell], arms: Mapping[str, Mapping[str, Arm]], metric: str
) -> pd.DataFrame:
    """Return one row a held-out value and one for their mean; empty where nothing is held out."""
    rows = [row for group in group_held_out(cells, arms, metric) for row in _list_rows(group)]
    return pd.DataFrame(rows)


def _list_rows(group: HeldOutCells) -> Iterator[dict[str, Any]]:
    first = group.cells[0][1]
    names = {"dataset": first.dataset, "model": first.model}
    names |= {"recipe": write_settings(group.recipe), "column": group.column}

    def describe(estimate: Estimate) -> dict[str, Any]:
        numbers = {name: getattr(estimate, name) for name in ("value", "low", "high", "n_seeds")}
        return numbers | {"note": write_notes(estimate.notes)}

    n_tested = 0
    for (hold_out, cell), arm in zip(group.cells, group.arms, strict=True):
        n_images = cell.runs[0].plan.count_images("test")
        n_tested += n_images
        n_groups = len(arm.sample.groups) if arm.sample else None
        counts = {"n_images": n_images, "n_groups": n_groups}
        place = {"cell": cell.key, "label": name_treatment(cell), "tested": hold_out.words}
        yield {**names, **place, **counts, **describe(estimate_mean([arm]))}
    if group.mean is not None:
        if len({cell.source for _, cell in group.cells}) > 1:  # each value has its own init.run
            settings = tuple(pair for pair in first.source.settings if pair[0] != "init.run")
            first = replace(first, source=replace(first.source, settings=settings))
        mean = {"cell": "", "label": name_treatment(first), "tested": _name_mean(group)}
        counts = {"n_images": n_tested, "n_groups": None}
        yield {**names, **mean, **counts, **describe(estimate_contrast([(1.0, group.mean)]))}


def make_held_out_table(content: Content) -> Table:
    """Return the scores on held-out values."""
    frame, metric = content.held_out, content.metric
    below = find_below(frame)

    def describe(row: Mapping[Any, Any]) -> dict[Column, Entry]:
        score = show_interval(row["value"], row["low"], row["high"], metric)
        return {
            Column("tested on"): show_value(row["tested"]),
            Column("cell"): show_name(row["label"], row, below),
            Column("recipe"): show_value(row["recipe"]),
            Column("images", "count"): show_number(row["n_images"], "{:,.0f}".format),
            Column("groups", "count"): show_number(row["n_groups"], "{:,.0f}".format),
            Column("seeds", "count"): show_number(row["n_seeds"]),
            Column(name_column(metric), "number"): score,
            Column("note"): show_value(row["note"]),
        }

    return fill_table(
        frame.to_dict("records"),
        describe,
        lambda row: f"cell:{row['cell']}" if row["cell"] else "",
        key="held-out",
        title="Held-out values",
        nouns=("row", "rows"),
    )
