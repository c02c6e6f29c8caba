"""A checkpoint is whole or absent, whatever happens while it is written."""

import io
import os
import pickle
import subprocess
import sys

import pytest
import torch

from tlcnn.errors import StorageError
from tlcnn.training import checkpoint
from tlcnn.training.checkpoint import (
    LAST,
    PREVIOUS,
    Checkpoints,
    load_checkpoint,
    save_checkpoint,
)


def state(number: int) -> dict:
    return {"number": number, "weight": torch.full((3, 3), float(number)), "list": [1.5, None]}


def test_what_is_saved_is_loaded(tmp_path):
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, state(1))
    loaded = load_checkpoint(tmp_path)
    assert loaded["number"] == 1 and torch.equal(loaded["weight"], torch.full((3, 3), 1.0))


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    data = bytearray((tmp_path / LAST).read_bytes())
    data[len(data) // 2] ^= 1
    broken = {"flip": data, "truncate": data[:-100], "empty": b""}[damage]
    (tmp_path / LAST).write_bytes(bytes(broken))
    assert load_checkpoint(tmp_path)["number"] == 1


def test_a_checkpoint_elsewhere_is_not_read_through_a_link(tmp_path):
    for name, number in (("elsewhere", 9), ("run", 1)):
        (tmp_path / name).mkdir()
        save_checkpoint(tmp_path / name, state(number))
    save_checkpoint(tmp_path / "run", state(2))
    (tmp_path / "run" / LAST).unlink()
    (tmp_path / "run" / LAST).symlink_to(tmp_path / "elsewhere" / LAST)
    assert load_checkpoint(tmp_path / "run")["number"] == 1
    (tmp_path / "run" / LAST).unlink()
    (tmp_path / "run" / LAST).symlink_to(tmp_path / "elsewhere" / LAST)
    with pytest.raises(StorageError, match="is damaged"):
        load_checkpoint(tmp_path / "run")
    assert load_checkpoint(tmp_path / "elsewhere")["number"] == 9


def test_two_damaged_checkpoints_are_never_a_silent_restart(tmp_path):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(StorageError, match="(?s)every checkpoint .* is damaged.*delete both"):
        load_checkpoint(tmp_path)


def test_a_damaged_checkpoint_never_becomes_the_spare(tmp_path):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    (tmp_path / LAST).write_bytes(b"nonsense")
    load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, state(3))
    (tmp_path / LAST).write_bytes(b"nonsense again")
    assert load_checkpoint(tmp_path)["number"] == 1


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    import hashlib

    body = pickle.dumps(Evil(), protocol=2)
    trailer = b"tlcnn-sha256:" + hashlib.sha256(body).digest()
    (tmp_path / LAST).write_bytes(body + trailer)
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "canary").exists()


CRASH = """
import os, sys, torch
from pathlib import Path
from tlcnn.training import checkpoint
folder, crash_at = Path(sys.argv[1]), int(sys.argv[2])
calls = 0
def counted(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == crash_at:
            os._exit(137)
        return real(*args, **kwargs)
    return call
state = {"number": 2, "weight": torch.full((64, 64), 2.0)}
for name in ("open", "link", "fsync", "replace", "close", "unlink"):
    setattr(os, name, counted(name))
checkpoint.save_checkpoint(folder, state)
print(calls)
"""


def run_save(folder, crash_at: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", CRASH, str(folder), str(crash_at)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_every_crash_point_of_a_save_leaves_a_whole_checkpoint(tmp_path):
    n_points = int(run_save(make_folder(tmp_path / "count"), 0).stdout)
    assert n_points >= 6
    for point in range(1, n_points + 1):
        folder = make_folder(tmp_path / str(point))
        assert run_save(folder, point).returncode == 137
        assert load_checkpoint(folder)["number"] in (1, 2), point
        save_checkpoint(folder, state(3))
        assert load_checkpoint(folder)["number"] == 3, point


def make_folder(folder):
    folder.mkdir()
    save_checkpoint(folder, state(0))
    save_checkpoint(folder, state(1))
    return folder


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, state(1))
    real = io.open

    def full(path, mode="r", *rest, **options):
        if "x" in mode and str(path).endswith(".tmp"):
            raise OSError(28, "No space left on device")
        return real(path, mode, *rest, **options)

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(StorageError, match="No space left"):
        save_checkpoint(tmp_path, state(2))
    monkeypatch.undo()
    assert load_checkpoint(tmp_path)["number"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limits there")
def test_a_disk_that_fills_while_it_is_written_keeps_the_last_checkpoint(tmp_path):
    code = """
import resource, signal, sys, torch
from pathlib import Path
from tlcnn.errors import StorageError
from tlcnn.training.checkpoint import save_checkpoint
folder = Path(sys.argv[1])
save_checkpoint(folder, {"number": 1})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(folder, {"number": 2, "weight": torch.zeros(100_000)})
except StorageError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True)
    assert "checkpoint.last.pt: File too large" in told.stdout, told.stderr
    assert load_checkpoint(tmp_path)["number"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.last.pt"]


def test_a_checkpoint_is_not_written_through_a_link(tmp_path):
    (tmp_path / "run").mkdir()
    outside = tmp_path / "outside"
    outside.write_text("not ours")
    (tmp_path / "run" / f".{LAST}.tmp").symlink_to(outside)
    save_checkpoint(tmp_path / "run", state(1))
    assert outside.read_text() == "not ours"
    assert load_checkpoint(tmp_path / "run")["number"] == 1


# ------------------------------------------------------------------------------------- when


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told to."""
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


@pytest.fixture
def checkpoints(tmp_path, clock, monkeypatch):
    """Make checkpoints whose writing takes some seconds."""

    def make(every_s, *, n_bytes, write_s=0.0):
        monkeypatch.setattr(checkpoint, "save_checkpoint", lambda *_: clock(write_s))
        checkpoints = Checkpoints(tmp_path, "id", every_s=every_s)
        checkpoints.start_clock(n_bytes)
        return checkpoints

    return make


def test_checkpoints_at_epochs_take_at_most_a_twentieth_of_the_time(clock, checkpoints):
    timer = checkpoints(300.0, n_bytes=0, write_s=0.5)
    spent = 0.0
    for _ in range(1000):  # epochs of a second
        clock(1.0)
        if timer.is_cheap():
            timer.save({})
            spent += 0.5
    assert 0.04 < spent / 1000 <= 0.05 + 0.5 / 1000


def test_a_checkpoint_is_due_whatever_it_costs_when_a_kill_would_cost_more(clock, checkpoints):
    timer = checkpoints(30.0, n_bytes=2**40, write_s=50.0)
    clock(29.0)
    assert not timer.is_overdue() and not timer.is_cheap()
    clock(2.0)
    assert timer.is_overdue() and timer.is_cheap()
    timer.save({})
    assert not timer.is_overdue() and not timer.is_cheap()


def test_without_an_interval_every_step_is_saved(clock, checkpoints):
    timer = checkpoints(0.0, n_bytes=2**40)
    clock(1e-6)
    assert timer.is_overdue() and timer.is_cheap()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    Checkpoints(tmp_path, "one", every_s=1.0).save(state(1))
    assert Checkpoints(tmp_path, "one", every_s=1.0).load()["number"] == 1
    with pytest.raises(StorageError, match="is of run one, not of two"):
        Checkpoints(tmp_path, "two", every_s=1.0).load()
