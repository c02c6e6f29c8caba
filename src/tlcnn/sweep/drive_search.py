"""Drives a search: decides which runs come next, trains them, and decides again, until the end."""

from collections.abc import Sequence
from functools import partial

from tlcnn.config.compose import Composer
from tlcnn.errors import ConfigError, Stopped, SweepFailed
from tlcnn.memory import Memory
from tlcnn.records.search import SearchRecord
from tlcnn.run.job import UNEXPECTED
from tlcnn.storage import digest_of
from tlcnn.sweep.arms import make_arms
from tlcnn.sweep.decide import NextRun, decide, note_outcomes
from tlcnn.sweep.drive import Launch, Request, describe_broken, train_waves
from tlcnn.sweep.journal import SUFFIX, Journal
from tlcnn.sweep.options import SearchOptions
from tlcnn.sweep.resolve import Sweep, SweepRun, count_left_out
from tlcnn.sweep.search import Search, make_definition
from tlcnn.sweep.search_text import describe_end, describe_search
from tlcnn.sweep.study_record import check_kind, name_sweep, write_failures, write_study
from tlcnn.text import count, print_text


def drive_search(request: Request, options: SearchOptions, launch: Launch) -> None:
    """Search the settings of every arm, train the chosen ones with fresh seeds, print the end.

    Raises:
        ConfigError: a value that is not allowed, or a study that was begun differently.
        SweepFailed: runs failed; the same command tries them again.
        Stopped: a signal came.
    """
    options.check()
    memory = Memory()
    composer = memory.recall("composer", "", partial(Composer, request.flags))
    arms = make_arms(
        request.arguments,
        params=request.params,
        blocks=request.blocks,
        when=options.when,
        composer=composer,
        memory=memory,
    )
    if not arms.arms and not arms.broken:
        reason = f" The first: {arms.left_out[0].error}" if arms.left_out else ""
        raise ConfigError(f"there is no arm to search.{reason}")
    definition = make_definition(arms, options)
    name = name_sweep(request.study, request.arguments, "tune", lambda: digest_of(definition, 8))
    journal = Journal(request.output_dir / "studies" / f"{name}{SUFFIX}")
    search = Search(name, arms, options, journal, composer, memory)
    check_kind(request.output_dir, name, is_search=True)
    print_text("\n".join(_describe_start(search)))
    for line in describe_broken(arms.broken, request.flags):
        print_text(line)
    if request.dry_run:
        print_text(_describe_first(search))
        if arms.broken:
            raise SweepFailed(
                f"{count(len(arms.broken), 'combination')} cannot be run",
                {outcome.code for _, outcome in arms.broken},
            )
        return
    record = _search(search, request, launch)
    print_text("\n" + "\n".join(describe_search(record)))
    _close(search, record, request)


def _search(search: Search, request: Request, launch: Launch) -> SearchRecord:
    """Train until there is no next run, or a signal comes; return the record."""
    is_ending = False
    while True:
        with search.journal.hold(search.definition):
            before = {(a, t.number): t for a, ts in search.journal.trials.items() for t in ts}
            next_runs = decide(search)
            search.mark_pruned()
            record = _write_record(search, request)
        for line in describe_end(before, record):
            print_text(line)
        if is_ending or not next_runs:
            return record
        outcomes = train_waves(
            make_sweep(next_runs).waves(),
            launch,
            fail_fast=request.fail_fast,
            until=_find_pauses(next_runs),
        )
        note_outcomes(search, next_runs, outcomes)
        search.was_stopped = any(outcome.was_stopped for outcome in outcomes.values())
        is_ending = search.was_stopped or (request.fail_fast and bool(search.failed))


def make_sweep(next_runs: Sequence[NextRun]) -> Sweep:
    """Return the next runs, and those that they start from, as a sweep."""
    runs: dict[str, SweepRun] = {}
    for each in next_runs:
        for run in each.lineage:
            if run.run_id not in runs or run.role == "cell":
                runs[run.run_id] = run
    ordered = sorted(runs.values(), key=lambda run: (run.wave, run.role == "cell"))
    return Sweep((), tuple(ordered))


def _find_pauses(next_runs: Sequence[NextRun]) -> dict[str, int]:
    """Return the epochs at which runs pause; a run that others start from does not pause."""
    parents = {run.run_id for each in next_runs for run in each.lineage if run.role != "cell"}
    pauses = {each.run.run_id: each.until for each in next_runs if each.until is not None}
    return {run_id: until for run_id, until in pauses.items() if run_id not in parents}


def _write_record(search: Search, request: Request) -> SearchRecord:
    record = search.make_record()
    arms = search.arms
    runs = Sweep((), tuple(search.list_runs()), arms.left_out, arms.n_same, arms.broken)
    sources = {key: getattr(request, key) for key in ("arguments", "params", "blocks", "flags")}
    write_study(request.output_dir, search.name, runs, sources=sources, search=record)
    return record


def _describe_start(search: Search) -> list[str]:
    arms, options = search.arms, search.options
    n_trials = count(search.budget, "trial")
    lines = [
        f"study {search.name}: {count(len(arms.arms), 'arm')}, {n_trials} each "
        f"({options.method}), then {count(options.final_seeds, 'final run')} each"
    ]
    for arm in arms.arms:
        space = "; ".join(arm.texts) or "nothing searched: one trial"
        lines.append(f"  {arms.names[arm.key]}: {space}")
    if arms.n_same:
        lines.append(f"  the same arm as another: {count(arms.n_same, 'combination')}")
    lines += count_left_out(arms.left_out)
    return lines


def _describe_first(search: Search) -> str:
    """Return the values of the first trials of each arm, which are not recorded."""
    lines = []
    for arm in search.arms.arms:
        for values in search.propose(arm, ())[: search.count_budget(arm)]:
            search.plan(arm, values, search.arms.seed)
            lines.append(" ".join(f"{key}={value}" for key, value in values.items()))
    return "the first trials:\n" + "\n".join(f"  {line}" for line in dict.fromkeys(lines) if line)


def _close(search: Search, record: SearchRecord, request: Request) -> None:
    """Note what failed, and raise unless every arm has its final runs."""
    path = request.output_dir / "studies" / f"{search.name}.json"
    write_failures(path, {run_id: outcome.error for run_id, outcome in search.failed.items()})
    if search.was_stopped:
        raise Stopped("the search was stopped; repeat the command to continue")
    without = [arm.name for arm in record.arms if arm.best is None]
    for run_id, outcome in search.failed.items():
        print_text(f"  failed  {run_id}: {outcome.error}")
    for name in without:
        print_text(f"  no trial has ended with a score: {name}")
    codes = {outcome.code or UNEXPECTED for outcome in search.failed.values()}
    codes |= {outcome.code for _, outcome in search.arms.broken}
    if without and not codes:
        raise SweepFailed(
            f"{count(len(without), 'arm')} without a trial that ended with a score. The same "
            "command tries none of them again: give it more trials, or search other ranges.",
            {1},
        )
    if codes:
        raise SweepFailed(
            f"{count(len(search.failed), 'run')} failed. The same command tries them again and "
            "skips what is done.",
            codes,
        )
