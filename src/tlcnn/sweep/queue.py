"""The order in which a launcher's slots take the jobs of a wave.

Two sweeps of one grid in two shells meet at every run. A job that the other sweep holds goes to
the back, so that they share the work, and is waited for only when nothing else is left.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from tlcnn.errors import RunLocked, Stopped
from tlcnn.run.job import Job, Outcome

NOT_STARTED = Outcome(Stopped.exit_code, "not started", "NotStarted")


class JobQueue:
    """The jobs of a wave and how they ended, for all threads of a launcher."""

    def __init__(self, jobs: Sequence[Job], *, fail_fast: bool) -> None:
        self.outcomes = [NOT_STARTED] * len(jobs)
        self.is_stopped = False
        self._jobs, self._fail_fast, self._is_over = jobs, fail_fast, False
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, Job]] = deque()
        self._held: set[int] = set()  # jobs that another process held when they were taken
        for number, job in enumerate(jobs):
            if "on_locked=fail" not in job.overrides:
                job = replace(job, place={**job.place, "on_locked": "fail"})
            self._waiting.append((number, job))

    def take(self, is_busy: bool = False) -> tuple[int, Job] | None:
        """Return the next job and its number, or None when there is none to begin.

        Args:
            is_busy: whether the caller trains other jobs meanwhile, so that it cannot wait for
                one that another process holds.
        """
        with self._lock:
            if self.is_stopped or self._is_over or not self._waiting:
                return None
            number, job = self._waiting[0]
            if is_busy and number in self._held:
                return None
            return self._waiting.popleft()

    def put_back(self, number: int, job: Job) -> None:
        """Let a job that `take` returned be taken again later."""
        with self._lock:
            self._waiting.append((number, job))

    def finish(self, number: int, job: Job, outcome: Outcome) -> None:
        """Note how a job that `take` returned ended; one that is held is taken again later."""
        with self._lock:
            if outcome.kind == RunLocked.__name__ and job != self._jobs[number]:
                self._waiting.append((number, self._jobs[number]))
                self._held.add(number)
                return
            self.outcomes[number] = outcome
            if outcome.was_stopped or (outcome.code and self._fail_fast):
                self._is_over = True

    def stop(self) -> None:
        """Begin no further job."""
        self.is_stopped = True
