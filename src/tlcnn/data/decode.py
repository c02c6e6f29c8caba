"""Decode and resize many images, in order, on all cores.

Little work is done by threads, which start at once: Pillow gives up the GIL while it decodes and
resizes. Much work is done by processes (`decode_process`), which the GIL of drawn images, or of
many cores, does not hold back. The pixels are the same, so it may be chosen by a timing.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from tqdm import tqdm

from tlcnn.data.decode_process import DecodeProcesses
from tlcnn.data.index import Images
from tlcnn.data.resize import Chunk, decode_range
from tlcnn.errors import Stopped

CHUNK = 32  # images a task
PROCESSES_PAY_S = 5.0  # of work; a process takes about half a second of a core to start


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
