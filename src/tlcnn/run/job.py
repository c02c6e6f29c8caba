"""A training that a sweep asks a launcher for, and how it ended."""

import json
import logging
import re
import sys
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tlcnn.config.compose import Composer
from tlcnn.config.schema import describe_type, list_keys
from tlcnn.errors import ConfigError, Stopped, TlcnnError
from tlcnn.memory import Memory
from tlcnn.text import VisibleFormatter

if TYPE_CHECKING:  # pandas: not for --help
    from tlcnn.plan.plan import Plan
    from tlcnn.training.turns import Turn

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
        names = ("overrides", "ancestor", "shared_depths", "place")
        return json.dumps({name: getattr(self, name) for name in names})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Return the job that `to_json` wrote."""
        value = json.loads(text)
        overrides, depths = tuple(value["overrides"]), tuple(value["shared_depths"])
        return cls(overrides, value["ancestor"], depths, value["place"])


@dataclass(frozen=True)
class Outcome:
    """How a training ended: exit code (0: done), error in words, and class such as `RunLocked`."""

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


BEFORE_START = Outcome(Stopped.exit_code, "stopped before it began to train", Stopped.__name__)


def run_job(job: Job, memory: Memory) -> Outcome:
    """Train what a job asks for, in this process, whose runs share `memory`."""
    from tlcnn.training.turns import finish

    return finish(run_job_in_turns(job, memory))


def run_job_in_turns(job: Job, memory: Memory) -> Generator["Turn", None, Outcome]:
    """Do what `run_job` does, turn after turn, so that several jobs can take turns."""
    from tlcnn.run.run import run_in_turns

    try:
        plan = job.plan or plan_job(job, memory)
        if plan is not None:
            config = replace(plan.config, **job.place)
            plan = replace(plan, config=config, shared_depths=job.shared_depths)
            yield from run_in_turns(plan, memory)
    except Exception as error:
        return explain_failure(error)
    return Outcome()


def plan_job(job: Job, memory: Memory) -> "Plan | None":
    """Return the plan of a job's run, or None where that run was finished since it was planned."""
    from tlcnn.plan.plan import make_plan

    composer: Composer = memory.recall("composer", "", Composer)
    plan: Plan | None = make_plan(composer.compose(job.overrides), memory)
    for _ in range(job.ancestor):
        plan = plan and plan.parent
    return plan


def explain_failure(error: Exception) -> Outcome:
    """Log an error and return it as an outcome; an error of Hydra is a ConfigError."""
    error = translate_error(error)
    name, code = type(error).__name__, UNEXPECTED
    if isinstance(error, TlcnnError):
        code = error.exit_code
        log.error("%s: %s", name, error)
    else:
        text = "unexpected, so perhaps a bug in tlcnn; please report it with this:"
        log.error(text, exc_info=error)
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    cause: BaseException | None = error
    while cause is not None and type(cause).__name__ != DEVICE_FAILURE:
        cause = cause.__cause__
    return Outcome(code, f"{name}: {first_line}", DEVICE_FAILURE if cause else name)


def translate_error(error: Exception) -> Exception:
    """Return an error of Hydra as a ConfigError, and any other as it is."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return ConfigError(_explain_hydra(error))
    return error


def _explain_hydra(error: BaseException) -> str:
    """Return what Hydra or OmegaConf rejected, without its own frames and repetitions."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    text = " ".join(" ".join(str(cause).split()) for cause in causes)
    wrong = re.search(r"Value '(.*)' of type .* full_key: (\S+)", text)
    if wrong and wrong[2] in list_keys():
        return f"{wrong[2]}={wrong[1]} is not allowed: it must be {describe_type(wrong[2])}."
    lines = [line for cause in causes[:2] for line in str(cause).splitlines()]
    shown = [line for line in lines if not line.strip().startswith(("object_type=", "reference_"))]
    return "\n".join(dict.fromkeys(shown)) + "\nSee: python -m tlcnn.train --help"


def log_to_stderr(level: int) -> None:
    """Send messages of tlcnn from a level on to stderr, control characters as escapes."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter("%(message)s"))
    handler.setLevel(level)
    log.handlers = [handler]
    log.setLevel(logging.DEBUG)
    log.propagate = False
