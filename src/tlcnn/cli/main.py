"""`tlcnn train | compare | report | status | ...`: every command; torch where it must."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tlcnn import __version__
from tlcnn.cli.agreement import add_agreement
from tlcnn.cli.analyse import add_analyse
from tlcnn.cli.compare import add_compare
from tlcnn.cli.data import add_data
from tlcnn.cli.export import add_export
from tlcnn.cli.export_runs import add_export_runs
from tlcnn.cli.import_runs import add_import
from tlcnn.cli.lr import add_lr
from tlcnn.cli.power import add_power
from tlcnn.cli.predict import add_predict
from tlcnn.cli.report import add_report
from tlcnn.cli.status import add_status
from tlcnn.cli.test import add_test
from tlcnn.cli.train import add_train, run_train
from tlcnn.cli.tune import add_tune
from tlcnn.config.schema import check_word, find_cache_dir
from tlcnn.errors import ConfigError, TlcnnError, did_you_mean
from tlcnn.model.unit_map import GRANULARITIES
from tlcnn.storage import writing
from tlcnn.text import print_text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["train"]:  # Hydra reads its words
        run_train(arguments[1:])
    parser = make_parser()
    with suppress(ImportError):  # tlcnn[completion]
        import argcomplete

        argcomplete.autocomplete(parser)
    check_command(parser, arguments)
    options = parse_words(parser, arguments)
    try:
        options.command(options)
    except TlcnnError as error:
        print_text(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.exit(0)


def check_command(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Exit with the nearest command, and the list of them, where the first word is none."""
    (names,) = (
        list(action.choices)
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    word = next(iter(arguments), "-")
    if not word.startswith("-") and word not in names:
        hint = did_you_mean(word, names)
        parser.error(f"there is no command {word!r}.{hint}\nCommands: {', '.join(names)}")


def parse_words(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Return what a command line means; an argument `words` may stand on both sides of options."""
    options, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(options, "words") or any(w.startswith("-") for w in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.words += rest
    return options


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="tlcnn",
        description="Train, compare runs and look at models. Help on training: tlcnn train --help",
    )
    parser.add_argument("--version", action="version", version=f"tlcnn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_train(commands)
    add_compare(commands)
    add_report(commands)
    add_analyse(commands)
    add_agreement(commands)
    add_lr(commands)
    add_power(commands)
    add_predict(commands)
    add_test(commands)
    add_export(commands)
    add_export_runs(commands)
    add_import(commands)
    _add_units(commands)
    _add_show(commands)
    add_tune(commands)
    add_status(commands)
    add_data(commands)
    return parser


def _add_units(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "units", help="list the units of a network (the blocks that are transferred or frozen)"
    )
    parser.add_argument("model", help="any timm CNN, e.g. resnet50")
    parser.add_argument("--granularity", default="stage", help=", ".join(GRANULARITIES))
    parser.set_defaults(command=_units)


def _units(options: argparse.Namespace) -> None:
    from tlcnn.model.load_units import load_unit_map
    from tlcnn.plan.describe import describe_units

    check_word("--granularity", options.granularity, GRANULARITIES)
    unit_map = load_unit_map(
        options.model, granularity=options.granularity, cache_dir=find_cache_dir(None)
    )
    print_text(describe_units(unit_map))


def _add_show(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "show", help="draw example images of a dataset, one row for each class"
    )
    parser.add_argument("overrides", nargs="+", help="the dataset, e.g. dataset=synthetic")
    parser.add_argument("-o", "--output", default="sheet.png", help="default: sheet.png")
    parser.add_argument("--columns", type=int, default=8, help="images of each class; default: 8")
    parser.set_defaults(command=_show)


def _show(options: argparse.Namespace) -> None:
    from tlcnn.config.compose import compose_config
    from tlcnn.data.dataset import load_dataset_index
    from tlcnn.report.sheet import plot_sheet

    index = load_dataset_index(compose_config(options.overrides).dataset)
    if options.columns < 1:
        raise ConfigError(f"--columns {options.columns} is not allowed: at least 1")
    with writing(Path(options.output)):
        plot_sheet(index, n_columns=options.columns).save(options.output)
    if index.hint:
        print_text(index.hint, file=sys.stderr)
    print_text(f"wrote {options.output}")


if __name__ == "__main__":
    main()
