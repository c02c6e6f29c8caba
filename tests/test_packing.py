"""Runs of one process that take turns: the bits of each alone, whatever happens to the others."""

import json
import logging

import pytest
import torch
from runs import tiny_config
from tape import Tape
from test_run import check_same

from tlcnn.config.compose import make_memory
from tlcnn.errors import RunLocked, Stopped
from tlcnn.plan.plan import make_plan
from tlcnn.run.job import Job, Outcome
from tlcnn.run.run import run
from tlcnn.sweep import packing
from tlcnn.sweep.drive import launch_here
from tlcnn.training import fit as fitting
from tlcnn.training.turns import Turn

RANDOM = "freeze.allow_random=true"
CELLS = (
    ["model.drop_rate=0.3"],
    ["freeze.through=stage2", RANDOM, "train.views=2"],
    ["freeze=all", RANDOM, "train.augment=none"],
    ["train.ema_decay=0.9", "train.epochs=3", "train.precision=bf16"],
    ["seed=1", "model.drop_rate=0.3", "train.optimizer=sgd"],
)


@pytest.fixture
def plans_of(tmp_path, cache_dir):
    def make(place):
        return [make_plan(tiny_config(tmp_path / place, cache_dir, *cell)) for cell in CELLS]

    return make


def make_jobs(plans):
    return [Job((), plan=plan, place={"progress": False}) for plan in plans]


def train(plans, n_together):
    return launch_here(make_jobs(plans), make_memory([]), n_together=n_together)


@pytest.fixture
def order(monkeypatch):
    """The seeds of the dropout of every update, in the order of updates."""
    seeds = []
    real = fitting.seed_generators
    monkeypatch.setattr(
        fitting, "seed_generators", lambda device, seed: (seeds.append(seed), real(device, seed))
    )
    return seeds


@pytest.mark.parametrize("is_recorded", [False, True])
def test_runs_that_take_turns_have_the_bits_of_runs_alone(
    plans_of, monkeypatch, order, is_recorded
):
    alone, together = plans_of("alone"), plans_of("together")
    for plan in alone:
        run(plan)
    one_after_the_other = list(order)
    order.clear()
    if is_recorded:
        monkeypatch.setattr(fitting, "find_graph", lambda device: Tape)
        torch.set_num_threads(1)
    assert train(together, 3) == [Outcome()] * len(CELLS)
    assert sorted(order) == sorted(one_after_the_other)
    assert order != one_after_the_other  # they did take turns
    for first, second in zip(alone, together, strict=True):
        check_same(first.run_dir, second.run_dir)


def test_runs_that_are_stopped_between_their_turns_go_on_to_the_same_bits(plans_of, monkeypatch):
    alone, together = plans_of("alone"), plans_of("together")
    for plan in alone:
        run(plan)
    n_turns, real = 0, fitting.Fit.train_epoch

    def stop_after_seven(self):
        nonlocal n_turns
        for turn in real(self):
            n_turns += turn is Turn.STEP
            if n_turns % 7 == 0:
                self.stop.signal_name = "SIGTERM"
            yield turn

    monkeypatch.setattr(fitting.Fit, "train_epoch", stop_after_seven)
    n_sessions = 0
    while set(outcomes := train(together, 3)) != {Outcome()}:
        n_sessions += 1
        assert {outcome.code for outcome in outcomes} <= {0, Stopped.exit_code}
    assert n_sessions > 3
    for first, second in zip(alone, together, strict=True):
        check_same(first.run_dir, second.run_dir)


def test_a_failure_leaves_the_others_alone(plans_of, monkeypatch):
    alone, together = plans_of("alone"), plans_of("together")
    for plan in alone:
        run(plan)
    real = fitting.Fit.train_epoch

    def fail_in_one(self):
        for turn in real(self):
            if self.seed == 1 and self.position.epoch == 2:
                raise ValueError("broken")
            yield turn

    monkeypatch.setattr(fitting.Fit, "train_epoch", fail_in_one)
    *outcomes, failed = train(together, 5)
    assert outcomes == [Outcome()] * 4 and failed.kind == "ValueError"
    for first, second in zip(alone[:4], together[:4], strict=True):
        check_same(first.run_dir, second.run_dir)
    assert (together[4].run_dir / "FAILED").is_file()


def test_each_run_has_its_own_log(plans_of, caplog):
    plans = plans_of("together")
    with caplog.at_level(logging.DEBUG, "tlcnn"):
        train(plans, 5)
    for plan in plans:
        text = (plan.run_dir / "log.txt").read_text()
        others = {other.run_id for other in plans} - {plan.run_id}
        n_epochs = plan.config.train.epochs
        assert text.count("val balanced accuracy") == n_epochs
        assert str(plan.run_dir) in text and not any(run_id in text for run_id in others)


def test_a_run_without_memory_is_trained_again_with_fewer_others(plans_of, monkeypatch, caplog):
    plans, n_active, most = plans_of("together"), 0, []
    real = fitting.Fit.run

    def run_in_little_memory(self):
        nonlocal n_active
        n_active += 1
        try:
            if n_active > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            most.append(n_active)
            yield from real(self)
        finally:
            n_active -= 1

    monkeypatch.setattr(fitting.Fit, "run", run_in_little_memory)
    with caplog.at_level(logging.WARNING, "tlcnn"):
        assert train(plans, 5) == [Outcome()] * len(CELLS)
    assert max(most) == 2
    assert any("at most 2 runs at a time" in r.getMessage() for r in caplog.records)
    assert not any((plan.run_dir / "FAILED").exists() for plan in plans)


def test_nobody_waits_for_a_run_that_another_process_holds_while_others_can_train(
    plans_of, monkeypatch
):
    plans, started = plans_of("together"), []
    real = packing.run_job_in_turns

    def hold_the_first(job, memory):
        started.append((job.plan.run_id, job.place.get("on_locked")))
        if job.plan is plans[0] and job.place.get("on_locked") == "fail":
            return Outcome(RunLocked.exit_code, "held", RunLocked.__name__)
            yield
        return (yield from real(job, memory))

    monkeypatch.setattr(packing, "run_job_in_turns", hold_the_first)
    assert train(plans, 2) == [Outcome()] * len(CELLS)
    assert started[-1] == (plans[0].run_id, None)
    assert [run_id for run_id, _ in started].count(plans[0].run_id) == 2


def test_without_a_gpu_auto_trains_one_run_at_a_time(plans_of, order):
    plans = plans_of("alone")
    for plan in plans:
        run(plan)
    expected = list(order)
    order.clear()
    assert train(plans_of("together"), None) == [Outcome()] * len(CELLS)
    assert order == expected


class Gpu:
    """A GPU as `Packing` sees it."""

    def __init__(self, monkeypatch, n_bytes, per_run):
        self.n_bytes, self.per_run, self.n_runs = n_bytes, per_run, 0
        monkeypatch.setattr(packing, "_count_reserved", lambda: self.n_runs * per_run)
        monkeypatch.setattr(packing, "_count_free", lambda: n_bytes - self.n_runs * per_run)


@pytest.mark.parametrize(("n_bytes", "expected"), [(100, 1), (219, 1), (220, 2), (10**6, 8)])
def test_auto_trains_as_many_runs_as_the_memory_of_a_gpu_allows(monkeypatch, n_bytes, expected):
    gpu, members = Gpu(monkeypatch, n_bytes, 100), []
    policy = packing.Packing(None)
    while policy.has_room(members):
        members.append(packing.Member(0, Job(()), None))
        gpu.n_runs += 1
        members[-1].n_epochs = 1
    assert len(members) == expected


@pytest.mark.parametrize(("n_bytes", "expected"), [(339, 2), (340, 3), (10**6, 8)])
def test_only_the_first_run_is_waited_for(monkeypatch, n_bytes, expected):
    """What it takes is what every other is expected to take, before and after it has done so."""
    gpu, policy = Gpu(monkeypatch, n_bytes, 100), packing.Packing(None)
    assert policy.has_room([])
    members = [packing.Member(0, Job(()), None)]
    gpu.n_runs = 1
    assert not policy.has_room(members)
    members[0].n_epochs = 1
    while policy.has_room(members):
        members.append(packing.Member(0, Job(()), None))
    assert len(members) == expected


def test_the_launcher_takes_packed_from_the_command_line(tmp_path, cache_dir):
    import subprocess
    import sys

    from runs import tiny_command

    words = tiny_command(tmp_path, cache_dir, "hydra.launcher.packed=2", "-m", "seed=0,1")
    command = [sys.executable, "-m", "tlcnn.train", *words]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "2 trained, 0 skipped, 0 failed" in ended.stdout
    assert len(list((tmp_path / "runs").glob("*/DONE"))) == 2
    (study,) = (tmp_path / "studies").glob("*.json")
    assert json.loads(study.read_text())
    wrong = [word.replace("packed=2", "packed=0") for word in command]
    ended = subprocess.run(wrong, capture_output=True, text=True)
    assert ended.returncode == 1 and "must be auto or an integer" in ended.stderr
