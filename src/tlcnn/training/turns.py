"""Runs as generators of turns: between two turns of one, others of the process may go on."""

import time
from collections.abc import Generator
from enum import Enum
from typing import TypeVar

T = TypeVar("T")

IDLE_S = 1e-4  # between two looks at a device that is at work


class Turn(Enum):
    """What a run did before it let other runs of its process go on."""

    STEP = "it gave the device work"
    WAIT = "it waits for the device"
    EPOCH = "it ended an epoch"

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do until the device has done something."""
        return self is Turn.WAIT


def finish(run: Generator[Turn, None, T]) -> T:
    """Let a run make all its turns, and return what it returns."""
    while True:
        try:
            turn = next(run)
        except StopIteration as end:
            result: T = end.value
            return result
        if turn.is_idle:
            time.sleep(IDLE_S)
