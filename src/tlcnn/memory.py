"""What the runs of one process share, so that the second one does not find it out again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

N_KEPT = 8  # of each kind: datasets are large, and a sweep uses few at a time


class Memory:
    """Values of one process by kind and key; of each kind the last few that were asked for.

    Nothing in it may be changed by whom it is given to.

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
        """Return `compute()`, from memory when this key was asked for not long ago."""
        kept = self._kinds.setdefault(kind, OrderedDict())
        if key not in kept:
            while len(kept) >= n_kept:
                kept.popitem(last=False)
            kept[key] = compute()
        kept.move_to_end(key)
        return kept[key]
