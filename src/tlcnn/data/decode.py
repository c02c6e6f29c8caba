"""Decoding and resizing many images, in order, on all cores.

A little work is done by threads, which start at once: Pillow releases the GIL while it decodes and
resizes. Much work is done by processes (`decode_process`): they also help where Python code holds
the GIL, as it does for drawn images or on many cores. The pixels are the same either way, so the
choice may depend on a timing.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from tqdm import tqdm

from tlcnn.data.decode_process import DecodeProcesses
from tlcnn.data.index import Images
from tlcnn.data.resize import Chunk, decode_range
from tlcnn.errors import Stopped

CHUNK = 32  # images that a worker decodes at a time
PROCESSES_PAY_S = 5.0  # seconds of work; a process needs half a second of a core to start


def decode_images(
    images: Images, size: int, fit: str, workers: int, progress: bool, stop: Callable[[], bool]
) -> Iterator[Chunk]:
    """Yield chunks (n, S, S, 3) in order with their bad images, decoded ahead by workers.

    Raises:
        Stopped: `stop()`, called after each chunk, returned true.
    """
    bar = tqdm(
        total=len(images),
        desc="decoding images, once",
        unit="image",
        disable=None if progress else True,  # None: shown on a terminal only
    )
    with bar:
        for chunk in _decode_ahead(images, size, fit, workers):
            if stop():
                raise Stopped(
                    "stopped while the images were being decoded: run the same command again, "
                    "which begins with the first image"
                )
            yield chunk
            bar.update(len(chunk[0]))


def _decode_ahead(images: Images, size: int, fit: str, workers: int) -> Iterator[Chunk]:
    """Yield the chunks, at most three a worker ahead. The first one is decoded here and timed."""
    first, *ranges = [range(i, min(i + CHUNK, len(images))) for i in range(0, len(images), CHUNK)]
    decode: Callable[[range], Chunk] = partial(decode_range, images, size=size, fit=fit)
    start = time.perf_counter()
    yield decode(first)
    seconds = (time.perf_counter() - start) * len(ranges)
    if workers <= 1:
        yield from map(decode, ranges)
        return
    with ExitStack() as stack:
        if seconds >= PROCESSES_PAY_S:
            decode = stack.enter_context(DecodeProcesses(decode, workers)).decode
        pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        stack.callback(pool.shutdown, cancel_futures=True)
        waiting: deque[Future[Chunk]] = deque()
        for positions in ranges:
            waiting.append(pool.submit(decode, positions))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
