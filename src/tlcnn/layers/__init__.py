"""Measures of what is inside networks: one file a measure, and one line here.

The measure NAME is the function `compute_NAME` in `layers/NAME.py`. It takes a `Subject` and
returns a `Reading` for each unit and variant. Where it cannot be computed, because a network is
missing or several tensors leave a unit, the reading has no value, and its note says why.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from tlcnn.records.measures import Reading

if TYPE_CHECKING:  # imports torch, which a command does not need where all is done
    from tlcnn.layers.subject import Subject

# The version of each measure's numbers. Records of another version are computed again.
# They are computed in this order: the one that needs most memory is first, before features of all
# networks are in memory.
MEASURES: dict[str, int] = {
    "gradient": 1,
    "probe": 1,
    "knn": 1,
    "cka": 1,
    "svcca": 1,
    "reinit": 1,
    "logme": 1,
    "movement": 1,
    "stitch": 1,
}
# What `tlcnn analyse` computes where no measures are named. Stitching is left out, because it
# trains a layer for each unit, which takes minutes.
DEFAULT = tuple(name for name in MEASURES if name != "stitch")


def load_measure(name: str) -> "Callable[[Subject], Sequence[Reading]]":
    """Return the function of a measure; imports torch."""
    compute: Callable[[Subject], Sequence[Reading]] = getattr(
        import_module(f"{__name__}.{name}"), f"compute_{name}"
    )
    return compute
