"""The loss and scores of each kind of task, and whole runs of the two unusual ones."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from medmnist_files import write_file
from runs import stop_at_every_step
from safetensors.torch import load_file, save_file
from sklearn.metrics import cohen_kappa_score
from torch.nn import functional as F

from tlcnn.config.compose import compose_config
from tlcnn.data.index import TASKS
from tlcnn.errors import ConfigError, Stopped
from tlcnn.model.build import build_model
from tlcnn.plan.plan import make_plan
from tlcnn.records.read import read_predictions, read_run
from tlcnn.run.run import run
from tlcnn.statistics.metrics import compute_metrics, compute_scores
from tlcnn.training.class_weights import compute_class_weights
from tlcnn.training.recipe import Recipe
from tlcnn.training.tasks import (
    build_objective,
    compute_sigmoid_loss,
    compute_softmax_loss,
    compute_target_weights,
)


@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_task_has_a_loss(task):
    truth = torch.eye(3).long() if task == "multi-label" else torch.arange(3)
    loss = build_objective(task, truth, 3, Recipe()).compute_loss(torch.zeros(3, 3), truth)
    assert loss.ndim == 0 and torch.isfinite(loss)


def test_an_unknown_kind_of_task_is_refused():
    with pytest.raises(ConfigError, match="task=multilabel is not one of binary, multi-class"):
        build_objective("multilabel", torch.zeros(2).long(), 2, Recipe())


# ---- weights and loss ---------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["none", "balanced", "effective"])
def test_class_weights_leave_the_mean_loss_scale_alone(scheme):
    counts = np.array([1000, 10, 0, 100])
    weights = compute_class_weights(counts, scheme=scheme, beta=0.999)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    assert weights[2] == 0


def test_balanced_weights_give_every_class_the_same_say():
    counts = np.array([1000, 10, 100])
    assert np.ptp(compute_class_weights(counts, scheme="balanced", beta=0) * counts) < 1e-9


def test_effective_weights_follow_the_paper():
    counts, beta = np.array([1000, 10]), 0.99
    weights = compute_class_weights(counts, scheme="effective", beta=beta)
    assert weights[1] / weights[0] == pytest.approx((1 - beta**1000) / (1 - beta**10))


def draw(n=64, k=5, seed=0):
    draws = torch.Generator().manual_seed(seed)
    targets = (torch.rand(n, k, generator=draws) < torch.linspace(0.1, 0.6, k)).long()
    return torch.randn(n, k, generator=draws), targets


def test_balanced_weights_give_yes_and_no_the_same_weight():
    targets = draw(200)[1].numpy()
    no, yes = compute_target_weights(targets, scheme="balanced", beta=0.0)
    n_yes = targets.sum(axis=0)
    assert yes * n_yes == pytest.approx(no * (200 - n_yes))
    assert yes * n_yes + no * (200 - n_yes) == pytest.approx(np.full(5, 200))
    assert yes / no == pytest.approx((200 - n_yes) / n_yes)  # the usual positive weight


def test_other_schemes_and_findings_that_nobody_has():
    targets = draw(200)[1].numpy()
    assert (compute_target_weights(targets, scheme="none", beta=0.0) == 1).all()
    mild = compute_target_weights(targets, scheme="effective", beta=0.99)
    full = compute_target_weights(targets, scheme="balanced", beta=0.0)
    assert 1.0 < mild[1, 0] / mild[0, 0] < full[1, 0] / full[0, 0]
    targets[:, 2] = 0
    lost = compute_target_weights(targets, scheme="balanced", beta=0.0)
    assert lost[:, 2].tolist() == [1.0, 0.0]


def test_without_weights_it_is_binary_cross_entropy():
    logits, targets = draw()
    plain = F.binary_cross_entropy_with_logits(logits, targets.float())
    torch.testing.assert_close(compute_sigmoid_loss(logits, targets, torch.ones(2, 5), 0.0), plain)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_finding_has_the_loss_of_two_classes(smoothing):
    logits, targets = draw(k=1)
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    weights = torch.ones(2, 1)
    torch.testing.assert_close(
        compute_sigmoid_loss(logits, targets, weights, smoothing),
        compute_softmax_loss(two, targets[:, 0], weights[:, 0], smoothing),
    )


def test_one_finding_has_the_weighted_loss_of_two_classes():
    logits, targets = draw(k=1)
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    weights = torch.tensor([[0.5], [3.0]])
    torch.testing.assert_close(
        compute_sigmoid_loss(logits, targets, weights, 0.0),
        compute_softmax_loss(two, targets[:, 0], weights[:, 0], 0.0),
    )


def test_smoothing_pulls_the_best_logit_back_from_infinity():
    targets = torch.tensor([[1, 0]])
    best = torch.log(torch.tensor(0.9 / 0.1))
    at = torch.stack([best, -best])[None].requires_grad_()
    compute_sigmoid_loss(at, targets, torch.ones(2, 2), 0.2).backward()
    assert at.grad.abs().max() < 1e-6


def make_objective(task, truth, **recipe):
    recipe = Recipe(class_weights="balanced", label_smoothing=0.1, **recipe)
    return build_objective(task, truth, 5, recipe)


@pytest.mark.parametrize("task", ["multi-class", "multi-label"])
def test_a_focal_loss_with_a_gamma_of_almost_0_is_the_plain_loss(task):
    logits, targets = draw()
    truth = targets if task == "multi-label" else torch.arange(64) % 5
    plain = make_objective(task, truth).compute_loss(logits, truth)
    for gamma in (0.0, 1e-9):
        focal = make_objective(task, truth, loss="focal", focal_gamma=gamma)
        torch.testing.assert_close(focal.compute_loss(logits, truth), plain, rtol=1e-6, atol=0)


def test_a_focal_loss_follows_the_paper():
    logits, targets = draw()
    labels, recipe = torch.arange(64) % 5, Recipe(loss="focal", class_weights="none")
    odds = logits.sigmoid()
    for task, truth, p in (
        ("multi-class", labels, logits.softmax(1)[torch.arange(64), labels]),
        ("multi-label", targets, torch.where(targets > 0, odds, 1 - odds)),
    ):
        loss = build_objective(task, truth, 5, recipe).compute_loss(logits, truth)
        torch.testing.assert_close(loss, (-((1 - p) ** 2) * p.log()).mean())


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_a_focal_loss_of_certain_images_has_a_gradient(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    recipe = Recipe(loss="focal", focal_gamma=gamma)
    for task, truth in (("binary", torch.tensor([0, 0])), ("multi-label", torch.eye(2).long())):
        build_objective(task, truth, 2, recipe).compute_loss(logits, truth).backward()
        assert torch.isfinite(logits.grad).all()


def test_logit_adjustment_is_that_of_the_paper_and_0_is_none():
    logits, labels = draw()[0], torch.tensor([0] * 40 + [1] * 20 + [3] * 4)
    shares = torch.tensor([40, 20, 64, 4, 64]) / 64  # classes that nobody has are not adjusted
    for tau in (0.0, 1e-9, 1.5):
        recipe = Recipe(class_weights="none", logit_adjustment=tau)
        loss = build_objective("multi-class", labels, 5, recipe).compute_loss(logits, labels)
        expected = F.cross_entropy(logits + tau * shares.log(), labels)
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scheme", ["none", "balanced", "effective"])
def test_classes_that_are_shown_equally_often_have_equal_weights(scheme):
    labels = torch.tensor([0] * 40 + [1] * 20 + [3] * 4)
    recipe = Recipe(class_weights=scheme, sampling="balanced", logit_adjustment=1.0)
    objective = build_objective("multi-class", labels, 5, recipe)
    assert objective.weights[[0, 1, 3]].tolist() == [1, 1, 1] and objective.offsets is None


@pytest.mark.parametrize("task", ["multi-class", "multi-label"])
def test_the_mean_losses_of_parts_add_up_by_their_weights(task):
    logits, targets = draw()
    truth = targets if task == "multi-label" else targets.argmax(1)
    objective = make_objective(task, truth)
    parts = [slice(0, 10), slice(10, 64)]
    weights = [objective.compute_weight(truth[part]) for part in parts]
    losses = [objective.compute_loss(logits[part], truth[part]) for part in parts]
    mean = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    torch.testing.assert_close(mean, objective.compute_loss(logits, truth), rtol=1e-6, atol=0)


# ---- ordinal scores -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_ordinal_scores(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, 200)
    logits = rng.normal(size=(200, 5)) + 2 * np.eye(5)[labels]
    levels = logits.argmax(axis=1)
    scores = compute_scores("ordinal", logits, labels, labels.astype(str), classes="01234")
    kappa = cohen_kappa_score(labels, levels, weights="quadratic")
    assert scores["quadratic_kappa"] == pytest.approx(kappa, abs=1e-12)
    assert scores["mae"] == pytest.approx(np.abs(labels - levels).mean())
    assert {"group/mae", "group/quadratic_kappa"} < set(scores)
    assert "mae" not in compute_scores("multi-class", logits, labels, labels, classes="01234")


def test_kappa_of_one_level_does_not_exist():
    scores = compute_metrics("ordinal", np.eye(3)[[1, 1]], np.array([1, 1]), classes="012")
    assert np.isnan(scores["quadratic_kappa"])


# ---- whole runs ---------------------------------------------------------------------------------

SMALL = ["model.name=test_resnet", "train=quick", "train.batch_size=16", "train.augment=none"]
SMALL += ["train.precision=fp32", "threads=1", "workers=1", "device=cpu"]


def plan_of(folder, cache_dir, flag, *overrides):
    places = [f"dataset.root={folder / 'data'}", f"output_dir={folder / 'out'}"]
    words = [f"dataset={flag}", *places, f"cache_dir={cache_dir}", *SMALL, *overrides]
    return make_plan(compose_config(words))


@pytest.fixture(scope="module")
def many(tmp_path_factory, cache_dir):
    """A finished multi-label run."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("many")
    counts = {"train": 400, "val": 100, "test": 100}
    write_file(folder / "data", "chestmnist", counts=counts)
    plan = plan_of(folder, cache_dir, "chestmnist", "train.epochs=8", "train.lr=0.01")
    run(plan)
    return plan


def test_a_multi_label_run_learns(many):
    row = read_run(many.run_dir)
    assert row["state"] == "done"
    assert row["test/macro_auroc"] > 0.9 and row["test/balanced_accuracy"] > 0.75
    scores = json.loads((many.run_dir / "summary.json").read_text())["metrics"]
    finite = [name for name, value in scores.items() if value is not None and np.isfinite(value)]
    assert set(finite) == set(scores)
    assert row["val/balanced_accuracy"] == max(
        json.loads(line)["val/balanced_accuracy"]
        for line in (many.run_dir / "metrics.jsonl").read_text().splitlines()
    )


def test_its_predictions_hold_the_findings(many):
    frame = read_predictions(many.run_dir).query("split == 'test'")
    logits = frame[[f"logit/{name}" for name in many.dataset.index.classes]].to_numpy()
    targets = frame[[f"target/{name}" for name in many.dataset.index.classes]].to_numpy()
    expected = many.dataset.index.targets[many.dataset.splits == "test"]
    assert np.array_equal(targets, expected)
    right = ((logits >= 0) == targets).mean()
    assert read_run(many.run_dir)["test/accuracy"] == pytest.approx(right, abs=1e-12)
    record = json.loads((many.run_dir / "plan.json").read_text())
    assert record["task"] == "multi-label" and record["positive"] is None


def bits(folder):
    weights = {name: t.numpy() for name, t in load_file(folder / "weights.safetensors").items()}
    metrics = json.loads((folder / "summary.json").read_text())["metrics"]
    return weights, read_predictions(folder), metrics


def test_a_multi_label_run_resumes_to_the_same_bits(tmp_path, cache_dir, monkeypatch):
    write_file(tmp_path / "data", "chestmnist", counts={"train": 50, "val": 40, "test": 40})
    words = ["train.epochs=2", "train.label_smoothing=0.1", "train.ema_decay=0.9"]
    words += ["train.class_weights=effective"]
    whole = plan_of(tmp_path, cache_dir, "chestmnist", *words)
    run(whole)
    stopped = plan_of(tmp_path, cache_dir, "chestmnist", *words, f"output_dir={tmp_path / 'b'}")
    assert stopped.run_id == whole.run_id
    stops = 0
    stop_at_every_step(monkeypatch)
    while True:
        try:
            run(stopped)
            break
        except Stopped:
            stops += 1
    assert stops == 2 * stopped.steps_per_epoch  # the last of an epoch stops its evaluation
    first, second = bits(whole.run_dir), bits(stopped.run_dir)
    assert all(np.array_equal(first[0][name], second[0][name]) for name in first[0])
    pd.testing.assert_frame_equal(first[1], second[1], check_exact=True)
    assert first[2] == second[2]


def test_frozen_units_of_a_multi_label_run_do_not_move(tmp_path, cache_dir):
    write_file(tmp_path / "data", "chestmnist")
    weights = tmp_path / "source.safetensors"
    source = build_model("test_resnet", n_classes=5, seed=7).state_dict()
    save_file(source, weights)
    words = ["init=checkpoint", f"init.weights={weights}", "freeze=layer2", "train.epochs=2"]
    plan = plan_of(tmp_path, cache_dir, "chestmnist", *words)
    run(plan)
    after = load_file(plan.run_dir / "weights.safetensors")
    frozen = [name for unit in plan.unit_map.units[: plan.treatment.j] for name in unit.tensors]
    assert frozen and all(torch.equal(after[name], source[name]) for name in frozen)
    moved = [name for name in after if name not in frozen and name in source]
    assert any(not torch.equal(after[n], source[n]) for n in moved if "fc" not in n)


@pytest.mark.parametrize(
    ("flag", "keys"),
    [
        ("retinamnist", {"test/quadratic_kappa", "test/mae", "test/group/mae"}),
        ("breastmnist", {"test/sensitivity_at_90_specificity/malignant"}),
        ("pneumoniamnist", {"test/sensitivity_at_90_specificity/pneumonia"}),
    ],
)
def test_runs_of_other_tasks_tell_their_scores(flag, keys, tmp_path, cache_dir):
    write_file(tmp_path / "data", flag)
    plan = plan_of(tmp_path, cache_dir, flag, "train.epochs=1")
    scores = run(plan)["metrics"]
    assert keys < set(scores)
    assert not {name for name in scores if name.endswith(("/normal", "/normal, benign"))} & {
        f"test/sensitivity_at_90_specificity/{name}" for name in plan.dataset.index.classes
    }


@pytest.mark.realdata
def test_the_real_breast_images_train(shared, tmp_path, cache_dir):
    words = [f"dataset.root={shared / 'data' / 'medmnist'}", "train.epochs=1"]
    plan = plan_of(tmp_path, cache_dir, "breastmnist", *words)
    scores = run(plan)["metrics"]
    assert 0.3 < scores["test/macro_auroc"] <= 1
    assert np.isfinite(scores["test/sensitivity_at_90_specificity/malignant"])
