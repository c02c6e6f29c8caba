"""The order in which a launcher's slots take the jobs of a wave.

Two sweeps of one grid in two shells meet at every run. A job that the other sweep holds goes to
the back, so that they share the work, and is waited for only when nothing else is left.
"""

from collections import deque
from collections.abc import Sequence

from tlcnn.errors import RunLocked, Stopped
from tlcnn.run.job import Outcome

NOT_STARTED = Outcome(Stopped.exit_code, "not started")


class JobQueue:
    """The jobs of a wave and how they ended.

    Args:
        jobs: one list of overrides a job.
        fail_fast: whether the first failure ends it.
    """

    def __init__(self, jobs: Sequence[Sequence[str]], *, fail_fast: bool) -> None:
        self._jobs = [list(job) for job in jobs]
        self._fresh = deque(range(len(jobs)))
        self._held: deque[int] = deque()
        self._fail_fast = fail_fast
        self._is_over = False
        self.outcomes = [NOT_STARTED] * len(jobs)

    def take(self) -> tuple[int, list[str]] | None:
        """Return the next job's number and overrides, or None when there is none to begin."""
        if self._is_over:
            return None
        if self._fresh:
            number = self._fresh.popleft()
            return number, self._without_waiting(self._jobs[number])
        if self._held:
            number = self._held.popleft()
            return number, self._jobs[number]
        return None

    @staticmethod
    def _without_waiting(job: list[str]) -> list[str]:
        decided = any(word.startswith("on_locked=") for word in job)
        return job if decided else [*job, "on_locked=fail"]

    def finish(self, number: int, overrides: Sequence[str], outcome: Outcome) -> None:
        """Take note of how a job ended; one that another sweep holds is taken again later.

        Args:
            number, overrides: as `take` returned them.
            outcome: of the run.
        """
        if _is_held(outcome) and list(overrides) != self._jobs[number]:
            self._held.append(number)
            return
        self.outcomes[number] = outcome
        if outcome.was_stopped or (outcome.code and self._fail_fast):
            self._is_over = True

    def stop(self) -> None:
        """Begin no further job."""
        self._is_over = True


def _is_held(outcome: Outcome) -> bool:
    return outcome.error.startswith(RunLocked.__name__)
