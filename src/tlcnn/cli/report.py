"""`tlcnn report`: a page, a Markdown file and a folder for a paper, from run folders."""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn.cli.compare import LISTS, add_by, parse_by
from tlcnn.errors import ConfigError, DataError, list_names
from tlcnn.text import count, print_text

if TYPE_CHECKING:
    from tlcnn.report.content import Content
    from tlcnn.report.figures.style import ReportFigure

_NO_RUNS = ("no run", "duplicate", "unreadable")  # states of folders that no condition is about
_SVG_LIMIT = 400_000  # bytes; a figure with more marks is embedded as pixels


def add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("report", help="answers, tables and figures as a page to send")
    add = parser.add_argument
    add("folders", nargs="*", default=["outputs"], help="default: outputs")
    add("-o", "--output", default="report", help="a folder; default: report")
    add("--title", help="default: the names of the datasets")
    add("--metric", default="test/balanced_accuracy", help="default: test/balanced_accuracy")
    margin = "absolute differences below this are equivalence, in units of the metric; default: "
    margin += "0.01, and for the layers what the test set resolves"
    add("--margin", type=float, help=margin)
    tuned = "settings such as train.lr of which each cell takes its best on validation"
    add("--tuned", nargs="+", action="extend", default=[], metavar="KEY", help=tuned)
    metavar, text = LISTS["where"]
    add("--where", nargs="+", action="extend", default=[], metavar=metavar, help=text)
    add_by(parser)
    add("--no-figures", action="store_true", help="tables and answers only")
    examples = "show test images as well; the page then contains them"
    add("--examples", action="store_true", help=examples)
    parser.set_defaults(command=_report)


def _report(options: argparse.Namespace) -> None:
    from tlcnn.records.external import read_tests
    from tlcnn.records.measures import read_measures
    from tlcnn.records.read import read_runs
    from tlcnn.report.assemble import make_content
    from tlcnn.report.words import join_words, name_dataset
    from tlcnn.run.job import log_to_stderr
    from tlcnn.study.select import apply_where

    if options.margin is not None and not 0 < options.margin < 1:
        raise ConfigError(f"--margin {options.margin:g} is not allowed: above 0 and below 1")
    found = runs = read_runs(*options.folders)
    if options.where and len(runs):
        is_odd = runs["state"].isin(_NO_RUNS)
        runs = runs[is_odd | runs.index.isin(apply_where(runs[~is_odd], options.where).index)]
    if runs.empty or not (runs["state"] == "done").any():
        what = f"{len(runs)} unfinished runs" if len(runs) else "no runs"
        raise DataError(
            f"there is nothing to report: {what} in {list_names(list(options.folders))}. Train "
            "something first: python -m tlcnn.train experiment=demo"
        )
    log_to_stderr(logging.INFO)
    n_done = count(int((runs["state"] == "done").sum()), "finished run")
    print_text(f"{n_done}: comparing them, then drawing figures", file=sys.stderr)
    names = [name_dataset(str(name)) for name in runs["dataset"].dropna().unique()]
    datasets = join_words(names) if len(names) < 4 else f"{len(names)} datasets"
    title = options.title or f"Transfer learning on {datasets}"
    asked = parse_by(options)
    content = make_content(
        runs,
        metric=options.metric,
        margin=options.margin,
        tuned=options.tuned,
        title=title,
        measures=read_measures(*options.folders),
        tests=read_tests(*options.folders),
        asked=asked,
    )
    if options.where:
        n_others = count(len(found) - len(runs), "run")
        others = f"{n_others} left out by --where {' '.join(options.where)}"
        content = replace(content, left_out=(*content.left_out, others))
    if content.undivided:
        columns = [division.column for division in asked.divisions]
        gap = "there is no such column" if len(columns) == 1 else "not all of these columns are"
        datasets = join_words(list(map(name_dataset, content.undivided)))
        print_text(f"--by {','.join(columns)}: {gap} in {datasets}")
    print_text(write_report(content, Path(options.output), options=options))


def write_report(content: "Content", folder: Path, *, options: argparse.Namespace) -> str:
    """Write everything and return a line on what was written.

    Files are written whole or not at all. Files of other names in the folder stay as they are.
    Raises StorageError.
    """
    from tlcnn.report.figures import draw_figures
    from tlcnn.report.figures.style import save_figure
    from tlcnn.report.markdown import render_report
    from tlcnn.report.page import make_picture, render_page
    from tlcnn.report.page_data import make_page_data
    from tlcnn.report.paper import write_paper
    from tlcnn.storage import make_dir, write_atomic

    make_dir(folder)
    figures: list[ReportFigure] = []
    problems: list[str] = []
    if not options.no_figures:
        figures, problems = draw_figures(content, skip=() if options.examples else ("examples",))
    pictures, n_files = [], 0
    for figure in figures:
        paths = {path.suffix: path for path in save_figure(figure, folder / "paper" / "figures")}
        is_small = paths[".svg"].stat().st_size <= _SVG_LIMIT
        pictures.append(make_picture(figure, paths[".svg" if is_small else ".png"]))
        n_files += len(paths)
    data = make_page_data(content)
    page = render_page(content, data, pictures, problems)
    write_atomic(folder / "index.html", page)
    write_atomic(folder / "report.md", render_report(content, data, figures))
    n_files += len(write_paper(content, data.names, figures, folder / "paper"))
    n_bytes = len(page.encode())
    size = f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.0f} kB"
    lines = [f"figure left out: {problem}" for problem in problems]
    lines.append(
        f"wrote {folder / 'index.html'} ({size}), {folder / 'report.md'}, "
        f"{folder / 'paper'}/ ({n_files} files)"
    )
    return "\n".join(lines)
