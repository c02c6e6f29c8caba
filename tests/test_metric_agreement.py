"""Recorded metrics against scikit-learn and MedMNIST's evaluator, to 1e-12, on random inputs."""

import numpy as np
import pytest
from sklearn import metrics as sk

from tlcnn.statistics.metrics import compute_metrics
from tlcnn.statistics.predictions import compute_softmax

CLOSE = 1e-12


def draw(n_classes, seed, decimals=2, n=300):
    """Labels (N,) of every class, and probabilities (N, K) with ties."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, n_classes + 1)
    rare = rng.choice(n_classes, n - n_classes, p=weights / weights.sum())
    labels = np.concatenate([np.arange(n_classes), rare])
    logits = rng.normal(size=(n, n_classes)) + np.eye(n_classes)[labels]
    return compute_softmax(np.round(logits, decimals)), labels


def names(n_classes):
    return tuple(f"c{i}" for i in range(n_classes))


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(n_classes, seed):
    probabilities, labels = draw(n_classes, seed, decimals=1)
    scores = compute_metrics("ordinal", probabilities, labels, classes=names(n_classes))
    predicted = probabilities.argmax(axis=1)
    ranked = probabilities[:, 1] if n_classes == 2 else probabilities
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "macro_f1": sk.f1_score(labels, predicted, average="macro", zero_division=0.0),
        "macro_auroc": sk.roc_auc_score(labels, ranked, multi_class="ovr", average="macro"),
        "nll": sk.log_loss(labels, probabilities),
        "quadratic_kappa": sk.cohen_kappa_score(labels, predicted, weights="quadratic"),
        "mae": sk.mean_absolute_error(labels, predicted),
    }
    for c, recall in enumerate(
        sk.recall_score(labels, predicted, average=None, zero_division=0.0)
    ):
        expected[f"recall/c{c}"] = recall
    for c, share in enumerate(
        sk.precision_score(labels, predicted, average=None, zero_division=0.0)
    ):
        expected[f"precision/c{c}"] = share
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize("seed", range(3))
def test_brier_is_scikit_learns_of_two_classes_twice(seed):
    probabilities, labels = draw(2, seed)
    one_sided = sk.brier_score_loss(labels, probabilities[:, 1])
    brier = compute_metrics("binary", probabilities, labels, classes=names(2))["brier"]
    assert brier == pytest.approx(2 * one_sided, abs=CLOSE)


# ---- MedMNIST v2, Yang et al. 2023: AUC and ACC, restated ---------------------------------------


def count_area(truth, scores):
    """P(positive above negative) + P(equal) / 2 over all pairs."""
    high, low = scores[truth][:, None], scores[~truth][None]
    return ((high > low).sum() + (high == low).sum() / 2) / (high.size * low.size)


def restate_auc(labels, scores, task):
    if task == "multi-label, binary-class":
        pairs = zip(labels.T, scores.T, strict=True)
        return np.mean([count_area(truth == 1, one) for truth, one in pairs])
    if task == "binary-class":
        return count_area(labels == 1, scores[:, -1])
    return np.mean([count_area(labels == c, scores[:, c]) for c in range(scores.shape[1])])


def restate_acc(labels, scores, task):
    if task == "multi-label, binary-class":
        return np.mean((scores > 0.5) == (labels == 1))
    if task == "binary-class":
        return np.mean((scores[:, -1] > 0.5) == (labels == 1))
    return np.mean(scores.argmax(axis=1) == labels)


def find_evaluator(which):
    """MedMNIST's own functions where the package is there; its rules, written anew, always."""
    if which == "restated":
        return restate_auc, restate_acc
    evaluator = pytest.importorskip("medmnist.evaluator")
    return evaluator.getAUC, evaluator.getACC


@pytest.mark.parametrize("which", ["restated", "medmnist"])
@pytest.mark.parametrize("task", ["multi-class", "ordinal-regression", "binary-class"])
@pytest.mark.parametrize("seed", range(3))
def test_auc_and_acc_are_medmnists(which, task, seed):
    compute_auc, compute_acc = find_evaluator(which)
    n_classes = 2 if task == "binary-class" else 5
    probabilities, labels = draw(n_classes, seed)
    measured = compute_metrics("multi-class", probabilities, labels, classes=names(n_classes))
    assert measured["macro_auroc"] == pytest.approx(
        compute_auc(labels, probabilities, task), abs=CLOSE
    )
    assert measured["accuracy"] == pytest.approx(
        compute_acc(labels, probabilities, task), abs=CLOSE
    )


@pytest.mark.parametrize("which", ["restated", "medmnist"])
@pytest.mark.parametrize("seed", range(3))
def test_multi_label_auc_and_acc_are_medmnists(which, seed):
    compute_auc, compute_acc = find_evaluator(which)
    task = "multi-label, binary-class"
    rng = np.random.default_rng(seed)
    targets = (rng.random((300, 6)) < 0.3).astype(int)
    scores = np.round(np.clip(0.45 * rng.random((300, 6)) + 0.4 * targets, 0, 1), 3) + 1e-5
    measured = compute_metrics("multi-label", scores, targets, classes=names(6))
    assert measured["macro_auroc"] == pytest.approx(compute_auc(targets, scores, task), abs=CLOSE)
    assert measured["accuracy"] == pytest.approx(compute_acc(targets, scores, task), abs=CLOSE)
