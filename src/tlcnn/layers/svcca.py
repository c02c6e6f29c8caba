"""SVCCA: how much of what leaves a unit is, up to a linear map, in another network too.

Singular vector canonical correlation analysis (Raghu et al. 2017, arXiv:1706.05806) takes the
leading principal components of each network's features that hold 99 % of their variance, and
returns the mean of the canonical correlations between the two sets. The value lies in [0, 1]. It
is 1 for sets that differ by an invertible linear map.

Independent features have correlations above 0 by chance, of the order of the root of the number of
components over that of images. A value therefore means something beside its null alone. Where both
sets together have as many components as there are images, correlations of 1 are certain, and there
is no value.

It is computed on pooled features of the training images. Spatial ones are too wide for it. See
`similarity` for the networks that are compared. The interval takes the components as they are.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tlcnn.layers.similarity import Pair, Similarity, compare_networks
from tlcnn.layers.subject import Role, Subject
from tlcnn.records.measures import Reading

VARIANCE = 0.99  # the share that the components hold


def compute_svcca(subject: Subject) -> list[Reading]:
    """Return the SVCCA of the networks at each boundary, on pooled features."""
    return compare_networks(subject, "svcca", "pooled", compute_similarities)


def compute_similarities(
    features: Mapping[Role, np.ndarray], pairs: Sequence[Pair]
) -> dict[Pair, Similarity | str]:
    """Return the SVCCA of pairs, or a text where too many components are left.

    Args:
        features: (N, D) centred float64.
    """
    components = {role: compute_components(x) for role, x in features.items()}
    similarities: dict[Pair, Similarity | str] = {}
    for a, b in pairs:
        x, y = components[a], components[b]
        n_images, n_components = len(x), x.shape[1] + y.shape[1]
        if n_components >= n_images:
            similarities[a, b] = f"{n_components} components are too many for {n_images} images"
            continue
        left, correlations, right = np.linalg.svd(x.T @ y, full_matrices=False)
        correlations = np.minimum(correlations, 1.0)
        x, y = x @ left, y @ right.T
        # The influence on each correlation is that of Romanazzi 1992, Psychometrika 57.
        influence = (x * y - correlations * (x**2 + y**2) / 2).mean(axis=1)
        similarities[a, b] = Similarity(float(correlations.mean()), influence)
    return similarities


def compute_components(features: np.ndarray) -> np.ndarray:
    """Return the leading components of features (N, D) as orthonormal columns, (N, M)."""
    is_wide = features.shape[1] > len(features)
    variances, vectors = np.linalg.eigh(
        features @ features.T if is_wide else features.T @ features
    )
    variances, vectors = variances[::-1], vectors[:, ::-1]
    shares = np.cumsum(variances) / variances.sum()
    n_components = int(np.searchsorted(shares, VARIANCE)) + 1
    vectors = vectors[:, :n_components]
    return vectors if is_wide else features @ vectors / np.sqrt(variances[:n_components])
