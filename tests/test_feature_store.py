"""Stored features: whole or absent, within budgets, whatever happens to disk or process."""

import errno
import logging
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tlcnn.errors import Stopped
from tlcnn.frozen.feature_store import FeatureStore, read_rows, shape_rows
from tlcnn.frozen.filling import Filling
from tlcnn.frozen.placing import Placed

MIB = 2**20
LINE = "0123456789abcdef"
LAYOUTS = {
    "nchw": lambda n: torch.randn(n, 5, 4, 3),
    "nhwc": lambda n: torch.randn(n, 4, 3, 5).permute(0, 3, 1, 2),
    "pooled": lambda n: torch.randn(n, 8, 1, 1),
    "pooled nhwc": lambda n: torch.randn(n, 8, 1, 1).to(memory_format=torch.channels_last),
    "vector": lambda n: torch.randn(n, 7),
    "bf16": lambda n: torch.randn(n, 4, 3, 5).permute(0, 3, 1, 2).bfloat16(),
}


def make_store(folder, *, disk_mib=10.0, memory_mib=10.0):
    return FeatureStore(folder, disk_bytes=int(disk_mib * MIB), memory_bytes=int(memory_mib * MIB))


def fill(store, name, tensor, batch=4):
    filling = Filling(store, name, len(tensor), batch)
    done = 0
    for start in [*range(0, len(tensor) - batch, batch), len(tensor) - batch]:
        filling.add(tensor[start : start + batch], n_known=done - start)
        done = start + batch
    return filling.finish()


def take(features, picked):
    return Placed([features], torch.device("cpu")).take(np.array(picked))


def same(features, tensor):
    found = take(features, range(len(tensor)))
    return torch.equal(found, tensor) and found.dtype == tensor.dtype


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.fixture(autouse=True)
def heard(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tlcnn"), "propagate", True)
    return caplog


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_batch_comes_back_with_its_bits_and_its_strides(kind):
    batch = LAYOUTS[kind](6)
    rows, layout = read_rows(batch)
    again = shape_rows(rows.clone(), layout)
    assert torch.equal(batch, again) and batch.stride() == again.stride()
    assert batch.dtype == again.dtype and rows.is_contiguous()


def test_what_has_gaps_or_is_no_list_of_images_is_not_stored():
    batch = torch.randn(6, 5, 4)
    for odd in (batch[:, :, ::2], batch.permute(1, 0, 2), batch[:, :1].expand(6, 5, 4), batch[:1]):
        with pytest.raises(ValueError, match="has no rows"):
            read_rows(odd)


@pytest.mark.parametrize("memory_mib", [10, 0], ids=["by memory", "straight to a file"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_another_process_finds_what_one_has_filled(tmp_path, kind, memory_mib):
    tensor = LAYOUTS[kind](22)
    made = fill(make_store(tmp_path, memory_mib=memory_mib), f"{LINE}-01", tensor)
    found = make_store(tmp_path).find(f"{LINE}-01")
    assert same(made, tensor) and same(found, tensor)
    assert take(found, [3, 1]).stride()[1:] == tensor.stride()[1:]
    assert found.digest == made.digest
    assert names(tmp_path) == [f"{LINE}-01.bin", f"{LINE}-01.json"]
    assert make_store(tmp_path).find(f"{LINE}-02") is None


@pytest.mark.parametrize("damage", ["cut", "flip", "no rows", "no sidecar", "half a sidecar"])
def test_a_damaged_array_is_noticed_and_can_be_filled_again(tmp_path, heard, damage):
    tensor = torch.randn(22, 9)
    fill(make_store(tmp_path), f"{LINE}-01", tensor)
    rows, sidecar = tmp_path / f"{LINE}-01.bin", tmp_path / f"{LINE}-01.json"
    if damage == "cut":
        os.truncate(rows, 100)
    elif damage == "flip":
        content = bytearray(rows.read_bytes())
        content[50] ^= 1
        rows.write_bytes(content)
    elif damage == "no rows":
        rows.unlink()
    elif damage == "no sidecar":
        sidecar.unlink()
    else:
        sidecar.write_text(sidecar.read_text()[:40])
    store = make_store(tmp_path)
    assert store.find(f"{LINE}-01") is None
    assert damage == "no sidecar" or "damaged" in heard.text
    fill(store, f"{LINE}-01", tensor)
    assert same(make_store(tmp_path).find(f"{LINE}-01"), tensor)


def test_the_least_recently_used_arrays_make_room(tmp_path):
    store = make_store(tmp_path, disk_mib=1.0)
    arrays = [torch.randn(40, 2**11) for _ in range(4)]  # 0.31 MiB: three fit
    for number in range(3):
        fill(store, f"{LINE}-0{number}", arrays[number])
        os.utime(tmp_path / f"{LINE}-0{number}.json", (number, number))
    kept = store.find(f"{LINE}-00")  # so that 01 is the oldest
    fill(store, f"{LINE}-03", arrays[3])
    assert sorted(p.stem for p in tmp_path.glob("*.bin")) == [f"{LINE}-0{n}" for n in (0, 2, 3)]
    assert sum(path.stat().st_size for path in tmp_path.glob("*.bin")) <= MIB
    assert store.find(f"{LINE}-01") is None
    assert same(kept, arrays[0])


def test_an_array_in_use_may_be_deleted(tmp_path):
    tensor = torch.randn(22, 2**12)
    fill(make_store(tmp_path), f"{LINE}-01", tensor)
    found = make_store(tmp_path).find(f"{LINE}-01")
    for path in tmp_path.iterdir():
        path.unlink()
    assert same(found, tensor)


def test_without_a_disk_arrays_stay_in_memory_up_to_the_budget(tmp_path):
    store = make_store(tmp_path / "none", disk_mib=0, memory_mib=1.0)
    arrays = [torch.randn(40, 2**11) for _ in range(4)]
    for number, tensor in enumerate(arrays):
        assert same(fill(store, f"{LINE}-0{number}", tensor), tensor)
    found = [store.find(f"{LINE}-0{number}") for number in range(4)]
    assert found[0] is None and all(found[1:])
    assert not (tmp_path / "none").exists()


def test_what_fits_nowhere_is_not_kept(tmp_path, heard):
    store = make_store(tmp_path, disk_mib=0.1, memory_mib=0.1)
    assert fill(store, f"{LINE}-01", torch.randn(40, 2**11)) is None
    assert "fits neither" in heard.text and names(tmp_path) == []


class FullDisk:
    """`open` whose files take so many bytes and then no more."""

    def __init__(self, n_bytes):
        self.left, self.real = n_bytes, open

    def __call__(self, path, mode="r", **options):
        file = self.real(path, mode, **options)
        if "w" in mode and str(path).endswith(".tmp"):
            write = file.write
            proxy = type("File", (), {})()
            proxy.fileno, proxy.close, proxy.flush = file.fileno, file.close, file.flush
            proxy.write = lambda data: self._write(write, data)
            return proxy
        return file

    def _write(self, write, data):
        self.left -= memoryview(data).nbytes
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(data)


@pytest.mark.parametrize("memory_mib", [10, 0])
def test_a_disk_that_fills_up_costs_a_warning(tmp_path, monkeypatch, heard, memory_mib):
    store = make_store(tmp_path, memory_mib=memory_mib)
    before = torch.randn(22, 9)
    fill(store, f"{LINE}-01", before)
    monkeypatch.setattr("tlcnn.frozen.filling.open", FullDisk(1000), raising=False)
    tensor = torch.randn(22, 900)
    found = fill(store, f"{LINE}-02", tensor)
    assert (found is None) if memory_mib == 0 else same(found, tensor)
    assert "no longer stored on disk" in heard.text
    assert names(tmp_path) == [f"{LINE}-01.bin", f"{LINE}-01.json"]
    assert same(make_store(tmp_path).find(f"{LINE}-01"), before)
    assert make_store(tmp_path).find(f"{LINE}-02") is None
    again = store.find(f"{LINE}-02")
    assert (again is None) if memory_mib == 0 else same(again, tensor)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path, heard):
    tmp_path.chmod(0o500)
    store = make_store(tmp_path / "features")
    with store.hold(LINE, lambda: None):
        assert fill(store, f"{LINE}-01", torch.randn(22, 9)) is not None
    assert "no longer stored on disk" in heard.text


def test_a_file_in_place_of_the_folder_costs_a_warning(tmp_path, heard):
    (tmp_path / "features").write_text("")
    store = make_store(tmp_path / "features")
    tensor = torch.randn(22, 9)
    with store.hold(LINE, lambda: None):
        assert same(fill(store, f"{LINE}-01", tensor), tensor)
    assert same(store.find(f"{LINE}-01"), tensor)
    assert heard.text.count("no longer stored on disk") == 1


FILLER = """
import sys, time
from pathlib import Path
import torch
from tlcnn.frozen.feature_store import FeatureStore
from tlcnn.frozen.filling import Filling

store = FeatureStore(Path(sys.argv[1]), disk_bytes=2**24, memory_bytes=0)
line = sys.argv[2]
with store.hold(line, lambda: None):
    filling = Filling(store, f"{line}-01", 100, 4)
    for number in range(25):
        filling.add(torch.full((4, 5000), float(number)))
        filling._file.flush()
        print(number, flush=True)
        time.sleep(float(sys.argv[3]))
    filling.finish()
print("whole", flush=True)
"""


def start_filler(folder, seconds):
    command = [sys.executable, "-c", FILLER, str(folder), LINE, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_computation_leaves_a_file_that_the_next_one_deletes(tmp_path):
    process = start_filler(tmp_path, 0.2)
    assert next(process.stdout) == "0\n" and next(process.stdout) == "1\n"
    process.kill()
    process.communicate()
    assert names(tmp_path) == [f".{LINE}-01.tmp"]
    store = make_store(tmp_path)
    assert store.find(f"{LINE}-01") is None
    with store.hold("fedcba9876543210", lambda: None):  # another line cleans up, too
        pass
    assert names(tmp_path) == []


def test_one_process_computes_and_the_other_waits_and_reads(tmp_path):
    process = start_filler(tmp_path, 0.05)
    next(process.stdout)
    store, polled = make_store(tmp_path), []
    assert store.find(f"{LINE}-01") is None
    with store.hold("fedcba9876543210", lambda: None):  # is no reason to delete its file
        pass
    with store.hold(LINE, lambda: polled.append(1)):
        found = store.find(f"{LINE}-01")
    assert polled and process.communicate()[0].endswith("whole\n")
    assert torch.equal(found.rows[:, 0], torch.arange(25.0).repeat_interleave(4))


def test_who_waits_can_be_stopped(tmp_path):
    process = start_filler(tmp_path, 0.2)
    next(process.stdout)

    def stop():
        raise Stopped("by a signal")

    started = time.monotonic()
    with pytest.raises(Stopped), make_store(tmp_path).hold(LINE, stop):
        pass
    assert time.monotonic() - started < 2
    process.kill()
    process.communicate()
