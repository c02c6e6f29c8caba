"""hydra/launcher=ray: every run is a task of Ray, here or on a cluster; lost ones are retried.

    ray.remote(train_in_task) -> on some node: a WorkerProcess -> an `Outcome` for every run

The process that trains ends with its Ray worker. Should it be late in doing so, the run's lock
keeps the retry waiting: nobody ever writes beside it.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.tlcnn_launchers.slots import GPU_SHARE

_POLL_S = 0.5
_SAVE_S = 120.0  # that runs are given to save when they are told to stop


@dataclass
class RayConf:
    """Where, and what a run is given.

    Attributes:
        address: of a cluster, `auto` or HOST:PORT; null: a Ray of our own on this machine.
        cpus_per_run, gpus_per_run: that Ray sets aside for a run; 0.5 GPUs: two runs share one.
        max_retries: of a run whose node or process is lost.
        num_cpus, num_gpus: of a Ray of our own; null: all.
    """

    _target_: str = "hydra_plugins.tlcnn_launchers.ray.RayLauncher"
    address: str | None = None
    cpus_per_run: float = 1
    gpus_per_run: float = 0
    max_retries: int = 5
    num_cpus: int | None = None
    num_gpus: int | None = None


ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayConf, provider="tlcnn")


class RayLauncher(Launcher):
    """Runs jobs as tasks of Ray."""

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

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the sweep's configuration. Raises ConfigError without ray."""
        from importlib.util import find_spec

        from tlcnn.errors import ConfigError

        self.config = config
        if find_spec("ray") is None:
            raise ConfigError("hydra/launcher=ray needs ray: pip install 'tlcnn[ray]'")

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and return an `Outcome` each, in order."""
        from tlcnn.training.interrupt import catch_signals

        with self._connected(), catch_signals() as stop:
            tasks = self._start([list(job) for job in job_overrides])
            outcomes = Tasks(tasks, fail_fast=bool(self.config.fail_fast)).wait(stop)
        return [
            JobReturn(overrides=list(job), status=JobStatus.COMPLETED, _return_value=outcome)
            for job, outcome in zip(job_overrides, outcomes, strict=True)
        ]

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Join the cluster, or start one; the one that we started ends with us."""
        import logging
        import os

        import ray

        from tlcnn.errors import ConfigError

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no message to anybody
        options: dict[str, Any] = {"address": self.address} if self.address else dict(self.machine)
        if not self.address:
            options |= {"include_dashboard": False}
        try:
            check_answers(self.address)
            ray.init(logging_level=logging.ERROR, **options)
        except (OSError, RuntimeError) as error:
            words = " ".join(str(error).split())
            raise ConfigError(
                f"hydra.launcher.address={self.address}: no Ray answers there ({words}). "
                "Start one with `ray start --head`, or leave the address out."
            ) from error
        try:
            yield
        finally:
            ray.shutdown()

    def _start(self, jobs: list[list[str]]) -> list[Any]:
        """Hand the jobs to Ray and return its references to their outcomes."""
        import os
        import sys

        import ray

        from tlcnn.config.overrides import list_flags

        options: Any = {"max_retries": self.max_retries, "scheduling_strategy": "SPREAD"}
        remote: Any = ray.remote(**options | self.needs)(train_in_task)
        flags, cwd = list_flags(sys.argv[1:]), os.getcwd()
        env = {key: value for key, value in os.environ.items() if key.startswith("TLCNN_")}
        if 0 < self.needs["num_gpus"] < 1:
            env[GPU_SHARE] = str(math.ceil(1 / self.needs["num_gpus"]))
        return [remote.remote(job, flags, cwd, env) for job in jobs]


def check_answers(address: str | None) -> None:
    """Raise OSError when nobody listens at HOST:PORT; Ray itself takes minutes to say so."""
    import re
    import socket

    found = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address or "")
    if found:
        socket.create_connection((found[1], int(found[2])), timeout=10).close()


def train_in_task(
    overrides: Sequence[str], flags: Sequence[str], cwd: str, env: dict[str, str]
) -> dict[str, Any]:
    """Train a run on a node, in a process that ends with this one. A cancelled run saves."""
    from concurrent.futures import ThreadPoolExecutor, wait
    from dataclasses import asdict

    from hydra_plugins.tlcnn_launchers.worker_process import WorkerProcess

    worker = WorkerProcess(flags, cwd=cwd, env=env)
    with ThreadPoolExecutor(1) as pool:  # so that Ray can interrupt this thread: it never blocks
        outcome = pool.submit(worker.run, overrides)
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
        self.outcomes: dict[Any, Any] = {}

    def wait(self, stop: Any) -> list[Any]:
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


def read_outcome(task: Any) -> Any:
    """Return the outcome of a task that has ended."""
    import ray

    from tlcnn.errors import Stopped
    from tlcnn.run.job import UNEXPECTED, Outcome

    try:
        return Outcome(**ray.get(task))
    except ray.exceptions.TaskCancelledError:
        return Outcome(Stopped.exit_code, "stopped")
    except (ray.exceptions.RayError, OSError) as error:
        words = " ".join(str(error).split())
        return Outcome(UNEXPECTED, f"{type(error).__name__}: {words}")
