"""`tlcnn status`: the states of the runs of a study or folder; retry and prune."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn.errors import ConfigError, DataError, SweepFailed
from tlcnn.text import count, print_text

if TYPE_CHECKING:
    from tlcnn.sweep.status import Status


def add_status(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "status", help="list the runs that are done, running, failed or missing"
    )
    parser.add_argument(
        "target", nargs="?", default="outputs", metavar="STUDY|FOLDER", help="default: outputs"
    )
    parser.add_argument(
        "--output-dir",
        default="outputs",
        help="the folder in which to look for the study; default: outputs",
    )
    parser.add_argument("--all", action="store_true", help="also list finished runs")
    parser.add_argument("--retry-failed", action="store_true", help="train the failed runs again")
    parser.add_argument(
        "--prune", action="store_true", help="delete failed and stopped runs; asks first"
    )
    parser.add_argument("--yes", action="store_true", help="with --prune: do not ask")
    parser.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> None:
    from tlcnn.sweep.status import describe_status, read_status

    statuses = read_status(options.target, Path(options.output_dir))
    print_text(describe_status(statuses, every=options.all))
    problems = [status.problem for status in statuses if status.problem]
    if problems and (options.prune or options.retry_failed):
        raise DataError(f"nothing was deleted or trained: {problems[0]}")
    if options.prune:
        _prune(statuses, ask=not options.yes)
    if options.retry_failed:
        _retry(statuses)


def _prune(statuses: "Sequence[Status]", *, ask: bool) -> None:
    from tlcnn.sweep.status import delete_runs, list_prunable, measure_mib

    entries = list_prunable(statuses)
    if not entries:
        print_text("\nnothing to prune: no run is failed or stopped")
        return
    total = sum(measure_mib(entry.folder) for entry in entries)
    print_text(f"\n{count(len(entries), 'run')} without a result, {total:,.1f} MiB:")
    print_text("\n".join(f"  {e.state:8} {e.folder}  {e.detail}" for e in entries))
    if ask:
        if not sys.stdin.isatty():
            raise ConfigError("nothing was deleted: this needs an answer. Repeat it with --yes")
        answer = input("Delete them, with their checkpoints? [y/N] ").strip().lower()
        if answer not in ("y", "yes"):
            print_text("nothing was deleted")
            return
    delete_runs(entries)
    print_text("deleted; the command that started them trains them from the beginning")


def _retry(statuses: "Sequence[Status]") -> None:
    """Train the failed runs of each study in this process."""
    from tlcnn.config.compose import Composer
    from tlcnn.memory import Memory
    from tlcnn.sweep.drive import launch_here, run_sweep
    from tlcnn.sweep.resolve import resolve
    from tlcnn.sweep.status import list_failed

    pairs = [(status, list_failed([status])) for status in statuses]
    if not any(jobs for _, jobs in pairs):
        print_text("\nnothing to retry: no run has failed")
        return
    errors = []
    for status, jobs in pairs:
        if not jobs:
            continue
        memory = Memory()
        composer = memory.recall("composer", "", partial(Composer, status.flags))
        try:
            run_sweep(
                f"{status.title.removeprefix('study ')}, again",
                resolve(jobs, composer),
                partial(launch_here, memory=memory),
                fail_fast=False,
                record=status.record,
                flags=status.flags,
            )
        except SweepFailed as error:
            errors.append(error)
    if errors:
        raise errors[-1]
