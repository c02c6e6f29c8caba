"""Which seed an imported file stands under, where nothing says which it was trained with."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tlcnn.errors import ConfigError, DataError
from tlcnn.records.plan_record import read_plan
from tlcnn.records.read import find_run_dirs


@dataclass(frozen=True)
class Imported:
    """An imported run that is there: its folder's name, seed, predictions' digest and splits."""

    name: str
    seed: int
    predictions: str
    splits: frozenset[str]


def choose_seed(
    cell_id: str,
    predictions: str,
    splits: frozenset[str],
    *,
    wanted: int,
    is_given: bool,
    output_dir: Path,
) -> int:
    """Return the seed of a file: that of the same predictions, else the next that is free.

    Args:
        cell_id, predictions, splits: of the file; other splits of a run do not take its seed.
        is_given: the user named the seed.

    Raises:
        ConfigError: the seed was named, and other predictions have it.
    """
    there = list(_list_imported(output_dir, cell_id))
    others = [one for one in there if one.predictions != predictions and one.splits & splits]
    if is_given:
        _check_free(wanted, others)
        return wanted
    same = [one.seed for one in there if one.predictions == predictions]
    if same:
        return wanted if wanted in same else min(same)
    taken = {one.seed for one in others}
    return next(seed for seed in count(wanted) if seed not in taken)


def _check_free(seed: int, others: list[Imported]) -> None:
    for one in others:
        if one.seed == seed:
            raise ConfigError(
                f"--seed {seed}: {one.name} has that seed and other predictions. Leave --seed out "
                "for the next free one, tell the method apart with --name or --setting, or delete "
                "that folder"
            )


def _list_imported(output_dir: Path, cell_id: str) -> Iterator[Imported]:
    """Yield the imported runs of a cell, finished or not; what cannot be read is left out."""
    for folder in sorted(find_run_dirs(output_dir)) if output_dir.is_dir() else []:
        try:
            plan = read_plan(folder)
        except DataError:
            continue
        if plan.imported and plan.cell_id == cell_id:
            digest, splits = str(plan.identity.get("predictions")), frozenset(plan.split_sizes)
            yield Imported(folder.name, plan.seed, digest, splits)
