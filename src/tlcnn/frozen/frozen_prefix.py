"""The frozen units of a network as a function whose values are computed once and stored.

    images of a view -> units 1..j -> boundary tensors -> FeatureStore

Frozen units are a fixed function, so an array follows from their weights and buffers, the images,
the view and how this machine computes; that is its name.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tlcnn.data.batches import Batches, make_plain_views, make_views
from tlcnn.data.policy import Policy, describe_views, find_policy
from tlcnn.frozen.feature_store import Features, FeatureStore
from tlcnn.frozen.filling import Filling
from tlcnn.frozen.placing import Placed
from tlcnn.model.cut import evaluating, pass_boundaries
from tlcnn.model.unit_map import UnitMap
from tlcnn.storage import digest_of
from tlcnn.training.evaluate import autocast

FEATURES_VERSION = 1  # counts up whenever equal names would hold other bits


@dataclass(frozen=True)
class View:
    """One view of every image of a split.

    Attributes:
        augment: `none`, or the policy that the view is drawn from.
        number: of the view.
    """

    augment: str = "none"
    number: int = 0

    def make(self, split: Batches, picked: np.ndarray) -> Tensor:
        """Return this view of picked images, (B, 3, H, W)."""
        if find_policy(self.augment) == Policy():
            return make_plain_views(split, picked)
        views = np.full(len(picked), self.number, dtype=np.uint64)
        return make_views(split, picked, views, self.augment)

    def key(self, split: Batches) -> Any:
        """Return what decides the pixels, beside the images: their ids, which views depend on."""
        policy = find_policy(self.augment)
        if policy == Policy():
            return "plain"
        ids = hashlib.sha256(np.ascontiguousarray(split.keys).tobytes()).hexdigest()
        return [describe_views(policy), str(self.number), ids]


@dataclass
class Counts:
    """What a run computed and what it read.

    Attributes:
        largest_difference: between the two, where they were compared, relative to the largest
            magnitude in a tensor; 0.0: the same bits.
        tolerance: that the run has for it.
    """

    images_computed: int = 0  # passed through frozen units
    images_reused: int = 0  # whose boundary tensor was read instead
    arrays_filled: int = 0
    arrays_found: int = 0  # that another run, or an earlier sitting, had filled
    largest_difference: float = 0.0
    tolerance: float = 0.0

    def note_difference(self, difference: float) -> None:
        """Remember the largest; one of tensors that cannot be compared is no number."""
        if math.isfinite(difference):
            self.largest_difference = max(self.largest_difference, difference)


@dataclass(frozen=True)
class Spot:
    """Where an array is computed from, and what: boundary tensors of one view of one split."""

    line: str
    names: dict[int, str]  # boundary -> name in the store


class FrozenPrefix:
    """The frozen units of a network as a fixed function whose values are stored.

    Args:
        model: with the units frozen, at its start.
        unit_map: of the network.
        n_frozen: units that are frozen; the network can be cut behind them.
        precision: fp32 or bf16.
        key: what else decides the bits: versions, hardware, threads, how pixels are scaled.
        also: more boundaries that other runs will need; they are computed in the same pass.
        digests: as `digest_units` returns them; None: computed.
        store: where arrays are.
        check_stop: raises when a signal has come.
    """

    def __init__(
        self,
        model: nn.Module,
        unit_map: UnitMap,
        n_frozen: int,
        *,
        precision: str,
        key: Any,
        also: Sequence[int] = (),
        digests: dict[int, str] | None = None,
        store: FeatureStore,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.unit_map, self.n_frozen = model, unit_map, n_frozen
        self.precision, self.key, self.store, self.check_stop = precision, key, store, check_stop
        self.wanted = sorted({n_frozen, *also})
        self.digests = digests or digest_units(model, unit_map, self.wanted[-1])
        # Units that this run trains will not stay what they are for the others.
        self.source = model if self.wanted[-1] == n_frozen else copy.deepcopy(model).eval()
        self.counts = Counts()
        self._run = pass_boundaries(model, unit_map, 0, [n_frozen])

    def compute(self, images: Tensor) -> Tensor:
        """Return what crosses the boundary, (B, ...), by way of the network."""
        self.counts.images_computed += len(images)
        with torch.no_grad(), autocast(images.device, self.precision):
            return self._run(images)[self.n_frozen]

    def find_spot(self, split: Batches, view: View) -> Spot:
        """Return the names of the arrays of a view of a split."""
        rows = hashlib.sha256(np.ascontiguousarray(split.rows, dtype=np.int64).tobytes())
        key = [FEATURES_VERSION, self.key, self.precision, rows.hexdigest(), view.key(split)]
        line = digest_of([*key, self.unit_map.digest(), self.digests[1]], 16)
        names = {n: f"{line}-{n:02d}{digest_of(d, 14)}" for n, d in self.digests.items()}
        return Spot(line, names)

    def load(
        self, split: Batches, view: View, batches: Sequence[np.ndarray], *, fills: bool
    ) -> Features | None:
        """Return the stored boundary tensors of a view of a split, or None.

        Args:
            batches: positions in the split, in order, to compute them in; batches may overlap.
            fills: whether to compute and store them where they are not.
        """
        spot = self.find_spot(split, view)
        name = spot.names[self.n_frozen]
        found = self.store.find(name)
        if found is None and fills:
            with self.store.hold(spot.line, self.check_stop):
                found = self.store.find(name)  # by the process that this one has waited for
                if found is None:
                    return self._fill(split, view, spot, batches)
        if found is not None:
            self.counts.arrays_found += 1
        return found

    def _fill(
        self, split: Batches, view: View, spot: Spot, batches: Sequence[np.ndarray]
    ) -> Features | None:
        missing = [n for n in self.wanted if self.store.find(spot.names[n]) is None]
        first, stored = self._find_below(spot, missing[0])
        below = stored and Placed([stored], split.device)
        size = 0 if below else len(batches[0])
        fillings = {n: Filling(self.store, spot.names[n], len(split), size) for n in missing}
        run = pass_boundaries(self.source, self.unit_map, first, missing)
        n_done = 0
        try:
            for picked in batches:
                self.check_stop()
                inputs = below.take(picked) if below else view.make(split, picked)
                with (
                    torch.no_grad(),
                    evaluating(self.source),
                    autocast(inputs.device, self.precision),
                ):
                    crossed = run(inputs)
                for n, filling in fillings.items():
                    filling.add(crossed[n], n_known=n_done - int(picked[0]))
                n_done = int(picked[-1]) + 1
                self.counts.images_computed += len(picked)
            found = {n: filling.finish() for n, filling in fillings.items()}
        finally:
            for filling in fillings.values():
                filling.discard()
        self.counts.arrays_filled += sum(each is not None for each in found.values())
        return found[self.n_frozen]

    def _find_below(self, spot: Spot, n: int) -> tuple[int, Features | None]:
        """Return the deepest boundary before unit n that is stored, and its array; else (0, None).

        Only boundaries at which this network can be cut count.
        """
        for number in range(n - 1, 0, -1):
            found = None
            if self.unit_map.units[number - 1].cut is None:
                found = self.store.find(spot.names[number])
            if found is not None:
                return number, found
        return 0, None


def digest_units(model: nn.Module, unit_map: UnitMap, n_units: int) -> dict[int, str]:
    """Return, for each n up to `n_units`, the sha256 of all tensors of units 1..n."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    digest, found = hashlib.sha256(), {}
    for number in range(1, n_units + 1):
        for name in sorted(unit_map.tensors_of(number, number)):
            tensor = tensors[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        found[number] = digest.hexdigest()
    return found
