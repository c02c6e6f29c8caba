"""The device and the precision of a run: from a fixed table, never from a timing."""

import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlcnn.errors import ConfigError
from tlcnn.storage import remember

if TYPE_CHECKING:
    import torch

GPU_SHARE = "TLCNN_GPU_SHARE"  # set by the pool: the processes that share a GPU


@dataclass(frozen=True)
class Device:
    """A device of this machine."""

    name: str  # its torch type: cpu, cuda or mps
    bf16: bool  # whether it computes in bfloat16 natively
    hardware: str  # the model of the processor

    def resolve_precision(self, precision: str) -> str:
        """Return `bf16` or `fp32`: what `auto` means on this device, else `precision`."""
        if precision != "auto":
            return precision
        return "bf16" if self.bf16 else "fp32"


def find_device(device: str, cache_dir: Path) -> Device:
    """Return the device that `auto`, `cpu`, `cuda` or `mps` means on this machine.

    What the machine has is stored under `cache_dir`, so that a finished run is skipped without
    importing torch. Raises ConfigError where there is no such device.
    """
    driver = Path("/proc/driver/nvidia/version")
    has_driver = driver.is_file()
    gpu = driver.read_text() if has_driver else "no driver"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    machine = [platform.node(), platform.machine(), _cpu_model(), f"{gpu} {visible}"]
    key = [find_version("torch"), *machine]
    facts: dict[str, Any] = remember(cache_dir, "device", key, _probe_devices)
    if has_driver and "cuda" not in facts["devices"]:
        facts = _probe_devices()  # the GPU may have been busy when the facts were stored
    name = facts["best"] if device == "auto" else device
    if name not in facts["devices"]:
        raise ConfigError(
            f"device={device} is not available here. Allowed: auto, {', '.join(facts['devices'])}"
        )
    return Device(name=name, **facts["devices"][name])


def send(tensor: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """Return a tensor of the host on a device, without waiting for what the device is doing.

    torch does not reuse a pinned block before the copy from it is over.
    """
    if wants_pinned(device) and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=wants_pinned(device))


def wait_for_copies(device: "torch.device") -> None:
    """Wait until what was sent to a GPU has arrived, so that other streams may read it."""
    if device.type == "cuda":
        import torch

        torch.cuda.current_stream(device).synchronize()


def wants_pinned(device: "torch.device") -> bool:
    """Return whether memory has to be pinned to be sent to a device without waiting."""
    return device.type == "cuda"


def find_room(device: "torch.device", n_held: int = 0) -> int:
    """Return how many bytes of a device's memory this process may keep data in.

    It is half of the memory that is free, or held by data of this process, divided by the number
    of processes that share the device: all of them may look at the same free memory at once.

    Args:
        n_held: bytes of data that this process keeps on the device now.
    """
    sharers = os.environ.get(GPU_SHARE, "")
    n_sharers = int(sharers) if sharers.isdigit() and int(sharers) else 1
    return (free_memory(device) + n_held) // 2 // n_sharers


def free_memory(device: "torch.device") -> int:
    """Return the bytes of a device that are free or reserved by torch; 0 on the CPU."""
    import torch

    if device.type == "cuda":
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + spare
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return 0


@cache  # reading it takes milliseconds, and it does not change
def find_version(package: str) -> str:
    """Return the version of an installed package."""
    return version(package)


def count_cores() -> int:
    """Return how many CPU cores this process may use.

    Launchers and schedulers limit a process by binding it to cores or by OMP_NUM_THREADS.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdigit() and int(limit) else cores


def _probe_devices() -> dict[str, Any]:
    import torch

    devices = {"cpu": {"bf16": torch.cpu._is_avx512_bf16_supported(), "hardware": _cpu_model()}}
    if torch.cuda.is_available():
        bf16 = torch.cuda.get_device_capability() >= (8, 0)
        devices["cuda"] = {"bf16": bf16, "hardware": torch.cuda.get_device_name()}
    if torch.backends.mps.is_available():
        devices["mps"] = {"bf16": False, "hardware": platform.machine()}
    best = next(name for name in ("cuda", "mps", "cpu") if name in devices)
    return {"devices": devices, "best": best}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    names = re.findall(r"^model name\s*:(.*)$", info.read_text(), re.MULTILINE)
    return names[0].strip() if names else ""
