"""`tlcnn analyse`: measures of what is inside the networks of finished runs."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn.cli.compare import FORMATS, LISTS, add_formats, show_table
from tlcnn.config.schema import check_word
from tlcnn.errors import (
    ConfigError,
    DataError,
    Stopped,
    SweepFailed,
    TlcnnError,
    WeightsError,
    list_names,
)
from tlcnn.text import count, print_text

if TYPE_CHECKING:
    from tlcnn.layers.roles import Analysis
    from tlcnn.run.job import Outcome
    from tlcnn.study.runs import Run


def add_analyse(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "analyse", help="measure what the units of finished runs hold, and how they have changed"
    )
    add = parser.add_argument
    runs = "runs, by folder or id, or output folders, of which runs with transferred units "
    runs += "(k > 0) are analysed; default: outputs"
    add("runs", nargs="*", default=["outputs"], help=runs)
    against = "what a run is compared with: self (a run from random weights with its images and "
    against += "recipe; the default), random (untrained networks only), or a run"
    add("--against", default="self", metavar="self|random|RUN", help=against)
    add_analysis_options(parser)
    metavar, text = LISTS["where"]
    add("--where", nargs="+", action="extend", default=[], metavar=metavar, help=text)
    add("--with-random", action="store_true", help="also runs from random weights (k = 0)")
    add_formats(parser)
    parser.set_defaults(command=_analyse)


def add_analysis_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which measures are computed, on what."""
    add = parser.add_argument
    add("--images", type=int, default=2500, help="the most training images; default: 2500")
    add("--measures", metavar="A,B", help="default: all but the slow ones")
    add("--device", default="auto", help="auto (default), cpu, cuda or mps")
    add("--workers", type=int, default=1, help="processes of this machine; default: 1")


def _analyse(options: argparse.Namespace) -> None:
    from tlcnn.layers.analyse import analyse
    from tlcnn.records.measures import read_analyses
    from tlcnn.report.analysis_table import make_analysis_table, write_analysis_summary
    from tlcnn.run.job import log_to_stderr

    measures = choose_measures(options)
    log_to_stderr(logging.WARNING)
    runs = _choose_runs(options)
    analyses, errors = _make_analyses(runs, measures, options)
    waiting = [analysis for analysis in analyses if not analysis.is_done]
    n_done = len(analyses) - len(waiting)
    if len(analyses) > 1:
        text = f"{count(len(runs), 'run')}: {n_done} done, {len(waiting)} to analyse"
        print_text(text, file=sys.stderr)
    outcomes = analyse(waiting, device=options.device, workers=options.workers) if waiting else []
    readings = read_analyses([analysis.folder for analysis in analyses])
    readings = readings[readings["measure"].isin(measures)]
    if not readings.empty:
        names = {analysis.folder.name: analysis.run_dir.name for analysis in analyses}
        shorten = partial(write_analysis_summary, readings, names)
        is_short = show_table(make_analysis_table(readings), options, shorten)
        to_stdout = "-" not in [getattr(options, name) for name in FORMATS]
        text = "all readings:"
        if is_short:
            way = "" if options.csv else " (--csv FILE writes them as a table)"
            text = f"every unit, with intervals{way}:"
        print_text(
            f"{text}\n{_list_folders(analyses)}", file=sys.stdout if to_stdout else sys.stderr
        )
    check_outcomes(outcomes, errors, n_runs=len(runs))


def _list_folders(analyses: "Sequence[Analysis]") -> str:
    """Return the folder of one analysis, or those that hold several."""
    if len(analyses) == 1:
        return str(analyses[0].folder)
    return ", ".join(sorted({str(analysis.folder.parent.parent) for analysis in analyses}))


def check_outcomes(
    outcomes: "Sequence[Outcome]", errors: Sequence[TlcnnError], *, n_runs: int
) -> None:
    """Raise an error unless all analyses were computed.

    Args:
        outcomes: how the analyses ended.
        errors: of the runs that have no analysis.
        n_runs: the number of runs that were to be analysed.

    Raises:
        Stopped: a signal ended an analysis.
        SweepFailed: an analysis failed, or there are errors.
    """
    if any(outcome.was_stopped for outcome in outcomes):
        raise Stopped("the analysis was stopped; repeat the command to continue")
    codes = [error.exit_code for error in errors] + [o.code for o in outcomes if o.code]
    if codes:
        raise SweepFailed(
            f"{len(codes)} of {count(n_runs, 'run')} could not be analysed. The same command "
            "tries them again and skips what is done.",
            set(codes),
        )


def choose_measures(options: argparse.Namespace) -> dict[str, int]:
    """Return the measures that are asked for, with their versions."""
    from tlcnn.layers import DEFAULT, MEASURES

    if options.workers < 1:
        raise ConfigError(f"--workers {options.workers} is not allowed: at least 1")
    if options.images < 2:
        raise ConfigError(f"--images {options.images} is not allowed: at least 2")
    names = options.measures.split(",") if options.measures else DEFAULT
    for name in names:
        check_word("--measures", name, tuple(MEASURES))
    return {name: MEASURES[name] for name in names}


def _find_place(name: str) -> Path:
    """Return a folder, or the folder of the run with this id. Raises ConfigError."""
    from tlcnn.plan.ancestry import find_run_dir

    if Path(name).is_dir():
        return Path(name)
    try:
        return find_run_dir(name, Path("outputs"))
    except WeightsError as error:
        raise ConfigError(f"{name} is no folder, and as a run: {error}") from error


def _choose_runs(options: argparse.Namespace) -> "Sequence[Run]":
    """Return the finished runs that are asked for and can be analysed; print why others cannot."""
    from tlcnn.records.read import read_runs
    from tlcnn.study.runs import drop_trials, make_single_runs
    from tlcnn.study.select import apply_where

    paths = [_find_place(name) for name in options.runs]
    frame = read_runs(*paths)
    if frame.empty:
        raise DataError(
            f"there are no runs in {list_names(options.runs)}. Name an output folder (with runs/ "
            "in it), a run folder, or the id of a run in outputs."
        )
    frame = apply_where(frame, options.where)
    explicit = {os.path.realpath(path) for path in paths}
    runs, n_unfinished = [], int((frame["state"] != "done").sum())
    if "is_trial" in frame:
        is_explicit = frame["folder"].map(os.path.realpath).isin(explicit)
        frame = drop_trials(frame.assign(is_trial=frame["is_trial"].astype(bool) & ~is_explicit))
    for run in make_single_runs(frame):
        if run.k == 0 and not options.with_random and os.path.realpath(run.folder) not in explicit:
            continue
        if run.is_imported:
            reason = "its predictions were imported, and there is no network to look into"
            print_text(f"left out: {Path(run.folder).name}: {reason}", file=sys.stderr)
        else:
            runs.append(run)
    if not runs:
        raise DataError(
            f"there is no finished run with transferred units (k > 0) to analyse in "
            f"{list_names(options.runs)} ({count(n_unfinished, 'run')} not finished). "
            "--with-random also takes runs from random weights."
        )
    return runs


def _make_analyses(
    runs: "Sequence[Run]", measures: dict[str, int], options: argparse.Namespace
) -> "tuple[list[Analysis], list[TlcnnError]]":
    """Return the analyses of runs, and the errors of those that have none."""
    from tlcnn.layers.roles import Candidates, find_bases, make_analysis

    analyses: list[Analysis] = []
    errors: list[TlcnnError] = []
    candidates = Candidates()
    for run in runs:
        try:
            bases = find_bases(run, options.against, candidates)
            analyses.append(make_analysis(run, bases, measures, n_images=options.images))
        except TlcnnError as error:
            if len(runs) == 1:
                raise
            print_text(f"failed: {Path(run.folder).name}: {error}", file=sys.stderr)
            errors.append(error)
    return analyses, errors
