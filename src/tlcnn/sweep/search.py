"""A search of settings of training: its state, and the runs that it consists of.

words -> arms -> trials in batches -> ordinary runs, wave by wave -> the best trial of each arm
-> its settings trained again with fresh seeds: the final runs, which alone stand for the arm

The next runs are decided in `decide.py` and trained in `drive_search.py`.

- A trial is an ordinary run, with an ordinary id: what is trained already is not trained again.
- What was decided (which trials there are, how each ended, what was chosen) is in a journal,
  which one process at a time appends to. The progress of a trial is read from its run folder.
  So a search has no state in memory: a kill loses nothing, and several shells share the work.
- A batch of an arm is proposed from the results of the batches before it alone. Pruning pauses
  the runs of a batch at an epoch (`until_epoch`) and compares them once all are there. Neither
  depends on which run ended first.
- All trials have one seed, the final runs have the seeds after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from tlcnn.config.compose import Composer
from tlcnn.errors import ConfigError
from tlcnn.memory import Memory
from tlcnn.records.folder import RunDir
from tlcnn.records.search import ArmRecord, SearchRecord, Trial
from tlcnn.run.job import Outcome
from tlcnn.sweep.arms import Arm, Arms
from tlcnn.sweep.journal import Journal
from tlcnn.sweep.options import SearchOptions
from tlcnn.sweep.propose import propose
from tlcnn.sweep.resolve import Sweep, SweepRun, resolve
from tlcnn.sweep.space import list_points
from tlcnn.sweep.trials import list_rungs


def make_definition(arms: Arms, options: SearchOptions) -> dict[str, object]:
    """Return what tells a search from others; it may have more trials and final seeds later."""
    names = ("method", "seed", "batch", "prune")
    return {
        "version": 1,
        **{name: getattr(options, name) for name in names},
        "tuning_seed": arms.seed,
        "arms": {
            arm.key: {"words": [*arm.label], "space": arm.texts}
            for arm in sorted(arms.arms, key=lambda arm: arm.key)
        },
    }


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
        """What tells this search from others."""
        return make_definition(self.arms, self.options)

    def plan(self, arm: Arm, values: Mapping[str, str], seed: int) -> Sweep:
        """Return the run of a combination, and the runs that it starts from, planned once.

        Raises ConfigError for values that no run can have.
        """
        job = arm.make_job(values, seed)
        key = job.to_json()
        if key not in self._plans:
            sweep = resolve([job], self.composer, self.memory)
            if not any(run.role == "cell" for run in sweep.runs):
                reasons = [o.error for _, o in sweep.broken] + [
                    each.error for each in sweep.left_out
                ]
                raise ConfigError(f"{' '.join(job.overrides)} cannot be run: {reasons[0]}")
            self._plans[key] = sweep
        return self._plans[key]

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

    def propose(self, arm: Arm, history: Sequence[Trial]) -> list[dict[str, str]]:
        """Return the values of the batch that follows these trials."""
        return propose(
            arm.space,
            str(self.options.method),
            history,
            seed=self.options.seed,
            n=self.options.batch,
            is_active=arm.is_active,
            find_run_id=lambda values: self.find_run(arm, values, self.arms.seed).run_id,
        )

    def find_run(self, arm: Arm, values: Mapping[str, str], seed: int) -> SweepRun:
        """Return the run of a combination alone."""
        runs = self.plan(arm, values, seed).runs
        return next(run for run in runs if run.role == "cell")

    def find_trial_run(self, arm: Arm, trial: Trial) -> SweepRun:
        """Return a trial's run. Raises ConfigError where its values mean another run by now."""
        run = self.find_run(arm, trial.values, self.arms.seed)
        if run.run_id != trial.run_id:
            raise ConfigError(
                f"trial {trial.number} of {self.arms.names[arm.key]} was the run {trial.run_id} "
                f"and is {run.run_id} now, because the data or the device have changed. Give the "
                "search another name: study=NAME"
            )
        return run

    def mark_pruned(self) -> None:
        """Write PRUNED into the folders of pruned runs. It is called while the journal is held."""
        for arm in self.arms.arms:
            for trial in self.journal.trials.get(arm.key, ()):
                if trial.state == "pruned":
                    folder = RunDir(self.find_trial_run(arm, trial).run_dir)
                    reason = {"study": self.name, "trial": trial.number, "epoch": trial.n_epochs}
                    folder.write_pruned({**reason, "arm": self.arms.names[arm.key]})

    def list_rungs(self, arm: Arm) -> list[int]:
        """Return the epochs at which trials of an arm may be given up."""
        return list_rungs(arm.plan.config.train.epochs, self.options.prune)

    def list_runs(self) -> list[SweepRun]:
        """Return every run of the search with its role: see `tlcnn.records.search.TRIAL_ROLES`."""
        roles: dict[str, list[tuple[Arm, int, tuple[int, ...]]]] = {
            "trial": [],
            "earlier final": [],
            "final": [],
        }
        for arm in self.arms.arms:
            trials = self.journal.trials.get(arm.key, [])
            finals = self.journal.finals.get(arm.key, [])
            roles["trial"] += [(arm, trial.number, (self.arms.seed,)) for trial in trials]
            roles["earlier final"] += [(arm, each.number, each.seeds) for each in finals[:-1]]
            roles["final"] += [(arm, each.number, each.seeds) for each in finals[-1:]]
        runs: dict[str, SweepRun] = {}
        for role, entries in roles.items():  # a run with several roles has the last one
            parents = "parent" if role == "final" else "parent of trials"
            for arm, number, seeds in entries:
                values = self.journal.trials[arm.key][number].values
                for run in chain.from_iterable(self.plan(arm, values, s).runs for s in seeds):
                    runs[run.run_id] = replace(run, role=role if run.role == "cell" else parents)
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
