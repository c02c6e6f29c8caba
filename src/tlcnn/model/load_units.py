"""Load the unit map of a network. It is computed once and stored; loading imports no torch."""

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tlcnn.model.unit_map import UnitMap
from tlcnn.storage import remember

MAP_VERSION = 2  # increased when a stored map is not what this version computes or reads


def load_unit_map(name: str, *, granularity: str = "stage", cache_dir: Path) -> UnitMap:
    """Return what `compute_unit_map` returns, computed once per version of timm.

    If the map is stored in `cache_dir`, torch is not imported.
    """
    key = [MAP_VERSION, version("timm"), name.split(".")[0], granularity]

    def compute() -> dict[str, Any]:
        from tlcnn.model.units import compute_unit_map

        stored = asdict(compute_unit_map(name, granularity=granularity))
        del stored["dropped"]  # no whole network drops units, and earlier versions do not read it
        return stored

    return UnitMap.from_dict(remember(cache_dir, "units", key, compute))
