"""`tlcnn.plan` and `tlcnn.train`: one run from Python, with the words of the command line."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlcnn.config.compose import Composer, compose_config
from tlcnn.config.schema import is_each
from tlcnn.config.spelling import quote_text
from tlcnn.errors import ConfigError
from tlcnn.plan.plan import Plan, make_plan
from tlcnn.records.read import read_runs
from tlcnn.run.job import translate_error
from tlcnn.run.run import run

if TYPE_CHECKING:
    import pandas as pd


_ONE_RUN = (
    "tlcnn.train and tlcnn.plan are for one run. Call them in a loop, as in [tlcnn.train("
    "[..., f'seed={seed}']) for seed in range(3)], or use python -m tlcnn.train -m"
)


def check_one_run(words: Sequence[str], advice: str) -> None:
    """Raise ConfigError, which ends with the advice, where words mean several runs."""
    composer = Composer()
    for word in words:
        is_several = word in ("-m", "--multirun") or word.lstrip("+").startswith("experiment=")
        is_value = "=" in word and not word.startswith("-")
        if (
            is_several
            or is_each(word)
            or (is_value and composer.parse(quote_text(word)).is_sweep_override())
        ):
            raise ConfigError(f"{word} is several runs, and {advice}")


def plan(overrides: str | Sequence[str] = ()) -> Plan:
    """Return what a run would do, without doing it: units, images, steps, id and folder.

    `tlcnn.describe_plan` writes it as text.

    Args:
        overrides: the words of `python -m tlcnn.train`, such as `["dataset=synthetic", "seed=1"]`,
            or one text of them.

    Raises:
        ConfigError: a key, value or combination that is not allowed, or more than one run.
        DataError, WeightsError: images or weights that are missing or refused.
    """
    words = shlex.split(overrides) if isinstance(overrides, str) else list(overrides)
    try:
        check_one_run(words, _ONE_RUN)
        return make_plan(compose_config(words))
    except Exception as error:
        translated = translate_error(error)
        if translated is error:
            raise
        raise translated from error


def train(overrides: str | Sequence[str] = ()) -> "pd.Series":
    """Train one run, or continue it, and return its row of `read_runs`.

    A finished run returns at once. An interruption, such as that of a notebook, saves the run
    and raises Stopped; the same call goes on.

    Args:
        overrides: as in `plan`.

    Returns:
        Folder, id, dataset, model, and every metric, such as `test/balanced_accuracy`.

    Raises:
        Stopped: an interruption came.
        ConfigError, DataError, WeightsError, Diverged, StorageError: see `tlcnn.errors`.
    """
    one_run = plan(overrides)
    if one_run.config.dry_run:
        raise ConfigError("dry_run=true trains nothing: call tlcnn.plan with the other words")
    run(one_run)
    return read_runs(one_run.run_dir).iloc[0].rename(one_run.run_id)
