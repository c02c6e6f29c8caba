"""Tiny runs for tests: a test_resnet on a few drawn images, seconds at most."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tlcnn.config.compose import compose_config
from tlcnn.config.schema import Config
from tlcnn.plan.plan import Plan

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


def stop_at_every_step(monkeypatch: pytest.MonkeyPatch, n_steps: int = 1) -> None:
    """Let a signal come after so many steps, so that a session is these or one evaluation."""
    from tlcnn.training.fit import Fit
    from tlcnn.training.turns import Turn

    real: Any = Fit.train_epoch

    def stop_after_steps(self: Fit) -> Iterator[Turn]:
        n_made = 0
        for turn in real(self):
            n_made += turn is Turn.STEP
            if n_made == n_steps:
                self.stop.signal_name = "SIGTERM"
            yield turn

    monkeypatch.setattr(Fit, "train_epoch", stop_after_steps)


def run_until_done(plan: Plan) -> int:
    """Train a run that is stopped again and again, and return how many sessions it took."""
    from tlcnn.errors import Stopped
    from tlcnn.run.run import run

    for n_sessions in itertools.count(1):
        with suppress(Stopped):
            run(plan)
            return n_sessions
    raise AssertionError


def forget_features(cache_dir: Path) -> Path:
    """Empty the store of features and what was compared, and return its folder."""
    shutil.rmtree(cache_dir / "features", ignore_errors=True)
    for path in (cache_dir / "facts").glob("difference-*"):
        path.unlink()
    return cache_dir / "features"
