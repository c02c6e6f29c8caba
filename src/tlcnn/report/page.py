"""The page of a report: one HTML file that needs no network.

content + figures + run folders -> values of the template -> HTML

Whatever comes from data is text: jinja2 escapes it, the embedded JSON holds no markup, and the
page's own policy allows no script but the one whose digest it names, and no connection at all.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlcnn import __version__
from tlcnn.report.content import Content, Finding, Grid, LayerScores
from tlcnn.report.page_cells import Table, list_ticks
from tlcnn.report.page_data import PageData, compute_tint, embed_json
from tlcnn.report.page_tables import (
    make_cell_table,
    make_command_table,
    make_comparison_table,
    make_layer_table,
    make_run_table,
)
from tlcnn.report.page_words import (
    NONE,
    WORDS,
    find_tone,
    format_gap,
    format_range,
    format_score,
    format_value,
    is_number,
    name_column,
    name_unit,
    write_lead,
)
from tlcnn.report.words import name_dataset

if TYPE_CHECKING:
    import jinja2

FIRST_ROWS = 200  # of a table, written as HTML; the others are made when they are first shown
BAR_WIDTH = 170  # of a forest bar, in pixels
_SCRIPTS = ("base.js", "tables.js", "panel.js")
_OWN_SECTIONS = ("grid", "layers")


@dataclass(frozen=True)
class Picture:
    """A figure inside the page: `source` is a data URI."""

    name: str
    title: str
    caption: str
    alt: str
    wide: bool
    section: str
    source: str


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
        problems: figures that could not be drawn, and why.
        first_rows: of every table that are written as HTML.
    """
    grids = [_describe_grid(grid, n) for n, grid in enumerate(content.grids)]
    layers = [_describe_layers(scores, n) for n, scores in enumerate(content.layers)]
    tables = _make_tables(content, data)
    all_tables = [*tables.values(), *(layer["table"] for layer in layers)]
    packed = _pack(content, data, grids, all_tables, first_rows)
    return _load_template().render(
        **_fill_frame(packed),
        **_place_pictures(content, pictures),
        **tables,
        content=content,
        lead=write_lead(content),
        words=WORDS,
        findings=[_describe_finding(finding, content) for finding in content.findings],
        grids=grids,
        layers=layers,
        notes=data.notes,
        left_out=(*content.left_out, *problems),
        unit=name_unit(content.metric),
        margin=_tell_margin(tables["comparisons"], content.metric),
        ticks=_name_ticks(tables["comparisons"], content.metric),
        first=first_rows,
    )


def _make_tables(content: Content, data: PageData) -> dict[str, Table]:
    return {
        "comparisons": make_comparison_table(content),
        "cells": make_cell_table(content),
        "runs": make_run_table(content, data.names),
        "commands": make_command_table(data.names, data.commands),
    }


def _fill_frame(packed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is ours and no data: style, script and its digest, the embedded JSON."""
    script = _read_script()
    return {
        "version": __version__,
        "style": _mark(_read("style.css")),
        "script": _mark(script),
        "script_hash": _digest(script),
        "data": _mark(embed_json(packed)),
    }


def _place_pictures(content: Content, pictures: Sequence[Picture]) -> dict[str, Any]:
    found = {picture.section for picture in pictures}
    others = tuple(dict.fromkeys(p.section for p in pictures if p.section not in _OWN_SECTIONS))
    return {
        "drawn": pictures,
        "other_sections": others,
        "has_grid_figures": "grid" in found,
        "has_layer_figures": "layers" in found,
        "has_other_figures": bool(others),
        "sections": _list_sections(content, bool(others), "layers" in found),
    }


# ---- template -----------------------------------------------------------------------------------


@cache
def _load_template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.globals["place"] = place
    return environment.get_template("page.html")


def _read(name: str) -> str:
    return (files("tlcnn.report") / "templates" / name).read_text(encoding="utf-8")


def _read_script() -> str:
    return f'(() => {{\n"use strict";\n{"".join(_read(name) for name in _SCRIPTS)}}})();\n'


def _mark(text: str) -> Any:
    """Tell jinja2 that a text of ours is no data and needs no escaping."""
    import markupsafe

    return markupsafe.Markup(text)


def _digest(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def place(value: float, scale: tuple[float, float, float]) -> str:
    """Return where a value lies on a forest bar, in its pixels."""
    low, high, _ = scale
    at = (value - low) / (high - low) * BAR_WIDTH
    return f"{min(max(at, 0.0), BAR_WIDTH):.1f}"


# ---- what the template shows --------------------------------------------------------------------


def _list_sections(content: Content, has_figures: bool, has_layers: bool) -> list[tuple[str, str]]:
    wanted: list[tuple[str, str, bool]] = [
        ("answers", "Answers", True),
        ("comparisons", "Comparisons", bool(len(content.comparisons))),
        ("grids", "Units", bool(content.grids)),
        ("layers", "Layers", bool(content.layers) or has_layers),
        ("figures", "Figures", has_figures),
        ("cells", "Cells", True),
        ("runs", "Runs", True),
        ("methods", "Methods", True),
        ("provenance", "Provenance", True),
    ]
    return [(key, name) for key, name, is_there in wanted if is_there]


def _describe_finding(finding: Finding, content: Content) -> dict[str, Any]:
    known = [at for at in finding.comparisons if at in content.comparisons.index]
    rows: list[Any] = content.comparisons.loc[known].to_dict("records")
    return {
        "finding": finding,
        "tone": find_tone(finding.verdict),
        "dataset": name_dataset(finding.dataset),
        "rows": [_describe_comparison(row, content.metric) for row in rows],
    }


def _describe_comparison(row: Mapping[str, Any], metric: str) -> dict[str, Any]:
    numbers = [row.get(name) for name in ("low", "delta", "high")]
    return {
        "pair": f"{format_value(row.get('a_label'))} vs {format_value(row.get('b_label'))}",
        "delta": format_gap(row.get("delta"), metric),
        "range": format_range(row.get("low"), row.get("high"), metric, signed=True),
        "bar": numbers if all(is_number(number) for number in numbers) else None,
        "verdict": format_value(row.get("verdict")),
        "tone": find_tone(row.get("verdict")),
    }


def _tell_margin(comparisons: Table, metric: str) -> str:
    margin = comparisons.scale[2] if comparisons.scale else 0.0
    text = format_gap(margin, metric).lstrip("+")
    return f"{text} {name_unit(metric)}".strip()


def _name_ticks(table: Table, metric: str) -> list[tuple[float, str]]:
    if table.scale is None:
        return []
    return [(tick, _shorten(format_gap(tick, metric))) for tick in list_ticks(table.scale)]


def _shorten(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number and float(number[1:] or 0) else "0"


def _describe_layers(scores: LayerScores, number: int) -> dict[str, Any]:
    table = make_layer_table(scores, f"layers-{number}")
    recipe = f" ({scores.recipe})" if scores.recipe else ""
    return {
        "name": f"{scores.model} on {scores.dataset}, units from {scores.source}{recipe}",
        "table": table,
        "ticks": _name_ticks(table, scores.metric),
    }


# ---- grids --------------------------------------------------------------------------------------


def _describe_grid(grid: Grid, number: int) -> dict[str, Any]:
    """Return rows k = L..0 of cells j = 0..L: None where nothing was trained, no empty rows."""
    records: list[Any] = grid.table.to_dict("records")
    tints = compute_tint(grid.table["value"])
    full = _find_full(records)
    points = [_describe_point(row, grid, full) for row in records]
    placed = {
        (int(row["k"]), int(row["j"])): {**point, "number": at, "tint": tint or 0}
        for at, (row, point, tint) in enumerate(zip(records, points, tints, strict=True))
    }
    names = ["none", *grid.units]
    ks, js = ({at[axis] for at in placed} for axis in (0, 1))  # others were not trained
    values = [float(row["value"]) for row in records if is_number(row["value"])]
    recipe = f" ({grid.recipe})" if grid.recipe else ""
    columns = [j for j in range(len(names)) if j in js]
    return {
        "number": number,
        "name": f"{grid.model} on {grid.dataset}, units from {grid.init}{recipe}",
        "metric": name_column(grid.metric).capitalize(),
        "columns": [(j, names[j]) for j in columns],
        "rows": [
            (k, names[k] if k else "random", [placed.get((k, j)) for j in columns])
            for k in reversed(range(len(names)))
            if k in ks
        ],
        "low": format_score(min(values), grid.metric) if values else NONE,
        "high": format_score(max(values), grid.metric) if values else NONE,
        "has_best": any(point["best"] for point in points),
        "tips": [[point["label"], point["facts"]] for point in points],
    }


def _find_full(records: Iterable[Mapping[str, Any]]) -> Any:
    """Return the score of full fine-tuning: most units transferred, none frozen."""
    trained = [row for row in records if row["j"] == 0]
    return max(trained, key=lambda row: row["k"])["value"] if trained else None


def _describe_point(row: Mapping[str, Any], grid: Grid, full: Any) -> dict[str, Any]:
    metric, value = grid.metric, row["value"]
    low, high = row.get("low"), row.get("high")
    both = is_number(value) and is_number(full)
    between = format_range(low, high, metric)
    short = "" if between == NONE else between.replace(" to ", "–")
    best = bool(row["cell"] == grid.best)
    facts = [
        [name_column(metric), format_score(value, metric)],
        ["95 % interval", between],
        ["seeds", format_value(row.get("n_seeds"))],
        ["on validation", format_score(row.get("val"), metric)],
        ["to full fine-tuning", format_gap(value - full, metric) if both else NONE],
    ]
    seeds = f", {format_value(row.get('n_seeds'))} seeds"
    spoken = f"k {int(row['k'])}, j {int(row['j'])}: {format_score(value, metric)}"
    spoken += f", 95 % interval {between}{seeds}" if short else seeds
    return {
        "cell": str(row["cell"]),
        "text": format_score(value, metric),
        "range": short,
        "best": best,
        "label": format_value(row.get("label")),
        "spoken": spoken + (", the best on validation" if best else ""),
        "facts": facts,
    }


# ---- embedded data ------------------------------------------------------------------------------


def _pack(
    content: Content,
    data: PageData,
    grids: Sequence[Mapping[str, Any]],
    tables: Sequence[Table],
    first_rows: int,
) -> dict[str, Any]:
    rest = {t.key: t.rows[first_rows:] for t in tables if len(t.rows) > first_rows}
    return {
        "names": data.names if data.notes else [],  # else each run has its own
        "commands": data.commands if data.notes else [],
        "cells": data.cells,
        "runs": data.runs,
        "shared": data.shared,
        "classes": data.classes,
        "grids": [grid["tips"] for grid in grids],
        "tables": {
            key: [[[cell.pack() for cell in row.cells], row.opens] for row in rows]
            for key, rows in rest.items()
        },
        "scales": {t.key: t.scale for t in tables if t.key in rest},
    }


def make_picture(drawn: Any, path: Path) -> Picture:
    """Return a figure of `tlcnn.report.figures` with the file that it was saved as."""
    kind = {"svg": "image/svg+xml", "png": "image/png"}[path.suffix[1:]]
    source = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    names = ("name", "title", "caption", "alt", "wide", "section")
    return Picture(**{name: getattr(drawn, name) for name in names}, source=source)
