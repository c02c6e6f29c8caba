"""The tables of scores on other datasets, for the page, the paper and report.md alike."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tlcnn.report.comparison_tables import find_below, make_comparison_table, show_name
from tlcnn.report.content import Content
from tlcnn.report.numbers import name_column
from tlcnn.report.show import show_interval, show_number, show_value
from tlcnn.report.table import Column, Entry, Table, fill_table
from tlcnn.report.words import name_dataset

CAPTION = (
    "Scores on datasets that the networks were not trained on. They are in no other table and in "
    "no answer of this report, and nothing was chosen by them. Entries of several "
    "seeds are means over seeds, with 95 % intervals over new seeds and new test groups. Entries "
    "of one seed, and of an ensemble, have intervals over new test groups alone, for these "
    "networks as they are. Rows with different images cannot be compared with each other."
)
COMPARISONS = (
    "Sources compared on these images: differences of the same metric, paired by test group, and "
    "by seed where there are enough seeds. p values are adjusted by Holm within each family, "
    "which is one question on one set of images."
)


def make_external_table(content: Content) -> Table:
    """Return one row for each cell or ensemble that was tested on another dataset."""
    if content.external is None:
        return Table((), ())
    frame = content.external.cells
    metrics = [m for m in (content.metric, *content.metrics) if m in frame]

    def describe(row: Mapping[Any, Any]) -> dict[Column, Entry]:
        seeds = row["seeds"]
        split = "all images" if row["split"] == "all" else f"{row['split']} split"
        entries = {
            Column("cell"): show_name(row["label"], row, find_below(frame)),
            Column("trained on"): show_value(name_dataset(row["trained_on"])),
            Column("tested on"): show_value(f"{name_dataset(row['tested_on'])}, {split}"),
            Column("images", "count"): show_number(row["n_images"]),
            Column("groups", "count"): show_number(row["n_groups"]),
            Column("seeds", "count"): show_number(len(seeds) if seeds else None),
        }
        for metric in dict.fromkeys(metrics):
            low, high = row[f"{metric} low"], row[f"{metric} high"]
            head = Column(name_column(metric), "number", metric)
            entries[head] = show_interval(row[metric], low, high, metric)
        remarks = [remark.removesuffix(".") for remark in row["remarks"]]  # a table adds it
        lines = (*remarks, *filter(None, [row["note"]]))
        entries[Column("interval over")] = show_value(row["over"])
        entries[Column("note")] = replace(show_value("; ".join(lines)), lines=lines)
        settings = {n: Column(n, aside=True) for n in ("model", "recipe")}
        return entries | {column: show_value(row[name]) for name, column in settings.items()}

    return fill_table(
        frame.to_dict("records"),
        describe,
        lambda row: f"cell:{row['cell']}",
        key="external",
        title="Tested on other datasets",
        nouns=("cell", "cells"),
    )


def make_external_comparison_table(content: Content) -> Table:
    """Return the comparisons of sources on other datasets."""
    if content.external is None:
        return Table((), ())
    table = make_comparison_table(replace(content, comparisons=content.external.comparisons))
    return replace(table, key="external-comparisons", title="Comparisons on other datasets")
