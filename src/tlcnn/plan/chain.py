"""The configuration of the run whose weights another run starts from.

init=task   this model and recipe on another dataset, from random or pretrained weights
init=self   this very dataset and recipe from random weights, by default of the next seed
init=run    whatever the folder of an unfinished run says
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tlcnn.config.compose import Composer, write_override
from tlcnn.config.schema import Config, DatasetCfg, FreezeCfg, InitCfg
from tlcnn.errors import ConfigError, DataError, WeightsError, did_you_mean, list_names
from tlcnn.memory import Memory
from tlcnn.records.config import read_config

PLANNED = ("task", "self")  # sources that are a run which is known before it is trained
PLACES = (  # where and how a run is trained: as of the command, not of an earlier one
    *("device", "threads", "workers", "cache_dir", "eval_batch_size"),
    *("checkpoint_every_s", "on_locked", "progress"),
    *("reuse", "reuse_disk_gib", "reuse_memory_gib", "reuse_for"),
)
SEEN_ALIKE = ("image_size", "fit", "normalize")  # in a source's dataset as in the run's own


def make_parent_config(cfg: Config, memory: Memory) -> Config:
    """Return the configuration of the run that `init=task` or `init=self` starts from.

    Raises:
        ConfigError: `init.task` names no dataset, or `init.task_dataset` has unknown keys.
    """
    init = cfg.init
    if init.source == "self":
        seed = cfg.seed + 1 if init.self_seed is None else init.self_seed
        return replace(cfg, init=InitCfg(), freeze=FreezeCfg(), seed=seed, ancestor=0)
    weights = init.weights if init.parent == "imagenet" else None
    return replace(
        cfg,
        dataset=_make_task_dataset(cfg, memory),
        init=InitCfg(source=init.parent, weights=weights, allow_unchecked=init.allow_unchecked),
        freeze=FreezeCfg(),
        ancestor=0,
    )


def _make_task_dataset(cfg: Config, memory: Memory) -> DatasetCfg:
    """Return the source's dataset, seen at the resolution and scale of the run's own."""
    given = {key: value for key, value in cfg.init.task_dataset.items() if value is not None}
    _check_keys(given)
    _lay_over(DatasetCfg(), given)  # so that a value of a wrong type is told as what it is
    same = {name: given.get(name, getattr(cfg.dataset, name)) for name in SEEN_ALIKE}
    words = [f"dataset={cfg.init.task}", write_override("cache_dir", cfg.cache_dir)]
    words += [write_override(f"dataset.{name}", value) for name, value in same.items()]
    composer: Composer = memory.recall("composer", "", Composer)
    composed = memory.recall("task", tuple(words), lambda: _compose_task(composer, cfg, words))
    return _lay_over(composed, given)


def _compose_task(composer: Composer, cfg: Config, words: Sequence[str]) -> DatasetCfg:
    """Return a dataset as a run on it would have it, so that both are one run."""
    from hydra.errors import HydraException

    task, allowed = str(cfg.init.task), composer.list_options("dataset")
    try:
        return composer.compose(words).dataset
    except HydraException as error:
        if task in allowed:
            raise ConfigError(f"init.task={task}: {error}") from error
        raise ConfigError(
            f"init.task={task} is not a dataset.{did_you_mean(task, allowed)}\n"
            f"Datasets: {list_names(allowed, 40)}"
        ) from error


def _check_keys(given: Mapping[str, Any]) -> None:
    allowed = [item.name for item in fields(DatasetCfg)]
    unknown = [key for key in given if key not in allowed]
    if unknown:
        raise ConfigError(
            f"init.task_dataset.{unknown[0]} is not a key of a dataset."
            f"{did_you_mean(unknown[0], allowed)}\nKeys: {list_names(allowed, 40)}"
        )


def _lay_over(dataset: DatasetCfg, given: Mapping[str, Any]) -> DatasetCfg:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        laid: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(dataset), given))
    except OmegaConfBaseException as error:
        key = str(error.full_key or "").removeprefix("dataset.")
        raise ConfigError(
            f"init.task_dataset.{key} is not of the right type: {str(error).splitlines()[0]}"
        ) from error
    return laid


def load_run_config(run_dir: Path, cfg: Config) -> Config:
    """Return the configuration of an unfinished run, to be trained here and now.

    Raises:
        WeightsError: its config.yaml is missing or of another version.
    """
    try:
        loaded = read_config(run_dir)
    except DataError as error:
        raise WeightsError(
            f"{run_dir} is not finished, and its config.yaml cannot be read ({error}). Train it "
            "to its end with the command it was started with"
        ) from error
    places = {name: getattr(cfg, name) for name in PLACES}
    places["output_dir"] = str(run_dir.parent.parent)
    allow = loaded.init.allow_unchecked or cfg.init.allow_unchecked
    init = replace(loaded.init, allow_unchecked=allow)
    return replace(loaded, **places, init=init, dry_run=False, ancestor=0)
