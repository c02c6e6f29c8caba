"""Cells tuned on validation: recipes that differ in a tuned setting alone become one cell.

Each cell takes its best recipe. Each half of the seeds has the recipe that the other half chooses
(see `tlcnn.statistics.choice`), so that no network takes part in its own choice. With folds and a
single seed, halves of the folds choose for each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from tlcnn.errors import ConfigError
from tlcnn.records.settings import check_columns
from tlcnn.statistics.arm import Arm
from tlcnn.statistics.choice import Choice, choose_arm
from tlcnn.storage import digest_of
from tlcnn.study.arms import load_arms
from tlcnn.study.cells import Cell, Settings, Tuning
from tlcnn.study.runs import Run


def check_tuned(runs: pd.DataFrame, keys: Sequence[str]) -> None:
    """Raise ConfigError for a setting that no run has, or that is not one of training."""
    for key in keys:
        check_columns(runs, [key], "--tuned")
        if not key.startswith("train."):
            raise ConfigError(f"--tuned {key}: it must be a setting of training such as train.lr")


def tune_cells(cells: Sequence[Cell], keys: Sequence[str], val_metric: str) -> list[Cell]:
    """Return the cells; those that differ in tuned settings alone become one.

    Candidates are the cells with all seeds and folds of the one that has most. Cells without
    validation scores stay as they are, and so do cells of equal tuned settings.

    Args:
        keys: the tuned settings, such as `train.lr`.
        val_metric: the metric that chooses.
    """
    if not keys:
        return [*cells]
    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        names = (cell.dataset, cell.model, cell.init, cell.k, cell.j, cell.bn, cell.treatment)
        groups.setdefault((names, cell.source, _drop(cell.recipe, keys)), []).append(cell)
    return [cell for group in groups.values() for cell in _tune(group, keys, val_metric)]


def _drop(recipe: Settings, keys: Sequence[str]) -> Settings:
    return tuple(setting for setting in recipe if setting[0] not in keys)


def _tune(group: Sequence[Cell], keys: Sequence[str], val_metric: str) -> Sequence[Cell]:
    tried = {c.key: tuple((key, c.settings.get(key)) for key in keys) for c in group}
    arms = {c.key: load_arms(c, [val_metric], redraws=False).get(val_metric) for c in group}
    val = {key: arm for key, arm in arms.items() if arm is not None}
    if not val or len({*tried.values()}) < len(group):
        return group
    most = max((cell for cell in group if cell.key in val), key=lambda cell: len(cell.runs))
    shape = (most.seeds, most.places)
    candidates = {c.key: c for c in group if c.key in val and (c.seeds, c.places) == shape}
    choice = choose_arm({key: _split_lone_seed(val[key]) for key in candidates})
    shared = {
        name: value
        for name, value in most.settings.items()
        if name not in keys and all(c.settings.get(name) == value for c in group)
    }
    is_alone = len(group) == 1
    return [
        replace(
            most,
            key=most.key if is_alone else digest_of(sorted(tried), 8),
            cell_id=most.cell_id if is_alone else f"tuned:{digest_of(sorted(tried), 12)}",
            recipe=_drop(most.recipe, keys),
            settings=shared,
            folds=_cross_runs(candidates, choice),
            omissions=tuple(omission for cell in group for omission in cell.omissions),
            tuning=Tuning(tuple(keys), tried, candidates, choice),
        )
    ]


def _split_lone_seed(arm: Arm) -> Arm:
    """Return the arm by fold if it has a single seed, which no other seed can choose for."""
    if arm.fold_scores is None or len(arm.seeds) > 1:
        return arm
    scores = arm.fold_scores[0]
    return replace(arm, seeds=np.arange(len(scores)), scores=scores, fold_scores=None)


def _cross_runs(candidates: Mapping[str, Cell], choice: Choice) -> tuple[tuple[Run, ...], ...]:
    """Return the runs of each fold: those of the candidate chosen for their seed, or fold."""
    best = candidates[choice.best]
    if not choice.by_seed or len(candidates) == 1:
        return best.folds
    chosen = [candidates[key] for key in choice.by_seed.values()]
    if best.places and len(best.seeds) == 1:
        return tuple(cell.folds[at] for at, cell in enumerate(chosen))
    members = [(c, c.seeds.index(seed)) for seed, c in zip(choice.by_seed, chosen, strict=True)]
    return tuple(tuple(c.folds[at][i] for c, i in members) for at in range(len(best.folds)))
