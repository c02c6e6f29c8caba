"""hydra/launcher=pool: processes of this machine, each for many runs, one on every GPU.

JobQueue -> a thread for each slot -> its WorkerProcess, replaced when it dies -> Outcome
"""

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.tlcnn_launchers.slots import Slot, find_gpus, make_slots
from hydra_plugins.tlcnn_launchers.worker_process import WorkerProcess

_POLL_S = 0.2


@dataclass
class PoolConf:
    """How many processes, and on which GPUs.

    Attributes:
        workers: null: `per_gpu` on every GPU, or two where there is none.
        gpus: such as `[0,1]`; null: all that are visible.
        per_gpu: processes that share a GPU.
    """

    _target_: str = "hydra_plugins.tlcnn_launchers.pool.PoolLauncher"
    workers: Any = None
    gpus: Any = None
    per_gpu: Any = 1


ConfigStore.instance().store(group="hydra/launcher", name="pool", node=PoolConf, provider="tlcnn")


class PoolLauncher(Launcher):
    """Runs jobs in processes of this machine; a run that kills its process fails alone."""

    def __init__(self, workers: Any, gpus: Any, per_gpu: Any) -> None:
        self.workers, self.gpus, self.per_gpu = workers, gpus, per_gpu

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the sweep's configuration, and check our own. Raises ConfigError."""
        self.config = config
        check_count("workers", self.workers, optional=True)
        check_count("per_gpu", self.per_gpu)
        self.seats: list[Seat] = []

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and return an `Outcome` each, in order.

        Raises:
            Stopped: a signal came when every run had just finished.
        """
        from tlcnn.sweep.queue import JobQueue
        from tlcnn.training.interrupt import catch_signals

        queue = JobQueue(job_overrides, fail_fast=bool(self.config.fail_fast))
        seats = self._take_seats()[: len(job_overrides)]
        with catch_signals() as stop:
            Wave(seats, queue).run(stop)
        if not any(outcome.was_stopped for outcome in queue.outcomes):
            stop.check()
        return [
            JobReturn(overrides=list(job), status=JobStatus.COMPLETED, _return_value=outcome)
            for job, outcome in zip(job_overrides, queue.outcomes, strict=True)
        ]

    def _take_seats(self) -> "list[Seat]":
        """Return the seats, which keep their processes from one wave of a sweep to the next."""
        import sys

        from tlcnn.config.overrides import list_flags

        if not self.seats:
            flags = list_flags(sys.argv[1:])
            slots = make_slots(self.workers, self._find_gpus(), self.per_gpu)
            self.seats = [Seat(number, slot, flags) for number, slot in enumerate(slots)]
            weakref.finalize(self, _dismiss, self.seats)  # at the end of the program too
        return self.seats

    def _find_gpus(self) -> list[str] | None:
        if self.config.device in ("cpu", "mps"):
            return []
        if self.gpus is None:
            return find_gpus() or None
        one = isinstance(self.gpus, (int, str))
        return [str(gpu) for gpu in ([self.gpus] if one else self.gpus)]


def check_count(name: str, value: Any, *, optional: bool = False) -> None:
    """Raise ConfigError unless a key of a launcher is a positive integer."""
    from tlcnn.errors import ConfigError

    if (value is None and optional) or (type(value) is int and value > 0):
        return
    null = " or null" if optional else ""
    raise ConfigError(
        f"hydra.launcher.{name}={value} is not allowed: it must be an integer of at least 1{null}."
    )


class Seat:
    """A slot and the process that sits in it: started when needed, replaced when it is unsound."""

    def __init__(self, number: int, slot: Slot, flags: Sequence[str]) -> None:
        self.number, self.slot, self.flags = number, slot, flags
        self.worker: WorkerProcess | None = None

    def prepare(self) -> WorkerProcess:
        """Return a process that can be given a run."""
        if self.worker is None or not self.worker.is_sound:
            self.dismiss()
            self.worker = WorkerProcess(
                self.flags, env=self.slot.env, cores=self.slot.cores, say=self._say
            )
        return self.worker

    def _say(self, line: str) -> None:
        import sys

        from tqdm import tqdm

        tqdm.write(f"worker {self.number}: {line}", file=sys.stderr)  # not into a progress bar

    def dismiss(self) -> None:
        """End the process, if there is one that is not training."""
        if self.worker is not None:
            self.worker.dismiss()
            self.worker = None


def _dismiss(seats: Sequence[Seat]) -> None:
    for seat in seats:
        if seat.worker is not None:
            seat.worker.tell_to_stop()  # all at once, then wait
    for seat in seats:
        seat.dismiss()


class Wave:
    """The jobs of one `launch`, taken from a queue by all seats."""

    def __init__(self, seats: Sequence[Seat], queue: Any) -> None:
        self.seats, self.queue = seats, queue
        self.lock = threading.Lock()  # of the queue
        self.is_stopping = False

    def run(self, stop: Any) -> None:
        """Run until no job is left, or until a signal has stopped those that were running."""
        threads = [threading.Thread(target=self._serve, args=(seat,)) for seat in self.seats]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(_POLL_S / len(threads))
                if stop and not self.is_stopping:
                    self._stop()
        except BaseException:  # a second Ctrl-C
            self._stop()
            for seat in self.seats:
                if seat.worker is not None:
                    seat.worker.kill()
            raise

    def _stop(self) -> None:
        self.is_stopping = True
        with self.lock:
            self.queue.stop()
        for seat in self.seats:
            if seat.worker is not None:
                seat.worker.tell_to_stop()

    def _serve(self, seat: Seat) -> None:
        while job := self._take():
            outcome = self._train(seat, job[1])
            with self.lock:
                self.queue.finish(*job, outcome)

    def _take(self) -> tuple[int, list[str]] | None:
        with self.lock:
            job: tuple[int, list[str]] | None = self.queue.take()
            return job

    def _train(self, seat: Seat, overrides: Sequence[str]) -> Any:
        from tlcnn.run.job import UNEXPECTED, Outcome

        try:
            worker = seat.prepare()
        except OSError as error:
            return Outcome(UNEXPECTED, f"a process for it cannot be started: {error}")
        if self.is_stopping:  # it was started after the others were told
            worker.tell_to_stop()
        return worker.run(overrides)
