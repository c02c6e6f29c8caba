"""Tiny runs for tests: a test_resnet on a few drawn images, seconds at most."""

from pathlib import Path

from tlcnn.compose import compose_config
from tlcnn.config import Config

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


def tiny_config(output_dir: Path, cache_dir: Path, *overrides: str) -> Config:
    """A run of a second or two."""
    places = [f"output_dir={output_dir}", f"cache_dir={cache_dir}"]
    return compose_config([*TINY, *places, *overrides])


def tiny_command(output_dir: Path, cache_dir: Path, *overrides: str) -> list[str]:
    """The arguments of `python -m tlcnn.train` for such a run."""
    return [*TINY, f"output_dir={output_dir}", f"cache_dir={cache_dir}", *overrides]
