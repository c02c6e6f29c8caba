"""A probe: where one linear layer is all that is trained, what enters it is computed once.

    boundary tensors -> pooling, flattening -> rows (V * n, D) in memory -> nn.Linear

Every update is then the work of one layer, with the batches, views and bits of the whole network.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tlcnn.data.augment import view_numbers
from tlcnn.data.batches import list_eval_batches
from tlcnn.device import send
from tlcnn.frozen.batches import FeatureBatches, read_generators
from tlcnn.frozen.features import FeatureViews
from tlcnn.model.cut import evaluating, make_prefix
from tlcnn.model.difference import measure_difference
from tlcnn.model.freeze import are_same_bits
from tlcnn.training.evaluate import autocast

_N_AT_ONCE = 1024  # images

Pooling = Callable[[Tensor], Tensor]  # boundary tensors (B, ...) to rows (B, D)


def find_probe(
    trained: nn.Module, inputs: Tensor, precision: str
) -> tuple[Pooling, nn.Linear] | None:
    """Split what is trained into its last layer and what comes before it, if this is exact.

    It is tried on some inputs, (B, ...).

    Returns:
        What maps inputs to rows (B, D), and the layer that maps rows to logits. None where more
        than one linear layer is trained, or where something before it draws at random.
    """
    if any(True for _ in trained.buffers()):
        return None  # buffers belong to norms, whose outputs may depend on the batch
    moving = {id(parameter) for parameter in trained.parameters() if parameter.requires_grad}
    for path, layer in trained.named_modules():
        is_all = {id(parameter) for parameter in layer.parameters()} == moving
        if path and is_all and isinstance(layer, nn.Linear):
            prefix = make_prefix(trained, (path,))
            break
    else:
        return None

    @torch.no_grad()
    def pool(batch: Tensor) -> Tensor:
        with autocast(batch.device, precision):
            return prefix(batch)

    with torch.no_grad(), evaluating(trained), autocast(inputs.device, precision):
        for is_training in (True, False):  # in both modes: the same bits, and no random numbers
            trained.train(is_training)
            states = read_generators(inputs.device)
            expected, rows = trained(inputs), pool(inputs)
            has_drawn = not all(map(torch.equal, states, read_generators(inputs.device)))
            if has_drawn or rows.ndim != 2 or not are_same_bits(expected, layer(rows)):
                return None
    return pool, layer


class ProbeBatches:
    """A split as rows (D,) in front of the last layer: what `FeatureBatches` yields, pooled."""

    def __init__(self, features: FeatureBatches, pool: Pooling) -> None:
        self.features, self.pool, self.counts = features, pool, features.frozen.counts
        self.rows, self.labels, self.keys = features.rows, features.labels, features.keys
        self.device = features.device
        self._pooled: Tensor | None = None  # (V * n, D), view after view
        self._may_use = True  # False once a comparison has failed
        self._evaluated: list[Tensor] = []  # the batches of an evaluation
        self._epoch = (-1, -1)  # the seed and epoch of ...
        self._places = torch.empty(0)  # (n,) where each image's view stands among the rows

    def __len__(self) -> int:
        return len(self.features)

    def take_views(
        self, picked: np.ndarray, *, seed: int, epoch: int, augment: str, n_views: int | None
    ) -> Tensor:
        """Return the rows of the views of some images in an epoch, (B, D)."""
        if self._pooled is not None:
            self.counts.images_reused += len(picked)
            return self._gather(self._pooled, picked, seed, epoch)
        rows = self.pool(
            self.features.take_views(
                picked, seed=seed, epoch=epoch, augment=augment, n_views=n_views
            )
        )
        if self._may_use and self.features.stored is not None:
            pooled = self._pool_views(self.features.stored)
            difference = measure_difference(rows, self._gather(pooled, picked, seed, epoch))
            self.counts.note_difference(difference)
            self._may_use = difference <= self.counts.tolerance
            self._pooled = pooled if self._may_use else None
        return rows

    def _pool_views(self, views: FeatureViews) -> Tensor:
        """Return the rows of all images, (V * n, D), view after view."""
        batches = list_eval_batches(len(self), _N_AT_ONCE)
        numbers = range(len(views.arrays))
        parts = [(batch, np.full(len(batch), n)) for n in numbers for batch in batches]
        return torch.cat([self.pool(views.take(*part)) for part in parts])

    def _gather(self, pooled: Tensor, picked: np.ndarray, seed: int, epoch: int) -> Tensor:
        if self._epoch != (seed, epoch):
            n_images = len(self)
            n_views = len(pooled) // n_images
            views = view_numbers(self.keys, seed=seed, epoch=epoch, n_views=n_views)
            self._places = torch.from_numpy(views.astype(np.int64)) * n_images
            self._places += torch.arange(n_images)
            self._epoch = (seed, epoch)
        places = self._places[torch.from_numpy(picked)]
        return pooled.index_select(0, send(places, self.device))

    def iter_eval(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the rows of every image, in order, without augmentation."""
        if self._evaluated:
            self.counts.images_reused += len(self)
            yield from self._evaluated
            return
        batches = []
        for features in self.features.iter_eval(batch_size):
            batches.append(self.pool(features))
            yield batches[-1]
        self._evaluated = batches


def make_probe_batches(
    splits: Mapping[str, FeatureBatches], pool: Pooling, *, row_bytes: int, n_views: int
) -> dict[str, ProbeBatches] | None:
    """Return the splits as rows, or None where these do not fit into the memory for features."""
    store = splits["train"].frozen.store
    n_rows = sum(len(split) for split in splits.values()) + (n_views - 1) * len(splits["train"])
    if not store.reserve(n_rows * row_bytes):
        return None
    batches = {name: ProbeBatches(split, pool) for name, split in splits.items()}
    weakref.finalize(batches["train"], store.release, n_rows * row_bytes)
    return batches
