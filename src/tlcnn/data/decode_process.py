"""Decoding in processes that import nothing of the program that started them.

`multiprocessing` would either fork a process that has threads, or import its main module again,
which fails for a script without a guard. Here a child is `python -c`. It reads the pickled
function that decodes, and then ranges of positions, from its standard input, and answers with
pixels. It ends when its input ends, so also when its parent is killed.
"""

import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from queue import SimpleQueue
from typing import Any

from tlcnn.data.resize import Chunk

# A signal to the whole process group is handled by the parent.
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

Process = subprocess.Popen[bytes]


class DecodeProcesses:
    """Some processes that decode ranges of the same images; a context manager."""

    def __init__(self, decode_here: Callable[[range], Chunk], n_processes: int) -> None:
        self._decode_here, self._n_processes = decode_here, n_processes
        self._job = b""
        self._processes: list[Process] = []
        self._ready: set[int] = set()  # ids of processes that have the images
        self._idle: SimpleQueue[Process | None] = SimpleQueue()  # None: decode here

    def __enter__(self) -> "DecodeProcesses":
        command = [sys.executable, "-c", PROGRAM, json.dumps(sys.path)]
        try:
            job = Job()
            pickle.Pickler(job, protocol=5).dump(self._decode_here)
            self._job = job.getvalue()
            for _ in range(self._n_processes):
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                self._processes.append(process)
                self._idle.put(process)
        except Exception as error:  # a foreign class may raise anything when it is pickled
            log.debug("images are decoded by threads, as processes cannot have them: %r", error)
        for _ in range(self._n_processes - len(self._processes)):
            self._idle.put(None)
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None
            with suppress(OSError):  # it ended before it had read everything
                process.stdin.close()
            process.stdout.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def decode(self, positions: range) -> Chunk:
        """Return the chunk of a range from an idle process, or decode it here if that one died."""
        process = self._idle.get()
        if process is not None:
            assert process.stdin is not None and process.stdout is not None
            try:
                if process.pid not in self._ready:  # not at the start: this waits for the child
                    process.stdin.write(self._job)
                    self._ready.add(process.pid)
                pickle.dump(positions, process.stdin)
                process.stdin.flush()
                chunk: Chunk = pickle.load(process.stdout)  # from our own child, never from a file
                self._idle.put(process)
                return chunk
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                log.debug("a decoding process ended early and is replaced by a thread: %r", error)
        self._idle.put(None)
        return self._decode_here(positions)


class Job(BytesIO):
    """The first message to a process. Images that are in memory are too large for one.

    Raises:
        ValueError: too much was written.
    """

    def write(self, part: Any) -> int:
        if self.tell() + len(part) > MAX_JOB_BYTES:
            raise ValueError(f"more than {MAX_JOB_BYTES} bytes")
        return super().write(part)


def serve() -> None:
    """Answer ranges of positions from standard input until it ends. Runs in the child."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a reader prints must not mix with the answers
    requests = sys.stdin.buffer
    try:
        decode = pickle.load(requests)
        while True:
            pickle.dump(decode(pickle.load(requests)), answers, protocol=5)
            answers.flush()
    except BaseException:  # the end of the input, or an error that the parent will meet itself
        os._exit(0)
