"""Fixtures that every test may use."""

import logging
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
def heard(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """What tlcnn logs, from INFO on."""
    monkeypatch.setattr(logging.getLogger("tlcnn"), "propagate", True)
    caplog.set_level(logging.INFO)
    return caplog
