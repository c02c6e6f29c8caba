"""Where a run ran: environment.json, one entry a session.

A session is the time from a run's start, or its resumption, to its end or interruption.
"""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from tlcnn.device import find_version
from tlcnn.errors import DataError
from tlcnn.records.files import ENVIRONMENT, read_json
from tlcnn.records.folder import RunDir
from tlcnn.records.parse import parse_record

_PACKAGES = (
    *("tlcnn", "torch", "torchvision", "timm", "hydra-core", "omegaconf", "numpy", "pandas"),
    *("scikit-learn", "pillow", "pyarrow", "safetensors"),
)


@dataclass(frozen=True)
class Session:
    """What a run needs to be repeated elsewhere.

    Attributes:
        device: the kind of device: `cpu`, `cuda` or `mps`.
        hardware: the device's name as its maker calls it.
        cores: CPU cores of the machine, of which `threads` computed.
        packages: versions; None for a package that was not installed.
        commit: the commit of tlcnn's checkout, with `+` when it was modified.
    """

    command: str = ""
    python: str | None = None
    platform: str | None = None
    host: str | None = None
    device: str | None = None
    hardware: str | None = None
    cores: int | None = None
    threads: int | None = None
    packages: Mapping[str, str | None] = field(default_factory=dict)
    commit: str | None = None


def make_session(*, device: str, hardware: str, threads: int) -> Session:
    """Return where this process runs."""
    return Session(
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        python=platform.python_version(),
        platform=platform.platform(),
        host=platform.node(),
        device=device,
        hardware=hardware,
        cores=os.cpu_count(),
        threads=threads,
        packages={name: _find_version(name) for name in _PACKAGES},
        commit=_find_commit(),
    )


def add_session(folder: Path, session: Session) -> list[str]:
    """Append a session to a run's environment.json.

    Returns:
        The differences from the session before that can change the last bits of a result.
    """
    try:
        sessions = read_sessions(folder)
    except DataError:  # none yet, or emptied by a power cut
        sessions = ()
    record = {"sessions": [asdict(item) for item in (*sessions, session)]}
    RunDir(folder).write_json(ENVIRONMENT, record)
    before = sessions[-1] if sessions else session
    pairs = {
        "device": (before.device, session.device),
        "hardware": (before.hardware, session.hardware),
        "threads": (before.threads, session.threads),
        "torch": (before.packages.get("torch"), session.packages.get("torch")),
    }
    return [f"{name} was {old}, is {new}" for name, (old, new) in pairs.items() if old != new]


def read_sessions(folder: str | Path) -> tuple[Session, ...]:
    """Return where a run ran, first session first. Raises DataError as `read_json` does."""
    value = read_json(Path(folder) / ENVIRONMENT)
    sessions = value.get("sessions") if isinstance(value, dict) else None
    if not isinstance(sessions, list):
        raise DataError(f"{ENVIRONMENT} in {folder} holds no list of sessions")
    return tuple(parse_record(Session, item, ENVIRONMENT) for item in sessions)


def _find_version(package: str) -> str | None:
    try:
        return find_version(package)
    except PackageNotFoundError:
        return None


@cache
def _find_commit() -> str | None:
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        listing = subprocess.run(
            [*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10
        )
        if listing.returncode:  # an installed copy, perhaps inside somebody else's repository
            return None
        commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, timeout=10)
        changes = subprocess.check_output([*git, "status", "--porcelain"], text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.strip() + ("+" if changes else "")
