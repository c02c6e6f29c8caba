"""Finished runs in trackers: what arrives there, and that a second export doubles nothing."""

import json
from importlib.util import find_spec

import pandas as pd
import pytest
from records_made import finish, write_record

from tlcnn.cli.export_runs import NAMES
from tlcnn.cli.main import main
from tlcnn.records.event_file import read_scalars
from tlcnn.records.read import read_runs
from tlcnn.trackers import TRACKERS, place
from tlcnn.trackers.tracked_run import make_tracked_runs

LOSSES = [2.0, 1.5, 1.25]
EPOCHS = [
    {"epoch": n, "step": 10 * n, "train/loss": loss, "val/nll": None, "train_s": 60.0, "lr": 0.1}
    for n, loss in enumerate(LOSSES, start=1)
]
WORDS = {"train.lr": 0.1, "dataset.root": "/home/somebody", "init.units": None}


def write_run(folder, seed, test=0.5):
    """A finished run of three epochs, one minute each."""
    run = write_record(folder, seed=seed, test=test, val=0.25, cell="cell", epochs=3, **WORDS)
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(epoch)}\n" for epoch in EPOCHS))
    summary = json.loads((run / "summary.json").read_text())
    summary["finished"] = "2026-01-02 03:04:05"
    (run / "summary.json").write_text(json.dumps(summary))
    finish(run)
    return run


@pytest.fixture
def outputs(tmp_path):
    """Two finished runs, of which a study has one, and one that was stopped."""
    folder = tmp_path / "outputs"
    runs = [write_run(folder, seed) for seed in (0, 1)]
    stopped = write_record(folder, seed=2, test=0.5, cell="cell")
    (stopped / "DONE").unlink()
    (stopped / "summary.json").unlink()
    name, _, run_id = runs[1].name.rpartition("-")
    run = {"run_id": run_id, "run_name": name, "overrides": []}
    (folder / "studies").mkdir()
    (folder / "studies" / "mine.json").write_text(
        json.dumps({"version": 1, "name": "mine", "runs": [run]})
    )
    return folder


def export(outputs, tracker, capsys, *words):
    """Run the command, and return what it printed."""
    place = outputs.parent / "exported"
    main(["export-runs", str(outputs), "--to", tracker, "-o", str(place), *words])
    return place, capsys.readouterr().out


def change(run):
    """Let a run have another result."""
    summary = json.loads((run / "summary.json").read_text())
    summary["metrics"]["test/balanced_accuracy"] = 0.75
    (run / "summary.json").write_text(json.dumps(summary))
    finish(run)


def find_run(outputs, seed):
    (run,) = (outputs / "runs").glob(f"*-s{seed}-*")
    return run


def test_a_tracked_run_is_what_the_records_say(outputs):
    first, second = make_tracked_runs(read_runs(outputs))
    tags = {"dataset": "ham10000", "model": "resnet18", "source": "imagenet", "k": 5, "j": 0}
    tags |= {"bn": "frozen", "seed": 0}
    assert first.tags == tags and second.tags == tags | {"seed": 1, "study": "mine"}
    assert first.config == {"init.source": "imagenet", "train.lr": 0.1, "init.units": None}
    assert first.metrics == {"test/balanced_accuracy": 0.5, "val/balanced_accuracy": 0.25}
    assert [epoch.values["train/loss"] for epoch in first.epochs] == LOSSES
    assert [epoch.step for epoch in first.epochs] == [10, 20, 30]
    assert [epoch.seconds - first.begun for epoch in first.epochs] == [60, 120, 180]
    assert first.epochs[-1].seconds == first.finished
    assert first.cell_id == second.cell_id and first.digest != second.digest


def test_the_command_names_what_it_leaves_out(outputs, capsys):
    assert tuple(TRACKERS) == NAMES
    text = export(outputs, "csv", capsys)[1]
    assert f"stopped  {find_run(outputs, 2).name}" in text and "2 runs written" in text
    text = export(outputs, "csv", capsys, "--where", "seed=1")[1]
    assert "1 run written" in text and "stopped" not in text


def test_csv_tables_hold_runs_and_epochs(outputs, capsys):
    place, _ = export(outputs, "csv", capsys)
    runs, epochs = (pd.read_csv(place / f"{name}.csv") for name in ("runs", "epochs"))
    assert list(runs["seed"]) == [0, 1] and list(runs["test/balanced_accuracy"]) == [0.5, 0.5]
    assert list(epochs["train/loss"]) == LOSSES * 2
    assert epochs.groupby("run_id").size().to_dict() == dict.fromkeys(runs["run_id"], 3)


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_one_clear_error(outputs, tracker, capsys, monkeypatch):
    from tlcnn.records import event_file

    monkeypatch.setattr(place, "find_spec", lambda name: None)
    monkeypatch.setattr(event_file, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        export(outputs, tracker, capsys)
    assert end.value.code == 1
    assert f"pip install 'tlcnn[{tracker}]'" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tlcnn[tensorboard]")
def test_tensorboard_has_each_run_once(outputs, capsys):
    place, text = export(outputs, "tensorboard", capsys)
    assert "2 runs written" in text and f"--logdir {place}/tlcnn" in text
    run = find_run(outputs, 1)
    files = [*place.rglob("events.*")]
    assert "0 runs written, 2 were there" in export(outputs, "tensorboard", capsys)[1]
    change(run)
    assert "1 run written, 1 were there" in export(outputs, "tensorboard", capsys)[1]
    assert len(files) == len([*place.rglob("events.*")]) == 2
    curves = read_scalars(place / "tlcnn" / run.name)
    assert curves["train/loss"] == [(10, 2.0), (20, 1.5), (30, 1.25)]
    assert curves["final/test/balanced_accuracy"] == [(30, 0.75)]
    assert "val/nll" not in curves and "epoch" not in curves


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs tlcnn[mlflow]")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_each_run_once(outputs, capsys):
    from mlflow import MlflowClient

    place, text = export(outputs, "mlflow", capsys, "--project", "skin")
    assert "2 runs written" in text
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("skin").experiment_id
    assert (
        "0 runs written, 2 were there" in export(outputs, "mlflow", capsys, "--project", "skin")[1]
    )
    change(find_run(outputs, 1))
    assert "1 run written" in export(outputs, "mlflow", capsys, "--project", "skin")[1]
    runs = {run.data.tags["seed"]: run for run in client.search_runs([experiment])}
    assert len(client.search_runs([experiment])) == 2 and runs.keys() == {"0", "1"}
    run = runs["1"]
    assert run.data.tags["study"] == "mine" and run.data.params["train.lr"] == "0.1"
    assert run.data.metrics["final/test/balanced_accuracy"] == 0.75
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(10, 2.0), (20, 1.5), (30, 1.25)]
    assert run.info.status == "FINISHED" and run.info.end_time - run.info.start_time == 180_000


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs tlcnn[wandb]")
@pytest.mark.filterwarnings("ignore")
def test_wandb_has_each_run_once(outputs, capsys):
    place, text = export(outputs, "wandb", capsys)
    assert "2 runs written" in text
    assert "0 runs written, 2 were there" in export(outputs, "wandb", capsys)[1]
    run_id = find_run(outputs, 1).name.rpartition("-")[2]
    (before,) = place.glob(f"wandb/offline-run-*-{run_id}")
    change(find_run(outputs, 1))
    assert "1 run written, 1 were there" in export(outputs, "wandb", capsys)[1]
    (folder,) = place.glob(f"wandb/offline-run-*-{run_id}")
    content = (folder / f"run-{run_id}.wandb").read_bytes()
    assert content.startswith(b":W&B") and b"study:mine" in content and b"train/loss" in content
    assert len([*place.glob("wandb/offline-run-*")]) == 2
