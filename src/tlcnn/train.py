"""`python -m tlcnn.train`: Hydra composes, `make_plan` resolves, `run` trains.

Exit codes: 0 done, 1 wrong configuration, 2 data or weights refused, 3 diverged, 73 held by
another process or a folder that cannot be made, 74 disk, 75 stopped by a signal (run the same
command again), 70 anything that nobody expected.
"""

import logging
import os
import re
import sys
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tlcnn.config.compose import Composer, make_hydra_options, register_schema
from tlcnn.config.overrides import check_overrides, list_flags, spell
from tlcnn.config.schema import describe_type, find_conf_dir, list_keys
from tlcnn.errors import ConfigError, TlcnnError
from tlcnn.memory import Memory
from tlcnn.run.job import Outcome, run_config, watch

log = logging.getLogger("tlcnn")


def main() -> None:
    """Run what the command line says and exit with a code that tells how it went."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line in this process and return its exit code.

    In a sweep a failing run does not stop the others; a signal does.
    """
    _speak()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors reach us, and their words are ours
    try:
        check_overrides(arguments, find_conf_dir())
        return _compose_and_run(arguments)
    except TlcnnError as error:
        return _report(error)
    except (HydraException, OmegaConfBaseException) as error:
        return _report(ConfigError(_explain(error)))
    except KeyboardInterrupt:
        log.error("interrupted")
        return 130
    except BrokenPipeError:  # the reader of a plan has seen enough
        return 0


def _report(error: TlcnnError) -> int:
    log.error("%s: %s", type(error).__name__, error)
    return error.exit_code


def _speak() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(logging.INFO)
    log.handlers = [handler]
    log.setLevel(logging.DEBUG)
    log.propagate = False


def _compose_and_run(arguments: list[str]) -> int:
    """Let Hydra compose and run one configuration, or hand a sweep to our sweeper."""
    codes = [0]

    def task(cfg: DictConfig) -> Outcome:
        config: Any = OmegaConf.to_object(cfg)
        memory = Memory()
        memory.recall("composer", "", lambda: Composer(list_flags(arguments)))
        outcome = watch(lambda: run_config(config, memory))
        codes.append(outcome.code)
        return outcome  # for Hydra's own launchers

    register_schema()
    options = {"config_path": str(find_conf_dir()), "config_name": "config"}
    sys.argv = [sys.argv[0], *spell(arguments)]
    hydra.main(**options, **make_hydra_options())(task)()
    return codes[-1]


def _all_text(error: BaseException) -> list[str]:
    cause = error.__cause__
    return str(error).split() + (_all_text(cause) if cause else [])


def _explain(error: Exception) -> str:
    """Return what Hydra or OmegaConf found wrong, without its own frames and repetitions."""
    lines = str(error).splitlines()
    wrong = re.search(r"Value '(.*)' of type .* full_key: (\S+)", " ".join(_all_text(error)))
    if wrong and wrong[2] in list_keys():
        return f"{wrong[2]}={wrong[1]} is not allowed: it must be {describe_type(wrong[2])}."
    if isinstance(error.__cause__, OmegaConfBaseException):
        lines += str(error.__cause__).splitlines()
    kept = [line for line in lines if not line.strip().startswith(("object_type=", "reference_"))]
    return "\n".join(dict.fromkeys(kept)) + "\nSee: python -m tlcnn.train --help"


if __name__ == "__main__":
    main()
