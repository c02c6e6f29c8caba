"""Run a program; note when it said what, the processor time and the most memory of its tree."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.25
_KEPT = 30  # lines of a program that failed


@dataclass(frozen=True)
class Line:
    """A line that a program wrote, with the seconds and processor seconds since its start."""

    at_s: float
    cpu_s: float
    text: str


@dataclass(frozen=True)
class Watched:
    """One program from its start to its end.

    Attributes:
        cpu_s: processor seconds of the program and all that came of it; on a shared machine they
            say more than the clock.
        peak_mib: the most that the processes of its tree held at one time; shared pages count
            once (Linux's PSS), 0 where that is not known.
    """

    wall_s: float
    cpu_s: float
    lines: list[Line]
    peak_mib: float


def watch(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    kill_at: Callable[[str], bool] | None = None,
    signal_number: signal.Signals = signal.SIGKILL,
) -> Watched:
    """Run a program to its end.

    Args:
        env: added to this process's own.
        kill_at: the first line that this is true of ends the program.
        signal_number: how: SIGKILL as a crash would, SIGTERM as a scheduler asks first.

    Raises:
        SystemExit: it failed; its last words.
    """
    started, lines, killed = time.perf_counter(), [], False
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    peak = Peak(process.pid)
    assert process.stdout is not None
    for text in process.stdout:
        at_s = time.perf_counter() - started
        lines.append(Line(at_s, read_cpu_s(process.pid), text.rstrip()))
        if kill_at is not None and not killed and kill_at(text):
            process.send_signal(signal_number)
            killed = True
    process.stdout.close()
    _, code, usage = os.wait4(process.pid, 0)  # which also tells what the program cost
    process.returncode = os.waitstatus_to_exitcode(code)
    wall_s = time.perf_counter() - started
    peak.stop()
    if process.returncode and not killed:
        last = "\n".join(line.text for line in lines[-_KEPT:])
        raise SystemExit(f"{' '.join(command)}\nended with {process.returncode}:\n{last}")
    return Watched(wall_s, usage.ru_utime + usage.ru_stime, lines, peak.mib)


class Peak:
    """Samples the memory of a tree of processes until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.mib = 0.0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End sampling."""
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self.mib = max(self.mib, sum(map(read_pss_mib, list_tree(self._pid))))


def list_tree(pid: int) -> list[int]:
    """Return a process and all that came of it and is alive."""
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += list_tree(int(child))
    except OSError:  # it has ended meanwhile, or this is not Linux
        pass
    return found


def read_cpu_s(pid: int) -> float:
    """Return the processor seconds of a process and all that came of it."""
    return sum(map(read_own_cpu_s, list_tree(pid)))


def read_own_cpu_s(pid: int) -> float:
    """Return the processor seconds of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def read_pss_mib(pid: int) -> float:
    """Return the memory of a process, with its share of pages that others have too."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) for x in text.splitlines() if x[:4] == "Pss:"), 0) / 1024


def measure_disk_mib(folder: Path) -> float:
    """Return the size of all files in a folder."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**20
