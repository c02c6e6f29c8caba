"""Metrics against formulas written out here, and on predictions whose scores are known."""

import math
import time

import numpy as np
import pytest

from tlcnn.errors import ConfigError, DataError, Diverged
from tlcnn.report.words import is_share, name_metric
from tlcnn.statistics import metrics
from tlcnn.statistics.metrics import (
    METRICS,
    SELECTION_METRICS,
    compute_scores,
    compute_selection,
    find_range,
    is_lower_better,
    rank_epoch,
)
from tlcnn.statistics.predictions import compute_group_means, compute_softmax, make_predictions

CLASSES = ("nv", "mel", "bkl", "bcc")


def compute_metrics(probabilities, labels, *, classes, positive=None):
    return metrics.compute_metrics(
        "multi-class", probabilities, labels, classes=classes, positive=positive
    )


def draw(n=400, k=4, seed=0):
    """Predictions that are better than chance, with ties, and every class present."""
    rng = np.random.default_rng(seed)
    weights = np.arange(k, 0, -1) / np.arange(k + 1).sum()
    labels = np.concatenate([np.arange(k), rng.choice(k, n - k, p=weights)])
    logits = np.round(rng.normal(size=(n, k)) + 1.5 * np.eye(k)[labels], 1)
    return compute_softmax(logits), labels


def midrank_auc(positives, negatives):
    """P(positive above negative) + P(equal) / 2, by counting all pairs."""
    above = (positives[:, None] > negatives[None]).mean()
    return above + (positives[:, None] == negatives[None]).mean() / 2


def test_perfect_predictions():
    labels = np.arange(40) % 4
    scores = compute_metrics(np.eye(4)[labels], labels, classes=CLASSES, positive="mel")
    ones = ["balanced_accuracy", "accuracy", "macro_auroc", "macro_f1"]
    ones += ["recall/mel", "precision/nv", "sensitivity_at_90_specificity/mel"]
    assert {name: scores[name] for name in ones} == dict.fromkeys(ones, 1.0)
    zeros = ["nll", "brier", "ece", "n_absent_classes"]
    assert {name: scores[name] for name in zeros} == dict.fromkeys(zeros, 0.0)


def test_constant_predictions():
    labels = np.repeat(np.arange(4), [70, 10, 10, 10])
    uniform = np.full((100, 4), 0.25)
    scores = compute_metrics(uniform, labels, classes=CLASSES, positive="mel")
    assert scores["accuracy"] == 0.7 and scores["balanced_accuracy"] == 0.25
    assert scores["macro_auroc"] == 0.5
    assert scores["sensitivity_at_90_specificity/mel"] == 0.0
    assert scores["nll"] == pytest.approx(np.log(4))
    assert scores["brier"] == pytest.approx(0.75**2 + 3 * 0.25**2)
    assert scores["ece"] == pytest.approx(0.7 - 0.25)
    assert scores["macro_f1"] == pytest.approx(2 * 0.7 / 1.7 / 4)
    assert scores["precision/mel"] == 0.0


def test_random_predictions_are_at_chance():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 8000)
    scores = compute_metrics(rng.dirichlet(np.ones(4), 8000), labels, classes=CLASSES)
    assert scores["balanced_accuracy"] == pytest.approx(0.25, abs=0.02)
    assert scores["macro_auroc"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_scores_agree_with_formulas_written_out(seed):
    probabilities, labels = draw(seed=seed)
    scores = compute_metrics(probabilities, labels, classes=CLASSES, positive="mel")
    predicted = probabilities.argmax(1)
    recalls, precisions, f1s, areas = [], [], [], []
    for c in range(4):
        hits = ((predicted == c) & (labels == c)).sum()
        recalls.append(hits / (labels == c).sum())
        precisions.append(hits / (predicted == c).sum())
        f1s.append(2 * hits / ((predicted == c).sum() + (labels == c).sum()))
        areas.append(midrank_auc(probabilities[labels == c, c], probabilities[labels != c, c]))
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(recalls), abs=1e-12)
    assert scores["macro_auroc"] == pytest.approx(np.mean(areas), abs=1e-12)
    assert scores["macro_f1"] == pytest.approx(np.mean(f1s), abs=1e-12)
    for c, name in enumerate(CLASSES):
        assert scores[f"recall/{name}"] == pytest.approx(recalls[c], abs=1e-12)
        assert scores[f"precision/{name}"] == pytest.approx(precisions[c], abs=1e-12)
    thresholds = [np.inf, *np.unique(probabilities[:, 1])]
    allowed = [
        (probabilities[labels == 1, 1] >= t).mean()
        for t in thresholds
        if (probabilities[labels != 1, 1] < t).mean() >= 0.9
    ]
    assert scores["sensitivity_at_90_specificity/mel"] == pytest.approx(max(allowed), abs=1e-12)


def test_nll_brier_by_hand():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    scores = compute_metrics(probabilities, [0, 2], classes="abc")
    assert scores["nll"] == pytest.approx(-(np.log(0.5) + np.log(0.3)) / 2)
    expected = (0.5**2 + 0.3**2 + 0.2**2) + (0.1**2 + 0.6**2 + 0.7**2)
    assert scores["brier"] == pytest.approx(expected / 2)


def test_ece_by_hand():
    # 30 samples fill 15 bins by twos: each bin has one hit, so accuracy is 0.5 in all of them.
    confidence = np.linspace(0.55, 0.99, 30)
    labels = np.arange(30) % 2
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    pairs = confidence.reshape(15, 2).mean(axis=1)
    scores = compute_metrics(probabilities, labels, classes="ab")
    assert scores["ece"] == pytest.approx(np.abs(0.5 - pairs).mean())


def test_order_of_samples_does_not_matter():
    probabilities, labels = draw()
    order = np.random.default_rng(1).permutation(len(labels))
    one = compute_metrics(probabilities, labels, classes=CLASSES)
    other = compute_metrics(probabilities[order], labels[order], classes=CLASSES)
    assert one == pytest.approx(other, abs=1e-12)


def test_binary_uses_the_positive_class():
    probabilities, labels = draw(k=2)
    scores = compute_metrics(probabilities, labels, classes=("benign", "malignant"))
    area = midrank_auc(probabilities[labels == 1, 1], probabilities[labels == 0, 1])
    assert scores["macro_auroc"] == pytest.approx(area, abs=1e-12)
    assert "sensitivity_at_90_specificity/malignant" in scores
    named = compute_metrics(probabilities, labels, classes=("benign", "m"), positive="benign")
    assert "sensitivity_at_90_specificity/benign" in named


def test_melanoma_is_positive_unless_told_otherwise():
    keys = compute_metrics(*draw(), classes=CLASSES)
    assert "sensitivity_at_90_specificity/mel" in keys
    keys = compute_metrics(*draw(), classes="abcd")
    assert not [key for key in keys if key.startswith("sensitivity")]


def test_absent_class_is_left_out_and_counted():
    probabilities, labels = draw()
    kept = labels != 3
    scores = compute_metrics(probabilities[kept], labels[kept], classes=CLASSES, positive="bcc")
    recalls = [scores[f"recall/{name}"] for name in CLASSES]
    assert scores["n_absent_classes"] == 1 and np.isnan(recalls[3])
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(recalls[:3]))
    assert np.isfinite(scores["macro_auroc"])
    assert np.isnan(scores["sensitivity_at_90_specificity/bcc"])


def test_one_class_alone_has_no_area():
    scores = compute_metrics(np.full((3, 2), 0.5), [0, 0, 0], classes="ab")
    assert np.isnan(scores["macro_auroc"]) and scores["accuracy"] == 1.0


def test_group_means():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    means, labels = compute_group_means(
        probabilities, np.array([0, 1, 1, 0]), ["b", "a", "b", "b"]
    )
    assert means == pytest.approx(np.array([[0.2, 0.8], [1.6 / 3, 1.4 / 3]]))
    assert labels.tolist() == [1, 0]
    tied = compute_group_means(probabilities[:2], np.array([1, 0]), ["x", "x"])[1]
    assert tied.tolist() == [0]


def test_all_scores_images_and_groups():
    logits = np.array([[2.0, 0.0], [0.0, 0.5], [0.0, 3.0], [0.0, 1.0]])
    labels = np.array([0, 0, 1, 1])
    scores = compute_scores("multi-class", logits, labels, ["p", "p", "q", "r"], classes="ab")
    assert scores["accuracy"] == 0.75
    assert scores["group/accuracy"] == 1.0  # p's mean is on the right side
    alone = compute_scores("multi-class", logits, labels, list("pqrs"), classes="ab")
    assert alone["group/nll"] == pytest.approx(alone["nll"])


def test_softmax_survives_large_logits():
    assert compute_softmax([[1e4, 0.0], [0.0, -1e4]]).tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_bad_input_is_refused():
    with pytest.raises(Diverged, match="1 of 2 predictions are not finite"):
        compute_softmax([[np.nan, 0.0], [0.0, 1.0]])
    with pytest.raises(DataError, match="N > 0"):
        make_predictions(np.zeros((0, 2)), np.zeros(0))
    with pytest.raises(DataError, match="0 to 1 are allowed"):
        make_predictions(np.full((2, 2), 0.5), [0, 2])
    with pytest.raises(ConfigError, match="Did you mean 'mel'"):
        compute_metrics(*draw(), classes=CLASSES, positive="mell")


def test_selection_metrics_are_the_same_numbers_and_cheap():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(1500, 7)), rng.integers(0, 7, 1500)
    compute_selection("multi-class", logits, labels)
    start = time.perf_counter()
    few = compute_selection("multi-class", logits, labels)
    assert time.perf_counter() - start < 0.06
    every = compute_metrics(compute_softmax(logits), labels, classes="abcdefg")
    assert few == {name: every[name] for name in few} and set(few) <= set(METRICS)


@pytest.mark.parametrize("undefined", [None, float("nan")])
def test_an_epoch_without_a_number_is_best_only_where_no_epoch_has_one(undefined):
    def make_epoch(score, loss):
        return {"val/balanced_accuracy": score, "val/nll": loss}

    epochs = [make_epoch(undefined, 0.1), make_epoch(0.5, undefined), make_epoch(0.5, 2.0)]
    ranks = [rank_epoch(epoch) for epoch in epochs]
    assert ranks == sorted(ranks) and len(set(ranks)) == 3
    assert rank_epoch(make_epoch(0.6, 3.0)) > ranks[-1] > rank_epoch(make_epoch(0.5, 2.1))
    assert rank_epoch(make_epoch(undefined, undefined)) == (-math.inf, -math.inf)


def test_epochs_are_ranked_by_the_metric_that_was_asked_for():
    epochs = [{"val/nll": 0.5, "val/macro_auroc": 0.7}, {"val/nll": 0.6, "val/macro_auroc": 0.8}]
    assert max(epochs, key=lambda e: rank_epoch(e, "macro_auroc")) is epochs[1]
    assert max(epochs, key=lambda e: rank_epoch(e, "nll")) is epochs[0]
    tied = [{"val/nll": 0.6, "val/brier": 0.7}, {"val/nll": 0.5, "val/brier": 0.7}]
    assert max(tied, key=lambda e: rank_epoch(e, "brier")) is tied[1]


@pytest.mark.parametrize("select", ["macro_auroc", "brier", "macro_f1"])
def test_another_metric_is_computed_where_it_chooses(select):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(90, 4)), rng.integers(0, 4, 90)
    scores = compute_selection("multi-class", logits, labels, select)
    every = compute_metrics(compute_softmax(logits), labels, classes="abcd")
    assert scores[select] == every[select] and set(scores) == {*SELECTION_METRICS, select}


def test_the_name_of_a_class_decides_nothing_about_a_metric():
    assert not is_share("test/auroc/recall_case") and is_share("test/group/recall/auroc")
    assert find_range("test/recall/kappa") == (0.0, 1.0)
    assert find_range("test/quadratic_kappa") == (-1.0, 1.0)
    assert not is_lower_better("test/recall/nll") and is_lower_better("val/group/nll")
    assert name_metric("test/recall/group/a") == "recall of group/a"
