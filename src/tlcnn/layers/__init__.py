"""Measures of what is inside networks: one file a measure, and one line here.

A measure is a function of a `Subject` that returns a `Reading` for each unit and variant. Where it
cannot be computed, because a network is missing or several tensors leave a unit, the reading has
no value, and its note says why.
"""

from collections.abc import Callable, Sequence

from tlcnn.layers.cka import compute_cka
from tlcnn.layers.gradient import compute_gradient
from tlcnn.layers.knn import compute_knn
from tlcnn.layers.logme import compute_logme
from tlcnn.layers.movement import compute_movement
from tlcnn.layers.probe import compute_probe
from tlcnn.layers.reading import Reading
from tlcnn.layers.reinit import compute_reinit
from tlcnn.layers.stitch import compute_stitch
from tlcnn.layers.subject import Subject
from tlcnn.layers.svcca import compute_svcca

MEASURES: dict[str, Callable[[Subject], Sequence[Reading]]] = {
    "probe": compute_probe,
    "knn": compute_knn,
    "logme": compute_logme,
    "movement": compute_movement,
    "reinit": compute_reinit,
    "gradient": compute_gradient,
    "cka": compute_cka,
    "svcca": compute_svcca,
    "stitch": compute_stitch,
}

# What is computed unless measures are named. Stitching trains a layer for each unit.
DEFAULT: tuple[str, ...] = tuple(name for name in MEASURES if name != "stitch")
