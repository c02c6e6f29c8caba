"""Run folders as a table: nothing is dropped in silence, whatever state it is in."""

import json
import os
import platform

import pytest

from tlcnn.errors import DataError
from tlcnn.records.read import find_run_dirs, read_run, read_runs

PLAN = {"dataset": "d", "model": "m", "init": "random", "k": 0, "j": 0, "bn": "frozen", "seed": 0}


def make_run(root, name, *, done=True, plan=PLAN, metrics=None, **files):
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({**plan, "run_id": name, "epochs": 3}))
    if done:
        metrics = metrics or {"test/balanced_accuracy": 0.5, "test/recall/mel": None}
        summary = {"metrics": metrics, "epochs": 3, "train_s": 2.5, "best_epoch": 2}
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "DONE").write_text(name)
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text)
    return folder


def test_a_finished_run_is_a_row_with_its_metrics(tmp_path):
    make_run(tmp_path, "a")
    (row,) = read_runs(tmp_path).to_dict("records")
    assert row["state"] == "done" and row["test/balanced_accuracy"] == 0.5 and row["k"] == 0
    assert row["test/recall/mel"] != row["test/recall/mel"]  # null is NaN


def test_unfinished_runs_have_their_state_and_what_they_have_measured(tmp_path):
    history = {"epoch": 1, "val/balanced_accuracy": 0.3, "val/nll": 1.0, "train_s": 1.0}
    make_run(tmp_path, "stopped", done=False, metrics__jsonl=json.dumps(history) + "\n")
    make_run(tmp_path, "failed", done=False, FAILED="Traceback")
    make_run(tmp_path, "never", done=False)
    holder = {"pid": 2**22 + 1, "host": "nowhere", "since": ""}
    make_run(tmp_path, "elsewhere", done=False, holder__json=json.dumps(holder))
    states = read_runs(tmp_path).set_index("run_id")
    assert states["state"].to_dict() == {
        "stopped": "stopped",
        "failed": "failed",
        "never": "stopped",
        "elsewhere": "running",
    }
    assert states.loc["stopped", "val/balanced_accuracy"] == 0.3


@pytest.mark.parametrize("text", ["{", "[]", "", '{"metrics": 3}'])
def test_a_damaged_record_is_a_row_that_says_so(tmp_path, text):
    folder = make_run(tmp_path, "a")
    (folder / "summary.json").write_text(text)
    row = read_run(folder)
    assert row["state"] == "unreadable" and row["problem"]


def test_a_strange_history_is_a_row_that_says_so(tmp_path):
    folder = make_run(tmp_path, "a", done=False, metrics__jsonl='{"epoch": 1}\n')
    assert read_run(folder)["state"] == "unreadable"


def test_a_run_that_has_only_just_begun_is_running(tmp_path):
    folder = tmp_path / "runs" / "new"
    folder.mkdir(parents=True)
    (folder / "holder.json").write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
    assert read_run(folder)["state"] == "running"


def test_runs_are_found_from_above_from_beside_and_from_inside(tmp_path):
    folder = make_run(tmp_path / "outputs" / "demo", "a")
    for root in (folder, folder.parent, folder.parents[1], folder.parents[2]):
        assert find_run_dirs(root) == [folder]


def test_no_folder_and_an_empty_folder(tmp_path):
    assert read_runs(tmp_path).empty
    with pytest.raises(DataError, match="there is no folder"):
        read_runs(tmp_path / "missing")
