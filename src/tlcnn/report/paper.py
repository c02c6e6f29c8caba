"""The folder of a paper: tables in LaTeX and CSV, figures, numbers as macros, a main.tex.

paper/main.tex            includes everything below, and compiles with any LaTeX
paper/numbers.tex         the headline numbers as macros
paper/tables/*.tex, *.csv
paper/figures/*.pdf, *.png
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.report import tables
from tlcnn.report.content import Content, Grid
from tlcnn.report.latex import escape_line, render_float, render_macros
from tlcnn.report.numbers import list_numbers
from tlcnn.report.page_cells import Cell, Column, Row, Table
from tlcnn.report.page_tables import (
    make_cell_table,
    make_comparison_table,
    make_layer_table,
    make_run_table,
)
from tlcnn.report.page_words import (
    NONE,
    format_range,
    format_score,
    name_unit,
)
from tlcnn.report.render import render_csv
from tlcnn.report.words import name_metric
from tlcnn.storage import make_dir, write_atomic

FIGURE_FORMATS = ("pdf", "png", "svg")


def write_paper(
    content: Content, names: Sequence[str], drawn: Sequence[Any], folder: Path
) -> list[Path]:
    """Write the folder and return its files; files of others in it stay as they are.

    Args:
        names: of each run, in the order of `content.runs`.
        drawn: figures whose files are in `folder/figures` already.

    Raises:
        StorageError: the folder cannot be written.
    """
    floats = list(_list_tables(content, names))
    texts = {f"tables/{stem}.tex": text for stem, text in floats}
    texts |= {f"tables/{stem}.csv": _write_frame(frame) for stem, frame in _list_frames(content)}
    texts["numbers.tex"] = render_macros(list_numbers(content))
    texts["main.tex"] = _render_main(content, [stem for stem, _ in floats], drawn)
    make_dir(folder / "tables")
    for name, text in texts.items():
        write_atomic(folder / name, text)
    return [folder / name for name in texts]


# ---- tables -------------------------------------------------------------------------------------


def _list_tables(content: Content, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (file stem, LaTeX) of every table."""
    unit = f", in {name_unit(content.metric)}" if name_unit(content.metric) else ""
    metric = name_metric(content.metric)
    listed = [
        (
            "comparisons",
            make_comparison_table(content),
            f"Differences of test {metric}{unit}, paired by seed and test group where "
            "possible, with 95 % intervals and p values adjusted by Holm within each family.",
        ),
        (
            "cells",
            make_cell_table(content),
            "Means over seeds on the test images, with 95 % intervals. A cell transfers the first "
            "k units of the source and freezes the first j.",
        ),
        ("runs", _narrow(make_run_table(content, names)), "Every training, finished or not."),
    ]
    for number, grid in enumerate(content.grids, start=1):
        listed.append((f"grid-{number}", make_grid_table(grid), _caption_grid(grid)))
    for number, layers in enumerate(content.layers, start=1):
        caption = (
            f"General and specific units of {layers.model} on {layers.dataset}, from "
            f"{layers.source}, after Yosinski et al. (2014){unit}, with 95 % intervals."
        )
        listed.append((f"layers-{number}", make_layer_table(layers, str(number)), caption))
    for stem, table, caption in listed:
        if table.rows:
            yield stem, render_float(table, caption=caption, label=f"tab:{stem}")


_TOLD_BY_NAME = {"dataset", "model", "init", "k", "j", "bn", "seed"}


def _narrow(table: Table) -> Table:
    """Leave out what the name of a run tells, and what no page has room for."""
    kept = [
        at
        for at, column in enumerate(table.columns)
        if not column.aside and column.name not in _TOLD_BY_NAME
    ]
    rows = tuple(Row(tuple(row.cells[at] for at in kept)) for row in table.rows)
    return replace(table, columns=tuple(table.columns[at] for at in kept), rows=rows)


def make_grid_table(grid: Grid) -> Table:
    """Return a grid as a table: rows are transferred units k, columns frozen units j."""
    records = grid.table.to_dict("records")
    places = {(int(row["k"]), int(row["j"])): row for row in records}
    names = ["none", *grid.units]
    js = sorted({j for _, j in places})
    columns = (Column("k"), *(Column(f"j = {j} ({names[j]})", "number") for j in js))
    rows = tuple(
        Row(
            (
                Cell(f"{k} ({names[k] if k else 'random'})"),
                *(_make_point(places.get((k, j)), grid) for j in js),
            )
        )
        for k in sorted({k for k, _ in places}, reverse=True)
    )
    return Table("grid", "Grid", columns, rows)


def _make_point(row: Mapping[Any, Any] | None, grid: Grid) -> Cell:
    if row is None:
        return Cell("")
    between = format_range(row["low"], row["high"], grid.metric)
    mark = "*" if row["cell"] == grid.best else ""
    value = format_score(row["value"], grid.metric) + mark
    return Cell(value if between == NONE else f"{value} ({between})")


def _caption_grid(grid: Grid) -> str:
    recipe = f" ({grid.recipe})" if grid.recipe else ""
    return (
        f"Test {name_metric(grid.metric)} of {grid.model} on {grid.dataset}, units from "
        f"{grid.init}{recipe}: k units transferred, j frozen, with 95 % intervals. *: the best "
        "on validation."
    )


def _list_frames(content: Content) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (file stem, frame) of every table, in full precision."""
    yield "comparisons", content.comparisons
    yield "cells", content.cells
    yield "runs", content.runs.drop(columns=["settings"], errors="ignore")
    for number, grid in enumerate(content.grids, start=1):
        yield f"grid-{number}", grid.table
    for number, layers in enumerate(content.layers, start=1):
        yield f"layers-{number}", layers.scores
        yield f"layers-{number}-curves", layers.curves


def _leave_out_places(frame: pd.DataFrame) -> pd.DataFrame:
    """Return it with the names of run folders alone: where they lie is nobody else's business."""
    kept = frame.drop(columns="folders", errors="ignore")
    if "folder" not in kept:
        return kept
    paths = [Path(str(folder)) for folder in kept["folder"]]
    kept = kept.assign(folder=[path.name for path in paths])
    parents = sorted({f"{path.parent}/" for path in paths}, key=len, reverse=True)
    if "problem" in kept and parents:  # “a copy of FOLDER”
        found = re.compile("|".join(map(re.escape, parents)))
        words = [found.sub("", w) if isinstance(w, str) else w for w in kept["problem"]]
        kept = kept.assign(problem=words)
    return kept


def _write_frame(frame: pd.DataFrame) -> str:
    frame = _leave_out_places(frame)
    plain = frame.map(lambda v: " ".join(map(str, v)) if isinstance(v, (list, tuple)) else v)
    return render_csv(tables.Table(plain))


# ---- main.tex -----------------------------------------------------------------------------------

_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[a4paper,margin=2.2cm]{geometry}
\usepackage[T1]{fontenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage{textcomp}
\usepackage{graphicx}
\usepackage{booktabs}
\usepackage{longtable}
\usepackage[hidelinks]{hyperref}
\input{numbers.tex}
\setlength{\emergencystretch}{3em}
"""


def _render_main(content: Content, stems: Sequence[str], drawn: Sequence[Any]) -> str:
    parts = [
        "% Written by tlcnn report; it is written anew every time. Copy what you want to change.",
        _PREAMBLE,
        f"\\title{{{escape_line(content.title)}}}\n\\author{{}}\n"
        f"\\date{{{escape_line(content.created)}}}\n\\begin{{document}}\n\\maketitle",
        "\\section*{Answers}",
        *(_render_finding(finding) for finding in content.findings),
        "\\section*{Tables}",
        *(f"\\input{{tables/{stem}.tex}}" for stem in stems),
        "\\clearpage\n\\section*{Figures}" if drawn else "",
        *(_render_figure(figure) for figure in drawn),
        "\\clearpage\n\\section*{What the numbers take for granted}",
        _render_list(content.assumptions),
        "\\end{document}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _render_finding(finding: Any) -> str:
    question, verdict, answer = map(
        escape_line, (finding.question, finding.verdict, finding.answer)
    )
    return f"\\paragraph{{{question}}} \\textbf{{{verdict}.}} {answer}"


def _render_figure(figure: Any) -> str:
    width = "\\linewidth" if figure.wide else "0.55\\linewidth"
    caption = f"\\textbf{{{escape_line(figure.title)}.}} {escape_line(figure.caption)}"
    return (
        f"\\begin{{figure}}[htbp]\n\\centering\n"
        f"\\includegraphics[width={width},height=0.78\\textheight,keepaspectratio]"
        f"{{figures/{figure.name}.pdf}}\n\\caption{{{caption}}}"
        f"\\label{{fig:{figure.name}}}\n\\end{{figure}}\n\\clearpage"
    )


def _render_list(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "\n".join(f"\\item {escape_line(line)}" for line in lines)
    return f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}"
