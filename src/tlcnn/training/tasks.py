"""The objective of each kind of task: its loss, class weights and adjustment of logits.

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
        focal_gamma: the gamma of a focal loss (Lin et al. 2017); 0: cross-entropy.
        offsets: (K,) what is added to logits in the loss alone: tau times the logarithm of each
            class's share (Menon et al. 2021, equation 10); None: nothing.
    """

    task: str
    weights: Tensor
    label_smoothing: float
    focal_gamma: float = 0.0
    offsets: Tensor | None = None

    def compute_loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of logits (B, K) and labels (B,) or targets (B, K)."""
        if self.offsets is not None:
            logits = logits + self.offsets
        compute = compute_sigmoid_loss if self.task == "multi-label" else compute_softmax_loss
        return compute(logits, truth, self.weights, self.label_smoothing, self.focal_gamma)

    def compute_weight(self, truth: Tensor) -> Tensor:
        """Return the sum of the weights, a scalar, that the mean loss of a batch is divided by."""
        if self.task == "multi-label":
            return torch.where(truth > 0, self.weights[1], self.weights[0]).sum()
        return self.weights.index_select(0, truth).sum()


def build_objective(task: str, truth: Tensor, n_classes: int, recipe: Recipe) -> Objective:
    """Return the objective of a training, its weights on the device of the training labels.

    Args:
        task: one of `TASKS`.
        truth: labels (N,) or targets (N, K) of the training images.
        recipe: what the loss depends on is read from it. With balanced sampling all classes are
            shown equally often, so they have equal weights and no offsets.

    Raises:
        ConfigError: the task is not one of `TASKS`.
    """
    if task not in TASKS:
        raise ConfigError(f"task={task} is not one of {', '.join(TASKS)}")
    values, scheme, beta = truth.cpu().numpy(), recipe.class_weights, recipe.effective_beta
    offsets = None
    if task == "multi-label":
        weights = compute_target_weights(values, scheme=scheme, beta=beta)
    else:
        counts = np.bincount(values, minlength=n_classes)
        if recipe.sampling == "balanced":
            counts = np.minimum(counts, 1)
        weights = compute_class_weights(counts, scheme=scheme, beta=beta)
        if recipe.logit_adjustment and recipe.sampling != "balanced":
            shares = np.where(counts > 0, counts, counts.sum()) / counts.sum()
            offsets = send_numbers(recipe.logit_adjustment * np.log(shares), truth.device)
    return Objective(
        task,
        send_numbers(weights, truth.device),
        recipe.label_smoothing,
        recipe.focal_gamma if recipe.loss == "focal" else 0.0,
        offsets,
    )


def send_numbers(numbers: np.ndarray, device: torch.device) -> Tensor:
    """Return numbers as a float32 tensor on a device."""
    return torch.tensor(numbers, dtype=torch.float32, device=device)


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
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    label_smoothing: float,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Return the weighted cross-entropy, or focal loss, of logits (B, K) and labels (B,).

    A focal loss multiplies the loss of an image by (1 - p) ** gamma, where p is the probability
    of its class.
    """
    if focal_gamma == 0:
        return F.cross_entropy(logits, labels, weight=weights, label_smoothing=label_smoothing)
    losses = F.cross_entropy(
        logits, labels, weight=weights, label_smoothing=label_smoothing, reduction="none"
    )
    surprise = F.cross_entropy(logits, labels, reduction="none")
    weight = weights.index_select(0, labels).sum()
    return (losses * compute_focal_factor(surprise, focal_gamma)).sum() / weight


def compute_focal_factor(surprise: Tensor, gamma: float) -> Tensor:
    """Return (1 - p) ** gamma of probabilities p, given -log p; its gradient is finite at 1."""
    return (-torch.expm1(-surprise)).clamp_min(1e-7) ** gamma


def compute_sigmoid_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    label_smoothing: float,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Return the weighted mean binary cross-entropy, or focal loss, of two tensors (B, K).

    The mean is over the weights in the batch, as in a weighted cross-entropy, so that a rare
    finding does not make the loss jump. Smoothing moves yes and no towards 0.5, as it does with
    two classes.
    """
    smooth = targets.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
    if focal_gamma:
        plain = F.binary_cross_entropy_with_logits(
            logits, targets.to(logits.dtype), reduction="none"
        )
        losses = losses * compute_focal_factor(plain, focal_gamma)
    weight = torch.where(targets > 0, weights[1], weights[0])
    return (losses * weight).sum() / weight.sum()
