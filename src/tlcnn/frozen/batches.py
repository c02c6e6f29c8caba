"""A split behind the frozen units: `FeatureBatches` yields boundary tensors as `Batches` images.

Features that were stored are compared with what the network computes from a batch of the run's
own shape before they are used. Where a bit differs (`train.features=close`: more than a tolerance
allows), or where nothing is stored, the network computes every batch.
"""

import logging
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tlcnn.data.augment import view_numbers
from tlcnn.data.batches import Batches, list_eval_batches, make_plain_views, make_views
from tlcnn.data.policy import Policy, find_policy
from tlcnn.frozen.device_cache import DeviceCache
from tlcnn.frozen.features import FeatureViews
from tlcnn.frozen.frozen_units import FrozenUnits, View
from tlcnn.model.cut import evaluating
from tlcnn.model.difference import measure_difference
from tlcnn.storage import digest_of

log = logging.getLogger(__name__)


class FeatureBatches:
    """A split behind the frozen units, for training and evaluation.

    What it yields does not depend on what is stored: to the last bit, or within a tolerance where
    there is one.

    Args:
        split: the images.
        frozen: the frozen units.
        n_views: how many views of a training are stored: all of a pool, or those of the first
            epochs. Other views are read where they are stored already.
        tolerance: the largest difference from what the network computes that is allowed, relative
            to the largest magnitude in a tensor; 0: the same bits.
        device_cache: the features on the split's device; None: a new cache.
        remember: a function that returns the result of a comparison by its key, and calls its
            second argument for a new one.
    """

    def __init__(
        self,
        split: Batches,
        frozen: FrozenUnits,
        *,
        n_views: int,
        tolerance: float = 0.0,
        device_cache: DeviceCache | None = None,
        remember: Callable[[str, Callable[[], float]], float] = lambda key, compare: compare(),
    ) -> None:
        self.split, self.frozen, self.n_views, self.remember = split, frozen, n_views, remember
        self.tolerance = tolerance
        self.device_cache = device_cache or DeviceCache(split.device)
        self.rows, self.labels, self.keys = split.rows, split.labels, split.keys
        self._views: list[View] = []
        self._train: FeatureViews | None = None  # these views, where all are stored
        self._train_key = ""  # the key of their comparison
        self._plain: FeatureViews | None = None  # what evaluations read
        self._may_use = True  # False once a comparison has failed
        self._compared: set[str] = set()

    def __len__(self) -> int:
        return len(self.split)

    @property
    def device(self) -> torch.device:
        """The device on which batches are made."""
        return self.split.device

    @property
    def stored(self) -> FeatureViews | None:
        """The views that training batches are read from; None: they are computed."""
        return self._train if self._may_use else None

    def take_views(
        self, picked: np.ndarray, *, seed: int, epoch: int, augment: str, n_views: int | None
    ) -> Tensor:
        """Return the boundary tensor of the views of some images in an epoch, (B, ...)."""
        numbers = view_numbers(self.keys[picked], seed=seed, epoch=epoch, n_views=n_views)

        def compute() -> Tensor:
            return self.frozen.compute(make_views(self.split, picked, numbers, augment))

        fills = self.n_views > 0
        if find_policy(augment) == Policy():
            views = [View()]
        elif n_views is None:  # every epoch has one new view
            views = [View(augment, int(numbers[0]))]
            fills = self.n_views >= epoch
        else:
            views = [View(augment, number) for number in range(n_views)]
        if views != self._views:
            self._views, self._train = views, None  # the views of the last epoch may go first
            self._train = self._load_views(len(picked), fills=fills)
        if self.stored is None:
            return compute()
        features = self.stored.take(picked, numbers)
        if not self._compare(self._train_key, features, compute):
            return compute()
        self.frozen.counts.images_reused += len(picked)
        return features

    def _load_views(self, batch_size: int, *, fills: bool) -> FeatureViews | None:
        """Return the views of an epoch, or None where one of them is not stored."""
        last = len(self) - batch_size  # the last batch overlaps: all have the training's size
        starts = [min(start, last) for start in range(0, len(self), batch_size)]
        batches = [np.arange(start, start + batch_size) for start in starts]
        arrays = []
        for view in self._views:
            array = self.frozen.load(self.split, view, batches, fills=fills)
            if array is None:
                return None
            arrays.append(array)
        digests = sorted({array.digest for array in arrays})
        self._train_key = digest_of(["train", batch_size, digests], 16)
        return self.device_cache.place(arrays)

    def iter_eval(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the boundary tensor of every image, in order, without augmentation."""
        batches = list_eval_batches(len(self), batch_size)
        views = self._load_plain(batches)
        for picked in batches:
            if views is None:
                yield self._compute_plain(picked)
            else:
                self.frozen.counts.images_reused += len(picked)
                yield views.take(picked)

    def _load_plain(self, batches: list[np.ndarray]) -> FeatureViews | None:
        """Return the images without augmentation, or None where they may not be read.

        The first batch is compared, and the last, which is the only one of another size. Features
        that were computed in these very batches are compared only where there is a tolerance: on a
        device that may compute the same batch in another way.
        """
        array = self.frozen.load(self.split, View(), batches, fills=self.n_views > 0)
        if array is None:
            return None
        if self._plain is None or self._plain.arrays[0] is not array:
            self._plain = None  # the device may need its room
            self._plain = self.device_cache.place([array])
        if array.info["batch_size"] == len(batches[0]) and not self.tolerance:
            return self._plain
        for picked in (batches[0], batches[-1]):
            key = digest_of(["eval", int(picked[0]), len(picked), array.digest], 16)
            features = self._plain.take(picked)
            if not self._compare(key, features, partial(self._compute_plain, picked)):
                return None
        return self._plain

    def _compute_plain(self, picked: np.ndarray) -> Tensor:
        with evaluating(self.frozen.model):
            return self.frozen.compute(make_plain_views(self.split, picked))

    def _compare(self, key: str, features: Tensor, compute: Callable[[], Tensor]) -> bool:
        """Return whether stored features are what the network computes, or close enough."""
        if self._may_use and key not in self._compared:
            difference = self.remember(key, lambda: compare_features(features, compute))
            self._compared.add(key)
            self._may_use = difference <= self.tolerance
            self.frozen.counts.note_difference(difference)
            if not self._may_use:
                log.warning("stored features are not used: %s", self._describe(difference))
        return self._may_use

    def _describe(self, difference: float) -> str:
        if self.tolerance == 0:
            return (
                "this network's frozen units give other bits in batches of another size or order"
            )
        problem = "they have another layout, or the network draws random numbers"
        if math.isfinite(difference):
            problem = f"they differ by {difference:.2g}, relative to the largest value"
        return (
            f"{problem}, when the network computes them in a batch of this run; "
            f"train.features=close allows {self.tolerance:.2g}"
        )


def compare_features(features: Tensor, compute: Callable[[], Tensor]) -> float:
    """Return how far features are from what the network computes, as `measure_difference` does.

    inf where the network draws random numbers: what is trained would see other draws. The
    generators are set back, because the comparison may be skipped when it is remembered.
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
