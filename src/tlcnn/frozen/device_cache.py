"""Features on a GPU, where they fit there.

Nothing here waits for the device, except for an array to arrive there.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tlcnn.data.array_store import CachedArray
from tlcnn.device import find_room, wait_for_copies
from tlcnn.frozen.features import FeatureViews, view_rows

log = logging.getLogger(__name__)


def has_own_memory(device: torch.device) -> bool:
    """Return whether arrays of the host have to be copied to be used on a device."""
    return device.type != "cpu"


class DeviceCache:
    """The features on a device, for the runs of a process; the least recently used make room."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._rows: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()
        self._in_use: WeakKeyDictionary[FeatureViews, tuple[str, ...]] = WeakKeyDictionary()

    def place(self, arrays: Sequence[CachedArray]) -> FeatureViews:
        """Return views to read from, on the device where they fit; in use, they stay there."""
        key = tuple(array.digest for array in arrays)
        if has_own_memory(self.device) and key not in self._rows:
            n_bytes = sum(array.rows.nbytes for array in arrays)
            if not self._make_room(n_bytes):
                gib = n_bytes / 2**30
                log.info("%.3g GiB of features do not fit on %s: sent by batch", gib, self.device)
            else:
                try:
                    self._rows[key] = copy_rows(arrays, self.device)
                except torch.OutOfMemoryError:  # another process was faster
                    log.warning("features no longer fit on %s: sent by batch", self.device)
        if key in self._rows:
            self._rows.move_to_end(key)
        views = FeatureViews(arrays, self.device, self._rows.get(key))
        self._in_use[views] = key
        return views

    def _make_room(self, n_bytes: int) -> bool:
        """Return whether so much fits on the device, dropping what nobody uses if need be."""
        in_use = set(self._in_use.values())
        unused = [key for key in self._rows if key not in in_use]
        while True:
            n_held = sum(rows.nbytes for rows in self._rows.values())
            has_room = n_held + n_bytes <= find_room(self.device, n_held)
            if has_room or not unused:
                return has_room
            del self._rows[unused.pop(0)]


def copy_rows(arrays: Sequence[CachedArray], device: torch.device) -> Tensor:
    """Return the rows of some arrays on a device, (V * n, D), one array after the other."""
    parts = [view_rows(array) for array in arrays]
    n, size = parts[0].shape
    rows = torch.empty(len(parts) * n, size, dtype=parts[0].dtype, device=device)
    for number, part in enumerate(parts):
        rows[number * n : (number + 1) * n].copy_(part)
    wait_for_copies(device)
    return rows
