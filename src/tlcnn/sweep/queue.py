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
        for number, job in enumerate(jobs):
            if "on_locked=fail" not in job.overrides:
                job = replace(job, place={**job.place, "on_locked": "fail"})
            self._waiting.append((number, job))

    def take(self) -> tuple[int, Job] | None:
        """Return the next job and its number, or None when there is none to begin."""
        with self._lock:
            is_over = self.is_stopped or self._is_over or not self._waiting
            return None if is_over else self._waiting.popleft()

    def finish(self, number: int, job: Job, outcome: Outcome) -> None:
        """Note how a job that `take` returned ended; one that is held is taken again later."""
        with self._lock:
            if outcome.kind == RunLocked.__name__ and job != self._jobs[number]:
                self._waiting.append((number, self._jobs[number]))
                return
            self.outcomes[number] = outcome
            if outcome.was_stopped or (outcome.code and self._fail_fast):
                self._is_over = True

    def stop(self) -> None:
        """Begin no further job."""
        self.is_stopped = True
