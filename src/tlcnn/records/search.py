"""What a search of settings has tried, chosen and trained again, as its study records it.

The study's file, `output_dir/studies/NAME.json`, holds a `SearchRecord` under `search`. Runs that
a search trained only to choose among them are no result: `find_roles` tells them from the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlcnn.errors import DataError
from tlcnn.records.files import read_json
from tlcnn.records.parse import parse_record


@dataclass(frozen=True)
class Trial:
    """One trial of an arm: a run with one combination of the searched settings.

    Attributes:
        number: from 0, in its arm.
        values: the searched settings.
        state: open, done, pruned (given up after `n_epochs`), or diverged.
        score: of the metric on validation at the best epoch so far, which is `epoch`; higher is
            better, so that of a metric such as nll has its sign changed. None if it has none.
        tie: what breaks a tie; higher is better.
        n_epochs: how many epochs were trained.
        curve: the scores at the epochs at which trials can be pruned, by epoch.
        before: ids of its run and of those it starts from that were done before the search.
    """

    number: int
    values: Mapping[str, Any]
    run_id: str
    state: str = "open"
    score: float | None = None
    tie: float | None = None
    epoch: int | None = None
    n_epochs: int | None = None
    curve: Mapping[str, Any] | None = None
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArmRecord:
    """One arm: a cell whose training settings were searched.

    Attributes:
        key: the id of its cell, with the settings that its words alone give.
        name: the words that tell it from the other arms.
        words: all words of the command line that it has, without seed and places.
        space: the searched settings with their ranges, as words.
        metric: the metric on validation that chooses, such as balanced_accuracy.
        best: the number of the chosen trial; None before the last trial has ended.
        final: ids of the runs that stand for the arm, one a final seed.
        earlier: ids of runs that stood for it before the search was extended.
        at_end: settings whose chosen value is at an end of its range.
    """

    key: str
    name: str
    words: tuple[str, ...]
    space: tuple[str, ...]
    metric: str
    trials: tuple[Trial, ...] = ()
    best: int | None = None
    final: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    at_end: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The searched settings."""
        return tuple(word.partition("=")[0] for word in self.space)

    @property
    def chosen(self) -> Trial | None:
        """The trial that validation chose."""
        return next((trial for trial in self.trials if trial.number == self.best), None)


@dataclass(frozen=True)
class SearchRecord:
    """A search.

    Attributes:
        study: the name of its study.
        budget: trials of each arm.
        tuning_seed: the seed of all trials.
        final_seeds: the seeds of the chosen recipe's runs.
    """

    study: str
    method: str
    seed: int
    batch: int
    prune: str
    budget: int
    tuning_seed: int
    final_seeds: tuple[int, ...]
    arms: tuple[ArmRecord, ...]


# The roles of runs that a search trained only to choose among them, and which are no results. Its
# other roles are `final`, and `parent` for a run that final runs start from.
TRIAL_ROLES = ("trial", "earlier final", "parent of trials")


@dataclass(frozen=True)
class SearchedArm:
    """An arm of a search, as what a run is part of."""

    search: SearchRecord
    arm: ArmRecord

    @property
    def name(self) -> tuple[str, str]:
        """What tells it from other arms."""
        return self.search.study, self.arm.key


def read_search(record: Mapping[str, Any]) -> SearchRecord | None:
    """Return the search of a study's record; None for a study that is none. Raises DataError."""
    if "search" not in record:
        return None
    return parse_record(SearchRecord, record["search"], "search")


@dataclass(frozen=True)
class Roles:
    """What the runs of some folders are in the searches there.

    Attributes:
        finals: by run id, the arms that a run is a final run of.
        trials: ids of runs that were trained to choose among them, and no result.
        cells: ids of runs that are cells of studies that are no search.
        problems: why a study could not be read, or not whole, by its file.
    """

    finals: Mapping[str, tuple[SearchedArm, ...]]
    trials: frozenset[str]
    cells: frozenset[str]
    problems: Mapping[Path, str]


def find_roles(output_dir: Path) -> Roles:
    """Return the roles of the runs of an output folder; trials stay trials in a damaged search.

    A trial that is a cell of another study, which is no search, counts as that, and one that was
    done before the search is no trial.
    """
    finals: dict[str, tuple[SearchedArm, ...]] = {}
    trials, chosen, cells = set[str](), set[str](), set[str]()
    problems: dict[Path, str] = {}
    for path in sorted((output_dir / "studies").glob("*.json")):
        try:
            record = read_json(path)
            runs = {str(run["run_id"]): str(run["role"]) for run in record["runs"]}
        except (DataError, KeyError, TypeError) as error:
            problems[path] = f"this study cannot be read, nor which runs are trials ({error})"
            continue
        cells |= {run_id for run_id, role in runs.items() if role == "cell"}
        tried = {run_id for run_id, role in runs.items() if role in TRIAL_ROLES}
        chosen |= {run_id for run_id, role in runs.items() if role == "final"}
        try:
            search = read_search(record)
        except DataError as error:
            problems[path] = (
                f"this search cannot be read, so its final runs are ordinary ({error})"
            )
            search = None
        if search is not None:
            for arm in search.arms:
                tried -= {run_id for trial in arm.trials for run_id in trial.before}
                for run_id in arm.final:
                    finals[run_id] = (*finals.get(run_id, ()), SearchedArm(search, arm))
        trials |= tried
    trials -= {*cells, *chosen, *finals}
    return Roles(finals, frozenset(trials), frozenset(cells), problems)
