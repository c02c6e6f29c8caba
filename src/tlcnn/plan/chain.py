"""The configuration of the run whose weights another run starts from.

init=task   this model and recipe on another dataset, from random or pretrained weights
init=self   this very dataset and recipe from random weights, by default of the next seed
init=run    the configuration in the folder of an unfinished run
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tlcnn.config.compose import Composer
from tlcnn.config.schema import (
    Config,
    DatasetCfg,
    FreezeCfg,
    InitCfg,
    TrainCfg,
    check_config,
    list_keys,
)
from tlcnn.config.spelling import write_override
from tlcnn.errors import ConfigError, DataError, WeightsError, did_you_mean, list_names
from tlcnn.memory import Memory
from tlcnn.records.config import read_config
from tlcnn.text import first_line

PLANNED = ("task", "self")  # sources that are runs whose plan is made before they are trained
SHARED_KEYS = ("image_size", "fit", "normalize")  # a source's dataset has the run's own values
_RUN_GROUPS = ("init", "freeze", "train")  # what `init.task_run` may set of the source run


def make_parent_config(cfg: Config, memory: Memory) -> Config:
    """Return the configuration of the run that `init=task` or `init=self` starts from.

    Raises ConfigError where `init.task` names no dataset, or a key of that run is not allowed.
    """
    init, cfg = cfg.init, replace(cfg, until_epoch=None)
    train = replace(cfg.train, schedule=TrainCfg().schedule)  # is one of fine-tuning
    if init.source == "self":
        seed = cfg.seed + 1 if init.self_seed is None else init.self_seed
        return replace(cfg, init=InitCfg(), freeze=FreezeCfg(), train=train, seed=seed)
    weights = init.weights if init.parent == "imagenet" else None
    source = InitCfg(source=init.parent, weights=weights, allow_unchecked=init.allow_unchecked)
    groups: dict[str, Any] = {"init": source, "freeze": FreezeCfg(), "train": train}
    _check_names("init.task_run", init.task_run, _RUN_GROUPS, "the source run")
    for name, values in init.task_run.items():
        groups[name] = _set_values(groups[name], values, f"init.task_run.{name}")
    seed = cfg.seed + init.task_seed_offset
    parent = replace(cfg, dataset=_make_task_dataset(cfg, memory), seed=seed, **groups)
    try:
        check_config(parent)
    except ConfigError as error:
        raise ConfigError(f"in the run on init.task={init.task}, the source: {error}") from error
    return parent


def _make_task_dataset(cfg: Config, memory: Memory) -> DatasetCfg:
    """Return the source's dataset, seen at the resolution and scale of the run's own."""
    from hydra.errors import HydraException

    values = {key: value for key, value in cfg.init.task_dataset.items() if value is not None}
    _set_values(DatasetCfg(), values, "init.task_dataset")  # refuses wrong names and types
    shared = {key: values.get(key, getattr(cfg.dataset, key)) for key in SHARED_KEYS}
    overrides = [f"dataset={cfg.init.task}", write_override("cache_dir", cfg.cache_dir)]
    overrides += [write_override(f"dataset.{key}", value) for key, value in shared.items()]
    composer: Composer = memory.recall("composer", "", Composer)
    task = str(cfg.init.task)
    try:
        dataset = memory.recall(
            "task", tuple(overrides), lambda: composer.compose(overrides).dataset
        )
    except HydraException as error:
        allowed = composer.list_options("dataset")
        if task in allowed:
            raise ConfigError(f"init.task={task}: {error}") from error
        raise ConfigError(
            f"init.task={task} is not a dataset.{did_you_mean(task, allowed)}\n"
            f"Datasets: {list_names(allowed, 40)}"
        ) from error
    return _set_values(dataset, values, "init.task_dataset")


def _set_values(node: Any, values: Any, prefix: str) -> Any:
    """Return a group of the configuration with some values set, such as those of a dataset.

    Raises ConfigError for values that are no mapping, and for unknown keys and wrong types.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _check_names(prefix, values, [item.name for item in fields(node)], "this group")
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(node), values))
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{prefix}.{error.full_key or ''} is not of the right type: {first_line(error)}"
        ) from error


def _check_names(
    prefix: str, values: Any, allowed: list[str] | tuple[str, ...], owner: str
) -> None:
    """Raise ConfigError unless values are a mapping from allowed names."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix}={values} sets nothing: write {prefix}.KEY=VALUE")
    unknown = [str(key) for key in values if key not in allowed]
    if unknown:
        raise ConfigError(
            f"{prefix}.{unknown[0]} is not a key of {owner}."
            f"{did_you_mean(unknown[0], allowed)}\nKeys: {list_names(allowed, 40)}"
        )


def load_run_config(run_dir: Path, cfg: Config) -> Config:
    """Return the configuration of an unfinished run, to be trained in the places of `cfg`.

    Raises WeightsError where its config.yaml cannot be read.
    """
    try:
        loaded = read_config(run_dir)
    except DataError as error:
        raise WeightsError(
            f"{run_dir} is not finished, and its config.yaml cannot be read ({error}). Train it "
            "to its end with the command it was started with"
        ) from error
    places = {key: getattr(cfg, key) for key in list_keys("place") if "." not in key}
    places |= {"output_dir": str(run_dir.parent.parent), "until_epoch": None}
    allow = loaded.init.allow_unchecked or cfg.init.allow_unchecked
    return replace(
        loaded, **places, init=replace(loaded.init, allow_unchecked=allow), dry_run=False
    )
