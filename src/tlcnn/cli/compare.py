"""`tlcnn compare`: runs as tables, in the terminal, CSV, Markdown, LaTeX and HTML."""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn.errors import ConfigError, DataError, did_you_mean, list_names
from tlcnn.storage import writing
from tlcnn.text import print_text

if TYPE_CHECKING:
    import pandas as pd

    from tlcnn.report.subgroups import Asked
    from tlcnn.report.table import Table

FORMATS = {"csv": "CSV", "markdown": "Markdown", "latex": "LaTeX", "html": "HTML"}
WIDTH = 100  # columns of a text that goes to a file
# Options of several words: what a word is called, and the help.
LISTS = {
    "where": ("COL=VALUE", "only these runs: init=imagenet,random 'train.lr>=0.001' seed!=0"),
    "group": ("COL", "one row for each combination of these columns"),
    "rows": ("COL", "columns whose values become rows"),
    "columns": ("COL", "columns whose values become columns"),
    "sort": ("COL", "sort the rows; for a metric, the best first"),
    "metrics": ("METRIC", "the metrics to show, e.g. test/accuracy"),
    "tuned": ("KEY", "settings such as train.lr of which each cell takes its best on validation"),
    "baseline": (
        "COL=VALUE",
        "the cell that the others of its dataset and model are compared with",
    ),
}


def add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare", help="tables of runs, or of means over seeds with intervals"
    )
    add = parser.add_argument
    add("folders", nargs="*", default=["outputs"], help="default: outputs")
    by_seed = "one row for each setting: mean over seeds and interval"
    add("--seeds", action="store_true", help=by_seed)
    add("--grid", action="store_true", help="the grid of every source: k as rows, j as columns")
    for name, (metavar, text) in LISTS.items():
        add(f"--{name}", nargs="+", action="extend", default=[], metavar=metavar, help=text)
    external = "scores on other datasets, as tlcnn test has recorded them: means over seeds"
    add("--external", action="store_true", help=external)
    covers = "full: new seeds and test groups (default); seeds: new seeds only; none: mean and sd"
    add("--interval", help=covers)
    add_by(parser)
    margin = "differences below this count as equivalent; default: 0.01"
    add("--margin", type=float, default=0.01, help=margin)
    add_formats(parser)
    parser.set_defaults(command=_compare)


def add_by(parser: argparse.ArgumentParser) -> None:
    """Add the options of subgroups."""
    by = "scores by subgroup of the test images, and their difference to the rest: sex,age:40,60"
    parser.add_argument("--by", nargs="+", action="extend", default=[], metavar="COL", help=by)
    text = "a table with the column image_id and those of --by; default: the dataset is read again"
    parser.add_argument("--metadata", metavar="FILE", help=text)


def parse_by(options: argparse.Namespace) -> "Asked":
    """Return the subgroups that were asked for. Raises ConfigError."""
    from tlcnn.report.subgroups import Asked
    from tlcnn.study.divisions import parse_divisions

    if options.metadata and not options.by:
        raise ConfigError("--metadata FILE is read by --by: add the columns, as in --by sex,age")
    file = Path(options.metadata) if options.metadata else None
    return Asked(parse_divisions(options.by), file)


def add_formats(parser: argparse.ArgumentParser) -> None:
    """Add the options of the formats that `show_table` writes."""
    for name, text in FORMATS.items():
        to_file = f"write {text}, to a file or the terminal"
        parser.add_argument(f"--{name}", nargs="?", const="-", metavar="FILE", help=to_file)


def _compare(options: argparse.Namespace) -> None:
    from tlcnn.records.left_out import describe_left_out
    from tlcnn.records.read import read_runs
    from tlcnn.study.select import apply_where

    _check_options(options)
    runs = read_runs(*options.folders)
    if runs.empty:
        print_text(f"no runs in {list_names(options.folders)} yet")
        return
    is_odd = runs["state"].isin(("no run", "duplicate", "unreadable"))
    chosen = apply_where(runs[~runs["state"].isin(("no run", "duplicate"))], options.where)
    make_table = _make_external_table if options.external else _make_table
    show_table(make_table(chosen, options), options)
    for line in describe_left_out(runs[is_odd | runs.index.isin(chosen.index)]):
        print_text(line, file=sys.stderr)


def _check_options(options: argparse.Namespace) -> None:
    intervals = ("full", "seeds", "none")
    if options.interval is not None and options.interval not in intervals:
        hint = did_you_mean(options.interval, intervals)
        raise ConfigError(f"--interval {options.interval}: one of {', '.join(intervals)}.{hint}")
    if options.grid and (options.rows or options.columns):
        raise ConfigError("--grid is --rows k --columns j: give one or the other")
    of_own_tests = ("seeds", "grid", "group", "rows", "columns", "interval", "baseline", "tuned")
    if options.external and (given := [n for n in of_own_tests if getattr(options, n)]):
        raise ConfigError(f"--external and --{given[0]}: one or the other")
    if options.tuned and options.group:
        raise ConfigError(
            "--tuned chooses among cells and --group averages them: one or the other"
        )
    if bool(options.rows) != bool(options.columns):
        raise ConfigError("--rows and --columns go together, e.g. --rows k --columns j")
    others = ("grid", "rows", "columns", "group", "sort", "baseline", "interval", "tuned")
    if options.by and any(getattr(options, name) for name in others):
        raise ConfigError(
            f"--by goes with --where, --metrics and --margin, not with --{', --'.join(others)}"
        )
    if options.by and len(options.metrics) > 1:
        raise ConfigError("--by shows one metric: give one with --metrics")
    if not 0 < options.margin < 1:
        raise ConfigError(
            f"--margin {options.margin:g}: above 0 and below 1, e.g. 0.01 for one point"
        )


def _make_table(runs: "pd.DataFrame", options: argparse.Namespace) -> "Table":
    from tlcnn.report.cell_table import make_cell_table
    from tlcnn.report.grid import pivot_table
    from tlcnn.report.tables import DEFAULT_METRICS, make_run_table, sort_table

    asked = parse_by(options)
    if asked.divisions:
        return _make_subgroup_table(runs, asked, options)
    is_pivot = options.grid or options.rows
    by_cell = options.seeds or options.group or options.interval or options.baseline or is_pivot
    by_cell = by_cell or options.tuned
    default = ["test/balanced_accuracy"] if options.baseline or is_pivot else DEFAULT_METRICS
    metrics = options.metrics or list(default)
    if options.metrics:
        _check_metrics(metrics, [c for c in runs.columns if "/" in c])
    if not by_cell:
        table = make_run_table(runs, metrics)
    else:
        table = make_cell_table(
            runs,
            metrics,
            group=options.group,
            only_grids=options.grid,
            interval=options.interval or "full",
            baseline=options.baseline,
            margin=options.margin,
            tuned=options.tuned,
            has_means=not is_pivot,
        )
    if is_pivot:
        rows, columns = (["k"], ["j"]) if options.grid else (options.rows, options.columns)
        return pivot_table(table, rows, columns, across_random=options.grid)
    return sort_table(table, options.sort) if options.sort else table


def _make_external_table(runs: "pd.DataFrame", options: argparse.Namespace) -> "Table":
    from tlcnn.records.external import read_tests
    from tlcnn.report.external import METRICS, make_external_frame, make_score_table
    from tlcnn.report.tables import sort_table
    from tlcnn.study.cells import make_cells
    from tlcnn.study.external import list_external_cells
    from tlcnn.study.runs import make_runs

    tests = read_tests(*options.folders)
    metrics = options.metrics or list(METRICS)
    if options.metrics and len(tests):
        _check_metrics(metrics, [c for c in tests.columns if "/" in c])
    external = list_external_cells(tests, make_cells(make_runs(runs)), metrics)
    if not external:
        raise DataError(
            "no run here was tested on another dataset: tlcnn test "
            f"{options.folders[0]} dataset=NAME does that"
        )
    table = make_score_table(make_external_frame(external, metrics), metrics)
    return sort_table(table, options.sort) if options.sort else table


def _make_subgroup_table(
    runs: "pd.DataFrame", asked: "Asked", options: argparse.Namespace
) -> "Table":
    from tlcnn.report.subgroups import make_compared_table
    from tlcnn.study.cells import make_cells
    from tlcnn.study.runs import make_runs

    metric = next(iter(options.metrics), "test/balanced_accuracy")
    _check_metrics([metric], [c for c in runs.columns if "/" in c])
    return make_compared_table(make_cells(make_runs(runs)), asked, metric, options.margin)


def _check_metrics(metrics: list[str], known: list[str]) -> None:
    from tlcnn.records.settings import find_near

    for metric in metrics:
        if known and metric not in known:
            raise ConfigError(
                f"no run has the metric {metric}.{did_you_mean(metric, known)}\n"
                f"Measured, among others: {', '.join(find_near(metric, known))}"
            )


def show_table(
    table: "Table", options: argparse.Namespace, shorten: Callable[[int], str] | None = None
) -> bool:
    """Write a table in the formats that were asked for, or to the terminal.

    Returns whether the short text was printed.

    Args:
        shorten: a text for so many columns, which is printed where the table is wider than the
            terminal, or than `WIDTH` without one. None: the table is printed as it is.
    """
    from tlcnn.report.writers.csv import write_csv
    from tlcnn.report.writers.html import write_html
    from tlcnn.report.writers.latex import write_latex
    from tlcnn.report.writers.markdown import write_markdown
    from tlcnn.report.writers.text import write_text

    writers: dict[str, Callable[[], str]] = {
        "csv": lambda: write_csv(table.frame),
        "markdown": lambda: write_markdown(table),
        "latex": lambda: write_latex(table),
        "html": lambda: write_html(table),
    }
    paths = {name: path for name in writers if (path := getattr(options, name))}
    for name, path in paths.items():
        if path == "-":
            print_text(writers[name]().removesuffix("\n"))
        else:
            with writing(Path(path)):
                Path(path).write_text(writers[name](), encoding="utf-8")
            print_text(f"wrote {path}")
    if "-" not in paths.values():
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        text, most = write_text(table, width), width or WIDTH
        is_wide = max(map(len, text.partition("\n\n")[0].split("\n"))) > most  # notes follow
        print_text(shorten(most) if shorten and is_wide else text)
        return shorten is not None and is_wide
    return False
