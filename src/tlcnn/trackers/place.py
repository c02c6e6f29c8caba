"""What trackers share: the package that one needs, and which run a folder holds."""

from importlib.util import find_spec
from pathlib import Path

from tlcnn.errors import ConfigError
from tlcnn.storage import write_atomic
from tlcnn.trackers.tracked_run import TrackedRun

_MARK = "tlcnn.digest"


def check_package(name: str) -> None:
    """Raise ConfigError where the package of a tracker is not installed."""
    if find_spec(name) is None:
        raise ConfigError(f"--to {name} needs {name}: pip install 'tlcnn[{name}]'")


def has_run(folder: Path, run: TrackedRun) -> bool:
    """Return whether a folder holds the whole export of a run as it is now."""
    try:
        return (folder / _MARK).read_text() == run.digest
    except (OSError, ValueError):
        return False


def mark_run(folder: Path, run: TrackedRun) -> None:
    """Note that a folder holds the whole export of a run."""
    write_atomic(folder / _MARK, run.digest)
