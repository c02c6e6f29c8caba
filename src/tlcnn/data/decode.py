"""Decode and resize many images, in order, on all cores.

Little work is done by threads, which start at once: Pillow gives up the GIL while it decodes and
resizes. Much work is done by processes (`decode_process`), which the GIL of drawn images, or of
many cores, does not hold back. The pixels are the same, so it may be chosen by a timing.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from PIL import Image
from tqdm import tqdm

from tlcnn.data.decode_process import DecodeProcesses
from tlcnn.data.images import FileImages
from tlcnn.data.index import Images
from tlcnn.errors import DataError, Stopped

FITS = ("crop", "squash", "pad")
FILTER = "bilinear"  # Pillow's, which is antialiased when it shrinks
DECODES = ("full", "scaled")
CHUNK = 32  # images a task
PROCESSES_PAY_S = 5.0  # of work; a process takes about half a second of a core to start

Chunk = tuple[np.ndarray, dict[int, str]]  # (n, S, S, 3) uint8; position -> why it is bad

# What a reader raises on a broken file; Pillow uses all of them.
UNREADABLE = (DataError, OSError, ValueError, SyntaxError)


def resize_image(image: np.ndarray, size: int, fit: str) -> np.ndarray:
    """Return an (H, W, 3) uint8 image as (size, size, 3), antialiased."""
    height, width = image.shape[:2]
    picture = Image.fromarray(np.ascontiguousarray(image))
    if fit == "pad":
        scale = size / max(height, width)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = Image.new("RGB", (size, size))
        resized = picture.resize(inner, Image.Resampling.BILINEAR)
        canvas.paste(resized, ((size - inner[0]) // 2, (size - inner[1]) // 2))
        return np.asarray(canvas)
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":  # the centre square alone is resampled: the same pixels, less work
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))


def choose_decoding(images: Images, size: int, fit: str, decode: str) -> Images:
    """Return the images as they are to be decoded: whole, or JPEGs at no more than is needed."""
    if decode == "scaled" and isinstance(images, FileImages):
        return FileImages(images.refs, (size, fit))
    return images


def decode_images(
    images: Images, size: int, fit: str, workers: int, progress: bool, stop: Callable[[], bool]
) -> Iterator[Chunk]:
    """Yield chunks (n, S, S, 3) in order with their bad images, decoded ahead by workers.

    Raises:
        Stopped: `stop()`, asked after each chunk, was true.
    """
    n_images = len(images)
    ranges = [range(i, min(i + CHUNK, n_images)) for i in range(0, n_images, CHUNK)]
    bar = tqdm(
        total=n_images,
        desc="decoding images, once",
        unit="image",
        disable=None if progress else True,  # None: shown on a terminal only
    )
    with bar:
        for chunk in _decode_ranges(images, ranges, size, fit, workers):
            if stop():
                raise Stopped(
                    "stopped while the images were being decoded; nothing is kept of it: "
                    "run the same command again"
                )
            yield chunk
            bar.update(len(chunk[0]))


def _decode_ranges(
    images: Images, ranges: Sequence[range], size: int, fit: str, workers: int
) -> Iterator[Chunk]:
    """Yield the chunk of each range: the first from here, timed, the others from workers."""
    start = time.perf_counter()
    yield decode_range(images, ranges[0], size, fit)
    seconds = (time.perf_counter() - start) * (len(ranges) - 1)
    if workers <= 1:
        for positions in ranges[1:]:
            yield decode_range(images, positions, size, fit)
    elif seconds < PROCESSES_PAY_S:
        yield from _map_in_order(
            lambda positions: decode_range(images, positions, size, fit), ranges[1:], workers
        )
    else:
        with DecodeProcesses(images, size, fit, workers) as processes:
            yield from _map_in_order(processes.decode, ranges[1:], workers)


def _map_in_order(
    function: Callable[[range], Chunk], ranges: Sequence[range], workers: int
) -> Iterator[Chunk]:
    """Yield function(range) in order, from threads; three chunks a worker are held at most."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[Future[Chunk]] = deque()
    try:
        for positions in ranges:
            waiting.append(pool.submit(function, positions))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decode_range(images: Images, positions: range, size: int, fit: str) -> Chunk:
    """Return the images at these positions, (n, S, S, 3); bad ones are black and named."""
    pixels = np.zeros((len(positions), size, size, 3), dtype=np.uint8)
    bad = {}
    for row, position in enumerate(positions):
        try:
            pixels[row] = resize_image(_load_checked(images, position), size, fit)
        except UNREADABLE as error:
            bad[position] = str(error) or type(error).__name__
    return pixels, bad


def _load_checked(images: Images, position: int) -> np.ndarray:
    image = images.load(position)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DataError(f"(H, W, 3) uint8 expected, got {image.shape} {image.dtype}")
    return image
