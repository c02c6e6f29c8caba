"""`tlcnn status`: states from folders alone, and what retry and prune may touch."""

import io
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import tiny_command

from tlcnn.cli.main import main
from tlcnn.errors import DataError
from tlcnn.memory import Memory
from tlcnn.records.read import read_runs
from tlcnn.run.job import Job
from tlcnn.sweep.drive import Request, drive, launch_here
from tlcnn.sweep.status import delete_runs, list_failed, list_prunable, read_status

STATES = ("done", "running", "stopped", "failed", "missing")
RECORD = {"val/balanced_accuracy": 0.5, "val/nll": 1.0, "train_s": 60.0}
GONE_PID = 2**22 + 1  # above the largest there can be


def make_run(folder: Path, state: str, *, n_epochs: int = 2) -> Path:
    """Fabricate a run folder in a state."""
    folder.mkdir(parents=True)
    names = {"run_id": folder.name.rpartition("-")[2], "cell_id": "c", "dataset": "d"}
    plan = {**names, "model": "m", "source": ["random"], "k": 0, "j": 0, "bn": "frozen"}
    plan |= {"seed": 0, "epochs": 8}
    (folder / "plan.json").write_text(json.dumps(plan))
    lines = [json.dumps({"epoch": n, **RECORD}) for n in range(1, n_epochs + 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    (folder / "checkpoint.last.pt").write_bytes(bytes(1 << 20))
    if state == "done":
        (folder / "DONE").write_text("x")
    elif state == "failed":
        text = "Traceback\n  File x: y\ntlcnn.errors.Diverged: the loss is nan\nLower train.lr\n"
        (folder / "FAILED").write_text(text)
    elif state in ("running", "killed"):
        pid = os.getpid() if state == "running" else GONE_PID
        holder = {"pid": pid, "host": platform.node(), "since": "2030-01-01 00:00:00"}
        (folder / "holder.json").write_text(json.dumps(holder))
    return folder


@pytest.fixture
def outputs(tmp_path):
    """A study with a run in every state, one killed, and a run of no study."""
    names = [*STATES, "killed"]
    runs = []
    for number, name in enumerate(names):
        run_id = f"{number:012d}"
        if name != "missing":
            make_run(tmp_path / "runs" / f"r-{name}-{run_id}", name)
        words = {"overrides": [f"seed={number}"], "role": "cell", "wave": 0}
        runs.append({"run_id": run_id, "run_name": f"r-{name}", **words})
    record = {"version": 1, "name": "mine", "runs": runs, "flags": []}
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.json").write_text(json.dumps(record))
    make_run(tmp_path / "runs" / "alone-abcdefabcdef", "done")
    return tmp_path


def status(*words: str) -> None:
    main(["status", *map(str, words)])


# ------------------------------------------------------------------------------------- states


def test_the_state_of_a_run_is_read_from_its_folder(outputs):
    (mine,) = read_status("mine", outputs)
    found = {entry.folder.name.split("-")[1]: entry.state for entry in mine.entries}
    assert found == {**{state: state for state in STATES}, "killed": "stopped"}
    assert mine.count() == dict.fromkeys(STATES, 1) | {"stopped": 2}


def test_who_trains_a_run_and_how_far_it_is(outputs):
    (mine,) = read_status("mine", outputs)
    details = {entry.folder.name.split("-")[1]: entry.detail for entry in mine.entries}
    left = "epoch 2 of 8, about 6 min left"
    assert details["running"] == f"{platform.node()} pid {os.getpid()}, {left}"
    assert details["stopped"] == details["killed"] == left
    assert details["failed"].startswith("Diverged: the loss is nan  (")
    assert details["failed"].endswith("log.txt)")
    assert details["done"] == details["missing"] == ""


def test_a_run_of_another_machine_is_taken_for_running(outputs):
    folder = next(outputs.glob("runs/r-killed-*"))
    (folder / "holder.json").write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": ""}))
    (mine,) = read_status("mine", outputs)
    assert mine.count()["running"] == 2
    assert folder not in [entry.folder for entry in list_prunable([mine])]


def test_a_run_that_has_hardly_begun(outputs):
    folder = next(outputs.glob("runs/r-running-*"))
    (folder / "metrics.jsonl").unlink()
    (folder / "plan.json").unlink()
    (mine,) = read_status("mine", outputs)
    entry = next(entry for entry in mine.entries if entry.folder.name.startswith("r-running-"))
    assert entry.state == "running" and entry.detail.endswith(f"pid {os.getpid()}")


@pytest.mark.parametrize(
    "record",
    [
        {"val/x": 1},
        {"epoch": 1, **RECORD, "train_s": None},
        {"epoch": None, **RECORD},
        {"epoch": 1.5, **RECORD},
        [1],
    ],
)
def test_an_odd_epoch_of_one_run_hides_no_other_run(outputs, record):
    folder = next(outputs.glob("runs/r-stopped-*"))
    (folder / "metrics.jsonl").write_text(f"{json.dumps(record)}\n")
    (mine,) = read_status("mine", outputs)
    details = {entry.folder.name.split("-")[1]: entry.detail for entry in mine.entries}
    assert details["stopped"] == "in its first epoch" and "epoch 2 of 8" in details["killed"]


def test_a_folder_is_all_its_studies_and_the_other_runs(outputs, capsys):
    status(outputs)
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()]
    assert rows[0] == [*STATES, "all"]
    assert rows[1] == ["study", "mine", "1", "1", "2", "1", "1", "6"]
    assert rows[2] == ["runs", "of", "no", "study", *"100001"]
    assert "r-done" not in said and "alone" not in said  # only what is not done is listed
    status(outputs, "--all")
    said = capsys.readouterr().out
    assert "r-done" in said and "alone-abcdefabcdef" in said


def test_status_needs_no_torch(outputs):
    code = (
        "import sys; from tlcnn.cli.main import main; main(['status', sys.argv[1]]); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(outputs)], check=True, capture_output=True)


def test_an_unknown_study_names_those_there_are(outputs, capsys):
    with pytest.raises(SystemExit) as error:
        status("mime", "--output-dir", outputs)
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert "no study 'mime'" in said and "Did you mean 'mine'?" in said
    assert "There are: mine." in said and "Give an output folder" in said
    with pytest.raises(DataError, match="Begin it: python -m tlcnn.train experiment=demo"):
        read_status("demo", outputs)


def test_an_empty_folder_and_a_broken_record_are_told(outputs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no run in .* yet"):
        read_status(str(tmp_path / "empty"), outputs)
    (outputs / "studies" / "mine.json").write_text('{"version": 1, "runs":')
    with pytest.raises(DataError, match="no record of a study that this version can read"):
        read_status("mine", outputs)


def test_combinations_that_cannot_be_run_are_listed_with_their_errors(outputs, capsys):
    path = outputs / "studies" / "mine.json"
    record = json.loads(path.read_text())
    record["broken"] = [{"overrides": ["freeze.through=layer9", "seed=0"], "why": "no such unit"}]
    path.write_text(json.dumps(record))
    status(outputs)
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("study mine has combinations that cannot be run:")
    assert lines[place + 1] == "  freeze.through=layer9 seed=0: no such unit"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_study_that_cannot_be_read_is_one_line_and_the_others_are_shown(outputs):
    folder = outputs / "studies"
    os.mkfifo(folder / "pipe.json")
    (folder / "dangling.json").symlink_to(outputs / "nowhere.json")
    (folder / "cut.json").write_text('{"version": 1, "runs":')
    code = "import sys; from tlcnn.cli.main import main; main(['status', sys.argv[1]])"
    command = [sys.executable, "-c", code, str(outputs)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "study mine" in shown and "runs of no study" in shown
    for name in ("pipe", "dangling", "cut"):
        (line,) = [line for line in shown.splitlines() if f"{name}.json is no record" in line]
        assert "repeat the study's command" in line


# -------------------------------------------------------------------------------------- prune


def names_of(outputs):
    return sorted(path.name.rsplit("-", 1)[0] for path in (outputs / "runs").iterdir())


def test_prune_without_a_terminal_needs_yes(outputs, capsys, monkeypatch):
    before = names_of(outputs)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(SystemExit) as left:
        status("mine", "--output-dir", outputs, "--prune")
    assert left.value.code == 1
    said = "".join(capsys.readouterr())
    assert "3 runs without a result, 3.0 MiB" in said
    assert "Repeat it with --yes" in said and "nothing was deleted" in said
    assert names_of(outputs) == before


def test_prune_deletes_failed_and_stopped_runs_only(outputs, capsys):
    status("mine", "--output-dir", outputs, "--prune", "--yes")
    assert names_of(outputs) == ["alone", "r-done", "r-running"]
    assert "deleted; the command that started them" in capsys.readouterr().out
    status("mine", "--output-dir", outputs, "--prune", "--yes")
    assert "nothing to prune" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "n_left"), [("", 6), ("n", 6), ("y", 3), ("yes", 3)])
def test_prune_asks_a_terminal(outputs, monkeypatch, answer, n_left):
    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda question: answer)
    status("mine", "--output-dir", outputs, "--prune")
    assert len(names_of(outputs)) == n_left


def test_prune_spares_a_run_that_somebody_begins_or_ends_meanwhile(outputs):
    entries = list_prunable(read_status("mine", outputs))
    begun, ended, gone = (entry.folder for entry in entries)
    (begun / "holder.json").write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
    (ended / "DONE").write_text("x")
    delete_runs(entries)
    assert begun.is_dir() and ended.is_dir() and not gone.exists()


def test_prune_spares_a_run_whose_lock_is_held(outputs):
    """Between the lock and holder.json there is a moment."""
    from filelock import FileLock

    (entry,) = [e for e in list_prunable(read_status("mine", outputs)) if e.state == "failed"]
    with FileLock(entry.folder / "lock"):
        delete_runs([entry])
        assert (entry.folder / "FAILED").is_file()
    delete_runs([entry])
    assert not entry.folder.exists()


@pytest.mark.parametrize("name", ["../../../my", "/etc/my", "..", "a/../../../my", "a\\b", "a\n"])
@pytest.mark.parametrize("key", ["run_name", "run_id"])
def test_a_name_in_a_foreign_record_is_never_a_path(outputs, tmp_path, key, name):
    work = make_run(tmp_path.parent / f"my-{0:012d}", "failed")
    record = json.loads((outputs / "studies" / "mine.json").read_text())
    record["runs"][3][key] = name
    (outputs / "studies" / "mine.json").write_text(json.dumps(record))
    before = names_of(outputs)
    if name == "..":  # no path: a run that is missing
        status(outputs, "--prune", "--yes")
    else:
        with pytest.raises(SystemExit):
            status(outputs, "--prune", "--yes")
        assert names_of(outputs) == before
    assert (work / "FAILED").is_file()
    shutil.rmtree(work)


def test_prune_says_which_name_is_a_path(outputs):
    record = json.loads((outputs / "studies" / "mine.json").read_text())
    record["runs"][3]["run_name"] = "../../../my"
    (outputs / "studies" / "mine.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="'../../../my-0+3' is not the name of a run folder"):
        read_status("mine", outputs)


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_prune_leaves_what_lies_behind_a_link(outputs, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (failed,) = outputs.glob("runs/r-failed-*")
    failed.rename(elsewhere / failed.name)
    failed.symlink_to(elsewhere / failed.name)
    status(outputs, "--prune", "--yes")
    assert (elsewhere / failed.name / "FAILED").is_file()
    (outputs / "runs").rename(elsewhere / "runs")
    (outputs / "runs").symlink_to(elsewhere / "runs")
    make_run(elsewhere / "runs" / "more-0123456789ab", "failed")
    status(outputs, "--prune", "--yes")
    assert (elsewhere / "runs" / "more-0123456789ab" / "FAILED").is_file()


# -------------------------------------------------------------------------------------- retry


def test_a_failed_run_of_no_study_cannot_be_retried(outputs, capsys):
    make_run(outputs / "runs" / "lost-0123456789ab", "failed")
    with pytest.raises(
        DataError, match="lost-0123456789ab belongs to no study: repeat the command"
    ):
        list_failed(read_status(str(outputs), outputs))


def test_a_run_of_two_studies_is_retried_once_and_where_it_lies(outputs):
    statuses = [*read_status("mine", outputs)] * 2
    assert list_failed(statuses) == [Job(("seed=3", f"output_dir='{outputs}'"))]


def test_nothing_failed_is_nothing_to_retry(outputs, capsys):
    next(outputs.glob("runs/r-failed-*/FAILED")).unlink()
    status("mine", "--output-dir", outputs, "--retry-failed")
    assert "nothing to retry" in capsys.readouterr().out


def test_retry_trains_the_failed_runs_only_from_any_folder(tmp_path, cache_dir, monkeypatch):
    """Of a sweep with a relative output folder: one failed, one is missing, one is done."""
    home, elsewhere = tmp_path / "home, sweet", tmp_path / "elsewhere"
    home.mkdir(), elsewhere.mkdir()
    words = tiny_command(Path("out"), cache_dir, "train.epochs=1", "seed=0,1,2")
    monkeypatch.chdir(home)
    request = Request(words, {}, [], [], Path("out"), "mine", fail_fast=False, dry_run=False)
    drive(request, lambda jobs: launch_here(jobs, Memory()))
    done, failed, missing = (next(home.glob(f"out/runs/*-s{seed}-*")) for seed in range(3))
    (failed / "DONE").unlink()
    (failed / "FAILED").write_text("x: y")
    missing.rename(tmp_path / "away")
    before = (done / "environment.json").read_text()
    monkeypatch.chdir(elsewhere)
    status("mine", "--output-dir", home / "out", "--retry-failed")
    assert not list(elsewhere.iterdir())
    assert (failed / "DONE").is_file() and not (failed / "FAILED").exists()
    assert not missing.exists()
    assert (done / "environment.json").read_text() == before
    assert read_runs(home / "out")["state"].tolist() == ["done", "done"]


def test_a_study_in_a_folder_below_is_no_set_of_lone_runs(outputs, tmp_path, capsys):
    """The demo has an output folder of its own, `outputs/demo`."""
    above = tmp_path / "above"
    above.mkdir()
    shutil.move(outputs / "studies", above / "demo" / "studies")
    shutil.move(outputs / "runs", above / "demo" / "runs")
    status(above)
    shown = capsys.readouterr().out
    assert f"study mine in {above}/demo" in shown and "r-failed" in shown
    assert [s.title for s in read_status(str(above), above)][1:] == ["runs of no study"]
    status("mine", "--output-dir", above)
    assert f"study mine in {above}/demo" in capsys.readouterr().out


def test_no_outputs_at_all_is_said_with_the_way_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="nothing was trained from here.* tlcnn status FOLDER"):
        read_status("outputs", Path("outputs"))
