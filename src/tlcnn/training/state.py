"""What a training changes, and what a checkpoint therefore holds: a network and a position."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    """A network in training.

    Attributes:
        model: the whole network, on the device of its inputs; frozen units are frozen already.
        trained: the part that takes the inputs: the network, or what follows its frozen units.
        fixed: the names of tensors that training never changes; checkpoints leave them out.
        factors: of the learning rate by tensor; 1 where there is none.
        starts: the weights that tensors are pulled towards, by tensor.
    """

    model: nn.Module
    trained: nn.Module
    fixed: frozenset[str] = frozenset()
    factors: Mapping[str, float] = field(default_factory=dict)
    starts: Mapping[str, Tensor] = field(default_factory=dict)

    def state(self) -> dict[str, Tensor]:
        """Return the parameters and buffers that training changes."""
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if name not in self.fixed}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        missing = self.model.load_state_dict(state, strict=False).missing_keys
        assert self.fixed.issuperset(missing), "checkpoints hold all that training changes"


@dataclass
class Position:
    """How far a training is: all that changes and is neither weights nor optimiser state."""

    epoch: int = 1  # the epoch in training, from 1
    step: int = 0  # updates done in it
    loss_sum: float = 0.0  # over those updates
    epoch_s: float = 0.0  # seconds that those updates took, over all sessions
    history: list[dict[str, Any]] = field(default_factory=list)  # one record a finished epoch
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, Any]:
        """The record of the best epoch so far."""
        return self.history[self.best_epoch - 1]
