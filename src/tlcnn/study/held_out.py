"""Cells that differ in what they hold out alone: each value, such as a site, and their mean.

cells -> cells by what they hold out -> arm of each value; one arm of all values
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from tlcnn.config.hold_out import KEY as HOLD_OUT
from tlcnn.config.hold_out import HoldOut, parse_hold_out
from tlcnn.data.tabular import write_cell
from tlcnn.errors import ConfigError
from tlcnn.records.plan_record import PlanRecord
from tlcnn.statistics.arm import Arm
from tlcnn.statistics.estimate import pick_seeds
from tlcnn.storage import digest_of
from tlcnn.study.cells import Cell, Settings, measure_fold_ratio


@dataclass(frozen=True)
class HeldOutCells:
    """The cells of one dataset, model, treatment and recipe that hold out values of one column.

    Attributes:
        recipe: that of the cells, without what is held out.
        cells: (what is held out, cell), sorted.
        arms: the arm of each.
        mean: the mean over the values, whose folds are the values; None where fewer than two
            values were held out one by one with a common seed.
    """

    column: str
    recipe: Settings
    cells: tuple[tuple[HoldOut, Cell], ...]
    arms: tuple[Arm, ...]
    mean: Arm | None


def find_hold_out(cell: Cell) -> HoldOut | None:
    """Return what the runs of a cell held out; None for nothing."""
    try:
        return parse_hold_out(str(cell.settings[HOLD_OUT])) if cell.settings[HOLD_OUT] else None
    except (KeyError, ConfigError):  # a record without the key, or a damaged one
        return None


def group_held_out(
    cells: Mapping[str, Cell], arms: Mapping[str, Mapping[str, Arm]], metric: str
) -> Iterator[HeldOutCells]:
    """Yield the cells with the metric that differ in the held-out value alone.

    Args:
        cells: by their keys.
        arms: the arms of each cell, by metric.
    """
    groups: dict[Hashable, list[tuple[HoldOut, Cell]]] = {}
    plans = {run.run_id: run.plan for cell in cells.values() for run in cell.runs}
    for key, cell in cells.items():
        hold_out = find_hold_out(cell)
        if hold_out is not None and metric in arms[key]:
            names = (
                *cell.runs[0].name,
                _name_source(cell, plans),
                cell.treatment,
                list_rest(cell),
            )
            groups.setdefault((*names, hold_out.column), []).append((hold_out, cell))
    for members in groups.values():
        members.sort(key=lambda member: (member[0].values, member[1].cell_id))
        scored = tuple(arms[cell.key][metric] for _, cell in members)
        hold_out, first = members[0]
        mean = _average(members, scored)
        yield HeldOutCells(hold_out.column, list_rest(first), tuple(members), scored, mean)


def _name_source(cell: Cell, plans: Mapping[str, PlanRecord]) -> Hashable:
    """Return what tells a cell's source from others: of `init.run` how it was trained, not its id.

    The runs that weights come from may differ in what they hold out and in the seed. Their plans
    show that they differ in nothing else; a run whose plan is not there stands for itself.
    """
    if cell.settings.get("init.source") != "run":
        return cell.source
    ids = [run.plan.ancestry[0].run_id if run.plan.ancestry else "" for run in cell.runs]
    recipes = {_digest_recipe(plans[run_id]) if run_id in plans else "" for run_id in ids}
    if len(recipes) > 1 or "" in recipes:
        return cell.source
    settings = tuple(pair for pair in cell.source.settings if pair[0] != "init.run")
    return replace(cell.source, settings=settings), *recipes


def _digest_recipe(plan: PlanRecord) -> str:
    """Return what runs share that differ in the seed and in what they hold out alone."""
    dataset = {**plan.identity.get("dataset", {}), "manifest": None, "hold_out": None}
    identity = {**plan.identity, "dataset": dataset, "seed": None}
    settings = {
        key: value
        for key, value in plan.settings.items()
        if key.startswith("dataset.") and key != HOLD_OUT
    }
    n_images = sum(sum(counts.values()) for counts in plan.split_sizes.values())
    return digest_of([identity, settings, plan.dataset, n_images], 12)


def list_rest(cell: Cell) -> Settings:
    """Return the recipe of a cell without what it holds out."""
    return tuple(pair for pair in cell.recipe if pair[0] != HOLD_OUT)


def _average(members: list[tuple[HoldOut, Cell]], arms: tuple[Arm, ...]) -> Arm | None:
    """Return the mean over held-out values of the seeds that all have; each value is a fold."""
    values = [write_cell(value) for hold_out, _ in members for value in hold_out.values]
    seeds = reduce(np.intersect1d, [arm.seeds for arm in arms])
    if len(arms) < 2 or len(set(values)) < len(values) or not len(seeds):
        return None
    scores = np.stack([pick_seeds(arm, seeds).scores for arm in arms], axis=1)  # (S, F)
    plans = [cell.runs[0].plan for _, cell in members]
    first = replace(arms[0], replicates=None, influence=None, contributions=None, sample=None)
    return replace(
        first,
        seeds=seeds,
        scores=scores.mean(axis=1),
        notes=(),
        images="",
        folds=tuple((0, number) for number in range(len(arms))),
        fold_scores=scores,
        fold_ratio=measure_fold_ratio(plans) or 1 / (len(arms) - 1),
        n_options=0,
        floor=None,
    )
