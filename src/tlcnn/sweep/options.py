"""How a search goes: the keys of `hydra.sweeper.search`."""

from dataclasses import dataclass, field
from typing import Any

from tlcnn.config.schema import check_word
from tlcnn.errors import ConfigError

METHODS = ("random", "grid", "tpe", "gp")
PRUNERS = ("none", "median", "halving")
_MINIMA = {"trials": 1, "batch": 1, "final_seeds": 1, "seed": 0}


@dataclass
class SearchOptions:
    """How a search goes; without a method, a sweep is no search.

    Attributes:
        method: random, grid, or a sampler of Optuna: tpe, gp.
        trials: of each arm; null: the whole grid.
        seed: of the proposals.
        batch: how many trials of an arm are proposed at a time, from the results before them.
        prune: none, median or halving: which trials are given up early.
        final_seeds: how many seeds the chosen settings of each arm are trained with.
        when: the condition of a key, as in `{train.momentum: train.optimizer=sgd}`.
    """

    method: str | None = None
    trials: Any = None
    seed: Any = 0
    batch: Any = 4
    prune: str = "none"
    final_seeds: Any = 3
    when: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ConfigError for a value that is not allowed."""
        prefix = "hydra.sweeper.search"
        check_word(f"{prefix}.method", str(self.method), METHODS)
        check_word(f"{prefix}.prune", self.prune, PRUNERS)
        for name, minimum in _MINIMA.items():
            value = getattr(self, name)
            if name == "trials" and value is None:
                continue
            if type(value) is not int or value < minimum:
                raise ConfigError(
                    f"{prefix}.{name}={value} is not allowed: an integer of at least {minimum}"
                )
        if self.trials is None and self.method != "grid":
            raise ConfigError(
                f"the method {self.method} needs a number of trials: --trials 20 "
                f"({prefix}.trials=20)"
            )
