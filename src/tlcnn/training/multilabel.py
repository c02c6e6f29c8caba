"""Scores where each of K findings may hold or not, alone or with others (ChestMNIST).

    logits (N, K) -> sigmoid -> Findings -> {name: float}

Every finding is a question of its own, answered yes at a probability above 0.5, and every
number is the mean over findings of that question's. So keys are those of `metrics`, and one
finding scores as a two-class task does. Accuracy and AUROC are MedMNIST's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from tlcnn.errors import DataError
from tlcnn.training.metrics import (
    SELECTION_METRICS,
    check_finite,
    compute_calibration_error,
    compute_sensitivity,
    find_positive,
)

THRESHOLD = 0.5


@dataclass(frozen=True)
class Findings:
    """N scored samples, images or groups.

    Attributes:
        probabilities: (N, K) float64, each from 0 to 1.
        targets: (N, K) bool.
    """

    probabilities: np.ndarray
    targets: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """Which findings are said to hold, (N, K) bool."""
        return self.probabilities > THRESHOLD

    @property
    def defined(self) -> np.ndarray:
        """The findings that hold in some samples and not in others, (K,) bool."""
        counts = self.targets.sum(axis=0)
        return (counts > 0) & (counts < len(self.targets))


# ---- one number a finding, (K,); NaN where it is undefined --------------------------------------


def compute_recall(findings: Findings) -> np.ndarray:
    """Return each finding's sensitivity."""
    return _share(findings.predicted & findings.targets, findings.targets)


def compute_specificity(findings: Findings) -> np.ndarray:
    """Return the share of samples without a finding that are said to be without."""
    return _share(~findings.predicted & ~findings.targets, ~findings.targets)


def compute_precision(findings: Findings) -> np.ndarray:
    """Return each finding's precision, 0 where it is never predicted."""
    shares = _share(findings.predicted & findings.targets, findings.predicted)
    return np.nan_to_num(shares, nan=0.0)


def compute_auroc(findings: Findings) -> np.ndarray:
    """Return the area under each finding's ROC curve, ties counted half (mid-ranks)."""
    areas = np.full(len(findings.defined), np.nan)
    for k in np.flatnonzero(findings.defined):
        areas[k] = roc_auc_score(findings.targets[:, k], findings.probabilities[:, k])
    return areas


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    total = whole.sum(axis=0)
    return np.where(total > 0, part.sum(axis=0) / np.maximum(total, 1), np.nan)


# ---- one number ---------------------------------------------------------------------------------


def compute_balanced_accuracy(findings: Findings) -> float:
    """Return the mean over findings of (sensitivity + specificity) / 2.

    A finding that holds in all samples, or in none, is left out (`n_absent_classes` counts it);
    NaN when none is left.
    """
    both = (compute_recall(findings) + compute_specificity(findings)) / 2
    return _mean(both[findings.defined])


def compute_accuracy(findings: Findings) -> float:
    """Return the mean over findings of the share of samples answered rightly."""
    return float((findings.predicted == findings.targets).mean())


def compute_macro_auroc(findings: Findings) -> float:
    """Return the mean area over the findings that have one; NaN when none has."""
    return _mean(compute_auroc(findings)[findings.defined])


def compute_macro_f1(findings: Findings) -> float:
    """Return the mean F1 over all K findings, 0 where it is undefined."""
    hits = (findings.predicted & findings.targets).sum(axis=0)
    said_and_true = findings.predicted.sum(axis=0) + findings.targets.sum(axis=0)
    return float((2 * hits / np.maximum(said_and_true, 1)).mean())


def compute_nll(findings: Findings) -> float:
    """Return the mean negative log-likelihood of an answer, natural log, clipped at 1e-15."""
    right = np.where(findings.targets, findings.probabilities, 1 - findings.probabilities)
    return float(-np.log(np.clip(right, 1e-15, 1.0)).mean())


def compute_brier(findings: Findings) -> float:
    """Return the mean squared error of yes and of no, summed (0 to 2), as with two classes."""
    return float(2 * ((findings.probabilities - findings.targets) ** 2).mean())


def compute_ece(findings: Findings) -> float:
    """Return the mean over findings of the calibration error of its answer, 15 equal-mass bins."""
    confidence = np.maximum(findings.probabilities, 1 - findings.probabilities)
    right = findings.predicted == findings.targets
    pairs = zip(confidence.T, right.T, strict=True)
    return float(np.mean([compute_calibration_error(*pair) for pair in pairs]))


def compute_n_absent_classes(findings: Findings) -> float:
    """Return how many findings hold in all samples or in none."""
    return float((~findings.defined).sum())


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


METRICS: dict[str, Callable[[Findings], float]] = {
    "balanced_accuracy": compute_balanced_accuracy,
    "accuracy": compute_accuracy,
    "macro_auroc": compute_macro_auroc,
    "macro_f1": compute_macro_f1,
    "nll": compute_nll,
    "brier": compute_brier,
    "ece": compute_ece,
    "n_absent_classes": compute_n_absent_classes,
}

CLASS_METRICS: dict[str, Callable[[Findings], np.ndarray]] = {
    "recall": compute_recall,
    "specificity": compute_specificity,
    "precision": compute_precision,
    "auroc": compute_auroc,
}


# ---- all of them --------------------------------------------------------------------------------


def compute_metrics(
    findings: Findings, *, classes: Sequence[str], positive: str | None = None
) -> dict[str, float]:
    """Return every metric of one set of predictions.

    Args:
        classes: K names, for the keys.
        positive: the finding whose sensitivity at 90 % specificity is told, or None.

    Raises:
        ConfigError: `positive` is no finding.
    """
    scores = {name: compute(findings) for name, compute in METRICS.items()}
    for name, compute_each in CLASS_METRICS.items():
        values = compute_each(findings)
        scores |= {f"{name}/{one}": float(v) for one, v in zip(classes, values, strict=True)}
    if positive is not None:
        k = find_positive(classes, positive)
        scores[f"sensitivity_at_90_specificity/{positive}"] = compute_sensitivity(
            findings.targets[:, k], findings.probabilities[:, k]
        )
    return scores


def compute_selection_metrics(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return the few metrics that an epoch is chosen by. logits and targets: (N, K)."""
    findings = make_findings(compute_sigmoid(logits), targets)
    return {name: METRICS[name](findings) for name in SELECTION_METRICS}


def compute_all(
    logits: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    *,
    classes: Sequence[str],
    positive: str | None = None,
) -> dict[str, float]:
    """Return every metric of the images, and as `group/...` of the groups.

    Args:
        logits, targets: (N, K).
        groups: (N,) group of each image; a group's prediction is its images' mean probability,
            and it has a finding that at least half of its images have.
    """
    images = make_findings(compute_sigmoid(logits), targets)
    scores = compute_metrics(images, classes=classes, positive=positive)
    by_group = compute_metrics(make_groups(images, groups), classes=classes, positive=positive)
    return scores | {f"group/{name}": value for name, value in by_group.items()}


def compute_sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, (N, K) float64, of logits (N, K). Raises Diverged."""
    scores = np.asarray(logits, dtype=np.float64)
    check_finite(scores)
    small = np.exp(-np.abs(scores))  # never overflows
    return np.where(scores >= 0, 1 / (1 + small), small / (1 + small))


def make_groups(images: Findings, groups: Sequence[str] | np.ndarray) -> Findings:
    """Return the findings of each group, sorted by group."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    sums, votes = (np.zeros((len(names), images.targets.shape[1])) for _ in range(2))
    np.add.at(sums, member, images.probabilities)
    np.add.at(votes, member, images.targets)
    n_images = np.bincount(member)[:, None]
    return Findings(sums / n_images, 2 * votes >= n_images)


def make_findings(probabilities: np.ndarray, targets: np.ndarray) -> Findings:
    """Return checked findings. Raises DataError, and Diverged when one is not finite."""
    probabilities, targets = np.asarray(probabilities, dtype=np.float64), np.asarray(targets)
    if probabilities.ndim != 2 or probabilities.shape != targets.shape or targets.size == 0:
        raise DataError(
            f"cannot score probabilities {probabilities.shape} against targets {targets.shape}: "
            "(N, K) both, with N > 0, are needed"
        )
    if not np.isin(targets, (0, 1)).all():
        raise DataError("targets other than 0 and 1 cannot be scored")
    check_finite(probabilities)
    return Findings(probabilities, targets.astype(bool))
