"""Long work says how far it is in the log, too, where nobody sees a bar, and is done in parts."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tlcnn.storage import digest_of, remember

EVERY_S = 30.0  # seconds between two lines in the log
T = TypeVar("T")

log = logging.getLogger(__name__)


def watch(items: Iterable[T], n_items: int, what: str) -> Iterator[T]:
    """Yield the items, and log every `EVERY_S` how many are done and how long the rest takes."""
    started = spoken = time.monotonic()
    for n_done, item in enumerate(items):
        now = time.monotonic()
        if now - spoken >= EVERY_S:
            rest_s = (now - started) / n_done * (n_items - n_done) if n_done else 0.0
            log.info("%s: %d of %d, about %.0f s left", what, n_done, n_items, rest_s)
            spoken = now
        yield item


def remember_parts(
    cache_dir: Path,
    kind: str,
    keys: Sequence[Any],
    compute: Callable[[range], list[Any]],
    *,
    size: int,
    what: str,
    is_failure: Callable[[Any], bool],
) -> list[Any]:
    """Return what `compute` returns for all positions, computed and stored in parts of `size`.

    After a stop, the same call goes on with the first part that is missing.

    Args:
        keys: a JSON value for each position, which decides its result.
        compute: computes the results of some positions, each a JSON value.
        what: the name of the work in the log.
        is_failure: whether a result may be another one next time, such as that of a file on a disk
            that does not answer. A part that holds one is not stored.
    """
    parts = [range(i, min(i + size, len(keys))) for i in range(0, len(keys), size)]
    results: list[Any] = []
    for part in watch(parts, len(parts), f"{what}, in parts"):
        key = digest_of([keys[position] for position in part])
        try:
            results += remember(cache_dir, kind, key, partial(_compute, compute, part, is_failure))
        except _HoldsFailure as failure:
            results += failure.values
    return results


class _HoldsFailure(Exception):
    """Results that are not stored."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__()
        self.values = values


def _compute(
    compute: Callable[[range], list[Any]], part: range, is_failure: Callable[[Any], bool]
) -> list[Any]:
    values = compute(part)
    if any(map(is_failure, values)):
        raise _HoldsFailure(values)
    return values
