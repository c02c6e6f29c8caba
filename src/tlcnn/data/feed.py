"""What batches are made from: values that differ between batches, and one function of them."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from torch import Tensor

Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Feed:
    """Batches of inputs, each of them made by the same function from its own values.

    All that differs between batches is in the values. A GPU can therefore record the function
    once and replay it after the values of the next batch were copied to the same memory.

    Attributes:
        get: the values of a batch by its number, from 0. Each batch is asked for once, in order.
        make: the inputs of a batch, (B, ...), made of its values and of tensors that stay as they
            are.
        key: equal for two feeds only if their `make` is the same function.
    """

    get: Callable[[int], Values]
    make: Callable[[Values], Tensor]
    key: Hashable

    def make_batch(self, number: int) -> Tensor:
        """Return the inputs of a batch, (B, ...)."""
        return self.make(self.get(number))


def list_slices(batches: Sequence[np.ndarray] | np.ndarray) -> list[slice]:
    """Return where the positions of each batch stand when all batches are concatenated."""
    ends = list(accumulate(len(picked) for picked in batches))
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def pick_values(values: Values, number: int) -> Values:
    """Return one element of each tensor of values."""
    return {name: value[number] for name, value in values.items()}
