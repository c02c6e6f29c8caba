"""What is gathered ahead is what would have been gathered anyway, and nothing is left running."""

import threading
import time

import numpy as np
import pytest
import torch

from tlcnn.data.ahead import N_AHEAD, Ahead, find_memory, gather, is_beyond_memory
from tlcnn.data.augment import make_image_keys
from tlcnn.data.batches import Batches, expect, iter_plain, make_order, take_labels
from tlcnn.data.policy import AUGMENTS

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 18, 18, 3), dtype=np.uint8)
ORDER = [np.arange(i, i + 4) for i in range(0, 40, 4)]


class Watched:
    """Gathers, and knows from which threads and how much."""

    def __init__(self, fails_at=None):
        self.fails_at, self.asked, self.threads = fails_at, [], []

    def __call__(self, rows):
        self.asked.append(rows)
        self.threads.append(threading.current_thread().name)
        if len(self.asked) == self.fails_at:
            raise OSError("the disk is gone")
        return gather(PIXELS, rows, is_pinned=False)


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    assert condition()


def count_threads():
    return sum(thread.name.startswith("ahead") for thread in threading.enumerate())


def same(batch, rows):
    return (batch.numpy() == PIXELS[rows]).all()


def test_expected_batches_come_in_order_from_another_thread():
    watched = Watched()
    ahead = Ahead(watched)
    with ahead.expect(iter(ORDER)):
        for rows in ORDER:
            assert same(ahead.take(rows), rows)
    assert len(watched.asked) == len(ORDER)
    assert all(name.startswith("ahead") for name in watched.threads)
    assert count_threads() == 0


def test_no_more_than_two_batches_are_held():
    watched = Watched()
    ahead = Ahead(watched)
    with ahead.expect(iter(ORDER)):
        wait_until(lambda: len(watched.asked) == N_AHEAD)
        time.sleep(0.05)
        assert len(watched.asked) == N_AHEAD == 2
        ahead.take(ORDER[0])
        wait_until(lambda: len(watched.asked) == N_AHEAD + 1)
        time.sleep(0.05)
        assert len(watched.asked) == N_AHEAD + 1


def test_what_was_not_expected_is_gathered_where_it_is_asked_for():
    watched = Watched()
    ahead = Ahead(watched)
    assert same(ahead.take(ORDER[3]), ORDER[3]) and watched.threads == ["MainThread"]
    with ahead.expect(iter(ORDER)):
        assert same(ahead.take(ORDER[5]), ORDER[5])
        assert same(ahead.take(ORDER[0]), ORDER[0])
        assert same(ahead.take(ORDER[1]), ORDER[1])
    assert same(ahead.take(ORDER[2]), ORDER[2])
    assert watched.threads.count("MainThread") == 3


def test_an_order_inside_another_is_gathered_where_it_is_asked_for():
    ahead = Ahead(Watched())
    with ahead.expect(iter(ORDER)):
        ahead.take(ORDER[0])
        with ahead.expect(iter(ORDER[5:])):
            assert same(ahead.take(ORDER[5]), ORDER[5])
        assert same(ahead.take(ORDER[1]), ORDER[1])
    assert count_threads() == 0


def test_an_error_is_raised_by_the_batch_that_it_belongs_to():
    ahead = Ahead(Watched(fails_at=2))
    with ahead.expect(iter(ORDER)):
        ahead.take(ORDER[0])
        with pytest.raises(OSError, match="the disk is gone"):
            ahead.take(ORDER[1])
        assert same(ahead.take(ORDER[2]), ORDER[2])
    assert count_threads() == 0


@pytest.mark.parametrize("n_taken", [0, 1, 3])
def test_nothing_runs_on_after_an_exception(n_taken):
    watched = Watched()
    ahead = Ahead(watched)
    with pytest.raises(KeyboardInterrupt), ahead.expect(iter(ORDER)):
        for rows in ORDER[:n_taken]:
            ahead.take(rows)
        raise KeyboardInterrupt
    assert count_threads() == 0
    assert len(watched.asked) <= n_taken + N_AHEAD
    with ahead.expect(iter(ORDER)):  # and it can begin again, in the middle
        assert same(ahead.take(ORDER[0]), ORDER[0])


def make_split(pixels, ahead):
    ids = [f"image {i}" for i in range(30)]
    return Batches(
        pixels=pixels,
        rows=np.arange(5, 35),
        labels=torch.arange(30),
        keys=make_image_keys(ids),
        image_size=16,
        normalize="imagenet",
        ahead=ahead,
    )


def take_epoch(split, first=0):
    order = make_order(split.keys, seed=0, epoch=1)
    batches = order[7 * first : 28].reshape(-1, 7)
    feed = split.feed_views(batches, seed=0, epoch=1, augment=AUGMENTS["standard"], n_views=None)
    labels = take_labels(split, batches)
    with expect(split, batches):
        return [(feed.make_batch(number), labels[number]) for number in range(len(batches))]


def test_batches_have_the_same_bits_with_and_without(tmp_path):
    np.save(tmp_path / "images.npy", PIXELS)
    array = np.load(tmp_path / "images.npy", mmap_mode="r")
    watched = Watched()
    mapped, ahead = make_split(array, None), make_split(array, Ahead(watched))
    resident = make_split(torch.from_numpy(PIXELS), None)
    plain = take_epoch(mapped)
    for other in (take_epoch(ahead), take_epoch(resident)):
        for (images, labels), (expected, expected_labels) in zip(other, plain, strict=True):
            assert torch.equal(images, expected) and torch.equal(labels, expected_labels)
    assert all(name.startswith("ahead") for name in watched.threads)
    resumed = take_epoch(ahead, first=2)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(resumed, plain[2:], strict=True))


def test_an_evaluation_is_read_ahead_and_may_end_early():
    watched = Watched()
    split, plain = make_split(PIXELS, Ahead(watched)), make_split(PIXELS, None)
    for images, expected in zip(iter_plain(split, 8), iter_plain(plain, 8), strict=True):
        assert torch.equal(images, expected)
    assert all(name.startswith("ahead") for name in watched.threads)
    some = iter_plain(split, 8)
    next(some)
    some.close()
    assert count_threads() == 0


def test_memory_is_the_machines_or_its_groups(tmp_path):
    proc, root = tmp_path / "cgroup", tmp_path / "sys"
    whole = find_memory(proc, root)
    assert 2**26 < whole < 2**62
    proc.write_text("9:name=systemd:/\n4:cpu,memory:/job/one\n0::/\n")
    (root / "memory" / "job" / "one").mkdir(parents=True)
    (root / "memory" / "job" / "one" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (root / "memory" / "job" / "memory.limit_in_bytes").write_text("2000000\n")
    assert find_memory(proc, root) == 2_000_000
    proc.write_text("0::/slice/job\n")
    (root / "slice" / "job").mkdir(parents=True)
    (root / "slice" / "job" / "memory.max").write_text("max\n")
    assert find_memory(proc, root) == whole
    (root / "slice" / "memory.max").write_text("3000000\n")
    assert find_memory(proc, root) == 3_000_000


def test_a_small_array_is_not_beyond_memory():
    assert not is_beyond_memory(2**20)
    assert is_beyond_memory(2**60)
