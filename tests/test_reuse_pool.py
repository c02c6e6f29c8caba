"""Reuse among processes, on disks that are too small, and beside checkpoints of old."""

import json
import logging
import os
import subprocess
import sys

import pytest
from runs import tiny_command, tiny_config
from test_reuse import save_source
from test_run import check_same, one_thread

from tlcnn.plan.plan import make_plan
from tlcnn.run.run import run
from tlcnn.training import fit as fitting
from tlcnn.training.checkpoint import LAST, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("one_core")


def sweep(folder, cache, *words):
    """Run a sweep as from a terminal, on one thread a run."""
    command = [sys.executable, "-m", "tlcnn.train", "-m", *tiny_command(folder, cache, *words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=one_thread()
    )


def finish(process):
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return said


def read_counts(folder):
    """What each run of a folder counted, by the name of its folder."""
    paths = sorted(folder.glob("runs/*/summary.json"))
    return {path.parent.name: json.loads(path.read_text()).get("reuse") for path in paths}


GRID = ["init=checkpoint", "freeze.through=1,2,4", "seed=0,1", "train.augment=none"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pool", "two shells"])
def test_processes_fill_every_array_once_and_end_in_the_same_bits(tmp_path, how):
    source = f"init.weights={save_source(tmp_path)}"
    cache, grid = tmp_path / "cache", [*GRID, source]
    if how == "pool":
        folders = [tmp_path / "pool"]
        started = [sweep(folders[0], cache, *grid, "hydra/launcher=pool")]
    else:  # the same study, and each trains the runs that the other does not
        folders = [tmp_path / "one"]
        started = [sweep(folders[0], cache, *grid) for _ in range(2)]
    for process in started:
        finish(process)
    counts = read_counts(folders[0])
    assert len(counts) == 6
    arrays = sorted((cache / "features").glob("*.bin"))
    assert len(arrays) == 3 * 3  # splits x boundaries: neither seeds nor cells have their own
    assert sum(each["arrays_filled"] for each in counts.values()) == len(arrays)
    assert not list((cache / "features").glob(".*.tmp"))
    plain = tmp_path / "plain"
    finish(sweep(plain, cache, *grid, "reuse=none"))
    for name in counts:
        check_same(folders[0] / "runs" / name, plain / "runs" / name)


# ------------------------------------------------------------------------------- a real small disk


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB, where the system lets us have one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root mounts disks")
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("disks cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("memory", ["2", "0"], ids=["by memory", "straight to a file"])
@pytest.mark.parametrize("left", [0, 100], ids=["full", "too small"])
def test_a_disk_without_room_for_features_changes_no_bit(
    tmp_path, cache_dir, small_disk, caplog, monkeypatch, memory, left
):
    monkeypatch.setattr(logging.getLogger("tlcnn"), "propagate", True)
    features = tmp_path / "cache" / "features"
    features.parent.mkdir()
    features.symlink_to(small_disk)
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "another's").write_bytes(b"x" * max(0, free - left * 1024))
    words = ["freeze.through=stage2", "freeze.allow_random=true", "train.augment=none"]
    words += [f"reuse_memory_gib={memory}"]
    plan = make_plan(tiny_config(tmp_path / "out", tmp_path / "cache", *words))
    plain = make_plan(tiny_config(tmp_path / "plain", cache_dir, *words, "reuse=none"))
    counts = run(plan)["reuse"]
    run(plain)
    check_same(plan.run_dir, plain.run_dir)
    assert "arrays are no longer stored in" in caplog.text
    assert "MiB free" in caplog.text or "No space left" in caplog.text
    assert not list(small_disk.glob(".*.tmp"))
    assert (counts["arrays_filled"] == 3) == (memory == "2")


# ------------------------------------------------------------------------------- older checkpoints


def test_a_checkpoint_that_holds_frozen_tensors_too_is_taken_up(
    tmp_path, cache_dir, monkeypatch, caplog
):
    """As checkpoints were before they left out what never moves."""
    monkeypatch.setattr(logging.getLogger("tlcnn"), "propagate", True)
    caplog.set_level(logging.INFO)
    words = ["freeze.through=stage2", "freeze.allow_random=true", "train.views=2"]
    stopped, whole = (
        make_plan(tiny_config(tmp_path / name, cache_dir, *words)) for name in ("stopped", "whole")
    )
    run(whole)
    stop_after_epoch(monkeypatch, stopped)
    state = load_checkpoint(stopped.run_dir)
    full = read_full_state(stopped)
    fixed = set(full) - set(state["model"])
    assert fixed and any("running_mean" in name for name in fixed)
    for held in (state["model"], state["position"]["best_weights"]):
        held |= {name: full[name] for name in fixed}
    (stopped.run_dir / LAST).unlink()
    save_checkpoint(stopped.run_dir, state)
    run(stopped)
    assert "resuming in epoch 2" in caplog.text
    check_same(stopped.run_dir, whole.run_dir)


def stop_after_epoch(monkeypatch, plan):
    from tlcnn.errors import Stopped

    real = fitting.Fit.validate

    def validate_then_stop(self):
        yield from real(self)
        self.stop.signal_name = "SIGTERM"

    with monkeypatch.context() as patched:
        patched.setattr(fitting.Fit, "validate", validate_then_stop)
        with pytest.raises(Stopped):
            run(plan)


def read_full_state(plan):
    """Every tensor of the network at its start, which the frozen ones still are."""
    from tlcnn.run.network import build_initial_network

    return build_initial_network(plan).model.state_dict()
