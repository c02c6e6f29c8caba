"""Neighbour sufficiency: as the probe, with k nearest neighbours among the training images.

It can use structure that a linear classifier cannot, and nothing is optimised. The neighbours of
an image are those with the largest cosine between standardised features. So the result does not
depend on the scale of a feature, as for the probe, and an image with large features is not a
neighbour of every other image. A neighbour's vote is weighted by the inverse of its class's
frequency, since the score is balanced accuracy. k is chosen on validation.
`tlcnn.layers.sufficiency` explains pi and how to read it.
"""

from collections.abc import Iterator

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from tlcnn.layers.subject import Features, Subject
from tlcnn.layers.sufficiency import compute_sufficiency
from tlcnn.records.measures import Reading

COUNTS = (100, 30, 10, 3, 1)  # k, from the smoothest


def compute_knn(subject: Subject) -> list[Reading]:
    """Return the sufficiency and the accuracies of nearest neighbours; see the module."""
    return compute_sufficiency(subject, "knn", count_neighbours)


def count_neighbours(
    features: Features, labels: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the shares that classes have in the votes of k neighbours, for val and test."""
    directions = {split: normalize(each) for split, each in features.items()}
    n_nearest = min(max(COUNTS), len(labels))
    nearest = NearestNeighbors(n_neighbors=n_nearest, algorithm="brute").fit(directions["train"])
    _, label, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    votes = np.diag(1 / sizes)[label]
    val, test = (
        np.cumsum(votes[nearest.kneighbors(directions[split], return_distance=False)], axis=1)
        for split in ("val", "test")
    )
    for k in COUNTS:
        if k <= n_nearest:
            yield tuple(
                sums[:, k - 1] / sums[:, k - 1].sum(axis=1, keepdims=True) for sums in (val, test)
            )
