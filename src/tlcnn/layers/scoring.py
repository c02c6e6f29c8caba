"""Balanced accuracy of networks that are looked at as they are, with intervals over test groups.

logits of each network + labels + groups -> Arm -> Estimate (`tlcnn.statistics`)
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tlcnn.statistics.arm import Arm
from tlcnn.statistics.counting import make_balanced_accuracy
from tlcnn.statistics.estimate import LEAST_PAIRS, pick_seeds
from tlcnn.statistics.predictions import Predictions, compute_softmax
from tlcnn.statistics.resample import make_arm, make_sample


def make_arms(
    logits: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, keys: np.ndarray
) -> dict[str, Arm]:
    """Return the balanced accuracy of networks on the same N images, under redraws of groups.

    No network is redrawn. Each stands for `LEAST_PAIRS` equal runs, so that the variance between
    seeds is 0, and intervals of contrasts and ratios are over new test groups alone.

    Args:
        logits: (N, K) of each network.
        labels, groups, keys: (N,) the class, the group and the key of each image.
    """
    sample = make_sample(groups, labels, keys)
    member = np.searchsorted(sample.groups, np.asarray(groups).astype(str))
    arms = {}
    for name, rows in logits.items():
        predictions = Predictions(compute_softmax(rows), labels, member, len(sample.groups))
        arm = make_arm(name, np.zeros(1), [make_balanced_accuracy(predictions)], sample)
        copies = pick_seeds(arm, np.zeros(LEAST_PAIRS))
        arms[name] = replace(copies, seeds=np.arange(LEAST_PAIRS), bounds=(0.0, 1.0))
    return arms


def make_guess(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return logits (N, K) that name one class of the labels for every image.

    Their balanced accuracy is chance, 1 / the number of classes that occur, in every redraw.
    """
    return np.tile(np.eye(n_classes)[labels[0]], (len(labels), 1))
