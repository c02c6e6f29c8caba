"""Optimiser, learning-rate schedule, class weights and the average of weights."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


def build_optimizer(
    model: nn.Module, *, name: str, lr: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """Return AdamW or SGD over the trained tensors only; norms and biases are not decayed.

    Frozen tensors are in no group: AdamW would decay them even without a gradient.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    fused = all(p.device.type in ("cpu", "cuda") for p in trained)
    return torch.optim.AdamW(groups, lr=lr, fused=fused)


def compute_lr(
    step: int, *, peak: float, n_steps: int, n_warmup_steps: int, final_fraction: float
) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to `final_fraction`.

    Args:
        step: counted from 0.

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


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def compute_class_weights(counts: np.ndarray, *, scheme: str, beta: float) -> np.ndarray:
    """Return K loss weights whose mean over the images is 1.

    Args:
        counts: (K,) training images of each class.
        scheme: `none`, `balanced` (inverse frequency) or `effective` (inverse effective number,
            (1 - beta^n) / (1 - beta): Cui et al. 2019, Class-Balanced Loss, equation 2).

    Returns:
        (K,) weights; a class without images gets 0.
    """
    present = counts > 0
    size = {
        "none": np.ones(len(counts)),
        "balanced": counts.astype(float),
        "effective": (1 - np.power(beta, counts)) / (1 - beta),
    }[scheme]
    weights = np.where(present, 1 / np.where(present, size, 1), 0.0)
    return weights * counts.sum() / (weights * counts).sum()


class WeightAverage:
    """Exponential moving average of the trained tensors; buffers are taken as they are."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self._trained.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the current weights; early steps weigh more, as in timm's ModelEmaV3."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(_values(self.average), _values(self._trained), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model compute with the average; afterwards it is as before."""
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


def _values(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    return [tensor.detach() for tensor in tensors.values()]


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale the gradient of some tensors to at most `max_norm`; return its norm before."""
    return nn.utils.clip_grad_norm_(parameters, max_norm)
