"""The objective of each kind of task: its loss and its class weights. All else is equal.

binary, multi-class, ordinal   a softmax over K classes; labels (N,)
multi-label                    a sigmoid for each of K findings; targets (N, K) of 0 and 1
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tlcnn.data.index import TASKS
from tlcnn.errors import ConfigError
from tlcnn.training.class_weights import compute_class_weights
from tlcnn.training.recipe import Recipe


@dataclass(frozen=True)
class Objective:
    """What a training minimises.

    Attributes:
        task: the kind of task, one of `TASKS`; epochs are scored by it, too.
        weights: the weights of classes, (K,), or of no and yes for each finding, (2, K).
        label_smoothing: the share of the target that is spread over all classes.
    """

    task: str
    weights: Tensor
    label_smoothing: float

    def compute_loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of logits (B, K) and labels (B,) or targets (B, K)."""
        compute = compute_sigmoid_loss if self.task == "multi-label" else compute_softmax_loss
        return compute(logits, truth, self.weights, self.label_smoothing)


def build_objective(task: str, truth: Tensor, n_classes: int, recipe: Recipe) -> Objective:
    """Return the objective of a training, its weights on the device of the training labels.

    Args:
        task: one of `TASKS`.
        truth: labels (N,) or targets (N, K) of the training images.
        recipe: the scheme of class weights and the label smoothing are read from it.

    Raises:
        ConfigError: the task is not one of `TASKS`.
    """
    if task not in TASKS:
        raise ConfigError(f"task={task} is not one of {', '.join(TASKS)}")
    values, scheme, beta = truth.cpu().numpy(), recipe.class_weights, recipe.effective_beta
    if task == "multi-label":
        weights = compute_target_weights(values, scheme=scheme, beta=beta)
    else:
        counts = np.bincount(values, minlength=n_classes)
        weights = compute_class_weights(counts, scheme=scheme, beta=beta)
    on_device = torch.tensor(weights, dtype=torch.float32, device=truth.device)
    return Objective(task, on_device, recipe.label_smoothing)


# ---- class weights ------------------------------------------------------------------------------


def compute_target_weights(targets: np.ndarray, *, scheme: str, beta: float) -> np.ndarray:
    """Return the weights of no and of yes for each finding, (2, K), from targets (N, K).

    Each finding is weighted like a task of two classes, so `balanced` gives its few positives
    the weight of its many negatives: the positive weight of BCE is row 1 over row 0.
    """
    positives = targets.sum(axis=0)
    counts = np.stack([len(targets) - positives, positives], axis=1)  # (K, 2)
    weights = [compute_class_weights(pair, scheme=scheme, beta=beta) for pair in counts]
    return np.stack(weights, axis=1)  # (2, K)


# ---- losses -------------------------------------------------------------------------------------


def compute_softmax_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float
) -> Tensor:
    """Return the weighted cross-entropy of logits (B, K) and labels (B,)."""
    return F.cross_entropy(logits, labels, weight=weights, label_smoothing=label_smoothing)


def compute_sigmoid_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float
) -> Tensor:
    """Return the weighted mean binary cross-entropy of logits and targets, both (B, K).

    The mean is over the weights in the batch, as in a weighted cross-entropy, so that a rare
    finding does not make the loss jump. Smoothing moves yes and no towards 0.5, as it does with
    two classes.
    """
    smooth = targets.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
    weight = torch.where(targets > 0, weights[1], weights[0])
    return (losses * weight).sum() / weight.sum()
