"""What the measures of one analysis look at: networks, images, and activations at boundaries.

    networks + images -> one pass a network -> features at every boundary -> measures

Activations are kept as features: pooled, (N, C), and of training images also spatial, (N, 4 C),
the mean over each quarter of the map. All networks have the same architecture, and so the same
units.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from tlcnn.data.batches import Batches, expect, list_eval_batches
from tlcnn.model.cut import evaluating, pass_boundaries
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
        of the training images alone.
        """
        if form not in self._features.get((role, split), {}):
            forms = FORMS if split == "train" else FORMS[:1]
            self._features[role, split] = compute_features(
                self.networks[role], self.unit_map, self.images[split], self.numbers, forms
            )
        return self._features[role, split][form]

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


@torch.no_grad()
def compute_features(
    model: nn.Module,
    unit_map: UnitMap,
    images: Batches,
    numbers: list[int],
    forms: Sequence[Form] = FORMS,
) -> dict[Form, dict[int, np.ndarray]]:
    """Return the features of all images at some boundaries, by form and unit, in float32."""
    run = pass_boundaries(model, unit_map, 0, numbers)
    parts: dict[Form, dict[int, list[Tensor]]] = {form: {n: [] for n in numbers} for form in forms}
    batches = list_eval_batches(len(images), BATCH_SIZE)
    feed = images.feed_plain(batches)
    with evaluating(model), expect(images, batches):
        for number in range(len(batches)):
            for n, activations in run(feed.make_batch(number)).items():
                features = pool(activations.float())
                for form in forms:
                    parts[form][n].append(features[form].cpu())
    return {
        form: {n: torch.cat(tensors).numpy() for n, tensors in by_unit.items()}
        for form, by_unit in parts.items()
    }


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
