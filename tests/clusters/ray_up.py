"""A Ray cluster of two nodes on this machine's loopback, for tests.

    python tests/clusters/ray_up.py FOLDER      # prints what to export; Ctrl-C ends it

Token authentication is on, as it is by default in new versions of Ray: whoever can reach a Ray
without it can run anything on the machine.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

RAY = (sys.executable, "-m", "ray.scripts.scripts")


@dataclass(frozen=True)
class RayCluster:
    """A head and a second node, each with one CPU.

    Attributes:
        env: in which drivers find and may enter the cluster.
        address: of the head.
        second: the process that started the second node's raylet, and is its parent.
    """

    env: dict[str, str]
    address: str
    second: int


@contextmanager
def ray_cluster(folder: Path) -> Iterator[RayCluster]:
    """Yield a running cluster; ends every process that it started."""
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    port = find_port()
    env = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    # 127.0.0.2 makes the second node another host to Ray: a driver joins the head's raylet
    options = [
        ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"],
        [f"--address=127.0.0.1:{port}", "--node-ip-address=127.0.0.2"],
    ]
    with ExitStack() as stack:
        pids = []
        for number, words in enumerate(options):
            command = [*RAY, "start", "--block", "--num-cpus=1", *words]
            pids.append(stack.enter_context(running(command, folder / f"node{number}.out", env)))
            wait_for(lambda n=number: count_nodes(port, env) > n, "node", folder)
        yield RayCluster(env, f"127.0.0.1:{port}", pids[1])


@contextmanager
def running(command: list[str], log: Path, env: dict[str, str]) -> Iterator[int]:
    """Run a program and yield its id; in the end kill it and all that descends from it."""
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            start_new_session=True,
        )
    seen: set[int] = set()
    try:
        yield process.pid
    finally:
        seen |= set(list_descendants(process.pid))
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in seen:
            kill(pid, signal.SIGKILL)


def list_descendants(pid: int) -> list[int]:
    """Return the ids of all processes below one, itself left out."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it has just ended
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def read_command(pid: int) -> str:
    """Return a process's command line, or nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def kill(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def count_nodes(port: int, env: dict[str, str]) -> int:
    """Return how many nodes the cluster says are alive."""
    told = subprocess.run(
        [*RAY, "status", f"--address=127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )
    active = told.stdout.split("Active:")[-1].split("Pending:")[0]
    return active.count(" node_") if "Active:" in told.stdout else 0


def wait_for(condition, what: str, folder: Path, seconds: float = 90) -> None:
    """Wait, or fail with what the nodes said."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            tails = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.out"))
            raise TimeoutError(f"no {what} after {seconds} s\n{tails}")
        time.sleep(0.5)


def find_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that either ends all of it
    with suppress(KeyboardInterrupt), ray_cluster(Path(sys.argv[1]).absolute()) as cluster:
        for name, value in cluster.env.items():
            print(f"export {name}={value}")
        print(f"# hydra/launcher=ray hydra.launcher.address={cluster.address}", flush=True)
        signal.pause()
