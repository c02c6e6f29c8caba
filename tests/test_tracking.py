"""Curves that a run writes while it is trained."""

import importlib.util
import json
import time

import pytest
import torch
from runs import run_until_done, stop_at_every_step, tiny_config
from test_run import check_same, check_same_curves

from tlcnn.errors import ConfigError, Stopped
from tlcnn.memory import Memory
from tlcnn.plan.plan import make_plan
from tlcnn.records import event_file
from tlcnn.records.event_file import EventFile, read_scalars
from tlcnn.run.job import Job
from tlcnn.run.run import run
from tlcnn.sweep.drive import launch_here
from tlcnn.training.checkpoint import LAST
from tlcnn.training.curve import Curve

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs tlcnn[tensorboard]"
)
LOGGER = "logger=tensorboard"


def train(folder, cache_dir, *words, train_run=run):
    plan = make_plan(tiny_config(folder, cache_dir, *words))
    train_run(plan)
    return plan.run_dir


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache_dir):
    """A run with curves that nothing interrupted."""
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("whole"), cache_dir, LOGGER)


@needs_tensorboard
def test_curves_are_those_of_the_records(whole):
    curves = {name: dict(points) for name, points in read_scalars(whole).items()}
    history = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    n_steps = history[0]["step"]
    assert list(curves["step/loss"]) == list(range(1, 2 * n_steps + 1))
    for record in history:
        for name in record.keys() - {"epoch", "step"}:
            assert curves[name][record["step"]] == pytest.approx(record[name], rel=1e-6)
        steps = range(record["step"] - n_steps + 1, record["step"] + 1)
        losses = [curves["step/loss"][step] for step in steps]
        assert sum(losses) / n_steps == pytest.approx(record["train/loss"], rel=1e-6)
        assert curves["step/lr"][record["step"]] == pytest.approx(record["lr"], rel=1e-6)


@needs_tensorboard
def test_a_run_without_curves_has_the_same_bits_and_no_new_files(whole, tmp_path, cache_dir):
    plain = train(tmp_path, cache_dir)
    assert plain.name == whole.name
    check_same(whole, plain)
    names = {path.name for path in plain.iterdir()}
    new = {path.name for path in whole.iterdir()} - names
    assert [name[:20] for name in new] == ["events.out.tfevents."]
    assert "logger" not in (whole / "config.yaml").read_text()  # older versions read it


@needs_tensorboard
def test_a_run_that_is_stopped_again_and_again_has_the_same_curves(
    whole, tmp_path, cache_dir, monkeypatch
):
    stop_at_every_step(monkeypatch, n_steps=2)
    stopped = train(tmp_path, cache_dir, LOGGER, train_run=run_until_done)
    check_same_curves(whole, stopped)


@needs_tensorboard
def test_points_that_are_later_than_the_checkpoint_are_dropped(
    whole, tmp_path, cache_dir, monkeypatch
):
    """As after a kill: the training goes on from an earlier checkpoint."""
    folder = train(tmp_path, cache_dir, LOGGER, "until_epoch=1")
    checkpoint = (folder / LAST).read_bytes()
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at_every_step(patch, n_steps=3)
        train(tmp_path, cache_dir, LOGGER)
    n_points = len(read_scalars(folder)["step/loss"])
    assert n_points == len(read_scalars(whole)["step/loss"]) // 2 + 3
    (folder / LAST).write_bytes(checkpoint)
    train(tmp_path, cache_dir, LOGGER)
    check_same_curves(whole, folder)


@needs_tensorboard
def test_epochs_before_the_curves_were_asked_for_are_added(whole, tmp_path, cache_dir):
    train(tmp_path, cache_dir, "until_epoch=1")
    late = read_scalars(train(tmp_path, cache_dir, LOGGER))
    curves = read_scalars(whole)
    assert late["train/loss"] == curves["train/loss"]
    assert late["step/loss"] == curves["step/loss"][len(curves["step/loss"]) // 2 :]


@needs_tensorboard
def test_runs_that_take_turns_have_curves_of_their_own(whole, tmp_path, cache_dir):
    memory = Memory()
    words = [(LOGGER, "seed=0"), (LOGGER, "seed=1")]
    plans = [make_plan(tiny_config(tmp_path, cache_dir, *pair), memory) for pair in words]
    outcomes = launch_here([Job((), plan=plan) for plan in plans], memory, n_together=2)
    assert [outcome.code for outcome in outcomes] == [0, 0]
    check_same_curves(whole, plans[0].run_dir)
    other = read_scalars(plans[1].run_dir)
    assert other["step/loss"] != read_scalars(whole)["step/loss"]


@needs_tensorboard
def test_the_file_of_a_later_session_is_read_after_those_before(tmp_path):
    """Within one second its name could come first, and its points would be dropped."""
    for number in range(12):
        (tmp_path / f"events.out.tfevents.{int(time.time())}.zz.1.{number}").write_bytes(b"")
    EventFile(tmp_path, first_step=1).close()
    before, (last,) = sorted(tmp_path.iterdir())[:-1], sorted(tmp_path.iterdir())[-1:]
    assert last.stat().st_size > 0 and not any(path.stat().st_size for path in before)


def test_a_missing_package_is_refused_before_training(tmp_path, cache_dir, monkeypatch):
    monkeypatch.setattr(event_file, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="logger=tensorboard needs .*tlcnn.tensorboard"):
        make_plan(tiny_config(tmp_path, cache_dir, LOGGER))
    assert not (tmp_path / "runs").exists()
    assert make_plan(tiny_config(tmp_path, cache_dir)).config.logger == "none"


@pytest.mark.parametrize(("n_steps", "every"), [(1, 1), (1000, 1), (1001, 2), (25_000, 25)])
def test_a_long_training_has_at_most_a_thousand_points(n_steps, every):
    points = []
    curve = Curve(points.extend, n_steps=n_steps, n_images=4)
    loss_sum = torch.zeros((), dtype=torch.float64)
    curve.begin(0, loss_sum)
    for step in range(1, n_steps + 1):
        loss_sum += step
        curve.add(step, loss_sum, lr=0.1)
        if step % 7 == 0:
            curve.flush()
    curve.flush()
    assert [point.step for point in points] == list(range(every, n_steps + 1, every))
    assert all(point.values["step/loss"] == point.step for point in points)
