"""A search of settings of training, from its words to its closing table.

words -> arms -> trials in batches -> ordinary runs, wave by wave -> the best trial of each arm
-> its settings trained again with fresh seeds: the final runs, which alone stand for the arm

How it is built:

- A trial is an ordinary run, with an ordinary id: what is trained already is not trained again.
- What was decided (which trials there are, how each ended, what was chosen) is in a journal,
  which one process at a time appends to. How far a trial is, is read from its run folder. So a
  search has no state in memory: a kill loses nothing, and several shells share the work.
- A batch of an arm is proposed from the results of the batches before it alone. Pruning pauses
  the runs of a batch at an epoch (`until_epoch`) and compares them once all are there. Neither
  depends on which run ended first.
- All trials have one seed, the final runs have the seeds after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tlcnn.config.compose import Composer
from tlcnn.errors import ConfigError
from tlcnn.memory import Memory
from tlcnn.records.folder import RunDir
from tlcnn.records.search import ArmRecord, SearchRecord, Trial
from tlcnn.run.job import UNEXPECTED, Outcome
from tlcnn.sweep.arms import Arm, Arms
from tlcnn.sweep.journal import Final, Journal
from tlcnn.sweep.options import SearchOptions
from tlcnn.sweep.propose import propose
from tlcnn.sweep.resolve import Sweep, SweepRun, resolve
from tlcnn.sweep.space import list_points
from tlcnn.sweep.trials import (
    Reached,
    choose_best,
    choose_survivors,
    list_rungs,
    read_reached,
)


@dataclass(frozen=True)
class Wanted:
    """A run that a search needs next, with the runs it starts from.

    Attributes:
        until: the epoch at which it pauses; None: it is trained to its end.
    """

    run: SweepRun
    lineage: tuple[SweepRun, ...]
    until: int | None


@dataclass(eq=False)
class Search:
    """A search in progress: its arms, its journal, and what failed in this session.

    Attributes:
        failed: how runs ended that this session does not try again, by run id.
        was_stopped: whether a signal came.
    """

    name: str
    arms: Arms
    options: SearchOptions
    journal: Journal
    composer: Composer
    memory: Memory
    failed: dict[str, Outcome] = field(default_factory=dict)
    was_stopped: bool = False

    def __post_init__(self) -> None:
        self._plans: dict[str, Sweep] = {}
        points = [
            sum(1 for _ in list_points(arm.space, arm.is_active))
            for arm in self.arms.arms
            if arm.space and self.options.method == "grid"
        ]
        if len({*points}) > 1:
            raise ConfigError(
                f"the arms' grids have {min(points)} to {max(points)} points, and all arms must "
                "have the same budget: use --method random --trials N"
            )
        if points and self.options.trials not in (None, points[0]):
            raise ConfigError(
                f"the grid has {points[0]} points: leave --trials out, or use --method random"
            )
        self.budget: int = points[0] if points else self.options.trials or 1

    @property
    def definition(self) -> dict[str, object]:
        """What tells this search from others; it may have more trials and final seeds later."""
        options = {n: getattr(self.options, n) for n in ("method", "seed", "batch", "prune")}
        arms = {
            arm.key: {"words": [*arm.label], "space": arm.texts}
            for arm in sorted(self.arms.arms, key=lambda arm: arm.key)
        }
        return {"version": 1, **options, "tuning_seed": self.arms.seed, "arms": arms}

    def plan(self, arm: Arm, values: Mapping[str, str], seed: int) -> Sweep:
        """Return the run of a combination, and the runs that it starts from, planned once.

        Raises ConfigError for values that no run can have.
        """
        job = arm.make_job(values, seed)
        key = job.to_json()
        if key not in self._plans:
            sweep = resolve([job], self.composer, self.memory)
            if not any(run.role == "cell" for run in sweep.runs):
                reasons = [o.error for _, o in sweep.broken] + [why for _, why in sweep.left_out]
                raise ConfigError(f"{' '.join(job.overrides)} cannot be run: {reasons[0]}")
            self._plans[key] = sweep
        return self._plans[key]

    # ---- what is next ---------------------------------------------------------------------------

    def decide(self) -> list[Wanted]:
        """Decide all that can be decided now, and return the runs to train next.

        It is called while the journal is held.
        """
        return [wanted for arm in self.arms.arms for wanted in self._decide_arm(arm)]

    def count_budget(self, arm: Arm) -> int:
        """Return how many trials an arm gets; an arm without a space has one.

        All others have the same budget, which no later command makes smaller.
        """
        if not arm.space:
            return 1
        keys = [each.key for each in self.arms.arms if each.space]
        return max(self.budget, *(len(self.journal.trials.get(key, ())) for key in keys))

    @property
    def final_seeds(self) -> tuple[int, ...]:
        """The seeds of the chosen settings' runs; no later command makes them fewer."""
        before = [len(final.seeds) for finals in self.journal.finals.values() for final in finals]
        first = self.arms.seed + 1
        return tuple(range(first, first + max([self.options.final_seeds, *before])))

    def _decide_arm(self, arm: Arm) -> list[Wanted]:
        trials = self.journal.trials.setdefault(arm.key, [])
        while True:
            self._fill_batch(arm, trials)
            waiting = [trial for trial in trials if trial.state == "open"]
            wanted = self._decide_trials(arm, waiting)
            if wanted or any(trial.state == "open" for trial in trials):
                return wanted
            if not self._fill_batch(arm, trials, begin=True):
                return self._decide_final(arm, trials)

    def _fill_batch(self, arm: Arm, trials: Sequence[Trial], *, begin: bool = False) -> bool:
        """Begin the missing trials of the last batch, or those of the next one.

        Return False where there is none. A batch is not whole where a kill came between two of
        its lines, or where the budget of an earlier command ended in it.
        """
        size, budget = self.options.batch, self.count_budget(arm)
        first = len(trials) // size * size
        if len(trials) >= budget or (first == len(trials) and not begin):
            return False
        points = self._propose(arm, trials[:first])
        ours = {run.run_id for run in self.list_runs()}  # all else that is done was done before
        begun = []
        for number in range(len(trials), min(first + len(points), budget)):
            values = points[number - first]
            lineage = self.plan(arm, values, self.arms.seed).runs
            before = tuple(r.run_id for r in lineage if r.is_done and r.run_id not in ours)
            run_id = self._find_run(arm, values).run_id
            begun.append(Trial(number, values, run_id, before=before))
        self.journal.begin_trials(arm.key, begun)
        return bool(begun)

    def _propose(self, arm: Arm, history: Sequence[Trial]) -> list[dict[str, str]]:
        return propose(
            arm.space,
            str(self.options.method),
            history,
            seed=self.options.seed,
            first=len(history),
            n=self.options.batch,
            is_active=arm.is_active,
        )

    def propose_first(self, arm: Arm) -> list[dict[str, str]]:
        """Return the values of the first trials of an arm."""
        return self._propose(arm, ())[: self.count_budget(arm)]

    def _find_run(self, arm: Arm, values: Mapping[str, str], seed: int | None = None) -> SweepRun:
        sweep = self.plan(arm, values, self.arms.seed if seed is None else seed)
        return next(run for run in sweep.runs if run.role == "cell")

    def _decide_trials(self, arm: Arm, waiting: Sequence[Trial]) -> list[Wanted]:
        """End the trials that are over, prune others, and return what is to be trained."""
        metric, n_epochs = arm.plan.config.train.select, arm.plan.config.train.epochs
        rungs = list_rungs(n_epochs, self.options.prune)
        reached = {
            t.number: read_reached(
                self._check_run(arm, t), self.plan(arm, t.values, self.arms.seed).runs
            )
            for t in waiting
        }
        running = {t.number: t for t in waiting}
        for trial in waiting:
            state = reached[trial.number]
            if state.is_done or state.has_diverged:
                trace = state.trace(metric, rungs)
                scores = state.score(metric) if state.is_done else {}
                scores |= {"n_epochs": len(state.epochs), "curve": trace}
                end = "done" if state.is_done else "diverged"
                self.journal.end_trial(arm.key, trial.number, state=end, **scores)
                del running[trial.number]
        for rung in rungs:
            late = [t for t in running.values() if not reached[t.number].has(rung)]
            if late:
                return self._want(arm, late, rung)
            for number in [*running]:
                if number not in self._list_survivors(arm, [*running], rung, reached):
                    self._prune(arm, running.pop(number), reached[number], rung, rungs)
        return self._want(arm, [*running.values()], n_epochs)

    def _list_survivors(
        self, arm: Arm, numbers: Sequence[int], rung: int, reached: Mapping[int, Reached]
    ) -> set[int]:
        metric = arm.plan.config.train.select
        scores: dict[int, float | None] = {}
        for trial in self.journal.trials[arm.key]:
            if trial.number in reached and reached[trial.number].has(rung):
                scores[trial.number] = reached[trial.number].score(metric, rung)["score"]
            elif trial.curve is not None and str(rung) in trial.curve:
                scores[trial.number] = trial.curve[str(rung)]
        return choose_survivors(self.options.prune, scores, numbers, self.options.batch)

    def _prune(
        self, arm: Arm, trial: Trial, reached: Reached, rung: int, rungs: Sequence[int]
    ) -> None:
        metric = arm.plan.config.train.select
        self.journal.end_trial(
            arm.key,
            trial.number,
            state="pruned",
            n_epochs=rung,
            curve=reached.trace(metric, rungs),
            **reached.score(metric, rung),
        )

    def _check_run(self, arm: Arm, trial: Trial) -> SweepRun:
        """Return a trial's run. Raises ConfigError if its values mean another run by now."""
        run = self._find_run(arm, trial.values)
        if run.run_id != trial.run_id:
            raise ConfigError(
                f"trial {trial.number} of {self.arms.names[arm.key]} was the run {trial.run_id} "
                f"and is {run.run_id} now, because the data or the device have changed. Give the "
                "search another name: study=NAME"
            )
        return run

    def _want(self, arm: Arm, trials: Iterable[Trial], until: int) -> list[Wanted]:
        sweeps = [self.plan(arm, trial.values, self.arms.seed) for trial in trials]
        return self._list_wanted(sweeps, until)

    def _list_wanted(self, sweeps: Iterable[Sweep], until: int | None) -> list[Wanted]:
        """Return the cells of sweeps as wanted, but for those that failed in this session."""
        wanted = []
        for sweep in sweeps:
            (run,) = (run for run in sweep.runs if run.role == "cell")
            if run.run_id not in self.failed and not run.is_done:
                wanted.append(Wanted(run, sweep.runs, until))
        return wanted

    def _decide_final(self, arm: Arm, trials: Sequence[Trial]) -> list[Wanted]:
        """Choose the best trial of an arm, and return the final runs that are not done."""
        best = choose_best(trials)
        if best is None:
            return []
        seeds = self.final_seeds
        sweeps = [self.plan(arm, best.values, seed) for seed in seeds]
        runs = [self._find_run(arm, best.values, seed) for seed in seeds]
        self.journal.choose(arm.key, Final(best.number, seeds, tuple(r.run_id for r in runs)))
        return self._list_wanted(sweeps, None)

    # ---- what has happened ----------------------------------------------------------------------

    def note_outcomes(self, wanted: Sequence[Wanted], outcomes: Mapping[str, Outcome]) -> None:
        """Note which runs did not get where they should; a trial that diverged did."""
        for each in wanted:
            run_id, reached = each.run.run_id, read_reached(each.run, each.lineage)
            outcome = outcomes.get(run_id)
            if outcome is None or outcome.was_stopped:
                continue
            is_there = reached.is_done or (each.until is not None and reached.has_diverged)
            if each.until is not None and each.until < each.run.plan.config.train.epochs:
                is_there = is_there or reached.has(each.until)
            if not is_there:
                text = "the launcher reports success, but the run's folder is not finished"
                self.failed[run_id] = outcome if outcome.code else Outcome(UNEXPECTED, text)

    def mark_pruned(self) -> None:
        """Write PRUNED into the folders of pruned runs. It is called while the journal is held."""
        for arm in self.arms.arms:
            for trial in self.journal.trials.get(arm.key, ()):
                if trial.state == "pruned":
                    folder = RunDir(self._check_run(arm, trial).run_dir)
                    reason = {"study": self.name, "trial": trial.number, "epoch": trial.n_epochs}
                    folder.write_pruned({**reason, "arm": self.arms.names[arm.key]})

    def list_runs(self) -> list[SweepRun]:
        """Return every run of the search with its role: see `tlcnn.records.search.ONLY_TRIED`."""
        runs: dict[str, SweepRun] = {}

        def add(sweep: Sweep, role: str, parents: str) -> None:
            for run in sweep.runs:
                runs[run.run_id] = replace(run, role=role if run.role == "cell" else parents)

        for arm in self.arms.arms:
            trials = self.journal.trials.get(arm.key, [])
            for trial in trials:
                add(self.plan(arm, trial.values, self.arms.seed), "trial", "parent of trials")
        for is_last in (False, True):  # a run with several roles has the last one
            for arm in self.arms.arms:
                finals = self.journal.finals.get(arm.key, [])
                for final in finals[-1:] if is_last else finals[:-1]:
                    values = self.journal.trials[arm.key][final.number].values
                    for seed in final.seeds:
                        sweep = self.plan(arm, values, seed)
                        if is_last:
                            add(sweep, "final", "parent")
                        else:
                            add(sweep, "earlier final", "parent of trials")
        return list(runs.values())

    def make_record(self) -> SearchRecord:
        """Return what the study's file holds. It is called while the journal is held."""
        names = self.arms.names
        return SearchRecord(
            study=self.name,
            method=str(self.options.method),
            seed=self.options.seed,
            batch=self.options.batch,
            prune=self.options.prune,
            budget=max((self.count_budget(arm) for arm in self.arms.arms if arm.space), default=1),
            tuning_seed=self.arms.seed,
            final_seeds=self.final_seeds,
            arms=tuple(self._make_arm_record(arm, names[arm.key]) for arm in self.arms.arms),
        )

    def _make_arm_record(self, arm: Arm, name: str) -> ArmRecord:
        finals = self.journal.finals.get(arm.key, [])
        last = finals[-1] if finals else None
        final = last.run_ids if last else ()
        trials = self.journal.trials.get(arm.key, [])
        chosen = trials[last.number].values if last else {}
        earlier = {run_id for each in finals[:-1] for run_id in each.run_ids} - {*final}
        return ArmRecord(
            key=arm.key,
            name=name,
            words=arm.label,
            space=tuple(arm.texts),
            metric=arm.plan.config.train.select,
            trials=tuple(trials),
            best=last.number if last else None,
            final=final,
            earlier=tuple(sorted(earlier)),
            at_end=tuple(
                s.key for s in arm.space if s.key in chosen and s.is_at_end(chosen[s.key])
            ),
        )
