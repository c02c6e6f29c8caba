"""The image cache: every image decoded and resized once, into one memory-mapped uint8 array.

    images + digests -> cache_dir/images/<key>.npy   (N, S, S, 3) uint8
                        cache_dir/images/<key>.json  its digest and the bad images; written last

The key is a digest of the images' digests, S, the fit and the filter, so a file can be shared by
every run, is never stale, and can be deleted at any time.
"""

import hashlib
import json
import logging
import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from tlcnn.data.decode import decode_images
from tlcnn.data.index import Images
from tlcnn.data.resize import DECODES, FILTER, FITS, choose_decoding
from tlcnn.errors import ConfigError, DataError, Stopped, StorageError, did_you_mean, list_names
from tlcnn.storage import digest_of, hold_lock, make_dir, sync_folder, write_atomic

CACHE_VERSION = 1
ON_BAD = ("refuse", "skip")
MARGIN = 1.125  # stored side / side the network sees: the room that random crops have
HASH_BLOCK = 16 * 2**20  # bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageCache:
    """All images of a dataset, decoded.

    Attributes:
        array: (N, S, S, 3) uint8 RGB, a read-only memory map.
        bad: positions of images that could not be decoded; black in `array`.
    """

    array: np.ndarray
    bad: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stored:
    """What the sidecar file says about an array file."""

    shape: tuple[int, int, int, int]
    digest: str
    bad: dict[int, str]  # position -> why


def stored_size(image_size: int) -> int:
    """Return the side S that images are stored at: the network's, plus a margin for crops.

    S is even wherever `image_size` is, so that the centre crop is exact.

    Example:
        >>> [stored_size(size) for size in (28, 64, 128, 224)]
        [32, 72, 144, 252]
    """
    return image_size + 2 * round(image_size * (MARGIN - 1) / 2)


def load_image_cache(
    images: Images,
    *,
    digests: Sequence[str],
    image_size: int,
    fit: str,
    decode: str = "full",
    cache_dir: Path,
    workers: int,
    progress: bool = True,
    on_bad: str = "refuse",
    should_stop: Callable[[], bool] | None = None,
    ids: Sequence[str] | None = None,
) -> ImageCache:
    """Open the cache of these images, and build it first if it is missing or damaged.

    Of several processes that want the same cache one builds and the others wait.

    Args:
        digests: one content digest an image, in order (`images.load_digests()`).
        image_size: the side that the network sees; S is `stored_size(image_size)`.
        fit: "crop" (shorter side to S, then centre), "squash" (ignore the aspect ratio) or "pad"
            (longer side to S, black around).
        decode: "full", or "scaled": JPEGs at no less than twice S; other pixels, faster.
        workers: decoding threads; 0 and 1 decode in the calling thread.
        on_bad: "refuse" raises when images cannot be decoded, "skip" lists them in `bad`.
        should_stop: asked between chunks and while waiting.
        ids: image ids for messages; positions are named without them.

    Raises:
        DataError: no images, or bad ones and `on_bad="refuse"`; all have been tried.
        StorageError: the cache folder cannot be written or its disk is too small.
        Stopped: `should_stop` said so; nothing is left behind.
    """
    _check_arguments(images, digests, image_size, fit, decode, on_bad)
    size = stored_size(image_size)
    shape = (len(images), size, size, 3)
    path = Path(cache_dir) / "images" / f"{make_cache_key(digests, size, fit, decode)}.npy"
    stop = should_stop or (lambda: False)
    cache = _open_cache(path, shape, workers)
    if cache is None:
        with _naming_the_setting(path), _lock(path, stop):
            cache = _open_cache(path, shape, workers)  # built by another while this one waited
            if cache is None:
                _sweep_temporaries(path)
                source = choose_decoding(images, size, fit, decode)
                bad = _build(path, source, shape, fit, workers, progress, on_bad, stop)
                _refuse_bad(bad, on_bad, ids, len(images))
                cache = _map_array(path), bad
    array, bad = cache
    _refuse_bad(bad, on_bad, ids, len(images))
    return ImageCache(array, tuple(sorted(bad)))


def make_cache_key(digests: Sequence[str], size: int, fit: str, decode: str = "full") -> str:
    """Return the name of the cache of these images at this stored size, fit and decoding."""
    content = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    other = [] if decode == "full" else [decode]
    return digest_of([CACHE_VERSION, content, size, fit, FILTER, *other], 32)


def _check_arguments(
    images: Images, digests: Sequence[str], image_size: int, fit: str, decode: str, on_bad: str
) -> None:
    for name, given, allowed in (
        ("fit", fit, FITS),
        ("decode", decode, DECODES),
        ("on_bad", on_bad, ON_BAD),
    ):
        if given not in allowed:
            hint = did_you_mean(given, allowed)
            raise ConfigError(f"{name}={given} is not one of {', '.join(allowed)}.{hint}")
    if image_size < 1:
        raise ConfigError(f"image_size={image_size}: give a positive number of pixels")
    if len(images) == 0 or len(digests) != len(images):
        raise DataError(
            f"cannot build an image cache of {len(images)} images with {len(digests)} digests: "
            "a dataset needs at least one image and one digest for each"
        )


def _refuse_bad(
    bad: dict[int, str], on_bad: str, ids: Sequence[str] | None, n_images: int
) -> None:
    """Raise DataError when there are bad images and they are not to be skipped."""
    if not bad or on_bad == "skip":
        return
    named = [f"{ids[i] if ids else f'image {i}'} ({why})" for i, why in sorted(bad.items())]
    raise DataError(
        f"{len(bad)} of {n_images} images cannot be decoded: {list_names(named)}. "
        "Get these files again, or leave them out with dataset.on_bad=skip"
    )


# ---- opening ------------------------------------------------------------------------------------


def _open_cache(
    path: Path, shape: tuple[int, int, int, int], workers: int
) -> tuple[np.ndarray, dict[int, str]] | None:
    """Return the array and its bad images, or None when there is no intact cache.

    The whole file is hashed, in parallel: about 1.5 GB/s a core, and the pages it reads are the
    ones that training is about to read.
    """
    sidecar = path.with_suffix(".json")
    if not (sidecar.exists() and path.exists()):
        return None
    try:
        stored = _read_sidecar(sidecar)
        if stored.shape == shape and compute_file_digest(path, workers) == stored.digest:
            return _map_array(path), stored.bad
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.debug("%s: %r", path, error)
    log.warning("the image cache %s is damaged and is built again", path)
    return None


def _map_array(path: Path) -> np.ndarray:
    """Map an array file for reading in any order.

    Without that advice every image draws in its neighbours, and an array larger than the memory
    pushes out what it has just read: 2,400 images/s with it and next to none without.
    """
    array: Any = np.load(path, mmap_mode="r")
    if hasattr(mmap, "MADV_RANDOM"):
        array._mmap.madvise(mmap.MADV_RANDOM)
    return array


def _read_sidecar(path: Path) -> Stored:
    content = json.loads(path.read_text(encoding="utf-8"))
    n_images, height, width, channels = content["shape"]
    bad = {int(position): str(why) for position, why in content["bad"].items()}
    return Stored((n_images, height, width, channels), content["digest"], bad)


def compute_file_digest(path: Path, workers: int = 1) -> str:
    """Return the sha256 of the sha256 of each 16 MiB block of a file; blocks go in parallel."""
    starts = range(0, path.stat().st_size, HASH_BLOCK)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        blocks = list(pool.map(lambda start: _hash_block(path, start), starts))
    return hashlib.sha256(b"".join(blocks)).hexdigest()


def _hash_block(path: Path, start: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(HASH_BLOCK)).digest()


# ---- building -----------------------------------------------------------------------------------


def _build(
    path: Path,
    images: Images,
    shape: tuple[int, int, int, int],
    fit: str,
    workers: int,
    progress: bool,
    on_bad: str,
    stop: Callable[[], bool],
) -> dict[int, str]:
    """Write the array and then the sidecar, and return the bad images.

    With bad images that are refused nothing is written.
    """
    _check_space(path, shape)
    temporary = path.with_name(f".{path.stem}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            bad: dict[int, str] = {}
            for pixels, chunk_bad in decode_images(images, shape[1], fit, workers, progress, stop):
                # Written, not memory-mapped: a full disk is then an error and not a SIGBUS.
                file.write(pixels.data)
                bad |= chunk_bad
            file.flush()
            os.fsync(file.fileno())
        if not bad or on_bad == "skip":
            digest = compute_file_digest(temporary, workers)
            os.replace(temporary, path)
            sync_folder(path.parent)
            content = {
                "shape": shape,
                "digest": digest,
                "bad": {str(i): w for i, w in bad.items()},
            }
            write_atomic(path.with_suffix(".json"), json.dumps(content))
    finally:
        temporary.unlink(missing_ok=True)
    return bad


# ---- the folder ---------------------------------------------------------------------------------


@contextmanager
def _naming_the_setting(path: Path) -> Iterator[None]:
    """Make every failure to write the cache a StorageError that names TLCNN_CACHE."""
    advice = "Set TLCNN_CACHE, or cache_dir=, to a folder that can be written and has space"
    try:
        make_dir(path.parent)
        yield
    except StorageError as error:
        raise StorageError(f"{error}. {advice}") from error
    except OSError as error:
        raise StorageError(
            f"cannot write the image cache {path}: {error.strerror or error}. {advice}"
        ) from error


@contextmanager
def _lock(path: Path, stop: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of one cache file, or wait for the process that builds it."""
    doing = "another process that is decoding the same images"

    def check_stop() -> None:
        if stop():
            raise Stopped(f"stopped while waiting for {doing}: run the same command again")

    lock = path.with_name(f".{path.stem}.lock")
    with hold_lock(lock, on_wait=lambda: log.info("waiting for %s", doing), check_stop=check_stop):
        yield


def _sweep_temporaries(path: Path) -> None:
    """Delete what killed builders left: ours, whose lock we hold, and those nobody is building."""
    for temporary in path.parent.glob(".*.tmp"):
        key = temporary.name.split(".")[1]
        if key == path.stem:
            temporary.unlink(missing_ok=True)
            continue
        try:
            with FileLock(path.with_name(f".{key}.lock"), timeout=0):
                temporary.unlink(missing_ok=True)
        except Timeout:
            continue


def _check_space(path: Path, shape: tuple[int, int, int, int]) -> None:
    needed = int(np.prod(shape, dtype=np.int64)) + 2**20
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise StorageError(
            f"the image cache {path} needs {needed / 2**20:,.0f} MiB and its disk has "
            f"{free / 2**20:,.0f} MiB free"
        )
