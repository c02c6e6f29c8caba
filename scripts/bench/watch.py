"""Run a program, and note when it wrote each line and how much processor time that took."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

N_LAST_LINES = 30  # of a program that failed


@dataclass(frozen=True)
class Line:
    """A line that a program wrote.

    Attributes:
        at_s: seconds since the program was started.
        cpu_s: processor seconds that the program and its children had used by then.
    """

    at_s: float
    cpu_s: float
    text: str


@dataclass(frozen=True)
class Watched:
    """One program from its start to its end.

    Attributes:
        cpu_s: processor seconds of the program and its children.
        peak_mib: the largest memory of its process tree at one of its lines; pages that processes
            share count once (Linux's PSS).
        largest_mib: the largest resident set that one of its processes ever had.
    """

    wall_s: float
    cpu_s: float
    lines: list[Line]
    peak_mib: float
    largest_mib: float

    def find(self, beginning: str) -> list[Line]:
        """Return the lines that begin with a text."""
        return [line for line in self.lines if line.text.startswith(beginning)]


def watch(
    *arguments: str,
    kill_at: str | None = None,
    signal_number: signal.Signals = signal.SIGKILL,
) -> Watched:
    """Run Python with arguments to its end.

    Args:
        kill_at: the first line that begins with this text ends the program.
        signal_number: the signal that ends it then.

    Raises:
        SystemExit: the program failed; its last lines.
    """
    command = [sys.executable, *arguments]
    start_s = time.perf_counter()
    lines: list[Line] = []
    is_killed, peak_mib = False, 0.0
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for text in process.stdout:
        at_s = time.perf_counter() - start_s
        pids = list_processes(process.pid)
        lines.append(Line(at_s, read_cpu_s(pids), text.rstrip()))
        peak_mib = max(peak_mib, sum(map(_read_memory_mib, pids)))
        if kill_at is not None and not is_killed and text.startswith(kill_at):
            process.send_signal(signal_number)
            is_killed = True
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - start_s
    if process.returncode and not is_killed:
        last = "\n".join(line.text for line in lines[-N_LAST_LINES:])
        raise SystemExit(f"{' '.join(command)}\nended with {process.returncode}:\n{last}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Watched(wall_s, cpu_s, lines, peak_mib, usage.ru_maxrss / 1024)


def list_processes(pid: int) -> list[int]:
    """Return a process and all living processes that it started, directly or not."""
    pids = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                pids += list_processes(int(child))
    except OSError:  # it has ended meanwhile, or this is not Linux
        pass
    return pids


def read_cpu_s(pids: Iterable[int]) -> float:
    """Return the processor seconds of processes and of their children that have ended."""
    n_ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            n_ticks += sum(map(int, fields[11:15]))
    return n_ticks / os.sysconf("SC_CLK_TCK")


def _read_memory_mib(pid: int) -> float:
    """Return the memory of a process, with its share of the pages that others use too."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0) / 1024


def measure_disk_mib(folder: Path) -> float:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
