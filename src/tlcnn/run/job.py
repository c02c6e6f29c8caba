"""One run from its command line or configuration, and how it ended; what every launcher calls."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tlcnn.config.compose import Composer
from tlcnn.config.schema import Config
from tlcnn.errors import ConfigError, Stopped, TlcnnError
from tlcnn.memory import Memory

log = logging.getLogger("tlcnn")

UNEXPECTED = 70  # EX_SOFTWARE


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the exit code of its process, and its error's first line."""

    code: int = 0
    error: str = ""

    @property
    def was_stopped(self) -> bool:
        """Whether a signal ended it, so that no other run should begin."""
        return self.code == Stopped.exit_code


def run_config(config: Config, memory: Memory) -> None:
    """Plan and train one configuration, or print its plan; raises the run's errors."""
    plan = make_job_plan(config, memory)
    if config.dry_run:
        from tlcnn.plan.describe import describe_plan
        from tlcnn.run.network import build_initial_network, has_weights

        if has_weights(plan):
            build_initial_network(plan, memory)  # so that weights that do not fit are found now
        print(describe_plan(plan))
        return
    from tlcnn.run.run import run

    run(plan, memory)


def make_job_plan(config: Config, memory: Memory) -> Any:
    """Return the plan of a configuration, or of the ancestor that it asks for.

    Raises:
        ConfigError: `ancestor` goes back further than there are runs to be trained.
    """
    from tlcnn.plan.plan import make_plan  # pandas: not for --help

    plan = make_plan(config, memory)
    for number in range(1, config.ancestor + 1):
        if plan.parent is None:
            raise ConfigError(
                f"ancestor={config.ancestor}: this run starts from {number - 1} runs that can be "
                "trained (init=task, init=self, or init=run of an unfinished run)."
            )
        plan = plan.parent
    return plan


def run_job(overrides: Sequence[str], memory: Memory) -> Outcome:
    """Train the run that these overrides mean, in this process.

    Args:
        overrides: `KEY=VALUE` words without sweeps.
        memory: shared by the runs of this process; it holds their composer.
    """
    composer: Composer = memory.recall("composer", "", Composer)
    return watch(lambda: run_config(composer.compose(overrides), memory))


def watch(work: Callable[[], None]) -> Outcome:
    """Do some work, tell the log of its error, and return how it ended."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        work()
    except TlcnnError as error:
        log.error("%s: %s", type(error).__name__, error)
        return Outcome(error.exit_code, f"{type(error).__name__}: {_first_line(error)}")
    except (HydraException, OmegaConfBaseException, BrokenPipeError):
        raise
    except Exception as error:
        log.exception("unexpected, so perhaps a bug in tlcnn; please report it with this:")
        return Outcome(UNEXPECTED, f"{type(error).__name__}: {_first_line(error)}")
    return Outcome()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
