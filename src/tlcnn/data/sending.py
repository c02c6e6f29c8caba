"""Sending tensors from the host to a device."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on a device, without waiting for what the device is doing.

    torch does not reuse a pinned block before the copy from it is over.
    """
    if wants_pinned(device) and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=wants_pinned(device))


def wants_pinned(device: torch.device) -> bool:
    """Return whether memory has to be pinned to be sent to a device without waiting."""
    return device.type == "cuda"
