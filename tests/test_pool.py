"""The pool: processes that die, stop, are replaced, and never outlive the sweep."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from runs import tiny_command

from hydra_plugins.tlcnn_launchers import slots, worker_process
from hydra_plugins.tlcnn_launchers.pool import PoolLauncher
from hydra_plugins.tlcnn_launchers.slots import GPU_SHARE, find_gpus, list_cores, make_slots
from hydra_plugins.tlcnn_launchers.worker_process import WorkerProcess
from tlcnn import device as devices
from tlcnn.device import count_cores
from tlcnn.errors import ConfigError
from tlcnn.run.job import Job, Outcome
from tlcnn.sweep.queue import NOT_STARTED

# A worker whose runs do what their first override says, without torch.
FAKE = """
import os, sys, time
from tlcnn.run import worker
from tlcnn.run.job import Outcome
from tlcnn.training.interrupt import catch_signals

def run_job(job, memory):
    key, _, value = job.overrides[0].partition("=")
    if key == "die":
        os.kill(os.getpid(), int(value))
    if key == "exit":
        os._exit(int(value))
    if key == "code":
        return Outcome(int(value), "given")
    if key == "print":
        print("a line of my own\\nanother")
        sys.stdout.flush()
        os.write(1, b"from C\\n")
    if key == "pid":
        return Outcome(0, f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}")
    if key == "train":
        with catch_signals() as stop:
            open(value, "w").close()
            while not stop:
                time.sleep(0.01)
        return Outcome(75, "saved")
    if key == "plan":
        open(value, "w").close()
        time.sleep(60)
    if key == "held" and job.place.get("on_locked") == "fail":
        return Outcome(73, "by another sweep", "RunLocked")
    if key == "kind":
        return Outcome(1, "given", value)
    return Outcome()

worker.run_job = run_job
worker.main()
"""


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(worker_process, "PROGRAM", ("-c", FAKE))


def make_pool(workers=1, *, fail_fast=False, **options):
    pool = PoolLauncher(**{"workers": workers, "gpus": None, "per_gpu": 1, **options})
    config = OmegaConf.create({"fail_fast": fail_fast, "device": "cpu"})
    pool.setup(hydra_context=None, task_function=None, config=config)
    return pool


def launch(pool, *jobs):
    return pool.train([Job(tuple(words)) for words in jobs])


@pytest.fixture(autouse=True)
def no_flags(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


# ----------------------------------------------------------------------------- one process


def test_a_run_that_dies_fails_alone_and_is_replaced(fake):
    outcomes = launch(make_pool(), ["die=9"], ["die=11"], ["exit=5"], ["exit=0"], ["fine"])
    assert [outcome.code for outcome in outcomes] == [137, 139, 5, 70, 0]
    assert "killed by signal 9 (out of memory" in outcomes[0].error
    assert "run the same command again" in outcomes[1].error
    assert outcomes[2].error.startswith("its process ended with code 5")


def test_a_process_trains_many_runs_until_one_is_unexpected(fake):
    pool = make_pool()
    words = [o.error for o in launch(pool, ["pid"], ["code=2"], ["pid"], ["code=70"], ["pid"])]
    assert words[0] == words[2] != words[4]
    assert words[4] == launch(pool, ["pid"])[0].error  # the next wave finds it where it was


def test_a_process_is_replaced_for_what_failed_and_not_for_what_the_error_says(fake):
    worker = WorkerProcess([])
    worker.run(Job(("kind=ConfigError",)))
    assert worker.is_sound
    worker.run(Job(("kind=AcceleratorError",)))
    assert not worker.is_sound
    worker.dismiss()


def test_what_a_run_prints_does_not_stand_between_the_answers(fake):
    said = []
    worker = WorkerProcess([], show=said.append)
    assert worker.run(Job(("print",))) == Outcome()
    worker.dismiss()
    wait_for(lambda: len(said) == 3)
    assert sorted(said) == ["a line of my own", "another", "from C"]


def test_a_wrong_override_fails_its_run_only():
    worker = WorkerProcess([])
    outcome = worker.run(Job(("seed=abc",)))
    assert outcome.code == 1 and "abc" in outcome.error
    assert worker.is_sound
    worker.dismiss()


def test_the_first_failure_ends_a_sweep_that_fails_fast(fake):
    outcomes = launch(make_pool(fail_fast=True), ["code=3"], ["fine"])
    assert outcomes == [Outcome(3, "given"), NOT_STARTED]


def test_a_run_that_another_sweep_holds_comes_last(fake):
    assert launch(make_pool(), ["held"], ["fine"]) == [Outcome(), Outcome()]


# ------------------------------------------------------------------------------ being stopped


@pytest.mark.parametrize("phase", ["train", "plan"])
def test_the_end_of_its_input_stops_a_process_wherever_it_is(fake, tmp_path, phase):
    """The launcher's way to say stop, and what its death looks like from there."""
    worker = WorkerProcess([], show=print)
    wait = f"import time\nwhile not __import__('os').path.exists({str(tmp_path / 'on')!r}): pass"
    stopper = subprocess.Popen([sys.executable, "-c", wait])
    threading.Thread(target=lambda: (stopper.wait(), worker.tell_to_stop())).start()
    outcome = worker.run(Job((f"{phase}={tmp_path / 'on'}",)))
    assert outcome.code == 75
    assert outcome.error == ("saved" if phase == "train" else "stopped before it began to train")
    worker.dismiss()
    assert not is_alive(worker.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_runs_and_begins_no_other(fake, tmp_path, number):
    pool = make_pool(2)
    marks = [tmp_path / "one", tmp_path / "two"]

    def interrupt():
        wait_for(lambda: all(mark.exists() for mark in marks))
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    jobs = [*([f"train={mark}"] for mark in marks), ["fine"]]
    saved = Outcome(75, "saved")
    assert launch(pool, *jobs) == [saved, saved, NOT_STARTED]


def test_a_second_ctrl_c_ends_everything_at_once(fake, tmp_path):
    pool = make_pool()
    deaf = "die=19"  # SIGSTOP: it neither trains nor saves

    def interrupt():
        wait_for(lambda: pool.seats and pool.seats[0].worker)
        for _ in range(2):
            time.sleep(0.7)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        launch(pool, [deaf])
    assert not is_alive(pool.seats[0].worker.pid)


DRIVER = """
import json, sys
from omegaconf import OmegaConf
from hydra_plugins.tlcnn_launchers.pool import PoolLauncher

jobs = json.loads(sys.argv.pop())
pool = PoolLauncher(workers=1, gpus=None, per_gpu=1)
config = OmegaConf.create({"fail_fast": False, "device": "cpu"})
pool.setup(hydra_context=None, task_function=None, config=config)
outcomes = [returned._return_value for returned in pool.launch(jobs, 0)]
print(json.dumps([outcome.code for outcome in outcomes]))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_driver_that_is_killed_leaves_saved_runs_and_no_process(tmp_path, cache_dir):
    """SIGTERM first, then kill -9 of the same sweep: real runs, with torch."""
    words = ["train.epochs=5000", "checkpoint_every_s=600", "progress=false"]
    jobs = [tiny_command(tmp_path, cache_dir, *words)]
    command = [sys.executable, "-c", DRIVER, json.dumps(jobs)]
    for number, code in ((signal.SIGTERM, 0), (signal.SIGKILL, -9)):
        before = read_epochs(tmp_path)
        driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        wait_for(lambda before=before: read_epochs(tmp_path) > before)
        pids = read_holders(tmp_path)
        driver.send_signal(number)
        answer = driver.communicate(timeout=60)[0]
        assert driver.returncode == code
        assert pids
        if number == signal.SIGTERM:
            assert json.loads(answer) == [75]
        else:
            wait_for(lambda pids=pids: not any(map(is_alive, pids)))
        assert not any(map(is_alive, pids))
    (log,) = tmp_path.glob("runs/*/log.txt")
    said = log.read_text()
    assert said.count("resuming in epoch") == 1  # what SIGTERM saved was taken up
    assert list(tmp_path.glob("runs/*/checkpoint.last.pt"))


def read_epochs(output_dir):
    logs = output_dir.glob("runs/*/log.txt")
    return sum(path.read_text().count("INFO epoch ") for path in logs)


def read_holders(output_dir):
    return [json.loads(path.read_text())["pid"] for path in output_dir.glob("runs/*/holder.json")]


# --------------------------------------------------------------------------------------- slots


def test_slots_share_the_cores_equally(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(slots, "list_cores", lambda: [0, 4, 1, 5, 2, 6, 3])
    made = make_slots(3, [], 1)
    assert [slot.cores for slot in made] == [(0, 4), (1, 5), (2, 6)]
    assert {slot.env["OMP_NUM_THREADS"] for slot in made} == {"2"}
    assert {slot.env["CUDA_VISIBLE_DEVICES"] for slot in made} == {""}


def test_gpus_are_packed_as_told():
    cards = [slot.env["CUDA_VISIBLE_DEVICES"] for slot in make_slots(None, ["0", "3"], 2)]
    assert cards == ["0", "3", "0", "3"]
    assert all(slot.cores is None for slot in make_slots(None, ["0"], 1))
    assert len(make_slots(None, None, 1)) == 2
    assert len(make_slots(5, ["0"], 1)) == 5


def test_processes_are_told_how_many_share_their_gpu():
    def shares(*arguments):
        return [slot.env.get(GPU_SHARE) for slot in make_slots(*arguments)]

    assert shares(None, ["0", "3"], 2) == ["2"] * 4
    assert shares(None, ["0"], 1) == ["1"]
    assert shares(3, ["0", "1"], 1) == ["2"] * 3  # as many as on the fullest
    assert shares(None, [], 1) == shares(2, None, 1) == [None] * 2
    assert devices.GPU_SHARE == GPU_SHARE


@pytest.mark.parametrize(
    ("visible", "gpus"), [("", []), ("-1", []), ("2,3", ["2", "3"]), ("0,-1,1", ["0"])]
)
def test_hidden_gpus_are_not_used(monkeypatch, visible, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpus() == gpus


def test_gpus_are_counted_without_torch(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho '  MIG 1g (UUID: y)'\necho 'GPU 1: A'"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_gpus() == ["0", "1"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_a_process_sees_only_the_cores_of_its_slot(fake, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    slot = make_slots(len(list_cores()), [], 1)[0]
    worker = WorkerProcess([], env=slot.env, cores=slot.cores)
    assert os.sched_getaffinity(worker.pid) == set(slot.cores)
    assert worker.run(Job(("pid",))).error.split()[1] == "1"
    worker.dismiss()


def test_cores_are_counted_as_the_scheduler_says(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert count_cores() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    assert count_cores() == len(list_cores())


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": "two"}, {"per_gpu": None}])
def test_wrong_numbers_are_refused(options):
    with pytest.raises(ConfigError, match=r"hydra.launcher.*must be an integer of at least 1"):
        make_pool(**options)
