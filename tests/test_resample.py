"""Redraws against closed forms, and run folders against the training's own numbers."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from statistics_data import CLASSES, draw_scored, draw_weights, make_linear_arm, write_run

from tlcnn.records.folder import RunDir
from tlcnn.records.read import read_runs
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.metrics import compute_scores
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.statistics.predictions import compute_group_means
from tlcnn.statistics.resample import center_influence, iterate_weights, make_sample
from tlcnn.statistics.score import Score
from tlcnn.study.arms import load_arms
from tlcnn.study.cells import make_cells
from tlcnn.study.predictions import CellPredictions, load_predictions
from tlcnn.study.runs import make_runs

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
    monkeypatch.setattr("tlcnn.statistics.resample.BLOCK", 16 * 20)
    first, second = (list(iterate_weights(STRATA, 50, 70)) for _ in range(2))
    assert len(first) == 3 and all(a is b for a, b in zip(first, second, strict=True))
    first, second = (list(iterate_weights(STRATA, 150, 71)) for _ in range(2))
    assert len(first) == 8  # too many to keep: drawn again, equally
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


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


def load_arm(folders, metric):
    """The arm of the one cell whose runs these are."""
    (cell,) = make_cells(make_runs(read_runs(*folders)))
    return load_arms(cell, [f"test/{metric}"])[f"test/{metric}"]


def edit_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    RunDir(path.parent).write_done(path.parent.name)


@pytest.mark.parametrize(
    "metric", ["balanced_accuracy", "group/macro_auroc", "recall/mel", "group/nll", "ece"]
)
def test_arms_of_folders_score_as_the_training_did(folders, metric):
    for folder in folders:
        edit_json(folder / "summary.json", metrics={f"test/{metric}": 0.0})  # not what counts
    arm = load_arm(folders, metric)
    for folder, score in zip(folders, arm.scores, strict=True):
        frame = pd.read_parquet(folder / "predictions.parquet")
        logits = frame[[f"logit/{name}" for name in CLASSES]].to_numpy()
        task, truth = "multi-class", frame["label"].to_numpy()
        expected = compute_scores(task, logits, truth, frame["group"], classes=CLASSES)
        assert score == pytest.approx(expected[metric], abs=1e-12)
    assert arm.replicates.shape == (3, 2000) and arm.influence.shape == (3, 40)
    assert arm.lower_is_better == (metric in ("group/nll", "ece"))


def test_arms_of_one_sample_share_their_redraws(folders):
    one, other = (load_arm(folders, "balanced_accuracy") for _ in "ab")
    assert (one.replicates == other.replicates).all() and one.sample.name == other.sample.name


@pytest.mark.parametrize("metric", ["specificity/nv", "recall/no_class_of_ours"])
def test_a_metric_without_weights_comes_from_the_summary(folders, metric):
    for seed, folder in enumerate(folders):
        edit_json(folder / "summary.json", metrics={f"test/{metric}": 0.25 + seed / 100})
    arm = load_arm(folders, metric)
    assert arm.scores.tolist() == [0.25, 0.26, 0.27] and arm.replicates is None
    assert Note(NoteKind.NO_REDRAWS) in estimate_contrast([(1.0, arm)]).notes


def test_an_arm_without_redraws_keeps_its_test_images(folders):
    """So that cells on other images are not paired, and those on the same ones are."""
    arm = load_arm(folders, "specificity/nv")
    other = replace(arm, sample=replace(arm.sample, name="9"))
    apart = estimate_contrast([(1.0, arm), (-1.0, other)])
    assert Note(NoteKind.OTHER_IMAGES) in apart.notes
    same = estimate_contrast([(1.0, arm), (-1.0, replace(arm))])
    assert Note(NoteKind.OTHER_IMAGES) not in same.notes


def test_arms_name_the_manifest_of_their_runs(folders):
    assert load_arm(folders, "balanced_accuracy").images == ""
    edit_json(folders[0] / "plan.json", identity={"dataset": {"manifest": "abc"}})
    for metric in ("balanced_accuracy", "specificity/nv"):
        assert load_arm(folders, metric).images == "abc"


def test_runs_on_different_images_are_scored_from_their_summaries(folders, tmp_path):
    scored = draw_scored(n_groups=39, seed=0)
    odd = write_run(
        tmp_path / "odd", 9, logits=scored.probabilities, labels=scored.labels, groups=scored.group
    )
    (note,) = load_arm([folders[0], odd], "balanced_accuracy").notes
    assert note.kind is NoteKind.UNUSABLE_PREDICTIONS
    assert "different images (e.g. image" in note.text
    frame = pd.read_parquet(folders[1] / "predictions.parquet")
    frame["group"] = "one"
    frame.to_parquet(folders[1] / "predictions.parquet")
    RunDir(folders[1]).write_done(folders[1].name)
    arm = load_arm(folders[:2], "balanced_accuracy")
    assert "different groups or labels" in arm.notes[0].text
    assert arm.scores.tolist() == [0.5, 0.5] and arm.replicates is None


def test_predictions_that_cannot_be_used_say_why(folders):
    runs = make_runs(read_runs(folders[0]))
    assert isinstance(load_predictions(runs), CellPredictions)
    assert "no predictions of split val" in load_predictions(runs, split="val").text
    path = folders[0] / "predictions.parquet"
    frame = pd.read_parquet(path)
    (folders[0] / "DONE").unlink()  # its sha256 would refuse the files below
    frame.assign(label=4).to_parquet(path)
    assert "labels beyond its 4 classes" in load_predictions(runs).text
    frame.assign(**{"logit/nv": np.nan}).to_parquet(path)
    assert "not finite" in load_predictions(runs).text
    frame.drop(columns="label").to_parquet(path)
    assert load_predictions(runs).kind is NoteKind.UNUSABLE_PREDICTIONS
    path.write_bytes(b"PAR1")
    assert "cut or damaged" in load_predictions(runs).text
    path.unlink()
    assert load_predictions(runs) == Note(NoteKind.NO_PREDICTIONS)
