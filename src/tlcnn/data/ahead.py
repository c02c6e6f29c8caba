"""The next batches are gathered by a thread while the current one is computed.

It pays where a gather waits for something else than the processor: a disk, or the bus to a GPU.
What is gathered, and in which order, stays the caller's: a batch that was not expected is gathered
where it is asked for.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

N_AHEAD = 2  # batches that are held beside the current one

Gather = Callable[[np.ndarray], Tensor]


class Ahead:
    """What gathers batches, two ahead inside `expect`; else, where it is asked for."""

    def __init__(self, gather: Gather) -> None:
        self._gather = gather
        self._thread: ThreadPoolExecutor | None = None
        self._coming: Iterator[np.ndarray] = iter(())
        self._waiting: deque[tuple[np.ndarray, Future[Tensor]]] = deque()

    @contextmanager
    def expect(self, batches: Iterable[np.ndarray]) -> Iterator[None]:
        """Gather these batches, in order, by the time that they are taken.

        However the block is left, its thread has ended then. Inside another's block nothing is
        gathered ahead.
        """
        if self._thread is not None:
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
            self._thread, self._coming = thread, iter(batches)
            self._submit(N_AHEAD)
            try:
                yield
            finally:
                self._thread = None
                while self._waiting:
                    self._waiting.popleft()[1].cancel()

    def take(self, rows: np.ndarray) -> Tensor:
        """Return `gather(rows)`, or raise what it raises."""
        if not self._waiting or not np.array_equal(self._waiting[0][0], rows):
            return self._gather(rows)
        future = self._waiting.popleft()[1]
        self._submit(1)
        return future.result()

    def _submit(self, n_batches: int) -> None:
        assert self._thread is not None
        for rows in islice(self._coming, n_batches):
            self._waiting.append((rows, self._thread.submit(self._gather, rows)))


def gather(pixels: np.ndarray, rows: np.ndarray, *, is_pinned: bool) -> Tensor:
    """Return some images of an array, (B, S, S, 3) uint8; pinned memory can be sent on its way."""
    shape = (len(rows), *pixels.shape[1:])
    batch = torch.empty(shape, dtype=torch.uint8, pin_memory=is_pinned)
    # Clipping is never needed; with any other mode there would be a copy on the way.
    np.take(pixels, rows, axis=0, out=batch.numpy(), mode="clip")
    return batch


def is_beyond_memory(n_bytes: int) -> bool:
    """Return whether so much would not stay in memory beside what a training needs."""
    return n_bytes > find_memory() // 2


def find_memory(
    proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int:
    """Return the bytes of memory that this process may use: the machine's, or its group's."""
    limits = [2**63]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    lines = proc.read_text().splitlines() if proc.is_file() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers == "":  # version 2 has one hierarchy
            limits += _read_limits(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _read_limits(root / "memory", path, "memory.limit_in_bytes")
    return min(limits)


def _read_limits(root: Path, path: str, name: str) -> list[int]:
    """Return the limits of a group and of those that it is in."""
    group = root / path.lstrip("/")
    texts = []
    for folder in (group, *group.parents):
        with suppress(OSError):  # a container does not see the groups above its own
            texts.append((folder / name).read_text().strip())
    return [int(text) for text in texts if text.isdigit()]
