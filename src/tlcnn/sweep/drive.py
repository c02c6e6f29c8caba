"""A sweep from its words to its closing table.

words -> cells -> runs in waves -> jobs for a launcher, wave by wave -> states read from folders
"""

import logging
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tlcnn.config.compose import Composer
from tlcnn.config.spelling import write_command
from tlcnn.errors import ConfigError, Stopped, SweepFailed
from tlcnn.memory import Memory
from tlcnn.records.folder import RunDir
from tlcnn.run.job import UNEXPECTED, Job, Outcome
from tlcnn.sweep.blocks import expand, expand_each
from tlcnn.sweep.duration import describe_duration, estimate_seconds
from tlcnn.sweep.packing import train_together
from tlcnn.sweep.progress import show_progress
from tlcnn.sweep.queue import NOT_STARTED, JobQueue
from tlcnn.sweep.resolve import Sweep, SweepRun, count_left_out, find_shared_words, resolve
from tlcnn.sweep.sharing import (
    describe_reused,
    describe_sharing,
    find_shared_depths,
    order_by_source,
)
from tlcnn.sweep.study_record import ONE_RUN, check_kind, name_study, write_failures, write_study
from tlcnn.text import align_columns, count, print_text
from tlcnn.training.interrupt import catch_signals

log = logging.getLogger("tlcnn")

Launch = Callable[[list[Job]], Sequence[Outcome]]
_MAX_LISTED = 12
_UNKNOWN = (
    "the launcher reports success, but the run's folder is not finished: another run was trained "
    "than the one that was planned here. Do all machines see the same data and output_dir?"
)


@dataclass(frozen=True)
class Request:
    """A sweep as the command line (`arguments`, `flags`) and the study's file describe it."""

    arguments: Sequence[str]
    params: Mapping[str, Any]
    blocks: Sequence[Mapping[str, Any]]
    flags: Sequence[str]
    output_dir: Path
    study: str | None
    fail_fast: bool
    dry_run: bool


def drive(request: Request, launch: Launch) -> None:
    """Train the runs that a sweep lacks with `launch`, and print how it ended.

    Raises:
        ConfigError: a cell that is not allowed; nothing has been trained.
        SweepFailed: runs failed; all others are done.
        Stopped: a signal came.
    """
    composer = Composer(request.flags)
    cells = expand(
        request.arguments, params=request.params, blocks=request.blocks, parse=composer.parse
    )
    cells = expand_each(cells, composer)
    sweep = resolve([Job(cell) for cell in cells], composer)
    if not sweep.runs and not sweep.broken:
        reason = sweep.left_out[0].error if sweep.left_out else "the grid is empty"
        raise ConfigError(
            f"there is nothing to run: {count(len(cells), 'combination')} left out. "
            f"The first: {reason}"
        )
    name = name_study(request.study, request.arguments, sweep)
    check_kind(request.output_dir, name, is_search=False)
    print_text(_describe_sweep(name, sweep, request))
    if request.dry_run:
        if sweep.runs:
            print_text("\n".join(_list_runs(sweep)))
        if sweep.broken:
            raise SweepFailed(
                f"{len(sweep.broken)} of {count(len(sweep.cells), 'combination')} cannot be run",
                {outcome.code for _, outcome in sweep.broken},
            )
        return
    sources = {key: getattr(request, key) for key in ("arguments", "params", "blocks", "flags")}
    record = write_study(request.output_dir, name, sweep, sources=sources)
    flags, fail_fast = request.flags, request.fail_fast
    run_sweep(name, sweep, launch, fail_fast=fail_fast, record=record, flags=flags)


def run_sweep(
    name: str,
    sweep: Sweep,
    launch: Launch,
    *,
    fail_fast: bool,
    record: Path | None,
    flags: Sequence[str] = (),
) -> None:
    """Train the runs that a resolved sweep lacks, and print how it ended, as `drive` does.

    Failures are noted in the study's record.
    """
    done_before = {run.run_id for run in sweep.runs if run.is_done}
    waves = [] if fail_fast and sweep.broken else sweep.waves()
    outcomes = train_waves(waves, launch, fail_fast=fail_fast)
    _close(name, sweep, done_before, outcomes, record, flags)


def train_waves(
    waves: Sequence[Sequence[SweepRun]],
    launch: Launch,
    *,
    fail_fast: bool,
    until: Mapping[str, int] = types.MappingProxyType({}),
) -> dict[str, Outcome]:
    """Train the runs of waves, one wave after the other, and return how each ended, by run id.

    Runs whose parent has failed, and those after a signal, have no outcome or that of the parent.

    Args:
        until: the epoch at which a run pauses, by run id.
    """
    outcomes: dict[str, Outcome] = {}
    for handler in log.handlers:
        if type(handler) is logging.StreamHandler:  # the terminal's; logs hold everything
            handler.setLevel(logging.WARNING)
    with show_progress([run for wave in waves for run in wave], until):
        for wave in waves:
            ready = order_by_source([run for run in wave if _can_begin(run, outcomes)])
            if any(o.was_stopped or (fail_fast and o.code) for o in outcomes.values()):
                continue
            jobs = [
                replace(
                    run.job,
                    # what `auto` means is decided here, not where the run is trained
                    overrides=(*run.job.overrides, f"train.precision={run.plan.precision}"),
                    shared_depths=find_shared_depths(run, ready),
                    place=_make_place(until.get(run.run_id)),
                    plan=run.plan,
                )
                for run in ready
            ]
            outcomes |= zip([run.run_id for run in ready], launch(jobs), strict=True)
    return outcomes


def _make_place(until_epoch: int | None) -> dict[str, Any]:
    place: dict[str, Any] = {"progress": False}  # the sweep shows its own
    return place if until_epoch is None else {**place, "until_epoch": until_epoch}


def launch_here(
    jobs: Sequence[Job], memory: Memory, *, fail_fast: bool = False, n_together: int | None = 1
) -> list[Outcome]:
    """Train jobs in this process, until a signal comes.

    Args:
        n_together: the most jobs that take turns; None: as many as a GPU has room for.
    """
    queue = JobQueue(jobs, fail_fast=fail_fast)
    with catch_signals() as stop:
        train_together(queue, memory, stop, n_together=n_together)
    stopped = Outcome(Stopped.exit_code, f"stopped by {stop.signal_name} before it began")
    return [stopped if stop and o == NOT_STARTED else o for o in queue.outcomes]


def _can_begin(run: SweepRun, outcomes: dict[str, Outcome]) -> bool:
    """Return whether a run's parent is done; if not, note why the run cannot begin."""
    parent = run.plan.parent
    outcome = outcomes.get(parent.run_id) if parent else None
    if parent is None or outcome is None or not outcome.code or RunDir(parent.run_dir).is_done:
        return True
    text = f"the run it starts from did not finish ({outcome.error})"
    outcomes[run.run_id] = (
        NOT_STARTED if outcome.was_stopped else Outcome(outcome.code, text, outcome.kind)
    )
    return False


def _describe_sweep(name: str, sweep: Sweep, request: Request) -> str:
    """Return what a sweep consists of and how long it may take, before it starts."""
    to_train = [run for run in sweep.runs if not run.is_done]
    n_parents = sum(run.role == "parent" for run in sweep.runs)
    lines = [f"study {name}: {count(len(sweep.cells), 'combination')}"]
    if sweep.n_same:
        n_same = count(sweep.n_same, "combination")
        lines.append(f"  the same run as another, trained once: {n_same}")
    for line, members in count_left_out(sweep.left_out).items():
        lines.append(line)
        shared = find_shared_words(sweep.cells)
        texts = dict.fromkeys(
            " ".join(w for w in cell.overrides if w not in shared and "seed=" not in w)
            for cell in members
        )
        lines += [f"    {text}" for text in [*texts][:_MAX_LISTED]]
        lines += [f"    … {len(texts) - _MAX_LISTED} more"] * (len(texts) > _MAX_LISTED)
    if n_parents:
        lines.append(f"  added as parents of others: {count(n_parents, 'run')}")
    lines += describe_broken(sweep.broken, request.flags)
    lines += describe_sharing(to_train)
    seconds = estimate_seconds([run.plan for run in to_train], request.output_dir)
    time = f", {describe_duration(seconds)}" if to_train else ""
    time += " of training, one run at a time" if seconds else ""
    n_done = len(sweep.runs) - len(to_train)
    lines.append(
        f"  {count(len(sweep.runs), 'run')}: {n_done} done, {len(to_train)} to train{time}"
    )
    if seconds is None and request.dry_run:
        run = min(to_train, key=lambda run: (run.role != "cell", run.wave))
        command = _make_command(run.job.overrides, request.flags, "until_epoch=1")
        lines.append("  one epoch of one run of each dataset and network tells the time, and the")
        lines.append(f"  sweep goes on from there: {command}")
    return "\n".join(lines)


def describe_broken(
    broken: Sequence[tuple[tuple[str, ...], Outcome]],
    flags: Sequence[str],
    state: str = "cannot be run",
) -> list[str]:
    """Return each error of cells that cannot be run once, with a command that shows it."""
    cells_by_error: dict[str, list[tuple[str, ...]]] = {}
    for cell, outcome in broken:
        cells_by_error.setdefault(outcome.error, []).append(cell)
    lines = []
    for error, cells in cells_by_error.items():
        lines.append(f"  {state}, {count(len(cells), 'combination')}: {error}")
        lines.append(f"    for example: {_make_command(cells[0], flags)}")
    return lines


def _make_command(overrides: Sequence[str], flags: Sequence[str], *words: str) -> str:
    """Return the command that trains one combination of a sweep."""
    mode = [ONE_RUN] if any(word.startswith("experiment=") for word in overrides) else []
    rest = [word for word in overrides if not word.startswith("dry_run=")]
    return write_command(["python", "-m", "tlcnn.train", *flags, *mode, *rest, *words])


def _list_runs(sweep: Sweep) -> list[str]:
    rows = [("", "run", "id", "state", "")]
    for number, run in enumerate(sweep.runs, start=1):
        note = f"starts from {run.plan.parent.run_id}" if run.plan.parent else ""
        note = note or "parent of others" * (run.role == "parent")
        state = "done" if run.is_done else "to train"
        rows.append((str(number), run.plan.run_name, run.run_id, state, note))
    return align_columns(rows, right=(0,))


def _close(
    name: str,
    sweep: Sweep,
    done_before: set[str],
    outcomes: dict[str, Outcome],
    record: Path | None,
    flags: Sequence[str],
) -> None:
    """Print the closing table, record what failed, and raise unless everything is done."""
    done = [run for run in sweep.runs if run.is_done]
    pairs = [(r, outcomes.get(r.run_id, NOT_STARTED)) for r in sweep.runs if not r.is_done]
    is_paused = {r.run_id: not o.code and r.plan.config.until_epoch is not None for r, o in pairs}
    failed = [(r, o) for r, o in pairs if not (o.was_stopped or is_paused[r.run_id])]
    n_failed, n_waiting = len(failed) + len(sweep.broken), len(pairs) - len(failed)
    n_trained = len(done) - len(done_before)
    text = f"{n_trained} trained, {len(done_before)} skipped, {n_failed} failed"
    print_text(f"\nstudy {name}: {text}{f', {n_waiting} not run' if n_waiting else ''}")
    for line in describe_reused([run for run in done if run.run_id not in done_before]):
        print_text(line)
    for line in describe_broken(sweep.broken, flags, "failed"):
        print_text(line)
    errors = {run.run_id: outcome.error if outcome.code else _UNKNOWN for run, outcome in failed}
    for run, _ in failed:
        print_text(f"  failed  {run.run_dir.name}\n          {errors[run.run_id]}")
        if (run.run_dir / "log.txt").is_file():
            print_text(f"          {run.run_dir / 'log.txt'}")
    if record is not None:
        write_failures(record, errors)
    if n_waiting and any(o.was_stopped and o != NOT_STARTED for o in outcomes.values()):
        raise Stopped("the sweep was stopped; repeat the command to continue")
    codes = {outcome.code or UNEXPECTED for _, outcome in (*failed, *sweep.broken)}
    if codes:
        of_all = count(len(sweep.runs) + len(sweep.broken), "run")
        raise SweepFailed(
            f"{n_failed} of {of_all} failed. The same command "
            "tries them again and skips what is done.",
            codes,
        )
