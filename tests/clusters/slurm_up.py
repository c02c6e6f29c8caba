"""A Slurm cluster of two nodes on this machine, for tests; needs root and Slurm's programs.

    apt-get install slurmctld slurmd slurm-client munge
    python tests/clusters/slurm_up.py FOLDER      # prints SLURM_CONF; Ctrl-C ends it

Nothing outside FOLDER is touched, and no running munge or Slurm is used.
"""

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")

CONF = """
ClusterName=tlcnn
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,requeue_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=10
MinJobAge=300
MaxArraySize=1001
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=1000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=1000
PartitionName=main Nodes=n1,n2 Default=YES PriorityTier=1 GraceTime=20 State=UP MaxTime=60
PartitionName=high Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF State=UP MaxTime=60
"""


def find_missing() -> str | None:
    """Return why no cluster can be started here, or None when it can."""
    missing = [name for name in PROGRAMS if find_program(name) is None]
    if missing:
        return f"needs {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "needs root"


def find_program(name: str) -> str | None:
    """Return a program's path, also from where users have no PATH."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment in which Slurm's commands speak to a cluster of our own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").mkdir(exist_ok=True)
    conf = folder / "slurm.conf"
    host = platform.node().split(".")[0]
    conf.write_text(CONF.format(folder=folder, host=host, ports=find_ports(3)))
    env = {"SLURM_CONF": str(conf)}
    with ExitStack() as stack:
        stack.enter_context(running(make_munge_command(folder), folder / "munged.out", env))
        wait_for((folder / "munge.socket").exists, "munged", folder)
        daemons = [["slurmctld", "-D", "-i"], *(["slurmd", "-D", "-N", n] for n in ("n1", "n2"))]
        for number, command in enumerate(daemons):
            stack.enter_context(running(command, folder / f"daemon{number}.out", env))
        wait_for(lambda: count_idle(env) == 2, "two idle nodes", folder)
        try:
            yield env
        finally:  # jobs would outlive the daemons
            ask(env, "scancel", "--partition=main,high")
            wait_for(lambda: not ask(env, "squeue", "--noheader"), "empty queue", folder)


def make_munge_command(folder: Path) -> list[str]:
    """Return the command of a munged of our own, with a fresh key."""
    key = folder / "munge.key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munge.pid"}
    files |= {"log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}
    return ["munged", "--foreground", "--force", *(f"--{k}={path}" for k, path in files.items())]


@contextmanager
def running(command: list[str], log: Path, env: dict[str, str]) -> Iterator[None]:
    """Run a daemon in the foreground, as a child, and end it."""
    program = find_program(command[0])
    assert program is not None
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def count_idle(env: dict[str, str]) -> int:
    """Return how many nodes wait for work."""
    return ask(env, "sinfo", "--noheader", "--Node", "--partition=main", "--format=%T").count(
        "idle"
    )


def ask(env: dict[str, str], *command: str) -> list[str]:
    """Return the words that one of Slurm's commands answers, none when it fails."""
    told = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    return told.stdout.split()


def wait_for(condition, what: str, folder: Path, seconds: float = 60) -> None:
    """Wait, or fail with the ends of the daemons' logs."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = [*folder.glob("*.log"), *folder.glob("*.out")]
            tails = "\n".join(f"--- {p.name}\n{p.read_text()[-1500:]}" for p in logs)
            raise TimeoutError(f"no {what} after {seconds} s\n{tails}")
        time.sleep(0.2)


def find_ports(n: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    why = find_missing()
    if why:
        sys.exit(why)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that either ends all of it
    with suppress(KeyboardInterrupt), slurm_cluster(Path(sys.argv[1]).absolute()) as found:
        print(f"export SLURM_CONF={found['SLURM_CONF']}", flush=True)
        signal.pause()
