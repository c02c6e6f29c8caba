"""Logits of a split, without training."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from tlcnn.data.batches import Inputs


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass: bf16 autocast, or no autocast for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@torch.no_grad()
def compute_logits(
    model: nn.Module,
    split: Inputs,
    *,
    batch_size: int,
    precision: str,
    check_stop: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return the logits of every image in the split's order, (n, K) float32, in eval mode.

    Args:
        model: the network, or the part of it that takes what `split` yields.
        split: the images, or the outputs of frozen units.
        precision: bf16 or fp32.
        check_stop: called before every batch; it may raise.
    """
    was_training = model.training
    model.eval()
    parts = []
    for inputs in split.iter_eval(batch_size):
        check_stop()
        with autocast(split.device, precision):
            parts.append(model(inputs).float())
    model.train(was_training)
    return torch.cat(parts).cpu().numpy()
