"""Optimiser, learning-rate schedule and the average of weights."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tlcnn.training.recipe import Recipe


def build_optimizer(
    parameters: Sequence[nn.Parameter], recipe: Recipe, rate: Tensor
) -> torch.optim.Optimizer:
    """Return AdamW or SGD; norms and biases, tensors of one dimension, are not decayed.

    Args:
        parameters: the trained tensors alone: AdamW decays a tensor even without a gradient.
        recipe: the settings of the training.
        rate: the learning rate, a scalar from `make_rate`. The optimiser reads it at every step,
            so that a recorded step follows it.
    """
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    if recipe.optimizer == "sgd":
        momentum = recipe.momentum
        return torch.optim.SGD(
            groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=fused
        )
    return torch.optim.AdamW(groups, lr=rate, fused=fused, capturable=rate.is_cuda)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], rate: Tensor) -> None:
    """Take over an optimiser's state from a checkpoint, perhaps of another kind of device."""
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["lr"] = rate  # a new tensor took its place
        if "capturable" in group:
            group["capturable"] = rate.is_cuda


def make_rate(device: torch.device) -> Tensor:
    """Return a scalar for the learning rate: on a GPU float32, as its optimisers need it."""
    if device.type == "cuda":
        return torch.zeros((), device=device)
    return torch.zeros((), dtype=torch.float64)


def compute_lr(
    step: int, *, peak: float, n_steps: int, n_warmup_steps: int, final_fraction: float
) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to `final_fraction`.

    Args:
        step: the number of updates before it.
        final_fraction: the share of `peak` that is left at the end.

    Example:
        >>> [round(compute_lr(s, peak=1, n_steps=4, n_warmup_steps=2, final_fraction=0), 2)
        ...  for s in range(4)]
        [0.5, 1.0, 0.75, 0.25]
    """
    if step < n_warmup_steps:
        return peak * (step + 1) / n_warmup_steps
    progress = (step + 1 - n_warmup_steps) / max(1, n_steps + 1 - n_warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return peak * (final_fraction + (1 - final_fraction) * cosine)


class WeightAverage:
    """An exponential moving average of the trained tensors; buffers are not averaged."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self._trained.items()}

    def compute_weight(self, step: int) -> float:
        """Return the weight of the network in its average after `step` earlier updates.

        Early steps weigh more, as in timm's ModelEmaV3.
        """
        return 1 - min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, weight: Tensor) -> None:
        """Move towards the current weights by `weight`, a float32 scalar on their device."""
        for average, parameter in zip(self.average.values(), self._trained.values(), strict=True):
            average.lerp_(parameter.detach(), weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the model inside this context, and the weights back after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._trained.items():
            current = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(current)

    def load(self, average: dict[str, Tensor]) -> None:
        """Take over an average from a checkpoint."""
        for name, value in average.items():
            self.average[name].copy_(value)
