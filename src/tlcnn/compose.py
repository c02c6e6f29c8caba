"""Command-line words to a typed configuration, through Hydra."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from hydra.core.config_store import ConfigStore

from tlcnn.config import Config, find_conf_dir


def register_schema() -> None:
    """Tell Hydra the types behind every YAML."""
    ConfigStore.instance().store(name="schema", node=Config)


def make_hydra_options() -> dict[str, Any]:
    """Return what Hydra 1.3 wants to be told and 1.4 no longer does."""
    return {"version_base": "1.3"} if version("hydra-core") < "1.4" else {}


def compose_config(overrides: Sequence[str] = ()) -> Config:
    """Return the configuration that a command line means, without running it.

    Raises:
        ConfigError: an unknown key, option or type.

    Example:
        >>> compose_config(["model=resnet50", "train.epochs=3"]).model.name
        'resnet50'
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from tlcnn.overrides import check_overrides

    register_schema()
    check_overrides(overrides, find_conf_dir())
    with initialize_config_dir(str(find_conf_dir()), **make_hydra_options()):
        config: Any = OmegaConf.to_object(compose("config", list(overrides)))
    return config
