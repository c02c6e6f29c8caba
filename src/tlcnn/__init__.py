"""tlcnn: which layers of a CNN to transfer, which to freeze, and how sure you can be.

`read_runs` reads run folders as a table, `open_run` returns to one run's network and images, and
`read_measures` reads what `tlcnn analyse` has measured in their units.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlcnn.records.measures import read_measures
    from tlcnn.records.open_run import open_run
    from tlcnn.records.read import read_runs

__version__ = "0.1.0"
__all__ = ["open_run", "read_measures", "read_runs"]

_HOMES = {
    "open_run": "tlcnn.records.open_run",
    "read_measures": "tlcnn.records.measures",
    "read_runs": "tlcnn.records.read",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
