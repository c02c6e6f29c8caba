"""`tlcnn predict`: what trained networks say about new images."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn.errors import ConfigError, list_names
from tlcnn.text import count, print_text

if TYPE_CHECKING:
    import pandas as pd

_MANY = 10  # images; if all of them or more get one class, a sentence says so


def add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="classes and probabilities of new images, with warnings about familiar ones",
        description="Applies one run, or the mean over several runs, to images. The first words "
        "are run folders. After them come a folder, files, a table (.csv), an .npz file, or "
        "dataset=NAME with its options; without images, the run's own of --split.",
    )
    add = parser.add_argument
    add("words", nargs="+", metavar="RUN... IMAGES", help="run folders, then images")
    add("-o", "--output", default="predictions.csv", help=".csv or .parquet; default: %(default)s")
    add("--split", help="train, val or test of a dataset; default: all its images")
    add("--tta", action="store_true", help="average over the flips that training showed")
    fitted = "fit a temperature on the validation images and undo what class weights did"
    add("--calibrated", action="store_true", help=fitted)
    unchecked = "do not look for images that training has seen, or that are unlike its images"
    add("--no-checks", action="store_true", help=unchecked)
    add("--device", default="auto", help="auto (default), cpu, cuda or mps")
    add("--batch-size", type=int, help="default: that of the run's own evaluation")
    add(
        "--root", help="the folder of the images that the runs were trained on, if they have moved"
    )
    add("--workers", type=int, help="decoding threads; default: one for each core")
    parser.set_defaults(command=_predict)


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the run folders that a command line begins with, and the words after them."""
    from tlcnn.records.files import PLAN

    is_run = [(Path(word).expanduser() / PLAN).is_file() for word in words]
    n_runs = is_run.index(False) if False in is_run else len(words)
    if n_runs == 0:
        raise ConfigError(
            f"{words[0]} is no run folder: it has no {PLAN}. The first words are run folders, "
            "such as outputs/runs/NAME; tlcnn status lists them"
        )
    return words[:n_runs], words[n_runs:]


def _predict(options: argparse.Namespace) -> None:
    runs, images = split_words(options.words)
    from tlcnn.inference.predict import predict
    from tlcnn.run.job import log_to_stderr

    log_to_stderr(logging.INFO)
    frame = predict(
        runs,
        images or None,
        split=options.split,
        tta=options.tta,
        calibrated=options.calibrated,
        checks=not options.no_checks,
        batch_size=options.batch_size,
        device=options.device,
        root=options.root,
        output=options.output,
        workers=options.workers,
    )
    print_text(describe_predictions(frame))
    print_text(f"wrote {options.output}")


def describe_predictions(frame: "pd.DataFrame") -> str:
    """Return how many images have each class, and each kind of warning with examples."""
    lines = [f"{count(len(frame), 'image')}, by predicted class:"]
    lines += [f"  {name or '(none)'}: {n:,}" for name, n in frame["class"].value_counts().items()]
    names = frame["class"].unique()
    if len(frame) >= _MANY and len(names) == 1 and names[0]:
        lines.append(f"All {len(frame):,} images get the class {names[0]}.")
    warned = frame.attrs["warned"].items()
    lines += [f"warning: {kind}: {len(ids):,} ({list_names(ids)})" for kind, ids in warned]
    return "\n".join(lines)
