"""Arrays of an npz file: read without pickle, and from disk where they are large.

    file.npz (a zip) -> list_arrays -> NpzArray -> load_array: in memory, or, above
    STREAM_BYTES, unpacked once into the arrays of cache_dir/arrays and memory-mapped

The name there is a digest of the member's name, size and checksum.
"""

import logging
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from tqdm import tqdm

from tlcnn.data.array_store import ArrayStore, CachedArray
from tlcnn.data.checksum import find_problem
from tlcnn.errors import DataError
from tlcnn.storage import digest_of

STREAM_BYTES = 256 * 2**20
BLOCK = 2**20  # bytes a read

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NpzArray:
    """An array inside an npz file, known by its header alone.

    Attributes:
        member: its name in there, with `.npy`.
        dtype: its type, as NumPy spells it.
        n_bytes: size of the member, header included.
        crc: checksum that the archive declares.
    """

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: str
    n_bytes: int
    crc: int

    def __str__(self) -> str:
        return f"{self.member.removesuffix('.npy')} in {self.path}"


def list_arrays(path: Path) -> dict[str, NpzArray]:
    """Return the arrays of an npz file by name, from their headers.

    Raises:
        DataError: the file is missing, a web page, truncated or no npz; or an array holds Python
            objects, is not in C order, or has another size than its header says.
    """
    arrays = {}
    with _open(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                array = _describe_member(path, archive, info)
                arrays[info.filename.removesuffix(".npy")] = array
    return arrays


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an npz file; what zipfile and NumPy raise on a broken one becomes a DataError."""
    try:
        if problem := find_problem(path, ".npz", None):
            raise DataError(f"{path} cannot be read: {problem}. Fetch it again")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} is broken or truncated ({error}): fetch it again") from error


def _describe_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NpzArray:
    with archive.open(info) as file:
        shape, in_fortran_order, dtype = _read_header(file)
        n_header = file.tell()
    array = NpzArray(path, info.filename, shape, dtype.str, info.file_size, info.CRC)
    if dtype.hasobject:
        raise DataError(
            f"{array} holds Python objects, which are not read because they can run code"
        )
    if in_fortran_order and len(shape) > 1:
        raise DataError(f"{array} is in Fortran order: save it with numpy.ascontiguousarray")
    n_expected = n_header + math.prod(shape) * dtype.itemsize
    if n_expected != info.file_size:
        raise DataError(f"{array} has {info.file_size:,} bytes, {n_expected:,} expected")
    return array


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    is_first_version = npy.read_magic(file) == (1, 0)
    read = npy.read_array_header_1_0 if is_first_version else npy.read_array_header_2_0
    return read(file)


def load_array(array: NpzArray, cache_dir: Path) -> np.ndarray:
    """Return the array, in memory or, where it is large, as a read-only memory map.

    A large array is (n, ...) uint8.

    Raises:
        DataError: the member is broken.
        StorageError: it cannot be unpacked below `cache_dir`.
    """
    if array.n_bytes <= STREAM_BYTES:
        with _open(array.path) as archive:
            content = archive.read(array.member)  # checks the checksum
            return np.asarray(npy.read_array(BytesIO(content), allow_pickle=False))
    key = digest_of([array.member, array.n_bytes, array.crc, array.shape, array.dtype], 32)
    store = ArrayStore(cache_dir / "arrays", workers=os.cpu_count() or 1)
    return store.load(key, lambda: _unpack(array, key, store), work=f"is unpacking {array}").rows


def _unpack(array: NpzArray, key: str, store: ArrayStore) -> CachedArray:
    log.info("unpacking %s once: %s MiB", array, f"{array.n_bytes / 2**20:,.0f}")
    bar = tqdm(total=array.shape[0], desc="unpacking, once", unit="image", disable=None)
    with bar, store.open_writer(key, array.shape) as writer:
        for rows in _iter_rows(array):
            writer.add(rows)
            bar.update(len(rows))
        return writer.finish({})


def _iter_rows(array: NpzArray) -> Iterator[np.ndarray]:
    """Yield blocks (b, ...) of the rows of an uint8 array."""
    row_bytes = math.prod(array.shape[1:])
    with _open(array.path) as archive, archive.open(array.member) as file:
        _read_header(file)
        while block := file.read(max(1, BLOCK // row_bytes) * row_bytes):
            yield np.frombuffer(block, np.uint8).reshape(-1, *array.shape[1:])
