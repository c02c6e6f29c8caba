"""The image cache: every image decoded and resized once, into one memory-mapped uint8 array.

    images + digests -> cache_dir/images/<key>.bin   (N, S, S, 3) uint8, a `CachedArray`
                        cache_dir/images/<key>.json  its digest and the images that are bad

The key is a digest of the images' digests, S, the fit and the filter. Every run can share a file,
which is never stale and can be deleted at any time. Where a file lists bad images that can be
decoded now, runs that skip bad images go on with it, and runs that refuse them share another one.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tlcnn.data.array_store import ArrayStore, CachedArray
from tlcnn.data.decode import decode_images
from tlcnn.data.index import Images
from tlcnn.data.resize import FILTER, choose_decoding, decode_range
from tlcnn.errors import DataError, Stopped, list_names
from tlcnn.storage import digest_of

log = logging.getLogger(__name__)

CACHE_VERSION = 2
N_RETRIED = 32  # bad images of a stored array that are tried again
MARGIN = 1.125  # stored side / side the network sees: the room that random crops have


@dataclass(frozen=True)
class ImageCache:
    """All images of a dataset, decoded."""

    array: np.ndarray  # (N, S, S, 3) uint8 RGB, a read-only memory map
    bad: tuple[int, ...] = ()  # positions of images that could not be decoded; black in `array`


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
    should_stop: Callable[[], bool] = lambda: False,
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
        workers: the number of decoding threads; 0 and 1 decode in the calling thread.
        on_bad: "refuse" raises when images cannot be decoded, "skip" lists them in `bad`.
        should_stop: called between chunks and while waiting; true ends the build.
        ids: the image ids for messages; positions are named without them.

    Raises:
        DataError: there are bad images and `on_bad="refuse"`; all have been tried.
        StorageError: the cache folder cannot be written or its disk is too small.
        Stopped: `should_stop` returned true; nothing is left behind.
    """
    assert 0 < len(images) == len(digests), "one digest for each of at least one image"
    size = stored_size(image_size)
    key = make_cache_key(digests, size, fit, decode)
    whole_key = digest_of([key, "whole"], 32)
    store = ArrayStore(Path(cache_dir) / "images", workers=workers)

    def check_stop() -> None:
        if should_stop():
            raise Stopped("stopped while waiting for another process: run the same command again")

    def refuse_bad(bad: dict[str, str]) -> None:
        if bad and on_bad == "refuse":
            reasons = [f"{ids[int(i)] if ids else f'image {i}'} ({why})" for i, why in bad.items()]
            raise DataError(
                f"{len(bad)} of {len(images)} images cannot be decoded: {list_names(reasons)}. "
                "Repair or replace these files, or leave them out with dataset.on_bad=skip"
            )

    source = choose_decoding(images, size, fit, decode)

    def build(name: str) -> CachedArray:
        bad: dict[str, str] = {}  # position -> why
        with store.open_writer(name, (len(images), size, size, 3)) as writer:
            for pixels, reasons in decode_images(
                source, size, fit, workers, progress, should_stop
            ):
                writer.add(pixels)
                bad |= {str(position): why for position, why in reasons.items()}
            refuse_bad(bad)
            return writer.finish({"bad": bad})

    def load(name: str) -> CachedArray:
        work = "decodes the same images"
        return store.load(name, partial(build, name), work=work, check_stop=check_stop)

    whole = store.find(whole_key) if on_bad == "refuse" else None
    if whole is not None:
        return ImageCache(whole.rows)
    array = load(key)
    bad = sorted(map(int, array.info["bad"]))[:N_RETRIED]
    # An earlier version, or one without a package, may have built it.
    mended = [row for row in bad if not decode_range(source, range(row, row + 1), size, fit)[1]]
    if mended and on_bad == "refuse":
        array = load(whole_key)
    elif mended:  # other runs have trained without them
        log.warning(
            "%d of the skipped images can be decoded now. Delete %s.* to use them: runs of the "
            "same id then have more images than before",
            len(mended),
            store.folder / key,
        )
    refuse_bad(array.info["bad"])
    return ImageCache(array.rows, tuple(sorted(map(int, array.info["bad"]))))


def make_cache_key(digests: Sequence[str], size: int, fit: str, decode: str = "full") -> str:
    """Return the name of the cache of these images at this stored size, fit and decoding."""
    content = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return digest_of([CACHE_VERSION, content, size, fit, FILTER, decode], 32)
