"""Where a run computes and in which precision, resolved by a fixed table and never by a timing."""

import os
import platform
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tlcnn.errors import ConfigError
from tlcnn.storage import remember

GPU_SHARE = "TLCNN_GPU_SHARE"  # set by the pool: the processes that share a GPU


@dataclass(frozen=True)
class Device:
    """A torch device type and whether it computes in bfloat16 natively."""

    name: str
    bf16: bool
    hardware: str

    def resolve_precision(self, wanted: str) -> str:
        """Return `bf16` or `fp32` for `auto`, else what was asked for."""
        if wanted != "auto":
            return wanted
        return "bf16" if self.bf16 else "fp32"


def find_device(wanted: str, cache_dir: Path) -> Device:
    """Return the device that `wanted` (`auto`, `cpu`, `cuda`, `mps`) means on this machine.

    The facts are remembered, so that a finished run is skipped without importing torch.

    Raises:
        ConfigError: the machine has no such device.
    """
    key = [
        find_version("torch"),
        platform.node(),
        platform.machine(),
        _cpu_model(),
        _gpu_signature(),
    ]
    has_driver = Path("/proc/driver/nvidia/version").is_file()
    found: dict[str, Any] = remember(cache_dir, "device", key, _probe)
    if has_driver and "cuda" not in found["devices"]:
        found = _probe()  # a GPU that was busy or hidden once is not missing for good
    name = found["best"] if wanted == "auto" else wanted
    if name not in found["devices"]:
        raise ConfigError(
            f"device={wanted} is not available here. Allowed: auto, {', '.join(found['devices'])}"
        )
    return Device(name=name, **found["devices"][name])


def find_room(device: Any, n_held: int = 0) -> int:
    """Return how many bytes of a device's memory this process may keep data in.

    That is half of what is free without what it keeps there, divided by the processes that share
    the device: they may start at the same time, and then all of them see the same memory free.

    Args:
        device: a torch.device.
        n_held: bytes that it keeps there now.
    """
    return (free_memory(device) + n_held) // 2 // count_sharers()


def free_memory(device: Any) -> int:
    """Return the bytes of a device that are free or held for later by torch; 0 on the CPU."""
    import torch

    if device.type == "cuda":
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + spare
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return 0


@cache  # reading it takes longer than one would think, and what is installed does not change
def find_version(package: str) -> str:
    """Return the version of an installed package."""
    return version(package)


def count_sharers() -> int:
    """Return how many processes share this one's GPU, as the launcher says."""
    said = os.environ.get(GPU_SHARE, "")
    return int(said) if said.isdigit() and int(said) else 1


def count_cores() -> int:
    """Return how many CPU cores this process may use: those it is bound to, and OMP_NUM_THREADS.

    Launchers and schedulers say by one or the other what a run's share of a machine is.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdigit() and int(wanted) else cores


def _probe() -> dict[str, Any]:
    import torch

    devices = {"cpu": {"bf16": torch.cpu._is_avx512_bf16_supported(), "hardware": _cpu_model()}}
    if torch.cuda.is_available():
        bf16 = torch.cuda.get_device_capability() >= (8, 0)
        devices["cuda"] = {"bf16": bf16, "hardware": torch.cuda.get_device_name()}
    if torch.backends.mps.is_available():
        devices["mps"] = {"bf16": False, "hardware": platform.machine()}
    best = next(name for name in ("cuda", "mps", "cpu") if name in devices)
    return {"devices": devices, "best": best}


def _gpu_signature() -> str:
    driver = Path("/proc/driver/nvidia/version")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return f"{driver.read_text() if driver.is_file() else 'no driver'} {visible}"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = info.read_text().splitlines()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), ""
    )
