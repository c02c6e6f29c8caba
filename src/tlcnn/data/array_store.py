"""Arrays that are computed once and cached: whole or absent, shared by processes, within budgets.

    FOLDER/NAME.bin     the rows
           NAME.json    the array's shape, its digest and what its maker noted; written last
           .NAME.tmp    rows that are being written, or were when their process was killed
           .NAM.lock    held by the process that computes arrays whose names begin with NAM

A name is a digest of everything that decides the bits of an array. An array is therefore never
stale, and its files may be deleted at any time, even while it is in use.
"""

import json
import logging
import math
import mmap
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tlcnn.data.block_digest import BlockDigest, digest_of_blocks
from tlcnn.errors import StorageError
from tlcnn.storage import (
    digest_of,
    hold_lock,
    make_dir,
    open_new,
    publish_file,
    try_lock,
    write_atomic,
    writing,
)

log = logging.getLogger(__name__)

MIB = 2**20
_N_MAPS = 256  # files that are mapped at a time; each is an open file, often limited to 1,024


@dataclass(frozen=True, eq=False)
class CachedArray:
    """An array that is computed once. Nobody may write to it."""

    rows: np.ndarray  # (n, ...) uint8, one row an image; a map of a file, or memory
    digest: str  # of the rows
    info: dict[str, Any]  # what the maker of the array noted about it, a JSON object


class ArrayStore:
    """The arrays of a folder, and those that this process has in memory.

    Args:
        disk_bytes: the bytes that all files together may take. The least recently used ones make
            room for a new one. None: no limit; 0: nothing is read or written.
        memory_bytes: the bytes of memory for arrays that the disk has no room for.
        workers: the threads that check a file's digest.
    """

    def __init__(
        self,
        folder: Path,
        *,
        disk_bytes: int | None = None,
        memory_bytes: int = 0,
        workers: int = 1,
    ) -> None:
        self.folder, self.disk_bytes, self.memory_bytes = folder, disk_bytes, memory_bytes
        self.workers, self.can_write = workers, disk_bytes != 0
        self._maps: OrderedDict[str, CachedArray] = OrderedDict()
        self._residents: OrderedDict[str, CachedArray] = OrderedDict()
        self._n_reserved = 0  # bytes of memory

    # ------------------------------------------------------------------------------- reading

    def find(self, name: str) -> CachedArray | None:
        """Return an array from memory or disk, or None. Damaged files are deleted."""
        if name in self._residents:
            self._residents.move_to_end(name)
            return self._residents[name]
        path = self._path(name)
        sidecar = path.with_suffix(".json")
        if name not in self._maps and self.disk_bytes != 0 and sidecar.is_file():
            try:
                content = json.loads(sidecar.read_text(encoding="utf-8"))
                is_whole = content.pop("seal") == digest_of(content)
                is_whole = is_whole and path.stat().st_size == math.prod(content["shape"])
                if is_whole and digest_of_blocks(path, self.workers) == content["digest"]:
                    self._map(name, content)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                log.debug("%s: %r", path, error)
            if name not in self._maps:
                log.warning("the cached array %s is damaged and is computed again", path)
                self._delete(name)
        if name not in self._maps:
            return None
        self._maps.move_to_end(name)
        with suppress(OSError):
            os.utime(sidecar)  # the time of its last use
        return self._maps[name]

    def _map(self, name: str, content: dict[str, Any]) -> CachedArray:
        """Map a file for reading in any order.

        Without that advice to the system every row draws in its neighbours, and an array larger
        than the memory pushes out what it has just read: 2,400 images/s with it, hardly any
        without.
        """
        rows: Any = np.memmap(self._path(name), np.uint8, "r", shape=tuple(content["shape"]))
        if hasattr(mmap, "MADV_RANDOM"):
            rows._mmap.madvise(mmap.MADV_RANDOM)
        array = self._maps[name] = CachedArray(rows, content["digest"], content["info"])
        if len(self._maps) > _N_MAPS:
            self._maps.popitem(last=False)
        return array

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def _delete(self, name: str) -> None:
        for suffix in (".json", ".bin"):  # in this order: no sidecar without rows
            with suppress(OSError):
                self._path(name).with_suffix(suffix).unlink(missing_ok=True)

    # ------------------------------------------------------------------------------- writing

    def load(
        self,
        name: str,
        build: Callable[[], CachedArray],
        *,
        work: str,
        check_stop: Callable[[], None] = lambda: None,
    ) -> CachedArray:
        """Return an array. Where it is missing it is built, or another process is waited for.

        Raises:
            StorageError: the folder cannot be written, or its disk is too small.
        """
        array = self.find(name)
        if array is not None:
            return array
        try:
            with writing(self.folder), self.hold(name, work=work, check_stop=check_stop):
                return self.find(name) or build()  # another process may have built it meanwhile
        except StorageError as error:
            advice = (
                "Set TLCNN_CACHE, or cache_dir=, to a folder that can be written and has space"
            )
            raise StorageError(f"{error}. {advice}") from error

    @contextmanager
    def hold(self, name: str, *, work: str, check_stop: Callable[[], None]) -> Iterator[None]:
        """Hold the lock of an array, or wait for the process that computes it.

        What killed processes left under this lock, and under free ones, is deleted.

        Args:
            work: what the other process does, for the message.
            check_stop: called while waiting; raises to give up.

        Raises:
            StorageError: the folder cannot be written.
        """
        make_dir(self.folder)
        held = self._name_lock(name)

        def say_wait() -> None:
            log.info("waiting for another process that %s", work)

        with hold_lock(held, on_wait=say_wait, check_stop=check_stop):
            for temporary in self.folder.glob(".*.tmp"):
                path = self._name_lock(temporary.name[1:])
                with suppress(OSError, StorageError):
                    lock = None if path == held else try_lock(path)
                    if path == held or lock:
                        temporary.unlink(missing_ok=True)
                    if lock:
                        lock.release()
            yield

    def _name_lock(self, name: str) -> Path:
        return self.folder / f".{name[:3]}.lock"  # few names share one, so there are few locks

    def open_writer(self, name: str, shape: tuple[int, ...]) -> "ArrayWriter":
        """Return a writer of (n, ...) rows: to disk, or to memory where the disk has no room.

        Raises:
            ValueError: the array fits neither budget.
            StorageError: the disk is full or cannot be written, and memory has no room.
        """
        n_bytes = math.prod(shape)
        if self._make_room(n_bytes):
            try:
                return ArrayWriter(self, name, shape, self._open_temporary(name, n_bytes))
            except StorageError as error:
                if n_bytes > self.memory_bytes:
                    raise
                self.stop_writing(error)
        if self.reserve(n_bytes):
            return ArrayWriter(self, name, shape, None)
        raise ValueError(
            f"an array of {n_bytes / MIB:,.3g} MiB fits neither into reuse_disk_gib nor into "
            "reuse_memory_gib"
        )

    def reserve(self, n_bytes: int) -> bool:
        """Return whether the memory budget has room for so much, and count it if it has.

        The least recently used arrays in memory make room.
        """
        if self._n_reserved + n_bytes > self.memory_bytes:
            return False
        self._n_reserved += n_bytes
        room = self.memory_bytes - self._n_reserved
        while sum(array.rows.nbytes for array in self._residents.values()) > room:
            self._residents.popitem(last=False)
        return True

    def release(self, n_bytes: int) -> None:
        """Return memory that was reserved."""
        self._n_reserved -= n_bytes

    def _make_room(self, n_bytes: int) -> bool:
        """Return whether the disk budget allows a file, deleting others if need be."""
        if not self.can_write or self.disk_bytes is None:
            return self.can_write
        if n_bytes > self.disk_bytes:
            return False
        for name in [name for name in self._maps if not self._path(name).exists()]:
            del self._maps[name]  # another process deleted the file: only our map keeps its space
        files, n_used = [], 0
        for path in self.folder.glob("*"):
            with suppress(OSError):  # another process is deleting the file
                size = path.stat().st_size
                n_used += size if path.suffix in (".bin", ".tmp") else 0
                if path.suffix == ".bin":
                    sidecar = path.with_suffix(".json")
                    last_use = (sidecar if sidecar.exists() else path).stat().st_mtime
                    files.append((last_use, size, path.stem))
        for _, size, name in sorted(files):
            if n_used + n_bytes <= self.disk_bytes:
                break
            log.debug("%s makes room", name)
            self._delete(name)
            self._maps.pop(name, None)
            n_used -= size
        return n_used + n_bytes <= self.disk_bytes

    def _open_temporary(self, name: str, n_bytes: int) -> BinaryIO:
        """Open the temporary file of an array, if the disk has room for the whole array."""
        path = self._path(name)
        make_dir(self.folder)
        with writing(path):
            needed, free = n_bytes + MIB, shutil.disk_usage(self.folder).free
            if needed > free:
                raise StorageError(
                    f"cannot write {path}: it needs {needed / MIB:,.0f} MiB and its disk has "
                    f"{free / MIB:,.0f} MiB free"
                )
            file = open_new(path.with_name(f".{name}.tmp"))
            try:
                file.truncate(n_bytes)  # so that other writers count the whole array
            except OSError:
                file.close()
                Path(file.name).unlink(missing_ok=True)
                raise
            return file

    def publish(self, name: str, file: BinaryIO, content: dict[str, Any]) -> CachedArray:
        """Make a whole temporary file the array of a name, and return a map of it.

        Raises:
            OSError, StorageError: the disk does not take it; nothing is left of it.
        """
        path = self._path(name)
        try:
            publish_file(file, path)
            sealed = {**content, "seal": digest_of(content)}
            write_atomic(path.with_suffix(".json"), json.dumps(sealed))
        except (OSError, StorageError):
            self._delete(name)
            raise
        return self._map(name, content)

    def keep(self, name: str, array: CachedArray) -> CachedArray:
        """Keep an array in memory whose bytes were reserved, until others need the room."""
        self.release(array.rows.nbytes)
        self._residents[name] = array
        return array

    def stop_writing(self, error: Exception) -> None:
        """Write nothing more to disk after an error, and say so once."""
        if self.can_write:
            self.can_write = False
            log.warning("arrays are no longer stored in %s: %s", self.folder, error)


class ArrayWriter:
    """Collects the rows of an array in a temporary file, or in memory.

    It is a context manager: an array that is not finished at the end of the block is deleted.
    """

    def __init__(
        self, store: ArrayStore, name: str, shape: tuple[int, ...], file: BinaryIO | None
    ) -> None:
        self._store, self._name, self._shape, self._file = store, name, shape, file
        self._rows = np.empty(shape, np.uint8) if file is None else None
        self._n_rows = 0
        self._digest = BlockDigest()

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.discard()

    def add(self, rows: np.ndarray) -> None:
        """Take the next rows, (B, ...) uint8. Raises OSError when the disk is full."""
        data = np.ascontiguousarray(rows).reshape(-1).data
        self._digest.update(data)
        if self._rows is not None:
            self._rows[self._n_rows : self._n_rows + len(rows)] = rows
        elif self._file is not None:
            self._file.write(data)
        self._n_rows += len(rows)

    def finish(self, info: dict[str, Any]) -> CachedArray:
        """Return the whole array, a map of its file where it has one.

        Raises:
            OSError, StorageError: the disk does not take the file.
        """
        assert self._n_rows == self._shape[0], "an array is whole or absent"
        digest = self._digest.hexdigest()
        if self._rows is None:
            assert self._file is not None
            content = {"shape": self._shape, "digest": digest, "info": info}
            return self._store.publish(self._name, self._file, content)
        array, self._rows = CachedArray(self._rows, digest, info), None
        return self._store.keep(self._name, array)

    def discard(self) -> None:
        """Delete what is not finished, and give its memory back."""
        if self._rows is not None:
            self._store.release(self._rows.nbytes)
            self._rows = None
        if self._file is not None:
            with suppress(OSError):  # a full disk says so again when a file is closed
                self._file.close()
            with suppress(OSError):
                Path(self._file.name).unlink(missing_ok=True)
            self._file = None
