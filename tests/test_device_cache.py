"""Features on a device: what fits, what has to go, and the same tensors wherever they lie."""

import gc
import warnings
from dataclasses import asdict

import numpy as np
import pytest
import torch

from tlcnn import device as devices
from tlcnn.data.array_store import CachedArray
from tlcnn.frozen import device_cache
from tlcnn.frozen.device_cache import DeviceCache
from tlcnn.frozen.features import FeatureViews, make_rows, view_rows

CPU = torch.device("cpu")
KIB = 1024


def make_features(name, n=16, n_bytes=16 * KIB, seed=0):
    """An array of so many bytes in all."""
    width = n_bytes // n // 4
    batch = torch.randn(n, width, 1, 1, generator=torch.Generator().manual_seed(seed))
    rows, layout = make_rows(batch)
    return CachedArray(rows.view(torch.uint8).numpy(), name, asdict(layout))


def take(views, picked, which=None):
    return views.feed([picked], which).make_batch(0)


@pytest.fixture
def room(monkeypatch):
    """A CPU that counts as a device with 40 KiB of room."""
    given = {"bytes": 40 * KIB}
    monkeypatch.setattr(device_cache, "has_own_memory", lambda device: True)
    monkeypatch.setattr(device_cache, "find_room", lambda device, n_held=0: given["bytes"])
    return given


def test_on_the_cpu_arrays_stay_where_they_are():
    placed = DeviceCache(CPU).place([make_features("a")])
    assert placed.rows is None


@pytest.mark.parametrize("n_views", [1, 3])
def test_batches_are_the_same_wherever_the_rows_lie(room, n_views):
    views = [make_features(str(seed), n_bytes=4 * KIB, seed=seed) for seed in range(n_views)]
    placed, gathered = DeviceCache(CPU).place(views), FeatureViews(views, CPU)
    assert placed.rows is not None and placed.rows.data_ptr() != view_rows(views[0]).data_ptr()
    picked = np.array([3, 3, 0, 15, 7])
    which = np.arange(5).astype(np.uint64) % n_views
    found = [take(each, picked, which) for each in (placed, gathered)]
    assert torch.equal(*found) and found[0].stride() == found[1].stride()
    for row, image, view in zip(found[0], picked, which, strict=True):
        assert torch.equal(row.flatten(), view_rows(views[int(view)])[image])


def test_a_view_of_its_own_number_needs_no_other(room):
    """Views that come once are numbered by their epoch, not from 0."""
    view = make_features("a")
    which = np.full(2, 2**63 + 5, dtype=np.uint64)
    for placed in (DeviceCache(CPU).place([view]), FeatureViews([view], CPU)):
        assert torch.equal(take(placed, np.array([1, 2]), which).flatten(1), view_rows(view)[1:3])


def test_the_least_recently_used_goes_but_never_what_is_in_use(room):
    cache = DeviceCache(CPU)
    a, b, c = (make_features(name) for name in "abc")
    first, second = cache.place([a]), cache.place([b])
    assert first.rows is not None and second.rows is not None
    assert cache.place([c]).rows is None  # both are in use
    del second
    gc.collect()
    third = cache.place([c])
    assert third.rows is not None and cache.place([a]).rows is first.rows
    assert cache.place([b]).rows is None
    del first, third
    gc.collect()
    kept = cache.place([a]).rows
    assert cache.place([b]).rows is not None  # c, the longest unused, has gone
    assert cache.place([a]).rows is kept


def test_what_never_fits_sends_nothing_away_that_is_in_use(room):
    cache = DeviceCache(CPU)
    small = cache.place([make_features("small")])
    assert cache.place([make_features("large", n_bytes=64 * KIB)]).rows is None
    assert cache.place(small.arrays).rows is small.rows


def test_a_device_that_is_full_after_all_costs_a_warning(room, monkeypatch, caplog):
    import logging

    monkeypatch.setattr(logging.getLogger("tlcnn"), "propagate", True)

    def fail(views, device):
        raise torch.OutOfMemoryError("taken by another process")

    monkeypatch.setattr(device_cache, "copy_rows", fail)
    view = make_features("a")
    placed = DeviceCache(CPU).place([view])
    assert torch.equal(take(placed, np.array([5])).flatten(1), view_rows(view)[5:6])
    assert "no longer fit on cpu" in caplog.text


# ---------------------------------------------------------------------------------- shares of it


@pytest.mark.parametrize(("said", "n"), [("", 1), ("4", 4), ("0", 1), ("many", 1)])
def test_processes_that_share_a_device_divide_half_of_it(monkeypatch, said, n):
    monkeypatch.setenv("TLCNN_GPU_SHARE", said)
    monkeypatch.setattr(devices, "free_memory", lambda device: 8000)
    assert devices.find_room("a device") == 4000 // n
    assert devices.find_room("a device", 2000) == 5000 // n


def test_processes_that_start_together_never_take_more_than_half(monkeypatch):
    """Whatever the order in which they look at the memory and take their part of it."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, total = int(rng.integers(1, 6)), 1_000_000
        monkeypatch.setenv("TLCNN_GPU_SHARE", str(n))
        held, seen = [0] * n, [total] * n
        for _ in range(30):
            process = int(rng.integers(n))
            if rng.random() < 0.5:
                seen[process] = total - sum(held)  # and decides later
            monkeypatch.setattr(devices, "free_memory", lambda _, p=process, s=seen: s[p])
            wanted = int(rng.integers(1, 300_000))
            if held[process] + wanted <= devices.find_room("it", held[process]):
                held[process] += wanted
                seen[process] = total - sum(held)
        assert sum(held) <= total // 2


def test_images_and_features_go_by_the_same_share(monkeypatch):
    from tlcnn.data import batches

    gpu = torch.device("cuda")
    monkeypatch.setattr(devices, "free_memory", lambda device: 16 * KIB)
    monkeypatch.setattr(batches, "make_image_tensor", lambda array: Elsewhere())
    monkeypatch.setattr(batches, "wait_for_copies", lambda device: None)
    images = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    for share, place in {"1": "cuda", "2": "cuda", "3": None}.items():
        monkeypatch.setenv("TLCNN_GPU_SHARE", share)
        assert getattr(batches.place_pixels(images, gpu), "place", None) == place


class Elsewhere:
    def to(self, device):
        self.place = str(device)
        return self


def test_a_gpu_is_deterministic_without_overwriting_new_memory(monkeypatch):
    """Of what torch does on a GPU this changes flags alone."""
    from types import SimpleNamespace

    from tlcnn.run.run import set_torch_flags

    said = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *a, **k: said.append((a, k)))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    plan = SimpleNamespace(config=SimpleNamespace(threads=1), device=SimpleNamespace(name="cpu"))
    set_torch_flags(plan.config.threads, plan.device.name)
    assert not said and torch.utils.deterministic.fill_uninitialized_memory
    plan.device.name = "cuda"
    set_torch_flags(plan.config.threads, plan.device.name)
    assert said == [((True,), {"warn_only": True})]
    assert not torch.utils.deterministic.fill_uninitialized_memory


# --------------------------------------------------------------------------------- on a real one


def set_sync_debug_mode(mode):
    """Let waiting for the device be an error; torch warns that this is a prototype."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*prototype.*")
        torch.cuda.set_sync_debug_mode(mode)


@pytest.mark.gpu
@pytest.mark.parametrize("fits", [True, False])
def test_batches_are_taken_without_waiting_for_the_device(fits):
    gpu = torch.device("cuda")
    views = [make_features(str(seed), seed=seed) for seed in range(3)]
    cache = DeviceCache(gpu)
    placed = cache.place(views) if fits else FeatureViews(views, gpu)
    assert (placed.rows is not None) == fits
    picked, which = np.arange(12), np.arange(12).astype(np.uint64) % 3
    take(placed, picked, which)  # the first call may prepare the device
    torch.cuda.synchronize()
    set_sync_debug_mode("error")
    try:
        found = take(placed, picked, which)
    finally:
        set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), take(FeatureViews(views, CPU), picked, which))


@pytest.mark.gpu
def test_pinned_batches_in_flight_are_not_overwritten():
    gpu = torch.device("cuda")
    view = make_features("a", n=4096, n_bytes=16 * 2**20)
    placed = FeatureViews([view], gpu)
    torch.cuda._sleep(200_000_000)  # cycles: the copies wait behind it while the host goes on
    parts = [take(placed, np.arange(start, start + 64)) for start in range(0, 4096, 64)]
    assert torch.equal(torch.cat(parts).flatten(1).cpu(), view_rows(view))


@pytest.mark.gpu
def test_free_memory_counts_what_torch_holds_for_later():
    gpu = torch.device("cuda")
    before = devices.free_memory(gpu)
    block = torch.empty(256 * 2**20, dtype=torch.uint8, device=gpu)
    assert before - devices.free_memory(gpu) >= 200 * 2**20
    del block  # cached, so the driver still counts it as taken
    assert abs(devices.free_memory(gpu) - before) < 64 * 2**20
