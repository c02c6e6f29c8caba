"""Values that the runs of one process share, so that each is computed once."""

import ctypes
import mmap
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

N_KEPT = 8  # values of a kind: datasets are large, and a sweep uses few at a time


class Memory:
    """Values of one process by kind and key: the most recently used ones of each kind.

    Values are shared, so nobody may change one.

    Example:
        >>> memory = Memory()
        >>> [memory.recall("square", 3, lambda: 9), memory.recall("square", 3, lambda: 0)]
        [9, 9]
    """

    def __init__(self) -> None:
        self._kinds: dict[str, OrderedDict[Hashable, Any]] = {}

    def recall(
        self, kind: str, key: Hashable, compute: Callable[[], Any], *, n_kept: int = N_KEPT
    ) -> Any:
        """Return the value of a key, computed by `compute()` where it is not in memory.

        At most `n_kept` values of a kind are in memory, this one among them: the least recently
        used ones are dropped before a new one is computed.
        """
        values = self._kinds.setdefault(kind, OrderedDict())
        if key not in values:
            while len(values) >= n_kept:
                values.popitem(last=False)
            values[key] = compute()
        values.move_to_end(key)
        return values[key]


def release_memory(*arrays: Any) -> None:
    """Give memory back to the system that this process holds and does not use.

    It is what was freed (the C library of GNU keeps it), and the pages of arrays that are maps of
    files: they are read again where they are needed. An array that is no map is left as it is.
    """
    for array in arrays:
        while getattr(array, "base", None) is not None:
            array = array.base
        if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            array.madvise(mmap.MADV_DONTNEED)
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
