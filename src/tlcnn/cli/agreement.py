"""`tlcnn agreement`: which measure finds the shared depth of a planted study."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn.cli.analyse import add_analysis_options, check_outcomes, choose_measures
from tlcnn.cli.compare import add_formats, show_table
from tlcnn.errors import ConfigError
from tlcnn.text import print_text

if TYPE_CHECKING:
    from tlcnn.study.agreement import Score
    from tlcnn.study.depth_rules import Curves
    from tlcnn.study.planted import Family


def add_agreement(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "agreement", help="which measure finds the depth that planted networks share"
    )
    add = parser.add_argument
    add("folder", nargs="?", default="outputs", help="of experiment=planted; default: outputs")
    margin = "points of balanced accuracy below which units count as shared; default: 2"
    add("--margin", type=float, default=2.0, help=margin)
    add("--oracle", action="store_true", help="show S* and n* of each family instead")
    all_rules = "show every rule that reads a depth from a measure, and not only the best rule"
    add("--all-rules", action="store_true", help=all_rules)
    add("-o", "--output", metavar="DIR", help="write all tables as CSV, and figures")
    add("--analyse", action="store_true", help="first compute the measures of every family")
    add_analysis_options(parser)
    add_formats(parser)
    parser.set_defaults(command=_agreement)


def _agreement(options: argparse.Namespace) -> None:
    from tlcnn.records.measures import read_measures
    from tlcnn.records.read import read_runs
    from tlcnn.report.measure_words import MEASURES
    from tlcnn.report.planted_tables import make_agreement_table, make_oracle_table
    from tlcnn.study.agreement import COST, NUMBER, collect_curves, score_measures
    from tlcnn.study.planted import make_families
    from tlcnn.study.runs import make_runs

    if not 0 < options.margin < 100:
        raise ConfigError(f"--margin {options.margin:g}: points, above 0 and below 100, e.g. 2")
    families = make_families(make_runs(read_runs(options.folder)))
    if options.analyse:
        _analyse_families(families, options)
    curves = collect_curves(families, read_measures(options.folder))
    sides = {name: measure.side for name, measure in MEASURES.items()}
    scores = list(score_measures(families, curves, sides, options.margin))
    if not any(score.measure not in (COST[0], NUMBER[0]) for score in scores):
        text = "no run of these families was analysed: --analyse computes their measures"
        print_text(text, file=sys.stderr)
    if options.oracle:
        show_table(make_oracle_table(families, options.margin), options)
    else:
        table = make_agreement_table(scores, families, options.margin, all_rules=options.all_rules)
        show_table(table, options)
    if options.output:
        _write_files(families, curves, scores, options)


def _analyse_families(families: "list[Family]", options: argparse.Namespace) -> None:
    """Compute the measures of every family's runs that do not have them."""
    from tlcnn.layers.analyse import analyse
    from tlcnn.layers.roles import make_analysis

    measures = choose_measures(options)
    analyses = [
        make_analysis(
            trio.run,
            [trio.own, *([trio.twin] if trio.twin else [])],
            measures,
            n_images=options.images,
        )
        for family in families
        for trio in family.trios
    ]
    waiting = [analysis for analysis in analyses if not analysis.is_done]
    text = f"{len(analyses) - len(waiting)} analyses done, {len(waiting)} to do"
    print_text(text, file=sys.stderr)
    outcomes = analyse(waiting, device=options.device, workers=options.workers) if waiting else []
    check_outcomes(outcomes, [], n_runs=len(waiting))


def _write_files(
    families: "list[Family]",
    curves: "Mapping[tuple[str, str], Curves]",
    scores: "list[Score]",
    options: argparse.Namespace,
) -> None:
    """Write all tables as CSV, and the figures."""
    from tlcnn.report.figures.agreement import choose_shown, draw_families, draw_taus
    from tlcnn.report.figures.style import save_figure
    from tlcnn.report.planted_tables import (
        make_agreement_table,
        make_depth_table,
        make_oracle_table,
    )
    from tlcnn.report.writers.csv import write_csv
    from tlcnn.storage import make_dir, writing

    folder = make_dir(Path(options.output))
    tables = {"oracle": make_oracle_table(families, options.margin)}
    figures = []
    if scores:
        tables["agreement"] = make_agreement_table(scores, families, options.margin)
        tables["depths"] = make_depth_table(scores)
    for plant in dict.fromkeys(score.plant for score in scores):
        part = [score for score in scores if score.plant == plant]
        if any(score.tau_S.n for score in part):
            chosen, shown = choose_shown(part, families)
            figures += [
                draw_taus(part),
                draw_families(families, curves, chosen, options.margin, shown),
            ]
    for name, table in tables.items():
        with writing(folder / f"{name}.csv"):
            (folder / f"{name}.csv").write_text(write_csv(table.frame), encoding="utf-8")
    for figure in figures:
        save_figure(figure, folder)
    print_text(f"wrote {folder}", file=sys.stderr)
