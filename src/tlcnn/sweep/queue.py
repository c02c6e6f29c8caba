"""The order in which a launcher's slots take the jobs of a wave.

Two sweeps of one grid in two shells meet at every run. A job that the other sweep holds goes to
the back, so that they share the work, and is waited for only when nothing else is left.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from tlcnn.errors import RunLocked, Stopped
from tlcnn.run.job import Job, Outcome

NOT_STARTED = Outcome(Stopped.exit_code, "not started", "NotStarted")


class JobQueue:
    """The jobs of a wave and how they ended.

    Args:
        jobs: the jobs.
        fail_fast: whether the first failure ends the wave.
    """

    def __init__(self, jobs: Sequence[Job], *, fail_fast: bool) -> None:
        self._jobs = list(jobs)
        self._fresh = deque(range(len(jobs)))
        self._held: deque[int] = deque()
        self._fail_fast = fail_fast
        self._is_over = False
        self.outcomes = [NOT_STARTED] * len(jobs)

    def take(self) -> tuple[int, Job] | None:
        """Return the next job and its number, or None when there is none to begin."""
        if self._is_over:
            return None
        if self._fresh:
            number = self._fresh.popleft()
            job = self._jobs[number]
            if "on_locked=fail" in job.overrides:
                return number, job
            return number, replace(job, place={**job.place, "on_locked": "fail"})
        if self._held:
            number = self._held.popleft()
            return number, self._jobs[number]
        return None

    def finish(self, number: int, job: Job, outcome: Outcome) -> None:
        """Note how a job ended; one that another sweep holds is taken again later.

        Args:
            number, job: what `take` returned.
            outcome: how the job ended.
        """
        if outcome.kind == RunLocked.__name__ and job != self._jobs[number]:
            self._held.append(number)
            return
        self.outcomes[number] = outcome
        if outcome.was_stopped or (outcome.code and self._fail_fast):
            self._is_over = True

    def stop(self) -> None:
        """Begin no further job."""
        self._is_over = True
