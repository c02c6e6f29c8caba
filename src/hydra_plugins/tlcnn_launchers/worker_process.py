"""A `python -m tlcnn.run.worker` as seen by the launcher that started it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

STOPPED, UNEXPECTED = 75, 70  # as in tlcnn.errors and tlcnn.run.job, which would be slow to import
_LEAVE_S = 20.0  # to end without a run: the libraries' own farewells


PROGRAM = ("-m", "tlcnn.run.worker")


class WorkerProcess:
    """A process that trains one run at a time. It ends with the process that holds this value.

    Args:
        flags: of the sweep's command line, such as `--config-dir=DIR`.
        env: variables to add to this process's own.
        cwd: folder that relative paths of overrides are relative to; None: this process's.
        cores: CPU cores it may use, where the system can restrict them; None: all.
        say: told every line that it writes to stderr; None: it writes to ours.
    """

    def __init__(
        self,
        flags: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        cores: Sequence[int] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.is_sound = True  # whether it may be given another run
        self._is_told = False
        # A session of its own: Ctrl-C in a terminal reaches us alone, and we stop it in order.
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, *PROGRAM, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if say else None,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        if cores is not None and hasattr(os, "sched_setaffinity"):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(self._process.pid, cores)
        if say:
            self._pass_on(say)

    def _pass_on(self, say: Callable[[str], None]) -> None:
        def read(lines: IO[str]) -> None:
            with lines:
                for line in lines:
                    say(line.rstrip("\n"))

        threading.Thread(target=read, args=(self._process.stderr,), daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def run(self, overrides: Sequence[str]) -> Any:
        """Have it train a run and return the run's `Outcome`, also when it dies of it."""
        from tlcnn.run.job import Outcome

        answer = self._ask(json.dumps(list(overrides)))
        if answer is None:
            return self._explain_end()
        outcome = Outcome(**answer)
        self.is_sound = outcome.code not in (UNEXPECTED, STOPPED) and "CUDA" not in outcome.error
        return outcome

    def _ask(self, question: str) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(f"{question}\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # it has died, or was told to stop just now
            pass
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def _explain_end(self) -> Any:
        """Return the outcome of a run whose process ended without an answer."""
        from tlcnn.run.job import Outcome

        self.is_sound = False
        code = self._process.wait()
        self._kill_group()
        if self._is_told:
            return Outcome(STOPPED, "stopped before it began to train")
        again = "run the same command again to resume"
        if code < 0:
            why = " (out of memory, perhaps)" if code == -9 else ""
            return Outcome(128 - code, f"killed by signal {-code}{why}; {again}")
        return Outcome(code or UNEXPECTED, f"its process ended with code {code}; {again}")

    def _kill_group(self) -> None:
        """Kill what a dead process leaves behind, so that nobody writes for it."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def tell_to_stop(self) -> None:
        """Have it save and leave; does not wait."""
        self._is_told, self.is_sound = True, False
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.close()

    def dismiss(self, patience_s: float = _LEAVE_S) -> None:
        """Tell it to stop and wait for that, but not for ever.

        Args:
            patience_s: after which it is killed; a process that is training needs time to save.
        """
        self.tell_to_stop()
        try:
            self._process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:  # a GPU that does not answer, perhaps
            self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def kill(self) -> None:
        """End it at once; what it has not saved is lost, and what it has is whole."""
        self._is_told, self.is_sound = True, False
        self._process.kill()
        self._process.wait()
        self._kill_group()
