"""`python -m tlcnn.train`: Hydra composes, `make_plan` resolves, `run` trains.

Exit codes: 0 done, 1 wrong configuration, 2 data or weights refused, 3 diverged, 73 held by
another process or a folder that cannot be made, 74 disk, 75 stopped by a signal (run the same
command again), 70 an unexpected error.
"""

import logging
import os
import sys

import hydra
from omegaconf import DictConfig

from tlcnn import FunctionModule
from tlcnn.config.compose import make_config, make_hydra_options, make_memory, register_schema
from tlcnn.config.overrides import check_overrides
from tlcnn.config.schema import find_conf_dir
from tlcnn.config.spelling import list_flags, spell
from tlcnn.run.job import Outcome, explain_failure, log_to_stderr
from tlcnn.text import print_text

sys.modules[__name__].__class__ = FunctionModule  # tlcnn.train([...]) is tlcnn.run.start.train


def main(arguments: list[str] | None = None) -> int:
    """Run one command line in this process and return its exit code.

    In a sweep a failing run does not stop the others; a signal does.

    Args:
        arguments: the words of the command line; None: those of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    codes = [0]

    def task(config_node: DictConfig) -> Outcome:
        from tlcnn.plan.plan import make_plan  # pandas: not for --help

        outcome = Outcome()
        try:
            cfg = make_config(config_node)
            memory = make_memory(list_flags(arguments))
            plan = make_plan(cfg, memory)
            if cfg.dry_run:
                from tlcnn.plan.describe import describe_plan
                from tlcnn.run.network import build_initial_network, has_weights
                from tlcnn.sweep.duration import describe_time

                if has_weights(plan):
                    build_initial_network(plan, memory)  # weights that do not fit are refused now
                if hint := plan.dataset.index.hint:
                    logging.getLogger(__name__).warning("%s", hint)
                print_text(describe_plan(plan))
                print_text(describe_time(plan))
            else:
                from tlcnn.run.run import run

                run(plan, memory)
        except BrokenPipeError:
            raise
        except Exception as error:
            outcome = explain_failure(error)
        codes.append(outcome.code)
        return outcome  # Hydra's own launchers return it

    log_to_stderr(logging.INFO)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    try:
        check_overrides(arguments, find_conf_dir())
        register_schema()
        sys.argv = [sys.argv[0], *spell(arguments)]
        options = {"config_path": str(find_conf_dir()), "config_name": "config"}
        hydra.main(**options, **make_hydra_options())(task)()
        return codes[-1]
    except KeyboardInterrupt:
        logging.getLogger("tlcnn").error("interrupted")
        return 130
    except BrokenPipeError:  # the reader of a plan has seen enough
        return 0
    except Exception as error:
        return explain_failure(error).code


if __name__ == "__main__":
    sys.exit(main())
