"""Arrays of an npz file: read without pickle, and from disk where they are large.

    file.npz (a zip) -> list_arrays -> NpzArray -> load_array: in memory, or, above
    STREAM_BYTES, unpacked once to cache_dir/arrays/<key>.npy and memory-mapped

The key is the member's name, size and checksum, so an unpacked file can be shared and deleted.
"""

import logging
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from tqdm import tqdm

from tlcnn.errors import DataError, StorageError
from tlcnn.storage import digest_of, hold_lock, make_dir, open_new, publish_file, writing

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
    with _open(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        arrays = [_read_header(path, archive, info) for info in members]
    return {array.member.removesuffix(".npy"): array for array in arrays}


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an npz file; what zipfile and NumPy raise on a broken one becomes a DataError."""
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path} {_explain(path)}: fetch it again")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} is broken or truncated ({error}): fetch it again") from error


def _explain(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(64).lstrip()
    if not start:
        return "is empty (0 bytes)"
    if start.startswith(b"<"):
        return "is a web page, not an npz file: its download failed"
    if start.startswith(b"PK"):
        return "is truncated: its download stopped early"
    return "is not an npz file"


def _read_header(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NpzArray:
    with archive.open(info) as file:
        is_first_version = npy.read_magic(file) == (1, 0)
        read = npy.read_array_header_1_0 if is_first_version else npy.read_array_header_2_0
        shape, in_fortran_order, dtype = read(file)
        n_header = file.tell()
    array = NpzArray(path, info.filename, shape, dtype.str, info.file_size, info.CRC)
    if dtype.hasobject:
        raise DataError(
            f"{array} holds Python objects, which are not read because they can run code"
        )
    if in_fortran_order and len(shape) > 1:
        raise DataError(f"{array} is in Fortran order: save it with numpy.ascontiguousarray")
    n_data = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if n_header + n_data != info.file_size:
        raise DataError(f"{array} has {info.file_size:,} bytes, {n_header + n_data:,} expected")
    return array


def load_array(array: NpzArray, cache_dir: Path) -> np.ndarray:
    """Return the array, in memory or, where it is large, as a read-only memory map.

    Raises:
        DataError: the member is broken.
        StorageError: it cannot be unpacked below `cache_dir`.
    """
    if array.n_bytes <= STREAM_BYTES:
        with _open(array.path) as archive:
            content = archive.read(array.member)  # checks the checksum
            return np.asarray(npy.read_array(BytesIO(content), allow_pickle=False))
    key = digest_of([array.member, array.n_bytes, array.crc, array.shape, array.dtype], 32)
    path = cache_dir / "arrays" / f"{key}.npy"

    def is_whole() -> bool:
        return path.is_file() and path.stat().st_size == array.n_bytes

    if not is_whole():
        lock = make_dir(path.parent) / f".{key}.lock"
        say = f"waiting for another process that is unpacking {array}"
        with hold_lock(lock, on_wait=lambda: log.info(say), check_stop=lambda: None):
            if not is_whole():  # unpacked by another while this one waited
                _unpack(array, path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _unpack(array: NpzArray, path: Path) -> None:
    """Write the member, which is an npy file already, under its final name when it is whole."""
    free = shutil.disk_usage(path.parent).free
    if array.n_bytes > free:
        raise StorageError(
            f"unpacking {array} needs {array.n_bytes / 2**20:,.0f} MiB and the disk of "
            f"{path.parent} has {free / 2**20:,.0f} MiB free. Set TLCNN_CACHE, or cache_dir=, to "
            "a folder that has space"
        )
    log.info("unpacking %s once: %s MiB", array, f"{array.n_bytes / 2**20:,.0f}")
    temporary = path.with_name(f".{path.stem}.tmp")
    bar = tqdm(
        total=array.n_bytes, desc="unpacking, once", unit="B", unit_scale=True, disable=None
    )
    try:
        with bar, writing(path), open_new(temporary) as file:
            for block in _iter_blocks(array):
                file.write(block)
                bar.update(len(block))
            publish_file(file, path)
    finally:
        temporary.unlink(missing_ok=True)


def _iter_blocks(array: NpzArray) -> Iterator[bytes]:
    with _open(array.path) as archive, archive.open(array.member) as member:
        while block := member.read(BLOCK):
            yield block
