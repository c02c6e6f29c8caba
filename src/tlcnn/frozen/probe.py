"""A probe: where one linear layer is all that is trained, what enters it is computed once.

    boundary tensors -> pooling, flattening -> rows (V * n, D) in memory -> nn.Linear

Every update is then the work of one layer, with the batches, views and bits of the whole network.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tlcnn.data.augment import view_numbers
from tlcnn.data.batches import list_eval_batches
from tlcnn.data.feed import Feed, Values, list_slices
from tlcnn.data.policy import Policy
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
        self._plain: Tensor | None = None  # (n, D), without augmentation

    def __len__(self) -> int:
        return len(self.features)

    def feed_views(
        self,
        batches: np.ndarray,
        *,
        seed: int,
        epoch: int,
        augment: Policy,
        n_views: int | None,
        repeats: np.ndarray | None = None,
    ) -> Feed:
        """Return the rows of the views of an epoch, (B, D).

        The batches are (n, B) positions in the split, and the repeats (n * B,) as in
        `view_numbers`.
        """
        if self._pooled is None:
            feed = self.features.feed_views(
                batches, seed=seed, epoch=epoch, augment=augment, n_views=n_views, repeats=repeats
            )
            if self._may_use and self.features.stored is not None:
                pooled = self._pool_views(self.features.stored)
                first = None if repeats is None else repeats[: batches.shape[1]]
                expected = self._gather(pooled, batches[:1], seed, epoch, first).make_batch(0)
                difference = measure_difference(self.pool(feed.make_batch(0)), expected)
                self.counts.note_difference(difference)
                self._may_use = difference <= self.counts.tolerance
                self._pooled = pooled if self._may_use else None
            if self._pooled is None:
                return self._pool(feed)
        return self._gather(self._pooled, batches, seed, epoch, repeats)

    def feed_plain(self, batches: Sequence[np.ndarray]) -> Feed:
        """Return the rows of images without augmentation, (B, D)."""
        if self._plain is None:
            everything = list_eval_batches(len(self), len(batches[0]))
            feed = self._pool(self.features.feed_plain(everything))
            self._plain = torch.cat([feed.make_batch(n) for n in range(len(everything))])
            self.counts.images_reused -= len(self)  # the feed below counts them
        return self._select(self._plain, batches, np.concatenate(batches))

    def _pool(self, feed: Feed) -> Feed:
        def make(values: Values) -> Tensor:
            return self.pool(feed.make(values))

        return Feed(feed.get, make, ("pooled", feed.key))

    def _pool_views(self, views: FeatureViews) -> Tensor:
        """Return the rows of all images, (V * n, D), view after view."""
        batches = list_eval_batches(len(self), _N_AT_ONCE)
        rows = []
        for number in range(len(views.arrays)):
            feed = views.feed(batches, np.full(len(self), number))
            rows += [self.pool(feed.make_batch(n)) for n in range(len(batches))]
        return torch.cat(rows)

    def _gather(
        self,
        pooled: Tensor,
        batches: np.ndarray,
        seed: int,
        epoch: int,
        repeats: np.ndarray | None,
    ) -> Feed:
        positions = batches.reshape(-1)
        n_images = len(self)
        views = view_numbers(
            self.keys[positions],
            seed=seed,
            epoch=epoch,
            n_views=len(pooled) // n_images,
            repeats=repeats,
        )
        return self._select(pooled, batches, views.astype(np.int64) * n_images + positions)

    def _select(
        self, rows: Tensor, batches: Sequence[np.ndarray] | np.ndarray, places: np.ndarray
    ) -> Feed:
        """Return a feed of rows at these places, those of each batch one after the other."""
        parts = list_slices(batches)
        on_device = send(torch.from_numpy(places), self.device)

        def get(number: int) -> Values:
            self.counts.images_reused += len(batches[number])
            return {"places": on_device[parts[number]]}

        def make(values: Values) -> Tensor:
            return rows.index_select(0, values["places"])

        return Feed(get, make, ("rows", id(rows)))


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
