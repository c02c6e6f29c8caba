"""The frozen units of a network as a function whose values are computed once and stored.

    images of a view -> units 1..j -> boundary tensors -> ArrayStore

Frozen units are a fixed function. What they compute follows from their weights and buffers, the
images, the view and the machine; a digest of all these is the name of the stored array.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tlcnn.data.array_store import ArrayStore, CachedArray
from tlcnn.data.batches import Batches, feed_images
from tlcnn.data.feed import Feed
from tlcnn.data.policy import Policy, describe_views
from tlcnn.errors import StorageError
from tlcnn.frozen.features import FeatureViews, FeatureWriter
from tlcnn.model.cut import evaluating, pass_boundaries
from tlcnn.model.freeze import list_tensors
from tlcnn.model.unit_map import UnitMap
from tlcnn.storage import digest_of
from tlcnn.training.evaluate import autocast

FEATURES_VERSION = 2  # counts up whenever equal names would hold other bits


@dataclass(frozen=True)
class View:
    """One view of every image of a split; with the default policy, the images as they are."""

    augment: Policy = Policy()
    number: int = 0

    def feed(self, split: Batches, batches: Sequence[np.ndarray]) -> Feed:
        """Return this view of the images of a split, (B, 3, H, W)."""
        n_positions = sum(len(picked) for picked in batches)
        numbers = np.full(n_positions, self.number, dtype=np.uint64)
        return feed_images(split, batches, numbers, self.augment)

    def make_key(self, split: Batches) -> Any:
        """Return what decides the pixels beside the images: also their ids, which draws use."""
        if self.augment == Policy():
            return "plain"
        return [describe_views(self.augment), str(self.number), _digest_of_numbers(split.keys)]


@dataclass
class ReuseCounts:
    """How much a run computed and how much it read.

    Differences are those between features that were read and computed, relative to the largest
    magnitude in a tensor; 0.0: the same bits.
    """

    images_computed: int = 0  # images that passed through frozen units
    images_reused: int = 0  # images whose features were read instead
    arrays_filled: int = 0  # arrays that this run stored
    arrays_found: int = 0  # arrays that another run, or an earlier session, had stored
    largest_difference: float = 0.0
    tolerance: float = 0.0  # the largest difference that the run allows

    def note_difference(self, difference: float) -> None:
        """Take a difference into account, if the tensors could be compared."""
        if math.isfinite(difference):
            self.largest_difference = max(self.largest_difference, difference)


class FrozenUnits:
    """The frozen units of a network as a fixed function whose values are stored.

    Args:
        model: the network at its start, with the units frozen; it can be cut behind them.
        key: what else decides the bits: versions, hardware, threads, the scaling of pixels.
        other_boundaries: boundaries that other runs will need, computed in the same pass.
        check_stop: a function that raises when a signal has come.
    """

    def __init__(
        self,
        model: nn.Module,
        unit_map: UnitMap,
        n_frozen: int,
        *,
        precision: str,
        key: Any,
        other_boundaries: Sequence[int],
        tolerance: float,
        store: ArrayStore,
        check_stop: Callable[[], None],
    ) -> None:
        self.model, self.unit_map, self.n_frozen = model, unit_map, n_frozen
        self.precision, self.key, self.store, self.check_stop = precision, key, store, check_stop
        self.boundaries = sorted({n_frozen, *other_boundaries})
        deepest = self.boundaries[-1]
        self.digests = digest_units(model, unit_map, deepest)
        # Other runs need deeper units as they are now, and this run may train them.
        self.source = model if deepest == n_frozen else copy.deepcopy(model).eval()
        self.counts = ReuseCounts(tolerance=tolerance)
        self._run = pass_boundaries(model, unit_map, 0, [n_frozen])

    def compute(self, images: Tensor) -> Tensor:
        """Return what crosses the boundary, (B, ...), computed by the network."""
        with torch.no_grad(), autocast(images.device, self.precision):
            return self._run(images)[self.n_frozen]

    def load(
        self, split: Batches, view: View, batches: Sequence[np.ndarray], *, fills: bool
    ) -> CachedArray | None:
        """Return the stored features of a view of a split, or None.

        Args:
            batches: positions in the split, in order, to compute them in; batches may overlap.
            fills: whether to compute and store them where they are missing.
        """
        pixels = [_digest_of_numbers(split.rows), view.make_key(split)]
        key = [FEATURES_VERSION, self.key, self.precision, *pixels]
        start = digest_of([*key, self.unit_map.digest(), self.digests[1]], 16)
        # The arrays of all boundaries begin alike, so that they share a lock.
        names = {n: f"{start}-{n:02d}{digest_of(d, 14)}" for n, d in self.digests.items()}
        name = names[self.n_frozen]
        array = self.store.find(name)
        if array is None and fills:
            with ExitStack() as stack:
                try:
                    if self.store.can_write:  # what is in memory needs no lock
                        work = "computes the same features"
                        lock = self.store.hold(name, work=work, check_stop=self.check_stop)
                        stack.enter_context(lock)
                except StorageError as error:
                    self.store.stop_writing(error)
                array = self.store.find(name)  # another process may have stored it meanwhile
                if array is None:
                    return self._fill(split, view, names, batches)
        if array is not None:
            self.counts.arrays_found += 1
        return array

    def _fill(
        self, split: Batches, view: View, names: Mapping[int, str], batches: Sequence[np.ndarray]
    ) -> CachedArray | None:
        """Compute and store what is missing, from the deepest boundary that is stored.

        Where a boundary cannot be stored there is a warning; for the run's own, None.
        """
        missing = [n for n in self.boundaries if self.store.find(names[n]) is None]
        first, below = 0, None
        for n in range(missing[0] - 1, 0, -1):
            can_cut = self.unit_map.units[n - 1].cut_obstacle is None
            if can_cut and (array := self.store.find(names[n])) is not None:
                first, below = n, FeatureViews([array], split.device)
                break
        run = pass_boundaries(self.source, self.unit_map, first, tuple(missing))
        with ExitStack() as stack:
            size = 0 if below else len(batches[0])
            writers = {n: FeatureWriter(self.store, names[n], len(split), size) for n in missing}
            for writer in writers.values():
                stack.callback(writer.discard)
            n_done = 0
            feed = below.feed(batches) if below else view.feed(split, batches)
            for number, picked in enumerate(batches):
                self.check_stop()
                inputs = feed.make_batch(number)
                device = inputs.device
                with torch.no_grad(), evaluating(self.source), autocast(device, self.precision):
                    crossed = run(inputs)
                self.counts.images_computed += len(picked)
                for n, writer in writers.items():
                    writer.add(crossed[n], n_repeated=n_done - int(picked[0]))
                if writers[self.n_frozen].has_failed:
                    return None
                n_done = int(picked[-1]) + 1
            arrays = {n: writer.finish() for n, writer in writers.items()}
        self.counts.arrays_filled += sum(array is not None for array in arrays.values())
        return arrays[self.n_frozen]


def _digest_of_numbers(numbers: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(numbers).tobytes()).hexdigest()


def digest_units(model: nn.Module, unit_map: UnitMap, n_units: int) -> dict[int, str]:
    """Return, for each n up to `n_units`, the sha256 of all tensors of units 1..n."""
    tensors = list_tensors(model)
    digest, digests = hashlib.sha256(), {}
    for number in range(1, n_units + 1):
        for name in sorted(unit_map.tensors_of(number, number)):
            tensor = tensors[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        digests[number] = digest.hexdigest()
    return digests
