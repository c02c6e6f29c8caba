"""Records: what a run leaves behind, and how it is read again.

The names below are loaded, with pandas, only when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlcnn.records.left_out import describe_left_out
    from tlcnn.records.plan_record import read_plan
    from tlcnn.records.read import read_predictions, read_runs

__all__ = ["describe_left_out", "read_plan", "read_predictions", "read_runs"]

_HOMES = {
    "describe_left_out": "left_out",
    "read_plan": "plan_record",
    "read_predictions": "read",
    "read_runs": "read",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
