"""Debiased linear CKA: how similar what leaves a unit is in two networks.

Centred kernel alignment (Kornblith et al. 2019, arXiv:1905.00414) compares the products of all
pairs of images in one network with those in the other:

    CKA = HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y))

It is 1 for features that differ by a rotation and a scaling, and 0 for independent ones. With the
usual estimate of HSIC independent features of D ~ N dimensions are near 1 instead. Here HSIC is
estimated without bias (HSIC_1 of Song et al. 2012; Nguyen et al. 2020, arXiv:2010.15327; Murphy et
al. 2024, arXiv:2405.01012), so that networks, units and numbers of images can be compared. The
value lies in [-1, 1], and slightly below 0 by chance alone.

Nothing is fitted. The features are those of the training images. See `similarity` for the networks
that are compared. High between `start` and `final` means that training changed little. High
`against` means that the source has what the target's own network has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tlcnn.layers.similarity import Pair, Similarity, compare_networks
from tlcnn.layers.subject import FORMS, Role, Subject
from tlcnn.records.measures import Reading

LEAST_IMAGES = 4  # HSIC_1 is a mean over sets of four images
_BLOCK = 256  # images in a block of a Gram matrix
_ROUNDING = 1e-12  # a smaller share of the squared sum of products counts as 0


def compute_cka(subject: Subject) -> list[Reading]:
    """Return the debiased linear CKA of the networks at each boundary, pooled and spatial."""
    readings = [
        reading
        for form in FORMS
        for reading in compare_networks(subject, "cka", form, compute_similarities)
    ]
    subject.drop_features("spatial")  # four times the pooled ones, and read here alone
    return readings


def compute_similarities(
    features: Mapping[Role, np.ndarray], pairs: Sequence[Pair]
) -> dict[Pair, Similarity | str]:
    """Return the debiased linear CKA of pairs, or a text where it is not defined.

    Args:
        features: (N, D) centred float64 or float32; D may differ between networks, and exceed N.
    """
    n_images = len(next(iter(features.values()), ()))
    if n_images < LEAST_IMAGES:
        return {pair: f"at least {LEAST_IMAGES} images are needed" for pair in pairs}
    selves = [(role, role) for role in dict.fromkeys(role for pair in pairs for role in pair)]
    products = compute_products(features, [*pairs, *selves])
    sums = {pair: float(each.sum()) for pair, each in products.items()}
    similarities: dict[Pair, Similarity | str] = {}
    for a, b in pairs:
        scales = [float(np.vdot(features[role], features[role])) ** 2 for role in (a, b)]
        if not min(sums[a, a] / scales[0], sums[b, b] / scales[1]) > _ROUNDING:
            similarities[a, b] = "only a single image has features that differ"
            continue
        size = float(np.sqrt(sums[a, a] * sums[b, b]))
        value = sums[a, b] / size
        spread = products[a, a] / sums[a, a] + products[b, b] / sums[b, b]
        similarities[a, b] = Similarity(value, 2 * products[a, b] / size - value * spread)
    return similarities


def compute_products(
    features: Mapping[Role, np.ndarray], pairs: Sequence[Pair]
) -> dict[Pair, np.ndarray]:
    """Return sum_j!=i A_ij B_ij of each image, (N,), whose sum is N (N - 3) HSIC_1.

    A and B are the Gram matrices of two networks, centred without bias: a matrix less its means
    over rows and columns, all taken without the diagonal (Székely & Rizzo 2014).

    Args:
        features: (N, D) centred float64 or float32.
    """
    roles = {role for pair in pairs for role in pair}
    centered = {role: _make_centered(features[role]) for role in roles}
    n_images, n_features = next(iter(centered.values())).x.shape
    # Both are exact. For five networks and nine pairs the first is faster up to about this width.
    compute = _multiply_features if 4 * n_features < n_images else _multiply_grams
    return {pair: sums.numpy() for pair, sums in compute(centered, pairs).items()}


@dataclass(frozen=True)
class _Centered:
    """A Gram matrix that is centred without bias: X X' + u 1' + 1 u', and 0 on the diagonal.

    Attributes:
        x: (N, D) centred, float64 or float32. Row i of X X' without the diagonal therefore sums
            to -|x_i|^2.
        u: (N, 1) float64.
    """

    x: Tensor
    u: Tensor


def _make_centered(features: np.ndarray) -> _Centered:
    x = torch.from_numpy(features)
    n = len(x)
    parts = x.split(_BLOCK)  # float64 of all would need much memory
    squares = torch.cat([part.double().square().sum(dim=1, keepdim=True) for part in parts])
    return _Centered(x, squares / (n - 2) - squares.sum() / (2 * (n - 1) * (n - 2)))


def _multiply_features(
    centered: Mapping[Role, _Centered], pairs: Sequence[Pair]
) -> dict[Pair, Tensor]:
    """Return `compute_products` by matrices of (D, D)."""
    lefts, rights, diagonals = {}, {}, {}
    for role, each in centered.items():
        ones = torch.ones_like(each.u)
        lefts[role] = torch.cat([each.x.double(), each.u, ones], dim=1)
        rights[role] = torch.cat([each.x.double(), ones, each.u], dim=1)
        diagonals[role] = (lefts[role] * rights[role]).sum(dim=1)
    products = {}
    for a, b in pairs:
        with_diagonal = (lefts[a] @ (rights[a].T @ rights[b]) * lefts[b]).sum(dim=1)
        products[a, b] = with_diagonal - diagonals[a] * diagonals[b]
    return products


def _multiply_grams(
    centered: Mapping[Role, _Centered], pairs: Sequence[Pair]
) -> dict[Pair, Tensor]:
    """Return `compute_products` by the upper half of each Gram matrix, a block of rows at a time.

    What lies right of a block's square also counts for the images of its columns.
    """
    n_images = len(next(iter(centered.values())).x)
    products = {pair: torch.zeros(n_images, dtype=torch.float64) for pair in pairs}
    for start in range(0, n_images, _BLOCK):
        end = min(start + _BLOCK, n_images)
        grams = {}
        for role, each in centered.items():
            grams[role] = each.u[start:end] + each.u[start:].T
            x = each.x[start:end].double()
            for left in range(start, n_images, _BLOCK):
                right = min(left + _BLOCK, n_images)
                part = grams[role][:, left - start : right - start]
                part += x @ each.x[left:right].double().T
            grams[role][:, : end - start].fill_diagonal_(0.0)
        for a, b in pairs:
            product = grams[a] * grams[b]
            products[a, b][start:end] += product.sum(dim=1)
            products[a, b][end:] += product[:, end - start :].sum(dim=0)
    return products
