"""Small files as MedMNIST publishes them, in which every label can be seen in the image."""

import numpy as np

from tlcnn.data.datasets.medmnist import load_medmnist_info
from tlcnn.data.index import SPLITS

COUNTS = {"train": 96, "val": 48, "test": 48}


def draw_arrays(flag, *, size=28, counts=COUNTS, seed=0, is_flat=False):
    """The six arrays of a file: a bright cell of a 4 x 4 grid for each class that holds."""
    facts = load_medmnist_info()[flag]
    rng = np.random.default_rng(seed)
    n_classes, cell = len(facts["classes"]), size // 4
    arrays = {}
    for split in SPLITS:
        n = counts[split]
        if facts["task"] == "multi-label":
            truth = (rng.random((n, n_classes)) < 0.25).astype(np.uint8)
            truth[0] = 0
        else:
            truth = np.eye(n_classes, dtype=np.uint8)[rng.permutation(np.arange(n) % n_classes)]
        images = rng.integers(0, 60, (n, size, size), dtype=np.uint8)
        for k in range(n_classes):
            rows, top, left = truth[:, k] > 0, k // 4 * cell, k % 4 * cell
            images[rows, top : top + cell, left : left + cell] += 180
        if facts["n_channels"] == 3:
            images = np.stack([images, images // 2, images // 3], axis=3)
        labels = truth if facts["task"] == "multi-label" else truth.argmax(axis=1)[:, None]
        arrays[f"{split}_images"] = images
        arrays[f"{split}_labels"] = labels.reshape(-1) if is_flat else labels
    return arrays


def write_file(root, flag, *, size=28, **options):
    """Write such a file under its official name, and return its arrays."""
    arrays = draw_arrays(flag, size=size, **options)
    root.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(root / load_medmnist_info()[flag]["files"][str(size)]["file"], **arrays)
    return arrays
