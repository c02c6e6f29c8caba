"""The phases of a training: epochs in which the same tensors are trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Phase:
    """Epochs in which the same tensors are trained.

    Attributes:
        first: the first epoch, from 1.
        resting: the names of parameters that are trained in a later phase only.
        resting_modules: the paths of modules that stay in evaluation mode until then.
    """

    first: int
    n_epochs: int
    resting: frozenset[str] = frozenset()
    resting_modules: frozenset[str] = frozenset()


def find_phase(phases: Sequence[Phase], epoch: int) -> Phase:
    """Return the phase of an epoch; the last one for epochs after it."""
    return max((p for p in phases if p.first <= epoch), key=lambda phase: phase.first)


def apply_modes(trained: nn.Module, phase: Phase) -> None:
    """Put a network in training mode, but for the modules that rest in a phase."""
    trained.train()
    for path, module in trained.named_modules():
        if path in phase.resting_modules:
            module.training = False
