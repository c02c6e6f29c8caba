"""Small subjects for tests of measures: tiny networks on random images, or features by hand."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from families import load_map_with_cuts
from torch import nn

from tlcnn.data.batches import Batches
from tlcnn.layers.subject import FORMS, Role, Split, Subject
from tlcnn.model.build import build_model
from tlcnn.model.unit_map import Unit, UnitMap

ROLES: tuple[Role, ...] = ("start", "final", "own", "twin", "random")
SIZES: dict[Split, int] = {"train": 96, "val": 16, "test": 24}


def make_images(n_images: int, n_classes: int, seed: int, pixels: int = 32) -> Batches:
    """Return random images whose classes take turns."""
    rng = np.random.default_rng(seed)
    return Batches(
        pixels=rng.integers(0, 256, (n_images, pixels, pixels, 3), dtype=np.uint8),
        rows=np.arange(n_images),
        labels=torch.arange(n_images) % n_classes,
        keys=rng.integers(0, 2**63, n_images, dtype=np.uint64),
        image_size=pixels,
        normalize="half",
    )


def make_subject(
    name: str = "test_resnet", *, roles: tuple[Role, ...] = ROLES, n_classes: int = 4
) -> Subject:
    """Return networks as they are drawn, a seed a role, and random images in groups of two."""
    return Subject(
        unit_map=load_map_with_cuts(name),
        networks={
            role: build_model(name, n_classes=n_classes, seed=seed).eval()
            for seed, role in enumerate(roles)
        },
        images={split: make_images(n, n_classes, n) for split, n in SIZES.items()},
        groups={split: (np.arange(n) // 2).astype(str) for split, n in SIZES.items()},
        n_classes=n_classes,
        k=1,
    )


def make_feature_subject(
    features: Mapping[Role, np.ndarray], groups: np.ndarray | None = None
) -> Subject:
    """Return one unit whose features of the training images are these, (N, D) in both forms."""
    n_images = len(next(iter(features.values())))
    unit = Unit("stem", ("stem",), (), ("stem",), 0, 1)
    stored = {(r, "train"): {form: {1: x} for form in FORMS} for r, x in features.items()}
    return Subject(
        unit_map=UnitMap("made", "stage", (unit,), (), ()),
        networks={role: nn.Identity() for role in features},
        images={},
        groups={"train": np.arange(n_images).astype(str) if groups is None else groups},
        n_classes=2,
        k=1,
        _features=stored,
    )


def make_labelled_subject(
    features: Mapping[Role, Mapping[int, np.ndarray]], labels: np.ndarray
) -> Subject:
    """Return units whose pooled features of all images are these, (N, D) by unit.

    Half of the images are of train, a quarter each of val and test; each is a group.
    """
    ends = [0, len(labels) // 2, 3 * len(labels) // 4, len(labels)]
    parts = dict(zip(SIZES, map(slice, ends, ends[1:]), strict=False))
    n_units = len(next(iter(features.values())))
    units = tuple(Unit(f"unit{n}", (), (), (), 0, 1) for n in range(1, n_units + 1))
    images = {
        split: replace(
            make_images(len(labels[part]), 2, seed, pixels=1),
            labels=torch.from_numpy(labels[part]),
        )
        for seed, (split, part) in enumerate(parts.items())
    }
    return Subject(
        unit_map=UnitMap("made", "stage", units, (), ()),
        networks={role: nn.Identity() for role in features},
        images=images,
        groups={split: np.arange(len(each)).astype(str) for split, each in images.items()},
        n_classes=int(labels.max()) + 1,
        k=1,
        _features={
            (role, split): {form: {n: x[part] for n, x in by_unit.items()} for form in FORMS}
            for role, by_unit in features.items()
            for split, part in parts.items()
        },
    )
