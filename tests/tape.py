"""A recording on the CPU that stands in for a CUDA graph, and is as strict as one.

A function is written down operation by operation. A replay repeats these operations with the
numbers and the memory of the recording: what Python would compute anew is not seen, and results
stand in the same memory as before. Before a replay, all memory that the recording itself allocated
is poisoned, so that nothing is carried over in it. As on a GPU, a recording changes nothing, and
it ends with an error where a number is read from a tensor.

Operations of other threads are not seen, so torch must have one thread.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

WAITS_FOR_THE_DEVICE = ("_local_scalar_dense", "nonzero", "equal")


class _Writer(TorchDispatchMode):
    """Writes operations down, and what was in the memory that was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self.allocated: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.partition(".")[0]
        if name in WAITS_FOR_THE_DEVICE:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        kwargs = kwargs or {}
        for tensor in list_tensors((args, kwargs)):
            storage = tensor.untyped_storage()
            place = storage.data_ptr()
            if place not in self.allocated and place not in self.before:
                self.before[place] = (storage, storage.clone())
        results = func(*args, **kwargs)
        # Aliases: a gradient that somebody else refers to is copied by autograd, to other strides.
        args, kwargs, tensors = tree_map_only(
            Tensor, torch.Tensor.detach, (args, kwargs, list_tensors(results))
        )
        for tensor in tensors:
            place = tensor.untyped_storage().data_ptr()
            if place not in self.before:
                self.allocated.setdefault(place, tensor)
        self.operations.append((func, args, kwargs, tensors))
        return results


class Tape:
    """A recording of a function."""

    n_recorded = n_replayed = 0  # of all tapes

    def record(self, function: Callable[[], Any]) -> Any:
        assert torch.get_num_threads() == 1
        Tape.n_recorded += 1
        generator, writer = torch.get_rng_state(), _Writer()
        try:
            with writer:
                result = function()
        finally:
            for storage, content in writer.before.values():
                storage.copy_(content)
            torch.set_rng_state(generator)
        self._operations = writer.operations
        self._allocated = list(writer.allocated.values())
        return result

    def replay(self) -> None:
        Tape.n_replayed += 1
        with torch.no_grad():
            for tensor in self._allocated:
                storage = tensor.untyped_storage()
                torch.empty(0, dtype=torch.uint8).set_(storage).fill_(0xFF)  # floats: not a number
            for func, args, kwargs, results in self._operations:
                for new, old in zip(list_tensors(func(*args, **kwargs)), results, strict=True):
                    if new.untyped_storage().data_ptr() != old.untyped_storage().data_ptr():
                        old.copy_(new)


def list_tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
