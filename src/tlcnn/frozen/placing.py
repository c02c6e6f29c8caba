"""Features where training is: on a GPU when they fit there, else one batch at a time.

    Features of an epoch's views -> Shelf -> Placed -> boundary tensors of picked images

Nothing here waits for the device, but for an array's way there.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from tlcnn.data.sending import send, wants_pinned
from tlcnn.device import find_room
from tlcnn.frozen.feature_store import Features, shape_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Placed:
    """The views of an epoch: a batch has one of them of every image.

    Attributes:
        views: their arrays, all of one layout.
        device: where batches are wanted.
        rows: (V * n, D) of all views there; None: they are gathered on the host.
    """

    views: Sequence[Features]
    device: torch.device
    rows: Tensor | None = None

    def take(self, picked: np.ndarray, which: np.ndarray | None = None) -> Tensor:
        """Return the boundary tensor of picked images, (B, ...), on the device.

        Args:
            which: (B,) the view of each, counted from 0; None where there is one.
        """
        layout, n = self.views[0].layout, len(self.views[0].rows)
        which = None if len(self.views) == 1 else which
        if self.rows is None:
            rows = send(self._gather(picked, which), self.device)
        else:
            index = torch.from_numpy(picked if which is None else picked + n * which.astype(int))
            rows = self.rows.index_select(0, send(index, self.device))
        return shape_rows(rows, layout)

    def _gather(self, picked: np.ndarray, which: np.ndarray | None) -> Tensor:
        """Return rows (B, D) on the host."""
        layout = self.views[0].layout
        rows = torch.empty(
            len(picked),
            layout.size,
            dtype=layout.torch_dtype,
            pin_memory=wants_pinned(self.device),
        )
        if which is None:
            return torch.index_select(self.views[0].rows, 0, torch.from_numpy(picked), out=rows)
        for number, each in enumerate(self.views):
            places = np.flatnonzero(which == number)
            rows[torch.from_numpy(places)] = each.rows[torch.from_numpy(picked[places])]
        return rows


def has_own_memory(device: torch.device) -> bool:
    """Return whether arrays of the host have to be copied to be used on a device."""
    return device.type != "cpu"


class Shelf:
    """Arrays on a device, for the runs of a process: those used last, within its room."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._rows: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()
        self._used: WeakKeyDictionary[Placed, tuple[str, ...]] = WeakKeyDictionary()

    def place(self, views: Sequence[Features]) -> Placed:
        """Return views for reading, on the device where they fit; they stay while it is in use."""
        key = tuple(each.digest for each in views)
        if has_own_memory(self.device) and key not in self._rows:
            self._load(key, views)
        if key in self._rows:
            self._rows.move_to_end(key)
        placed = Placed(views, self.device, self._rows.get(key))
        self._used[placed] = key
        return placed

    def _load(self, key: tuple[str, ...], views: Sequence[Features]) -> None:
        n_bytes = sum(each.n_bytes for each in views)
        if not self._make_room(n_bytes):
            gib = n_bytes / 2**30
            log.info("%.3g GiB of features do not fit on %s: sent by batch", gib, self.device)
            return
        try:
            self._rows[key] = _upload(views, self.device)
        except torch.OutOfMemoryError:  # another process was faster
            log.warning("features no longer fit on %s: they are sent by batch", self.device)

    def _make_room(self, n_bytes: int) -> bool:
        """Return whether so many bytes fit, when nothing is kept that nobody uses."""
        used = set(self._used.values())
        for key in [key for key in self._rows if key not in used]:
            if self._fits(n_bytes):
                break
            del self._rows[key]
        return self._fits(n_bytes)

    def _fits(self, n_bytes: int) -> bool:
        held = sum(rows.nbytes for rows in self._rows.values())
        return held + n_bytes <= find_room(self.device, held)


def _upload(views: Sequence[Features], device: torch.device) -> Tensor:
    first = views[0].rows
    n, size = first.shape
    rows = torch.empty(len(views) * n, size, dtype=first.dtype, device=device)
    for number, each in enumerate(views):
        rows[number * n : (number + 1) * n].copy_(each.rows)
    return rows
