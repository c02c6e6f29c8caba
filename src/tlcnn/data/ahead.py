"""Gathering the next batches in a thread while the current one is computed.

It pays where a gather waits for something other than the processor: a disk, or the bus to a GPU.
The caller still decides what is gathered and in which order: a batch that was not announced is
gathered when it is taken.
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

Gather = Callable[[np.ndarray], Tensor]  # rows of an array -> a batch


class Ahead:
    """Gathers batches: two ahead of the caller inside `expect`, and else when they are taken."""

    def __init__(self, gather: Gather) -> None:
        self._gather = gather
        self._thread: ThreadPoolExecutor | None = None
        self._coming: Iterator[np.ndarray] = iter(())
        self._waiting: deque[tuple[np.ndarray, Future[Tensor]]] = deque()

    @contextmanager
    def expect(self, batches: Iterable[np.ndarray]) -> Iterator[None]:
        """Gather the announced batches in this order, each before it is taken.

        The thread ends with the block. A block inside another one gathers nothing ahead.
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
    """Return the images of an array (N, S, S, 3) at positions (B,), (B, S, S, 3) uint8.

    A batch in pinned memory can be sent to a GPU without waiting.
    """
    shape = (len(rows), *pixels.shape[1:])
    batch = torch.empty(shape, dtype=torch.uint8, pin_memory=is_pinned)
    # All rows are valid, so nothing is clipped; but any other mode makes numpy copy the output.
    np.take(pixels, rows, axis=0, out=batch.numpy(), mode="clip")
    return batch


def is_beyond_memory(n_bytes: int) -> bool:
    """Return whether an array is too large to stay in memory beside what a training needs."""
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
            hierarchy, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            hierarchy, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = hierarchy / path.lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError):  # a container does not see the groups above its own
                limit = (folder / name).read_text().strip()
                limits += [int(limit)] if limit.isdigit() else []
    return min(limits)
