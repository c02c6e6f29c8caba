"""A `python -m tlcnn.run.worker` as seen by the launcher that started it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO

from tlcnn.run.job import BEFORE_START, DEVICE_FAILURE, UNEXPECTED, Job, Outcome

_LEAVE_S = 20.0  # for a process without a run to end: libraries take their time
PROGRAM = ("-m", "tlcnn.run.worker")


class WorkerProcess:
    """A process that trains one run at a time. It ends with the process that holds this value.

    Args:
        flags: the flags of the sweep's command line, such as `--config-dir=DIR`.
        env: variables to add to this process's own.
        cwd: the folder that relative paths of overrides are relative to; None: this process's.
        cores: the CPU cores it may use, where the system can restrict them; None: all.
        show: a function that gets every line that it writes to stderr; None: it writes to ours.
    """

    def __init__(
        self,
        flags: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        cores: Sequence[int] | None = None,
        show: Callable[[str], None] | None = None,
    ) -> None:
        self.is_sound = True  # whether it may be given another run
        self._is_stopping = False
        # A session of its own: Ctrl-C in a terminal reaches us alone, and we stop it in order.
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, *PROGRAM, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if show else None,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._process.pid
        if cores is not None and hasattr(os, "sched_setaffinity"):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(self.pid, cores)

        def pass_on(lines: IO[str], show: Callable[[str], None]) -> None:
            with lines:
                for line in lines:
                    show(line.rstrip("\n"))

        if show:
            lines = self._process.stderr
            threading.Thread(target=pass_on, args=(lines, show), daemon=True).start()

    def run(self, job: Job) -> Outcome:
        """Have it train a run and return the run's outcome, also when it dies of it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(OSError, ValueError):  # it has died, or was told to stop just now
            self._process.stdin.write(f"{job.to_json()}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            return self._explain_end()
        outcome = Outcome(**json.loads(line))
        breaks_process = outcome.code == UNEXPECTED or outcome.kind == DEVICE_FAILURE
        self.is_sound = not breaks_process and not outcome.was_stopped
        return outcome

    def _explain_end(self) -> Outcome:
        """Return the outcome of a run whose process ended without an answer."""
        self.is_sound = False
        code = self._process.wait()
        self._kill_group()
        if self._is_stopping:
            return BEFORE_START
        again = "run the same command again to resume"
        if code < 0:
            reason = " (out of memory, perhaps)" if code == -9 else ""
            return Outcome(128 - code, f"killed by signal {-code}{reason}; {again}", "Killed")
        return Outcome(
            code or UNEXPECTED, f"its process ended with code {code}; {again}", "Exited"
        )

    def _kill_group(self) -> None:
        """Kill the processes that a dead one has started, so that none of them writes files."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def tell_to_stop(self) -> None:
        """Have it save and leave; does not wait."""
        self._is_stopping, self.is_sound = True, False
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.close()

    def dismiss(self, patience_s: float = _LEAVE_S) -> None:
        """Tell it to stop, wait for its end, and kill it after `patience_s` seconds."""
        self.tell_to_stop()
        try:
            self._process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:  # a GPU that does not answer, perhaps
            self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def kill(self) -> None:
        """End it at once; its last checkpoint stays whole."""
        self._is_stopping, self.is_sound = True, False
        self._process.kill()
        self._process.wait()
        self._kill_group()
