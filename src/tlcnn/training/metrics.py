"""Scores of predictions, for images and for groups of them (lesions, patients).

    logits (N, K) -> probabilities -> Predictions -> {name: float}

Scalars are in `METRICS`, one number a class in `CLASS_METRICS` (keys `recall/mel`), and those
that need a positive class in `POSITIVE_METRICS` (keys `sensitivity_at_90_specificity/mel`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score, roc_curve

from tlcnn.errors import ConfigError, DataError, Diverged, did_you_mean

N_BINS = 15  # of the expected calibration error
MELANOMA = ("mel", "melanoma")  # positive where nothing else is said
SELECTION_METRICS = ("balanced_accuracy", "accuracy", "nll")


@dataclass(frozen=True)
class Predictions:
    """N scored samples, images or groups.

    Attributes:
        probabilities: (N, K) float64, rows sum to one.
        labels: (N,) int64, positions in the K classes.
    """

    probabilities: np.ndarray
    labels: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each sample, (N,); the first of equals."""
        return self.probabilities.argmax(axis=1)

    @property
    def present(self) -> np.ndarray:
        """The classes that occur in the labels, ascending."""
        return np.unique(self.labels)


# ---- one number ---------------------------------------------------------------------------------


def compute_accuracy(predictions: Predictions) -> float:
    """Return the share of samples whose most probable class is the right one."""
    return float((predictions.predicted == predictions.labels).mean())


def compute_balanced_accuracy(predictions: Predictions) -> float:
    """Return the mean recall over the classes that occur in the labels.

    A class without a sample has no recall. It is left out, so that a tiny validation set can
    still choose an epoch, and `n_absent_classes` says that it was: a number with absent classes
    is not comparable with one without.
    """
    recalls = compute_recall(predictions)
    return float(recalls[predictions.present].mean())


def compute_macro_auroc(predictions: Predictions) -> float:
    """Return the mean one-vs-rest area under the ROC curve, ties counted half (mid-ranks).

    With two classes the second one's score alone is used. Classes that do not occur, or are the
    only one, have no area and are left out; NaN when none is left.
    """
    probabilities, labels = predictions.probabilities, predictions.labels
    if len(predictions.present) < 2:
        return float("nan")
    classes = [1] if probabilities.shape[1] == 2 else predictions.present
    return float(np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in classes]))


def compute_macro_f1(predictions: Predictions) -> float:
    """Return the mean F1 over all K classes, 0 where it is undefined."""
    return float(_class_scores(predictions)[2].mean())


def compute_nll(predictions: Predictions) -> float:
    """Return the mean negative log-likelihood, natural log, probabilities clipped at 1e-15."""
    right = predictions.probabilities[np.arange(len(predictions.labels)), predictions.labels]
    return float(-np.log(np.clip(right, 1e-15, 1.0)).mean())


def compute_brier(predictions: Predictions) -> float:
    """Return the mean squared distance to the one-hot label, summed over classes (0 to 2)."""
    n_classes = predictions.probabilities.shape[1]
    errors = predictions.probabilities - np.eye(n_classes)[predictions.labels]
    return float((errors**2).sum(axis=1).mean())


def compute_ece(predictions: Predictions) -> float:
    """Return the expected calibration error of the top label, 15 bins of equal mass."""
    confidence = predictions.probabilities.max(axis=1)
    return compute_calibration_error(confidence, predictions.predicted == predictions.labels)


def compute_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the mean gap of confidence (n,) and hits (n,) bool in bins of equal mass.

    Equal confidences share a bin, so the order of the samples does not matter.
    """
    n = len(confidence)
    rank = np.searchsorted(np.sort(confidence), confidence)  # of the first among equals
    gaps = np.bincount(rank * N_BINS // n, weights=right - confidence, minlength=N_BINS)
    return float(np.abs(gaps).sum() / n)


def compute_n_absent_classes(predictions: Predictions) -> float:
    """Return how many of the K classes do not occur in the labels."""
    return float(predictions.probabilities.shape[1] - len(predictions.present))


# ---- one number a class -------------------------------------------------------------------------


def compute_recall(predictions: Predictions) -> np.ndarray:
    """Return each class's recall, (K,); NaN for a class without a sample."""
    n_classes = predictions.probabilities.shape[1]
    total = np.bincount(predictions.labels, minlength=n_classes)
    right = predictions.labels[predictions.predicted == predictions.labels]
    hits = np.bincount(right, minlength=n_classes)
    return np.where(total > 0, hits / np.maximum(total, 1), np.nan)


def compute_precision(predictions: Predictions) -> np.ndarray:
    """Return each class's precision, (K,); 0 for a class that is never predicted."""
    return _class_scores(predictions)[0]


def _class_scores(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and F1 of each class, 0 where undefined."""
    precision, recall, f1, _ = precision_recall_fscore_support(
        predictions.labels,
        predictions.predicted,
        labels=np.arange(predictions.probabilities.shape[1]),
        zero_division=0.0,
    )
    return precision, recall, f1


# ---- one class against the rest -----------------------------------------------------------------


def compute_sensitivity_at_90_specificity(predictions: Predictions, positive: int) -> float:
    """Return the highest recall of a class at a threshold with specificity of at least 0.90."""
    return compute_sensitivity(
        predictions.labels == positive, predictions.probabilities[:, positive]
    )


def compute_sensitivity(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the sensitivity at 90 % specificity of truth (n,) bool; NaN if it is all the same."""
    if truth.all() or not truth.any():
        return float("nan")
    false_rate, true_rate, _ = roc_curve(truth, scores, drop_intermediate=False)
    return float(true_rate[false_rate <= 0.10 + 1e-12].max())


METRICS: dict[str, Callable[[Predictions], float]] = {
    "balanced_accuracy": compute_balanced_accuracy,
    "accuracy": compute_accuracy,
    "macro_auroc": compute_macro_auroc,
    "macro_f1": compute_macro_f1,
    "nll": compute_nll,
    "brier": compute_brier,
    "ece": compute_ece,
    "n_absent_classes": compute_n_absent_classes,
}

CLASS_METRICS: dict[str, Callable[[Predictions], np.ndarray]] = {
    "recall": compute_recall,
    "precision": compute_precision,
}

POSITIVE_METRICS: dict[str, Callable[[Predictions, int], float]] = {
    "sensitivity_at_90_specificity": compute_sensitivity_at_90_specificity,
}


# ---- all of them --------------------------------------------------------------------------------


def compute_metrics(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str],
    positive: str | None = None,
    extra: Mapping[str, Callable[[Predictions], float]] | None = None,
) -> dict[str, float]:
    """Return every metric of one set of predictions.

    Args:
        probabilities: (N, K), rows sum to one.
        labels: (N,) int.
        classes: K names, for the keys.
        positive: the class that sensitivity is about; by default melanoma if there is such a
            class, else the second of two classes, else none.
        extra: metrics beside `METRICS` that only some tasks have.

    Raises:
        DataError: empty, or shapes and labels that do not fit.
        Diverged: a probability is not finite.
        ConfigError: `positive` is no class.
    """
    predictions = make_predictions(probabilities, labels, len(classes))
    scores = {name: compute(predictions) for name, compute in {**METRICS, **(extra or {})}.items()}
    for name, compute_classes in CLASS_METRICS.items():
        values = compute_classes(predictions)
        scores |= {f"{name}/{classes[i]}": float(value) for i, value in enumerate(values)}
    chosen = find_positive(classes, positive)
    if chosen is not None:
        for name, compute_one in POSITIVE_METRICS.items():
            scores[f"{name}/{classes[chosen]}"] = compute_one(predictions, chosen)
    return scores


def compute_selection_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the few metrics that an epoch is chosen by; cheap enough for every epoch.

    Args:
        logits: (N, K).
        labels: (N,) int.
    """
    predictions = make_predictions(compute_softmax(logits), labels)
    return {name: METRICS[name](predictions) for name in SELECTION_METRICS}


def compute_all(
    logits: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    *,
    classes: Sequence[str],
    positive: str | None = None,
    extra: Mapping[str, Callable[[Predictions], float]] | None = None,
) -> dict[str, float]:
    """Return every metric of the images, and as `group/...` of the groups.

    Args:
        logits: (N, K).
        labels: (N,) int.
        groups: (N,) group of each image; a group's prediction is its images' mean probability.
    """
    probabilities = compute_softmax(logits)
    told = partial(compute_metrics, classes=classes, positive=positive, extra=extra)
    scores = told(probabilities, labels)
    grouped = compute_group_means(probabilities, labels, groups)
    return scores | {f"group/{name}": value for name, value in told(*grouped).items()}


def compute_softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, (N, K) float64, of logits (N, K). Raises Diverged."""
    shifted = np.asarray(logits, dtype=np.float64)
    check_finite(shifted)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def compute_group_means(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[str] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each group's mean probabilities (G, K) and majority label (G,), sorted by group.

    The smallest label wins a tie.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    n_classes = probabilities.shape[1]
    sums = np.zeros((len(names), n_classes))
    votes = np.zeros((len(names), n_classes), dtype=np.int64)
    np.add.at(sums, member, probabilities)
    np.add.at(votes, (member, labels), 1)
    return sums / votes.sum(axis=1, keepdims=True), votes.argmax(axis=1)


def make_predictions(
    probabilities: np.ndarray, labels: np.ndarray, n_classes: int | None = None
) -> Predictions:
    """Return checked predictions. Raises DataError, and Diverged when one is not finite."""
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
    return Predictions(probabilities, labels)


def check_finite(scores: np.ndarray) -> None:
    """Raise Diverged when any of (N, K) scores is not finite."""
    finite = np.isfinite(scores).all(axis=1)
    if not finite.all():
        raise Diverged(
            f"{(~finite).sum()} of {len(scores)} predictions are not finite: the training has "
            "diverged; lower train.lr"
        )


def find_positive(classes: Sequence[str], positive: str | None) -> int | None:
    """Return the position of the positive class, or None. Raises ConfigError: it is no class."""
    if positive is None:
        named = [i for i, name in enumerate(classes) if name.lower() in MELANOMA]
        return named[0] if named else 1 if len(classes) == 2 else None
    if positive not in classes:
        hint = did_you_mean(positive, list(classes))
        raise ConfigError(f"positive class {positive}: one of {', '.join(classes)}.{hint}")
    return list(classes).index(positive)
