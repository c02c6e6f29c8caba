"""The cells of a sweep as runs in waves: planned, each run once, parents first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from tlcnn.config.compose import Composer
from tlcnn.errors import ConfigError, ImpossibleCell, TlcnnError
from tlcnn.memory import Memory
from tlcnn.plan.plan import Plan
from tlcnn.plan.reuse import make_source_key
from tlcnn.records.files import DONE
from tlcnn.run.job import Job, Outcome, plan_job
from tlcnn.text import count, first_line


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep.

    Attributes:
        job: the words that mean it; with `ancestor`, those of a run that starts from it.
        plan: its plan.
        role: `cell`, or `parent` for a run that only serves as the source of others.
        wave: 0 for what can be trained at once; else one more than its parent's.
    """

    job: Job
    plan: Plan
    role: str
    wave: int

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.plan.run_id

    @property
    def run_dir(self) -> Path:
        """Its folder."""
        return self.plan.run_dir

    @property
    def is_done(self) -> bool:
        """Whether it is finished, which its folder records."""
        return (self.run_dir / DONE).is_file()

    @cached_property
    def source_key(self) -> str | None:
        """A key that is equal for runs whose frozen units compute the same outputs.

        None if nothing is stored.
        """
        return make_source_key(self.plan)


_REMEDIES = {  # why cells are left out -> what to do
    ImpossibleCell.why: " (freeze.allow_random=true trains them, as a control)",
}


class LeftOut(NamedTuple):
    """The overrides of a cell that cannot be, its error, and why in a few words."""

    overrides: tuple[str, ...]
    error: str
    why: str


@dataclass(frozen=True)
class Sweep:
    """A resolved sweep.

    Attributes:
        cells: the overrides of every cell, in the order of the grid.
        runs: every run once, parents before cells, in the order of the grid.
        left_out: cells that cannot be, such as those that freeze more than they transfer.
        n_same: the cells that mean the same run as an earlier one.
        broken: the overrides of cells whose data or weights are missing or broken, with the error.
    """

    cells: tuple[tuple[str, ...], ...]
    runs: tuple[SweepRun, ...]
    left_out: tuple[LeftOut, ...] = ()
    n_same: int = 0
    broken: tuple[tuple[tuple[str, ...], Outcome], ...] = ()

    def waves(self) -> list[list[SweepRun]]:
        """Return the unfinished runs by wave; parents are first in theirs."""
        waiting = [run for run in self.runs if not run.is_done]
        numbers = sorted({run.wave for run in waiting})
        return [[run for run in waiting if run.wave == number] for number in numbers]


def resolve(cells: Sequence[Job], composer: Composer, memory: Memory | None = None) -> Sweep:
    """Plan every cell, and add the runs that chained cells start from.

    Raises:
        ConfigError: a cell has a value that is not allowed; nothing has been trained. A cell that
            freezes more than it transfers is left out instead.
    """
    memory = memory or Memory()
    memory.recall("composer", "", lambda: composer)
    overrides = tuple(cell.overrides for cell in cells)
    runs: dict[str, SweepRun] = {}
    left_out, broken, n_same = [], [], 0
    for cell in tqdm(cells, desc="planning", disable=None, leave=False, delay=2):
        try:
            plan = plan_job(cell, memory)
        except ImpossibleCell as error:
            left_out.append(LeftOut(cell.overrides, first_line(error), error.why))
        except ConfigError as error:
            shared = find_shared_words(overrides) if len(cells) > 1 else set()
            differing = [word for word in cell.overrides if word not in shared]
            raise type(error)(f"in the combination {' '.join(differing)}: {error}") from error
        except TlcnnError as error:
            kind = type(error).__name__
            outcome = Outcome(error.exit_code, f"{kind}: {first_line(error)}", kind)
            broken.append((cell.overrides, outcome))
        else:
            if plan is not None:
                n_same += plan.run_id in runs and runs[plan.run_id].role == "cell"
                _add_cell(runs, plan, cell)
    ordered = sorted(runs.values(), key=lambda run: (run.wave, run.role == "cell"))
    return Sweep(overrides, tuple(ordered), tuple(left_out), n_same, tuple(broken))


def count_left_out(left_out: Sequence[LeftOut]) -> dict[str, list[LeftOut]]:
    """Return a line for each reason, and the cells that it leaves out."""
    reasons: dict[str, list[LeftOut]] = {}
    for each in left_out:
        reasons.setdefault(each.why, []).append(each)
    return {
        f"  left out, because {why}: {count(len(cells), 'combination')}"
        f"{_REMEDIES.get(why, '')}": cells
        for why, cells in reasons.items()
    }


def find_shared_words(cells: Sequence[tuple[str, ...]]) -> set[str]:
    """Return the overrides that all cells have, so that they do not tell one from another."""
    return set.intersection(*map(set, cells))


def _add_cell(runs: dict[str, SweepRun], plan: Plan, cell: Job) -> None:
    """Add a cell's run, and before it the runs that it starts from."""
    lineage = [plan]
    while lineage[-1].parent is not None:
        lineage.append(lineage[-1].parent)
    wave = 0
    for distance, each in reversed([*enumerate(lineage)]):
        job = replace(cell, ancestor=cell.ancestor + distance)
        run = SweepRun(job, each, "parent" if distance else "cell", wave)
        if each.run_id not in runs or (not distance and runs[each.run_id].role == "parent"):
            runs[each.run_id] = run
        wave = 0 if run.is_done else wave + 1
