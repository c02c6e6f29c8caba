"""One training from its configuration or a launcher's job to its outcome."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tlcnn.config.compose import Composer
from tlcnn.config.schema import Config
from tlcnn.errors import Stopped, TlcnnError
from tlcnn.memory import Memory

if TYPE_CHECKING:  # pandas: not for --help
    from tlcnn.plan.plan import Plan

log = logging.getLogger("tlcnn")

UNEXPECTED = 70  # EX_SOFTWARE
DEVICE_FAILURE = "AcceleratorError"  # torch's: this process can no longer use the device


@dataclass(frozen=True)
class Job:
    """A training that a sweep asks a launcher for.

    Attributes:
        overrides: the `KEY=VALUE` words of a run, without sweeps.
        ancestor: 0 for that run; 1 for the run that it starts from, 2 for the one before, ...
        shared_depths: as in the run's plan.
        place: values of keys that are no part of a run's identity, such as `progress`.
        plan: the run's plan, in the process that made it; not part of the JSON.
    """

    overrides: tuple[str, ...]
    ancestor: int = 0
    shared_depths: tuple[int, ...] = ()
    place: Mapping[str, Any] = field(default_factory=dict)
    plan: "Plan | None" = field(default=None, compare=False, repr=False)

    def to_json(self) -> str:
        """Return the job as one line for another process."""
        return json.dumps(
            {
                "overrides": self.overrides,
                "ancestor": self.ancestor,
                "shared_depths": self.shared_depths,
                "place": dict(self.place),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Return the job that `to_json` wrote."""
        value = json.loads(text)
        words, depths = tuple(value["overrides"]), tuple(value["shared_depths"])
        return cls(words, value["ancestor"], depths, value["place"])


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        code: the exit code of its process; 0: it is done.
        error: the error in words, for people.
        kind: the name of the error's class, such as `RunLocked`.
    """

    code: int = 0
    error: str = ""
    kind: str = ""

    @property
    def was_stopped(self) -> bool:
        """Whether a signal ended it, so that no other run should begin."""
        return self.code == Stopped.exit_code

    def to_json(self) -> str:
        """Return the outcome as one line for another process."""
        return json.dumps(asdict(self))


def run_config(config: Config, memory: Memory) -> None:
    """Plan and train one configuration, or print its plan. Raises the run's errors."""
    from tlcnn.plan.plan import make_plan

    plan = make_plan(config, memory)
    if not config.dry_run:
        from tlcnn.run.run import run

        run(plan, memory)
        return
    from tlcnn.plan.describe import describe_plan
    from tlcnn.run.network import build_initial_network, has_weights

    if has_weights(plan):
        build_initial_network(plan, memory)  # weights that do not fit are refused now
    print(describe_plan(plan))


def run_job(job: Job, memory: Memory) -> Outcome:
    """Train what a job asks for, in this process.

    Args:
        job: the job.
        memory: what the runs of this process share; it holds their composer.
    """
    from tlcnn.run.run import run

    with watch_errors() as watched:
        plan = job.plan or plan_job(job, memory)
        if plan is not None:
            config = replace(plan.config, **job.place)
            run(replace(plan, config=config, shared_depths=job.shared_depths), memory)
    return watched.outcome


def plan_job(job: Job, memory: Memory) -> "Plan | None":
    """Return the plan of a job's run, or None where that run was finished since it was planned."""
    from tlcnn.plan.plan import make_plan

    composer: Composer = memory.recall("composer", "", Composer)
    plan: Plan | None = make_plan(composer.compose(job.overrides), memory)
    for _ in range(job.ancestor):
        plan = plan and plan.parent
    return plan


@dataclass
class Watched:
    """The outcome of work that `watch_errors` watches."""

    outcome: Outcome = field(default_factory=Outcome)


@contextmanager
def watch_errors() -> Iterator[Watched]:
    """Log an error of a run and note it as the outcome, instead of raising it."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    watched = Watched()
    try:
        yield watched
    except (HydraException, OmegaConfBaseException, BrokenPipeError):
        raise
    except Exception as error:
        code = error.exit_code if isinstance(error, TlcnnError) else UNEXPECTED
        if code == UNEXPECTED:
            log.exception("unexpected, so perhaps a bug in tlcnn; please report it with this:")
        else:
            log.error("%s: %s", type(error).__name__, error)
        lines = str(error).strip().splitlines()
        text = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        watched.outcome = Outcome(code, text, _find_kind(error))


def _find_kind(error: BaseException) -> str:
    """Return the class of an error, or DEVICE_FAILURE where the device caused it."""
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ == DEVICE_FAILURE:
            return DEVICE_FAILURE
        cause = cause.__cause__
    return type(error).__name__


def log_to_stderr(level: int) -> None:
    """Send messages of tlcnn from a level on to stderr, as they are."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(level)
    log.handlers = [handler]
    log.setLevel(logging.DEBUG)
    log.propagate = False
