"""Features: boundary tensors as rows of a cached array, one an image, and back as tensors.

    boundary tensors (B, ...) -> FeatureWriter -> CachedArray -> FeatureViews -> (B, ...)

A row holds the bytes of one image's boundary tensor in the order of its memory, so that a batch
comes back with its bits, its type and its strides.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from tlcnn.data.array_store import ArrayStore, ArrayWriter, CachedArray
from tlcnn.data.augment import make_image_tensor
from tlcnn.data.feed import Feed, Values, list_slices
from tlcnn.device import send, wants_pinned
from tlcnn.errors import StorageError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """The shape, strides and type of one image's boundary tensor."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """D, the number of values in a row."""
        return torch.Size(self.shape).numel()


def make_rows(batch: Tensor) -> tuple[Tensor, Layout]:
    """Return a boundary tensor (B, ...) as rows (B, D) in the order of its memory, not copied.

    Raises ValueError where its images do not lie one after the other without gaps.
    """
    shape, strides = tuple(batch.shape[1:]), batch.stride()[1:]
    layout = Layout(shape, strides, str(batch.dtype).removeprefix("torch."))
    n_spanned = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if len(batch) < 2 or batch.stride(0) != layout.size or n_spanned != layout.size:
        raise ValueError(f"a tensor {shape} with strides {batch.stride()} has no rows")
    offset = batch.storage_offset()
    return batch.as_strided((len(batch), layout.size), (layout.size, 1), offset), layout


def shape_rows(rows: Tensor, layout: Layout) -> Tensor:
    """Return contiguous rows (B, D) as the boundary tensor (B, ...) that they hold."""
    return rows.as_strided((len(rows), *layout.shape), (layout.size, *layout.strides))


class FeatureWriter:
    """Stores what crosses one boundary, batch after batch; a failure costs a warning.

    A `batch_size` of 0 means that the features are computed from other features.
    """

    def __init__(self, store: ArrayStore, name: str, n_images: int, batch_size: int) -> None:
        self.store, self.name, self.n_images, self.batch_size = store, name, n_images, batch_size
        self.has_failed = False
        self._layout: Layout | None = None
        self._writer: ArrayWriter | None = None

    def add(self, batch: Tensor, *, n_repeated: int = 0) -> None:
        """Take the boundary tensor (B, ...) of the next images, behind those that are repeated."""
        if self.has_failed:
            return
        try:
            rows, layout = make_rows(batch)
            rows = rows[n_repeated:].cpu().view(torch.uint8)
            if self._writer is None:
                self._layout = layout
                self._writer = self.store.open_writer(self.name, (self.n_images, rows.shape[1]))
            if layout != self._layout:
                raise ValueError(f"batches differ in layout: {layout} after {self._layout}")
            self._writer.add(rows.numpy())
        except (OSError, ValueError, StorageError) as error:
            self._fail(error)

    def finish(self) -> CachedArray | None:
        """Return the whole array, or None where it could not be stored."""
        if self._writer is None or self._layout is None:
            return None
        try:
            return self._writer.finish({**asdict(self._layout), "batch_size": self.batch_size})
        except (OSError, StorageError) as error:
            self._fail(error)
            return None

    def _fail(self, error: Exception) -> None:
        self.has_failed = True
        log.warning("features are not stored, so they are computed every time: %s", error)
        if not isinstance(error, ValueError):
            self.store.stop_writing(error)
        self.discard()

    def discard(self) -> None:
        """Delete an array that is not finished."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None


class FeatureViews:
    """The stored views that the batches of an epoch are read from.

    Args:
        arrays: the features of each view, all of one layout.
        device: the device where batches are needed.
        rows: (V * n, D), the rows of all views on the device; None: they are gathered on the host.
    """

    def __init__(
        self, arrays: Sequence[CachedArray], device: torch.device, rows: Tensor | None = None
    ) -> None:
        self.arrays, self.device, self.rows = arrays, device, rows
        info = arrays[0].info
        self._layout = Layout(tuple(info["shape"]), tuple(info["strides"]), info["dtype"])
        self._host_rows = [view_rows(array) for array in arrays]

    def feed(
        self, batches: Sequence[np.ndarray] | np.ndarray, views: np.ndarray | None = None
    ) -> Feed:
        """Return the boundary tensors of images, (B, ...), on the device.

        Args:
            batches: the positions of the images of each batch.
            views: the view of each position, counted from 0; ignored where there is one view.
        """
        if views is None or len(self.arrays) == 1:
            views = np.zeros(sum(len(picked) for picked in batches), dtype=np.uint64)
        parts = list_slices(batches)
        numbers = views.reshape(-1).astype(np.int64)
        rows, layout = self.rows, self._layout
        if rows is None:

            def gather(number: int) -> Values:
                picked = self._gather(batches[number], numbers[parts[number]])
                return {"rows": send(picked, self.device)}

            return Feed(gather, lambda v: shape_rows(v["rows"], layout), ("features", layout))
        positions = np.concatenate(batches) + len(self.arrays[0].rows) * numbers
        places = send(torch.from_numpy(positions), self.device)
        return Feed(
            lambda number: {"places": places[parts[number]]},
            lambda v: shape_rows(rows.index_select(0, v["places"]), layout),
            ("features", id(rows), layout),
        )

    def _gather(self, picked: np.ndarray, views: np.ndarray) -> Tensor:
        """Return the rows of picked images in their views, (B, D), on the host."""
        dtype, is_pinned = self._host_rows[0].dtype, wants_pinned(self.device)
        rows = torch.empty(len(picked), self._layout.size, dtype=dtype, pin_memory=is_pinned)
        if len(self._host_rows) == 1:
            return torch.index_select(self._host_rows[0], 0, torch.from_numpy(picked), out=rows)
        for view, stored in enumerate(self._host_rows):
            places = np.flatnonzero(views == view)
            rows[torch.from_numpy(places)] = stored[torch.from_numpy(picked[places])]
        return rows


def view_rows(array: CachedArray) -> Tensor:
    """Return the rows of an array of features, (n, D), as a tensor of their type, not copied."""
    return make_image_tensor(array.rows).view(getattr(torch, array.info["dtype"]))
