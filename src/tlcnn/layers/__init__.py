"""Measures of what is inside networks: one file a measure, and one line here.

A measure is a function of a `Subject` that returns a `Reading` for each unit and variant. Where it
cannot be computed, because a network is missing or several tensors leave a unit, the reading has
no value, and its note says why.
"""

from collections.abc import Callable, Sequence

from tlcnn.layers.cka import compute_cka
from tlcnn.layers.movement import compute_movement
from tlcnn.layers.reading import Reading
from tlcnn.layers.stitch import compute_stitch
from tlcnn.layers.subject import Subject
from tlcnn.layers.svcca import compute_svcca

MEASURES: dict[str, Callable[[Subject], Sequence[Reading]]] = {
    "movement": compute_movement,
    "cka": compute_cka,
    "svcca": compute_svcca,
    "stitch": compute_stitch,
}

# What is computed unless measures are named. Stitching trains a layer for each unit.
DEFAULT: tuple[str, ...] = tuple(name for name in MEASURES if name != "stitch")
