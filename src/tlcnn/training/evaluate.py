"""Logits of a split, without training."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from tlcnn.data.batches import Inputs, expect, list_eval_batches
from tlcnn.data.feed import Values
from tlcnn.training.recorder import Recorder


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass: bf16 autocast, or no autocast for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def compute_logits(
    model: nn.Module,
    split: Inputs,
    *,
    batch_size: int,
    precision: str,
    check_stop: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return what `start_logits` computes, (n, K) float32, on the host."""
    logits = start_logits(
        model, split, batch_size=batch_size, precision=precision, check_stop=check_stop
    )
    return logits.cpu().numpy()


@torch.no_grad()
def start_logits(
    model: nn.Module,
    split: Inputs,
    *,
    batch_size: int,
    precision: str,
    check_stop: Callable[[], None] = lambda: None,
    recorder: Recorder | None = None,
) -> Tensor:
    """Return the logits of every image in the split's order, (n, K) float32, in eval mode.

    A GPU may still be computing them.

    Args:
        model: the network, or the part of it that takes what `split` yields.
        split: the images, or the outputs of frozen units.
        precision: bf16 or fp32.
        check_stop: called before every batch; it may raise.
        recorder: calls the network for the batches of full size, always that of this model.
    """
    was_training = model.training
    model.eval()
    batches = list_eval_batches(len(split), batch_size)
    feed = split.feed_plain(batches)
    full = recorder or Recorder(None)

    def compute(values: Values) -> Tensor:
        with autocast(split.device, precision):
            logits: Tensor = model(feed.make(values)).float()
        return logits

    parts = []
    with expect(split, batches):
        for number, picked in enumerate(batches):
            check_stop()
            if len(picked) == len(batches[0]):
                parts.append(full.run(compute, feed.get(number), feed.key).clone())
            else:  # the last batch
                parts.append(compute(feed.get(number)))
    model.train(was_training)
    return torch.cat(parts)
