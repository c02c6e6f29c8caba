"""config.yaml: the resolved configuration of a run, every default included."""

from pathlib import Path
from typing import Any

from tlcnn.config.schema import Config
from tlcnn.errors import DataError
from tlcnn.records.files import CONFIG, read_yaml


def read_config(folder: Path) -> Config:
    """Return the configuration of a run. Keys that the file lacks have their defaults.

    Raises:
        DataError: config.yaml is missing or damaged, or holds keys or values that this version
            does not have.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    value = read_yaml(folder / CONFIG)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), value)
        config: Any = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{CONFIG} in {folder} is no configuration: {reason}") from error
    return config
