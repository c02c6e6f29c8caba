"""`tlcnn test`: finished runs on another dataset with the same classes."""

import argparse
import logging
import sys
from pathlib import Path

from tlcnn.cli.compare import FORMATS, add_formats, show_table
from tlcnn.config.spelling import write_command
from tlcnn.errors import ConfigError, DataError, SweepFailed, WeightsError
from tlcnn.text import count, print_text

INTERVALS = "Intervals are over other test groups of this dataset, for these networks as they are."


def add_test(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "test",
        help="scores of finished runs on another dataset with the same classes",
        description="Applies finished runs to a dataset that they were not trained on, prints the "
        "metrics with intervals, and records them beside the runs, where compare --external and "
        "report read them. The first words are run folders, or output folders, of which all runs "
        "that fit are tested; then comes dataset=NAME with its options.",
    )
    add = parser.add_argument
    add("words", nargs="+", metavar="RUN... dataset=NAME", help="runs, then the dataset")
    splits = "train, val, test or all; default: the test split that the dataset comes with, or "
    splits += "that dataset.hold_out or dataset.folds chooses, or else all images"
    add("--split", help=splits)
    pairs = 'what classes of the dataset count as: "melanoma=mel,nevus=nv,other="; an empty class '
    add("--classes", metavar="PAIRS", help=pairs + "leaves images out; others match by name")
    leaks = "images that a run was trained on or chosen by: refuse (default), leave_out or accept"
    add("--leaks", default="refuse", help=leaks)
    mean = "test the mean of the probabilities of all runs, too"
    add("--ensemble", action="store_true", help=mean)
    add("--metrics", nargs="+", action="extend", default=[], metavar="METRIC", help="to be shown")
    add("--device", default="auto", help="auto (default), cpu, cuda or mps")
    add("--batch-size", type=int, help="default: that of the run's own evaluation")
    moved = "the folder of the images that the runs were trained on, if they have moved"
    add("--root", help=moved)
    add("--workers", type=int, help="decoding threads; default: one for each core")
    add_formats(parser)
    parser.set_defaults(command=_test)


def split_dataset(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the runs that a command line names, and the words of the dataset."""
    dataset = [word for word in words if "=" in word and not Path(word).exists()]
    runs = [word for word in words if word not in dataset]
    if not runs or not any(word.startswith("dataset=") for word in dataset):
        lacking = "a run or an output folder" if not runs else "the dataset"
        raise ConfigError(
            f"tlcnn test {write_command(words)}: {lacking} is missing. Runs come first, then the "
            "dataset: tlcnn test outputs/runs/NAME dataset=folder dataset.root=photos"
        )
    return runs, dataset


def _test(options: argparse.Namespace) -> None:
    runs, dataset = split_dataset(options.words)
    from tlcnn.inference.class_map import parse_class_map
    from tlcnn.inference.external import test
    from tlcnn.records.read import read_runs
    from tlcnn.report.external import (
        METRICS,
        describe_test,
        list_run_tests,
        make_external_frame,
        make_result_table,
        make_score_table,
    )
    from tlcnn.run.job import log_to_stderr

    log_to_stderr(logging.INFO)
    frame = test(
        runs,
        dataset,
        split=options.split,
        classes=parse_class_map(options.classes) if options.classes else None,
        leaks=options.leaks,
        ensemble=options.ensemble,
        device=options.device,
        root=options.root,
        batch_size=options.batch_size,
        workers=options.workers,
    )
    metrics = options.metrics or list(METRICS)
    tests = list_run_tests(frame, read_runs(*dict.fromkeys(frame["run_folder"])), options.metrics)
    is_piped = any(getattr(options, name) == "-" for name in FORMATS)
    words = sys.stderr if is_piped else sys.stdout  # a table alone goes into a pipe
    if len(tests) == 1 and not options.metrics:
        print_text("\n".join(describe_test(tests[0].record)), file=words)
        show_table(make_result_table(tests[0]), options)
    else:
        show_table(make_score_table(make_external_frame(tests, metrics), metrics), options)
    print_text(INTERVALS, file=words)
    for name, error in frame.attrs["left_out"]:
        print_text(f"left out: {name}: {error}", file=sys.stderr)
    refused = [e for _, e in frame.attrs["left_out"] if isinstance(e, (DataError, WeightsError))]
    if refused:
        raise SweepFailed(
            f"{count(len(refused), 'run')} could not be tested; the others are recorded",
            {error.exit_code for error in refused},
        )
