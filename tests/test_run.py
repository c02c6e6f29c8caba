"""A run: its folder, its promises, and that nothing of it depends on having been interrupted."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from runs import stop_at_every_step, tiny_command, tiny_config
from safetensors.torch import load_file

from tlcnn.errors import BrokenPromise, ConfigError, Diverged, RunLocked, Stopped
from tlcnn.plan.plan import make_plan
from tlcnn.records.environment import Session, add_session, read_sessions
from tlcnn.records.event_file import read_scalars
from tlcnn.records.folder import RunDir
from tlcnn.records.read import read_predictions, read_run
from tlcnn.run import results
from tlcnn.run.run import run
from tlcnn.training import fit as fitting

RECIPE = ["train.ema_decay=0.9", "model.drop_rate=0.2", "train.views=3"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache_dir):
    """A run that nothing interrupted."""
    torch.set_num_threads(1)
    plan = make_plan(tiny_config(tmp_path_factory.mktemp("whole"), cache_dir, *RECIPE))
    log = logging.getLogger("tlcnn")
    level = log.level
    log.setLevel(logging.DEBUG)  # as the command does
    run(plan)
    log.setLevel(level)
    return plan.run_dir


def bits(folder):
    """Everything that must not depend on interruptions: weights, predictions, metrics."""
    weights = {
        name: tensor.numpy() for name, tensor in load_file(folder / "weights.safetensors").items()
    }
    summary = json.loads((folder / "summary.json").read_text())
    timed = ("train_s", "images_per_s")
    history = [
        {key: value for key, value in json.loads(line).items() if key not in timed}
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    return weights, read_predictions(folder), summary["metrics"], history


def check_same_curves(first, second):
    """No point is doubled, lost or another one in what TensorBoard shows."""
    curves = [read_scalars(folder) for folder in (first, second)]
    timed = {"step/images_per_s", "images_per_s", "train_s"}
    assert curves[0].keys() == curves[1].keys() >= {"step/loss", "train/loss", *timed}
    for name, points in curves[0].items():
        assert [step for step, _ in curves[1][name]] == [step for step, _ in points]
        assert curves[1][name] == points or name in timed


def check_same(first, second):
    weights, predictions, metrics, history = bits(first)
    weights2, predictions2, metrics2, history2 = bits(second)
    assert weights.keys() == weights2.keys()
    assert all(np.array_equal(weights[name], weights2[name]) for name in weights)
    pd.testing.assert_frame_equal(predictions, predictions2, check_exact=True)
    assert metrics == metrics2 and history == history2


def test_a_run_leaves_its_records(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {
        *("plan.json", "config.yaml", "environment.json", "metrics.jsonl", "predictions.parquet"),
        *("weights.safetensors", "summary.json", "log.txt", "DONE", "lock"),
        *("splits.parquet", "init.json"),
    }
    row = read_run(whole)
    assert row["state"] == "done" and row["epochs"] == 2
    assert 0 <= row["test/balanced_accuracy"] <= 1
    predictions = read_predictions(whole)
    assert set(predictions["split"]) == {"val", "test"}
    assert {"image_id", "group", "label", "logit/mel"} <= set(predictions.columns)
    groups = predictions.groupby("split")["group"].agg(set)
    assert not groups["val"] & groups["test"]
    log = (whole / "log.txt").read_text()
    assert f"folder   {whole}\n" in log and "images   140 of synthetic" in log  # the plan


def test_the_metrics_are_those_of_the_predictions(whole):
    predictions = read_predictions(whole).query("split == 'test'")
    logits = predictions[[c for c in predictions if c.startswith("logit/")]].to_numpy()
    correct = logits.argmax(axis=1) == predictions["label"]
    assert read_run(whole)["test/accuracy"] == pytest.approx(correct.mean())
    assert read_run(whole)["test/balanced_accuracy"] == pytest.approx(
        correct.groupby(predictions["label"]).mean().mean()
    )


def test_a_finished_run_answers_at_once(whole, cache_dir):
    plan = make_plan(tiny_config(whole.parents[1], cache_dir, *RECIPE))
    before = (whole / "weights.safetensors").stat().st_mtime_ns
    assert run(plan) == json.loads((whole / "summary.json").read_text())
    assert (whole / "weights.safetensors").stat().st_mtime_ns == before


def test_another_process_that_wants_the_run_is_told_who_holds_it(tmp_path, cache_dir):
    plan = make_plan(tiny_config(tmp_path, cache_dir, "on_locked=fail"))
    with (
        RunDir(plan.run_dir).hold(wait=False, say=print),
        pytest.raises(RunLocked, match=f"is held by process {os.getpid()} on "),
    ):
        run(plan)


def test_who_waited_for_a_run_takes_its_result(whole, tmp_path, cache_dir):
    plan = make_plan(tiny_config(tmp_path, cache_dir, *RECIPE))
    assert plan.run_id in whole.name
    command = [sys.executable, "-m", "tlcnn.train", *tiny_command(tmp_path, cache_dir, *RECIPE)]
    with RunDir(plan.run_dir).hold(wait=False, say=print):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=one_thread())
        said = next(line for line in process.stderr if line.startswith("waiting: "))
        assert f"is held by process {os.getpid()} on " in said
        for name in ("summary.json", "DONE"):  # the holder finishes
            shutil.copy(whole / name, plan.run_dir / name)
    words = process.communicate(timeout=120)[1]
    assert process.returncode == 0
    assert words.startswith("already done: ")


def test_two_that_start_at_once_train_once(tmp_path, cache_dir):
    command = [sys.executable, "-m", "tlcnn.train", *tiny_command(tmp_path, cache_dir)]
    both = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=one_thread())
        for _ in range(2)
    ]
    words = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("already done" in text for text in words) == 1
    assert sum("\ndone: " in text for text in words) == 1


def one_thread():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("cell", [[], ["freeze=layer2", "freeze.allow_random=true"]])
def test_a_stop_at_any_step_and_any_batch_goes_on_to_the_same_bits(
    tmp_path, cache_dir, monkeypatch, cell
):
    """Stop after every single question the run asks, so also inside evaluation."""
    plans = [
        make_plan(tiny_config(tmp_path / name, cache_dir, *RECIPE, *cell, "eval_batch_size=16"))
        for name in ("whole", "stopped")
    ]
    run(plans[0])
    stops = 0
    stop_at_every_step(monkeypatch)
    while True:
        try:
            run(plans[1])
            break
        except Stopped as stopped:
            assert "repeat the command to continue" in str(stopped)
            assert read_run(plans[1].run_dir)["state"] == "stopped"
            stops += 1
    assert stops == 2 * plans[1].steps_per_epoch  # the last of an epoch stops its evaluation
    check_same(plans[0].run_dir, plans[1].run_dir)


FORKED = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, "tests")
import torch
from runs import tiny_config
from tlcnn.plan.plan import make_plan
from tlcnn.run.run import run

torch.set_num_threads(1)
target, cache = Path(sys.argv[1]), Path(sys.argv[2])
n_kills, seed, logger = int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
recipe = ["train.ema_decay=0.9", "model.drop_rate=0.2", "train.views=3", "train.epochs=6"]
recipe += ["checkpoint_every_s=0.05", f"logger={logger}"]
draw = random.Random(seed)

run(make_plan(tiny_config(target / "warm", cache)))  # so that no child pays for lazy imports
whole = make_plan(tiny_config(target / "whole", cache, *recipe))
started = time.monotonic()
run(whole)
whole_s = time.monotonic() - started

def child():
    plan = make_plan(tiny_config(target / "killed", cache, *recipe))
    run(plan)
    os._exit(0)

kills = 0
while True:
    pid = os.fork()
    if pid == 0:
        child()
    if kills < n_kills:
        time.sleep(draw.uniform(0.02, 0.25) * whole_s)
        os.kill(pid, signal.SIGKILL if kills % 3 else signal.SIGTERM)
    status = os.waitpid(pid, 0)[1]
    if os.waitstatus_to_exitcode(status) == 0:
        break
    kills += 1
print(kills)
"""


def fork_and_kill(target, cache_dir, n_kills, seed):
    logger = "tensorboard" if find_spec("tensorboard") else "none"
    arguments = [str(target), str(cache_dir), str(n_kills), str(seed), logger]
    command = [sys.executable, "-c", FORKED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread(), timeout=550)
    assert done.returncode == 0, done.stderr
    (whole,) = (target / "whole" / "runs").iterdir()
    (killed,) = (target / "killed" / "runs").iterdir()
    check_same(whole, killed)
    if logger == "tensorboard":
        check_same_curves(whole, killed)
    return int(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_at_random_moments_end_in_the_same_bits(tmp_path, cache_dir):
    assert fork_and_kill(tmp_path, cache_dir, n_kills=6, seed=0) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_many_kills_at_random_moments_end_in_the_same_bits(tmp_path, cache_dir, seed):
    kills = fork_and_kill(tmp_path, cache_dir, n_kills=10, seed=seed)
    print(f"{kills} kills")
    assert kills >= 7


CRASHED = """
import itertools, os, sys
from pathlib import Path
sys.path.insert(0, "tests")
import torch
from runs import tiny_config
from tlcnn.plan.plan import make_plan
from tlcnn.run.run import run
from tlcnn.training import checkpoint

torch.set_num_threads(1)
target, cache = Path(sys.argv[1]), Path(sys.argv[2])
recipe = ["train.ema_decay=0.9", "model.drop_rate=0.2", "train.views=3", "checkpoint_every_s=0"]
run(make_plan(tiny_config(target / "whole", cache, *recipe)))

def crash_at(point):
    # Die at the point-th of these calls inside the second save.
    real_save, calls, saved = checkpoint.save_checkpoint, itertools.count(1), []
    def counted(call):
        def wrapped(*args, **kwargs):
            if next(calls) == point:
                os._exit(137)
            return call(*args, **kwargs)
        return wrapped
    def save(*args):
        saved.append(1)
        if len(saved) == 2:
            for name in ("open", "link", "fsync", "replace", "close", "unlink"):
                setattr(os, name, counted(getattr(os, name)))
        real_save(*args)
        if len(saved) == 2:
            os._exit(0)  # the second save is over: there is no such point
    checkpoint.save_checkpoint = save

def start(point, is_crashing):
    pid = os.fork()
    if pid == 0:
        if is_crashing:
            crash_at(point)
        run(make_plan(tiny_config(target / f"point{point}", cache, *recipe)))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

for point in itertools.count(1):
    if start(point, True) == 0:
        break
    assert start(point, False) == 0
print(point - 1)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_crash_at_every_point_of_a_save_ends_in_the_same_bits(tmp_path, cache_dir):
    command = [sys.executable, "-c", CRASHED, str(tmp_path), str(cache_dir)]
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread(), timeout=550)
    assert done.returncode == 0, done.stderr
    n_points = int(done.stdout.splitlines()[-1])
    print(f"{n_points} crash points")
    assert n_points >= 6
    (whole,) = (tmp_path / "whole" / "runs").iterdir()
    for point in range(1, n_points + 1):
        (crashed,) = (tmp_path / f"point{point}" / "runs").iterdir()
        check_same(whole, crashed)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_exits_75(tmp_path, cache_dir, name):
    long = tiny_command(tmp_path, cache_dir, "train.epochs=500")
    process = subprocess.Popen(
        [sys.executable, "-m", "tlcnn.train", *long],
        stderr=subprocess.PIPE,
        text=True,
        env=one_thread(),
    )
    for line in process.stderr:
        if line.startswith("epoch "):
            break
    process.send_signal(getattr(signal, name))
    words = process.communicate(timeout=60)[1]
    assert process.returncode == 75, words
    assert f"stopped by {name}; repeat the command to continue" in words
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "checkpoint.last.pt").is_file()
    assert read_run(folder)["state"] == "stopped"


def test_a_network_that_cannot_take_the_images_is_refused_before_they_are_decoded(tmp_path):
    words = ["model=inception_v3", "model.name=inception_v3", "dataset.image_size=32"]
    plan = make_plan(tiny_config(tmp_path, tmp_path / "cache", *words))
    with pytest.raises(ConfigError, match="cannot take images of 32 px.*Use dataset.image_size="):
        run(plan)
    assert not (tmp_path / "cache" / "images").exists()


def test_resuming_on_another_number_of_threads_is_said(tmp_path, cache_dir):
    plan = make_plan(tiny_config(tmp_path, cache_dir))
    folder = RunDir(plan.run_dir)
    folder.path.mkdir(parents=True)
    first = Session(device="cpu", hardware="x", threads=1, packages={"torch": "2"})
    assert add_session(folder.path, first) == []
    assert add_session(folder.path, replace(first, threads=8)) == ["threads was 1, is 8"]
    assert [session.threads for session in read_sessions(folder.path)] == [1, 8]


def test_a_signal_that_comes_too_late_still_ends_a_sweep(tmp_path, cache_dir, monkeypatch):
    real = RunDir.write_done

    def done_then_signal(self, run_id):
        real(self, run_id)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunDir, "write_done", done_then_signal)
    plan = make_plan(tiny_config(tmp_path, cache_dir, "train.epochs=1"))
    with pytest.raises(Stopped):
        run(plan)
    assert RunDir(plan.run_dir).is_done


def test_the_log_is_not_written_through_a_link(tmp_path, cache_dir):
    plan = make_plan(tiny_config(tmp_path, cache_dir, "train.epochs=1"))
    outside = tmp_path / "outside"
    outside.write_text("not ours")
    plan.run_dir.mkdir(parents=True)
    (plan.run_dir / "log.txt").symlink_to(outside)
    run(plan)
    assert outside.read_text() == "not ours"
    log_file = plan.run_dir / "log.txt"
    assert log_file.is_file() and not log_file.is_symlink()


def test_divergence_is_named_recorded_and_keeps_the_records_so_far(tmp_path, cache_dir):
    plan = make_plan(tiny_config(tmp_path, cache_dir, "train.lr=1e30", "train.clip_norm=null"))
    with pytest.raises(Diverged, match="Lower train.lr"):
        run(plan)
    assert read_run(plan.run_dir)["state"] == "failed"
    assert "Diverged" in (plan.run_dir / "FAILED").read_text()
    assert "plan.json" in os.listdir(plan.run_dir)


def test_a_broken_promise_is_never_a_result(tmp_path, cache_dir, monkeypatch):
    real = fitting.Updates.run

    def drift(self, *update):
        real(self, *update)
        self.network.model.bn1.running_mean += 1e-3  # what BatchNorm does in everybody else's code

    monkeypatch.setattr(fitting.Updates, "run", drift)
    plan = make_plan(tiny_config(tmp_path, cache_dir, "freeze=stem", "freeze.allow_random=true"))
    with pytest.raises(BrokenPromise, match="bn1.running_mean"):
        run(plan)
    assert not (plan.run_dir / "DONE").exists()


def test_another_seed_changes_draws_but_not_the_split(tmp_path, cache_dir):
    plans = [make_plan(tiny_config(tmp_path, cache_dir, f"seed={seed}")) for seed in (0, 1)]
    assert plans[0].dataset.manifest == plans[1].dataset.manifest
    results = [run(plan)["metrics"]["test/nll"] for plan in plans]
    assert results[0] != results[1]


def test_patience_ends_a_run_early_and_the_best_epoch_is_kept(tmp_path, cache_dir):
    plan = make_plan(
        tiny_config(tmp_path, cache_dir, "train.epochs=30", "train.patience=2", "train.lr=1e-9")
    )
    summary = run(plan)
    assert summary["epochs"] < 30 and summary["epochs"] - summary["best_epoch"] == 2


def test_a_signal_while_test_images_are_read_loses_no_step(tmp_path, cache_dir, monkeypatch):
    whole, stopped = (make_plan(tiny_config(tmp_path / n, cache_dir)) for n in ("whole", "cut"))
    run(whole)
    monkeypatch.setattr(fitting.Checkpoints, "is_cheap", lambda timer: False)
    real = results.compute_logits

    def signal_first(*args, **words):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **words)

    with monkeypatch.context() as patched:
        patched.setattr(results, "compute_logits", signal_first)
        with pytest.raises(Stopped):
            run(stopped)
    monkeypatch.setattr(fitting.Updates, "run", None)  # there is nothing left to train
    run(stopped)
    check_same(whole.run_dir, stopped.run_dir)
