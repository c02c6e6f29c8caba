"""hydra/launcher=slurm: every run is a task of a job array; preempted runs are queued again.

    submitit writes and submits the array -> `train_in_task` on a node -> its result's pickle
                 squeue says which tasks are still there -> an `Outcome` for every run

The files of a submission lie in `output_dir/.slurm`. Only submitit's own pickles are read there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

_MOST_TASKS = 1000  # of an array: Slurm's own default allows 1001
_LATE_S = 15.0  # a shared file system may show a result this much later than squeue its end
_ENDED_BY = {"OUT_OF_MEMORY": 137, "CANCELLED": 143, "PREEMPTED": 143, "TIMEOUT": 143}


@dataclass
class SlurmConf:
    """What a run is given, as sbatch calls it; null: what the cluster gives by itself.

    Attributes:
        timeout_min: of one sitting; a run that needs longer is queued again and goes on.
        signal_delay_s: seconds before that end at which a run is told to save.
        array_parallelism: runs at a time.
        max_requeues: of one run.
        setup: shell lines before the run, such as `module load cuda`.
        additional_parameters: any other of sbatch: `{reservation: mine, nice: 10}`.
        poll_s: seconds between two looks at the queue.
    """

    _target_: str = "hydra_plugins.tlcnn_launchers.slurm.SlurmLauncher"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_min: int = 60
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    array_parallelism: int = 256
    signal_delay_s: int = 90
    max_requeues: int = 100
    setup: list[str] = field(default_factory=list)
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    poll_s: float = 5.0


ConfigStore.instance().store(
    group="hydra/launcher", name="slurm", node=SlurmConf, provider="tlcnn"
)


class SlurmLauncher(Launcher):
    """Submits jobs to Slurm and waits for them; they go on when it is killed."""

    def __init__(self, max_requeues: int, poll_s: float, **options: Any) -> None:
        self.max_requeues, self.poll_s, self.options = max_requeues, poll_s, options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the sweep's configuration. Raises ConfigError where there is no Slurm."""
        import shutil
        from importlib.util import find_spec

        from tlcnn.errors import ConfigError

        self.config = config
        if find_spec("submitit") is None:
            raise ConfigError("hydra/launcher=slurm needs submitit: pip install 'tlcnn[slurm]'")
        if shutil.which("sbatch") is None:
            raise ConfigError("hydra/launcher=slurm: there is no sbatch here. Run it where it is.")

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and return an `Outcome` each, in order."""
        import sys

        from tlcnn.config.overrides import list_flags
        from tlcnn.training.interrupt import catch_signals

        flags = list_flags(sys.argv[1:])
        with catch_signals() as stop:
            tasks = self._submit([list(job) for job in job_overrides], flags)
            array = Array(tasks, self.poll_s, fail_fast=bool(self.config.fail_fast))
            outcomes = array.wait(stop)
        return [
            JobReturn(overrides=list(job), status=JobStatus.COMPLETED, _return_value=outcome)
            for job, outcome in zip(job_overrides, outcomes, strict=True)
        ]

    def _submit(self, jobs: list[list[str]], flags: list[str]) -> list[Any]:
        """Return submitit's jobs, in the order of ours."""
        import submitit

        executor = submitit.SlurmExecutor(folder=self._find_folder())
        executor.update_parameters(**self._make_parameters())
        submitted: list[Any] = []
        for start in range(0, len(jobs), _MOST_TASKS):
            part = jobs[start : start + _MOST_TASKS]
            limits = [self.max_requeues] * len(part)
            submitted += executor.map_array(train_in_task, part, [flags] * len(part), limits)
        return submitted

    def _find_folder(self) -> str:
        from pathlib import Path

        return str(Path(self.config.output_dir).expanduser().absolute() / ".slurm" / "%j")

    def _make_parameters(self) -> dict[str, Any]:
        """Return the options in submitit's words, without those that nobody set."""
        options: dict[str, Any] = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in self.options.items()
            if value is not None
        }
        options["time"] = options.pop("timeout_min")
        if "mem_gb" in options:
            options["mem"] = f"{round(options.pop('mem_gb') * 1024)}MB"
        options["additional_parameters"] = {
            "requeue": True,
            **options["additional_parameters"],
        }
        return {"job_name": "tlcnn", "stderr_to_stdout": True, **options}


# ---------------------------------------------------------------------------------- on a node


def train_in_task(
    overrides: Sequence[str], flags: Sequence[str], max_requeues: int
) -> dict[str, Any]:
    """Train a run in the process that submitit has started on a node.

    Told to stop, it saves and asks Slurm for another turn. No result is left behind then, and so
    the launcher goes on waiting.
    """
    import os
    from dataclasses import asdict

    share = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    os.environ.setdefault("OMP_NUM_THREADS", share or "1")
    from tlcnn.run.worker import Worker, speak_up

    speak_up()
    outcome = Worker(flags).run(overrides)
    if outcome.was_stopped and not queue_again(max_requeues):
        print(f"tlcnn: not queued again: {outcome.error}", flush=True)
        return asdict(outcome)
    if outcome.was_stopped:
        os._exit(outcome.code)
    return asdict(outcome)


def queue_again(max_requeues: int) -> bool:
    """Return whether this task gets another turn, or is being ended by somebody who can see it.

    A task that is preempted or near its time limit is RUNNING still; Slurm has already decided
    about one that is not: it is being queued again, or somebody cancelled it.
    """
    import os

    # SLURM_JOB_ID of an array's last task means the whole array to scontrol
    job_id = "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format_map(os.environ)
    state = read_states(["scontrol", "--oneliner", "show", "job", job_id])
    if state and "RUNNING" not in state.values():
        return True
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= max_requeues:
        return False
    code, _, error = run_command(["scontrol", "requeue", job_id])
    if code:
        print(f"tlcnn: scontrol requeue {job_id}: {error}", flush=True)
    return code == 0


# ---------------------------------------------------------------------------- asking Slurm


def run_command(command: Sequence[str]) -> tuple[int, str, str]:
    """Return the exit code, output and errors of one of Slurm's commands."""
    import subprocess

    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        return 1, "", str(error)
    return done.returncode, done.stdout, done.stderr


def read_states(command: Sequence[str]) -> dict[str, str]:
    """Return the state of every job that `scontrol --oneliner show job` tells of, by its id."""
    found = {}
    for line in run_command(command)[1].splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        job_id = words.get("JobId", "")
        if "ArrayTaskId" in words:
            job_id = f"{words['ArrayJobId']}_{words['ArrayTaskId']}"
        found[job_id] = words.get("JobState", "")
    return found


def read_queue(array_ids: Sequence[str]) -> set[str] | None:
    """Return the ids of the tasks that wait or run; None when Slurm does not answer."""
    waiting: set[str] = set()
    for array_id in array_ids:
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={array_id}"]
        code, out, error = run_command(command)
        if code and "Invalid job id" not in error:  # that one means: long gone
            return None
        waiting |= set(out.split())
    return waiting


class Array:
    """Submitted tasks, until all have ended.

    Args:
        tasks: submitit's jobs.
        poll_s: seconds between two looks.
        fail_fast: cancel the others when one fails.
    """

    def __init__(self, tasks: Sequence[Any], poll_s: float, *, fail_fast: bool) -> None:
        self.tasks, self.poll_s, self.fail_fast = tasks, poll_s, fail_fast
        self.ids = list(dict.fromkeys(task.job_id.split("_")[0] for task in tasks))
        self.outcomes: dict[int, Any] = {}
        self._gone_since: dict[int, float] = {}

    def wait(self, stop: Any) -> list[Any]:
        """Return how every task ended, when all have, or when a signal ends the waiting."""
        import time

        while len(self.outcomes) < len(self.tasks):
            self._look()
            if self.fail_fast and any(outcome.code for outcome in self.outcomes.values()):
                self._give_up("cancelled, because another run failed", cancel=True)
            elif stop:
                self._give_up("left to Slurm, where it goes on", cancel=False)
            else:
                until = time.monotonic() + self.poll_s
                while time.monotonic() < until and not stop and not self._is_complete():
                    time.sleep(0.2)
        return [self.outcomes[number] for number in range(len(self.tasks))]

    def _is_complete(self) -> bool:
        return len(self.outcomes) == len(self.tasks)

    def _look(self) -> None:
        """Take note of the tasks that have ended since the last look."""
        waiting = read_queue(self.ids)
        for number, task in enumerate(self.tasks):
            if number in self.outcomes:
                continue
            if task.paths.result_pickle.exists():
                self.outcomes[number] = read_result(task)
            elif waiting is not None and task.job_id not in waiting and self._is_late(number):
                self.outcomes[number] = explain_end(task)

    def _is_late(self, number: int) -> bool:
        import time

        since = self._gone_since.setdefault(number, time.monotonic())
        return time.monotonic() - since > _LATE_S

    def _give_up(self, words: str, *, cancel: bool) -> None:
        import sys

        from tqdm import tqdm

        from tlcnn.errors import Stopped
        from tlcnn.run.job import Outcome

        if cancel:
            run_command(["scancel", *self.ids])
        else:
            ids = " ".join(self.ids)
            words_of_farewell = f"the runs go on in Slurm; end them with: scancel {ids}"
            tqdm.write(words_of_farewell, file=sys.stderr)
        for number in range(len(self.tasks)):
            self.outcomes.setdefault(number, Outcome(Stopped.exit_code, words))


def read_result(task: Any) -> Any:
    """Return the outcome that a task has left, in a file of submitit."""
    from submitit.core.utils import pickle_load

    from tlcnn.run.job import UNEXPECTED, Outcome

    kind, value = pickle_load(task.paths.result_pickle)
    if kind == "success":
        return Outcome(**value)
    last = str(value).strip().splitlines()[-1]
    return Outcome(UNEXPECTED, f"{last}; see {task.paths.stdout}")


def explain_end(task: Any) -> Any:
    """Return the outcome of a task that ended without leaving one."""
    from tlcnn.run.job import UNEXPECTED, Outcome

    states: Mapping[str, str] = read_states(["scontrol", "--oneliner", "show", "job", task.job_id])
    state = next(iter(states.values()), "unknown")
    return Outcome(
        _ENDED_BY.get(state, UNEXPECTED),
        f"Slurm job {task.job_id} ended without a result, state {state}; run the same command "
        f"again to resume. Its output: {task.paths.stdout}",
    )
