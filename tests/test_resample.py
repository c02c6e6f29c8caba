"""Redraws against closed forms, and run folders against the training's own numbers."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from statistics_data import CLASSES, draw_scored, make_linear_arm, write_run

from tlcnn.errors import DataError
from tlcnn.statistics import resample
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.metrics import compute_scores
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.statistics.predictions import compute_group_means
from tlcnn.statistics.resample import (
    center_influence,
    draw_weights,
    iterate_weights,
    make_sample,
)
from tlcnn.statistics.score import Score
from tlcnn.study.predictions import load_arm, load_cell, make_arm, parse_metric

STRATA = np.repeat([0, 1, 2], [3, 12, 1])


def test_redraws_keep_the_size_of_each_stratum():
    weights = draw_weights(STRATA, 500, 0)
    for stratum, n in ((0, 3), (1, 12), (2, 1)):
        assert weights[:, stratum == STRATA].sum(axis=1) == pytest.approx(n)
    assert (weights[:, -1] == 1).all()
    assert set(np.unique(weights[:, :3])) == {0.0, 1.5, 3.0}


def test_variance_of_a_mean_is_unbiased_in_small_strata():
    """s^2 / n, where n draws of n would give (n - 1) / n of it: a third less at n = 3."""
    values = np.array([0.0, 1.0, 5.0])
    means = draw_weights(np.zeros(3, int), 200_000, 0) @ values / 3
    assert means.var() == pytest.approx(values.var(ddof=1) / 3, rel=0.02)
    assert means.mean() == pytest.approx(2.0, abs=0.02)


def test_variance_of_a_proportion_is_the_closed_form():
    hits = np.repeat([1.0, 0.0], [30, 20])
    arm = make_linear_arm("a", [hits], np.zeros(50, int), n_draws=20_000)
    assert arm.replicates.var() == pytest.approx(0.6 * 0.4 / 49, rel=0.05)
    assert (arm.influence**2).sum() * 50 / 49 == pytest.approx(0.6 * 0.4 / 49)


def test_the_jackknife_of_a_mean_is_its_derivative():
    values = np.array([0.0, 1.0, 5.0, 7.0])
    without = np.array([np.delete(values, i).mean() for i in range(4)])
    score = Score(lambda weights: weights, values.mean() - without, jackknifed=True)
    found = center_influence(score, np.zeros(4, int))
    assert found == pytest.approx((values - values.mean()) / 4)


def test_redraws_are_the_same_every_time_and_in_blocks(monkeypatch):
    whole = draw_weights(STRATA, 50, 7)
    assert (whole == draw_weights(STRATA, 50, 7)).all()
    assert (whole != draw_weights(STRATA, 50, 8)).any()
    monkeypatch.setattr("tlcnn.statistics.resample.BLOCK", 16 * 20)
    blocks = list(iterate_weights(STRATA, 50, 7))
    assert [len(block) for block in blocks] == [20, 20, 10]
    assert (blocks[0] != blocks[1]).any()


def test_all_blocks_of_a_sample_are_drawn_once_for_all_its_runs(monkeypatch):
    drawn, draw = [], resample._draw_block
    monkeypatch.setattr(resample, "BLOCK", 16 * 20)
    monkeypatch.setattr(resample, "_draw_block", lambda *a: drawn.append(a) or draw(*a))
    first, second = (list(iterate_weights(STRATA, 50, 70)) for _ in range(2))
    assert len(drawn) == len(first) == 3
    assert all(a is b for a, b in zip(first, second, strict=True))
    monkeypatch.setattr(resample, "KEPT", 16 * 50 - 1)  # too many to keep: drawn one by one
    third = list(iterate_weights(STRATA, 50, 70))
    assert len(drawn) == 6 and all((a == b).all() for a, b in zip(first, third, strict=True))


def test_strata_are_majority_labels_as_in_the_training():
    scored = draw_scored(seed=3)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, len(scored.labels))  # mixed throughout
    ids = np.arange(len(labels))
    sample = make_sample(scored.group.astype(str), labels, ids)
    _, expected = compute_group_means(scored.probabilities, labels, scored.group.astype(str))
    assert (sample.strata == expected).all()
    order = rng.permutation(len(labels))
    again = make_sample(scored.group.astype(str)[order], labels[order], ids[order])
    assert again.name == sample.name
    labels[0] = (labels[0] + 1) % 4
    assert make_sample(scored.group.astype(str), labels, ids).name != sample.name


# ---- run folders --------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    scored = draw_scored(n_groups=40, seed=0)
    rng = np.random.default_rng(1)
    runs = []
    for seed in range(3):
        logits = np.log(scored.probabilities) + 0.3 * rng.normal(size=scored.probabilities.shape)
        runs.append(
            write_run(
                tmp_path / f"run{seed}",
                seed,
                logits=logits.astype(np.float32),
                labels=scored.labels,
                groups=scored.group,
            )
        )
    return runs


@pytest.mark.parametrize(
    "metric", ["balanced_accuracy", "group/macro_auroc", "recall/mel", "group/nll", "ece"]
)
def test_arms_of_folders_score_as_the_training_did(folders, metric):
    arm = load_arm("cell", [0, 1, 2], folders, f"test/{metric}", n_draws=50)
    for folder, score in zip(folders, arm.scores, strict=True):
        frame = pd.read_parquet(folder / "predictions.parquet")
        logits = frame[[f"logit/{name}" for name in CLASSES]].to_numpy()
        task, truth = "multi-class", frame["label"].to_numpy()
        expected = compute_scores(task, logits, truth, frame["group"], classes=CLASSES)
        assert score == pytest.approx(expected[metric], abs=1e-12)
    assert arm.replicates.shape == (3, 50) and arm.influence.shape == (3, 40)
    assert arm.lower_is_better == (metric in ("group/nll", "ece"))


def test_arms_of_one_sample_share_their_redraws(folders):
    cell = load_cell("c", [0, 1, 2], folders)
    twin = load_cell("d", [0, 1, 2], folders)
    one, other = (make_arm(c, "test/accuracy", n_draws=30) for c in (cell, twin))
    assert (one.replicates == other.replicates).all() and one.sample.name == other.sample.name


def test_a_metric_without_weights_comes_from_the_summary(folders):
    arm = load_arm("cell", [0, 1, 2], folders, "test/specificity/nv")
    assert arm.scores.tolist() == [0.25, 0.26, 0.27] and arm.replicates is None
    assert Note(NoteKind.NO_REDRAWS) in estimate_contrast([(1.0, arm)]).notes


def test_an_arm_without_redraws_keeps_its_test_images(folders):
    """So that cells on other images are not paired, and those on the same ones are."""
    cell = load_cell("c", [0, 1, 2], folders)
    arm = make_arm(cell, "test/specificity/nv")
    other = make_arm(replace(cell, sample=replace(cell.sample, name="9")), "test/specificity/nv")
    apart = estimate_contrast([(1.0, arm), (-1.0, other)])
    assert Note(NoteKind.OTHER_IMAGES) in apart.notes
    same = estimate_contrast([(1.0, arm), (-1.0, replace(arm))])
    assert same.se == 0 and Note(NoteKind.OTHER_IMAGES) not in same.notes


def test_arms_name_the_manifest_of_their_runs(folders):
    assert load_cell("c", [0, 1, 2], folders).images == ""
    path = folders[0] / "plan.json"
    plan = json.loads(path.read_text())
    path.write_text(json.dumps({**plan, "identity": {"dataset": {"manifest": "abc"}}}))
    for metric in ("test/accuracy", "test/specificity/nv"):
        assert load_arm("c", [0, 1, 2], folders, metric, n_draws=5).images == "abc"
    path.write_text(json.dumps({**plan, "identity": {}}))
    assert load_cell("c", [0, 1, 2], folders).images == ""


def test_runs_on_different_images_are_no_cell(folders, tmp_path):
    scored = draw_scored(n_groups=39, seed=0)
    odd = write_run(
        tmp_path / "odd", 9, logits=scored.probabilities, labels=scored.labels, groups=scored.group
    )
    with pytest.raises(DataError, match="different images.*image"):
        load_cell("c", [0, 9], [folders[0], odd])
    frame = pd.read_parquet(folders[1] / "predictions.parquet")
    frame["group"] = "one"
    frame.to_parquet(folders[1] / "predictions.parquet")
    with pytest.raises(DataError, match="different groups or labels"):
        load_cell("c", [0, 1], folders[:2])


def test_bad_input_says_what_to_do(folders, tmp_path):
    with pytest.raises(DataError, match="each seed once"):
        load_cell("c", [0, 0], folders[:2])
    with pytest.raises(DataError, match="at least one run"):
        load_cell("c", [], [])
    with pytest.raises(DataError, match="no predictions.parquet"):
        load_cell("c", [0], [tmp_path])
    with pytest.raises(DataError, match="no predictions of split val"):
        load_arm("c", [0], folders[:1], "val/accuracy")
    with pytest.raises(DataError, match="val/ or test/"):
        parse_metric("balanced_accuracy")
    with pytest.raises(DataError, match="no metric test/nonsense; measured.*test/balanced"):
        load_arm("c", [0], folders[:1], "test/nonsense")
