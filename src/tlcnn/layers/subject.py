"""What the measures of one analysis look at: networks, images, and activations at boundaries.

    networks + images -> one pass a network -> features at every boundary -> measures

Activations are kept as features: pooled, (N, C), and of training images also spatial, (N, 4 C),
the mean over each quarter of the map. All networks have the same architecture, and so the same
units.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tlcnn.data.batches import Batches, expect, list_eval_batches
from tlcnn.data.parts import run_parts
from tlcnn.memory import release_memory
from tlcnn.model.cut import copy_modules, evaluating, pass_boundaries
from tlcnn.model.unit_map import UnitMap

# start   the run's network before its first step: the source's weights in the units 1..k
# final   the run's network after training
# own     a network that was trained on the target from random weights
# twin    a second one, of another seed
# random  an untrained network of random weights, with norm statistics of the target's images
Role = Literal["start", "final", "own", "twin", "random"]
Split = Literal["train", "val", "test"]
Form = Literal["pooled", "spatial"]

Features = dict[Split, np.ndarray]  # what leaves one unit of one network, (n, D) by split

FORMS: tuple[Form, ...] = ("pooled", "spatial")
BATCH_SIZE = 64  # images of a forward pass: on a processor a larger one is no faster
Task = TypeVar("Task")
Result = TypeVar("Result")

_SIDE = 2  # a spatial feature is the mean over one of 2 x 2 parts of the map


@dataclass
class Subject:
    """The networks and images of one analysis, and the features that were computed from them.

    Attributes:
        networks: by role, on one device, in evaluation mode. A measure may change a copy only.
        images: a fixed part of each split. What is fitted is fitted on `train` and chosen on
            `val`; `test` only scores.
        groups: (n,) str, the group of each image, by split.
        k: the units that the run took from its source.
        seed: the seed of everything that a measure draws at random.
    """

    unit_map: UnitMap
    networks: Mapping[Role, nn.Module]
    images: Mapping[Split, Batches]
    groups: Mapping[Split, np.ndarray]
    n_classes: int
    k: int
    seed: int = 0
    _features: dict[tuple[Role, Split], dict[Form, dict[int, np.ndarray]]] = field(
        default_factory=dict, repr=False
    )
    _obstacles: dict[int, str] = field(default_factory=dict, repr=False)
    _equal: dict[tuple[Role, Role], bool] = field(default_factory=dict, init=False, repr=False)

    @property
    def obstacles(self) -> dict[int, str]:
        """Why no single tensor leaves a unit, by its number; measures leave such a unit out."""
        if not self._obstacles:
            units = enumerate(self.unit_map.units, start=1)
            self._obstacles = {n: u.cut_obstacle for n, u in units if u.cut_obstacle is not None}
        return self._obstacles

    @property
    def numbers(self) -> list[int]:
        """The numbers of the units that a single tensor leaves."""
        return [n for n in range(1, len(self.unit_map) + 1) if n not in self.obstacles]

    def labels(self, split: Split) -> np.ndarray:
        """Return the classes of a split's images, (n,) int64."""
        labels: np.ndarray = self.images[split].labels.cpu().numpy()
        return labels

    def features(self, role: Role, split: Split, form: Form = "pooled") -> dict[int, np.ndarray]:
        """Return what leaves each unit, by its number: (n, C) pooled, (n, 4 C) spatial, float32.

        A network's activations at all boundaries come from one pass over a split. Spatial ones are
        of the training images alone. Networks with the same units share their features.
        """
        first = next(each for each in self.networks if self._have_equal_units(each, role))
        if form not in self._features.get((first, split), {}):
            forms = FORMS if split == "train" else FORMS[:1]
            self._features[first, split] = compute_features(
                self.networks[first], self.unit_map, self.images[split], self.numbers, forms
            )
        return self._features[first, split][form]

    def _have_equal_units(self, a: Role, b: Role) -> bool:
        """Return whether two networks have the same weights and buffers, but for the head's."""
        if a == b:
            return True
        if (a, b) not in self._equal:
            x, y = (
                {**dict(network.named_parameters()), **dict(network.named_buffers())}
                for network in (self.networks[a], self.networks[b])
            )
            names = [name for unit in self.unit_map.units for name in unit.tensors]
            is_equal = all(torch.equal(x[name], y[name]) for name in names)
            self._equal[a, b] = bool(names) and is_equal
        return self._equal[a, b]

    def drop_features(self, form: Form) -> None:
        """Free the memory of features that no further measure is expected to need."""
        for by_form in self._features.values():
            by_form.pop(form, None)


def collect_features(
    subject: Subject, role: Role, n: int, splits: Iterable[Split], form: Form = "pooled"
) -> Features | str:
    """Return a network's features behind unit n by split, or a sentence on why there are none."""
    if n in subject.obstacles:
        return f"no single tensor leaves the unit: {subject.obstacles[n]}"
    if role not in subject.networks:
        return f"the analysis has no network `{role}`"
    features = {split: subject.features(role, split, form)[n] for split in splits}
    if not all(np.isfinite(each).all() for each in features.values()):
        return f"not all features of `{role}` are finite"
    return features


def compute_features(
    model: nn.Module,
    unit_map: UnitMap,
    images: Batches,
    numbers: list[int],
    forms: Sequence[Form] = FORMS,
) -> dict[Form, dict[int, np.ndarray]]:
    """Return the features of all images at some boundaries, by form and unit, in float32."""

    def build() -> Callable[[Tensor], dict[int, dict[Form, Tensor]]]:
        run = pass_boundaries(copy_modules(model), unit_map, 0, numbers)

        def compute(batch: Tensor) -> dict[int, dict[Form, Tensor]]:
            pooled = {n: pool(activations.float()) for n, activations in run(batch).items()}
            return {n: {form: each[form].cpu() for form in forms} for n, each in pooled.items()}

        return compute

    with evaluating(model):
        parts = map_batches(images, build)
    return {
        form: {n: torch.cat([part[n][form] for part in parts]).numpy() for n in numbers}
        for form in forms
    }


def map_batches(
    images: Batches, build: Callable[[], Callable[[Tensor], Result]], batch_size: int = BATCH_SIZE
) -> list[Result]:
    """Return what a function makes of each batch of all images, without gradients.

    On a processor each core takes a batch at a time.

    Args:
        build: returns the function of one thread.
    """
    batches = list_eval_batches(len(images), batch_size)
    feed, numbers, lock = images.feed_plain(batches), iter(range(len(batches))), Lock()
    results: dict[int, Result] = {}

    @torch.no_grad()
    def work(_: int) -> None:
        function = build()
        while True:
            with lock:  # a feed is asked for its batches in their order
                number = next(numbers, None)
                values = None if number is None else feed.get(number)
            if number is None or values is None:
                return
            results[number] = function(feed.make(values))

    n_threads = min(len(batches), torch.get_num_threads())
    with expect(images, batches):
        run_tasks(work, range(n_threads if images.device.type == "cpu" else 1), images.device)
    release_memory(images.pixels)
    return [results[number] for number in range(len(batches))]


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], device: torch.device
) -> list[Result]:
    """Return a function of each task; on a processor each core takes one task at a time."""
    if device.type == "cpu":
        return run_parts(function, tasks)
    return [function(task) for task in tasks]


def pool(activations: Tensor) -> dict[Form, Tensor]:
    """Return activations (B, C, H, W) as features: pooled (B, C), and spatial (B, 4 C).

    What has no map, (B, C), is the same in both forms.
    """
    if activations.ndim == 2:
        return {form: activations for form in FORMS}
    quarters = nn.functional.adaptive_avg_pool2d(activations, _SIDE).flatten(1)
    return {"pooled": activations.mean(dim=(2, 3)), "spatial": quarters}


def pick_images(images: Batches, n_images: int) -> tuple[Batches, np.ndarray]:
    """Return at most `n_images` of a split and their positions in it, ascending.

    The choice depends on the images' ids alone, so that it is the same for every run and seed.
    """
    positions = np.sort(np.argsort(images.keys, kind="stable")[:n_images])
    labels = images.labels[torch.from_numpy(positions).to(images.device)]
    picked = replace(
        images, rows=images.rows[positions], labels=labels, keys=images.keys[positions], ahead=None
    )
    return picked, positions
