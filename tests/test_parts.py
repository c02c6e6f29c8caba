"""Parts cover a batch once, on threads of their own, whose errors are the caller's."""

import os
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tlcnn.data.parts import lend, run_parts, split_evenly


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_parts_cover_a_batch_once_and_evenly(n, most, n_threads):
    parts = split_evenly(n, most, n_threads)
    covered = [i for part in parts for i in range(n)[part]]
    assert covered == list(range(n))
    sizes = [part.stop - part.start for part in parts]
    assert all(0 < size <= most for size in sizes)
    assert len(parts) <= max(1, -(-n // (most * n_threads))) * n_threads


def test_parts_run_on_as_many_threads_as_torch_has(two_threads):
    meeting, seen = threading.Barrier(2), set()

    def meet(part):
        meeting.wait(timeout=30)
        seen.add((threading.get_ident(), torch.get_num_threads()))

    run_parts(meet, split_evenly(2, 1, 2))
    assert len({thread for thread, _ in seen}) == 2
    assert {n_threads for _, n_threads in seen} == {1}
    assert torch.get_num_threads() == 2
    assert threading.get_ident() not in {thread for thread, _ in seen}


def test_threads_that_start_later_have_all_of_torchs_threads(two_threads):
    run_parts(lambda part: None, split_evenly(2, 1, 2))
    counts = []
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert counts == [2]


def test_an_error_in_a_part_is_raised_where_it_was_called(two_threads):
    def fail(part):
        raise ValueError(f"part {part.start}")

    with pytest.raises(ValueError, match="part 0"):
        run_parts(fail, split_evenly(4, 1, 2))
    done = []
    run_parts(done.append, split_evenly(4, 1, 2))
    assert len(done) == 4


def test_with_one_thread_the_caller_does_it_all():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seen = set()
        run_parts(lambda part: seen.add(threading.get_ident()), split_evenly(4, 1, 1))
    finally:
        torch.set_num_threads(before)
    assert seen == {threading.get_ident()}


def test_memory_is_kept_by_name_thread_and_shape():
    cpu = torch.device("cpu")
    first = lend("a", (4, 3), cpu)
    assert lend("a", (4, 3), cpu) is first and lend("b", (4, 3), cpu) is not first
    assert lend("a", (2, 3), cpu).shape == (2, 3)
    others = []
    thread = threading.Thread(target=lambda: others.append(lend("a", (2, 3), cpu)))
    thread.start()
    thread.join()
    assert others[0].data_ptr() != lend("a", (2, 3), cpu).data_ptr()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(two_threads):
    run_parts(lambda part: None, split_evenly(2, 1, 2))
    child = os.fork()
    if child == 0:
        done = []
        run_parts(done.append, split_evenly(4, 1, 2))
        os._exit(len(done))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
