"""What depends on the kind of task: the loss, its weights and the scores. Nothing else does.

binary, multi-class   softmax over K classes; labels (N,)
ordinal               the same, and scores that know the order
multi-label           a sigmoid for each of K findings; targets (N, K) of 0 and 1
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tlcnn.errors import ConfigError
from tlcnn.training import metrics, multilabel
from tlcnn.training.optim import compute_class_weights
from tlcnn.training.ordinal import ORDINAL_METRICS


@dataclass(frozen=True)
class Task:
    """How to train and score one kind of task; `truth` is labels (N,) or targets (N, K).

    Attributes:
        compute_weights: (truth, n_classes, scheme=, beta=) -> what `compute_loss` weighs by.
        compute_loss: (logits (B, K), truth, weights, label_smoothing) -> scalar.
        compute_selection: (logits, truth) -> the metrics that an epoch is chosen by.
        compute_scores: (logits, truth, groups, classes=, positive=) -> every metric.
    """

    compute_weights: Callable[..., np.ndarray]
    compute_loss: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    compute_selection: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    compute_scores: Callable[..., dict[str, float]]


def compute_label_weights(
    labels: np.ndarray, n_classes: int, *, scheme: str, beta: float
) -> np.ndarray:
    """Return one weight a class, (K,), of labels (N,)."""
    counts = np.bincount(labels, minlength=n_classes)
    return compute_class_weights(counts, scheme=scheme, beta=beta)


def compute_target_weights(
    targets: np.ndarray, n_classes: int, *, scheme: str, beta: float
) -> np.ndarray:
    """Return the weights of no and of yes for every finding, (2, K), of targets (N, K).

    Each finding is weighted as the two classes that it is, so `balanced` gives its few positives
    the weight of its many negatives: the positive weight of BCE is row 1 over row 0.
    """
    positives = targets.sum(axis=0)
    counts = np.stack([len(targets) - positives, positives], axis=1)  # (K, 2)
    weights = [compute_class_weights(pair, scheme=scheme, beta=beta) for pair in counts]
    return np.stack(weights, axis=1)  # (2, K)


def compute_softmax_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float
) -> Tensor:
    """Return the weighted cross-entropy of logits (B, K) and labels (B,)."""
    return F.cross_entropy(logits, labels, weight=weights, label_smoothing=label_smoothing)


def compute_sigmoid_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float
) -> Tensor:
    """Return the weighted mean binary cross-entropy of logits and targets, both (B, K).

    As in a weighted cross-entropy the mean is over the batch's weights, so that a rare finding
    does not make the loss jump. Smoothing moves yes and no towards 0.5, as with two classes.
    """
    wanted = targets.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    weight = torch.where(targets > 0, weights[1], weights[0])
    return (losses * weight).sum() / weight.sum()


SOFTMAX = Task(
    compute_label_weights,
    compute_softmax_loss,
    metrics.compute_selection_metrics,
    metrics.compute_all,
)
ORDINAL = Task(
    compute_label_weights,
    compute_softmax_loss,
    metrics.compute_selection_metrics,
    partial(metrics.compute_all, extra=ORDINAL_METRICS),
)
MULTI_LABEL = Task(
    compute_target_weights,
    compute_sigmoid_loss,
    multilabel.compute_selection_metrics,
    multilabel.compute_all,
)

TASKS: dict[str, Task] = {
    "binary": SOFTMAX,
    "multi-class": SOFTMAX,
    "ordinal": ORDINAL,
    "multi-label": MULTI_LABEL,
}


def find_task(name: str) -> Task:
    """Return the task of an index. Raises ConfigError for a name that is none."""
    if name not in TASKS:
        raise ConfigError(f"task={name} is not one of {', '.join(TASKS)}")
    return TASKS[name]
