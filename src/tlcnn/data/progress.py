"""Long work says how far it is in the log, too, where nobody sees a bar, and is done in parts."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tlcnn.storage import digest_of, remember

FIRST_LINE_S, LAST_LINE_S = 30.0, 600.0  # seconds between lines in a log: doubled each time
T = TypeVar("T")

log = logging.getLogger(__name__)


def watch(items: Iterable[T], n_items: int, what: str) -> Iterator[T]:
    """Yield the items, and log now and then how many are done and how long the rest takes."""
    started = spoken = time.monotonic()
    pause_s = FIRST_LINE_S
    for n_done, item in enumerate(items):
        now = time.monotonic()
        if now - spoken >= pause_s:
            rest_s = (now - started) / n_done * (n_items - n_done) if n_done else 0.0
            log.info("%s: %d of %d, about %.0f s left", what, n_done, n_items, rest_s)
            spoken, pause_s = now, min(2 * pause_s, LAST_LINE_S)
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
