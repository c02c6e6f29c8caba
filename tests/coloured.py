"""Images that a tiny network learns in a second."""

import numpy as np
import torch

from tlcnn.data.batches import Batches

N_CLASSES = 4


def make_coloured(n_images: int, seed: int) -> Batches:
    """Return noisy images whose colour is their class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_images) % N_CLASSES
    pixels = rng.integers(0, 100, (n_images, 32, 32, 3))
    pixels += 80 * np.eye(N_CLASSES, 3, dtype=np.int64)[labels][:, None, None]
    keys = rng.integers(0, 2**63, n_images, dtype=np.uint64)
    rows, truth = np.arange(n_images), torch.from_numpy(labels)
    return Batches(pixels.astype(np.uint8), rows, truth, keys, 32, "half")
