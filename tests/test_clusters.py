"""Sweeps on a Ray of two nodes and a Slurm of two nodes, which lose them: `make test-clusters`."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from clusters.ray_up import kill, list_descendants, ray_cluster, read_command
from clusters.slurm_up import ask, find_missing, slurm_cluster
from runs import tiny_command, tiny_config
from test_run import check_same

from tlcnn.plan.plan import make_plan
from tlcnn.run.run import run

pytestmark = pytest.mark.cluster
NEVER = "train.epochs=10000"


# ------------------------------------------------------------------------------------- sweeps


class Sweep:
    """`python -m tlcnn.train -m …` in a process, and what its runs have left so far."""

    def __init__(self, output_dir, cache_dir, env, *words):
        self.output_dir = output_dir
        command = tiny_command(output_dir, cache_dir, *words)
        self.said = output_dir.with_suffix(".said")
        with open(self.said, "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tlcnn.train", "-m", *command],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
            )

    def finish(self, seconds=120, meanwhile=lambda: None):
        """Wait for its end and return its exit code and all that it said."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, self.said.read_text() + str(self.logs())
            meanwhile()
            time.sleep(0.5)
        return self.process.returncode, self.said.read_text()

    def logs(self):
        return {p.parent.name: p.read_text() for p in self.output_dir.glob("runs/*/log.txt")}

    def has_begun(self, n_runs):
        return sum(bool(count_epochs(log)) for log in self.logs().values()) == n_runs

    def read_output_of_tasks(self):
        """What Slurm's tasks said, one text a run."""
        return [path.read_text() for path in self.output_dir.glob(".slurm/*/*log.out")]

    def wait_for(self, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition(self):
            over = self.process.poll() is not None
            assert not over and time.monotonic() < end, self.said.read_text() + str(self.logs())
            time.sleep(0.1)


@pytest.fixture
def start(tmp_path, cache_dir):
    """Start a sweep in `out`; it ends with the test."""
    started = []

    def start(env, *words):
        started.append(Sweep(tmp_path / "out", cache_dir, env, *words))
        return started[-1]

    yield start
    for sweep in started:
        sweep.process.kill()
        sweep.process.wait()


def count_epochs(log):
    """How often each epoch was finished, as a log says; a resumed run first repeats the last."""
    news = re.sub(r"(resuming in epoch .*\n).* INFO epoch .*\n", r"\1", log)
    return Counter(re.findall(r"INFO epoch (\d+)/", news))


def check_trained_once(output_dir, n_runs, epochs):
    """Every run is done, and no epoch of it was finished by two processes.

    A process may die between an epoch's checkpoint and its line in the log: one a death may lack.
    """
    folders = sorted((output_dir / "runs").iterdir())
    assert len(folders) == n_runs
    for folder in folders:
        assert (folder / "DONE").is_file()
        log = (folder / "log.txt").read_text()
        counts = count_epochs(log)
        assert max(counts.values()) == 1, log
        assert len(counts) >= epochs - len(read_sessions(folder)) + 1
        assert log.count("done: ") == 1
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == epochs


def read_sessions(folder):
    return json.loads((folder / "environment.json").read_text())["sessions"]


def train_alone(output_dir, cache_dir, *words):
    """The same run without a launcher or an interruption; returns its folder."""
    plan = make_plan(tiny_config(output_dir, cache_dir, *words))
    run(plan)
    return plan.run_dir


# ---------------------------------------------------------------------------------------- ray

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs ray: pip install 'tlcnn[ray]'"
)


@pytest.fixture
def ray_nodes():
    # a short path: Ray's sockets lie in it
    short = tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True)
    with short as folder, ray_cluster(Path(folder)) as cluster:
        yield cluster


def ray_words(cluster):
    return ["hydra/launcher=ray", f"hydra.launcher.address={cluster.address}"]


@needs_ray
@pytest.mark.parametrize("remains", ["nothing", "an orphan"])
def test_a_lost_node_costs_a_retry(ray_nodes, start, tmp_path, cache_dir, remains):
    """Kill -9 of one raylet and its workers in the middle of a sweep.

    The process that trains is killed with them, as when a machine is lost; or it hangs on, as
    when only its network is lost: then the retry may not write before it is gone.
    """
    epochs = 60
    words = [f"train.epochs={epochs}", "seed=0,1,2,3,4,5", *ray_words(ray_nodes)]
    sweep = start(ray_nodes.env, *words)

    def find_training():
        below = list_descendants(ray_nodes.second)
        return [pid for pid in below if "-m tlcnn.run.worker" in read_command(pid)]

    def find_run(pid):
        held = tmp_path.glob("out/runs/*/holder.json")
        folders = [path.parent for path in held if json.loads(path.read_text())["pid"] == pid]
        return folders[0] if folders else None

    def is_training(sweep):
        found = [find_run(pid) for pid in find_training()]
        logs = sweep.logs()
        return any(run and count_epochs(logs.get(run.name, "")) for run in found)

    sweep.wait_for(is_training)
    (training,) = find_training()
    folder = find_run(training)
    lost = [pid for pid in list_descendants(ray_nodes.second) if pid != training]
    os.kill(training, signal.SIGSTOP if remains == "an orphan" else signal.SIGKILL)
    while Path(f"/proc/{training}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "TZ":
        time.sleep(0.01)  # signals take their time
    for pid in lost:
        kill(pid, signal.SIGKILL)
    if remains == "an orphan":
        check_that_the_retry_waits(sweep, folder, training)
    code, said = sweep.finish()
    assert code == 0, said
    assert "6 trained, 0 skipped, 0 failed" in said
    check_trained_once(tmp_path / "out", 6, epochs)
    alone = train_alone(tmp_path / "alone", cache_dir, words[0], f"seed={read_seed(folder)}")
    check_same(alone, folder)


def read_seed(folder):
    return json.loads((folder / "plan.json").read_text())["identity"]["seed"]


def find_ready_workers():
    """The ids of all processes that train and have imported torch."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # it has just ended
            ours = "-m tlcnn.run.worker" in read_command(int(path.parent.name))
            if ours and "libtorch_cpu" in path.read_text():
                found.add(int(path.parent.name))
    return found


def check_that_the_retry_waits(sweep, folder, orphan):
    """The run's folder stays as it is until its orphan goes, however long the retry is there."""
    before = read_files(folder)
    since = {}  # when each process was first seen to be ready and to hold no run

    def has_waited(sweep):
        assert read_files(folder) == before
        idle = find_ready_workers() - {orphan} - read_holders(folder.parent)
        now = time.monotonic()
        times = {pid: since.get(pid, now) for pid in idle}
        since.clear()
        since.update(times)
        return any(now - first > 8 for first in times.values())

    try:
        sweep.wait_for(has_waited)
    finally:
        os.kill(orphan, signal.SIGCONT)  # it finds its input ended, saves, and leaves


def read_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_holders(runs):
    """The ids of the processes that hold a run."""
    found = set()
    for path in runs.glob("*/holder.json"):
        with suppress(OSError, ValueError):  # it has just been given back
            found.add(json.loads(path.read_text())["pid"])
    return found


# -------------------------------------------------------------------------------------- slurm

needs_slurm = pytest.mark.skipif(bool(find_missing()), reason=str(find_missing()))
needs_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None,
    reason="needs submitit: pip install 'tlcnn[slurm]'",
)


@pytest.fixture(scope="module")
def slurm():
    short = tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True)
    with short as folder, slurm_cluster(Path(folder)) as env:
        yield env


def slurm_words(*more):
    words = ["partition=main", "timeout_min=10", "cpus_per_task=1", "poll_s=1", *more]
    return ["hydra/launcher=slurm", *(f"hydra.launcher.{word}" for word in words)]


def find_pending(env):
    return set(ask(env, "squeue", "--noheader", "--states=PD", "--format=%i", "--array"))


def start_at_once(env):
    """Slurm lets requeued jobs wait for two minutes; these need not."""
    for job_id in find_pending(env):
        ask(env, "scontrol", "update", f"JobId={job_id}", "StartTime=now")


@needs_slurm
@needs_submitit
def test_a_preempted_run_is_queued_again_and_ends_in_the_same_bits(
    slurm, start, tmp_path, cache_dir
):
    words = ["train.epochs=150", "seed=0,1"]
    sweep = start(slurm, *words, *slurm_words())
    sweep.wait_for(lambda s: s.has_begun(2))
    urgent = ["--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null"]
    ask(slurm, "sbatch", *urgent, "--wrap=sleep 1")
    sweep.wait_for(lambda s: len(find_pending(slurm)) == 2)
    assert all("stopped by SIGTERM" in text for text in sweep.read_output_of_tasks())
    code, said = sweep.finish(meanwhile=lambda: start_at_once(slurm))
    assert code == 0, said
    assert "2 trained, 0 skipped, 0 failed" in said
    check_trained_once(tmp_path / "out", 2, 150)
    for folder in (tmp_path / "out" / "runs").iterdir():
        assert len(read_sessions(folder)) == 2
        assert "resuming in epoch" in (folder / "log.txt").read_text()
        seed = f"seed={read_seed(folder)}"
        check_same(train_alone(tmp_path / "alone", cache_dir, words[0], seed), folder)


@needs_slurm
@needs_submitit
def test_near_its_time_limit_a_run_saves_and_is_queued_again(slurm, start, tmp_path, cache_dir):
    # USR2 comes some ten seconds after the start
    limits = slurm_words("timeout_min=1", "signal_delay_s=50", "array_parallelism=2")
    sweep = start(slurm, NEVER, "seed=7,8", *limits)
    sweep.wait_for(lambda s: len(find_pending(slurm)) == 2)
    assert all("stopped by SIGUSR2" in text for text in sweep.read_output_of_tasks())

    def has_resumed(sweep):
        start_at_once(slurm)
        return all("resuming in" in log for log in sweep.logs().values())

    sweep.wait_for(has_resumed)
    sweep.wait_for(lambda s: len(find_pending(slurm)) == 2)  # for the second time
    ask(slurm, "scancel", "--partition=main")
    code, said = sweep.finish()
    assert code != 0 and said.count("state CANCELLED") == 2  # it did not wait for ever


@needs_slurm
@needs_submitit
def test_jobs_outlive_their_driver_and_the_same_command_finds_them(
    slurm, start, tmp_path, cache_dir
):
    words = ["train.epochs=100", "seed=0,1", *slurm_words()]
    sweep = start(slurm, *words)
    sweep.wait_for(lambda s: s.has_begun(2))
    sweep.process.kill()
    sweep.process.wait()
    again = start(slurm, *words)
    code, said = again.finish()
    assert code == 0, said
    check_trained_once(tmp_path / "out", 2, 100)
    assert all(len(read_sessions(f)) == 1 for f in (tmp_path / "out" / "runs").iterdir())
    submissions = len(list(tmp_path.glob("out/.slurm/*/*.sh")))
    third = start(slurm, *words)
    code, said = third.finish()
    assert code == 0 and "0 trained, 2 skipped, 0 failed" in said
    assert len(list(tmp_path.glob("out/.slurm/*/*.sh"))) == submissions


@needs_slurm
@needs_submitit
def test_ctrl_c_leaves_the_runs_to_slurm(slurm, start, tmp_path, cache_dir):
    sweep = start(slurm, NEVER, *slurm_words())
    sweep.wait_for(lambda s: s.logs())
    os.killpg(sweep.process.pid, signal.SIGINT)
    code, said = sweep.finish()
    (farewell,) = [line for line in said.splitlines() if "scancel" in line]
    assert code == 75
    assert len(ask(slurm, "squeue", "--noheader", "--partition=main", "--format=%i")) == 1
    ask(slurm, "scancel", farewell.split()[-1])
    end = time.monotonic() + 60
    while ask(slurm, "squeue", "--noheader", "--partition=main", "--format=%i"):
        assert time.monotonic() < end, "a cancelled run was queued again"
        time.sleep(0.5)
