"""hydra/launcher=pool: processes of this machine, each for many runs, one on every GPU.

JobQueue -> a thread for each slot -> its WorkerProcess, replaced when it dies -> Outcome
"""

import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from hydra_plugins.tlcnn_launchers.launcher import JobLauncher, find_flags, register
from hydra_plugins.tlcnn_launchers.slots import Slot, find_gpus, make_slots
from hydra_plugins.tlcnn_launchers.worker_process import WorkerProcess
from tlcnn.errors import ConfigError
from tlcnn.run.job import UNEXPECTED, Job, Outcome
from tlcnn.text import make_visible

if TYPE_CHECKING:  # pandas: Hydra imports every plugin
    from tlcnn.sweep.queue import JobQueue

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


register("pool", PoolConf)


class PoolLauncher(JobLauncher):
    """Trains jobs in processes of this machine; a run that kills its process fails alone."""

    def __init__(self, workers: Any, gpus: Any, per_gpu: Any) -> None:
        self.workers, self.gpus, self.per_gpu = workers, gpus, per_gpu
        self.seats: list[Seat] = []

    def setup(self, **context: Any) -> None:
        """Keep the sweep's configuration. Raises ConfigError for a wrong number."""
        super().setup(**context)
        for key, null in (("workers", " or null"), ("per_gpu", "")):
            value = getattr(self, key)
            if not (value is None and null) and (type(value) is not int or value < 1):
                raise ConfigError(
                    f"hydra.launcher.{key}={value} is not allowed: it must be an integer of at "
                    f"least 1{null}."
                )

    def train(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Train the jobs and return how each ended, in their order.

        Raises Stopped for a signal that came when every run had just finished.
        """
        from tlcnn.sweep.queue import JobQueue
        from tlcnn.training.interrupt import catch_signals

        if not self.seats:  # they keep their processes from one wave of a sweep to the next
            slots = make_slots(self.workers, self._find_gpus(), self.per_gpu)
            self.seats = [Seat(number, slot) for number, slot in enumerate(slots)]
            weakref.finalize(self, _dismiss, self.seats)  # at the end of the program, too
        queue = JobQueue(jobs, fail_fast=self.fail_fast)
        seats = self.seats[: len(jobs)]
        threads = [threading.Thread(target=seat.serve, args=(queue,)) for seat in seats]
        with catch_signals() as stop:
            for thread in threads:
                thread.start()
            try:
                while any(thread.is_alive() for thread in threads):
                    for thread in threads:
                        thread.join(_POLL_S / len(threads))
                    if stop and not queue.is_stopped:
                        queue.stop()
                        _tell_to_stop(seats)
            except BaseException:  # a second Ctrl-C
                queue.stop()
                _tell_to_stop(seats)
                for seat in seats:
                    if seat.worker is not None:
                        seat.worker.kill()
                raise
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


class Seat:
    """A slot and its process, which is started when needed and replaced when it is unsound."""

    def __init__(self, number: int, slot: Slot) -> None:
        self.number, self.slot = number, slot
        self.worker: WorkerProcess | None = None

    def serve(self, queue: "JobQueue") -> None:
        """Train jobs of a queue until none is left."""
        while (entry := queue.take()) is not None:
            number, job = entry
            try:
                if self.worker is None or not self.worker.is_sound:
                    self.dismiss()
                    env, cores = self.slot.env, self.slot.cores
                    self.worker = WorkerProcess(find_flags(), env=env, cores=cores, show=self.show)
                if queue.is_stopped:  # the others were told before this one was started
                    self.worker.tell_to_stop()
                outcome = self.worker.run(job)
            except OSError as error:
                text = f"its process cannot be started: {error}"
                outcome = Outcome(UNEXPECTED, text, type(error).__name__)
            queue.finish(number, job, outcome)

    def show(self, line: str) -> None:
        """Print a line of the process above a progress bar."""
        tqdm.write(f"worker {self.number}: {make_visible(line)}", file=sys.stderr)

    def dismiss(self) -> None:
        """End the process, if there is one that is not training."""
        if self.worker is not None:
            self.worker.dismiss()
            self.worker = None


def _tell_to_stop(seats: Sequence[Seat]) -> None:
    for seat in seats:
        if seat.worker is not None:
            seat.worker.tell_to_stop()


def _dismiss(seats: Sequence[Seat]) -> None:
    _tell_to_stop(seats)  # all of them before the wait for the first
    for seat in seats:
        seat.dismiss()
