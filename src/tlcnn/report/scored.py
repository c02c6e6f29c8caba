"""The runs of a row as numbers: read, scored, and estimated with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tlcnn.errors import DataError
from tlcnn.report.rows import Row
from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.estimate import estimate_contrast, make_unknown
from tlcnn.statistics.folds import estimate_folds
from tlcnn.statistics.metrics import is_lower_better
from tlcnn.study.cells import read_plan
from tlcnn.study.predictions import load_cell, make_arm
from tlcnn.study.scores import cut_to_range


@dataclass(frozen=True)
class Scored:
    """A row with what it scored.

    Attributes:
        arms: per metric, one arm a cell (of a row over folds, a fold).
        estimates: per metric.
    """

    row: Row
    arms: dict[str, tuple[Arm, ...]]
    estimates: dict[str, Estimate]


def score_row(row: Row, metrics: Sequence[str], *, read: bool, read_single: bool) -> Scored:
    """Score the runs of a row.

    Args:
        read: from their predictions, so that test images are in the interval.
        read_single: also of a single run, which has no interval but can be compared.
    """
    of_cells = [
        _make_arms(runs, metrics, read=read and (len(runs) > 1 or read_single))
        for runs in row.cells
    ]
    arms = {metric: tuple(cell[metric] for cell in of_cells) for metric in metrics}
    estimates = {m: cut_to_range(_estimate(row, found), m) for m, found in arms.items()}
    return Scored(row, arms, estimates)


def _make_arms(runs: pd.DataFrame, metrics: Sequence[str], *, read: bool) -> dict[str, Arm]:
    """Return the arm of a cell for every metric; its predictions are read once a split."""
    name = str(runs["cell_id"].iloc[0])
    arms = {metric: _make_plain_arm(name, runs, metric) for metric in metrics}
    if not read or not runs["seed"].is_unique or runs["seed"].isna().any():
        return arms
    for split in dict.fromkeys(metric.split("/")[0] for metric in metrics):
        try:
            seeds = [int(seed) for seed in runs["seed"]]
            cell = load_cell(name, seeds, list(runs["folder"]), split)
            mine = [metric for metric in metrics if metric.startswith(f"{split}/")]
            arms |= {metric: make_arm(cell, metric) for metric in mine}
        except (DataError, OSError, ValueError, KeyError):
            continue  # the plain arm says that test images are not in its interval
    return arms


def _make_plain_arm(name: str, runs: pd.DataFrame, metric: str) -> Arm:
    """Return the scores that the runs' summaries have, those that lack it left out."""
    values = pd.to_numeric(runs[metric]) if metric in runs else pd.Series(np.nan, runs.index)
    there = values.notna()
    seeds = runs["seed"].where(runs["seed"].notna(), -1).astype(int).to_numpy()[there]
    notes = [] if there.all() or not there.any() else [f"{(~there).sum()} runs have no {metric}"]
    if len(set(seeds)) < len(seeds):
        notes.append(f"{len(seeds) - len(set(seeds))} runs have the seed of another: not paired")
        seeds = -2 - np.arange(len(seeds))  # so that nothing is paired with them
    lower = is_lower_better(metric)
    scores = values[there].to_numpy(np.float64)
    return Arm(name, seeds, scores, lower_is_better=lower, note="; ".join(notes))


def _estimate(row: Row, arms: Sequence[Arm]) -> Estimate:
    """Return the mean over all runs of a row, with its interval."""
    n_runs = sum(len(arm.scores) for arm in arms)
    if not n_runs or any(not len(arm.scores) for arm in arms):
        known = [arm for arm in arms if len(arm.scores)]
        return _estimate(row, known) if known else make_unknown(float("nan"), 0, "")
    if row.is_folded and len(arms) > 1:
        means = np.array([arm.mean for arm in arms])
        return estimate_folds(means, **count_fold(row))
    return estimate_contrast([(len(arm.scores) / n_runs, arm) for arm in _set_apart(arms)])


def _set_apart(arms: Sequence[Arm]) -> Sequence[Arm]:
    """Return arms of different seeds as unpaired, so that none of their runs is left out."""
    if all(set(arm.seeds) == set(arms[0].seeds) for arm in arms):
        return arms
    starts = np.cumsum([0, *(len(arm.seeds) for arm in arms)])
    return [
        replace(arm, seeds=start + np.arange(len(arm.seeds)))
        for start, arm in zip(starts, arms, strict=False)
    ]


def count_fold(row: Row) -> dict[str, float]:
    """Return the training and test images of a fold, on average."""
    sizes = [read_plan(runs["folder"].iloc[0]).get("split_sizes", {}) for runs in row.cells]
    counts = {
        f"n_{split}": float(np.mean([sum(size.get(split, {}).values()) for size in sizes]))
        for split in ("train", "test")
    }
    n_folds = len(row.cells)
    if min(counts.values()) < 1:  # as of equal folds without validation images
        return {"n_train": float(max(1, n_folds - 1)), "n_test": 1.0}
    return counts
