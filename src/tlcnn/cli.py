"""`tlcnn compare | status | units | show | data`: what hardly trains; torch where it must."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from tlcnn import __version__
from tlcnn.cli_data import add_data
from tlcnn.cli_status import add_status
from tlcnn.config import check_word, find_cache_dir
from tlcnn.errors import ConfigError, TlcnnError, did_you_mean, list_names
from tlcnn.model.unit_map import GRANULARITIES
from tlcnn.storage import writing


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        options.command(options)
    except TlcnnError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.exit(0)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="tlcnn", description="Compare runs and look at models. To train: tlcnn-train --help"
    )
    parser.add_argument("--version", action="version", version=f"tlcnn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_compare(commands)
    _add_units(commands)
    _add_show(commands)
    add_status(commands)
    add_data(commands)
    return parser


def _add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "compare", help="one row a run, or mean and deviation over seeds, from run folders"
    )
    parser.add_argument("folders", nargs="*", default=["outputs"], help="default: outputs")
    parser.add_argument("--seeds", action="store_true", help="mean ± sd over seeds, with n")
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help="e.g. test/accuracy")
    for name, words in (("--csv", "as CSV"), ("--markdown", "as Markdown")):
        parser.add_argument(
            name, nargs="?", const="-", metavar="FILE", help=f"{words}, to a file or the terminal"
        )
    parser.set_defaults(command=_compare)


def _compare(options: argparse.Namespace) -> None:
    import pandas as pd

    from tlcnn.records.read import read_runs
    from tlcnn.report.tables import (
        DEFAULT_METRICS,
        make_run_table,
        make_seed_table,
        render_csv,
        render_markdown,
        render_text,
    )

    runs = pd.concat([read_runs(folder) for folder in options.folders], ignore_index=True)
    if runs.empty:
        print(f"no runs in {list_names(options.folders)} yet")
        return
    metrics = options.metrics or list(DEFAULT_METRICS)
    if options.metrics:
        _check_metrics(metrics, [c for c in runs.columns if "/" in c])
    table = (make_seed_table if options.seeds else make_run_table)(runs, metrics)
    written = [
        _write(options.csv, render_csv(table)),
        _write(options.markdown, render_markdown(table)),
    ]
    if not any(written):
        print(render_text(table))
    for line in _describe_left_out(runs):
        print(line, file=sys.stderr)


def _check_metrics(metrics: list[str], known: list[str]) -> None:
    for metric in metrics:
        if known and metric not in known:
            raise ConfigError(
                f"no run has the metric {metric}.{did_you_mean(metric, known)}\n"
                f"Measured, among others: {', '.join(_find_near(metric, known))}"
            )


def _find_near(metric: str, known: list[str]) -> list[str]:
    near = difflib.get_close_matches(metric, known, n=6, cutoff=0.4)
    return [*near, *(name for name in sorted(known) if name not in near)][:8]


def _write(path: str | None, text: str) -> bool:
    if path == "-":
        print(text, end="")
    elif path:
        with writing(Path(path)):
            Path(path).write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return path == "-"


def _describe_left_out(runs: "object") -> list[str]:
    import pandas as pd

    assert isinstance(runs, pd.DataFrame)
    counts = runs["state"].value_counts()
    lines = [f"{n} runs {state}" for state, n in counts.items() if state != "done"]
    for row in runs[runs["state"] == "unreadable"].itertuples():
        lines.append(f"unreadable: {row.folder}: {row.problem}")
    return lines


def _add_units(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("units", help="the units of a model: what k and j count")
    parser.add_argument("model", help="any timm CNN, e.g. resnet50")
    parser.add_argument("--granularity", default="stage", help=", ".join(GRANULARITIES))
    parser.set_defaults(command=_units)


def _units(options: argparse.Namespace) -> None:
    from tlcnn.describe import describe_units
    from tlcnn.model.load_units import load_unit_map

    check_word("--granularity", options.granularity, GRANULARITIES)
    unit_map = load_unit_map(
        options.model, granularity=options.granularity, cache_dir=find_cache_dir(None)
    )
    print(describe_units(unit_map))


def _add_show(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("show", help="a contact sheet of a dataset, one row a class")
    parser.add_argument("overrides", nargs="+", help="e.g. dataset=synthetic")
    parser.add_argument("-o", "--output", default="sheet.png", help="default: sheet.png")
    parser.add_argument("--columns", type=int, default=8, help="images a class; default: 8")
    parser.set_defaults(command=_show)


def _show(options: argparse.Namespace) -> None:
    from tlcnn.compose import compose_config
    from tlcnn.dataset import load_dataset
    from tlcnn.report.sheet import plot_sheet

    index = load_dataset(compose_config(options.overrides).dataset)
    if options.columns < 1:
        raise ConfigError(f"--columns {options.columns} is not allowed: at least 1")
    with writing(Path(options.output)):
        plot_sheet(index, n_columns=options.columns).save(options.output)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
