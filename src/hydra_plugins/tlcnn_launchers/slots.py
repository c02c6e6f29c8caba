"""The slots of a pool: how many processes there are, and the GPU and CPU cores of each."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tlcnn.device import GPU_SHARE

CPU_WORKERS = 2


@dataclass(frozen=True)
class Slot:
    """A place for one process: variables to add to its environment, and its CPU cores."""

    env: dict[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] | None = None  # None: any


def make_slots(workers: int | None, gpus: Sequence[str] | None, per_gpu: int) -> list[Slot]:
    """Return the slots of a pool.

    All slots have the same number of cores, however many jobs there are: the last bits of a run
    depend on its number of threads.

    Args:
        workers: the number of slots; None: `per_gpu` on every GPU, or two without any.
        gpus: the names of GPUs for CUDA_VISIBLE_DEVICES; empty: none may be used; None: none is
            there.
        per_gpu: the number of processes that share a GPU.
    """
    n_slots = workers or (len(gpus) * per_gpu if gpus else CPU_WORKERS)
    groups = divide_cores(list_cores(), n_slots)
    slots = []
    for number, group in enumerate(groups):
        env = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(len(group))}
        if gpus is not None:
            env["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)] if gpus else ""
        if gpus:
            env[GPU_SHARE] = str(-(-n_slots // len(gpus)))  # of its memory, too
        slots.append(Slot(env, None if gpus else tuple(group)))
    return slots


def divide_cores(cores: Sequence[int], n_slots: int) -> list[list[int]]:
    """Return equally many cores for every slot; they share cores when there are too few.

    Example:
        >>> divide_cores([0, 1, 2, 3, 4], 2), divide_cores([0, 1], 3)
        ([[0, 1], [2, 3]], [[0], [1], [0]])
    """
    size = max(1, len(cores) // n_slots)
    return [
        [cores[(start + offset) % len(cores)] for offset in range(size)]
        for start in range(0, n_slots * size, size)
    ]


def list_cores() -> list[int]:
    """Return the CPUs that this process may use, the two threads of one core side by side."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))

    def find_position(cpu: int) -> tuple[int, int]:
        folder = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            package = int((folder / "physical_package_id").read_text())
            return package, int((folder / "core_id").read_text())
        except (OSError, ValueError):
            return 0, cpu

    return sorted(os.sched_getaffinity(0), key=find_position)


def find_gpus() -> list[str]:
    """Return the NVIDIA GPUs that a process started here would see, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        hidden = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:hidden]
    command = ["nvidia-smi", "--list-gpus"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
        count = sum(line.startswith("GPU ") for line in answer.stdout.splitlines())
    except (OSError, subprocess.SubprocessError):
        count = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    return [str(number) for number in range(count)]
