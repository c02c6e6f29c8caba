"""Scores of findings against MedMNIST's own definitions and against the two-class scores."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from tlcnn.errors import ConfigError, DataError, Diverged
from tlcnn.statistics import metrics
from tlcnn.statistics.metrics import (
    CLASS_METRICS,
    FINDING_METRICS,
    METRICS,
    SELECTION_METRICS,
    compute_scores,
    compute_selection,
)
from tlcnn.statistics.predictions import (
    compute_group_means,
    compute_sigmoid,
    compute_softmax,
    make_findings,
)


def compute_metrics(probabilities, targets, *, classes, positive=None):
    return metrics.compute_metrics(
        "multi-label", probabilities, targets, classes=classes, positive=positive
    )


def draw(n=300, k=5, seed=0):
    """Answers better than chance, with ties and with probabilities of exactly 0.5."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n, k)) < np.linspace(0.05, 0.6, k)
    targets[0], targets[1] = True, False
    return np.round(rng.normal(size=(n, k)) + 1.5 * targets - 0.7, 1), targets.astype(np.uint8)


# ---- MedMNIST's evaluator, from its published formulae ------------------------------------------


def get_auc(truth, scores, task):
    """AUC: the last column's; or the mean over findings; or the mean one against the rest."""
    if task == "binary":
        return roc_auc_score(truth, scores[:, -1])
    columns = truth.T if task == "multi-label" else [truth == k for k in range(scores.shape[1])]
    return sum(roc_auc_score(t, s) for t, s in zip(columns, scores.T, strict=True)) / len(columns)


def get_acc(truth, scores, task):
    """ACC: findings above 0.5, the last of two classes above 0.5, else the highest score."""
    if task == "multi-label":
        said = np.where(scores > 0.5, 1, 0)
        each = [accuracy_score(t, s) for t, s in zip(truth.T, said.T, strict=True)]
        return sum(each) / len(each)
    said = scores[:, -1] > 0.5 if task == "binary" else scores.argmax(axis=1)
    return accuracy_score(truth, said)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("task", "k"), [("binary", 2), ("multi-class", 8), ("ordinal", 5), ("multi-label", 14)]
)
def test_auc_and_acc_are_medmnists(task, k, seed):
    if task == "multi-label":
        logits, truth = draw(k=k, seed=seed)
        scores = compute_sigmoid(logits)
        assert (scores == 0.5).any()
    else:
        rng = np.random.default_rng(seed)
        truth = np.concatenate([np.arange(k), rng.integers(0, k, 200)])
        logits = np.round(rng.normal(size=(len(truth), k)) + np.eye(k)[truth], 1)
        scores = compute_softmax(logits)
    names, groups = [str(i) for i in range(k)], np.arange(len(truth)).astype(str)
    ours = compute_scores(task, logits, truth, groups, classes=names, positive="0")
    assert ours["macro_auroc"] == pytest.approx(get_auc(truth, scores, task), abs=1e-12)
    assert ours["accuracy"] == pytest.approx(get_acc(truth, scores, task), abs=1e-12)
    assert compute_selection(task, logits, truth)["accuracy"] == ours["accuracy"]


# ---- one finding is a task of two classes -------------------------------------------------------


def test_one_finding_scores_as_two_classes_do():
    logits, targets = draw(k=1)
    assert (logits == 0).any()  # a probability of exactly 0.5 is a no, in both
    two = metrics.compute_metrics(
        "binary",
        compute_softmax(np.column_stack([0 * logits, logits])),
        targets[:, 0],
        classes=["no", "yes"],
        positive="yes",
    )
    one = compute_metrics(compute_sigmoid(logits), targets, classes=["yes"], positive="yes")
    shared = set(one) & set(two) - {"macro_f1"}  # with two classes, that is F1 of no as well
    assert {"nll", "brier", "ece", "balanced_accuracy", "n_absent_classes"} < shared
    assert {"recall/yes", "precision/yes", "sensitivity_at_90_specificity/yes"} < shared
    for name in shared:
        assert one[name] == pytest.approx(two[name], abs=1e-12), name
    assert one["specificity/yes"] == pytest.approx(two["recall/no"], abs=1e-12)
    assert one["auroc/yes"] == pytest.approx(two["macro_auroc"], abs=1e-12)


def test_many_findings_are_the_mean_of_each():
    logits, targets = draw()
    whole = compute_metrics(compute_sigmoid(logits), targets, classes="abcde")
    each = [
        compute_metrics(compute_sigmoid(x[:, None]), t[:, None], classes=[name])
        for x, t, name in zip(logits.T, targets.T, "abcde", strict=True)
    ]
    averaged = {name for name, metric in METRICS.items() if not metric.needs_order}
    for name in averaged - {"n_absent_classes"}:
        assert whole[name] == pytest.approx(np.mean([one[name] for one in each]), abs=1e-12)
    for name in FINDING_METRICS:
        for one, letter in zip(each, "abcde", strict=True):
            assert whole[f"{name}/{letter}"] == one[f"{name}/{letter}"]


def test_keys_are_those_of_other_tasks():
    assert set(CLASS_METRICS) < set(FINDING_METRICS)
    logits, targets = draw()
    groups = np.arange(300).astype(str)
    scores = compute_scores("multi-label", logits, targets, groups, classes="abcde")
    single = compute_scores("multi-class", logits, targets[:, 0], groups, classes="abcde")
    assert {name for name in single if not name.startswith("group/")} < set(scores)
    assert set(single) < set(scores)
    assert not [name for name in scores if "sensitivity" in name]


# ---- known answers ------------------------------------------------------------------------------


def test_perfect_and_constant_answers():
    targets = draw()[1]
    perfect = compute_metrics(targets, targets, classes="abcde")
    for name, value in {"balanced_accuracy": 1, "accuracy": 1, "macro_auroc": 1, "ece": 0}.items():
        assert perfect[name] == value
    never = compute_metrics(np.full(targets.shape, 0.2), targets, classes="abcde")
    assert never["balanced_accuracy"] == 0.5 and never["macro_auroc"] == 0.5
    assert never["accuracy"] == pytest.approx(1 - targets.mean())
    assert never["precision/a"] == 0.0 and never["recall/a"] == 0.0
    assert never["specificity/a"] == 1.0 and never["macro_f1"] == 0.0


def test_findings_that_always_or_never_hold_are_left_out_and_counted():
    logits, targets = draw()
    targets[:, 0], targets[:, 1] = 0, 1
    scores = compute_metrics(compute_sigmoid(logits), targets, classes="abcde")
    rest = compute_metrics(compute_sigmoid(logits[:, 2:]), targets[:, 2:], classes="cde")
    assert scores["n_absent_classes"] == 2 and rest["n_absent_classes"] == 0
    for name in ("balanced_accuracy", "macro_auroc"):
        assert scores[name] == pytest.approx(rest[name], abs=1e-12)
    assert np.isnan([scores["recall/a"], scores["auroc/a"], scores["specificity/b"]]).all()
    alone = compute_metrics(np.full((2, 1), 0.5), np.ones((2, 1)), classes="a")
    assert np.isnan(alone["balanced_accuracy"]) and np.isnan(alone["macro_auroc"])


def test_groups():
    probabilities, targets = compute_group_means(
        np.array([[0.9, 0.1], [0.5, 0.3], [0.1, 0.2]]),
        np.array([[1, 0], [0, 0], [1, 1]]),
        ["b", "b", "a"],
    )
    assert probabilities == pytest.approx(np.array([[0.1, 0.2], [0.7, 0.2]]))
    assert targets.tolist() == [[True, True], [True, False]]  # half of b's images


def test_sigmoid_survives_large_logits():
    assert compute_sigmoid([[1e4, -1e4, 0.0]]).tolist() == [[1.0, 0.0, 0.5]]


def test_selection_metrics_are_the_same_numbers():
    logits, targets = draw()
    few = compute_selection("multi-label", logits, targets)
    every = compute_metrics(compute_sigmoid(logits), targets, classes="abcde")
    assert few == {name: every[name] for name in SELECTION_METRICS}


def test_bad_input_is_refused():
    logits, targets = draw()
    with pytest.raises(Diverged):
        compute_sigmoid(logits * np.nan)
    with pytest.raises(DataError, match=r"\(300, 5\) against targets \(300, 4\)"):
        make_findings(compute_sigmoid(logits), targets[:, :4])
    with pytest.raises(DataError, match="N > 0"):
        make_findings(np.zeros((0, 5)), np.zeros((0, 5)))
    with pytest.raises(DataError, match="other than 0 and 1"):
        make_findings(compute_sigmoid(logits), targets * 2)
    with pytest.raises(ConfigError, match="positive class f"):
        compute_metrics(compute_sigmoid(logits), targets, classes="abcde", positive="f")
