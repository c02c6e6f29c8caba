"""Tiny runs for tests: a test_resnet on a few drawn images, seconds at most."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from tlcnn.config import Config, find_conf_dir

TINY = [
    "dataset=synthetic",
    "dataset.options.n_images=140",
    "dataset.options.size=32",
    "dataset.image_size=32",
    "model.name=test_resnet",
    "train=quick",
    "train.epochs=2",
    "train.batch_size=16",
    "train.precision=fp32",
    "threads=1",
    "workers=1",
    "device=cpu",
]


def compose_config(*overrides: str) -> Config:
    """The configuration that a command line composes, without running it."""
    ConfigStore.instance().store(name="schema", node=Config)
    with initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
        return OmegaConf.to_object(compose("config", list(overrides)))


def tiny_config(output_dir: Path, cache_dir: Path, *overrides: str) -> Config:
    """A run of a second or two."""
    places = [f"output_dir={output_dir}", f"cache_dir={cache_dir}"]
    return compose_config(*TINY, *places, *overrides)


def tiny_command(output_dir: Path, cache_dir: Path, *overrides: str) -> list[str]:
    """The arguments of `python -m tlcnn.train` for such a run."""
    return [*TINY, f"output_dir={output_dir}", f"cache_dir={cache_dir}", *overrides]
