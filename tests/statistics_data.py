"""Hand-made runs and arms for tests of statistics."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.records.folder import RunDir
from tlcnn.statistics.arm import Arm, Sample
from tlcnn.statistics.metrics import make_score
from tlcnn.statistics.predictions import Predictions, compute_softmax
from tlcnn.statistics.resample import iterate_weights, make_arm
from tlcnn.statistics.score import make_mean

CLASSES = ("akiec", "mel", "nv", "df")


def draw_scored(n_groups=40, n_classes=4, seed=0, ties=True, mixed=True):
    """Predictions with ties, groups of one to three rows, some of mixed labels, all classes."""
    rng = np.random.default_rng(seed)
    of_group = np.arange(n_groups) % n_classes
    group = np.repeat(np.arange(n_groups), rng.integers(1, 4, n_groups))
    labels = of_group[group]
    if mixed:
        labels[-1] = (labels[-1] + 1) % n_classes
    logits = rng.normal(size=(len(group), n_classes)) + 1.2 * np.eye(n_classes)[labels]
    probabilities = compute_softmax(np.round(logits, 1 if ties else 9))
    return Predictions(probabilities, labels, group, n_groups)


def make_linear_arm(name, values, strata, seeds=None, sample="5", n_draws=400):
    """An arm whose score is the mean over groups of values (S, G): every formula is exact."""
    values, strata = np.asarray(values, dtype=float), np.asarray(strata)
    n_groups = values.shape[1]
    blank = Predictions(
        np.ones((n_groups, 1)), np.zeros(n_groups, int), np.arange(n_groups), n_groups
    )
    scores = [make_mean(blank, row) for row in values]
    seeds = np.arange(len(values)) if seeds is None else np.asarray(seeds)
    where = Sample(sample, np.arange(n_groups), strata)
    return make_arm(name, seeds, scores, where, n_draws=n_draws)


def make_counted_arm(name, right, strata, metric="balanced_accuracy", n_draws=2000):
    """An arm of runs that get lesions (S, G) of one image right (1) or wrong (0)."""
    right, strata = np.asarray(right), np.asarray(strata)
    n_groups, n_classes = len(strata), int(strata.max()) + 1
    scores = []
    for row in right:
        predicted = np.where(row > 0, strata, (strata + 1) % n_classes)
        run = Predictions(np.eye(n_classes)[predicted], strata, np.arange(n_groups), n_groups)
        scores.append(make_score(metric, run, tuple(map(str, range(n_classes)))))
    where = Sample("5", np.arange(n_groups), strata)
    return make_arm(name, np.arange(len(right)), scores, where, n_draws=n_draws)


def draw_weights(strata, n_draws, seed):
    """All redraws in one array, (B, G)."""
    return np.concatenate(list(iterate_weights(strata, n_draws, seed)))


def list_kinds(number):
    """The kinds of the notes on an estimate, parts or arm."""
    return {note.kind for note in number.notes}


def make_score_arm(name, scores, seeds=None, **more):
    """An arm of which only the scores are known."""
    scores = np.asarray(scores, dtype=float)
    return Arm(
        name, np.arange(len(scores)) if seeds is None else np.asarray(seeds), scores, **more
    )


def write_run(folder: Path, seed, *, logits, labels, groups, split="test", k=0, first=0, **plan):
    """A finished run folder with predictions of one split."""
    folder.mkdir(parents=True)
    frame = pd.DataFrame(
        {
            "split": split,
            "image_id": [f"image{i:04d}" for i in range(first, first + len(labels))],
            "group": [f"lesion{g:04d}" for g in groups],
            "label": labels,
        }
    )
    for position, name in enumerate(CLASSES):
        frame[f"logit/{name}"] = logits[:, position].astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(frame))  # files need not be in order
    frame.iloc[order].to_parquet(folder / "predictions.parquet", index=False)
    record = {"dataset": "d", "model": "m", "source": ["random"], "k": k, "j": 0, "bn": "frozen"}
    record |= {"seed": seed, "run_id": folder.name, "cell_id": f"cell{k}", "settings": {}, **plan}
    (folder / "plan.json").write_text(json.dumps(record))
    metrics = {"test/balanced_accuracy": 0.5, "test/specificity/nv": 0.25 + seed / 100}
    (folder / "summary.json").write_text(json.dumps({"metrics": metrics, "epochs": 1}))
    RunDir(folder).write_done(folder.name)
    return folder
