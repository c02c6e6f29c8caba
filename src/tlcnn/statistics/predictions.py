"""Predictions of one run: probabilities and labels of images or of groups, checked.

logits (N, K) -> probabilities (N, K) -> Predictions -> metrics (`tlcnn.statistics.metrics`)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tlcnn.errors import DataError, Diverged

N_RIGHT, N_TRUE, N_PREDICTED = 0, 1, 2  # the rows of `Predictions.counts`


@dataclass(frozen=True)
class Predictions:
    """N predictions (of images or of groups) and the test groups that they belong to.

    Attributes:
        probabilities: (N, K) float64, rows sum to one.
        labels: (N,) int, positions in the K classes.
        group: (N,) int, the test group of each row, 0 to G - 1.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    group: np.ndarray
    n_groups: int

    @property
    def n_classes(self) -> int:
        """K."""
        return self.probabilities.shape[1]

    @cached_property
    def predicted(self) -> np.ndarray:
        """The most probable class of each row, (N,); the first one in a tie."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def is_right(self) -> np.ndarray:
        """Whether the most probable class is the label, (N,) bool."""
        return self.predicted == self.labels

    @cached_property
    def present(self) -> np.ndarray:
        """The classes that occur among the labels, ascending."""
        return np.unique(self.labels)

    @cached_property
    def counts(self) -> np.ndarray:
        """Rows of each group and class, (G, 3, K): right, labelled so, predicted so."""
        size = self.n_groups * self.n_classes
        label, predicted = (
            self.group * self.n_classes + classes for classes in (self.labels, self.predicted)
        )
        counts = [
            np.bincount(cells, minlength=size).reshape(self.n_groups, self.n_classes)
            for cells in (label[self.is_right], label, predicted)
        ]
        return np.stack(counts, axis=1).astype(float)


def make_predictions(
    probabilities: np.ndarray, labels: np.ndarray, n_classes: int | None = None
) -> Predictions:
    """Return predictions in one group, for metrics of all rows with equal weights.

    Args:
        n_classes: K; by default the width of `probabilities`.

    Raises:
        DataError: no rows, or shapes or labels that do not fit.
        Diverged: a probability is not finite.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    labels = np.asarray(labels, dtype=np.int64)
    n_classes = probabilities.shape[-1] if n_classes is None else n_classes
    if labels.ndim != 1 or len(labels) == 0 or probabilities.shape != (len(labels), n_classes):
        raise DataError(
            f"cannot score probabilities {probabilities.shape} against labels {labels.shape} of "
            f"{n_classes} classes: (N, K) and (N,) with N > 0 are needed"
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise DataError(
            f"labels from {labels.min()} to {labels.max()}: 0 to {n_classes - 1} are allowed"
        )
    check_finite(probabilities)
    return Predictions(probabilities, labels, np.zeros(len(labels), dtype=np.int64), 1)


def make_findings(probabilities: np.ndarray, targets: np.ndarray) -> list[Predictions]:
    """Return the predictions of each finding of a multi-label task: two classes, no and yes.

    Args:
        probabilities: (N, K), each from 0 to 1.
        targets: (N, K) of 0 and 1.

    Raises:
        DataError: no rows, shapes that do not fit, or other targets than 0 and 1.
        Diverged: a probability is not finite.
    """
    probabilities, targets = np.asarray(probabilities, dtype=np.float64), np.asarray(targets)
    if probabilities.ndim != 2 or probabilities.shape != targets.shape or targets.size == 0:
        raise DataError(
            f"cannot score probabilities {probabilities.shape} against targets {targets.shape}: "
            "(N, K) both, with N > 0, are needed"
        )
    if not np.isin(targets, (0, 1)).all():
        raise DataError("targets other than 0 and 1 cannot be scored")
    check_finite(probabilities)
    columns = zip(probabilities.T, targets.T, strict=True)
    return [make_predictions(np.stack([1 - p, p], axis=1), labels) for p, labels in columns]


def check_finite(scores: np.ndarray) -> None:
    """Raise Diverged when any of (N, K) scores is not finite."""
    finite = np.isfinite(scores).all(axis=1)
    if not finite.all():
        raise Diverged(
            f"{(~finite).sum()} of {len(scores)} predictions are not finite: the training has "
            "diverged; lower train.lr"
        )


# ---- probabilities ------------------------------------------------------------------------------


def compute_softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, (N, K) float64, of logits (N, K). Raises Diverged."""
    shifted = np.asarray(logits, dtype=np.float64)
    check_finite(shifted)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def compute_sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, (N, K) float64, of logits (N, K). Raises Diverged."""
    scores = np.asarray(logits, dtype=np.float64)
    check_finite(scores)
    small = np.exp(-np.abs(scores))  # never overflows
    return np.where(scores >= 0, 1 / (1 + small), small / (1 + small))


def compute_group_means(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[str] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean probabilities (G, K) and the label (G,) of each group, sorted by group.

    Args:
        probabilities: (N, K).
        labels: (N,) int; a group's label is that of most of its images, the smallest in a tie.
            In a multi-label task targets (N, K): a group has a finding that at least half of its
            images have, and (G, K) bool is returned.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    n_images = np.bincount(member)[:, None]
    labels = np.asarray(labels)
    sums, votes = np.zeros((2, len(names), probabilities.shape[1]))
    np.add.at(sums, member, probabilities)
    if labels.ndim == 2:
        np.add.at(votes, member, labels)
        return sums / n_images, 2 * votes >= n_images
    np.add.at(votes, (member, labels), 1)
    return sums / n_images, votes.argmax(axis=1)
