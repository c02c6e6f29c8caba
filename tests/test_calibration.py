"""Probabilities under class weights, and what they are without them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from statistics_data import CLASSES, write_run

from tlcnn.records.plan_record import read_plan
from tlcnn.records.read import read_runs
from tlcnn.statistics.predictions import compute_softmax
from tlcnn.study.calibration import measure_calibration
from tlcnn.study.cells import make_cells
from tlcnn.study.class_weights import correct_logits, find_class_weights
from tlcnn.study.runs import make_runs
from tlcnn.training.class_weights import compute_class_weights

SHARES = (0.06, 0.12, 0.72, 0.10)  # of the classes


def fit_weighted_logistic(n=4000, seed=0):
    """Logits of a logistic model that minimises a cross-entropy with balanced class weights."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=n, p=SHARES)
    inputs = np.column_stack([np.ones(n), rng.normal(size=(n, 2)) + np.eye(4)[labels][:, :2]])
    counts = np.bincount(labels, minlength=4)
    weights = compute_class_weights(counts, scheme="balanced", beta=0.0)[labels, None]

    def compute_loss(flat):
        probabilities = compute_softmax(inputs @ flat.reshape(3, 4))
        gap = weights * (probabilities - np.eye(4)[labels])
        losses = -weights[:, 0] * np.log(probabilities[np.arange(n), labels])
        return losses.mean(), (inputs.T @ gap / n).ravel()

    fitted = minimize(compute_loss, np.zeros(12), jac=True, tol=1e-12)
    return inputs @ fitted.x.reshape(3, 4), labels, counts


def write_cell(root, logits, labels, counts):
    for seed in (0, 1):
        write_run(
            root / f"run{seed}",
            seed,
            logits=logits,
            labels=labels,
            groups=np.arange(len(labels)),
            classes=list(CLASSES),
            task="multi-class",
            split_sizes={"train": dict(zip(CLASSES, counts.tolist(), strict=True))},
            settings={"train.class_weights": "balanced"},
        )
    (cell,) = make_cells(make_runs(read_runs(root)))
    return cell


def test_corrected_probabilities_have_the_prevalence_as_their_mean(tmp_path):
    """A logistic model with a constant fits the weighted shares exactly: 1/4 of each class."""
    logits, labels, counts = fit_weighted_logistic()
    numbers = measure_calibration(write_cell(tmp_path, logits, labels, counts))
    prevalence = counts[CLASSES.index("mel")] / counts.sum()
    assert numbers["class"] == "mel" and numbers["prevalence"] == pytest.approx(prevalence)
    assert numbers["probability"] > 1.5 * prevalence
    assert numbers["probability corrected"] == pytest.approx(prevalence, rel=0.05)
    for name in ("ece", "nll", "brier"):
        assert numbers[f"{name} corrected"] < numbers[name], name
    assert numbers["ece corrected"] < 0.03 < 0.1 < numbers["ece"]


def test_correction_undoes_weighted_probabilities_exactly(tmp_path):
    rng = np.random.default_rng(0)
    counts = np.array([6, 12, 72, 10])
    write_cell(tmp_path, rng.normal(size=(8, 4)), np.arange(8) % 4, counts)
    plan = read_plan(tmp_path / "run0")
    weights = find_class_weights(plan)
    assert weights * counts == pytest.approx(np.full(4, 25.0))
    truth = rng.dirichlet(np.ones(4), size=9)
    names = [f"logit/{name}" for name in CLASSES]
    corrected = correct_logits(pd.DataFrame(np.log(truth * weights), columns=names), plan)
    assert compute_softmax(corrected[names].to_numpy()) == pytest.approx(truth)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"train.class_weights": "none"}},
        {"settings": {}},
        {"task": "multi-label"},
        {"imported": True},
        {"split_sizes": {"train": {"akiec": 5, "mel": 5, "nv": 5, "df": 5}}},
        {"split_sizes": {"train": {"akiec": 0, "mel": 5, "nv": 9, "df": 5}}},
    ],
)
def test_what_has_no_class_weights_is_not_corrected(tmp_path, changes):
    write_cell(tmp_path, np.zeros((8, 4)), np.arange(8) % 4, np.array([6, 12, 72, 10]))
    plan = read_plan(tmp_path / "run0")
    assert find_class_weights(plan) is not None
    assert find_class_weights(replace(plan, **changes)) is None
