"""The configuration of the run whose weights another run starts from.

init=task   this model and recipe on another dataset, from random or pretrained weights
init=self   this very dataset and recipe from random weights, by default of the next seed
init=run    whatever the folder of an unfinished run says
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from tlcnn.compose import Composer
from tlcnn.config import Config, DatasetCfg, FreezeCfg, InitCfg
from tlcnn.errors import ConfigError, WeightsError, did_you_mean, list_names
from tlcnn.memory import Memory

PLANNED = ("task", "self")  # sources that are a run which is known before it is trained


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
        init=InitCfg(source=init.parent, weights=weights),
        freeze=FreezeCfg(),
        ancestor=0,
    )


def _make_task_dataset(cfg: Config, memory: Memory) -> DatasetCfg:
    """Return the source's dataset, seen at the resolution and scale of the run's own."""
    assert cfg.init.task is not None  # check_config has refused it
    composer: Composer = memory.recall("composer", "", Composer)
    composed = memory.recall("task", cfg.init.task, lambda: _compose_task(composer, cfg.init.task))
    same = {name: getattr(cfg.dataset, name) for name in ("image_size", "fit", "normalize")}
    return _lay_over(replace(composed, **same), cfg.init.task_dataset)


def _compose_task(composer: Composer, task: str | None) -> DatasetCfg:
    from hydra.errors import HydraException

    try:
        return composer.compose([f"dataset={task}"]).dataset
    except HydraException as error:
        allowed = composer.list_options("dataset")
        raise ConfigError(
            f"init.task={task} is not a dataset.{did_you_mean(str(task), allowed)}\n"
            f"Datasets: {list_names(allowed, 40)}"
        ) from error


def _lay_over(dataset: DatasetCfg, given: Mapping[str, Any]) -> DatasetCfg:
    values = {key: value for key, value in given.items() if value is not None}
    allowed = [item.name for item in fields(DatasetCfg)]
    unknown = [key for key in values if key not in allowed]
    if unknown:
        raise ConfigError(
            f"init.task_dataset.{unknown[0]} is not a key of a dataset."
            f"{did_you_mean(unknown[0], allowed)}\nKeys: {list_names(allowed, 40)}"
        )
    options = {**dataset.options, **values.pop("options", {})}
    return replace(dataset, **values, options=options)


def load_run_config(run_dir: Path, cfg: Config) -> Config:
    """Return the configuration of an unfinished run, to be trained here and now.

    Raises:
        WeightsError: its config.yaml is missing or of another version.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        given = yaml.safe_load((run_dir / "config.yaml").read_text())
        merged = OmegaConf.merge(OmegaConf.structured(Config), given)
        loaded: Any = OmegaConf.to_object(merged)
    except (OSError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise WeightsError(
            f"{run_dir} is not finished, and its config.yaml cannot be read ({error}). Train it "
            "to its end with the command it was started with"
        ) from error
    places = {name: getattr(cfg, name) for name in ("device", "threads", "workers", "cache_dir")}
    return replace(loaded, **places, output_dir=str(run_dir.parents[1]), dry_run=False, ancestor=0)
