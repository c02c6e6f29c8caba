"""`python -m tlcnn.train`: Hydra composes, `make_plan` resolves, `run` trains.

Exit codes: 0 done, 1 wrong configuration, 2 data or weights refused, 3 diverged, 73 held by
another process or a folder that cannot be made, 74 disk, 75 stopped by a signal (run the same
command again), 70 an unexpected error.
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
from tlcnn.run.job import Outcome, log_to_stderr, run_config, watch_errors

log = logging.getLogger("tlcnn")


def main(arguments: list[str] | None = None) -> int:
    """Run one command line in this process and return its exit code.

    In a sweep a failing run does not stop the others; a signal does.

    Args:
        arguments: the words of the command line; None: those of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    codes = [0]

    def task(cfg: DictConfig) -> Outcome:
        config: Any = OmegaConf.to_object(cfg)
        memory = Memory()
        memory.recall("composer", "", lambda: Composer(list_flags(arguments)))
        with watch_errors() as watched:
            run_config(config, memory)
        codes.append(watched.outcome.code)
        return watched.outcome  # Hydra's own launchers return it

    log_to_stderr(logging.INFO)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    try:
        check_overrides(arguments, find_conf_dir())
        register_schema()
        sys.argv = [sys.argv[0], *spell(arguments)]
        options = {"config_path": str(find_conf_dir()), "config_name": "config"}
        hydra.main(**options, **make_hydra_options())(task)()
        return codes[-1]
    except (HydraException, OmegaConfBaseException) as error:
        log.error("ConfigError: %s", _explain(error))
        return ConfigError.exit_code
    except TlcnnError as error:
        log.error("%s: %s", type(error).__name__, error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("interrupted")
        return 130
    except BrokenPipeError:  # the reader of a plan has seen enough
        return 0


def _explain(error: BaseException) -> str:
    """Return what Hydra or OmegaConf rejected, without its own frames and repetitions."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    text = " ".join(" ".join(str(cause).split()) for cause in causes)
    wrong = re.search(r"Value '(.*)' of type .* full_key: (\S+)", text)
    if wrong and wrong[2] in list_keys():
        return f"{wrong[2]}={wrong[1]} is not allowed: it must be {describe_type(wrong[2])}."
    lines = str(error).splitlines()
    if isinstance(error.__cause__, OmegaConfBaseException):
        lines += str(error.__cause__).splitlines()
    shown = [line for line in lines if not line.strip().startswith(("object_type=", "reference_"))]
    return "\n".join(dict.fromkeys(shown)) + "\nSee: python -m tlcnn.train --help"


if __name__ == "__main__":
    sys.exit(main())
