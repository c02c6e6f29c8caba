"""Probabilities after a training did something about rare classes, and without it."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from statistics_data import CLASSES, write_run

from tlcnn.records.plan_record import PlanRecord, read_plan
from tlcnn.records.read import read_runs
from tlcnn.statistics.predictions import compute_softmax
from tlcnn.study.calibration import measure_calibration
from tlcnn.study.cells import make_cells
from tlcnn.study.class_weights import correct_logits, find_class_weights
from tlcnn.study.runs import make_runs
from tlcnn.training.class_weights import compute_class_weights
from tlcnn.training.recipe import Recipe
from tlcnn.training.tasks import build_objective

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
    ("settings", "power"),
    [
        ({"train.class_weights": "none", "train.logit_adjustment": 1.0}, -1),
        ({"train.class_weights": "none", "train.logit_adjustment": 0.5}, -0.5),
        ({"train.class_weights": "balanced", "train.logit_adjustment": 0.5}, -1.5),
        ({"train.class_weights": "none", "train.sampling": "balanced"}, -1),
        ({"train.sampling": "balanced", "train.logit_adjustment": 1.0}, -1),
        ({"train.class_weights": "balanced", "train.loss": "focal", "train.focal_gamma": 0.0}, -1),
    ],
)
def test_what_was_done_about_rare_classes_is_undone(tmp_path, settings, power):
    """Probabilities are multiplied by a power of the shares of the classes."""
    counts = np.array([6, 12, 72, 10])
    write_cell(tmp_path, np.zeros((8, 4)), np.arange(8) % 4, counts)
    weights = find_class_weights(replace(read_plan(tmp_path / "run0"), settings=settings))
    assert weights / weights[0] == pytest.approx((counts / counts[0]) ** power)


def test_an_adjusted_loss_is_smallest_where_the_correction_says():
    """For one image whose class is random, over all logits."""
    shares, counts = np.array(SHARES), np.array([60, 120, 720, 100])
    recipe = Recipe(class_weights="effective", effective_beta=0.99, logit_adjustment=0.7)
    labels = torch.from_numpy(np.repeat(np.arange(4), counts))
    objective = build_objective("multi-class", labels, 4, recipe)
    logits = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-9)

    def compute():
        optimizer.zero_grad()
        loss = objective.compute_loss(logits.expand(1000, 4), labels)
        loss.backward()
        return loss

    optimizer.step(compute)
    settings = {f"train.{key}": value for key, value in asdict(recipe).items()}
    plan = PlanRecord(*("", "", "", "", ()), 0, 0, "", 0, classes=CLASSES, settings=settings)
    plan = replace(plan, split_sizes={"train": dict(zip(CLASSES, counts.tolist(), strict=True))})
    names = [f"logit/{name}" for name in CLASSES]
    frame = pd.DataFrame([logits.detach().numpy()], columns=names)
    corrected = compute_softmax(correct_logits(frame, plan)[names].to_numpy())
    assert corrected[0] == pytest.approx(shares, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"train.class_weights": "none"}},
        {"settings": {}},
        {
            "settings": {
                "train.class_weights": "balanced",
                "train.loss": "focal",
                "train.focal_gamma": 2.0,
            }
        },
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
