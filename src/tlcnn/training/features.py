"""A split behind the frozen units: `FeatureBatches`, the twin of `Batches`.

What is read is compared with what the network makes of a batch of the run's own shape before it
is used; where a bit differs, or nothing is stored, the network computes it every time.
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tlcnn.data.augment import view_numbers
from tlcnn.data.policy import Policy, find_policy
from tlcnn.model.cut import evaluating
from tlcnn.model.freeze import are_same_bits
from tlcnn.storage import digest_of
from tlcnn.training.batches import Batches, list_eval_batches, make_plain_views, make_views
from tlcnn.training.feature_store import Features, shape_rows
from tlcnn.training.frozen_prefix import FrozenPrefix, View

log = logging.getLogger(__name__)


class FeatureBatches:
    """A split behind the frozen units: the twin of `Batches` that yields boundary tensors.

    What is not stored it lets the network compute, so what it yields never depends on the store.

    Args:
        split: the images.
        prefix: the frozen units.
        n_views: how many views of a training are worth storing: all of a pool, or those of the
            first epochs. Others are read where they are.
        remember: returns whether a comparison that is named by a key went well; asks its second
            argument where it does not know.
    """

    def __init__(
        self,
        split: Batches,
        prefix: FrozenPrefix,
        *,
        n_views: int,
        remember: Callable[[str, Callable[[], bool]], bool] = lambda key, compare: compare(),
    ) -> None:
        self.split, self.prefix, self.n_views, self.remember = split, prefix, n_views, remember
        self.rows, self.labels, self.keys = split.rows, split.labels, split.keys
        self._views: list[View] = []
        self._features: list[Features] | None = None  # of these views, where all are there
        self._key = ""  # of the comparison that they need
        self._is_exact = True
        self._checked: set[str] = set()

    def __len__(self) -> int:
        return len(self.split)

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self.split.device

    @property
    def stored(self) -> list[Features] | None:
        """The arrays, one a view, that training batches are read from; None: they are computed."""
        return self._features if self._is_exact else None

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
        if self._features is None:
            return compute()
        found = self._gather(self._features, picked, numbers)
        return found if self._is_same(self._key, found, compute) else compute()

    def _compute_views(self, picked: np.ndarray, numbers: np.ndarray, augment: str) -> Tensor:
        return self.prefix.compute(make_views(self.split, picked, numbers, augment))

    def _open(self, views: list[View], batch_size: int, *, fills: bool) -> None:
        """Have the arrays of the views of an epoch at hand, if they are stored."""
        if views == self._views:
            return
        self._views, self._features = views, None  # those of the epoch before may go
        starts = range(0, len(self), batch_size)
        last = len(self) - batch_size  # every batch is of the training's own size
        batches = [np.arange(min(s, last), min(s, last) + batch_size) for s in starts]
        found = []
        for view in views:
            features = self.prefix.load(self.split, view, batches, fills=fills)
            if features is None:
                return
            found.append(features)
        self._features = found
        digests = sorted({each.digest for each in found})
        self._key = digest_of(["train", batch_size, digests], 16)

    def _gather(self, features: list[Features], picked: np.ndarray, which: np.ndarray) -> Tensor:
        """Return the rows of picked images, each of the view that `which` says."""
        self.prefix.counts.images_reused += len(picked)
        if len(features) == 1:
            return _take(features[0], picked)
        layout = features[0].layout
        rows = torch.empty(len(picked), layout.size, dtype=layout.torch_dtype)
        for number, each in enumerate(features):
            places = np.flatnonzero(which == number)
            rows[torch.from_numpy(places)] = each.rows[torch.from_numpy(picked[places])]
        return shape_rows(rows, layout)

    def iter_eval(self, batch_size: int) -> Iterator[Tensor]:
        """Yield what crosses the boundary of every image, in order, without augmentation."""
        batches = list_eval_batches(len(self), batch_size)
        features = self.prefix.load(self.split, View(), batches, fills=self.n_views > 0)
        if features is not None and not self._is_same_at_ends(features, batches):
            features = None
        for picked in batches:
            if features is None:
                yield self._compute_plain(picked)
            else:
                self.prefix.counts.images_reused += len(picked)
                yield _take(features, picked)

    def _compute_plain(self, picked: np.ndarray) -> Tensor:
        with evaluating(self.prefix.model):
            return self.prefix.compute(make_plain_views(self.split, picked))

    def _is_same_at_ends(self, features: Features, batches: list[np.ndarray]) -> bool:
        """Compare the first batch and the last, which is the only one of another size.

        What was computed in these very batches is the same without looking.
        """
        if features.batch_size == len(batches[0]):
            return True
        for picked in (batches[0], batches[-1]):
            key = digest_of(["eval", int(picked[0]), len(picked), features.digest], 16)
            found = _take(features, picked)
            if not self._is_same(key, found, partial(self._compute_plain, picked)):
                return False
        return True

    def _is_same(self, key: str, found: Tensor, compute: Callable[[], Tensor]) -> bool:
        """Return whether what is stored is what the network makes of it, bit for bit."""
        if self._is_exact and key not in self._checked:
            self._is_exact = self.remember(key, lambda: _are_same(found, compute))
            self._checked.add(key)
            if not self._is_exact:
                log.warning(
                    "stored features are not used: this network's frozen units give other bits "
                    "in batches of another size or order"
                )
        return self._is_exact


def _take(features: Features, picked: np.ndarray) -> Tensor:
    return features.take(torch.from_numpy(picked))


def _are_same(found: Tensor, compute: Callable[[], Tensor]) -> bool:
    before = torch.get_rng_state()
    expected = compute()
    if not torch.equal(before, torch.get_rng_state()):
        return False  # the trained part would see other draws
    return found.stride() == expected.stride() and are_same_bits(found, expected)
