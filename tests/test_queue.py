"""The order in which jobs are taken, and what ends a wave."""

from dataclasses import replace

import pytest

from tlcnn.run.job import Job, Outcome
from tlcnn.sweep.queue import NOT_STARTED, JobQueue

HELD = Outcome(73, "s0 is held by process 1 on here", "RunLocked")
FAILED = Outcome(3, "Diverged: nan", "Diverged")
STOPPED = Outcome(75, "stopped by SIGTERM", "Stopped")
JOBS = [Job((f"seed={seed}",)) for seed in range(3)]
FIRST_TRY = {"on_locked": "fail"}


def work(queue, answer):
    """Take jobs one by one; returns the order in which they were taken."""
    taken = []
    while job := queue.take():
        taken.append(job)
        queue.finish(*job, answer(*job))
    return taken


def test_jobs_come_in_order_and_each_once():
    queue = JobQueue(JOBS, fail_fast=False)
    taken = work(queue, lambda number, job: Outcome(0, job.overrides[0]))
    assert [number for number, _ in taken] == [0, 1, 2]
    assert [outcome.error for outcome in queue.outcomes] == ["seed=0", "seed=1", "seed=2"]
    assert queue.take() is None


def test_a_held_job_comes_last_and_is_then_waited_for():
    queue = JobQueue(JOBS, fail_fast=False)
    taken = work(queue, lambda n, job: HELD if n == 0 and job.place == FIRST_TRY else Outcome())
    assert [number for number, _ in taken] == [0, 1, 2, 0]
    assert [job for _, job in taken[:3]] == [replace(job, place=FIRST_TRY) for job in JOBS]
    assert taken[3][1] == JOBS[0]  # on_locked=wait is the default


def test_what_an_error_says_does_not_make_a_job_held():
    """A folder that cannot be made has the same exit code, and may be called like the error."""
    queue = JobQueue(JOBS[:1], fail_fast=False)
    outcome = Outcome(73, "RunLocked/outputs cannot be made", "CannotCreate")
    assert len(work(queue, lambda number, job: outcome)) == 1
    assert queue.outcomes == [outcome]


def test_a_job_that_is_held_to_the_end_is_waited_for_once():
    queue = JobQueue(JOBS, fail_fast=False)
    work(queue, lambda n, job: HELD if n == 0 and job.place == FIRST_TRY else Outcome())
    assert queue.outcomes == [Outcome()] * 3


def test_who_asked_not_to_wait_is_told_at_once():
    queue = JobQueue([Job(("seed=0", "on_locked=fail"))], fail_fast=False)
    assert len(work(queue, lambda number, job: HELD)) == 1
    assert queue.outcomes == [HELD]


def test_a_held_job_is_no_failure_for_fail_fast():
    queue = JobQueue(JOBS, fail_fast=True)
    work(queue, lambda n, job: HELD if n == 0 and job.place == FIRST_TRY else Outcome())
    assert queue.outcomes == [Outcome()] * 3


def test_a_failure_ends_nothing_unless_told_to():
    queue = JobQueue(JOBS, fail_fast=False)
    work(queue, lambda number, job: FAILED if number == 0 else Outcome())
    assert queue.outcomes == [FAILED, Outcome(), Outcome()]
    queue = JobQueue(JOBS, fail_fast=True)
    work(queue, lambda number, job: FAILED if number == 1 else Outcome())
    assert queue.outcomes == [Outcome(), FAILED, NOT_STARTED]


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_signal_ends_a_wave(fail_fast):
    queue = JobQueue(JOBS, fail_fast=fail_fast)
    work(queue, lambda number, job: STOPPED)
    assert queue.outcomes == [STOPPED, NOT_STARTED, NOT_STARTED]


def test_a_stopped_queue_gives_no_job_and_still_takes_note():
    queue = JobQueue(JOBS, fail_fast=False)
    job = queue.take()
    queue.stop()
    assert queue.take() is None
    queue.finish(*job, Outcome())
    assert queue.outcomes == [Outcome(), NOT_STARTED, NOT_STARTED]
