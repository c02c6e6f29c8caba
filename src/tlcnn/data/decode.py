"""Decoding and resizing many images, in order, by threads: Pillow releases the GIL meanwhile."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from tqdm import tqdm

from tlcnn.data.index import Images
from tlcnn.data.progress import watch
from tlcnn.data.resize import Chunk, decode_range
from tlcnn.errors import Stopped
from tlcnn.text import find_bar_setting

CHUNK = 32  # images that a worker decodes at a time


def decode_images(
    images: Images, size: int, fit: str, workers: int, progress: bool, stop: Callable[[], bool]
) -> Iterator[Chunk]:
    """Yield chunks (n, S, S, 3) in order with their bad images, decoded ahead by workers.

    Raises:
        Stopped: `stop()`, called after each chunk, returned true.
    """
    decode = partial(decode_range, images, size=size, fit=fit)
    ranges = [range(i, min(i + CHUNK, len(images))) for i in range(0, len(images), CHUNK)]
    bar = tqdm(
        total=len(images),
        desc="decoding images, once",
        unit="image",
        disable=find_bar_setting(progress),
    )
    with bar:
        chunks = _decode_ahead(decode, ranges, workers)
        for chunk in watch(chunks, len(ranges), f"decoding images, once, {CHUNK} at a time"):
            if stop():
                raise Stopped(
                    "stopped while the images were being decoded: run the same command again, "
                    "which begins with the first image"
                )
            yield chunk
            bar.update(len(chunk[0]))


def _decode_ahead(
    decode: Callable[[range], Chunk], ranges: list[range], workers: int
) -> Iterator[Chunk]:
    """Yield the chunks, at most three a worker ahead; a single worker is the calling thread."""
    if workers <= 1:
        yield from map(decode, ranges)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        waiting: deque[Future[Chunk]] = deque()
        for positions in ranges:
            waiting.append(pool.submit(decode, positions))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
