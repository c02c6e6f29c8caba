"""A split behind the frozen units: `FeatureBatches` yields boundary tensors as `Batches` images.

Stored features are compared with what the network computes from a batch of the run's own shape
when they are opened. Where a bit differs (`train.features=close`: more than a tolerance allows),
or where nothing is stored, the network computes every batch.
"""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tlcnn.data.augment import view_numbers
from tlcnn.data.batches import Batches, feed_images
from tlcnn.data.feed import Feed, Values
from tlcnn.data.policy import Policy
from tlcnn.frozen.device_cache import DeviceCache
from tlcnn.frozen.features import FeatureViews
from tlcnn.frozen.frozen_units import FrozenUnits, View
from tlcnn.model.cut import evaluating
from tlcnn.model.difference import measure_difference
from tlcnn.storage import digest_of, remember

log = logging.getLogger(__name__)


class FeatureBatches:
    """A split behind the frozen units, for training and evaluation.

    What it yields does not depend on what is stored: to the last bit, or within the tolerance of
    `frozen.counts`.

    Args:
        n_views: how many views of a training are stored: all of a pool, or those of the first
            epochs. Other views are read where they are stored already.
        device_cache: the features on the split's device.
        cache_dir: the folder where the results of comparisons are stored.

    Attributes:
        stored: the views that training batches are read from; None: they are computed.
    """

    def __init__(
        self,
        split: Batches,
        frozen: FrozenUnits,
        *,
        n_views: int,
        device_cache: DeviceCache,
        cache_dir: Path,
    ) -> None:
        self.split, self.frozen, self.n_views = split, frozen, n_views
        self.device_cache, self.cache_dir = device_cache, cache_dir
        self.rows, self.labels, self.keys = split.rows, split.labels, split.keys
        self.device = split.device
        self.stored: FeatureViews | None = None
        self._views: list[View] = []  # those of the current epoch
        self._plain: FeatureViews | None = None  # what evaluations read
        self._may_use = True  # False once a comparison has failed

    def __len__(self) -> int:
        return len(self.split)

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
        """Return the boundary tensors of the views of an epoch, (B, ...).

        The batches are (n, B) positions in the split, and the repeats (n * B,) as in
        `view_numbers`.
        """
        size, last = batches.shape[1], len(self) - batches.shape[1]
        numbers = view_numbers(
            self.keys[batches.reshape(-1)],
            seed=seed,
            epoch=epoch,
            n_views=n_views,
            repeats=repeats,
        ).reshape(batches.shape)
        fills = self.n_views > 0
        if augment == Policy():
            views = [View()]
        elif n_views is None and repeats is not None and repeats.any():
            views = []  # of the repeated images alone: they are not worth storing
        elif n_views is None:  # every epoch has one new view
            views = [View(augment, int(numbers[0, 0]))]
            fills = self.n_views >= epoch
        else:
            views = [View(augment, number) for number in range(n_views)]
        if views != self._views:
            self._views, self.stored = views, None  # the last views may make room on the device
            # The last batch overlaps the one before, so that all have one size.
            starts = [min(start, last) for start in range(0, len(self), size)]
            whole = [np.arange(start, start + size) for start in starts]
            opened = self._open(views, whole, fills=fills)
            if opened is not None:
                key = ["train", size, sorted({array.digest for array in opened.arrays})]
                stored = opened.feed(batches[:1], numbers[:1])
                images = feed_images(self.split, batches[:1], numbers[:1], augment)
                if self._is_close(key, stored, self._compute(images, batches[:1])):
                    self.stored = opened
        if self.stored is not None:
            return self._count(self.stored.feed(batches, numbers), batches)
        return self._compute(feed_images(self.split, batches, numbers, augment), batches)

    def feed_plain(self, batches: Sequence[np.ndarray]) -> Feed:
        """Return the boundary tensors of images without augmentation, (B, ...)."""
        if self._plain is None:
            self._plain = self._open_plain(batches)
        if self._plain is not None:
            return self._count(self._plain.feed(batches), batches)
        return self._compute(feed_images(self.split, batches), batches, evaluates=True)

    def _count(self, feed: Feed, batches: Sequence[np.ndarray] | np.ndarray) -> Feed:
        """Return a feed of stored features that counts the images it yields."""

        def get(number: int) -> Values:
            self.frozen.counts.images_reused += len(batches[number])
            return feed.get(number)

        return replace(feed, get=get)

    def _compute(
        self, images: Feed, batches: Sequence[np.ndarray] | np.ndarray, *, evaluates: bool = False
    ) -> Feed:
        """Return what the frozen units make of the images of a feed.

        Args:
            evaluates: whether the whole network is in evaluation mode meanwhile.
        """
        frozen = self.frozen

        def get(number: int) -> Values:
            frozen.counts.images_computed += len(batches[number])
            return images.get(number)

        def make(values: Values) -> Tensor:
            with evaluating(frozen.model) if evaluates else nullcontext():
                return frozen.compute(images.make(values))

        return Feed(get, make, ("computed", evaluates, images.key))

    def _open_plain(self, batches: Sequence[np.ndarray]) -> FeatureViews | None:
        """Return the images without augmentation, or None where they may not be read.

        The first batch is compared, and the last, which is the only one of another size. Features
        that were computed in these very batches are compared only where there is a tolerance: on a
        device that may compute the same batch in another way.
        """
        opened = self._open([View()], batches, fills=self.n_views > 0)
        if opened is None:
            return None
        array = opened.arrays[0]
        if array.info["batch_size"] != len(batches[0]) or self.frozen.counts.tolerance:
            for picked in (batches[0], batches[-1]):
                key = ["eval", int(picked[0]), len(picked), array.digest]
                images = feed_images(self.split, [picked])
                computed = self._compute(images, [picked], evaluates=True)
                if not self._is_close(key, opened.feed([picked]), computed):
                    return None
        return opened

    def _open(
        self, views: Sequence[View], batches: Sequence[np.ndarray], *, fills: bool
    ) -> FeatureViews | None:
        """Return views of the split, or None where one is not stored or may not be used."""
        arrays = []
        for view in views if self._may_use else ():
            array = self.frozen.load(self.split, view, batches, fills=fills)
            if array is None:
                return None
            arrays.append(array)
        return self.device_cache.place(arrays) if arrays else None

    def _is_close(self, key: list[object], stored: Feed, computed: Feed) -> bool:
        """Return whether stored features are what the network computes, or close enough.

        Both feeds have one batch, of the same images.
        """
        counts = self.frozen.counts
        features = stored.make_batch(0)
        compare = partial(compare_features, features, partial(computed.make_batch, 0))
        if self.device.type == "cpu":
            key = [digest_of(key, 16), self.frozen.key]
            difference = float(remember(self.cache_dir, "difference", key, compare))
        else:
            difference = compare()  # a GPU may compute the same batch in another way
        counts.note_difference(difference)
        if difference <= counts.tolerance:
            return True
        self._may_use = False
        problem = "they have another layout, or the network draws random numbers"
        if math.isfinite(difference):
            problem = f"they differ by {difference:.2g}, relative to the largest value"
        reason = (
            f"{problem}, when the network computes them in a batch of this run; "
            f"train.features=close allows {counts.tolerance:.2g}"
        )
        if counts.tolerance == 0:
            reason = (
                "this network's frozen units give other bits in batches of another size or order"
            )
        log.warning("stored features are not used: %s", reason)
        return False


def compare_features(features: Tensor, compute: Callable[[], Tensor]) -> float:
    """Return how far features are from what the network computes, as `measure_difference` does.

    Infinite if the frozen units use random numbers, because reuse would change the later draws.
    The generators are set back, because the comparison may be skipped when it is remembered.
    """
    states = read_generators(features.device)
    expected = compute()
    if not all(map(torch.equal, states, read_generators(features.device))):
        torch.set_rng_state(states[0])
        for state in states[1:]:
            getattr(torch, features.device.type).set_rng_state(state)
        return math.inf
    if features.stride() != expected.stride():
        return math.inf
    return measure_difference(expected, features)


def read_generators(device: torch.device) -> list[Tensor]:
    """Return the states of the generators that a network on a device may draw from."""
    states = [torch.get_rng_state()]
    if device.type in ("cuda", "mps"):
        states.append(getattr(torch, device.type).get_rng_state())
    return states
