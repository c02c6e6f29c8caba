"""Decoding in processes of our own, which import nothing of the program that started them.

`multiprocessing` would either fork a process that has threads, or import its main module again,
which a script without a guard does not survive. Here a child is `python -c`, gets the images
pickled and ranges of positions through its standard input, and answers with pixels. It ends when
that input does, so when its parent is killed as well.
"""

import json
import logging
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from io import BytesIO
from queue import SimpleQueue
from types import TracebackType
from typing import Any

import numpy as np

from tlcnn.data.index import Images
from tlcnn.data.resize import decode_range

# A signal to the whole process group is the parent's to answer.
PROGRAM = """
import json, signal, sys
for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
sys.path[:] = json.loads(sys.argv[1])
from tlcnn.data.decode_process import serve
serve()
"""

MAX_JOB_BYTES = 32 * 2**20

log = logging.getLogger(__name__)


class DecodeProcesses:
    """Some processes that decode ranges of the same images; a context manager."""

    def __init__(self, images: Images, size: int, fit: str, n_processes: int) -> None:
        self._images, self._size, self._fit = images, size, fit
        self._n_processes = n_processes
        self._job = b""
        self._all: list[subprocess.Popen[bytes]] = []
        self._told: set[int] = set()  # ids of processes that have the images
        self._idle: SimpleQueue[subprocess.Popen[bytes] | None] = SimpleQueue()

    def __enter__(self) -> "DecodeProcesses":
        try:
            self._job = make_job(self._images, self._size, self._fit)
        except Exception as error:  # whatever a foreign class raises
            log.debug("images are decoded by threads, they cannot be sent: %r", error)
        for _ in range(self._n_processes):
            self._idle.put(self._start() if self._job else None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._all:
            _end(process)

    def decode(self, positions: range) -> tuple[np.ndarray, dict[int, str]]:
        """Return the chunk of a range from an idle process, or from here if that one died."""
        process = self._idle.get()
        if process is not None:
            try:
                chunk = self._ask(process, positions)
                self._idle.put(process)
                return chunk
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                log.debug("a decoding process ended early and is replaced by a thread: %r", error)
        self._idle.put(None)
        return decode_range(self._images, positions, self._size, self._fit)

    def _start(self) -> "subprocess.Popen[bytes] | None":
        command = [sys.executable, "-c", PROGRAM, json.dumps(sys.path)]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            log.debug("a decoding process cannot be started: %r", error)
            return None
        self._all.append(process)
        return process

    def _ask(
        self, process: "subprocess.Popen[bytes]", positions: range
    ) -> tuple[np.ndarray, dict[int, str]]:
        assert process.stdin is not None and process.stdout is not None
        if process.pid not in self._told:  # here and not at the start: it waits for the child
            process.stdin.write(self._job)
            self._told.add(process.pid)
        pickle.dump(positions, process.stdin)
        process.stdin.flush()
        return pickle.load(process.stdout)  # from our own child, never from a file


class _Job(BytesIO):
    """A pickle of limited size: images that lie in memory are not copied to every process."""

    def write(self, part: Any) -> int:
        if self.tell() + len(part) > MAX_JOB_BYTES:
            raise ValueError(f"more than {MAX_JOB_BYTES} bytes")
        return super().write(part)


def make_job(images: Images, size: int, fit: str) -> bytes:
    """Return what a process is told first. Raises what pickling does, and when it is large."""
    job = _Job()
    pickle.Pickler(job, protocol=5).dump((images, size, fit))
    return job.getvalue()


def _end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None and process.stdout is not None
    with suppress(OSError):  # it ended before it had read everything
        process.stdin.close()
    process.stdout.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve() -> None:
    """Answer ranges of positions from standard input until it ends. Runs in the child."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a reader prints must not stand between the answers
    questions = sys.stdin.buffer
    try:
        images, size, fit = pickle.load(questions)
        while True:
            chunk = decode_range(images, pickle.load(questions), size, fit)
            pickle.dump(chunk, answers, protocol=5)
            answers.flush()
    except BaseException:  # the end of the input, or an error that the parent will meet itself
        os._exit(0)
