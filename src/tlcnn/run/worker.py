"""`python -m tlcnn.run.worker`: trains one run after the other for the process that started it.

    stdin   one `Job` a line, as JSON          `{"overrides": ["seed=0", "init=imagenet"], ...}`
    stdout  one `Outcome` a line, as JSON      `{"code": 0, "error": "", "kind": ""}`
    stderr  warnings, and whatever else is printed

The end of stdin means stop: the run that is being trained saves, answers 75, and the process
ends. So a launcher that is killed leaves no process behind, on any system.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from queue import SimpleQueue
from types import FrameType
from typing import TextIO

from tlcnn.config.compose import make_memory
from tlcnn.run.job import BEFORE_START, Job, Outcome, log_to_stderr, run_job

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")


class _StopNow(BaseException):
    """Raised by a signal while there is no training to be saved; nothing may catch it."""


class Worker:
    """Trains runs in this process, one at a time; a signal stops the one and begins no other."""

    def __init__(self, flags: Sequence[str] = ()) -> None:
        self.is_over = False
        self._flags = list(flags)
        self._is_busy = False
        self._memory = make_memory(flags)
        self._waiting: SimpleQueue[str | None] = SimpleQueue()
        for name in SIGNALS:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Answer a signal outside of training; inside, `run` has handlers of its own."""
        self.is_over = True
        self._waiting.put(None)
        if self._is_busy:
            self._is_busy = False
            raise _StopNow

    def run(self, job: Job) -> Outcome:
        """Train what a job asks for, and return how it ended."""
        sys.argv = ["train.py", *self._flags, *job.overrides]  # for environment.json
        try:
            self._is_busy = True
            if self.is_over:  # set by a thread or a signal just before
                raise _StopNow
            outcome = run_job(job, self._memory)
            self._is_busy = False  # in here, where a signal may still raise
        except _StopNow:
            self._is_busy = False
            outcome = BEFORE_START
        self.is_over = self.is_over or outcome.was_stopped
        return outcome

    def serve(self, jobs: Iterable[str], answers: TextIO) -> None:
        """Train the job of every line and write its outcome as a line."""

        def read() -> None:
            for line in jobs:
                self._waiting.put(line)
            self.is_over = True
            self._waiting.put(None)
            if not self._is_busy:
                return
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            else:
                import _thread

                _thread.interrupt_main(signal.SIGTERM)

        threading.Thread(target=read, daemon=True).start()
        while not self.is_over and (line := self._waiting.get()) is not None:
            answers.write(f"{self.run(Job.from_json(line)).to_json()}\n")
            answers.flush()


def main() -> None:
    """Serve standard input until it ends; stdout is for answers, and prints go to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    if hasattr(os, "register_at_fork"):  # else a child keeps the pipe open
        os.register_at_fork(after_in_child=lambda: os.close(answers.fileno()))
    os.dup2(2, 1)
    log_to_stderr(logging.WARNING)  # a run's log.txt holds everything
    Worker(sys.argv[1:]).serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
