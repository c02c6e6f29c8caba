"""`tlcnn train`: the same program as `python -m tlcnn.train`, whose words Hydra reads."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from tlcnn.config.schema import find_conf_dir, list_keys
from tlcnn.config.spelling import GROUPS


def add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser, for the list of commands and for completion.

    `tlcnn.cli.main` gives its words to `run_train` before they are parsed here.
    """
    parser = commands.add_parser(
        "train", help="train a run or a sweep: the same as python -m tlcnn.train", add_help=False
    )
    action: Any = parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    action.completer = lambda prefix, **_: list_overrides(prefix)  # of argcomplete


def run_train(arguments: Sequence[str]) -> None:
    """Train what the arguments say, and exit with the code of `tlcnn.train`."""
    from tlcnn.train import main

    sys.argv[0] = "tlcnn-train"  # which is the same program: records have it
    sys.exit(main(list(arguments)))


def list_overrides(prefix: str) -> list[str]:
    """Return the words that a word of a command line may become: keys, then options of a group.

    Example:
        >>> list_overrides("model=resnet1"), list_overrides("train.lr")
        (['model=resnet10t', 'model=resnet18'], ['train.lr='])
    """
    group, has_value, _ = prefix.partition("=")
    if has_value and group in GROUPS:
        files = sorted((find_conf_dir() / group).glob("*.yaml"))
        choices = [f"{group}={path.stem}" for path in files]
    else:
        choices = [f"{key}=" for key in (*GROUPS, *list_keys())]
    return [word for word in choices if word.startswith(prefix)]
