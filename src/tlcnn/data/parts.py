"""A batch in parts, on threads of our own in which torch's operations are not divided further.

torch divides every operation among its threads and lets them wait for each other at the end of
each. Here a thread takes a part through all operations, in a processor's cache, and waits once.
Where other programs want the same cores, that is the difference between 1 and 6 times the work:
a thread that waits for torch's others spins.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier, local

import torch
from torch import Tensor

_lent = local()


def split_evenly(n: int, most: int, n_threads: int) -> list[slice]:
    """Return parts of at most `most`, as many as every one of the threads gets its share.

    Example:
        >>> [part.stop - part.start for part in split_evenly(50, 16, 2)]
        [13, 13, 13, 11]
    """
    rounds = -(-n // (most * n_threads))
    step = max(1, -(-n // max(1, rounds * n_threads)))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def run_parts(function: Callable[[slice], None], parts: list[slice]) -> None:
    """Call `function` with every part, on as many threads as torch has, and wait for all.

    It may use torch's CPU operations, which let other threads run; what it raises is raised here.
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        for part in parts:
            function(part)
        return
    inference = torch.is_inference_mode_enabled()  # a thread has a mode of its own

    def call(part: slice) -> None:
        with torch.inference_mode(inference):
            function(part)

    for _ in _open_pool(os.getpid(), n_threads).map(call, parts):
        pass


@lru_cache(maxsize=1)
def _open_pool(pid: int, n_threads: int) -> ThreadPoolExecutor:
    """Return threads in which torch has one thread; a forked process gets its own."""
    started = Barrier(n_threads + 1)

    def start() -> None:
        torch.get_num_threads()  # once asked, a thread no longer takes over what others set
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(n_threads, thread_name_prefix=f"parts-{pid}")
    for _ in range(n_threads):
        pool.submit(start)
    started.wait()
    torch.set_num_threads(n_threads)  # what later threads begin with was changed, too
    return pool


def lend(name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return float32 memory with anything in it, until this thread asks for the name again.

    On a CPU it is kept, because fresh memory of this size comes from the kernel page by page,
    which takes longer than what is written to it.
    """
    if device.type != "cpu":
        return torch.empty(shape, device=device)
    kept: dict[str, Tensor] | None = getattr(_lent, "kept", None)
    if kept is None:
        kept = _lent.kept = {}
    tensor = kept.get(name)
    if tensor is None or tensor.shape != shape:
        with torch.inference_mode(False):  # it may be written to in either mode
            tensor = kept[name] = torch.empty(shape)
    return tensor
