"""A probe: where all that is trained is one linear layer, what enters it is computed once.

    boundary tensors -> pooling, flattening -> rows (V, n, D) in memory -> nn.Linear

Every update then is the work of one layer, with the batches, views and bits of the whole network.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tlcnn.data.augment import view_numbers
from tlcnn.data.batches import list_eval_batches
from tlcnn.data.sending import send
from tlcnn.frozen.features import FeatureBatches, read_generators
from tlcnn.frozen.placing import Placed
from tlcnn.model.cut import Prefix, evaluating
from tlcnn.model.difference import measure_difference
from tlcnn.model.freeze import are_same_bits
from tlcnn.training.evaluate import autocast

_N_AT_ONCE = 1024  # images

Head = Callable[[Tensor], Tensor]


def find_probe(
    trained: nn.Module, inputs: Tensor, precision: str
) -> tuple[Head, nn.Linear] | None:
    """Split what is trained into what enters its last layer and that layer, if this is exact.

    Args:
        trained: a network, or the part of it behind its frozen units.
        inputs: some of its inputs, (B, ...), to try it on.

    Returns:
        head: inputs (B, ...) to rows (B, D), and the layer that maps them to logits; None where
        more than one linear layer is trained, or where something before it draws at random.
    """
    if any(True for _ in trained.buffers()):
        return None  # of a norm: what it does depends on the batch
    moving = {id(p) for p in trained.parameters() if p.requires_grad}
    for path, layer in trained.named_modules():
        is_all = {id(p) for p in layer.parameters()} == moving
        if path and is_all and isinstance(layer, nn.Linear):
            head = _make_head(trained, path, precision)
            return (head, layer) if _is_exact(trained, head, layer, inputs, precision) else None
    return None


def _make_head(trained: nn.Module, path: str, precision: str) -> Head:
    prefix = Prefix(trained, (path,))

    @torch.no_grad()
    def head(inputs: Tensor) -> Tensor:
        with autocast(inputs.device, precision):
            return prefix(inputs)

    return head


@torch.no_grad()
def _is_exact(
    trained: nn.Module, head: Head, layer: nn.Linear, inputs: Tensor, precision: str
) -> bool:
    """Return whether the two are the whole, in training as in evaluation, and draw nothing."""
    for is_training in (True, False):
        with evaluating(trained), autocast(inputs.device, precision):
            trained.train(is_training)
            before = read_generators(inputs.device)
            expected, rows = trained(inputs), head(inputs)
            now = read_generators(inputs.device)
            if not all(map(torch.equal, before, now)) or rows.ndim != 2:
                return False
            if not are_same_bits(expected, layer(rows)):
                return False
    return True


class ProbeInputs:
    """A split as rows (D,) in front of the last layer: the twin of `FeatureBatches`.

    Args:
        source: what yields the head's inputs.
        head: inputs (B, ...) to rows (B, D).
    """

    def __init__(self, source: FeatureBatches, head: Head) -> None:
        self.source, self.head = source, head
        self.rows, self.labels, self.keys = source.rows, source.labels, source.keys
        self._rows: Tensor | None = None  # (V n, D), view after view
        self._is_good = True
        self._evaluated: list[Tensor] = []
        self._epoch = (-1, -1)
        self._places = torch.empty(0)  # (n,), among the rows, of an epoch's views

    def __len__(self) -> int:
        return len(self.source)

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self.source.device

    def take_views(
        self, picked: np.ndarray, *, seed: int, epoch: int, augment: str, n_views: int | None
    ) -> Tensor:
        """Return the rows of the views of some images in an epoch, (B, D)."""
        if self._rows is None:
            words = {"seed": seed, "epoch": epoch, "augment": augment, "n_views": n_views}
            rows = self.head(self.source.take_views(picked, **words))  # type: ignore[arg-type]
            if self._is_good and self.source.stored is not None:
                self._rows = self._read(self.source.stored)
                self._is_good = self._is_close(self._gather(picked, seed, epoch), rows)
            if not self._is_good:
                self._rows = None
            return rows
        self.source.prefix.counts.images_reused += len(picked)
        return self._gather(picked, seed, epoch)

    def _read(self, views: Placed) -> Tensor:
        """Return the rows of all images, (V n, D), view after view."""
        batches = list_eval_batches(len(self), _N_AT_ONCE)
        numbers = range(len(views.views))
        parts = [(batch, np.full(len(batch), n)) for n in numbers for batch in batches]
        return torch.cat([self.head(views.take(*part)) for part in parts])

    def _is_close(self, found: Tensor, expected: Tensor) -> bool:
        difference = measure_difference(expected, found)
        self.source.prefix.counts.note_difference(difference)
        return difference <= self.source.tolerance

    def _gather(self, picked: np.ndarray, seed: int, epoch: int) -> Tensor:
        assert self._rows is not None
        if self._epoch != (seed, epoch):
            self._epoch = (seed, epoch)
            self._places = self._find_places(seed, epoch, len(self._rows) // len(self))
        places = self._places[torch.from_numpy(picked)]
        return self._rows.index_select(0, send(places, self.device))

    def _find_places(self, seed: int, epoch: int, n_views: int) -> Tensor:
        which = view_numbers(self.keys, seed=seed, epoch=epoch, n_views=n_views)
        return torch.from_numpy(which.astype(np.int64)) * len(self) + torch.arange(len(self))

    def iter_eval(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the rows of every image, in order, without augmentation."""
        if self._evaluated:
            self.source.prefix.counts.images_reused += len(self)
            yield from self._evaluated
            return
        found = []
        for inputs in self.source.iter_eval(batch_size):
            found.append(self.head(inputs))
            yield found[-1]
        self._evaluated = found


def make_probe_inputs(
    splits: Mapping[str, FeatureBatches], head: Head, *, row_bytes: int, n_views: int
) -> dict[str, ProbeInputs] | None:
    """Return the splits as rows, or None where these do not fit into the memory for features.

    Args:
        row_bytes: of one row.
        n_views: of a training image.
    """
    store = splits["train"].prefix.store
    n_rows = sum(len(split) for split in splits.values()) + (n_views - 1) * len(splits["train"])
    if not store.reserve(n_rows * row_bytes):
        return None
    made = {name: ProbeInputs(split, head) for name, split in splits.items()}
    weakref.finalize(made["train"], store.release, n_rows * row_bytes)
    return made
