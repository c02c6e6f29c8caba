"""Long work is told in the log, and goes on where it was stopped."""

import logging

import pytest

from tlcnn.data import progress
from tlcnn.data.progress import remember_parts, watch


def test_the_log_says_how_far_the_work_is(monkeypatch, caplog):
    clock = iter([0.0, 1.0, 31.0, 70.0, 95.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO):
        assert list(watch("abcd", 4, "letters")) == list("abcd")
    assert caplog.messages == [
        "letters: 1 of 4, about 93 s left",
        "letters: 3 of 4, about 32 s left",
    ]


def test_work_goes_on_with_the_first_part_that_is_missing(tmp_path):
    calls = []

    def compute(positions):
        calls.append(positions)
        if positions.start == 4 and len(calls) == 3:
            raise KeyboardInterrupt
        return [2 * position for position in positions]

    def work(keys):
        return remember_parts(
            tmp_path, "test", keys, compute, size=2, what="numbers", is_failure=lambda value: False
        )

    with pytest.raises(KeyboardInterrupt):
        work(list(range(7)))
    assert work(list(range(7))) == [0, 2, 4, 6, 8, 10, 12]
    assert calls[3:] == [range(4, 6), range(6, 7)]
    work([*range(6), "changed"])
    assert calls[5:] == [range(6, 7)]
    assert work([]) == []


def test_a_part_with_a_failure_is_not_stored(tmp_path):
    calls = []

    def compute(positions):
        calls.append(positions)
        return [None if position == 2 and len(calls) < 3 else position for position in positions]

    def work():
        return remember_parts(
            tmp_path,
            "test",
            list(range(4)),
            compute,
            size=2,
            what="numbers",
            is_failure=lambda value: value is None,
        )

    assert work() == [0, 1, None, 3]
    assert work() == [0, 1, 2, 3]
    assert work() == [0, 1, 2, 3]
    assert calls == [range(2), range(2, 4), range(2, 4)]
