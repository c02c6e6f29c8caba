"""A learning-rate range test trains as its run does, and finds planted rates."""

import json

import numpy as np
import pandas as pd
import pytest
from runs import tiny_command, tiny_config

from tlcnn.cli.lr import describe_curve
from tlcnn.cli.main import main
from tlcnn.errors import ConfigError, Diverged
from tlcnn.memory import Memory
from tlcnn.plan.plan import make_plan
from tlcnn.run.lr_range import measure_lr_range
from tlcnn.run.run import run
from tlcnn.training.lr_range import make_lr_range

CONSTANT = ["train.warmup_epochs=0", "train.final_lr_fraction=1", "train.epochs=1"]
CASES = {
    "plain": ["train.augment=none"],
    "frozen units, rates by depth": [
        *("init=self", "freeze.through=2", "train.layer_decay=0.5", "train.head_lr=0.02"),
    ],
    "stored outputs": ["init=self", "freeze.through=2", "train.augment=none"],
    "accumulated and mixed": [
        *("train.accumulate=2", "train.batch_size=8", "train.mixup=0.4", "train.optimizer=sgd"),
    ],
}


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_at_one_rate_it_has_the_losses_of_the_run(tmp_path, cache_dir, words, one_core):
    plan = make_plan(tiny_config(tmp_path, cache_dir, *CONSTANT, "train.lr=0.01", *words))
    run(plan)
    (line,) = (plan.run_dir / "metrics.jsonl").read_text().splitlines()
    n_steps, memory = plan.steps_per_epoch, Memory()
    curves = [
        measure_lr_range(plan, tmp_path, memory, low=0.01, high=0.01 + 1e-9, n_steps=n_steps + 3)
        for _ in range(2)
    ]
    assert curves[0].loss[:n_steps].mean() == pytest.approx(json.loads(line)["train/loss"])
    assert np.array_equal(curves[0].loss, curves[1].loss) and len(curves[0].loss) == n_steps + 3


def test_it_finds_where_a_loss_falls_fastest_and_where_it_is_lowest():
    lr = np.geomspace(1e-6, 1, 200)
    fall = 1 / (1 + (lr / 1e-4) ** 2)
    rise = (lr / 0.03) ** 2
    noise = 0.02 * np.random.default_rng(0).standard_normal(200)
    lowest = lr[(fall + rise).argmin()]
    curve = make_lr_range(lr, fall + rise + noise, n_planned=200)
    assert curve.steepest == pytest.approx(1e-4, rel=0.5)
    assert curve.tenth == pytest.approx(lowest / 10, rel=0.5)
    assert curve.has_diverged and "until the loss diverged" in describe_curve(curve)


def test_a_loss_that_never_falls_or_falls_to_the_end_suggests_so():
    lr = np.geomspace(1e-6, 1, 100)
    rising = make_lr_range(lr, 1 + lr, n_planned=100)
    assert rising.steepest is None and "lower --from" in describe_curve(rising)
    falling = make_lr_range(lr, 2 - lr, n_planned=100)
    assert falling.is_falling and "raise --to" in describe_curve(falling)
    with pytest.raises(Diverged, match="before the first update"):
        make_lr_range([1e-6], [float("nan")], n_planned=100)


def test_the_command_writes_a_curve_and_no_run(tmp_path, cache_dir, capsys, monkeypatch):
    monkeypatch.setattr("tlcnn.data.progress.FIRST_LINE_S", 0.0)
    words = tiny_command(tmp_path, cache_dir, "train.schedule=head_first", "train.lr=0.003")
    contents = []
    for _ in range(2):
        main(["lr", *words, "--steps", "30", "--to", "1e4"])
        (folder,) = (tmp_path / "lr").iterdir()
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1] and {*contents[0]} == {
        *("curve.csv", "curve.png", "curve.svg")
    }
    frame = pd.read_csv(folder / "curve.csv")
    assert list(frame) == ["lr", "loss", "smoothed"] and frame["lr"].is_monotonic_increasing
    assert not (tmp_path / "runs").exists()
    captured = capsys.readouterr()
    assert "hint" in captured.out
    assert "up to " in captured.err and "updates: 1 of 30, " in captured.err


@pytest.mark.parametrize(
    "word", ["train.lr=1e-3,1e-2", "freeze.through=each", "experiment=demo", "-m", "seed=range(3)"]
)
def test_a_sweep_is_refused(word, capsys):
    with pytest.raises(SystemExit) as end:
        main(["lr", "dataset=synthetic", word])
    assert end.value.code == ConfigError.exit_code
    assert f"{word} is several runs, and a range test is of one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "3"], "--steps 3 is not allowed: 20 to 100000"),
        (["--from", "1", "--to", "0.1"], "--from 1 --to 0.1: both must be above 0"),
        (["train.lr=fast"], "train.lr=fast is not allowed: it must be a number above 0"),
    ],
)
def test_what_is_wrong_is_refused(capsys, options, message):
    with pytest.raises(SystemExit) as end:
        main(["lr", "dataset=synthetic", *options])
    assert end.value.code == ConfigError.exit_code and message in capsys.readouterr().err
