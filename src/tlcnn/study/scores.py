"""Cells to arms: the scores of each cell's runs, under redraws of the test groups where known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.errors import TlcnnError
from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.metrics import is_lower_better
from tlcnn.study.predictions import load_cell, make_arm

FOLDED = "over folds, corrected for the training images that they share (Nadeau and Bengio 2003)"
UNUSABLE = "predictions that cannot be used"
NO_PREDICTIONS = "no predictions are kept, so the sampling of test images is not in it"


def load_arms(
    cells: pd.DataFrame, metrics: Sequence[str], runs: pd.DataFrame
) -> dict[str, dict[str, Arm]]:
    """Return the arm of every cell, by metric and then by the cell's key.

    A cell whose runs all have predictions.parquet is scored from them. Of others the scores of
    the summaries are taken, whose intervals speak of seeds alone; cells without any are left out.

    Args:
        cells: of `make_cells`.
        metrics: `SPLIT/METRIC`.
        runs: of `read_runs`.
    """
    done = runs[runs["state"] == "done"]
    scores = done.drop_duplicates("folder").set_index("folder").reindex(columns=list(metrics))
    arms: dict[str, dict[str, Arm]] = {metric: {} for metric in metrics}
    for cell in cells[cells["n_seeds"] > 0].to_dict("records"):
        found = scores.loc[[folder for fold in cell["folders"] for folder in fold]]
        known = [metric for metric in metrics if found[metric].notna().all()]
        for metric, arm in _load_arms_of(cell, known, found).items():
            arms[metric][cell["cell"]] = arm
    return arms


def _load_arms_of(
    cell: Mapping[Any, Any], metrics: Sequence[str], scores: pd.DataFrame
) -> dict[str, Arm]:
    if len(cell["folders"]) > 1:
        return {metric: _make_fold_arm(cell, metric, scores) for metric in metrics}
    (folders,) = cell["folders"]
    if not all((Path(folder) / "predictions.parquet").is_file() for folder in folders):
        return {metric: _make_bare_arm(cell, metric, scores) for metric in metrics}
    try:
        splits = {metric.split("/")[0] for metric in metrics}
        loaded = {s: load_cell(cell["cell"], cell["seeds"], folders, s) for s in splits}
        return {metric: make_arm(loaded[metric.split("/")[0]], metric) for metric in metrics}
    except (TlcnnError, OSError, ValueError, KeyError) as error:
        why = f"{UNUSABLE}: {str(error).splitlines()[0]}"
        return {metric: _make_bare_arm(cell, metric, scores, why) for metric in metrics}


def _make_bare_arm(
    cell: Mapping[Any, Any], metric: str, scores: pd.DataFrame, note: str = NO_PREDICTIONS
) -> Arm:
    return Arm(
        cell["cell"],
        np.array(cell["seeds"], dtype=np.int64),
        scores[metric].to_numpy(dtype=float),
        lower_is_better=is_lower_better(metric),
        images=cell["dataset_digest"],
        note=note,
    )


def _make_fold_arm(cell: Mapping[Any, Any], metric: str, scores: pd.DataFrame) -> Arm:
    """Return folds as an arm: in the place of seeds the folds, with means over seeds as scores.

    Folds share training images. Their scores are spread about the mean by the root of
    1 + J n_test / n_train, so that Student's t over them is Nadeau and Bengio's (2003).
    """
    n_folds = len(cell["folders"])
    means = scores[metric].to_numpy(dtype=float).reshape(n_folds, -1).mean(axis=1)  # (J,)
    n_train, n_test = cell["fold_sizes"]
    wider = np.sqrt(1 + n_folds * n_test / n_train)
    return Arm(
        cell["cell"],
        np.arange(n_folds),
        means.mean() + wider * (means - means.mean()),
        lower_is_better=is_lower_better(metric),
        folded=True,
        note=FOLDED,
    )


def estimate_cell(arm: Arm, metric: str) -> Estimate:
    """Return the mean of a cell's runs with its interval."""
    return cut_to_range(estimate_contrast([(1.0, arm)]), metric)


def cut_to_range(found: Estimate, metric: str) -> Estimate:
    """Return an estimate whose interval ends where the metric does.

    Student's t knows no bounds: two seeds near 100 % can give an interval beyond it.
    """
    least, most = find_range(metric)
    low, high = max(found.low, least), min(found.high, most)  # NaN stays NaN: it comes first
    return replace(found, low=low, high=high)


def find_range(metric: str) -> tuple[float, float]:
    """Return the least and the greatest value of a metric.

    Example:
        >>> find_range("test/recall/mel"), find_range("test/nll")
        ((0.0, 1.0), (0.0, inf))
    """
    name = metric.removeprefix("test/").removeprefix("val/").removeprefix("group/")
    least = -1.0 if "kappa" in name else 0.0
    most = {"nll": float("inf"), "n_absent_classes": float("inf"), "mae": float("inf")}
    return least, 2.0 if name == "brier" else most.get(name, 1.0)
