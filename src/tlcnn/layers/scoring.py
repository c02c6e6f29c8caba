"""Balanced accuracy of networks and classifiers as they are, with intervals over test groups.

probabilities or logits + labels + groups -> Arm -> Estimate (`tlcnn.statistics`)
"""

import math
from dataclasses import replace

import numpy as np

from tlcnn.layers.subject import Subject
from tlcnn.records.measures import Reading
from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.few_groups import LEAST_GROUPS
from tlcnn.statistics.metrics import find_range, make_score
from tlcnn.statistics.predictions import Predictions
from tlcnn.statistics.resample import make_arm, make_sample

METRIC = "balanced_accuracy"


def make_fixed_arm(
    subject: Subject, probabilities: np.ndarray, positions: np.ndarray | None = None
) -> Arm:
    """Return the balanced accuracy of (n, K) probabilities of test images.

    What made them is not drawn again: intervals of contrasts and ratios of such arms are over new
    test groups.

    Args:
        positions: (n,) of the images among the subject's test images; None: all of them.
    """
    rows = np.arange(len(probabilities)) if positions is None else positions
    labels, groups = subject.labels("test")[rows], subject.groups["test"][rows]
    sample = make_sample(groups, labels, subject.images["test"].keys[rows])
    group = np.searchsorted(sample.groups, np.asarray(groups).astype(str))
    predictions = Predictions(probabilities, labels, group, len(sample.groups))
    score = make_score(METRIC, predictions, ())
    arm = make_arm(METRIC, np.zeros(1, dtype=np.int64), [score], sample)
    return replace(arm, bounds=find_range(METRIC), is_fixed=True)


def make_guess(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return probabilities (N, K) that name one class of the labels for every image.

    Their balanced accuracy is chance, 1 / the number of classes that occur, in every redraw.
    """
    return np.tile(np.eye(n_classes)[labels[0]], (len(labels), 1))


def read_estimate(reading: Reading, estimate: Estimate) -> Reading:
    """Return a reading with the value of an estimate over test groups, and its interval."""
    low, high = (x if math.isfinite(x) else None for x in (estimate.low, estimate.high))
    note = "" if estimate.is_decidable else f"a class has fewer than {LEAST_GROUPS} test groups"
    return replace(
        reading, value=estimate.value, low=low, high=high, over="test groups", note=note
    )
