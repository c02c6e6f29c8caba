"""Cells to arms: the scores of each cell's runs, under redraws of the test groups where known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.analysis.statistics.arm import Arm, Estimate
from tlcnn.analysis.statistics.cell import Cell, load_cell, make_arm
from tlcnn.analysis.statistics.estimate import estimate_contrast
from tlcnn.analysis.statistics.resample import make_sample
from tlcnn.analysis.statistics.weighted import is_lower_better

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
    scores = runs.drop_duplicates("run_id").set_index("run_id").reindex(columns=list(metrics))
    arms: dict[str, dict[str, Arm]] = {metric: {} for metric in metrics}
    for cell in cells[cells["n_seeds"] > 0].to_dict("records"):
        found = scores.loc[cell["run_ids"]]
        known = [metric for metric in metrics if found[metric].notna().all()]
        for metric, arm in _load_arms_of(cell, known, found).items():
            arms[metric][cell["cell"]] = arm
    return arms


def _load_arms_of(
    cell: Mapping[Any, Any], metrics: Sequence[str], scores: pd.DataFrame
) -> dict[str, Arm]:
    paths = [Path(folder) for fold in cell["folders"] for folder in fold]
    if not all((path / "predictions.parquet").is_file() for path in paths):
        return {metric: _make_bare_arm(cell, metric, scores) for metric in metrics}
    loaded = {}
    for split in {metric.split("/")[0] for metric in metrics}:
        folds = [load_cell(cell["cell"], cell["seeds"], f, split) for f in cell["folders"]]
        loaded[split] = pool_folds(folds)
    return {metric: make_arm(loaded[metric.split("/")[0]], metric) for metric in metrics}


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


def pool_folds(folds: Sequence[Cell]) -> Cell:
    """Return the folds of a cell as one: every image is tested once a seed.

    The folds' networks share training images, which the interval does not know: it is of the
    networks that such a cross-validation makes.

    Args:
        folds: cells of the same seeds and classes on other images each.
    """
    if len(folds) == 1:
        return folds[0]
    groups = np.concatenate([fold.groups for fold in folds])
    labels = np.concatenate([fold.labels for fold in folds])
    images = [f"{fold.sample.name}/{i}" for fold in folds for i in range(len(fold.labels))]
    return replace(
        folds[0],
        labels=labels,
        groups=groups,
        logits=np.concatenate([fold.logits for fold in folds], axis=1),  # (S, N, K)
        folders=tuple(path for fold in folds for path in fold.folders),
        sample=make_sample(groups, labels, np.array(images)),
    )


def _make_bare_arm(cell: Mapping[Any, Any], metric: str, scores: pd.DataFrame) -> Arm:
    by_fold = scores[metric].to_numpy(dtype=float).reshape(len(cell["folders"]), -1)
    return Arm(
        cell["cell"],
        np.array(cell["seeds"], dtype=np.int64),
        by_fold.mean(axis=0),  # (folds, S) -> (S,)
        lower_is_better=is_lower_better(metric),
        note=NO_PREDICTIONS,
    )
