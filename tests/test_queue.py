"""The order in which jobs are taken, and what ends a wave."""

import pytest

from tlcnn.run.job import Outcome
from tlcnn.sweep.queue import NOT_STARTED, JobQueue

HELD = Outcome(73, "RunLocked: s0 is held by process 1 on here")
FAILED = Outcome(3, "Diverged: nan")
STOPPED = Outcome(75, "Stopped: stopped by SIGTERM")
JOBS = [["seed=0"], ["seed=1"], ["seed=2"]]


def work(queue, answer):
    """Take jobs one by one; returns the order in which they were taken."""
    taken = []
    while job := queue.take():
        taken.append(job)
        queue.finish(*job, answer(*job))
    return taken


def test_jobs_come_in_order_and_each_once():
    queue = JobQueue(JOBS, fail_fast=False)
    taken = work(queue, lambda number, words: Outcome(0, words[0]))
    assert [number for number, _ in taken] == [0, 1, 2]
    assert [outcome.error for outcome in queue.outcomes] == ["seed=0", "seed=1", "seed=2"]
    assert queue.take() is None


def test_a_held_job_comes_last_and_is_then_waited_for():
    queue = JobQueue(JOBS, fail_fast=False)
    taken = work(
        queue,
        lambda number, words: HELD if number == 0 and "on_locked=fail" in words else Outcome(),
    )
    assert [number for number, _ in taken] == [0, 1, 2, 0]
    assert [words for _, words in taken[:3]] == [[*job, "on_locked=fail"] for job in JOBS]
    assert taken[3][1] == ["seed=0"]  # on_locked=wait is the default
    assert queue.outcomes == [Outcome()] * 3


def test_who_asked_not_to_wait_is_told_at_once():
    queue = JobQueue([["seed=0", "on_locked=fail"]], fail_fast=False)
    assert len(work(queue, lambda number, words: HELD)) == 1
    assert queue.outcomes == [HELD]


def test_a_held_job_is_no_failure_for_fail_fast():
    queue = JobQueue(JOBS, fail_fast=True)
    work(queue, lambda n, words: HELD if n == 0 and "on_locked=fail" in words else Outcome())
    assert queue.outcomes == [Outcome()] * 3


def test_a_failure_ends_nothing_unless_told_to():
    queue = JobQueue(JOBS, fail_fast=False)
    work(queue, lambda number, words: FAILED if number == 0 else Outcome())
    assert queue.outcomes == [FAILED, Outcome(), Outcome()]
    queue = JobQueue(JOBS, fail_fast=True)
    work(queue, lambda number, words: FAILED if number == 1 else Outcome())
    assert queue.outcomes == [Outcome(), FAILED, NOT_STARTED]


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_signal_ends_a_wave(fail_fast):
    queue = JobQueue(JOBS, fail_fast=fail_fast)
    work(queue, lambda number, words: STOPPED)
    assert queue.outcomes == [STOPPED, NOT_STARTED, NOT_STARTED]


def test_a_stopped_queue_gives_no_job_and_still_takes_note():
    queue = JobQueue(JOBS, fail_fast=False)
    job = queue.take()
    queue.stop()
    assert queue.take() is None
    queue.finish(*job, Outcome())
    assert queue.outcomes == [Outcome(), NOT_STARTED, NOT_STARTED]
