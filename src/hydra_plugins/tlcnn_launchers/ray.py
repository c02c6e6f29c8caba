"""hydra/launcher=ray: every run is a task of Ray, here or on a cluster; lost ones are retried.

    ray.remote(train_in_task) -> on some node: a WorkerProcess -> an `Outcome` for every run

The process that trains ends with its Ray worker. If it ends late, the run's lock keeps the retry
waiting, so that never two processes write to one folder.
"""

import logging
import math
import os
import re
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore

from hydra_plugins.tlcnn_launchers.launcher import JobLauncher, find_flags
from hydra_plugins.tlcnn_launchers.slots import GPU_SHARE
from tlcnn.errors import ConfigError, Stopped
from tlcnn.run.job import UNEXPECTED, Job, Outcome

if TYPE_CHECKING:
    from tlcnn.training.interrupt import StopRequest

_POLL_S = 0.5
_SAVE_S = 120.0  # for runs to save when they are told to stop


@dataclass
class RayConf:
    """The cluster, and what a run needs.

    Attributes:
        address: the cluster's address, `auto` or HOST:PORT; null: a new Ray on this machine.
        cpus_per_run, gpus_per_run: what Ray reserves for a run; 0.5 GPUs: two runs share one.
        max_retries: how often a run is begun again whose node or process is lost.
        num_cpus, num_gpus: what a new Ray on this machine may use; null: all.
    """

    _target_: str = "hydra_plugins.tlcnn_launchers.ray.RayLauncher"
    address: str | None = None
    cpus_per_run: float = 1
    gpus_per_run: float = 0
    max_retries: int = 5
    num_cpus: int | None = None
    num_gpus: int | None = None


ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayConf, provider="tlcnn")


class RayLauncher(JobLauncher):
    """Trains jobs as tasks of Ray."""

    def __init__(
        self,
        address: str | None,
        cpus_per_run: float,
        gpus_per_run: float,
        max_retries: int,
        num_cpus: int | None,
        num_gpus: int | None,
    ) -> None:
        self.address = address
        self.needs = {"num_cpus": cpus_per_run, "num_gpus": gpus_per_run}
        self.max_retries = max_retries
        self.machine = {"num_cpus": num_cpus, "num_gpus": num_gpus}

    def setup(self, **context: Any) -> None:
        """Keep the sweep's configuration. Raises ConfigError without ray."""
        super().setup(**context)
        if find_spec("ray") is None:
            raise ConfigError("hydra/launcher=ray needs ray: pip install 'tlcnn[ray]'")

    def train(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Train the jobs and return how each ended, in their order."""
        import ray

        from tlcnn.training.interrupt import catch_signals

        options: Any = {"max_retries": self.max_retries, "scheduling_strategy": "SPREAD"}
        env = {key: value for key, value in os.environ.items() if key.startswith("TLCNN_")}
        if 0 < self.needs["num_gpus"] < 1:
            env[GPU_SHARE] = str(math.ceil(1 / self.needs["num_gpus"]))
        with self._connected(), catch_signals() as stop:
            remote: Any = ray.remote(**options | self.needs)(train_in_task)
            context = (find_flags(), os.getcwd(), env)
            tasks = [remote.remote(job.to_json(), *context) for job in jobs]
            return Tasks(tasks, fail_fast=bool(self.config.fail_fast)).wait(stop)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Join the cluster, or start one that ends with this block."""
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"address": self.address} if self.address else dict(self.machine)
        if not self.address:
            options |= {"include_dashboard": False}
        try:
            check_answers(self.address)
            ray.init(logging_level=logging.ERROR, **options)
        except (OSError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise ConfigError(
                f"hydra.launcher.address={self.address}: no Ray answers there ({text}). "
                "Start one with `ray start --head`, or leave the address out."
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


def check_answers(address: str | None) -> None:
    """Raise OSError when no program listens at HOST:PORT; Ray itself takes minutes for that."""
    match = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address or "")
    if match:
        socket.create_connection((match[1], int(match[2])), timeout=10).close()


def train_in_task(job: str, flags: Sequence[str], cwd: str, env: dict[str, str]) -> dict[str, Any]:
    """Train a run on a node, in a process that ends with this one. A cancelled run saves.

    Args:
        job: a `Job` as JSON.
        flags, cwd, env: as for a `WorkerProcess`.
    """
    from hydra_plugins.tlcnn_launchers.worker_process import WorkerProcess

    worker = WorkerProcess(flags, cwd=cwd, env=env)
    with ThreadPoolExecutor(1) as pool:  # so that Ray can interrupt this thread: it never blocks
        outcome = pool.submit(worker.run, Job.from_json(job))
        try:
            while not outcome.done():
                wait([outcome], timeout=_POLL_S)
        finally:  # KeyboardInterrupt: cancelled
            worker.dismiss(patience_s=_SAVE_S)
    return asdict(outcome.result())


class Tasks:
    """Tasks of Ray, until all have ended."""

    def __init__(self, tasks: Sequence[Any], *, fail_fast: bool) -> None:
        self.tasks, self.fail_fast = list(tasks), fail_fast
        self.outcomes: dict[Any, Outcome] = {}

    def wait(self, stop: "StopRequest") -> list[Outcome]:
        """Return how every task ended; a signal cancels those that have not."""
        import ray

        from tlcnn.sweep.queue import NOT_STARTED

        waiting = list(self.tasks)
        while waiting:
            ended, waiting = ray.wait(waiting, timeout=_POLL_S)
            self.outcomes |= {task: read_outcome(task) for task in ended}
            failed = any(self.outcomes[task].code for task in ended)
            if stop or (self.fail_fast and failed):
                self._cancel(waiting)
                break
        return [self.outcomes.get(task, NOT_STARTED) for task in self.tasks]

    def _cancel(self, waiting: list[Any]) -> None:
        """Have the tasks save and leave, and wait for that."""
        import ray

        if not waiting:
            return
        for task in waiting:
            ray.cancel(task, force=False)
        ended, _ = ray.wait(waiting, num_returns=len(waiting), timeout=_SAVE_S)
        self.outcomes |= {task: read_outcome(task) for task in ended}


def read_outcome(task: Any) -> Outcome:
    """Return the outcome of a task that has ended."""
    import ray

    try:
        return Outcome(**ray.get(task))
    except ray.exceptions.TaskCancelledError:
        return Outcome(Stopped.exit_code, "stopped", Stopped.__name__)
    except (ray.exceptions.RayError, OSError) as error:
        kind = type(error).__name__
        return Outcome(UNEXPECTED, f"{kind}: {' '.join(str(error).split())}", kind)
