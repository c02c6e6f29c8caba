"""When each unit begins to be trained: all at once, the head first, or from the head downwards."""

from dataclasses import dataclass, replace
from typing import Any

from tlcnn.config.schema import Config
from tlcnn.errors import ConfigError
from tlcnn.plan.treatment import Treatment
from tlcnn.text import count


@dataclass(frozen=True)
class UnitPhase:
    """Epochs in which the same units are trained.

    Attributes:
        first: the first epoch, from 1.
        resting: the numbers of the units that are trained in a later phase only.
    """

    first: int
    n_epochs: int
    resting: tuple[int, ...] = ()


def shorten_warmup(cfg: Config) -> Config:
    """Return a configuration whose rate has epochs in which to fall.

    A warm-up as long as the training, as that of one epoch with `train.epochs=1`, is halved.
    """
    if cfg.train.warmup_epochs < cfg.train.epochs:
        return cfg
    return replace(cfg, train=replace(cfg.train, warmup_epochs=cfg.train.epochs / 2))


def make_phases(cfg: Config, cell: Treatment, n_units: int) -> tuple[UnitPhase, ...]:
    """Return the phases of a training, which follow from the epoch alone.

    `head_first` is LP-FT (Kumar et al., ICLR 2022, arXiv:2202.10054); `gradual` is the gradual
    unfreezing of Howard and Ruder (ACL 2018, arXiv:1801.06146).

    Raises:
        ConfigError: the epochs do not suffice for all phases, or for the warm-up of one.
    """
    train = cfg.train
    units = tuple(n for n in range(1, n_units + 1) if n not in cell.frozen)
    if train.schedule == "together" or not units:
        return (UnitPhase(1, train.epochs),)
    if train.schedule == "head_first":
        n_head, n_rest = train.head_epochs, train.epochs - train.head_epochs
        if min(n_head, n_rest) <= train.warmup_epochs:
            least = int(train.warmup_epochs) + 1
            advice = f"train.head_epochs={least}"
            if train.epochs - least <= train.warmup_epochs:
                advice = f"train.epochs={2 * least} {advice}"
            raise ConfigError(
                f"train.schedule=head_first trains {count(n_head, 'epoch')} of the head "
                f"(train.head_epochs) and {n_rest} of all, out of train.epochs={train.epochs}. "
                f"Each must be longer than train.warmup_epochs={train.warmup_epochs:g}. For "
                f"example, write {advice}."
            )
        return (UnitPhase(1, n_head, units), UnitPhase(n_head + 1, n_rest))
    every, n_last = train.unfreeze_every, train.epochs - len(units) * train.unfreeze_every
    if n_last < 1:
        raise ConfigError(
            f"train.schedule=gradual unfreezes {count(len(units), 'unit')}, one after "
            f"{count(every, 'epoch')} "
            f"(train.unfreeze_every): train.epochs={train.epochs} must be larger than "
            f"{len(units) * every}. Train longer, or freeze more units."
        )
    lengths = [*(every for _ in units), n_last]
    return tuple(
        UnitPhase(n * every + 1, n_epochs, units[: len(units) - n])
        for n, n_epochs in enumerate(lengths)
    )


def resolve_schedule(cfg: Config, cell: Treatment, n_units: int) -> dict[str, Any]:
    """Return the keys of the schedule that have an effect. Raises ConfigError."""
    length = {"head_first": "head_epochs", "gradual": "unfreeze_every"}
    if len(make_phases(cfg, cell, n_units)) == 1:
        return {}
    word = cfg.train.schedule
    return {"schedule": word, length[word]: getattr(cfg.train, length[word])}
