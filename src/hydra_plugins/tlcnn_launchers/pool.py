"""hydra/launcher=pool: processes of this machine, each for many runs, one on every GPU.

JobQueue -> a thread for each slot -> its WorkerProcess, replaced when it dies -> Outcome
"""

import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from tqdm import tqdm

from hydra_plugins.tlcnn_launchers.launcher import JobLauncher, find_flags
from hydra_plugins.tlcnn_launchers.slots import Slot, find_gpus, make_slots
from hydra_plugins.tlcnn_launchers.worker_process import WorkerProcess
from tlcnn.errors import ConfigError
from tlcnn.run.job import UNEXPECTED, Job, Outcome

if TYPE_CHECKING:  # they need pandas, and Hydra imports every plugin
    from tlcnn.sweep.queue import JobQueue
    from tlcnn.training.interrupt import StopRequest

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


class PoolLauncher(JobLauncher):
    """Trains jobs in processes of this machine; a run that kills its process fails alone."""

    def __init__(self, workers: Any, gpus: Any, per_gpu: Any) -> None:
        self.workers, self.gpus, self.per_gpu = workers, gpus, per_gpu
        self.seats: list[Seat] = []

    def setup(self, **context: Any) -> None:
        """Keep the sweep's configuration. Raises ConfigError for a wrong number."""
        super().setup(**context)
        check_count("workers", self.workers, optional=True)
        check_count("per_gpu", self.per_gpu)

    def train(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Train the jobs and return how each ended, in their order.

        Raises:
            Stopped: a signal came when every run had just finished.
        """
        from tlcnn.sweep.queue import JobQueue
        from tlcnn.training.interrupt import catch_signals

        if not self.seats:  # they keep their processes from one wave of a sweep to the next
            slots = make_slots(self.workers, self._find_gpus(), self.per_gpu)
            self.seats = [Seat(number, slot, find_flags()) for number, slot in enumerate(slots)]
            weakref.finalize(self, _dismiss, self.seats)  # at the end of the program, too
        queue = JobQueue(jobs, fail_fast=bool(self.config.fail_fast))
        with catch_signals() as stop:
            Wave(self.seats[: len(jobs)], queue).run(stop)
        if not any(outcome.was_stopped for outcome in queue.outcomes):
            stop.check()
        return queue.outcomes

    def _find_gpus(self) -> list[str] | None:
        if self.config.device in ("cpu", "mps"):
            return []
        if self.gpus is None:
            return find_gpus() or None
        is_single = isinstance(self.gpus, (int, str))
        return [str(gpu) for gpu in ([self.gpus] if is_single else self.gpus)]


def check_count(name: str, value: Any, *, optional: bool = False) -> None:
    """Raise ConfigError unless a key of a launcher is a positive integer."""
    if (value is None and optional) or (type(value) is int and value > 0):
        return
    null = " or null" if optional else ""
    raise ConfigError(
        f"hydra.launcher.{name}={value} is not allowed: it must be an integer of at least 1{null}."
    )


class Seat:
    """A slot and its process, which is started when needed and replaced when it is unsound."""

    def __init__(self, number: int, slot: Slot, flags: Sequence[str]) -> None:
        self.number, self.slot, self.flags = number, slot, flags
        self.worker: WorkerProcess | None = None

    def prepare(self) -> WorkerProcess:
        """Return a process that can train. Raises OSError when none can be started."""

        def show(line: str) -> None:
            tqdm.write(f"worker {self.number}: {line}", file=sys.stderr)  # above a progress bar

        if self.worker is None or not self.worker.is_sound:
            self.dismiss()
            self.worker = WorkerProcess(
                self.flags, env=self.slot.env, cores=self.slot.cores, show=show
            )
        return self.worker

    def dismiss(self) -> None:
        """End the process, if there is one that is not training."""
        if self.worker is not None:
            self.worker.dismiss()
            self.worker = None


def _dismiss(seats: Sequence[Seat]) -> None:
    for seat in seats:
        if seat.worker is not None:
            seat.worker.tell_to_stop()  # all of them before the wait for the first
    for seat in seats:
        seat.dismiss()


class Wave:
    """The jobs of one `train`, taken from a queue by all seats."""

    def __init__(self, seats: Sequence[Seat], queue: "JobQueue") -> None:
        self.seats, self.queue = seats, queue
        self.lock = threading.Lock()  # of the queue
        self.is_stopping = False

    def run(self, stop: "StopRequest") -> None:
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
        """Train jobs in a seat's process until none is left."""
        while True:
            with self.lock:
                entry = self.queue.take()
            if entry is None:
                return
            number, job = entry
            try:
                worker = seat.prepare()
                if self.is_stopping:  # the others were stopped before it was started
                    worker.tell_to_stop()
                outcome = worker.run(job)
            except OSError as error:
                text = f"its process cannot be started: {error}"
                outcome = Outcome(UNEXPECTED, text, type(error).__name__)
            with self.lock:
                self.queue.finish(number, job, outcome)
