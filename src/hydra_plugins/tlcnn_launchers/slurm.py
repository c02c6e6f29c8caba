"""hydra/launcher=slurm: every run is a task of a job array; preempted runs are queued again.

    submitit writes and submits the array -> `train_in_task` on a node -> its result's pickle
                 squeue lists the tasks that wait or run -> an `Outcome` for every run

The files of a submission lie in `output_dir/.slurm`. Only submitit's own pickles are read there.
"""

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from tqdm import tqdm

from hydra_plugins.tlcnn_launchers.launcher import JobLauncher, find_flags, register
from tlcnn.errors import ConfigError, Stopped
from tlcnn.run.job import UNEXPECTED, Job, Outcome, log_to_stderr
from tlcnn.text import print_text

if TYPE_CHECKING:
    from tlcnn.training.interrupt import StopRequest

_MAX_TASKS = 1000  # tasks of an array; Slurm allows 1001 by default
_LATE_S = 15.0  # a shared file system may show a result this much later than squeue its end
_ENDED_BY = {"OUT_OF_MEMORY": 137, "CANCELLED": 143, "PREEMPTED": 143, "TIMEOUT": 143}


@dataclass
class SlurmConf:
    """The options of sbatch for a run; null: the cluster's default.

    Attributes:
        timeout_min: minutes of one session; a run that needs longer is queued again and resumes.
        signal_delay_s: seconds before that end at which a run is told to save.
        array_parallelism: the number of runs at a time.
        max_requeues: how often one run may be queued again.
        setup: shell lines before the run, such as `module load cuda`.
        additional_parameters: other options of sbatch: `{reservation: mine, nice: 10}`.
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


register("slurm", SlurmConf)


class SlurmLauncher(JobLauncher):
    """Submits jobs to Slurm and waits for them; they go on when it is killed."""

    def __init__(self, max_requeues: int, poll_s: float, **options: Any) -> None:
        self.max_requeues, self.poll_s, self.options = max_requeues, poll_s, options

    def setup(self, **context: Any) -> None:
        """Keep the sweep's configuration. Raises ConfigError where there is no Slurm."""
        super().setup(**context)
        if find_spec("submitit") is None:
            raise ConfigError("hydra/launcher=slurm needs submitit: pip install 'tlcnn[slurm]'")
        if shutil.which("sbatch") is None:
            raise ConfigError("hydra/launcher=slurm: there is no sbatch here. Run it where it is.")

    def train(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Train the jobs and return how each ended, in their order."""
        import submitit

        from tlcnn.training.interrupt import catch_signals

        options: dict[str, Any] = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in self.options.items()
            if value is not None
        }
        options["time"] = options.pop("timeout_min")  # submitit's names
        if "mem_gb" in options:
            options["mem"] = f"{round(options.pop('mem_gb') * 1024)}MB"
        options["additional_parameters"] = {"requeue": True, **options["additional_parameters"]}
        output_dir = Path(self.config.output_dir).expanduser().absolute()
        with catch_signals() as stop:
            executor = submitit.SlurmExecutor(folder=str(output_dir / ".slurm" / "%j"))
            executor.update_parameters(job_name="tlcnn", stderr_to_stdout=True, **options)
            tasks: list[Any] = []
            for start in range(0, len(jobs), _MAX_TASKS):
                part = [job.to_json() for job in jobs[start : start + _MAX_TASKS]]
                flags, limits = [find_flags()] * len(part), [self.max_requeues] * len(part)
                tasks += executor.map_array(train_in_task, part, flags, limits)
            return wait_for_tasks(tasks, stop, self.poll_s, fail_fast=self.fail_fast)


# ---------------------------------------------------------------------------------- on a node


def train_in_task(job: str, flags: Sequence[str], max_requeues: int) -> dict[str, Any]:
    """Train a run in the process that submitit has started on a node.

    When it is told to stop, it saves and asks Slurm to be queued again. It then leaves no result,
    so that the launcher goes on waiting. `job` is a `Job` as JSON.
    """
    share = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    os.environ.setdefault("OMP_NUM_THREADS", share or "1")
    from tlcnn.run.worker import Worker

    log_to_stderr(logging.WARNING)  # a run's log.txt holds everything
    outcome = Worker(flags).run(Job.from_json(job))
    if outcome.was_stopped and queue_again(max_requeues):
        os._exit(outcome.code)
    if outcome.was_stopped:
        print_text(f"tlcnn: not queued again: {outcome.error}", flush=True)
    return asdict(outcome)


def queue_again(max_requeues: int) -> bool:
    """Ask Slurm to queue this task again, and return whether it is queued or being ended.

    A task that is preempted or near its time limit is in state RUNNING. In any other state Slurm
    has decided already: the task is being queued again, or it was cancelled.
    """
    # SLURM_JOB_ID of an array's last task means the whole array to scontrol
    job_id = "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format_map(os.environ)
    if read_state(job_id) not in ("RUNNING", ""):
        return True
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= max_requeues:
        return False
    code, _, error = run_command("scontrol", "requeue", job_id)
    if code:
        print_text(f"tlcnn: scontrol requeue {job_id}: {error}", flush=True)
    return code == 0


# ------------------------------------------------------------------------------ the launcher


def run_command(*command: str) -> tuple[int, str, str]:
    """Return the exit code, output and errors of one of Slurm's commands."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        return 1, "", str(error)
    return answer.returncode, answer.stdout, answer.stderr


def read_state(job_id: str) -> str:
    """Return the state of a task, such as `RUNNING`; empty when Slurm does not know it."""
    _, out, _ = run_command("scontrol", "--oneliner", "show", "job", job_id)
    fields = [word.partition("=") for line in out.splitlines()[:1] for word in line.split()]
    return next((value for key, _, value in fields if key == "JobState"), "")


def read_queue(array_ids: Sequence[str]) -> set[str] | None:
    """Return the ids of the tasks that wait or run; None when Slurm does not answer."""
    waiting: set[str] = set()
    for array_id in array_ids:
        code, out, error = run_command(
            "squeue", "--noheader", "--array", "--format=%i", f"--jobs={array_id}"
        )
        if code and "Invalid job id" not in error:  # this error means that it ended long ago
            return None
        waiting |= set(out.split())
    return waiting


def wait_for_tasks(
    tasks: Sequence[Any], stop: "StopRequest", poll_s: float, *, fail_fast: bool
) -> list[Outcome]:
    """Return how every task of submitit ended, when all have.

    A signal ends the waiting, and the tasks go on. With `fail_fast` a failure cancels the others.
    """
    array_ids = list(dict.fromkeys(task.job_id.split("_")[0] for task in tasks))
    outcomes: dict[int, Outcome] = {}
    missing_since: dict[int, float] = {}  # of tasks that are not in the queue any more
    text = ""
    while len(outcomes) < len(tasks) and not text:
        queue = read_queue(array_ids)
        for number, task in enumerate(tasks):
            if number in outcomes:
                continue
            if task.paths.result_pickle.exists():
                outcomes[number] = read_result(task)
            elif queue is not None and task.job_id not in queue:
                since = missing_since.setdefault(number, time.monotonic())
                if time.monotonic() - since > _LATE_S:
                    outcomes[number] = explain_end(task)
        if fail_fast and any(outcome.code for outcome in outcomes.values()):
            run_command("scancel", *array_ids)
            text = "cancelled, because another run failed"
        elif stop:
            hint = f"the runs go on in Slurm; end them with: scancel {' '.join(array_ids)}"
            tqdm.write(hint, file=sys.stderr)
            text = "left to Slurm, where it goes on"
        until = time.monotonic() + poll_s
        while not (text or stop or len(outcomes) == len(tasks)) and time.monotonic() < until:
            time.sleep(0.2)
    unfinished = Outcome(Stopped.exit_code, text, Stopped.__name__)
    return [outcomes.get(number, unfinished) for number in range(len(tasks))]


def read_result(task: Any) -> Outcome:
    """Return the outcome that a task has left, in a file of submitit."""
    from submitit.core.utils import pickle_load

    kind, value = pickle_load(task.paths.result_pickle)
    if kind == "success":
        return Outcome(**value)
    last = str(value).strip().splitlines()[-1]
    return Outcome(UNEXPECTED, f"{last}; see {task.paths.stdout}", "TaskFailed")


def explain_end(task: Any) -> Outcome:
    """Return the outcome of a task that ended without leaving one."""
    state = read_state(task.job_id) or "unknown"
    return Outcome(
        _ENDED_BY.get(state, UNEXPECTED),
        f"Slurm job {task.job_id} ended without a result, state {state}; run the same command "
        f"again to resume. Its output: {task.paths.stdout}",
        state,
    )
