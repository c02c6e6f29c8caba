"""Lists of overrides to jobs in waves: planned, told apart by identity, parents first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tlcnn.config.compose import Composer
from tlcnn.config.schema import Config
from tlcnn.errors import ConfigError, ImpossibleCell, TlcnnError
from tlcnn.memory import Memory
from tlcnn.plan.plan import Plan
from tlcnn.plan.reuse import make_source_key
from tlcnn.run.job import make_job_plan


@dataclass(frozen=True)
class Job:
    """A run of a sweep.

    Attributes:
        overrides: the words that mean it.
        role: `cell`, or `parent` for a run that only serves as the source of others.
        parent_id: id of the run that it starts from and that may have to be trained first.
        wave: 0 for what can be trained at once; else one more than its parent's.
        kind: what runs that take about as long have in common.
        precision: what `train.precision=auto` means where the sweep was planned.
        parent_dir: folder of that run.
        source_key: what runs share whose frozen units have outputs in common; None: nobody.
        n_frozen: units that are frozen.
    """

    overrides: tuple[str, ...]
    run_id: str
    run_name: str
    run_dir: Path
    role: str
    parent_id: str | None
    wave: int
    kind: dict[str, Any]
    precision: str = "auto"
    parent_dir: Path | None = None
    source_key: str | None = None
    n_frozen: int = 0

    @property
    def is_done(self) -> bool:
        """Whether its folder says so."""
        return (self.run_dir / "DONE").is_file()

    @property
    def parent_is_done(self) -> bool:
        """Whether the run that it starts from is finished."""
        return self.parent_dir is not None and (self.parent_dir / "DONE").is_file()


@dataclass(frozen=True)
class Broken:
    """A cell that cannot be planned, because its data or weights are missing or broken."""

    overrides: tuple[str, ...]
    code: int
    error: str


@dataclass(frozen=True)
class Sweep:
    """A resolved sweep.

    Attributes:
        jobs: every run once, parents before cells, in the order of the grid.
        left_out: overrides of cells that freeze more than they transfer, with the reason.
        n_same: cells that mean the same run as an earlier one.
        broken: cells that cannot be planned.
    """

    jobs: tuple[Job, ...]
    left_out: tuple[tuple[tuple[str, ...], str], ...]
    n_same: int
    broken: tuple[Broken, ...]

    def waves(self) -> list[list[Job]]:
        """Return the unfinished jobs by wave; parents are first in theirs."""
        waiting = [job for job in self.jobs if not job.is_done]
        numbers = sorted({job.wave for job in waiting})
        return [[job for job in waiting if job.wave == number] for number in numbers]


def resolve(cells: Sequence[Sequence[str]], composer: Composer) -> Sweep:
    """Plan every cell, and add the runs that chained cells start from.

    Raises:
        ConfigError: a cell has a value that is not allowed; nothing has been trained. A cell that
            freezes more than it transfers is left out instead.
    """
    memory = Memory()
    memory.recall("composer", "", lambda: composer)
    jobs: dict[str, Job] = {}
    left_out, broken, n_same = [], [], 0
    for cell in tqdm(cells, desc="planning", disable=None, leave=False, delay=2):
        overrides = tuple(cell)
        try:
            config = composer.compose(overrides)
            plan = make_job_plan(config, memory)
        except ImpossibleCell as error:
            left_out.append((overrides, str(error).splitlines()[0]))
        except ConfigError as error:
            raise type(error)(f"{_write_cell(overrides, cells)}: {error}") from error
        except TlcnnError as error:
            broken.append(Broken(overrides, error.exit_code, _describe(error)))
        else:
            n_same += jobs.get(plan.run_id, _NOBODY).role == "cell"
            _add(jobs, plan, overrides, config.ancestor)
    ordered = sorted(jobs.values(), key=lambda job: (job.wave, job.role == "cell"))
    return Sweep(tuple(ordered), tuple(left_out), n_same, tuple(broken))


_NOBODY = Job((), "", "", Path(), "", None, 0, {})


def _add(jobs: dict[str, Job], plan: Plan, overrides: tuple[str, ...], ancestor: int) -> None:
    """Add a cell, and before it the runs that it needs."""
    for job in reversed(_list_parents(plan, overrides, ancestor)):
        jobs.setdefault(job.run_id, job)
    known = jobs.get(plan.run_id)
    if known is None:
        jobs[plan.run_id] = _make_job(plan, overrides, "cell")
    elif known.role == "parent":  # asked for, too
        jobs[plan.run_id] = replace(known, role="cell", overrides=overrides)


def _list_parents(plan: Plan, overrides: tuple[str, ...], ancestor: int) -> list[Job]:
    """Return the runs before a job, nearest first; `ancestor` is how far back the job is."""
    words = [word for word in overrides if not word.startswith("ancestor=")]
    found = []
    parent, number = plan.parent, ancestor + 1
    while parent is not None:
        found.append(_make_job(parent, (*words, f"ancestor={number}"), "parent"))
        parent, number = parent.parent, number + 1
    return found


def _make_job(plan: Plan, overrides: tuple[str, ...], role: str) -> Job:
    return Job(
        overrides=overrides,
        run_id=plan.run_id,
        run_name=plan.run_name,
        run_dir=plan.run_dir,
        role=role,
        parent_id=plan.parent.run_id if plan.parent else None,
        wave=_count_waves(plan),
        kind=make_kind(plan.config, plan.treatment.j),
        precision=plan.precision,
        parent_dir=plan.parent.run_dir if plan.parent else None,
        source_key=make_source_key(plan),
        n_frozen=plan.treatment.j,
    )


def _count_waves(plan: Plan) -> int:
    if plan.parent is None or (plan.parent.run_dir / "DONE").is_file():
        return 0
    return 1 + _count_waves(plan.parent)


def make_kind(config: Config, j: int) -> dict[str, Any]:
    """Return what decides how long a run takes."""
    return {
        "dataset": config.dataset.name,
        "model": config.model.name,
        "image_size": config.dataset.image_size,
        "epochs": config.train.epochs,
        "j": j,
    }


def _write_cell(overrides: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return the words in which a cell differs from others."""
    told = set.intersection(*map(set, cells)) if len(cells) > 1 else set()
    return "in the cell " + " ".join(word for word in overrides if word not in told)


def _describe(error: TlcnnError) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
