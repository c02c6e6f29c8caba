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

from hydra_plugins.tlcnn_launchers.launcher import JobLauncher, find_flags, register
from tlcnn.device import GPU_SHARE
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


register("ray", RayConf)


class RayLauncher(JobLauncher):
    """Trains jobs as tasks of Ray."""

    def __init__(self, **options: Any) -> None:
        self.options = RayConf(**options)

    def setup(self, **context: Any) -> None:
        """Keep the sweep's configuration. Raises ConfigError without ray."""
        super().setup(**context)
        if find_spec("ray") is None:
            raise ConfigError("hydra/launcher=ray needs ray: pip install 'tlcnn[ray]'")

    def train(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Train the jobs and return how each ended, in their order."""
        import ray

        from tlcnn.training.interrupt import catch_signals

        env = {key: value for key, value in os.environ.items() if key.startswith("TLCNN_")}
        n_gpus = self.options.gpus_per_run
        if 0 < n_gpus < 1:
            env[GPU_SHARE] = str(math.ceil(1 / n_gpus))
        with self._connected(), catch_signals() as stop:
            remote: Any = ray.remote(
                num_cpus=self.options.cpus_per_run,
                num_gpus=n_gpus,
                max_retries=self.options.max_retries,
                scheduling_strategy="SPREAD",
            )(train_in_task)
            context = (find_flags(), os.getcwd(), env)
            tasks = [remote.remote(job.to_json(), *context) for job in jobs]
            return wait_for_tasks(tasks, stop, fail_fast=self.fail_fast)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Join the cluster, or start one that ends with this block."""
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = self.options.address
        options: dict[str, Any] = {"address": address}
        if not address:
            machine = {"num_cpus": self.options.num_cpus, "num_gpus": self.options.num_gpus}
            options = {**machine, "include_dashboard": False}
        try:
            match = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address or "")
            if match:  # Ray itself takes minutes to see that nothing listens there
                socket.create_connection((match[1], int(match[2])), timeout=10).close()
            ray.init(logging_level=logging.ERROR, **options)
        except (OSError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise ConfigError(
                f"hydra.launcher.address={address}: no Ray answers there ({text}). "
                "Start one with `ray start --head`, or leave the address out."
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


def train_in_task(job: str, flags: Sequence[str], cwd: str, env: dict[str, str]) -> dict[str, Any]:
    """Train a run, a `Job` as JSON, in a process that ends with this one; if cancelled, it saves.

    The other arguments are those of a `WorkerProcess`.
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


def wait_for_tasks(tasks: list[Any], stop: "StopRequest", *, fail_fast: bool) -> list[Outcome]:
    """Return how every task ended; a signal, or a failure with `fail_fast`, cancels the others."""
    import ray

    from tlcnn.sweep.queue import NOT_STARTED

    outcomes: dict[Any, Outcome] = {}
    waiting = tasks
    while waiting:
        ended, waiting = ray.wait(waiting, timeout=_POLL_S)
        outcomes |= {task: read_outcome(task) for task in ended}
        if waiting and (stop or (fail_fast and any(outcomes[task].code for task in ended))):
            for task in waiting:
                ray.cancel(task, force=False)  # it saves and leaves
            ended, _ = ray.wait(waiting, num_returns=len(waiting), timeout=_SAVE_S)
            outcomes |= {task: read_outcome(task) for task in ended}
            break
    return [outcomes.get(task, NOT_STARTED) for task in tasks]


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
