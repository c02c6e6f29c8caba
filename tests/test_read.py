"""Run folders as a table: nothing is dropped in silence, whatever state it is in."""

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tlcnn.records
from tlcnn.errors import DataError
from tlcnn.records import describe_left_out, read_runs
from tlcnn.records.folder import RunDir
from tlcnn.records.plan_record import RECORD, PlanRecord, read_plan, write_plan
from tlcnn.records.read import find_run_dirs, read_predictions, read_run
from tlcnn.records.summary import read_history, read_summary
from tlcnn.storage import digest_of

PLAN = {"dataset": "d", "model": "m", "source": ["random"], "k": 0, "j": 0, "bn": "frozen"}
PLAN |= {"seed": 0}
HISTORY = {"epoch": 1, "val/balanced_accuracy": 0.3, "val/nll": 1.0, "train_s": 1.0}


def make_run(root, name, *, done=True, plan=PLAN, metrics=None, predictions=None, **files):
    """Fabricate a run folder; `init` in the plan is short for a source of one name."""
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    source = {"source": [plan["init"]]} if "init" in plan else {}
    cell = {"cell_id": digest_of({**plan, "seed": None}, 12)}
    record = {**cell, **plan, **source, "run_id": name, "epochs": 3}
    (folder / "plan.json").write_text(json.dumps(record))
    if done:
        metrics = metrics or {"test/balanced_accuracy": 0.5, "test/recall/mel": None}
        summary = {"metrics": metrics, "epochs": 3, "train_s": 2.5, "best_epoch": 2}
        (folder / "summary.json").write_text(json.dumps(summary))
    if predictions is not None:
        predictions.to_parquet(folder / "predictions.parquet", index=False)
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text)
    if done:
        RunDir(folder).write_done(name)
    return folder


def make_predictions(labels, skill, seed, classes=("a", "b"), split="test", prefix="i"):
    """Predictions of images that are alone in their groups, right with probability `skill`."""
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    right = rng.random(len(labels)) < skill
    said = np.where(right, labels, (labels + 1) % len(classes))
    ids = [f"{prefix}{i:04d}" for i in range(len(labels))]
    frame = pd.DataFrame({"split": split, "image_id": ids, "group": ids, "label": labels})
    for k, name in enumerate(classes):
        frame[f"logit/{name}"] = np.where(said == k, 2.0, 0.0).astype(np.float32)
    return frame


def make_many(root, n):
    """Fabricate N finished run folders, as large as real ones: 60 settings and 80 metrics."""
    settings = {f"train.option_{i}": i for i in range(60)}
    names = [f"{split}/recall/class_{i}" for split in ("val", "test") for i in range(39)]
    metrics = {"test/balanced_accuracy": 0.5, "val/balanced_accuracy": 0.6}
    metrics |= dict.fromkeys(names, 0.123456789012345)
    for i in range(n):
        plan = {**PLAN, "seed": i % 50, "k": i // 50, "cell_id": str(i // 50)}
        make_run(root, f"{i:012x}", plan={**plan, "settings": settings}, metrics=metrics)


# ---- states -------------------------------------------------------------------------------------


def test_a_finished_run_is_a_row_with_its_metrics(tmp_path):
    make_run(tmp_path, "a")
    (row,) = read_runs(tmp_path).to_dict("records")
    assert row["state"] == "done" and row["test/balanced_accuracy"] == 0.5 and row["k"] == 0
    assert row["test/recall/mel"] != row["test/recall/mel"]  # null is NaN
    assert not row["imported"] and not row["has_predictions"]


def test_unfinished_runs_have_their_state_and_what_they_have_measured(tmp_path):
    make_run(tmp_path, "stopped", done=False, metrics__jsonl=json.dumps(HISTORY) + "\n")
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


def test_a_run_that_has_only_just_begun_is_running(tmp_path):
    folder = tmp_path / "runs" / "new"
    folder.mkdir(parents=True)
    (folder / "holder.json").write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
    assert read_run(folder)["state"] == "running"


def test_a_run_that_failed_before_it_had_a_plan_is_failed(tmp_path):
    folder = tmp_path / "runs" / "early"
    folder.mkdir(parents=True)
    (folder / "FAILED").write_text("Traceback")
    (row,) = read_runs(tmp_path).to_dict("records")
    assert row["state"] == "failed"


def test_the_best_epoch_is_found_beside_epochs_without_a_number(tmp_path):
    lines = [{**HISTORY, "val/balanced_accuracy": None, "val/nll": None}, {**HISTORY, "epoch": 2}]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    row = read_run(make_run(tmp_path, "a", done=False, metrics__jsonl=text))
    assert row["best_epoch"] == 2 and row["epochs"] == 2


# ---- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["plan.json", "summary.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"",
        b'{"metrics": 3}',
        b'{"metrics": {"test/a": "x"}}',
        b"\x80\x00\xff",
        b"null",
    ],
)
def test_a_damaged_record_is_a_row_that_says_so(tmp_path, file, content):
    folder = make_run(tmp_path, "a")
    (folder / file).write_bytes(content)
    RunDir(folder).write_done("a")
    row = read_run(folder)
    assert row["state"] == "unreadable" and row["problem"]


@pytest.mark.parametrize(
    "wrong", [{"k": "five"}, {"seed": True}, {"source": "x"}, {"settings": []}, {"model": None}]
)
def test_a_plan_with_values_of_another_kind_is_unreadable(tmp_path, wrong):
    row = read_run(make_run(tmp_path, "a", plan={**PLAN, **wrong}))
    assert row["state"] == "unreadable" and next(iter(wrong)) in row["problem"]


def test_done_without_a_summary_and_a_folder_for_a_plan_are_unreadable(tmp_path):
    (make_run(tmp_path, "a") / "summary.json").unlink()
    folder = make_run(tmp_path, "b")
    (folder / "plan.json").unlink()
    (folder / "plan.json").mkdir()
    runs = read_runs(tmp_path)
    assert list(runs["state"]) == ["unreadable", "unreadable"]
    assert "summary.json" in runs["problem"][0] and "plan.json" in runs["problem"][1]


@pytest.mark.parametrize("done", ["{", "", "{}", '{"sha256": 1}'])
def test_a_damaged_done_does_not_switch_off_the_check_of_the_results(tmp_path, done):
    folder = make_run(tmp_path, "a")
    (folder / "DONE").write_text(done)
    row = read_run(folder)
    assert row["state"] == "unreadable" and "DONE is damaged" in row["problem"]


def test_a_strange_history_is_a_row_that_says_so(tmp_path):
    folder = make_run(tmp_path, "a", done=False, metrics__jsonl='{"epoch": 1}\n')
    assert read_run(folder)["state"] == "unreadable"


def test_half_a_last_line_is_left_out_and_told(tmp_path):
    text = json.dumps(HISTORY) + '\n{"epoch": 2, "val'
    folder = make_run(tmp_path, "a", done=False, metrics__jsonl=text)
    row = read_run(folder)
    assert row["state"] == "stopped" and row["epochs"] == 1
    assert describe_left_out(read_runs(folder))[-1].endswith("ends in half a line, left out")
    (folder / "metrics.jsonl").write_text(json.dumps(HISTORY))  # whole, but for its end
    assert len(read_history(folder)) == 1
    (folder / "metrics.jsonl").write_text(f'{{"epoch"\n{json.dumps(HISTORY)}\n')  # in the middle
    assert read_run(folder)["state"] == "unreadable"


def test_a_summary_cannot_say_what_is_read_from_elsewhere(tmp_path):
    folder = make_run(tmp_path, "a")
    summary = {"metrics": {}, "state": "failed", "folder": "x", "run_id": "other", "k": 9}
    (folder / "summary.json").write_text(json.dumps(summary))
    RunDir(folder).write_done("a")
    row = read_run(folder)
    assert (row["state"], row["folder"], row["run_id"], row["k"]) == ("done", str(folder), "a", 0)


def test_what_stands_among_runs_and_is_none_is_told(tmp_path):
    make_run(tmp_path, "a")
    runs = tmp_path / "runs"
    (runs / "notes.txt").write_text("")
    (runs / ".DS_Store").write_text("")
    (runs / "empty").mkdir()
    (runs / "other").mkdir()
    (runs / "other" / "log.txt").write_text("")
    (runs / "lost").symlink_to(tmp_path / "nowhere")
    (runs / "circle").symlink_to(runs / "circle")
    (runs / "up").symlink_to(runs)
    table = read_runs(tmp_path).set_index(
        read_runs(tmp_path)["folder"].map(lambda f: Path(f).name)
    )
    assert table["state"].to_dict() == {
        "a": "done",
        **dict.fromkeys(("notes.txt", "empty", "other", "lost", "circle", "up"), "no run"),
    }
    assert table.loc["notes.txt", "problem"] == "a file, not a folder"
    assert "link" in table.loc["circle", "problem"] and "link" in table.loc["lost", "problem"]
    lines = describe_left_out(read_runs(tmp_path))
    assert lines[0].startswith("6 folders are no runs") and len(lines) == 7
    assert find_run_dirs(tmp_path) == [runs / "a"]


def test_a_file_in_place_of_the_folder_of_runs_is_told(tmp_path):
    (tmp_path / "runs").write_text("")
    assert list(read_runs(tmp_path)["state"]) == ["no run"]


def test_a_folder_that_may_not_be_opened_is_unreadable(tmp_path, monkeypatch):
    make_run(tmp_path, "a")
    closed = make_run(tmp_path, "closed")
    listdir = os.listdir

    def refuse(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    runs = read_runs(tmp_path)
    assert list(runs["state"]) == ["done", "unreadable"]
    assert describe_left_out(runs)[1].endswith("closed: PermissionError: Permission denied")


# ---- what somebody else may have put there --------------------------------------------------


def make_odd(folder, odd):
    """Damage a finished run in a way that once ended or hung every reader."""
    summary = folder / "summary.json"
    if odd in ("train_s text", "train_s list"):
        value = "long" if odd == "train_s text" else [1, 2]
        summary.write_text(json.dumps({"metrics": {}, "train_s": value}))
    elif odd == "huge seed":
        (folder / "plan.json").write_text(json.dumps({**PLAN, "run_id": "odd", "seed": 10**30}))
        RunDir(folder).write_done("odd")
    elif odd == "infinite score":
        summary.write_text('{"metrics": {"test/balanced_accuracy": 1e999}}')
    elif odd == "pipe":
        (folder / "plan.json").unlink()
        os.mkfifo(folder / "plan.json")
    elif odd == "nested":
        (folder / "plan.json").write_text("[" * 200_000)
    elif odd == "large file":
        with open(folder / "plan.json", "r+b") as file:
            file.truncate(2**36)
    elif odd == "path":
        plan = json.loads((folder / "plan.json").read_text())
        (folder / "plan.json").write_text(json.dumps({**plan, "run_id": "../../x"}))
        RunDir(folder).write_done("odd")
    elif odd == "link":
        outside = folder.parents[2] / "plan.json"
        (folder / "plan.json").rename(outside)
        (folder / "plan.json").symlink_to(outside)


ODD = ["train_s text", "train_s list", "huge seed", "infinite score", "pipe", "nested"]


@pytest.mark.parametrize("odd", [*ODD, "large file", "path", "link"])
def test_one_odd_run_is_a_line_and_costs_no_other(tmp_path, odd):
    output = tmp_path / "outputs"
    make_run(output, "a")
    make_odd(make_run(output, "odd"), odd)
    runs = read_runs(output)
    assert list(runs["state"]) == ["done", "unreadable"]
    assert len(runs["problem"][1].splitlines()) == 1
    lines = describe_left_out(runs)
    assert len(lines) == 2 and lines[1].startswith(f"  {output / 'runs/odd'}: ")
    done = runs[runs["state"] == "done"]
    assert done["seed"].astype("int64").tolist() == [0] and done["train_s"].sum() == 2.5


@pytest.mark.parametrize("value", ["1.0", [1.0], True])
def test_an_epoch_with_something_else_than_numbers_is_a_line(tmp_path, value):
    text = json.dumps({**HISTORY, "train_s": value}) + "\n"
    row = read_run(make_run(tmp_path, "a", done=False, metrics__jsonl=text))
    assert row["state"] == "unreadable" and "train_s" in row["problem"]


@pytest.mark.parametrize("name", ["plan.json", "summary.json", "predictions.parquet"])
def test_a_result_that_has_changed_since_is_a_line(tmp_path, name):
    folder = make_run(tmp_path, "a", predictions=make_predictions([0, 1], 1.0, 0))
    RunDir(folder).write_done("a")
    assert read_run(folder)["state"] == "done" and len(read_predictions(folder)) == 2
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    row = read_run(folder)
    assert row["state"] == "unreadable" and name in row["problem"]
    assert "not what the run wrote" in row["problem"] and "train the run again" in row["problem"]
    read = {"plan.json": read_plan, "predictions.parquet": read_predictions}.get(
        name, read_summary
    )
    with pytest.raises(DataError, match="not what the run wrote"):
        read(folder)


def test_one_bit_of_a_plan_is_one_line_of_what_is_left_out(tmp_path):
    make_run(tmp_path, "a")
    folder = make_run(tmp_path, "b", plan={**PLAN, "seed": 2})
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(text.replace('"seed": 2', '"seed": 3'))
    runs = read_runs(tmp_path)
    lines = describe_left_out(runs)
    assert list(runs["state"]) == ["done", "unreadable"] and len(lines) == 2
    assert f"{folder / 'plan.json'} is not what the run wrote" in lines[1]


def test_a_plan_is_read_as_it_was_written(tmp_path):
    record = PlanRecord(
        *("ab12", "cell", "isic-2019", "resnet18", ("imagenet", "isic-2018"), 5, 4, "frozen", 3),
        identity={"dataset": {"manifest": "m", "image_size": 32}},
        split_sizes={"train": {"a": 2, "b": 3}},
        settings={"train.lr": 0.1, "dataset.options.x": [1, 2]},
    )
    write_plan(tmp_path, record)
    assert read_plan(tmp_path) == record
    assert (record.manifest, record.image_size, record.count_images("train")) == ("m", 32, 5)
    with pytest.raises(DataError, match=f"no plan.json in {tmp_path / 'none'}"):
        read_plan(tmp_path / "none")


# ---- copies -------------------------------------------------------------------------------------


def test_of_copies_the_most_complete_is_taken_and_the_others_are_told(tmp_path):
    folder = make_run(tmp_path, "b")
    shutil.copytree(folder, tmp_path / "runs" / "a")
    (tmp_path / "runs" / "a" / "DONE").unlink()
    shutil.copytree(folder, tmp_path / "runs" / "c")
    summary = json.loads((folder / "summary.json").read_text())
    summary["metrics"]["test/balanced_accuracy"] = 0.9
    (tmp_path / "runs" / "c" / "summary.json").write_text(json.dumps(summary))
    RunDir(tmp_path / "runs" / "c").write_done("b")
    runs = read_runs(tmp_path)
    assert list(runs["state"]) == ["duplicate", "done", "duplicate"]
    assert runs["problem"][0] == f"a copy of {folder}, which was taken"
    assert runs["problem"][2].endswith("with other numbers")
    assert describe_left_out(runs)[0].startswith("2 folders are duplicates")


def test_predictions_are_read_from_the_folder_that_a_row_names(tmp_path):
    make_run(tmp_path, "a", predictions=make_predictions([0, 1], 1.0, 0))
    (folder,) = read_runs(tmp_path)["folder"]
    assert len(read_predictions(folder)) == 2


def test_the_same_folder_named_twice_is_read_once(tmp_path):
    folder = make_run(tmp_path, "a")
    (tmp_path / "link").symlink_to(folder)
    runs = read_runs(tmp_path, tmp_path / "runs", folder, tmp_path / "link")
    assert list(runs["state"]) == ["done"]


def test_a_plan_without_an_id_is_unreadable(tmp_path):
    for place in ("x", "y"):
        folder = make_run(tmp_path / place, "a")
        (folder / "plan.json").write_text(json.dumps(PLAN))
        RunDir(folder).write_done("a")
    assert list(read_runs(tmp_path)["state"]) == ["unreadable", "unreadable"]


# ---- versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("record", "is_known"), [(RECORD, True), (RECORD + 1, False)])
def test_a_newer_record_is_read_as_far_as_it_is_known_and_told(tmp_path, record, is_known):
    make_run(tmp_path, "a", plan={**PLAN, "record": record, "unheard": {"of": 1}})
    runs = read_runs(tmp_path)
    assert runs["state"][0] == "done" and runs["test/balanced_accuracy"][0] == 0.5
    assert [line.count("newer tlcnn") for line in describe_left_out(runs)] == [1] * (not is_known)


# ---- places, size -------------------------------------------------------------------------------


def test_runs_are_found_from_above_from_beside_and_from_inside(tmp_path):
    folder = make_run(tmp_path / "outputs" / "demo", "a")
    for root in (folder, folder.parent, folder.parents[1], folder.parents[2]):
        assert find_run_dirs(root) == [folder]


def test_no_folder_and_an_empty_folder(tmp_path):
    runs = read_runs(tmp_path)
    assert runs.empty and {"state", "folder", "settings", "problem"} <= set(runs.columns)
    assert describe_left_out(runs) == []
    (tmp_path / "file").write_text("")
    for missing in ("missing", "file"):
        with pytest.raises(DataError, match="there is no folder"):
            read_runs(tmp_path / missing)


def test_the_package_offers_what_it_says_and_nothing_else():
    assert all(callable(getattr(tlcnn.records, name)) for name in tlcnn.records.__all__)
    with pytest.raises(AttributeError, match="read_all"):
        tlcnn.records.read_all  # noqa: B018


def test_the_package_alone_loads_no_pandas():
    code = "import sys, tlcnn.records; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_thousands_of_runs_are_read_in_seconds(tmp_path):
    make_many(tmp_path, 5000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    runs = read_runs(tmp_path)
    seconds = time.perf_counter() - start
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"5,000 runs: {seconds:.1f} s, {grown_mib:.0f} MiB more")
    assert len(runs) == 5000 and (runs["state"] == "done").all()
    assert seconds < 20 and grown_mib < 1000
