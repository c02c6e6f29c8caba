"""An array of features while it is computed: in memory where it fits, else in a file."""

import errno
import hashlib
import logging
import os
import shutil
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from tlcnn.errors import StorageError
from tlcnn.frozen.feature_store import Features, FeatureStore, Layout, read_rows

log = logging.getLogger(__name__)


class Filling:
    """The rows of n images, one batch after the other.

    Args:
        store: that gets the array when it is whole.
        name: of the array.
        n: images.
        batch_size: images in the batches that they are computed in.
    """

    def __init__(self, store: FeatureStore, name: str, n: int, batch_size: int) -> None:
        self.store, self.name, self.n, self.batch_size = store, name, n, batch_size
        self.has_failed = False
        self._layout: Layout | None = None
        self._rows: Tensor | None = None  # in memory, or ...
        self._file: Any = None
        self._n_done = 0
        self._digest = hashlib.sha256()

    @property
    def _n_bytes(self) -> int:
        assert self._layout is not None
        return self.n * self._layout.size * self._layout.torch_dtype.itemsize

    def add(self, batch: Tensor, *, n_known: int = 0) -> None:
        """Take what crosses the boundary, (B, ...), of the next images.

        Args:
            n_known: of these images have come before, and are the first.
        """
        if self.has_failed:
            return
        try:
            rows, layout = read_rows(batch)
            rows = rows.cpu()
            if self._layout is None:
                self._layout = layout
                self._begin()
            if layout != self._layout:
                raise ValueError(f"batches differ in layout: {layout}, before {self._layout}")
            self._write(rows[n_known:])
        except (OSError, ValueError, StorageError) as error:
            self._fail(error)

    def _begin(self) -> None:
        assert self._layout is not None
        if self.store.reserve(self._n_bytes):
            self._rows = torch.empty(self.n, self._layout.size, dtype=self._layout.torch_dtype)
        elif self.store.make_room(self._n_bytes):
            self._file = self._open()
        else:
            raise ValueError("it fits neither reuse_memory_gib nor reuse_disk_gib")

    def _open(self) -> Any:
        free = shutil.disk_usage(self.store.folder).free
        if free < self._n_bytes:
            raise OSError(errno.ENOSPC, f"{free / 2**20:,.0f} MiB are free on its disk")
        return open(self.store.temporary(self.name), "wb")

    def _write(self, rows: Tensor) -> None:
        raw = rows.contiguous().view(torch.uint8).numpy().data
        self._digest.update(raw)
        if self._rows is not None:
            self._rows[self._n_done : self._n_done + len(rows)] = rows
        else:
            self._file.write(raw)
        self._n_done += len(rows)

    def finish(self) -> Features | None:
        """Return the whole array, which is stored where the disk takes it; None without one."""
        if self.has_failed or self._layout is None:
            return None
        assert self._n_done == self.n, "an array is whole or absent"
        rows = torch.empty(self.n, 0) if self._rows is None else self._rows
        made = Features(rows, self._layout, self._digest.hexdigest(), self.batch_size)
        try:
            return self._publish(made)
        except (OSError, StorageError) as error:
            self.store.note_failure(error)
        finally:
            self.discard()
        if len(rows) and rows.shape[1]:
            self.store.keep(self.name, made)
            return made
        return None

    def _publish(self, made: Features) -> Features:
        """Write the array, or close the file that has it, and give it its name."""
        if self._rows is not None:
            if not self.store.make_room(self._n_bytes):
                self.discard()  # its memory counts as kept from here on
                self.store.keep(self.name, made)
                return made
            self._file = self._open()
            self._file.write(self._rows.view(torch.uint8).numpy().data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self.store.publish(self.name, self.store.temporary(self.name), made)

    def _fail(self, error: Exception) -> None:
        self.has_failed = True
        log.warning("features are computed anew every time: %s", error)
        if isinstance(error, (OSError, StorageError)):
            self.store.note_failure(error)
        self.discard()

    def discard(self) -> None:
        """Delete what is half done, and let its memory go."""
        if self._rows is not None and self._layout is not None:
            self.store.release(self._n_bytes)
            self._rows = None
        if self._file is not None:
            with suppress(OSError):  # a full disk says so again when the rest is written
                self._file.close()
            with suppress(OSError):
                self.store.temporary(self.name).unlink(missing_ok=True)
            self._file = None
