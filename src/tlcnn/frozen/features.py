"""A split behind the frozen units: `FeatureBatches`, the twin of `Batches`.

What is read is compared with what the network makes of a batch of the run's own shape before it
is used. Where a bit differs (`train.features=close`: more than a tolerance allows), or nothing is
stored, the network computes it every time.
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
from tlcnn.frozen.feature_store import Features
from tlcnn.frozen.frozen_prefix import FrozenPrefix, View
from tlcnn.frozen.placing import Placed, Shelf
from tlcnn.model.cut import evaluating
from tlcnn.model.difference import measure_difference
from tlcnn.storage import digest_of

log = logging.getLogger(__name__)


class FeatureBatches:
    """A split behind the frozen units: the twin of `Batches` that yields boundary tensors.

    What is not stored it lets the network compute. So what it yields does not depend on the
    store: to the last bit, or within a tolerance where one is given.

    Args:
        split: the images.
        prefix: the frozen units.
        n_views: how many views of a training are worth storing: all of a pool, or those of the
            first epochs. Others are read where they are.
        tolerance: the largest difference from what the network computes that is let in, relative
            to the largest magnitude in it; 0: only the same bits.
        shelf: arrays on the split's device; None: a new one.
        remember: returns the difference that a comparison named by a key has found; asks its
            second argument where it does not know.
    """

    def __init__(
        self,
        split: Batches,
        prefix: FrozenPrefix,
        *,
        n_views: int,
        tolerance: float = 0.0,
        shelf: Shelf | None = None,
        remember: Callable[[str, Callable[[], float]], float] = lambda key, compare: compare(),
    ) -> None:
        self.split, self.prefix, self.n_views, self.remember = split, prefix, n_views, remember
        self.tolerance, self.shelf = tolerance, shelf or Shelf(split.device)
        self.rows, self.labels, self.keys = split.rows, split.labels, split.keys
        self._views: list[View] = []
        self._shown: Placed | None = None  # these views, where all are there
        self._key = ""  # of the comparison that they need
        self._plain: Placed | None = None  # what evaluations read
        self._is_good = True
        self._checked: set[str] = set()

    def __len__(self) -> int:
        return len(self.split)

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self.split.device

    @property
    def stored(self) -> Placed | None:
        """The views that training batches are read from; None: they are computed."""
        return self._shown if self._is_good else None

    def take_views(
        self, picked: np.ndarray, *, seed: int, epoch: int, augment: str, n_views: int | None
    ) -> Tensor:
        """Return the boundary tensor of the views of some images in an epoch, (B, ...)."""
        keys = self.keys[picked]
        numbers = view_numbers(keys, seed=seed, epoch=epoch, n_views=n_views)
        compute = partial(self._compute_views, picked, numbers, augment)
        is_plain = find_policy(augment) == Policy()
        is_fresh = n_views is None and not is_plain
        if is_plain:
            views = [View()]
        elif n_views is None:
            views = [View(augment, int(numbers[0]))]
        else:
            views = [View(augment, number) for number in range(n_views)]
        self._open(views, len(picked), fills=self.n_views >= (epoch if is_fresh else 1))
        if self.stored is None:
            return compute()
        found = self.stored.take(picked, numbers)
        if not self._may_use(self._key, found, compute):
            return compute()
        self.prefix.counts.images_reused += len(picked)
        return found

    def _compute_views(self, picked: np.ndarray, numbers: np.ndarray, augment: str) -> Tensor:
        return self.prefix.compute(make_views(self.split, picked, numbers, augment))

    def _open(self, views: list[View], batch_size: int, *, fills: bool) -> None:
        """Have the arrays of the views of an epoch at hand, if they are stored."""
        if views == self._views:
            return
        self._views, self._shown = views, None  # those of the epoch before may go
        starts = range(0, len(self), batch_size)
        last = len(self) - batch_size  # every batch is of the training's own size
        batches = [np.arange(min(s, last), min(s, last) + batch_size) for s in starts]
        found = []
        for view in views:
            features = self.prefix.load(self.split, view, batches, fills=fills)
            if features is None:
                return
            found.append(features)
        self._shown = self.shelf.place(found)
        digests = sorted({each.digest for each in found})
        self._key = digest_of(["train", batch_size, digests], 16)

    def iter_eval(self, batch_size: int) -> Iterator[Tensor]:
        """Yield what crosses the boundary of every image, in order, without augmentation."""
        batches = list_eval_batches(len(self), batch_size)
        features = self.prefix.load(self.split, View(), batches, fills=self.n_views > 0)
        placed = None if features is None else self._place_plain(features)
        if placed is not None and not self._may_use_ends(placed, batches):
            placed = None
        for picked in batches:
            if placed is None:
                yield self._compute_plain(picked)
            else:
                self.prefix.counts.images_reused += len(picked)
                yield placed.take(picked)

    def _place_plain(self, features: Features) -> Placed:
        if self._plain is None or self._plain.views[0] is not features:
            self._plain = None  # may go before the next comes
            self._plain = self.shelf.place([features])
        return self._plain

    def _compute_plain(self, picked: np.ndarray) -> Tensor:
        with evaluating(self.prefix.model):
            return self.prefix.compute(make_plain_views(self.split, picked))

    def _may_use_ends(self, placed: Placed, batches: list[np.ndarray]) -> bool:
        """Compare the first batch and the last, which is the only one of another size.

        What was computed in these very batches is the same without looking, and looked at only
        where a tolerance says that a device may be of another opinion.
        """
        features = placed.views[0]
        if features.batch_size == len(batches[0]) and not self.tolerance:
            return True
        for picked in (batches[0], batches[-1]):
            key = digest_of(["eval", int(picked[0]), len(picked), features.digest], 16)
            found = placed.take(picked)
            if not self._may_use(key, found, partial(self._compute_plain, picked)):
                return False
        return True

    def _may_use(self, key: str, found: Tensor, compute: Callable[[], Tensor]) -> bool:
        """Return whether what is stored is what the network makes of it, or close enough."""
        if self._is_good and key not in self._checked:
            difference = self.remember(key, lambda: _compare(found, compute))
            self._checked.add(key)
            self._is_good = difference <= self.tolerance
            self.prefix.counts.note_difference(difference)
            if not self._is_good:
                log.warning("stored features are not used: %s", self._describe(difference))
        return self._is_good

    def _describe(self, difference: float) -> str:
        if self.tolerance == 0:
            return (
                "this network's frozen units give other bits in batches of another size or order"
            )
        far = f"differ by {difference:.2g}, relative to the largest value"
        far = far if math.isfinite(difference) else "lie or are drawn differently"
        return (
            f"they {far}, when the network computes them in a batch of this run; "
            f"train.features=close allows {self.tolerance:.2g}"
        )


def _compare(found: Tensor, compute: Callable[[], Tensor]) -> float:
    """Return how far what is stored is from what the network computes; inf: not comparable."""
    before = read_generators(found.device)
    expected = compute()
    now = read_generators(found.device)
    if not all(map(torch.equal, before, now)):
        _set_generators(found.device, before)  # as where this comparison is remembered
        return math.inf  # the trained part would see other draws
    if found.stride() != expected.stride():
        return math.inf
    return measure_difference(expected, found)


def read_generators(device: torch.device) -> list[Tensor]:
    """Return the states of the generators that a network on a device may draw from."""
    states = [torch.get_rng_state()]
    if device.type in ("cuda", "mps"):
        states.append(getattr(torch, device.type).get_rng_state())
    return states


def _set_generators(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        getattr(torch, device.type).set_rng_state(state)
