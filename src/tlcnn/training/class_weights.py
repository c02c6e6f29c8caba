"""The weights of classes in a loss, from how many training images each has."""

import numpy as np


def compute_class_weights(counts: np.ndarray, *, scheme: str, beta: float) -> np.ndarray:
    """Return K loss weights whose mean over the images is 1.

    Args:
        counts: (K,) the number of training images of each class.
        scheme: `none`, `balanced` (inverse frequency) or `effective` (inverse effective number,
            (1 - beta^n) / (1 - beta): Cui et al. 2019, Class-Balanced Loss, equation 2).
        beta: only for `effective`; from 0 to below 1.

    Returns:
        (K,) weights; a class without images gets 0.
    """
    present = counts > 0
    size = {
        "none": np.ones(len(counts)),
        "balanced": counts.astype(float),
        "effective": (1 - np.power(beta, counts)) / (1 - beta),
    }[scheme]
    weights = np.where(present, 1 / np.where(present, size, 1), 0.0)
    return weights * counts.sum() / (weights * counts).sum()
