"""Fixtures that every test may use."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from runs import forget_features

ROOT = Path(__file__).resolve().parents[1]

# How long a generated example takes says how busy the machine is, and nothing about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real datasets and weights, or a skip that says why."""
    folder = (ROOT / os.environ.get("TLCNN_SHARED", "../shared")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set TLCNN_SHARED")
    return folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all tests share: facts and decoded images are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def one_core() -> None:
    """Let torch compute on one thread: the bits of a run depend on how many there are."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def feature_dir(cache_dir: Path) -> Path:
    """Where features are stored: nothing yet. Facts and images are those of all tests."""
    return forget_features(cache_dir)


@pytest.fixture
def heard(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """What tlcnn logs, from INFO on."""
    monkeypatch.setattr(logging.getLogger("tlcnn"), "propagate", True)
    caplog.set_level(logging.INFO)
    return caplog
