"""Several runs of one process in turns, so that they share a GPU.

JobQueue -> as many runs as there is room for, each in its lane -> Outcome

A small network leaves most of a GPU idle. Runs that take turns fill it: while the GPU works for
one, Python prepares the next. Each of them has the bits that it has alone.
"""

import logging
import time
from collections.abc import Generator
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from tlcnn.memory import Memory
from tlcnn.run.job import Job, Outcome, run_job_in_turns
from tlcnn.sweep.queue import JobQueue
from tlcnn.training.interrupt import StopRequest
from tlcnn.training.turns import IDLE_S, Turn

log = logging.getLogger(__name__)

MOST_TOGETHER = 8  # with `packed=auto`; more hardly train faster
_SPARE = 1.2  # the free memory that a further run is given, over what the largest one took
OUT_OF_MEMORY = "OutOfMemoryError"  # torch's


@dataclass
class Member:
    """A run that takes turns with others."""

    number: int
    job: Job
    turns: Generator[Turn, None, Outcome]
    context: Context = field(default_factory=copy_context)
    n_epochs: int = -1  # that have ended; a run yields EPOCH at its start, too


class Packing:
    """Decides how many runs are trained at a time.

    Args:
        n_together: the most runs at a time; None: as many as the memory of a GPU allows, and one
            at a time elsewhere.
    """

    def __init__(self, n_together: int | None) -> None:
        self.is_automatic = n_together is None
        self.most = n_together or 1
        self._bytes_before = self._bytes_needed = 0

    def has_room(self, members: list[Member]) -> bool:
        """Return whether another run may begin beside these."""
        if not members:
            self._bytes_before = _count_reserved()
            return True
        if len(members) >= (MOST_TOGETHER if self.is_automatic else self.most):
            return False
        if not self.is_automatic:
            return True
        n_new = sum(member.n_epochs < 1 for member in members)  # their memory is not taken yet
        if n_new == 0:
            n_bytes = (_count_reserved() - self._bytes_before) // len(members)
            self._bytes_needed = max(self._bytes_needed, n_bytes)
        elif self._bytes_needed == 0:
            return False
        free = _count_free()
        return free is not None and free >= _SPARE * self._bytes_needed * (n_new + 1)

    def shrink(self, n_members: int) -> None:
        """Allow at most this number of runs from now on, because the memory was exhausted."""
        self.is_automatic, self.most = False, max(1, n_members)
        log.warning("the device's memory is exhausted: at most %d runs at a time", self.most)


def train_together(
    queue: JobQueue, memory: Memory, stop: StopRequest, *, n_together: int | None
) -> None:
    """Train the jobs of a queue in this process, until none is left or a signal comes."""
    packing, members = Packing(n_together), list[Member]()
    try:
        while _take_turns(queue, memory, stop, packing, members):
            pass
    finally:
        for member in members:
            member.turns.close()


def _take_turns(
    queue: JobQueue, memory: Memory, stop: StopRequest, packing: Packing, members: list[Member]
) -> bool:
    """Let every run make a turn; return False when there is no run left."""
    while not stop and packing.has_room(members) and (entry := queue.take(bool(members))):
        members.append(Member(*entry, run_job_in_turns(entry[1], memory)))
    if not members:
        return False
    is_idle = True
    for member in list(members):
        try:
            turn = member.context.run(next, member.turns)
        except StopIteration as end:
            members.remove(member)
            _finish(member, end.value, queue, packing, members)
            is_idle = False
        else:
            member.n_epochs += turn is Turn.EPOCH
            is_idle = is_idle and turn.is_idle
    if is_idle:
        time.sleep(IDLE_S)
    return True


def _finish(
    member: Member, outcome: Outcome, queue: JobQueue, packing: Packing, members: list[Member]
) -> None:
    """Note how a run ended; one that found no memory beside others is trained again later."""
    if outcome.kind == OUT_OF_MEMORY and members:
        packing.shrink(len(members))
        queue.put_back(member.number, member.job)
    else:
        queue.finish(member.number, member.job, outcome)


def _count_free() -> int | None:
    """Return the free bytes of the GPU, or None where there is none."""
    import torch

    if not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.mem_get_info()[0])


def _count_reserved() -> int:
    import torch

    return int(torch.cuda.memory_reserved()) if torch.cuda.is_initialized() else 0
