"""Optimiser, learning-rate schedule and the average of weights."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tlcnn.training.phase import Phase
from tlcnn.training.recipe import Recipe


@dataclass(frozen=True)
class Group:
    """Trained tensors that have their learning rate and weight decay in common.

    Attributes:
        factor: what the learning rate of the schedule is multiplied by.
        starts: where the tensors are pulled to, in their order; empty: nowhere.
    """

    parameters: tuple[nn.Parameter, ...]
    weight_decay: float
    factor: float = 1.0
    starts: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def pull(self, weight: Tensor) -> None:
        """Move tensors towards their start by `weight`, a float32 scalar on their device."""
        for parameter, start in zip(self.parameters, self.starts, strict=bool(self.starts)):
            parameter.lerp_(start, weight)


def make_groups(
    parameters: Mapping[str, nn.Parameter],
    recipe: Recipe,
    factors: Mapping[str, float] | None = None,
    starts: Mapping[str, Tensor] | None = None,
) -> list[Group]:
    """Return the groups of trained tensors.

    Norms and biases, tensors of one dimension, are not decayed. A tensor that is pulled towards
    its start is not decayed either, because weight decay is a pull towards zero.

    Args:
        parameters: the trained tensors alone: AdamW decays a tensor even without a gradient.
        factors: of the learning rate by tensor; 1 where there is none.
        starts: of the tensors that are pulled towards it.
    """
    factors, starts = factors or {}, starts or {}
    members: dict[tuple[bool, float, bool], list[str]] = {}
    for name, parameter in parameters.items():
        key = (name in starts, factors.get(name, 1.0), parameter.ndim <= 1 or name in starts)
        members.setdefault(key, []).append(name)
    return [
        Group(
            tuple(parameters[name] for name in names),
            0.0 if is_plain else recipe.weight_decay,
            factor,
            tuple(starts[name] for name in names if name in starts),
        )
        for (_, factor, is_plain), names in sorted(members.items())
    ]


def build_optimizer(
    groups: Sequence[Group], recipe: Recipe, rates: Tensor
) -> torch.optim.Optimizer:
    """Return AdamW or SGD.

    Args:
        recipe: the settings of the training.
        rates: the learning rates of the G groups, (G,), from `make_rates`. The optimiser reads
            them at every step, so that a recorded step follows them.
    """
    parts = [
        {"params": list(group.parameters), "weight_decay": group.weight_decay, "lr": rate}
        for group, rate in zip(groups, rates, strict=True)
    ]
    fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group.parameters)
    if recipe.optimizer == "sgd":
        momentum = recipe.momentum
        return torch.optim.SGD(parts, momentum=momentum, nesterov=momentum > 0, fused=fused)
    return torch.optim.AdamW(parts, fused=fused, capturable=rates.is_cuda)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], rates: Tensor) -> None:
    """Take over an optimiser's state from a checkpoint, perhaps of another kind of device."""
    optimizer.load_state_dict(state)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate  # a new tensor took its place
        if "capturable" in group:
            group["capturable"] = rates.is_cuda


def make_rates(n_groups: int, device: torch.device) -> Tensor:
    """Return learning rates, (G,): on a GPU float32, as its optimisers need them."""
    if device.type == "cuda":
        return torch.zeros(n_groups, device=device)
    return torch.zeros(n_groups, dtype=torch.float64)


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


def compute_rates(recipe: Recipe, phase: Phase, *, epoch: int, n_steps: int) -> list[float]:
    """Return the learning rates of the `n_steps` updates of an epoch, from 1.

    One schedule spans all epochs; with `head_first`, each phase has a schedule of its own.
    """
    n_epochs = recipe.epochs
    if recipe.schedule == "head_first":
        epoch, n_epochs = epoch - phase.first + 1, phase.n_epochs
    return [
        compute_lr(
            step,
            peak=recipe.lr,
            n_steps=n_epochs * n_steps,
            n_warmup_steps=round(recipe.warmup_epochs * n_steps),
            final_fraction=recipe.final_lr_fraction,
        )
        for step in range((epoch - 1) * n_steps, epoch * n_steps)
    ]


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
