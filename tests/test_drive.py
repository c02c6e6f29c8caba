"""Sweeps driven to their end: waves, failures, words, and processes that are killed."""

import contextlib
import io
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from runs import tiny_command

from tlcnn.errors import (
    ConfigError,
    DroppedUnits,
    ImpossibleCell,
    Stopped,
    SweepFailed,
    TooFewClasses,
)
from tlcnn.memory import Memory
from tlcnn.records.folder import RunDir
from tlcnn.records.read import is_held, read_runs
from tlcnn.run.job import Job, Outcome, plan_job
from tlcnn.sweep import resolve as resolve_module
from tlcnn.sweep.drive import Request, drive, launch_here
from tlcnn.sweep.duration import describe_duration, estimate_seconds
from tlcnn.sweep.queue import NOT_STARTED
from tlcnn.sweep.resolve import LeftOut, count_left_out
from tlcnn.sweep.study_record import read_study

SELF = ["init=random,self", "init.through=stem,all", "seed=0,1"]  # 2 + 1 + 4 runs


class FakeLauncher:
    """Finishes every run at once, or ends it as told; remembers the waves.

    Args:
        ends: by the end of a run's name, how it ends instead.
    """

    def __init__(self, **ends: Outcome) -> None:
        self.ends = {name.replace("_", "-"): outcome for name, outcome in ends.items()}
        self.waves: list[list[str]] = []
        self.jobs: list[Job] = []

    def __call__(self, jobs):
        self.jobs += jobs
        plans = [job.plan for job in jobs]
        self.waves.append([tell(plan.run_name) for plan in plans])
        return [self._end(plan) for plan in plans]

    def _end(self, plan):
        outcome = self.ends.get(tell(plan.run_name), Outcome())
        if not outcome.code:
            plan.run_dir.mkdir(parents=True)
            (plan.run_dir / "DONE").write_text(plan.run_id)
        return outcome


def tell(run_name):
    return run_name.removeprefix("synthetic-test_resnet-")


@pytest.fixture
def ask(tmp_path, cache_dir):
    """A request for a sweep of tiny runs."""

    def make(*words, blocks=(), **options):
        given = {"study": None, "fail_fast": False, "dry_run": False, **options}
        return Request(
            arguments=tiny_command(tmp_path, cache_dir, *words),
            params={},
            blocks=blocks,
            flags=[],
            output_dir=tmp_path,
            **given,
        )

    return make


def read_only_study(folder):
    (path,) = (folder / "studies").iterdir()
    return read_study(path)


# ------------------------------------------------------------------------- waves and failures


def test_parents_are_trained_in_a_wave_before_their_children(ask, capsys):
    launch = FakeLauncher()
    drive(ask(*SELF), launch)
    bases, children = launch.waves
    assert sorted(bases) == ["random-k0-j0-s0", "random-k0-j0-s1", "random-k0-j0-s2"]
    assert len(children) == 4 and all(name.startswith("self-") for name in children)
    said = capsys.readouterr().out
    assert "study sweep-" in said and "8 combinations" in said
    assert "the same run as another, trained once: 2 combinations" in said
    assert "added as parents of others: 1 run\n" in said
    assert "7 runs: 0 done, 7 to train, time unknown" in said
    assert said.rstrip().endswith(": 7 trained, 0 skipped, 0 failed")


def test_what_is_done_is_not_launched_again(ask, capsys):
    drive(ask(*SELF), FakeLauncher())
    again = FakeLauncher()
    drive(ask(*SELF), again)
    assert again.waves == []
    assert "0 trained, 7 skipped, 0 failed" in capsys.readouterr().out
    drive(ask(*SELF[:2], "seed=2,1,0"), again)  # reordered and extended
    assert again.waves == [["random-k0-j0-s3"], ["self-k1-j0-s2", "self-k5-j0-s2"]]


def test_children_of_a_failed_parent_are_not_begun_and_named(ask, capsys):
    launch = FakeLauncher(random_k0_j0_s1=Outcome(3, "Diverged: the loss is nan"))
    with pytest.raises(SweepFailed, match="3 of 7 runs failed. The same command") as error:
        drive(ask(*SELF), launch)
    assert error.value.exit_code == 3
    assert sorted(launch.waves[1]) == ["self-k1-j0-s1", "self-k5-j0-s1"]  # children of s2
    said = capsys.readouterr().out
    assert "4 trained, 0 skipped, 3 failed" in said
    assert "random-k0-j0-s1" in said and "Diverged: the loss is nan" in said
    assert said.count("the run it starts from did not finish (Diverged: the loss is nan)") == 2


def test_codes_that_differ_become_one(ask):
    launch = FakeLauncher(random_k0_j0_s0=Outcome(3, "a"), random_k0_j0_s1=Outcome(2, "b"))
    with pytest.raises(SweepFailed) as error:
        drive(ask("seed=0,1,2"), launch)
    assert error.value.exit_code == 1


def test_a_signal_ends_a_sweep_with_75(ask, capsys):
    stopped = Outcome(75, "Stopped: stopped by SIGTERM")
    launch = FakeLauncher(random_k0_j0_s1=stopped)
    with pytest.raises(Stopped, match="repeat the command to continue") as error:
        drive(ask(*SELF), launch)
    assert error.value.exit_code == 75
    assert len(launch.waves) == 1
    assert "2 trained, 0 skipped, 0 failed, 5 not run" in capsys.readouterr().out


def test_a_signal_counts_more_than_a_failure(ask, capsys):
    """A scheduler that sees 75 starts the sweep again, which is not over."""
    ends = {"random_k0_j0_s0": Outcome(3, "Diverged: x"), "random_k0_j0_s1": Outcome(75, "by us")}
    with pytest.raises(Stopped):
        drive(ask("seed=0,1,2"), FakeLauncher(**ends))
    said = capsys.readouterr().out
    assert "1 trained, 0 skipped, 1 failed, 1 not run" in said and "Diverged: x" in said


@pytest.mark.parametrize("fail_fast", [False, True])
def test_the_first_failure_ends_a_sweep_only_when_told_to(ask, capsys, fail_fast):
    launch = FakeLauncher(random_k0_j0_s0=Outcome(3, "Diverged: x"))
    with pytest.raises(SweepFailed) as error:
        drive(ask(*SELF, fail_fast=fail_fast), launch)
    assert error.value.exit_code == 3
    assert len(launch.waves) == (1 if fail_fast else 2)
    assert ("4 not run" in capsys.readouterr().out) == fail_fast


def test_a_broken_cell_fails_and_the_others_are_trained(ask, tmp_path, capsys):
    gone = str(tmp_path / "gone")
    words = [word for word in ask().arguments if not word.startswith("dataset")]
    blocks = [
        {"dataset": "folder", "dataset.root": gone},
        {"dataset": "synthetic", "dataset.options.n_images": 140, "dataset.image_size": 32},
    ]
    request = Request(words, {}, blocks, [], tmp_path, None, False, False)
    launch = FakeLauncher()
    with pytest.raises(SweepFailed, match="1 of 2 runs failed") as error:
        drive(request, launch)
    assert error.value.exit_code == 2
    assert launch.waves == [["random-k0-j0-s0"]]
    said = capsys.readouterr().out
    assert (
        said.count("cannot be run, 1 combination: ") == 1
        and said.count(f"dataset.root={gone}") == 2
    )
    record = read_only_study(tmp_path)
    assert f"dataset.root={gone}" in record["broken"][0]["overrides"]
    fast = Request(words, {}, blocks, [], tmp_path / "fast", None, True, False)
    with pytest.raises(SweepFailed):
        drive(fast, launch)
    assert len(launch.waves) == 1


def test_a_dry_run_names_each_error_once_and_ends_as_the_sweep_would(ask, tmp_path, capsys):
    words = [word for word in ask().arguments if not word.startswith("dataset")]
    words += ["dataset=folder", f"dataset.root={tmp_path}/no where", "seed=0,1,2"]
    request = Request(words, {}, [], [f"--config-dir={tmp_path}"], tmp_path, None, False, True)
    launch = FakeLauncher()
    with pytest.raises(SweepFailed, match="3 of 3 combinations cannot be run") as error:
        drive(request, launch)
    assert error.value.exit_code == 2 and launch.waves == []
    said = capsys.readouterr().out
    assert said.count("DataError") == 1 and "cannot be run, 3 combinations: DataError: " in said
    (example,) = (line for line in said.splitlines() if "for example: " in line)
    command = shlex.split(example.partition(": ")[2])
    assert command[:4] == ["python", "-m", "tlcnn.train", f"--config-dir={tmp_path}"]
    assert f"dataset.root={tmp_path}/no where" in command and command[-1] == "seed=0"


def test_cells_that_are_left_out_are_told_by_all_words_that_differ(ask, tmp_path, capsys):
    """Cells with weights that are missing tell them apart, too."""
    weights = ["init=checkpoint", f"init.weights={tmp_path}/gone.pt"]
    words = [*weights, "init.through=none,all", "freeze.through=none,stem"]
    with pytest.raises(SweepFailed, match="2 of 4 combinations"):
        drive(ask(*words, dry_run=True), FakeLauncher())
    assert "    init.through=none freeze.through=stem\n" in capsys.readouterr().out


def test_a_wrong_value_in_one_cell_refuses_the_sweep(ask, tmp_path):
    launch = FakeLauncher()
    with pytest.raises(
        ConfigError, match="in the combination .*freeze.through=layr2.*no unit 'layr2'"
    ):
        drive(ask("seed=0,1", "init=self", "freeze.through=none,layr2"), launch)
    assert launch.waves == [] and not list(tmp_path.iterdir())


def test_impossible_cells_are_left_out_of_a_grid_but_refused_alone(ask, tmp_path, capsys):
    launch = FakeLauncher()
    drive(ask("init=random,self", "freeze.through=none,stem"), launch)
    said = capsys.readouterr().out
    assert "left out, because more units are frozen than transferred: 1 combination (" in said
    assert "1 combination (freeze.allow_random=true trains them, as a control)\n" in said
    assert "    init=random freeze.through=stem\n" in said
    (left_out,) = read_only_study(tmp_path)["left_out"]
    assert left_out["overrides"][-2:] == ["init=random", "freeze.through=stem"]
    assert "would stay random filters" in left_out["why"]
    with pytest.raises(
        ConfigError, match="nothing to run: 2 combinations left out.*random filters"
    ) as error:
        drive(ask("freeze.through=stem,stage1"), launch)
    assert error.value.exit_code == 1


# ----------------------------------------------------------------------- study, plan, estimate


def test_only_fresh_units_can_be_frozen_with_a_key():
    """Units that init.above=truncate drops are not there to be frozen."""
    whys = (ImpossibleCell.why, DroppedUnits.why, TooFewClasses.why)
    lines = count_left_out([LeftOut((f"seed={why}",), "", why) for why in whys])
    assert ["allow_random" in line for line in lines] == [True, False, False]


def test_a_study_records_its_runs_and_words(ask, tmp_path):
    drive(ask(*SELF, study="mine"), FakeLauncher())
    record = read_only_study(tmp_path)
    assert record["name"] == "mine" and (tmp_path / "studies" / "mine.json").is_file()
    assert record["arguments"][-3:] == SELF
    assert [run["role"] for run in record["runs"]].count("parent") == 1
    folders = {f"{run['run_name']}-{run['run_id']}" for run in record["runs"]}
    assert folders == {path.name for path in (tmp_path / "runs").iterdir()}


def test_a_study_is_recorded_before_it_is_trained(ask, tmp_path):
    def die(jobs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(ask("seed=0,1"), die)
    assert len(read_only_study(tmp_path)["runs"]) == 2


def test_dry_run_lists_the_runs_and_writes_nothing(ask, tmp_path, capsys):
    launch = FakeLauncher()
    drive(ask(*SELF, dry_run=True), launch)
    said = capsys.readouterr().out
    assert launch.waves == [] and not list(tmp_path.iterdir())
    rows = [
        line.split() for line in said.splitlines() if "to train" in line and "runs" not in line
    ]
    assert [row[0] for row in rows] == [str(number) for number in range(1, 8)]
    assert sum("starts" in row for row in rows) == 4 and said.count("parent of others") == 1


def test_the_same_runs_have_one_name_in_any_order(ask, capsys):
    orders = [["seed=0,1", "init=random,self"], ["init=self,random", "seed=1,0"]]
    for words in orders:
        drive(ask(*words, dry_run=True), FakeLauncher())
    drive(ask("seed=0,1,2", "init=random,self", dry_run=True), FakeLauncher())
    said = capsys.readouterr().out.splitlines()
    names = [line.split(":")[0] for line in said if line.startswith("study ")]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["experiment=demo"], "demo"),
        (["experiment=demo", "device=cpu", "threads=1", "on_locked=fail"], "demo"),
        (["experiment=demo", "dataset.root=/data/ham", "progress=false"], "demo"),
        (["experiment=demo", "fail_fast=true", "dry_run=true", "study=null"], "demo"),
        (["experiment=demo", "init.task_dataset.root=/data/ham"], "demo"),
        (["experiment=demo", "init.task_run.init.task_dataset.root=/data/ham"], "demo"),
        (["experiment=demo", "seed=1"], None),
        (["experiment=demo", "freeze.allow_random=true"], None),
    ],
)
def test_an_experiment_gives_its_name_unless_something_else_was_asked_for(words, name):
    from tlcnn.sweep.resolve import Sweep
    from tlcnn.sweep.study_record import name_study

    found = name_study(None, words, Sweep((), ()))
    assert found == name if name else found.startswith("demo-")


def test_sweeps_in_which_nothing_can_run_have_names_of_their_own():
    from tlcnn.sweep.resolve import Sweep
    from tlcnn.sweep.study_record import name_study

    grids = [(("seed=0",), ("seed=1",)), (("seed=1",), ("seed=0",)), (("seed=2",),)]
    names = [name_study(None, [], Sweep(cells, ())) for cells in grids]
    assert names[0] == names[1] != names[2]


def test_the_example_of_an_experiment_is_one_run(ask, tmp_path, capsys):
    words = [word for word in ask().arguments if not word.startswith("dataset")]
    words += ["experiment=demo", "dataset=folder", f"dataset.root={tmp_path}/gone"]
    with pytest.raises(SweepFailed):
        drive(Request(words, {}, [], [], tmp_path, None, False, True), FakeLauncher())
    said = capsys.readouterr().out
    assert "python -m tlcnn.train hydra.mode=RUN" in said and "run  id" not in said


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b"])
def test_a_name_that_is_no_file_is_refused(ask, name):
    with pytest.raises(ConfigError, match="names a file: use letters, digits"):
        drive(ask(study=name), FakeLauncher())


def test_the_time_is_judged_by_runs_that_are_alike(ask, tmp_path, capsys):
    drive(ask("seed=0,1", "train.epochs=1"), real_launch)
    for path in tmp_path.glob("runs/*/metrics.jsonl"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "train_s": 90.0}) + "\n")
        RunDir(path.parent).write_done("x")  # records the digests anew
    capsys.readouterr()
    drive(ask("seed=0,1,2,3", "train.epochs=1", dry_run=True), FakeLauncher())
    assert "2 to train, about 3 min of training, one run at a time" in capsys.readouterr().out
    words = ["train.epochs=1", "seed=2", "freeze.through=stem", "freeze.allow_random=true"]
    drive(ask(*words, dry_run=True), FakeLauncher())  # another j: the nearest there is
    assert "1 to train, about 90 s of" in capsys.readouterr().out
    drive(ask("seed=0,1", "train.epochs=2", dry_run=True), FakeLauncher())  # twice as many epochs
    assert "2 to train, about 6 min of" in capsys.readouterr().out
    drive(ask("seed=0,1", "dataset.image_size=24", dry_run=True), FakeLauncher())
    text = capsys.readouterr().out
    assert "time unknown" in text and "until_epoch=1" in text and "dry_run" not in text
    assert estimate_seconds([], tmp_path) == 0
    assert describe_duration(7300) == "about 2.0 h"


def test_a_job_means_the_planned_run_in_any_process(ask):
    launch, memory = FakeLauncher(), Memory()
    drive(ask(*SELF), launch)
    assert len(launch.jobs) == 7
    for job in launch.jobs:
        sent = Job.from_json(job.to_json())
        assert sent == job and sent.plan is None
        assert plan_job(sent, memory).run_dir == job.plan.run_dir


def test_a_cell_is_planned_once_where_the_process_is_the_same(ask, monkeypatch):
    planned = []
    real = resolve_module.plan_job
    monkeypatch.setattr(
        resolve_module, "plan_job", lambda *given: planned.append(given) or real(*given)
    )
    monkeypatch.setattr("tlcnn.run.job.plan_job", lambda *given: planned.append(given))
    drive(ask("seed=0,1", "train.epochs=1"), real_launch)
    assert len(planned) == 2


# ---------------------------------------------------------------------------------- for real


def real_launch(jobs):
    return launch_here(jobs, Memory())


def test_real_runs_are_trained_and_a_failure_is_told(ask, tmp_path, capsys):
    words = ["init=random,self", "seed=0", "train.lr=1e-3,1e30", "train.clip_norm=null"]
    with pytest.raises(SweepFailed) as error:
        drive(ask(*words, "train.epochs=1"), real_launch)
    assert error.value.exit_code == 3
    states = read_runs(tmp_path).groupby("state").size().to_dict()
    assert states == {"done": 3, "failed": 2}
    said = capsys.readouterr().out
    assert "3 trained, 0 skipped, 3 failed" in said
    assert "[1/6] done synthetic-test_resnet-random-k0-j0-s" in said
    assert said.count("log.txt") == 2
    with pytest.raises(SweepFailed):
        drive(ask(*words, "train.epochs=1"), real_launch)
    assert "0 trained, 3 skipped, 3 failed" in capsys.readouterr().out


@pytest.mark.parametrize("failed", [False, True])
def test_a_signal_between_two_runs_ends_a_sweep_with_75(ask, capsys, monkeypatch, failed):
    def run_one(job, memory):
        os.kill(os.getpid(), signal.SIGTERM)  # the run itself has not heard it
        return Outcome(3, "Diverged: x") if failed else Outcome(75, "Stopped: y")
        yield

    monkeypatch.setattr("tlcnn.sweep.packing.run_job_in_turns", run_one)
    with pytest.raises(Stopped):
        drive(ask("seed=0,1,2"), real_launch)
    assert ("2 not run" if failed else "3 not run") in capsys.readouterr().out


def test_a_launcher_that_trained_something_else_is_told(ask, capsys):
    with pytest.raises(SweepFailed) as error:
        drive(ask("seed=0"), lambda jobs: [Outcome()])
    assert error.value.exit_code == 70
    assert "another run was trained than the one that was planned here" in capsys.readouterr().out


def test_not_started_is_no_failure():
    assert NOT_STARTED.was_stopped and NOT_STARTED.code == Stopped.exit_code


# ---------------------------------------------------- two at once, and kill -9 at any moment

GRID = ["init=random,self", "freeze.through=none,stem"]  # stem of random is left out
GRIDS = [  # the last one holds all others; each is the grid of one session
    ["init.through=stage1,all", "seed=0"],
    ["seed=0", "init.through=all,stage1"],
    ["init.through=stage1,all", "seed=0,1"],
    ["seed=1,0", "init.through=all,stage1"],
]
HARNESS = """
import json, os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, "tests")
import torch
from runs import tiny_command
from tlcnn.train import main

task, target, cache = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
words, grids = json.loads(sys.argv[4]), json.loads(sys.argv[5])
seed = int(sys.argv[6])
torch.set_num_threads(1)

def fork(folder, grid):
    pid = os.fork()
    if pid == 0:
        os._exit(main(["-m", *tiny_command(target / folder, cache, *words, *grid)]))
    return pid

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def read_records(folder):
    done = [path.parent for path in (target / folder / "runs").glob("*/DONE")]
    return {path.name: (path / "environment.json").read_text() for path in done}

main(tiny_command(target / "warm", cache, "train.epochs=1"))  # lazy imports, once for all
if task == "two":
    both = [fork("two", grid) for grid in grids]
    print(json.dumps([wait(pid) for pid in both]))
else:
    draw, kills = random.Random(seed), 0
    begun = time.monotonic()
    assert wait(fork("whole", grids[-1])) == 0
    whole_s = time.monotonic() - begun
    for grid in grids[:-1]:
        before = read_records("killed")
        pid = fork("killed", grid)
        n_done = len(before) + draw.randint(0, 1)
        while len(read_records("killed")) < n_done:  # however busy the machine is
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, 0.06) * whole_s)
        os.kill(pid, signal.SIGKILL)
        kills += wait(pid) == -9
        now = read_records("killed")
        assert all(now[name] == text for name, text in before.items()), "a done run was begun"
    before = read_records("killed")
    assert wait(fork("killed", grids[-1])) == 0
    now = read_records("killed")
    assert all(now[name] == text for name, text in before.items()), "a done run was begun"
    print(json.dumps(kills))
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run_harness(task, target, cache_dir, grids, *, n_epochs, seed=0):
    words = [*GRID, f"train.epochs={n_epochs}", "checkpoint_every_s=0.05", "progress=false"]
    given = [task, str(target), str(cache_dir), json.dumps(words), json.dumps(grids), str(seed)]
    done = subprocess.run(
        [sys.executable, "-c", HARNESS, *given],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


def count_sessions(folder):
    """How often each run of a folder was begun, by its name."""
    records = sorted((folder / "runs").glob("*/environment.json"))
    return {path.parent.name: len(json.loads(path.read_text())["sessions"]) for path in records}


def compare(folder):
    """The table of `tlcnn compare --csv`, without what was timed."""
    command = [sys.executable, "-m", "tlcnn.cli.main", "compare", str(folder), "--csv"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stderr == "", told.stderr  # nothing but finished runs
    table = pd.read_csv(io.StringIO(told.stdout), dtype=str)
    return table.drop(columns=["train_s", "images_per_s"], errors="ignore").to_csv()


def check_epochs(folder, n_epochs):
    """Every run has every epoch once, in order."""
    for path in (folder / "runs").glob("*/metrics.jsonl"):
        epochs = [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
        assert epochs == list(range(1, n_epochs + 1)), path


@needs_fork
def test_two_sweeps_of_one_grid_train_every_run_once(tmp_path, cache_dir):
    codes, said = run_harness("two", tmp_path, cache_dir, GRIDS[2:], n_epochs=2)
    assert codes == [0, 0], said
    sessions = count_sessions(tmp_path / "two")
    assert len(sessions) == 11 and set(sessions.values()) == {1}
    logs = [path.read_text() for path in (tmp_path / "two" / "runs").glob("*/log.txt")]
    assert len(logs) == 11
    assert all(text.count("epoch 1/") == 1 for text in logs)
    tables = [line for line in said.splitlines() if ", 0 skipped, 0 failed" in line]
    assert len(tables) == 2 and all(": 11 trained" in line for line in tables)


@needs_fork
def test_a_sweep_killed_reordered_and_extended_ends_in_the_same_table(tmp_path, cache_dir):
    kills, _ = run_harness("killed", tmp_path, cache_dir, GRIDS, n_epochs=3)
    assert kills == 3
    assert compare(tmp_path / "killed") == compare(tmp_path / "whole")
    sessions = count_sessions(tmp_path / "killed")
    assert len(sessions) == 11 and sum(sessions.values()) <= 11 + kills  # one a kill was in work
    check_epochs(tmp_path / "killed", 3)


STUDY = [  # 6 bases, 36 that start from one, and the base of the next seed: 43 runs
    ["init.through=stage1,stage2,all", "seed=0,1,2,3"],
    ["seed=3,2,1,0", "init.through=all,stage2,stage1"],
    ["init.through=stage1,stage2,all", "seed=4,0,1,2,3"],
    ["seed=range(5)", "init.through=all,stage1,stage2"],
    ["init.through=stage1,stage2,all", "seed=5,0,1,2,3,4"],
    ["seed=range(6)", "init.through=all,stage2,stage1"],
]
STUDY_EPOCHS = 20
POOL = ["hydra/launcher=pool", "hydra.launcher.workers=2"]


def begin(folder, cache_dir, grid, *words):
    """Start a sweep in a process of its own."""
    given = [*GRID, f"train.epochs={STUDY_EPOCHS}", "checkpoint_every_s=0.5", "progress=false"]
    arguments = tiny_command(folder, cache_dir, *given, *grid, *words)
    with open(folder.with_suffix(".log"), "a") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "tlcnn.train", "-m", *arguments], stdout=said, stderr=said
        )


@pytest.fixture(scope="module")
def whole_study(tmp_path_factory, cache_dir):
    """The folder of a study that nothing interrupted, and how long it took."""
    folder = tmp_path_factory.mktemp("study") / "whole"
    begun = time.monotonic()
    assert begin(folder, cache_dir, STUDY[-1]).wait() == 0
    return folder, time.monotonic() - begun


def kill_one_run(folder):
    """Kill -9 the process of some run that is being trained; returns how many were killed."""
    for path in (folder / "runs").glob("*/holder.json"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)
            return 1
    return 0


def wait_for_training(folder, n_done):
    """Return when a sweep that has just been started trains something."""
    end = time.monotonic() + 120
    while not is_training(folder) and len(read_done(folder)) <= n_done:
        assert time.monotonic() < end, folder.with_suffix(".log").read_text()[-3000:]
        time.sleep(0.05)


def is_training(folder):
    return any(is_held(path.parent) for path in folder.glob("runs/*/holder.json"))


def read_done(folder):
    done = [path.parent for path in (folder / "runs").glob("*/DONE")]
    return {path.name: (path / "environment.json").read_text() for path in done}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], POOL], ids=["in_process", "pool"])
def test_forty_cells_killed_five_times_end_in_the_same_table(
    tmp_path, cache_dir, whole_study, launcher
):
    """Drivers and, in the pool, single runs die at random moments; the grid changes meanwhile."""
    whole, whole_s = whole_study
    folder, draw = tmp_path / "killed", random.Random(0)
    n_kills = n_runs_killed = 0
    done: dict[str, str] = {}
    begun = time.monotonic()
    for grid in STUDY[:-1]:
        driver = begin(folder, cache_dir, grid, *launcher)
        wait_for_training(folder, len(done))
        time.sleep(draw.uniform(0, 0.12) * whole_s)
        if launcher:
            n_runs_killed += kill_one_run(folder)
            time.sleep(draw.uniform(0, 0.04) * whole_s)
        driver.kill()
        n_kills += driver.wait() == -signal.SIGKILL
        now = read_done(folder)
        assert done.items() <= now.items()  # what was done is as it was
        done = now
    codes = [begin(folder, cache_dir, STUDY[-1], *launcher).wait() for _ in range(2)]
    killed_s = time.monotonic() - begun
    assert codes == [0, 0], folder.with_suffix(".log").read_text()[-3000:]
    assert done.items() <= read_done(folder).items()
    assert n_kills == 5 and done and bool(n_runs_killed) == bool(launcher)
    assert compare(folder) == compare(whole)
    sessions = count_sessions(folder)
    n_workers = 2 if launcher else 1
    assert len(sessions) == 43
    assert 43 < sum(sessions.values()) <= 43 + n_workers * n_kills + n_runs_killed
    check_epochs(folder, STUDY_EPOCHS)
    resumed = sum(n > 1 for n in sessions.values())
    print(
        f"\n{len(sessions)} runs; driver killed {n_kills} times, with {len(done)} runs done after "
        f"the last; {n_runs_killed} single runs killed; {resumed} runs resumed, "
        f"{sum(sessions.values())} sessions; {killed_s:.0f} s, uninterrupted {whole_s:.0f} s"
    )
