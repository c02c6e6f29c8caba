"""The journal of a search: one line of JSON for each decision, which is made once.

`output_dir/studies/NAME.trials.jsonl` is only ever appended to, by one process at a time, so
several shells can work on one search, and a kill at any moment loses no decision.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tlcnn.errors import ConfigError, DataError
from tlcnn.records.files import read_json_lines
from tlcnn.records.parse import parse_record
from tlcnn.records.search import Trial
from tlcnn.storage import hold_lock, make_dir, open_to_append, writing

SUFFIX = ".trials.jsonl"


@dataclass(frozen=True)
class Final:
    """The choice of an arm: the number of its best trial, and the final runs, one a seed."""

    number: int
    seeds: tuple[int, ...]
    run_ids: tuple[str, ...]


@dataclass
class Journal:
    """What a search has decided so far; read and written while `hold` is entered.

    Attributes:
        trials: by arm, in the order of their numbers.
        finals: by arm, all choices; the last one stands.
    """

    path: Path
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    finals: dict[str, list[Final]] = field(default_factory=dict)

    @contextmanager
    def hold(self, definition: Mapping[str, Any]) -> Iterator[None]:
        """Let no other process decide meanwhile, and read what others have decided.

        Args:
            definition: what the search is; its first holder records it.

        Raises:
            ConfigError: the file is of another search.
            DataError, StorageError: it cannot be read or written.
        """
        make_dir(self.path.parent)
        lock = self.path.with_name(f".{self.path.name}.lock")
        with hold_lock(lock, on_wait=lambda: None, check_stop=lambda: None):
            self._read(definition)
            yield

    def _read(self, definition: Mapping[str, Any]) -> None:
        if self.path.is_file():
            with writing(self.path), open(self.path, "rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)  # a kill leaves half a line
        lines, _ = read_json_lines(self.path) if self.path.is_file() else ([], False)
        self.trials, self.finals = {}, {}
        if not lines:
            self._append({"search": definition})
            return
        current = json.loads(json.dumps(definition))
        try:
            last = [line["search"] for line in lines if "search" in line][-1]
            _check_definition(self.path, last, current)
            for line in lines:
                if "search" in line:
                    continue
                if "trial" in line:
                    self._note_trial(line["arm"], parse_record(Trial, line["trial"], "trial"))
                else:
                    final = parse_record(Final, line["final"], "final")
                    self.finals.setdefault(line["arm"], []).append(final)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise DataError(
                f"{self.path} is no journal of a search that this version can read ({error!r}): "
                "give the search another name (study=NAME); what is trained is not trained again"
            ) from error
        if last != current:  # it has more arms
            self._append({"search": current})

    def begin_trials(self, arm: str, trials: Sequence[Trial]) -> None:
        """Add trials to an arm."""
        self._append(*({"arm": arm, "trial": asdict(trial)} for trial in trials))
        for trial in trials:
            self._note_trial(arm, trial)

    def end_trial(self, arm: str, number: int, **changes: Any) -> None:
        """Record how a trial ended."""
        trial = replace(self.trials[arm][number], **changes)
        self._append({"arm": arm, "trial": asdict(trial)})
        self._note_trial(arm, trial)

    def choose(self, arm: str, final: Final) -> None:
        """Record the choice of an arm, unless it stands already."""
        finals = self.finals.setdefault(arm, [])
        if not finals or finals[-1] != final:
            self._append({"arm": arm, "final": asdict(final)})
            finals.append(final)

    def _note_trial(self, arm: str, trial: Trial) -> None:
        trials = self.trials.setdefault(arm, [])
        if trial.number < len(trials):
            trials[trial.number] = trial
        else:
            trials.append(trial)

    def _append(self, *values: Mapping[str, Any]) -> None:
        text = "".join(f"{json.dumps(value, ensure_ascii=False)}\n" for value in values)
        with writing(self.path), open_to_append(self.path) as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def _check_definition(path: Path, before: Any, current: Any) -> None:
    """Raise ConfigError unless a search that was begun as `before` can go on as `current`."""
    name = path.name.removesuffix(SUFFIX)
    changes = [
        f"{key} was {before.get(key)} and is {current.get(key)}"
        for key in {**before, **current}
        if key != "arms" and before.get(key) != current.get(key)
    ]
    missing = [arm for key, arm in before["arms"].items() if key not in current["arms"]]
    if not changes and missing:
        texts = {" ".join([*arm["words"], *arm["space"]]) for arm in current["arms"].values()}
        first = " ".join([*missing[0]["words"], *missing[0]["space"]])
        change = "its data or the device have changed" if first in texts else "it is missing now"
        changes = [f"it has the arm “{first}”, and {change}"]
    if changes:
        raise ConfigError(
            f"the search {name} was begun differently: {'; '.join(changes[:2])}. It can get more "
            "arms, trials and final seeds. For anything else, give it another name, study=NAME: "
            "what is trained already is not trained again"
        )
