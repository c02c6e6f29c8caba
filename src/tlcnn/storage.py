"""Files that are whole or absent, digests of content, locks, and facts that are computed once."""

import errno
import hashlib
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import BaseFileLock, FileLock, Timeout

from tlcnn.errors import CannotCreate, StorageError

_POLL_S = 0.2  # between two tries of a lock


def digest_of(value: Any, length: int = 64) -> str:
    """Return the sha256 of a JSON value, independent of key order.

    Example:
        >>> digest_of({"a": 1, "b": 2}, 8) == digest_of({"b": 2, "a": 1}, 8)
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def digest_of_file(path: Path) -> str:
    """Return the sha256 of a file's bytes. Raises StorageError when it cannot be read."""
    try:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        return digest.hexdigest()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def write_atomic(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write a whole file or nothing: to a temporary file, which then gets the file's name.

    Args:
        durable: whether the file survives a power cut in the next seconds. Without that it is
            written many milliseconds faster, and a power cut may leave an empty file.

    Raises:
        StorageError: the disk is full or the folder is not writable; `path` is as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with writing(path):
        try:
            with open_new(temporary) as file:
                file.write(data)
                publish_file(file, path, durable=durable)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def open_new(path: Path) -> BinaryIO:
    """Open a new file for writing in the place of any older one, never through a link."""
    path.unlink(missing_ok=True)
    return open(path, "xb")


def publish_file(file: BinaryIO, path: Path, *, durable: bool = True) -> None:
    """Close a whole temporary file and give it its name. Raises OSError when the disk is full."""
    file.flush()
    if durable:
        os.fsync(file.fileno())
    file.close()
    os.replace(file.name, path)
    if durable:
        sync_folder(path.parent)


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to append to it. A link or a pipe that stands there is replaced by a file."""
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666), "ab")


def read_regular_file(path: Path, *, max_bytes: int | None = None) -> bytes:
    """Read a file of at most `max_bytes` that may have been put there by somebody else.

    A link is not followed, so nothing outside the file's folder is read; a pipe is not waited for.

    Raises:
        OSError: there is no such file, it is a link, a pipe or a folder, or it is too large.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link; put the file itself there", str(path))
    with os.fdopen(os.open(path, flags | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if max_bytes is not None and status.st_size > max_bytes:
            size, most = status.st_size / 2**20, max_bytes / 2**20
            message = f"it holds {size:,.0f} MiB; at most {most:,.0f} MiB are expected"
            raise OSError(errno.EFBIG, message, str(path))
        return file.read()


def sync_files(folder: Path) -> None:
    """Make the files of a folder survive a power cut. Raises StorageError."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink():
            with writing(path), open(path, "rb+") as file:
                os.fsync(file.fileno())
    with writing(folder):
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    if os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that names the file and, on a full disk, its space."""
    try:
        yield
    except OSError as error:
        space = ""
        folder = next((parent for parent in (path, *path.parents) if parent.is_dir()), None)
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and folder is not None:
            space = f" ({shutil.disk_usage(folder).free / 2**20:,.0f} MiB free on its disk)"
        raise StorageError(f"cannot write {path}: {error.strerror or error}{space}") from error


def make_dir(path: Path) -> Path:
    """Create a folder and its parents, and return it. Raises CannotCreate."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreate(f"cannot create the folder {path}: {error.strerror}") from error
    return path


def remember(cache_dir: Path, kind: str, key: Any, compute: Callable[[], Any]) -> Any:
    """Return `compute()`, a JSON value, which is stored on disk for later calls with this key.

    An unreadable file is computed again, so `cache_dir/facts` can be deleted at any time. A disk
    that is full costs the computation, and is no error.
    """
    path = cache_dir / "facts" / f"{kind}-{digest_of([kind, key], 24)}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        value = compute()
        with suppress(StorageError):
            make_dir(path.parent)
            write_atomic(path, json.dumps(value))
        return value


def stat_signature(path: Path) -> list[Any]:
    """Return a cheap value that changes whenever the file's content is likely to have changed."""
    try:
        stat = path.stat()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def load_file_digest(path: Path, cache_dir: Path) -> str:
    """Return the sha256 of a file, computed once for each path, size and time of change."""
    return remember(cache_dir, "digest", stat_signature(path), lambda: digest_of_file(path))


@contextmanager
def hold_lock(
    path: Path, *, on_wait: Callable[[], None], check_stop: Callable[[], None]
) -> Iterator[None]:
    """Hold the system's lock on a file; it dies with this process, also by kill -9.

    Args:
        on_wait: called once when another process holds it; raises to give up at once.
        check_stop: called while waiting; raises to give up.

    Raises:
        StorageError: the file cannot be created, or is a link, which would empty its target.
    """
    if path.is_symlink():
        raise StorageError(f"cannot lock {path}: it is a link. Delete it and try again")
    lock = try_lock(path)
    if lock is None:
        on_wait()
    while lock is None:
        check_stop()
        time.sleep(_POLL_S)
        lock = try_lock(path)
    try:
        yield
    finally:
        lock.release()


def try_lock(path: Path) -> BaseFileLock | None:
    """Return the system's lock on a file, held until it is released; None: another holds it."""
    lock = FileLock(path)
    with writing(path), suppress(Timeout):
        lock.acquire(timeout=0)
        return lock
    return None
