"""How far a sweep is and when it ends, as its bar says it."""

import json
import os
import platform
import time

import pytest
from runs import tiny_config

from tlcnn.plan.describe import make_plan_record
from tlcnn.plan.plan import make_plan
from tlcnn.records.plan_record import write_plan
from tlcnn.run.job import Job
from tlcnn.sweep import progress
from tlcnn.sweep.duration import estimate_seconds
from tlcnn.sweep.progress import Watch, show_progress
from tlcnn.sweep.resolve import SweepRun


@pytest.fixture
def runs(tmp_path, cache_dir):
    """Three runs of five epochs that nobody has begun."""
    configs = [
        tiny_config(tmp_path, cache_dir, f"seed={seed}", "train.epochs=5") for seed in range(3)
    ]
    return [SweepRun(Job(()), make_plan(config), "cell", 0) for config in configs]


@pytest.fixture
def clock(monkeypatch):
    """Seconds since the watch began, to be set by a test."""
    now = {"s": 0.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: now["s"])
    return now


def train(run, n_epochs, *, epoch_s=10.0, is_running=True):
    """Let a run be so far, as its folder tells it."""
    folder = run.run_dir
    folder.mkdir(parents=True, exist_ok=True)
    write_plan(folder, make_plan_record(run.plan))
    lines = [
        json.dumps({"epoch": n, "step": n, "train_s": epoch_s, "val/balanced_accuracy": 0.5})
        for n in range(1, n_epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    os.utime(folder / "metrics.jsonl", (n_epochs + 1, n_epochs + 1))
    holder = {"pid": os.getpid(), "host": platform.node(), "since": ""}
    (folder / "holder.json").write_text(json.dumps(holder))
    if not is_running:
        (folder / "holder.json").unlink()


def finish(run):
    train(run, 5, is_running=False)
    (run.run_dir / "DONE").write_text("{}")


def test_the_end_is_judged_by_the_pace_of_the_sweep(runs, clock):
    watch = Watch(runs)
    assert watch.look() == [] and watch.describe() == "starting"
    train(runs[0], 0)
    (runs[0].run_dir / "metrics.jsonl").unlink()
    watch.look()
    assert watch.describe() == f"loading images and weights of {runs[0].plan.run_name}"
    train(runs[0], 0)
    watch.look()
    assert watch.describe() == f"epoch 1/5 of {runs[0].plan.run_name}"
    train(runs[0], 2)
    clock["s"] = 30.0  # for 20 s of training: 5 s of each epoch are something else
    watch.look()
    assert watch.describe().startswith("about 3 min left, until ")
    assert watch._ends == 30 + 13 * 10 * 30 / 20
    assert watch.describe().endswith(f"; epoch 3/5 of {runs[0].plan.run_name}")
    assert (watch.count_epochs(), watch.count_epochs(planned=True)) == (2, 15)
    clock["s"] = 130.0
    watch.look()
    assert "about 95 s left" in watch.describe()  # counted down, although no epoch has ended


def test_runs_at_the_same_time_end_sooner(runs, clock):
    watch = Watch(runs)
    for run in runs:
        train(run, 1)
    clock["s"] = 10.0  # three epochs of 10 s in 10 s
    watch.look()
    assert watch._ends == pytest.approx(10 + 12 * 10 / 3)
    assert watch.describe().endswith(f"epoch 2/5 of {runs[0].plan.run_name} and 2 more")


def test_a_run_is_over_when_it_is_done_not_when_its_epochs_are(runs, clock):
    watch = Watch(runs)
    train(runs[0], 5)
    assert watch.look() == [] and watch.n_over == 0  # it is being tested
    finish(runs[0])
    assert watch.look() == [runs[0]] and watch.n_over == 1
    (runs[1].run_dir).mkdir(parents=True)
    (runs[1].run_dir / "FAILED").write_text("")
    os.utime(runs[1].run_dir / "FAILED", (time.time() + 5, time.time() + 5))
    watch.look()
    assert watch.describe().endswith("1 failed")
    assert watch._ends == 5 * 10 * clock["s"] / 50  # of the third run alone


def test_what_was_trained_before_is_not_trained_in_this_sweep(runs, clock):
    train(runs[0], 3, is_running=False)
    watch = Watch(runs)
    assert (watch.count_epochs(), watch.count_epochs(planned=True)) == (0, 12)
    train(runs[1], 0)
    watch.look()
    assert watch._ends == 12 * 10  # measured before, by the run that goes on
    assert estimate_seconds([run.plan for run in runs], runs[0].plan.output_dir) == 150


def test_runs_that_pause_are_over(runs, clock):
    watch = Watch(runs, {run.run_id: 2 for run in runs})
    assert watch.count_epochs(planned=True) == 6
    train(runs[0], 2, is_running=False)
    assert watch.look() == [runs[0]]
    assert (watch.n_over, watch.count_epochs()) == (1, 2)


def test_a_log_has_a_line_for_each_run_and_lines_between(runs, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_POLL_S", 0.01)
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.1)
    with show_progress(runs[:2]):
        train(runs[0], 1)
        time.sleep(0.5)
        finish(runs[0])
        time.sleep(0.1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[0/2] about ")
    assert lines[0].endswith(f"; epoch 2/5 of {runs[0].plan.run_name}")
    assert len(lines) <= 5  # the pauses become longer
    assert [line for line in lines if line.startswith("[1/2] done")] == lines[-1:]


def test_a_line_of_a_paused_run_has_its_epoch(runs):
    train(runs[0], 3, is_running=False)
    name = runs[0].run_dir.name
    assert progress._describe_done(runs[0]) == f"paused after epoch 3/5: {name}"
    finish(runs[1])
    assert progress._describe_done(runs[1]) == f"done {runs[1].run_dir.name}"
