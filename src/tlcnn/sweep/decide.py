"""What a search does next: how trials end, which go on, what is chosen, and what is trained.

Every function here is called while the journal is held, but for `note_outcomes`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tlcnn.records.search import Trial
from tlcnn.run.job import UNEXPECTED, Outcome
from tlcnn.sweep.arms import Arm
from tlcnn.sweep.journal import Final
from tlcnn.sweep.resolve import Sweep, SweepRun
from tlcnn.sweep.search import Search
from tlcnn.sweep.trials import RunProgress, choose_best, choose_survivors, read_progress


@dataclass(frozen=True)
class NextRun:
    """A run that a search trains next, with the runs it starts from.

    Attributes:
        lineage: the run and those that it starts from.
        until: the epoch at which it pauses; None: it is trained to its end.
    """

    run: SweepRun
    lineage: tuple[SweepRun, ...]
    until: int | None


def decide(search: Search) -> list[NextRun]:
    """Decide all that can be decided now, and return the runs to train next."""
    return [next_run for arm in search.arms.arms for next_run in _decide_arm(search, arm)]


def _decide_arm(search: Search, arm: Arm) -> list[NextRun]:
    trials = search.journal.trials.setdefault(arm.key, [])
    while True:
        _fill_batch(search, arm, trials)
        next_runs = _decide_trials(search, arm, [t for t in trials if t.state == "open"])
        if next_runs or any(trial.state == "open" for trial in trials):
            return next_runs
        if not _fill_batch(search, arm, trials, begin_next=True):
            return _decide_final(search, arm, trials)


def _fill_batch(
    search: Search, arm: Arm, trials: Sequence[Trial], *, begin_next: bool = False
) -> bool:
    """Begin the missing trials of the last batch, or those of the next one.

    A kill between two lines of the journal leaves a part of a batch, and so does the end of the
    budget of an earlier command.

    Returns:
        Whether trials were begun.
    """
    size, budget = search.options.batch, search.count_budget(arm)
    first = len(trials) // size * size
    if len(trials) >= budget or (first == len(trials) and not begin_next):
        return False
    points = search.propose(arm, trials[:first])
    searched_ids = {run.run_id for run in search.list_runs()}
    new_trials = []
    for number in range(len(trials), min(first + len(points), budget)):
        values = points[number - first]
        lineage = search.plan(arm, values, search.arms.seed).runs
        before = tuple(r.run_id for r in lineage if r.is_done and r.run_id not in searched_ids)
        run_id = search.find_run(arm, values, search.arms.seed).run_id
        new_trials.append(Trial(number, values, run_id, before=before))
    search.journal.begin_trials(arm.key, new_trials)
    return bool(new_trials)


def _decide_trials(search: Search, arm: Arm, open_trials: Sequence[Trial]) -> list[NextRun]:
    """End the trials that are over, prune others, and return what is to be trained."""
    progress = {
        trial.number: read_progress(
            search.find_trial_run(arm, trial),
            search.plan(arm, trial.values, search.arms.seed).runs,
        )
        for trial in open_trials
    }
    running = {trial.number: trial for trial in open_trials}
    for number, state in progress.items():
        if state.is_done or state.has_diverged:
            end = "done" if state.is_done else "diverged"
            _end_trial(search, arm, number, end, state, n_epochs=len(state.epochs))
            del running[number]
    for rung in search.list_rungs(arm):
        behind = [trial for n, trial in running.items() if not progress[n].has(rung)]
        if behind:
            return _list_next_trials(search, arm, behind, rung)
        for number in [*running]:
            if number not in _list_survivors(search, arm, [*running], rung, progress):
                _end_trial(search, arm, number, "pruned", progress[number], n_epochs=rung)
                del running[number]
    return _list_next_trials(search, arm, running.values(), arm.plan.config.train.epochs)


def _end_trial(
    search: Search, arm: Arm, number: int, state: str, progress: RunProgress, *, n_epochs: int
) -> None:
    """Record how a trial ended; one that diverged has no score."""
    metric = arm.plan.config.train.select
    scores = {} if state == "diverged" else progress.score(metric, n_epochs)
    curve = progress.trace(metric, search.list_rungs(arm))
    changes = {"state": state, "n_epochs": n_epochs, "curve": curve, **scores}
    search.journal.end_trial(arm.key, number, **changes)


def _list_survivors(
    search: Search,
    arm: Arm,
    numbers: Sequence[int],
    rung: int,
    progress: Mapping[int, RunProgress],
) -> set[int]:
    metric = arm.plan.config.train.select
    scores: dict[int, float | None] = {}
    for trial in search.journal.trials[arm.key]:
        if trial.number in progress and progress[trial.number].has(rung):
            scores[trial.number] = progress[trial.number].score(metric, rung)["score"]
        elif trial.curve is not None and str(rung) in trial.curve:
            scores[trial.number] = trial.curve[str(rung)]
    return choose_survivors(search.options.prune, scores, numbers, search.options.batch)


def _decide_final(search: Search, arm: Arm, trials: Sequence[Trial]) -> list[NextRun]:
    """Choose the best trial of an arm, and return the final runs that are not done."""
    best = choose_best(trials)
    if best is None:
        return []
    seeds = search.final_seeds
    run_ids = tuple(search.find_run(arm, best.values, seed).run_id for seed in seeds)
    search.journal.choose(arm.key, Final(best.number, seeds, run_ids))
    return _list_next(search, [search.plan(arm, best.values, seed) for seed in seeds], None)


def _list_next_trials(
    search: Search, arm: Arm, trials: Iterable[Trial], until: int
) -> list[NextRun]:
    sweeps = [search.plan(arm, trial.values, search.arms.seed) for trial in trials]
    return _list_next(search, sweeps, until)


def _list_next(search: Search, sweeps: Iterable[Sweep], until: int | None) -> list[NextRun]:
    """Return the cells of sweeps that are not done, but for those that failed in this session."""
    runs = [(run, sweep.runs) for sweep in sweeps for run in sweep.runs if run.role == "cell"]
    return [
        NextRun(run, lineage, until)
        for run, lineage in runs
        if run.run_id not in search.failed and not run.is_done
    ]


def note_outcomes(
    search: Search, next_runs: Sequence[NextRun], outcomes: Mapping[str, Outcome]
) -> None:
    """Note which runs failed: those that did not reach the epoch that they were trained for.

    A trial that diverged has not failed, because it is the worst of its arm.
    """
    for each in next_runs:
        run_id, progress = each.run.run_id, read_progress(each.run, each.lineage)
        outcome = outcomes.get(run_id)
        if outcome is None or outcome.was_stopped:
            continue
        is_complete = progress.is_done or (each.until is not None and progress.has_diverged)
        if each.until is not None and each.until < each.run.plan.config.train.epochs:
            is_complete = is_complete or progress.has(each.until)
        if not is_complete:
            text = "the launcher reports success, but the run's folder is not finished"
            search.failed[run_id] = outcome if outcome.code else Outcome(UNEXPECTED, text)
