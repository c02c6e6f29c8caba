"""Metrics under weights of groups: whole weights are rows that occur as often."""

import time

import numpy as np
import pytest
from statistics_data import CLASSES, draw_scored, draw_weights

from tlcnn.statistics.metrics import (
    CLASS_METRICS,
    METRICS,
    POSITIVE_METRICS,
    compute_metrics,
    is_lower_better,
    is_weightable,
    make_score,
)
from tlcnn.statistics.predictions import Predictions
from tlcnn.statistics.resample import center_influence

ALL = [*METRICS, "recall/mel", "precision/nv", "sensitivity_at_90_specificity/mel"]


def measure(probabilities, labels, metric):
    """The metric as a training records it."""
    scores = compute_metrics("ordinal", probabilities, labels, classes=CLASSES, positive="mel")
    return scores[metric]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("seed", [0, 1])
def test_weights_of_one_are_the_plain_metric(metric, seed):
    scored = draw_scored(seed=seed)
    score = make_score(metric, scored, CLASSES).value
    assert score == pytest.approx(measure(scored.probabilities, scored.labels, metric), abs=1e-12)


@pytest.mark.parametrize("metric", ALL)
def test_whole_weights_are_repeated_rows(metric):
    scored = draw_scored(n_groups=30, seed=2)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, size=(6, 30)).astype(float)
    weights[:, :8] += 1  # no class dies out
    values = make_score(metric, scored, CLASSES).compute(weights)
    for row, value in zip(weights, values, strict=True):
        times = row[scored.group].astype(int)
        repeated = np.repeat(scored.probabilities, times, axis=0), np.repeat(scored.labels, times)
        assert value == pytest.approx(measure(*repeated, metric), abs=1e-12)


@pytest.mark.parametrize("metric", sorted(set(ALL) - {"ece", "n_absent_classes"}))
def test_influence_tells_what_redraws_do(metric):
    scored = draw_scored(n_groups=400, seed=3, ties=False, mixed=False)
    score = make_score(metric, scored, CLASSES)
    strata = np.arange(400) % 4
    weights = draw_weights(strata, 300, 0)
    changes = score.compute(weights) - score.compute(np.ones((1, 400)))
    linear = (weights - 1) @ center_influence(score, strata)
    smooth = metric != "sensitivity_at_90_specificity/mel"  # a step function
    assert np.corrcoef(changes, linear)[0, 1] > (0.99 if smooth else 0.7)
    assert linear.std() == pytest.approx(changes.std(), rel=0.08 if smooth else 0.35)


@pytest.mark.parametrize("metric", ["macro_auroc", "balanced_accuracy", "recall/mel", "nll"])
def test_closed_influences_agree_with_a_tiny_step(metric):
    scored = draw_scored(n_groups=24, seed=4)
    score = make_score(metric, scored, CLASSES)
    step = 1e-6 * np.eye(24)
    slopes = (score.compute(1 + step) - score.compute(1 - step)) / 2e-6
    assert score.influence == pytest.approx(slopes, abs=1e-6)


@pytest.mark.parametrize("metric", ["ece", "n_absent_classes"])
def test_steps_have_no_influence(metric):
    assert np.isnan(make_score(metric, draw_scored(), CLASSES).influence).all()


@pytest.mark.parametrize("metric", ALL)
def test_contributions_add_up_to_the_score(metric):
    scored = draw_scored(seed=5)
    score = make_score(metric, scored, CLASSES)
    if score.contributions is not None:
        total = score.compute(np.ones((1, scored.n_groups)))[0]
        assert score.contributions.sum() == pytest.approx(total, abs=1e-12)
    sums = {"accuracy", "balanced_accuracy", "recall/mel", "nll", "brier", "mae"}
    assert (score.contributions is not None) == (metric in sums)


def test_a_known_area_by_hand():
    """Positives .9 .4, negatives .5 .4 .1: pairs won 3 + (0 + .5 + 1), of 6."""
    scores = np.array([0.9, 0.4, 0.5, 0.4, 0.1])
    scored = Predictions(
        np.stack([1 - scores, scores], 1), np.array([1, 1, 0, 0, 0]), np.arange(5), 5
    )
    score = make_score("macro_auroc", scored, ("no", "yes"))
    weights = np.array([[1, 1, 1, 1, 1], [1, 2, 0, 1, 1]])
    assert score.compute(weights) == pytest.approx([4.5 / 6, (2 + 2 * 1.5) / 6])


def test_a_class_that_weighs_nothing_is_left_out():
    scored = draw_scored(mixed=False)
    weights = np.ones((1, 40))
    weights[:, np.arange(40) % 4 == 3] = 0
    kept = scored.labels != 3
    for metric in ("balanced_accuracy", "macro_auroc"):
        value = make_score(metric, scored, CLASSES).compute(weights)
        expected = measure(scored.probabilities[kept], scored.labels[kept], metric)
        assert value == pytest.approx(expected, abs=1e-12)
    assert np.isnan(make_score("recall/df", scored, CLASSES).compute(weights)).all()


def test_a_class_without_rows_is_undefined():
    scored = draw_scored(mixed=False)
    kept = scored.labels != 3
    few = Predictions(scored.probabilities[kept], scored.labels[kept], scored.group[kept], 40)
    ones = np.ones((2, 40))
    assert np.isnan(make_score("recall/df", few, CLASSES).compute(ones)).all()
    assert np.isnan(
        make_score("sensitivity_at_90_specificity/df", few, CLASSES).compute(ones)
    ).all()


def test_every_metric_of_a_training_can_be_weighted():
    names = compute_metrics("ordinal", np.eye(4), np.arange(4), classes=CLASSES, positive="mel")
    assert all(is_weightable(name, CLASSES) for name in names)
    assert {*METRICS, *CLASS_METRICS, *POSITIVE_METRICS} == {name.split("/")[0] for name in names}
    assert not any(is_weightable(n, CLASSES) for n in ("auroc/mel", "recall", "recall/other"))


def test_which_way_is_better():
    assert [is_lower_better(f"test/{name}") for name in ("nll", "group/brier", "ece", "mae")] == [
        True
    ] * 4
    assert not is_lower_better("val/balanced_accuracy") and not is_lower_better("recall/mel")


def test_speed():
    """HAM10000's size, 2,000 redraws: balanced accuracy in tens of ms, AUROC in a second."""
    rng = np.random.default_rng(0)
    strata = np.repeat(np.arange(7), (49, 77, 165, 17, 167, 1005, 20))
    group = np.sort(np.concatenate([np.arange(1500), rng.integers(0, 1500, 500)]))
    labels = strata[group]
    logits = rng.normal(size=(2000, 7)) + 1.5 * np.eye(7)[labels]
    scored = Predictions(
        np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels, group, 1500
    )
    weights = draw_weights(strata, 2000, 0)
    for metric, limit in (("balanced_accuracy", 0.25), ("macro_auroc", 3.0)):
        start = time.process_time()
        make_score(metric, scored, tuple("abcdefg")).compute(weights)
        assert time.process_time() - start < limit  # five times what was measured
