"""What a training is told, and where it stands."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Recipe:
    """How to train: all that changes numbers."""

    epochs: int
    batch_size: int  # images an update; what is left of an epoch is dropped, another each time
    optimizer: str  # adamw | sgd
    lr: float  # peak
    weight_decay: float  # not on norms and biases
    warmup_epochs: float  # linear, by step; then a cosine, by step
    final_lr_fraction: float  # of lr, at the end
    class_weights: str  # none | balanced | effective
    label_smoothing: float
    clip_norm: float | None  # None: no clipping
    augment: str  # none | light | standard | strong
    precision: str  # bf16 | fp32
    channels_last: bool
    compile: bool
    ema_decay: float | None  # None: no average of weights
    patience: int | None  # epochs without a better score; None: never stop early
    momentum: float = 0.0  # sgd only
    effective_beta: float = 0.0  # class_weights=effective only
    views: int | None = None  # size of the pool of views; None: new views every epoch
    features: str = "exact"  # exact | close: of what is stored of frozen units


@dataclass
class Position:
    """Where a run is: everything that moves and is neither weights nor optimiser state."""

    epoch: int = 1  # being trained, from 1
    step: int = 0  # updates done in it
    loss_sum: float = 0.0  # of those steps
    epoch_s: float = 0.0  # seconds spent on them, over all sittings
    history: list[dict[str, Any]] = field(default_factory=list)  # one record a finished epoch
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, Any]:
        """The record of the best epoch so far."""
        return self.history[self.best_epoch - 1]
