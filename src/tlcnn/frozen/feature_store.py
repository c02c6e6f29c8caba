"""Arrays of features on disk and in memory: whole or absent, within budgets, for all.

    cache_dir/features/LINE-KEY.bin    (n, D) rows as they lay in memory
                       LINE-KEY.json   shape, strides, type, size and digest; written last
                       .LINE-KEY.tmp   of a computation that goes on, or was killed
                       .LIN.lock       held while the arrays of a line are computed

A line is one view of the images of one split behind one source; its arrays are the boundaries.
What a file holds follows from its name, so it is never stale and may be deleted at any time, also
while it is in use.
"""

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from tlcnn.errors import StorageError
from tlcnn.storage import digest_of_file, hold_lock, make_dir, sync_folder, write_atomic

log = logging.getLogger(__name__)

GIB = 2**30
_N_MAPS = 4096  # files that are mapped at a time


@dataclass(frozen=True)
class Layout:
    """What one row of an array means: a tensor of this type, shape and strides, as it lay."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """D, the values of a row."""
        return torch.Size(self.shape).numel()

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type itself."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found


@dataclass(frozen=True)
class Features:
    """What crosses a boundary, of the n images of a split.

    Attributes:
        rows: (n, D), a tensor in memory or a map of a file. Never written to.
        layout: of a row.
        digest: sha256 of the rows.
        batch_size: images in the batches that they were computed in; 0: from other features.
    """

    rows: Tensor
    layout: Layout
    digest: str
    batch_size: int

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows."""
        return self.rows.numel() * self.rows.element_size()


def shape_rows(rows: Tensor, layout: Layout) -> Tensor:
    """Return contiguous rows (B, D) as the boundary tensor (B, ...) that they are."""
    return rows.as_strided((len(rows), *layout.shape), (layout.size, *layout.strides))


def read_rows(batch: Tensor) -> tuple[Tensor, Layout]:
    """Return a boundary tensor (B, ...) as rows (B, D) in the order of its memory.

    Raises:
        ValueError: its images do not lie one after the other without gaps.
    """
    shape, strides = tuple(batch.shape[1:]), batch.stride()[1:]
    layout = Layout(shape, strides, str(batch.dtype).removeprefix("torch."))
    spanned = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if len(batch) < 2 or batch.stride(0) != layout.size or spanned != layout.size:
        raise ValueError(f"a tensor {shape} with strides {batch.stride()} has no rows")
    offset = batch.storage_offset()
    return batch.as_strided((len(batch), layout.size), (layout.size, 1), offset), layout


class FeatureStore:
    """The arrays that this process knows, and the folder that it shares with others.

    Args:
        folder: where files are.
        disk_bytes: that all files together may take; the least recently used go first.
        memory_bytes: that arrays which are in no file may take.
    """

    def __init__(self, folder: Path, *, disk_bytes: int, memory_bytes: int) -> None:
        self.folder, self.disk_bytes, self.memory_bytes = folder, disk_bytes, memory_bytes
        self._maps: OrderedDict[str, Features] = OrderedDict()
        self._residents: OrderedDict[str, Features] = OrderedDict()
        self._n_reserved = 0  # bytes of arrays that are being computed
        self._cannot_write = disk_bytes == 0

    # ------------------------------------------------------------------------------- reading

    def find(self, name: str) -> Features | None:
        """Return a whole array from memory or disk, or None; a damaged file is deleted."""
        for held in (self._residents, self._maps):
            if name in held:
                held.move_to_end(name)
                self._touch(name)
                return held[name]
        found = self._read(name) if self.disk_bytes else None
        if found is not None:
            self._remember_map(name, found)
            self._touch(name)
        return found

    def _remember_map(self, name: str, features: Features) -> None:
        self._maps[name] = features
        if len(self._maps) > _N_MAPS:  # an operating system allows some 65,000
            self._maps.popitem(last=False)

    def _read(self, name: str) -> Features | None:
        path = self._path(name)
        if not path.with_suffix(".json").is_file():
            return None
        try:
            said = json.loads(path.with_suffix(".json").read_text())
            layout = Layout(tuple(said["shape"]), tuple(said["strides"]), said["dtype"])
            n, size = said["n"], said["n"] * layout.size * layout.torch_dtype.itemsize
            if path.stat().st_size == size and digest_of_file(path) == said["digest"]:
                rows = _map_file(path, n, layout)
                return Features(rows, layout, said["digest"], said["batch_size"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StorageError) as error:
            log.debug("%s: %r", path, error)
        log.warning("the stored features %s are damaged and are computed again", path)
        self._delete(path)
        return None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def _touch(self, name: str) -> None:
        with suppress(OSError):
            os.utime(self._path(name).with_suffix(".json"))

    @staticmethod
    def _delete(path: Path) -> None:
        for each in (path.with_suffix(".json"), path):  # in this order: no array without rows
            with suppress(OSError):
                each.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------- writing

    @contextmanager
    def hold(self, line: str, check_stop: Callable[[], None]) -> Iterator[None]:
        """Hold a line for this process, or wait for the process that computes it."""
        lock = self._lock(line)
        if lock is None:
            yield
            return
        doing = "another process that computes the same features"
        with hold_lock(
            lock, on_wait=lambda: log.info("waiting for %s", doing), check_stop=check_stop
        ):
            self._sweep_temporaries(line)
            yield

    def _lock(self, line: str) -> Path | None:
        if self._cannot_write:
            return None
        lock = self._name_lock(line)
        try:
            make_dir(self.folder)
            lock.touch()
        except (StorageError, OSError) as error:
            self.note_failure(error)
            return None
        return lock

    def _name_lock(self, line: str) -> Path:
        return self.folder / f".{line[:3]}.lock"  # shared by a few, so that there are not many

    def note_failure(self, error: Exception) -> None:
        """Say once that nothing more is stored on disk; training goes on without."""
        if not self._cannot_write:
            self._cannot_write = True
            log.warning("features are no longer stored on disk: %s", error)

    def _sweep_temporaries(self, line: str) -> None:
        """Delete what killed processes left: of our line, and of those nobody holds."""
        for temporary in self.folder.glob(".*.tmp"):
            lock = self._name_lock(temporary.name[1:])
            with suppress(OSError, Timeout):
                if lock == self._name_lock(line):
                    temporary.unlink(missing_ok=True)
                else:
                    with FileLock(lock, timeout=0):
                        temporary.unlink(missing_ok=True)

    def reserve(self, n_bytes: int) -> bool:
        """Return whether an array may be kept in memory, and count it if it may."""
        if self._n_reserved + n_bytes > self.memory_bytes:
            return False
        self._n_reserved += n_bytes
        self._forget_residents(self.memory_bytes - self._n_reserved)
        return True

    def release(self, n_bytes: int) -> None:
        """Count an array no longer that was reserved."""
        self._n_reserved -= n_bytes

    def _forget_residents(self, n_bytes: int) -> None:
        while sum(each.n_bytes for each in self._residents.values()) > n_bytes:
            self._residents.popitem(last=False)

    def keep(self, name: str, features: Features) -> None:
        """Keep an array in memory for the runs of this process, if it fits."""
        room = self.memory_bytes - self._n_reserved - features.n_bytes
        if room >= 0:
            self._forget_residents(room)
            self._residents[name] = features

    def make_room(self, n_bytes: int) -> bool:
        """Return whether a file of this size may be written; older ones may be deleted for it."""
        if self._cannot_write or n_bytes > self.disk_bytes:
            return False
        for name in [name for name in self._maps if not self._path(name).exists()]:
            del self._maps[name]  # deleted by another process: only our map keeps its space
        with suppress(OSError):
            files = sorted(self._list_files(), key=lambda file: file[0])
            used = sum(size for _, size, _ in files)
            for _, size, path in files:
                if used + n_bytes <= self.disk_bytes:
                    break
                log.debug("%s makes room", path)
                self._delete(path)
                self._maps.pop(path.stem, None)
                used -= size
        return True

    def _list_files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield when each array was last used, its bytes and its file."""
        for path in self.folder.glob("*.bin"):
            with suppress(OSError):  # deleted by another process in this moment
                sidecar = path.with_suffix(".json")
                used = sidecar.stat().st_mtime if sidecar.exists() else path.stat().st_mtime
                yield used, path.stat().st_size, path

    def publish(self, name: str, temporary: Path, features: Features) -> Features:
        """Make a whole temporary file the array of a name, and return a map of it.

        Raises:
            OSError, StorageError: it cannot be.
        """
        path = self._path(name)
        about = {
            **asdict(features.layout),
            "n": len(features.rows),
            "digest": features.digest,
            "batch_size": features.batch_size,
        }
        try:
            os.replace(temporary, path)
            sync_folder(self.folder)
            write_atomic(path.with_suffix(".json"), json.dumps(about))
        except (OSError, StorageError):
            self._delete(path)
            raise
        rows = _map_file(path, len(features.rows), features.layout)
        mapped = Features(rows, features.layout, features.digest, features.batch_size)
        self._remember_map(name, mapped)
        return mapped

    def temporary(self, name: str) -> Path:
        """Return where an array is written before it is whole."""
        return self.folder / f".{name}.tmp"


def _map_file(path: Path, n: int, layout: Layout) -> Tensor:
    rows = torch.from_file(str(path), shared=False, size=n * layout.size, dtype=layout.torch_dtype)
    return rows.view(n, layout.size)
