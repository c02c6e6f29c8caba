"""The page of a report: one HTML file that needs no network.

content + figures + run folders -> values of the template -> HTML

Whatever comes from data is text: control characters are made visible and jinja2 escapes the rest,
the embedded JSON holds no markup, and the page's own policy allows no script but the one whose
digest it names, and no connection at all.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tlcnn import __version__
from tlcnn.report.captions import (
    RUNS,
    describe_calibration,
    describe_cells,
    describe_comparisons,
    describe_detectable,
    describe_layers,
)
from tlcnn.report.comparison_tables import (
    make_comparison_scale,
    make_comparison_table,
    make_detectable_table,
    make_finding_table,
)
from tlcnn.report.content import Content, Grid
from tlcnn.report.content_tables import (
    make_calibration_table,
    make_cell_table,
    make_command_table,
    make_layer_table,
    make_run_table,
)
from tlcnn.report.external_tables import CAPTION as EXTERNAL
from tlcnn.report.external_tables import (
    COMPARISONS,
    make_external_comparison_table,
    make_external_table,
)
from tlcnn.report.glossary import make_glossary, write_lead
from tlcnn.report.grid import GridLayout, describe_transfer, lay_out_grid
from tlcnn.report.held_out import CAPTION as HELD_OUT
from tlcnn.report.held_out import make_held_out_table
from tlcnn.report.layer_measure_tables import (
    AGREEMENT,
    EXPLAINED,
    make_cost_agreement_table,
    make_reading_table,
)
from tlcnn.report.methods import make_methods
from tlcnn.report.numbers import (
    NONE,
    format_gap,
    format_range,
    format_score,
    format_value,
    is_number,
    name_column,
    name_unit,
)
from tlcnn.report.page_data import PageData, compute_tints, embed_json
from tlcnn.report.reproduce import explain_commands
from tlcnn.report.searches import CAPTION as SEARCHES
from tlcnn.report.searches import make_search_table
from tlcnn.report.show import find_tone
from tlcnn.report.subgroups import describe_subgroups, make_subgroup_table
from tlcnn.report.table import Table
from tlcnn.report.words import name_dataset
from tlcnn.report.writers.html import load_environment, load_template
from tlcnn.text import count

if TYPE_CHECKING:
    from tlcnn.report.figures.style import ReportFigure

FIRST_ROWS = 200  # of a table, written as HTML; the others are made when they are first shown
_SCRIPTS = ("base.js", "tables.js", "panel.js")
_FUNCTIONS: dict[str, Any] = {  # that the templates call
    "compute_tints": compute_tints,
    "count": count,
    "describe_transfer": describe_transfer,
    "find_tone": find_tone,
    "format_range": format_range,
    "format_score": format_score,
    "name_column": name_column,
    "name_dataset": name_dataset,
}


@dataclass(frozen=True)
class Picture:
    """A figure with its image as a data URI."""

    figure: "ReportFigure"
    source: str


def make_picture(figure: "ReportFigure", path: Path) -> Picture:
    """Return a figure with the file that it was saved as, an SVG or a PNG."""
    kind = {"svg": "image/svg+xml", "png": "image/png"}[path.suffix[1:]]
    data = base64.b64encode(path.read_bytes()).decode()
    return Picture(figure, f"data:{kind};base64,{data}")


def render_page(
    content: Content,
    data: PageData,
    pictures: Sequence[Picture] = (),
    problems: Sequence[str] = (),
    *,
    first_rows: int = FIRST_ROWS,
) -> str:
    """Return the page.

    Args:
        problems: the figures that could not be drawn, and why.
        first_rows: rows of every table that are written as HTML.
    """
    tables = {
        "comparisons": make_comparison_table(content),
        "detectable": make_detectable_table(content),
        "cells": make_cell_table(content),
        "subgroups": make_subgroup_table(content),
        "held_out": make_held_out_table(content),
        "runs": make_run_table(content, data.names),
        "commands": make_command_table(data.names, data.commands),
        "external": make_external_table(content),
        "external_comparisons": make_external_comparison_table(content),
    }
    layers = [make_layer_table(part, f"layers-{i}") for i, part in enumerate(content.layers)]
    readings = [make_reading_table(m, f"measures-{i}") for i, m in enumerate(content.measures)]
    grids = [(grid, lay_out_grid(grid)) for grid in content.grids]
    embedded = _embed(data, [*tables.values(), *layers, *readings], first_rows)
    embedded["grids"] = [_list_tips(grid, layout) for grid, layout in grids]
    unit = name_unit(content.metric)
    margin = format_gap(make_comparison_scale(content)[3], content.metric).lstrip("+")
    script = f'(() => {{\n"use strict";\n{"".join(map(load_template, _SCRIPTS))}}})();\n'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = load_environment().get_template("page.html")
    return template.render(
        **_FUNCTIONS,
        **tables,
        external_note=EXTERNAL,
        external_comparison_note=COMPARISONS,
        searches=make_search_table(content),
        search_note=SEARCHES,
        held_out_note=HELD_OUT,
        subgroup_note=describe_subgroups(content),
        calibration=make_calibration_table(content),
        calibration_note=describe_calibration(content),
        cell_note=describe_cells(content),
        comparison_note=describe_comparisons(content),
        detectable_note=describe_detectable(content),
        layer_note=describe_layers(content),
        run_note=RUNS,
        version=__version__,
        style=Markup(load_template("style.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",  # by which the page's policy allows the script
        data=Markup(embed_json(embedded)),
        content=content,
        lead=write_lead(content),
        glossary=make_glossary(content),
        findings=[(finding, make_finding_table(finding, content)) for finding in content.findings],
        grids=grids,
        methods=make_methods(content),
        command_note=explain_commands(data.commands),
        layers=list(zip(content.layers, layers, strict=True)),
        measures=[
            (part, make_cost_agreement_table(part), table)
            for part, table in zip(content.measures, readings, strict=True)
        ],
        explained=EXPLAINED,
        agreement_note=AGREEMENT,
        notes=data.notes,
        left_out=(*content.left_out, *problems),
        unit=unit,
        margin=f"{margin} {unit}".strip(),
        n_first=first_rows,
        pictures=pictures,
        figure_sections=list(dict.fromkeys(picture.figure.section for picture in pictures)),
    )


def _list_tips(grid: Grid, layout: GridLayout) -> dict[str, Any]:
    """Return the card of every cell, by `k,j`: its label and (name, text) pairs."""
    metric = grid.metric
    trained = [k for k, j in layout.points if j == 0]
    full = layout.points[max(trained), 0]["value"] if trained else None
    tips = {}
    for (k, j), row in layout.points.items():
        has_gap = is_number(row["value"]) and is_number(full)
        facts = [
            [name_column(metric), format_score(row["value"], metric)],
            ["95 % interval", format_range(row["low"], row["high"], metric)],
            ["seeds", format_value(row.get("n_seeds"))],
            ["on validation", format_score(row.get("val"), metric)],
            ["to full fine-tuning", format_gap(row["value"] - full, metric) if has_gap else NONE],
        ]
        tips[f"{k},{j}"] = [format_value(row.get("label")), facts]
    return tips


def _embed(data: PageData, tables: Sequence[Table], first_rows: int) -> dict[str, Any]:
    """Return what the page's script reads of cells, runs, and rows after the first ones."""
    long_tables = [table for table in tables if len(table.rows) > first_rows]
    return {
        "names": data.names if data.notes else [],  # else each run has its own
        "commands": data.commands if data.notes else [],
        "cells": data.cells,
        "runs": data.runs,
        "shared": data.shared,
        "classes": data.classes,
        "tables": {
            table.key: [
                [[entry.pack() for entry in row], target]
                for row, target in list(zip(table.rows, table.opens, strict=True))[first_rows:]
            ]
            for table in long_tables
        },
        "scales": {table.key: table.scale for table in long_tables},
    }
