"""`python -m tlcnn.run.worker`: trains one run after the other for the process that started it.

    stdin   one JSON list of overrides a line          `["seed=0", "init=imagenet"]`
    stdout  one JSON object a line, how the run ended  `{"code": 0, "error": ""}`
    stderr  warnings, and whatever else is printed

The end of stdin is the word to stop: the run that is being trained saves, answers 75, and the
process leaves. So a launcher that is killed leaves nobody behind, on any system.
"""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from queue import SimpleQueue
from types import FrameType
from typing import TextIO

from tlcnn.config.compose import Composer
from tlcnn.errors import ConfigError, Stopped
from tlcnn.memory import Memory
from tlcnn.run.job import Outcome, run_job

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")
BEFORE_START = Outcome(Stopped.exit_code, "stopped before it began to train")


class _StopNow(BaseException):
    """Raised by a signal where no training is there to be saved; nothing may catch it."""


class Worker:
    """Trains runs in this process, one at a time; a signal stops the one and begins no other.

    Args:
        flags: of the sweep's command line, such as `--config-dir=DIR`.
    """

    def __init__(self, flags: Sequence[str] = ()) -> None:
        self.is_over = False
        self._flags = list(flags)
        self._is_busy = False
        self._memory = Memory()
        self._memory.recall("composer", "", lambda: Composer(self._flags))
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

    def run(self, overrides: Sequence[str]) -> Outcome:
        """Train the run that these overrides mean, and return how it ended."""
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        sys.argv = [
            "train.py",
            *self._flags,
            *overrides,
        ]  # what environment.json calls its command
        try:
            self._is_busy = True
            if self.is_over:  # said by a thread or a signal just before
                raise _StopNow
            outcome = run_job(overrides, self._memory)
            self._is_busy = False
        except _StopNow:
            self._is_busy = False
            outcome = BEFORE_START
        except (HydraException, OmegaConfBaseException) as error:
            self._is_busy = False
            outcome = Outcome(ConfigError.exit_code, " ".join(str(error).split()))
        self.is_over = self.is_over or outcome.was_stopped
        return outcome

    def serve(self, questions: Iterable[str], answers: TextIO) -> None:
        """Answer every line of `questions` with how that run ended."""
        reader = threading.Thread(target=self._read, args=(questions,), daemon=True)
        reader.start()
        while not self.is_over and (line := self._waiting.get()) is not None:
            outcome = self.run(json.loads(line))
            print(json.dumps(asdict(outcome)), file=answers, flush=True)

    def _read(self, questions: Iterable[str]) -> None:
        for line in questions:
            self._waiting.put(line)
        self.is_over = True
        self._waiting.put(None)
        if self._is_busy:
            _signal_main_thread()


def _signal_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        import _thread

        _thread.interrupt_main(signal.SIGTERM)


def take_stdout() -> TextIO:
    """Return standard output for this process alone; what anybody prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    if hasattr(os, "register_at_fork"):  # a child that lives on must not look like this process
        os.register_at_fork(after_in_child=lambda: os.close(answers.fileno()))
    os.dup2(2, 1)
    return answers


def speak_up() -> None:
    """Send the warnings of runs to stderr; their log.txt has everything."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(logging.WARNING)
    log = logging.getLogger("tlcnn")
    log.handlers = [handler]
    log.setLevel(logging.DEBUG)
    log.propagate = False


def main() -> None:
    """Serve standard input until it ends."""
    answers = take_stdout()
    speak_up()
    Worker(sys.argv[1:]).serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
