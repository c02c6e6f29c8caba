"""The folder of a paper: tables in LaTeX and CSV, figures, numbers as macros, a main.tex.

paper/main.tex            includes everything below, and compiles with any LaTeX
paper/numbers.tex         the headline numbers as macros
paper/tables/*.tex, *.csv
paper/figures/*.pdf, *.png, *.svg
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tlcnn.report.captions import (
    RUNS,
    describe_calibration,
    describe_cells,
    describe_comparisons,
    describe_detectable,
    describe_layers,
)
from tlcnn.report.comparison_tables import (
    make_comparison_table,
    make_detectable_table,
)
from tlcnn.report.content import Content
from tlcnn.report.content_tables import (
    make_calibration_table,
    make_cell_table,
    make_grid_table,
    make_layer_table,
    make_run_table,
)
from tlcnn.report.external_tables import CAPTION as EXTERNAL
from tlcnn.report.external_tables import (
    COMPARISONS,
    make_external_comparison_table,
    make_external_table,
)
from tlcnn.report.glossary import write_lead
from tlcnn.report.grid import describe_transfer
from tlcnn.report.headline import list_numbers
from tlcnn.report.held_out import CAPTION as HELD_OUT
from tlcnn.report.held_out import make_held_out_table
from tlcnn.report.layer_measure_tables import (
    AGREEMENT,
    EXPLAINED,
    make_cost_agreement_table,
    make_reading_table,
)
from tlcnn.report.methods import make_methods
from tlcnn.report.numbers import name_column, name_unit
from tlcnn.report.references import REFERENCES
from tlcnn.report.searches import CAPTION as SEARCHES
from tlcnn.report.searches import make_search_table
from tlcnn.report.subgroups import describe_subgroups, make_subgroup_table
from tlcnn.report.table import Table
from tlcnn.report.writers.csv import write_csv
from tlcnn.report.writers.latex import COLUMNS, escape_latex, write_float, write_macros
from tlcnn.storage import make_dir, write_atomic

if TYPE_CHECKING:
    from tlcnn.report.figures.style import ReportFigure


def write_paper(
    content: Content, names: Sequence[str], figures: "Sequence[ReportFigure]", folder: Path
) -> list[Path]:
    """Write the folder and return its files; other files in it stay as they are.

    Args:
        names: the name of each run, in the order of `content.runs`.
        figures: figures whose files are in `folder/figures` already.

    Raises:
        StorageError: the folder cannot be written.
    """
    floats = {
        stem: write_float(table, caption=caption, label=f"tab:{stem}")
        for stem, table, caption in _list_tables(content, names)
        if table.rows
    }
    texts = {f"tables/{stem}.tex": text for stem, text in floats.items()}
    texts |= {f"tables/{stem}.csv": _write_frame(frame) for stem, frame in _list_frames(content)}
    texts["numbers.tex"] = write_macros(list_numbers(content))
    texts["main.tex"] = _write_main(content, list(floats), figures)
    make_dir(folder / "tables")
    for name, text in texts.items():
        write_atomic(folder / name, text)
    return [folder / name for name in texts]


# ---- tables -------------------------------------------------------------------------------------


# What a printed table has no room for, or says otherwise.
_NOT_PRINTED = {"dataset", "init", "source", "bn", "imported", "missing", "id", "training, s"}
_NOT_PRINTED |= {"images/s"}


def _list_tables(content: Content, names: Sequence[str]) -> Iterator[tuple[str, Table, str]]:
    """Yield the file stem, the table and the caption of every table."""
    unit = f", in {name_unit(content.metric)}" if name_unit(content.metric) else ""
    yield (
        "comparisons",
        _select_printed(make_comparison_table(content)),
        describe_comparisons(content),
    )
    detectable = _select_printed(make_detectable_table(content))
    yield "detectable", detectable, describe_detectable(content)
    yield "cells", _select_printed(make_cell_table(content)), describe_cells(content)
    yield "external", _select_printed(make_external_table(content)), EXTERNAL
    compared = _select_printed(make_external_comparison_table(content))
    yield "external-comparisons", compared, COMPARISONS
    subgroups = make_subgroup_table(content)
    named = {column.name for column in subgroups.columns} & {"cell", "model", "recipe"}
    subgroups = _select_printed(subgroups, "images", "column", *named)  # they stand below a name
    yield "subgroups", subgroups, describe_subgroups(content)
    yield "held-out", make_held_out_table(content), HELD_OUT
    yield "searches", make_search_table(content), SEARCHES
    yield "calibration", make_calibration_table(content), describe_calibration(content)
    runs = _select_printed(make_run_table(content, names), "k", "j", "seed")  # the name has them
    yield "runs", runs, f"Every run, finished or not. {RUNS}"
    for number, grid in enumerate(content.grids, start=1):
        caption = (
            f"Test {name_column(grid.metric)}, of {describe_transfer(grid)}: k units transferred, "
            "j frozen, with 95 % intervals. Bold: the best on validation."
        )
        yield f"grid-{number}", make_grid_table(grid), caption
    for number, layers in enumerate(content.layers, start=1):
        caption = (
            f"General and specific units of {describe_transfer(layers)}{unit}, with 95 % "
            f"intervals. {describe_layers(content)} {layers.margin_note}"
        )
        yield f"layers-{number}", _select_printed(make_layer_table(layers, str(number))), caption
    for number, part in enumerate(content.measures, start=1):
        subject = describe_transfer(part)
        caption = f"Measures of the networks beside the costs, of {subject}. {AGREEMENT}"
        yield f"measures-{number}-agreement", make_cost_agreement_table(part), caption
        caption = f"Readings of the measures, of {subject}; networks of the cell {part.cell}."
        readings = make_reading_table(part, shown=True)
        yield f"measures-{number}", _select_printed(readings, "n", "seeds"), caption


def _select_printed(table: Table, *hidden: str) -> Table:
    """Return a table without what is not printed; what every row says is a note below it."""
    left_out = _NOT_PRINTED.union(hidden)
    shown = [i for i, column in enumerate(table.columns) if column.name not in left_out]
    everywhere = tuple(pair for pair in table.everywhere if pair[0] not in left_out)
    table = replace(table.select(shown), everywhere=everywhere)
    return replace(table, notes=(*filter(None, [table.describe_everywhere()]), *table.notes))


def _list_frames(content: Content) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the file stem and the frame of every table, in full precision."""
    yield "comparisons", content.comparisons
    yield "detectable", content.detectable
    yield "cells", content.cells
    yield "calibration", content.calibration
    if content.external is not None:
        yield "external", content.external.cells
        yield "external-comparisons", content.external.comparisons
    yield "runs", content.runs.drop(columns=["settings", "searched"], errors="ignore")
    if len(content.subgroups):
        yield "subgroups", content.subgroups
    if len(content.held_out):
        yield "held-out", content.held_out
    for number, grid in enumerate(content.grids, start=1):
        yield f"grid-{number}", grid.table
    for number, layers in enumerate(content.layers, start=1):
        yield f"layers-{number}", layers.scores
        yield f"layers-{number}-curves", layers.curves
    for number, part in enumerate(content.measures, start=1):
        yield f"measures-{number}", part.readings.drop(columns="digits")
        yield f"measures-{number}-agreement", part.agreement


def _write_frame(frame: pd.DataFrame) -> str:
    """Return a frame as CSV, with the names of run folders and not where they lie."""
    frame = frame.drop(columns="folders", errors="ignore")
    if "folder" in frame:
        paths = [Path(str(folder)) for folder in frame["folder"]]
        frame = frame.assign(folder=[path.name for path in paths])
        parents = sorted({f"{path.parent}/" for path in paths}, key=len, reverse=True)
        if "problem" in frame and parents:  # “a copy of FOLDER”
            pattern = re.compile("|".join(map(re.escape, parents)))
            problems = [pattern.sub("", p) if isinstance(p, str) else p for p in frame["problem"]]
            frame = frame.assign(problem=problems)
    return write_csv(
        frame.map(lambda v: " ".join(map(str, v)) if isinstance(v, (list, tuple)) else v)
    )


# ---- main.tex -----------------------------------------------------------------------------------

_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[a4paper,margin=2.2cm]{geometry}
\usepackage[T1]{fontenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage{textcomp}
\usepackage{graphicx}
\usepackage{booktabs}
\usepackage[hidelinks]{hyperref}
\input{numbers.tex}
\setlength{\emergencystretch}{3em}
\setlength{\belowcaptionskip}{4pt}
\renewcommand{\topfraction}{0.9}
\renewcommand{\textfraction}{0.05}
\renewcommand{\floatpagefraction}{0.75}
"""


def _write_main(content: Content, stems: Sequence[str], figures: "Sequence[ReportFigure]") -> str:
    answers = [
        _write_paragraph(finding.question, finding.answer, verdict=f"{finding.verdict}.")
        for finding in content.findings
        if finding.is_measured
    ]
    measures = [
        paragraph
        for part in content.measures
        for paragraph in [
            _write_paragraph(f"{describe_transfer(part)}.", part.summary),
            *(_write_paragraph(f"{name}.", text) for name, text in part.sentences),
        ]
    ]
    paragraphs = dict(make_methods(content))
    references = paragraphs.pop(REFERENCES, ())
    methods = [_write_paragraph(f"{name}.", " ".join(lines)) for name, lines in paragraphs.items()]
    parts = [
        "% Written by `tlcnn report`, which replaces this file. Copy it before you change it.",
        _PREAMBLE + COLUMNS,
        f"\\title{{{escape_latex(content.title)}}}\n\\author{{}}\n"
        f"\\date{{{escape_latex(content.created)}}}\n\\begin{{document}}\n\\maketitle",
        escape_latex(write_lead(content)),
        *(["\\section*{Answers}", *answers] if answers else []),
        *(["\\section*{Measures of the networks}", escape_latex(EXPLAINED)] if measures else []),
        *measures,
        "\\section*{Methods}",
        *methods,
        "\\section*{Tables}",
        *(f"\\input{{tables/{stem}.tex}}" for stem in stems if stem != "runs"),
        "\\clearpage\n\\section*{Figures}" if figures else "",
        *map(_write_figure, figures),
        "\\clearpage\n\\section*{Every run}\n\n\\input{tables/runs.tex}"
        if "runs" in stems
        else "",
        _write_references(references),
        "\\end{document}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _write_paragraph(heading: str, text: str, *, verdict: str = "") -> str:
    bold = f" \\textbf{{{escape_latex(verdict)}}}" if verdict else ""
    return f"\\paragraph{{{escape_latex(heading)}}}{bold} {escape_latex(text)}"


def _write_references(references: Sequence[str]) -> str:
    """Return the list of works; empty without any."""
    if not references:
        return ""
    items = "\n".join(f"\\item {escape_latex(work)}" for work in references)
    start = "\\section*{References}\n\\begin{itemize}\\small\\setlength{\\itemsep}{0pt}"
    return f"{start}\n{items}\n\\end{{itemize}}"


def _write_figure(figure: "ReportFigure") -> str:
    width = "\\linewidth" if figure.wide else "0.55\\linewidth"
    caption = f"\\textbf{{{escape_latex(figure.title)}.}} {escape_latex(figure.caption)}"
    return (
        f"\\begin{{figure}}[htbp]\n\\centering\n"
        f"\\includegraphics[width={width},height=0.7\\textheight,keepaspectratio]"
        f"{{figures/{figure.name}.pdf}}\n\\caption{{{caption}}}"
        f"\\label{{fig:{figure.name}}}\n\\end{{figure}}"
    )
