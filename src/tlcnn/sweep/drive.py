"""A sweep from its words to its closing table.

words -> cells -> jobs in waves -> a launcher, wave by wave -> states read from the folders
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlcnn.config.compose import Composer
from tlcnn.errors import ConfigError, Stopped, SweepFailed
from tlcnn.memory import Memory
from tlcnn.run.job import UNEXPECTED, Outcome, run_job
from tlcnn.sweep.blocks import expand
from tlcnn.sweep.progress import describe_duration, estimate_seconds, show_progress
from tlcnn.sweep.queue import NOT_STARTED, JobQueue
from tlcnn.sweep.resolve import Job, Sweep, resolve
from tlcnn.sweep.sharing import (
    describe_reused,
    describe_sharing,
    order_by_source,
    write_sharing,
)
from tlcnn.sweep.study_record import name_study, write_failures, write_study
from tlcnn.text import align_columns
from tlcnn.training.interrupt import catch_signals

log = logging.getLogger("tlcnn")

Launch = Callable[[list[list[str]]], Sequence[Outcome]]
QUIET = "progress=false"  # the sweep shows its own
_MOST_LISTED = 12


@dataclass(frozen=True)
class Request:
    """What a sweep was asked for.

    Attributes:
        arguments: `KEY=VALUE` words of the command line.
        params, blocks: of the study's file.
        flags: of the command line, such as `--config-dir=DIR`.
        output_dir, study, fail_fast, dry_run: as in the configuration.
    """

    arguments: Sequence[str]
    params: Mapping[str, Any]
    blocks: Sequence[Mapping[str, Any]]
    flags: Sequence[str]
    output_dir: Path
    study: str | None
    fail_fast: bool
    dry_run: bool


def drive(request: Request, launch: Launch) -> None:
    """Train what a sweep lacks, and say how it ended.

    Args:
        request: what was asked for.
        launch: trains jobs, each a list of overrides, and returns how each ended.

    Raises:
        ConfigError: a cell that is not allowed; nothing has been trained.
        SweepFailed: runs failed; all others are done.
        Stopped: a signal came.
    """
    composer = Composer(request.flags)
    cells = expand(
        request.arguments, params=request.params, blocks=request.blocks, parse=composer.parse
    )
    sweep = resolve(cells, composer)
    if not sweep.jobs and not sweep.broken:
        raise ConfigError(_describe_nothing(sweep))
    name = name_study(request.study, request.arguments, sweep)
    print(_describe_sweep(name, sweep, len(cells), request.output_dir))
    if request.dry_run:
        print("\n".join(_list_jobs(sweep)))
        return
    study = write_study(
        request.output_dir,
        name,
        sweep,
        words={key: getattr(request, key) for key in ("arguments", "params", "blocks", "flags")},
    )
    run_sweep(name, sweep, launch, fail_fast=request.fail_fast, study=study)


def run_sweep(
    name: str, sweep: Sweep, launch: Launch, *, fail_fast: bool, study: Path | None
) -> None:
    """Train what a resolved sweep lacks, and say how it ended. Raises SweepFailed or Stopped.

    Args:
        name: what the closing table calls it.
        sweep: resolved.
        launch: as in `drive`.
        fail_fast: whether the first failure ends it.
        study: its record, where failures are noted.
    """
    done_before = {job.run_id for job in sweep.jobs if job.is_done}
    outcomes = _launch_waves(sweep, launch, fail_fast)
    _close(name, sweep, done_before, outcomes, study)


def launch_here(
    jobs: Sequence[Sequence[str]], memory: Memory, *, fail_fast: bool = False
) -> list[Outcome]:
    """Train jobs one after the other in this process, until a signal comes.

    Args:
        jobs: lists of overrides.
        memory: shared by the jobs; it holds their composer.
        fail_fast: whether the first failure ends it.
    """
    queue = JobQueue(jobs, fail_fast=fail_fast)
    with catch_signals() as stop:
        while not stop and (job := queue.take()):
            queue.finish(*job, run_job(job[1], memory))
    stopped = Outcome(Stopped.exit_code, f"stopped by {stop.signal_name} before it began")
    return [stopped if stop and o == NOT_STARTED else o for o in queue.outcomes]


def _launch_waves(sweep: Sweep, launch: Launch, fail_fast: bool) -> dict[str, Outcome]:
    """Train wave by wave; a run whose parent failed is not begun."""
    outcomes: dict[str, Outcome] = {}
    waves = sweep.waves()
    if fail_fast and sweep.broken:
        return {job.run_id: NOT_STARTED for wave in waves for job in wave}
    with _quiet_console(), show_progress([job for wave in waves for job in wave]):
        for wave in waves:
            ready = order_by_source([job for job in wave if _is_ready(job, outcomes)])
            over = _is_over(outcomes, fail_fast)
            found = [NOT_STARTED] * len(ready) if over else launch(_write_jobs(ready))
            outcomes |= {job.run_id: result for job, result in zip(ready, found, strict=True)}
    return outcomes


def _write_jobs(jobs: Sequence[Job]) -> list[list[str]]:
    # What `auto` means is decided here, not on whatever machine a launcher finds.
    return [
        [*job.overrides, f"train.precision={job.precision}", QUIET, *write_sharing(job, jobs)]
        for job in jobs
    ]


def _is_ready(job: Job, outcomes: dict[str, Outcome]) -> bool:
    """Return whether a job's parent is done; if not, note why the job cannot begin."""
    parent = outcomes.get(job.parent_id or "")
    if parent is None or not parent.code or job.parent_is_done:
        return True
    stopped = parent.was_stopped
    words = f"the run it starts from did not finish ({parent.error})"
    outcomes[job.run_id] = NOT_STARTED if stopped else Outcome(parent.code, words)
    return False


def _is_over(outcomes: dict[str, Outcome], fail_fast: bool) -> bool:
    return any(o.was_stopped or (fail_fast and o.code) for o in outcomes.values())


@contextmanager
def _quiet_console() -> Iterator[None]:
    """Show only warnings of the runs; their logs hold everything."""
    handlers = [h for h in log.handlers if type(h) is logging.StreamHandler]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


# ------------------------------------------------------------------------------------ in words


def _describe_nothing(sweep: Sweep) -> str:
    why = sweep.left_out[0][1] if sweep.left_out else "the grid has no cell"
    return (
        f"there is nothing to run: all {len(sweep.left_out)} cells are left out. The first: {why}"
    )


def _describe_sweep(name: str, sweep: Sweep, n_cells: int, output_dir: Path) -> str:
    """Return what a sweep consists of and how long it may take, before it starts."""
    todo = [job for job in sweep.jobs if not job.is_done]
    parents = [job for job in sweep.jobs if job.role == "parent"]
    lines = [f"study {name}: {n_cells} cells"]
    if sweep.n_same:
        lines.append(f"  {sweep.n_same} mean the same run as another and are run once")
    if sweep.left_out:
        lines.append(f"  {len(sweep.left_out)} freeze more than they transfer and are left out:")
        lines += _list_some(_write_cells([cell for cell, _ in sweep.left_out], sweep))
    if parents:
        lines.append(f"  {len(parents)} runs more, which these start from")
    lines += [f"  cannot be run: {' '.join(b.overrides)}: {b.error}" for b in sweep.broken]
    done = len(sweep.jobs) - len(todo)
    seconds = estimate_seconds(todo, output_dir) if todo else 0.0
    time = f", {describe_duration(seconds)}" if todo else ""
    time += " of training one at a time" if seconds else ""
    lines += describe_sharing(todo)
    lines.append(f"  {len(sweep.jobs)} runs: {done} done already, {len(todo)} to train{time}")
    return "\n".join(lines)


def _write_cells(cells: Sequence[Sequence[str]], sweep: Sweep) -> list[str]:
    """Return the words of cells in which not all cells of the sweep agree, seeds together."""
    every = [set(job.overrides) for job in sweep.jobs if job.role == "cell"]
    told = set.intersection(*every, *map(set, cells)) if every else set()
    short = [" ".join(w for w in cell if w not in told and "seed=" not in w) for cell in cells]
    return list(dict.fromkeys(short))


def _list_some(texts: Sequence[str]) -> list[str]:
    more = [f"    … {len(texts) - _MOST_LISTED} more"] if len(texts) > _MOST_LISTED else []
    return [f"    {text}" for text in texts[:_MOST_LISTED]] + more


def _list_jobs(sweep: Sweep) -> list[str]:
    rows = [("", "run", "id", "state", "")]
    for number, job in enumerate(sweep.jobs, start=1):
        state = "done" if job.is_done else "to train"
        rows.append((str(number), job.run_name, job.run_id, state, _describe_role(job)))
    return align_columns(rows, right=(0,))


def _describe_role(job: Job) -> str:
    after = f"after {job.parent_id}" if job.parent_id else ""
    return "source of others" if job.role == "parent" and not after else after


def _close(
    name: str,
    sweep: Sweep,
    done_before: set[str],
    outcomes: dict[str, Outcome],
    study: Path | None,
) -> None:
    """Print the closing table, record what failed, and raise unless everything is done."""
    done = [job for job in sweep.jobs if job.is_done]
    failed = [job for job in sweep.jobs if not job.is_done and _failed(outcomes, job)]
    errors = {job.run_id: _find_error(outcomes[job.run_id]) for job in failed}
    waiting = len(sweep.jobs) - len(done) - len(failed)
    counts = {
        "done": len(done) - len(done_before),
        "skipped": len(done_before),
        "failed": len(failed) + len(sweep.broken),
        "not run": waiting,
    }
    text = ", ".join(f"{n} {word}" for word, n in counts.items() if n or word != "not run")
    print(f"\nstudy {name}: {text}")
    for line in describe_reused([job for job in done if job.run_id not in done_before]):
        print(line)
    for broken in sweep.broken:
        print(f"  failed  {' '.join(broken.overrides)}\n          {broken.error}")
    for job in failed:
        print(f"  failed  {job.run_name}-{job.run_id}\n          {errors[job.run_id]}")
        if (job.run_dir / "log.txt").is_file():
            print(f"          {job.run_dir / 'log.txt'}")
    codes = {outcomes[job.run_id].code or UNEXPECTED for job in failed}
    codes |= {broken.code for broken in sweep.broken}
    if study is not None:
        write_failures(study, errors)
    if waiting and any(o.was_stopped and o != NOT_STARTED for o in outcomes.values()):
        raise Stopped("the sweep was stopped; the same command goes on from here")
    if codes:
        n_failed = counts["failed"]
        raise SweepFailed(
            f"{n_failed} of {len(sweep.jobs) + len(sweep.broken)} runs failed. The same command "
            "tries them again and skips what is done.",
            codes,
        )


def _failed(outcomes: dict[str, Outcome], job: Job) -> bool:
    return not outcomes.get(job.run_id, NOT_STARTED).was_stopped


def _find_error(outcome: Outcome) -> str:
    if outcome.code:
        return outcome.error
    return (
        "the launcher says that it went well, and there is no finished run: it trained another "
        "one than was planned here. Do all machines see the same data and output_dir?"
    )
