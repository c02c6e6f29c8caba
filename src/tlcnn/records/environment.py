"""Where a run ran: versions, hardware, commit and command."""

import os
import platform
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = [
    "tlcnn",
    "torch",
    "torchvision",
    "timm",
    "hydra-core",
    "omegaconf",
    "numpy",
    "pandas",
    "scikit-learn",
    "pillow",
    "pyarrow",
    "safetensors",
]


def describe_environment(*, device: str, hardware: str, threads: int) -> dict[str, Any]:
    """Return a JSON value that says what a run needs to be repeated elsewhere."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "device": device,
        "hardware": hardware,
        "cores": os.cpu_count(),
        "threads": threads,
        "packages": {name: _find_version(name) for name in _PACKAGES},
        "commit": _find_commit(),
    }


@cache  # what this process has loaded does not change
def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _find_commit() -> str | None:
    """Return the commit of tlcnn's own checkout, with `+` when it is modified."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        ours = subprocess.run(
            [*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10
        )
        if ours.returncode:  # an installed copy, perhaps inside somebody else's repository
            return None
        commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, timeout=10)
        dirty = subprocess.check_output([*git, "status", "--porcelain"], text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.strip() + ("+" if dirty else "")
