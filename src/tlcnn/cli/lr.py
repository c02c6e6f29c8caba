"""`tlcnn lr`: a learning-rate range test, which is a hint and no search."""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn.errors import ConfigError
from tlcnn.text import print_text

if TYPE_CHECKING:
    from tlcnn.training.lr_range import LrRange

_STEPS = (20, 100_000)
_ONE_RUN = (
    "a range test is of one run: give each key one value, as in init=imagenet "
    "freeze.through=stage2."
)
_HINT = (
    "This is a hint: it looks at a few updates of the training images, and not at how well a "
    "trained network does. Let validation choose among rates around it: train.lr={0} in a sweep."
)


def add_lr(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "lr",
        help="try rising learning rates on the start of a run: a curve and a hint",
        description="A learning-rate range test (Smith 2017) of the run that these words mean: a "
        "few hundred updates, each with a higher rate, until the loss diverges.",
    )
    add = parser.add_argument
    add("words", nargs="*", metavar="KEY=VALUE", help="as for training, e.g. init=imagenet")
    add("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)
    add("--from", dest="low", type=float, default=1e-6, help="the first rate; default: 1e-6")
    add("--to", dest="high", type=float, default=10.0, help="the last rate; default: 10")
    add("--steps", type=int, default=200, help="updates; default: 200")
    parser.set_defaults(command=_lr)


def _lr(options: argparse.Namespace) -> None:
    from tlcnn.run.job import explain_failure, log_to_stderr

    log_to_stderr(logging.INFO)
    try:
        _test_and_show(options)
    except Exception as error:
        sys.exit(explain_failure(error).code)


def _test_and_show(options: argparse.Namespace) -> None:
    from tlcnn.config.compose import compose_config, make_memory
    from tlcnn.plan.plan import make_plan
    from tlcnn.records.folder import RunDir
    from tlcnn.run.lr_range import measure_lr_range
    from tlcnn.run.start import check_one_run

    low, high, n_steps = options.low, options.high, options.steps
    if not 0 < low < high < float("inf"):
        raise ConfigError(f"--from {low:g} --to {high:g}: both must be above 0, and --to larger")
    if not _STEPS[0] <= n_steps <= _STEPS[1]:
        raise ConfigError(f"--steps {n_steps} is not allowed: {_STEPS[0]} to {_STEPS[1]}")
    check_one_run([*options.words, *(["-m"] if options.multirun else [])], _ONE_RUN)
    # The units that a schedule lets rest at first are trained here, too.
    plan = make_plan(compose_config([*options.words, "train.schedule=together"]), make_memory())
    if plan.config.dry_run:
        raise ConfigError("a range test has no dry run: leave dry_run=true out")
    if plan.parent is not None and not RunDir(plan.parent.run_dir).is_done:
        print_text(f"first trains its source, {plan.parent.run_name}", file=sys.stderr)
    folder = plan.output_dir / "lr" / plan.run_dir.name
    print_text(f"up to {n_steps} updates of {plan.run_name}", file=sys.stderr)
    curve = measure_lr_range(plan, folder, make_memory(), low=low, high=high, n_steps=n_steps)
    write_curve(curve, folder, plan.run_name)
    print_text(describe_curve(curve))
    print_text(f"wrote {folder}", file=sys.stderr)


def write_curve(curve: "LrRange", folder: Path, name: str) -> None:
    """Write a curve as CSV, and as a picture. Raises StorageError."""
    import pandas as pd

    from tlcnn.report.figures.lr_range import draw_lr_range
    from tlcnn.report.figures.style import save_figure
    from tlcnn.report.writers.csv import write_csv
    from tlcnn.storage import make_dir, write_atomic

    columns = {"lr": curve.lr, "loss": curve.loss, "smoothed": curve.smoothed}
    write_atomic(make_dir(folder) / "curve.csv", write_csv(pd.DataFrame(columns)))
    suggestions = {"steepest descent": curve.steepest, "a tenth of the lowest": curve.tenth}
    shown = {what: rate for what, rate in suggestions.items() if rate is not None}
    save_figure(draw_lr_range(**columns, name=name, suggestions=shown), folder, ("png", "svg"))


def describe_curve(curve: "LrRange") -> str:
    """Return in words what a curve suggests."""
    first, last = curve.lr[0], curve.lr[-1]
    how = "until the loss diverged" if curve.has_diverged else "without diverging"
    lines = [f"{len(curve.lr)} updates with rates from {first:.2g} to {last:.2g}, {how}"]
    if curve.steepest is None or curve.tenth is None:
        return "\n".join([*lines, "The loss does not fall at any of these rates: lower --from."])
    lines += [
        f"steepest descent of the smoothed loss    train.lr={curve.steepest:.2g}",
        f"a tenth of the rate at its lowest point  train.lr={curve.tenth:.2g}",
    ]
    if curve.is_falling:
        lines.append("The loss still falls at the highest rate: raise --to.")
    low, high = sorted((curve.steepest, curve.tenth))
    around = dict.fromkeys(f"{rate:.1g}" for rate in (low / 3, low, high, high * 3))
    return "\n".join([*lines, _HINT.format(",".join(around))])
