"""Cached arrays: whole or absent, within budgets, whatever happens to disk or process."""

import errno
import logging
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from tlcnn import storage
from tlcnn.data import array_store, block_digest
from tlcnn.data.array_store import ArrayStore
from tlcnn.data.block_digest import digest_of_blocks
from tlcnn.errors import Stopped, StorageError

MIB = 2**20
NAME = "0123456789abcdef"
INFO = {"made": "by a test", "sizes": [1, 2]}


def make_store(folder, *, disk_mib=10.0, memory_mib=10.0):
    disk_bytes = None if disk_mib is None else int(disk_mib * MIB)
    return ArrayStore(folder, disk_bytes=disk_bytes, memory_bytes=int(memory_mib * MIB), workers=2)


def draw(n_rows, row_bytes):
    return np.random.default_rng(n_rows).integers(0, 256, (n_rows, row_bytes), dtype=np.uint8)


def fill(store, name, rows, batch=4):
    """Write an array as a program would whose disk may fail."""
    with store.open_writer(name, rows.shape) as writer:
        for start in range(0, len(rows), batch):
            writer.add(rows[start : start + batch])
        return writer.finish(INFO)


def same(array, rows):
    return (array.rows == rows).all() and array.info == INFO


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def hold(store, name=NAME, check_stop=lambda: None):
    return store.hold(name, work="computes the same", check_stop=check_stop)


@pytest.fixture(autouse=True)
def heard(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tlcnn"), "propagate", True)
    return caplog


def test_another_process_finds_what_one_has_written(tmp_path):
    rows = draw(22, 100)
    written = fill(make_store(tmp_path), f"{NAME}-01", rows)
    array = make_store(tmp_path).find(f"{NAME}-01")
    assert same(written, rows) and same(array, rows)
    assert array.digest == written.digest
    assert names(tmp_path) == [f"{NAME}-01.bin", f"{NAME}-01.json"]
    assert make_store(tmp_path).find(f"{NAME}-02") is None
    with pytest.raises(ValueError, match="read-only"):
        array.rows[0] = 1


def test_a_digest_is_that_of_the_content_however_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(block_digest, "BLOCK", 1000)
    rows = draw(105, 100)
    stores = [make_store(tmp_path / str(i), disk_mib=disk) for i, disk in enumerate((10, None, 0))]
    digests = [
        fill(store, NAME, rows, batch).digest
        for store, batch in zip(stores, (1, 7, 105), strict=True)
    ]
    assert len(set(digests)) == 1
    path = tmp_path / "0" / f"{NAME}.bin"
    assert {digest_of_blocks(path, workers) for workers in (1, 3)} == set(digests)
    rows[70, 5] ^= 1
    assert fill(make_store(tmp_path / "other"), NAME, rows).digest != digests[0]


DAMAGES = ["cut", "flip", "no rows", "no sidecar", "half a sidecar", "a list", "other info"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_array_is_noticed_and_can_be_written_again(tmp_path, heard, damage):
    content = draw(22, 36)
    fill(make_store(tmp_path), f"{NAME}-01", content)
    rows, sidecar = tmp_path / f"{NAME}-01.bin", tmp_path / f"{NAME}-01.json"
    if damage == "cut":
        os.truncate(rows, 100)
    elif damage == "flip":
        flipped = bytearray(rows.read_bytes())
        flipped[50] ^= 1
        rows.write_bytes(flipped)
    elif damage == "no rows":
        rows.unlink()
    elif damage == "no sidecar":
        sidecar.unlink()
    elif damage == "a list":
        sidecar.write_text("[]")
    elif damage == "other info":
        sidecar.write_text(sidecar.read_text().replace("by a test", "by nobody"))
    else:
        sidecar.write_text(sidecar.read_text()[:40])
    store = make_store(tmp_path)
    assert store.find(f"{NAME}-01") is None
    assert damage == "no sidecar" or "damaged" in heard.text
    fill(store, f"{NAME}-01", content)
    assert same(make_store(tmp_path).find(f"{NAME}-01"), content)


def test_the_least_recently_used_arrays_make_room(tmp_path):
    store = make_store(tmp_path, disk_mib=1.0)
    arrays = [draw(40, 2**13) for _ in range(4)]  # 0.31 MiB: three fit
    for number in range(3):
        fill(store, f"{NAME}-0{number}", arrays[number])
        os.utime(tmp_path / f"{NAME}-0{number}.json", (number, number))
    in_use = store.find(f"{NAME}-00")  # so that 01 is the oldest
    fill(store, f"{NAME}-03", arrays[3])
    assert sorted(p.stem for p in tmp_path.glob("*.bin")) == [f"{NAME}-0{n}" for n in (0, 2, 3)]
    assert sum(path.stat().st_size for path in tmp_path.glob("*.bin")) <= MIB
    assert store.find(f"{NAME}-01") is None
    assert same(in_use, arrays[0])


def test_an_array_in_use_may_be_deleted(tmp_path):
    rows = draw(22, 2**14)
    fill(make_store(tmp_path), f"{NAME}-01", rows)
    array = make_store(tmp_path).find(f"{NAME}-01")
    for path in tmp_path.iterdir():
        path.unlink()
    assert same(array, rows)


def test_without_a_disk_arrays_stay_in_memory_up_to_the_budget(tmp_path):
    store = make_store(tmp_path / "none", disk_mib=0, memory_mib=1.0)
    arrays = [draw(40, 2**13) for _ in range(4)]
    for number, rows in enumerate(arrays):
        assert same(fill(store, f"{NAME}-0{number}", rows), rows)
    in_memory = [store.find(f"{NAME}-0{number}") for number in range(4)]
    assert in_memory[0] is None and all(in_memory[1:])
    assert not (tmp_path / "none").exists()


def test_what_fits_neither_budget_is_refused(tmp_path):
    store = make_store(tmp_path, disk_mib=0.1, memory_mib=0.1)
    with pytest.raises(ValueError, match="reuse_disk_gib nor into reuse_memory_gib"):
        store.open_writer(NAME, (40, 2**13))
    assert names(tmp_path) == [] and store.can_write


def test_arrays_that_are_written_at_once_stay_within_the_budget_together(tmp_path):
    first, second = (make_store(tmp_path, disk_mib=1.0, memory_mib=0) for _ in range(2))
    with first.open_writer(f"{NAME}-01", (6, 10**5)):
        for store in (first, second):  # the second is that of another process
            with pytest.raises(ValueError, match="fits neither"):
                store.open_writer(f"{NAME}-02", (6, 10**5))
    assert same(fill(second, f"{NAME}-02", draw(6, 10**5)), draw(6, 10**5))


def test_an_array_that_is_not_finished_leaves_nothing(tmp_path):
    for disk_mib in (0, 10):
        store = make_store(tmp_path, disk_mib=disk_mib)
        with pytest.raises(KeyboardInterrupt), store.open_writer(NAME, (22, 9)) as writer:
            writer.add(draw(4, 9))
            raise KeyboardInterrupt
        assert names(tmp_path) == [] and store.find(NAME) is None
        assert store.reserve(10 * MIB)  # its memory is free again


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path):
    outside = tmp_path / "precious"
    outside.write_text("as it was")
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / f".{NAME}.tmp").symlink_to(outside)
    assert same(fill(make_store(folder), NAME, draw(22, 9)), draw(22, 9))
    assert outside.read_text() == "as it was"


class FullDisk:
    """`open_new` whose files take so many bytes, all together, and then no more."""

    def __init__(self, n_bytes):
        self.left = n_bytes

    def __call__(self, path):
        file = storage.open_new(path)
        proxy = type("File", (), {})()
        for name in ("name", "fileno", "close", "flush", "truncate"):
            setattr(proxy, name, getattr(file, name))
        proxy.write = lambda data: self._write(file.write, data)
        return proxy

    def _write(self, write, data):
        self.left -= memoryview(data).nbytes
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(data)


def test_memory_serves_where_a_disk_has_no_room(tmp_path, monkeypatch, heard):
    store = make_store(tmp_path)
    before, rows = draw(22, 36), draw(22, 3600)
    fill(store, f"{NAME}-01", before)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(array_store.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert same(fill(store, f"{NAME}-02", rows), rows)
    assert "arrays are no longer stored in" in heard.text and "0 MiB free" in heard.text
    assert names(tmp_path) == [f"{NAME}-01.bin", f"{NAME}-01.json"]
    assert same(make_store(tmp_path).find(f"{NAME}-01"), before)
    assert make_store(tmp_path).find(f"{NAME}-02") is None
    assert same(store.find(f"{NAME}-02"), rows)


@pytest.mark.parametrize("memory_mib", [10, 0])
def test_a_disk_that_fills_up_while_it_is_written_is_an_error(tmp_path, monkeypatch, memory_mib):
    store = make_store(tmp_path, memory_mib=memory_mib)
    monkeypatch.setattr(array_store, "open_new", FullDisk(1000))
    with pytest.raises(OSError, match="No space left"):
        fill(store, NAME, draw(22, 3600))
    assert names(tmp_path) == []


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "arrays").write_text("")
    store = make_store(tmp_path / "arrays")
    with pytest.raises(StorageError, match="cannot create the folder"), hold(store):
        pass
    assert same(fill(store, NAME, draw(22, 9)), draw(22, 9))  # in memory


FILLER = """
import sys, time
from pathlib import Path
import numpy as np
from tlcnn.data.array_store import ArrayStore

store = ArrayStore(Path(sys.argv[1]), disk_bytes=2**24)
name = sys.argv[2]
with store.hold(name, work="computes the same", check_stop=lambda: None):
    with store.open_writer(f"{name}-01", (100, 20_000)) as writer:
        for number in range(25):
            writer.add(np.full((4, 20_000), number, np.uint8))
            print(number, flush=True)
            time.sleep(float(sys.argv[3]))
        writer.finish({})
print("whole", flush=True)
"""


def start_filler(folder, seconds):
    command = [sys.executable, "-c", FILLER, str(folder), NAME, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_computation_leaves_a_file_that_the_next_one_deletes(tmp_path):
    process = start_filler(tmp_path, 0.2)
    assert next(process.stdout) == "0\n" and next(process.stdout) == "1\n"
    process.kill()
    process.communicate()
    assert names(tmp_path) == [f".{NAME}-01.tmp"]
    store = make_store(tmp_path)
    assert store.find(f"{NAME}-01") is None
    with hold(store, "fedcba9876543210"):  # whoever computes another array cleans up, too
        pass
    assert names(tmp_path) == []


def test_one_process_computes_and_the_other_waits_and_reads(tmp_path):
    process = start_filler(tmp_path, 0.05)
    next(process.stdout)
    store, polled = make_store(tmp_path), []
    assert store.find(f"{NAME}-01") is None
    with hold(store, "fedcba9876543210"):  # is no reason to delete its file
        pass
    with hold(store, check_stop=lambda: polled.append(1)):
        array = store.find(f"{NAME}-01")
    assert polled and process.communicate()[0].endswith("whole\n")
    assert (array.rows[:, 0] == np.arange(25).repeat(4)).all()


def test_who_waits_can_be_stopped(tmp_path):
    process = start_filler(tmp_path, 0.2)
    next(process.stdout)

    def stop():
        raise Stopped("by a signal")

    started = time.monotonic()
    with pytest.raises(Stopped), hold(make_store(tmp_path), check_stop=stop):
        pass
    assert time.monotonic() - started < 2
    process.kill()
    process.communicate()


def test_more_arrays_than_a_process_may_open_are_read(tmp_path):
    """Each map of a file is an open file."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    rows = draw(2, 9)
    fill(make_store(tmp_path), NAME, rows)
    for number in range(400):
        for suffix in (".bin", ".json"):
            os.link(tmp_path / f"{NAME}{suffix}", tmp_path / f"{NAME}-{number:03d}{suffix}")
    store = make_store(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
        assert all(same(store.find(f"{NAME}-{number:03d}"), rows) for number in range(400))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
