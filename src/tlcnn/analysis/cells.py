"""Runs to cells: one row for all runs that differ in the seed alone, and what to call it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.errors import list_names
from tlcnn.records.settings import CELL, spread_settings
from tlcnn.storage import digest_of

FOLD = "dataset.fold"
_PLACES = ("dataset.root",)
_PRETTY = {"imagenet": "ImageNet", "ham10000": "HAM10000", "lc25000_lung": "LC25000 lung"}


def merge_folds(done: pd.DataFrame) -> pd.DataFrame:
    """Give the runs of one cell that differ in the fold alone one cell_id, and a column `fold`."""
    records = done.to_dict("records")
    keys: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        settings = record["settings"]
        if isinstance(settings, dict) and settings.get("dataset.folds") is not None:
            kept = {k: v for k, v in settings.items() if k not in (FOLD, *_PLACES)}
            names = [str(record[column]) for column in CELL]
            keys.setdefault(digest_of([names, kept], 12), []).append(position)
    folds: list[Any] = [None] * len(records)
    told, cell_ids = list(done["settings"]), list(done["cell_id"])
    for key, members in keys.items():
        if len({told[i].get(FOLD) for i in members}) > 1:
            for i in members:
                folds[i], cell_ids[i] = told[i].get(FOLD), f"folds:{key}"
                told[i] = {k: v for k, v in told[i].items() if k != FOLD}
    made = {"fold": folds, "settings": told, "cell_id": cell_ids}
    columns = {name: pd.Series(values, done.index, dtype=object) for name, values in made.items()}
    return done.assign(**columns)


def make_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell of the finished runs.

    Args:
        runs: what `read_runs` returned.

    Returns:
        cell (a key that is stable between reports), label (readable), CELL, units (names of units
        1..L), recipe (settings beyond the name that tell it from cells of the same name, as text),
        seeds, n_seeds, run_ids, folders (a list a fold, each in the order of seeds; one list
        without folds), n_epochs. A seed that lacks a fold is left out; `missing` says so.
    """
    done = runs[runs["state"] == "done"] if len(runs) else runs
    if not len(done):
        return pd.DataFrame(columns=[*_COLUMNS])
    if "cell_id" not in done:
        done = done.assign(cell_id=None)
    done, varying = spread_settings(merge_folds(done.drop_duplicates("run_id")))
    done = done.assign(
        recipe=[_tell_recipe(row, varying) for row in done[varying].to_dict("records")],
        origin=[_tell_origin(row, varying) for row in done[varying].to_dict("records")],
    )
    keys = [*CELL, "recipe", "origin", "cell_id"]
    groups = done.groupby(keys, dropna=False, sort=True)
    rows = [_make_cell(dict(zip(keys, key, strict=True)), group) for key, group in groups]
    return pd.DataFrame(rows, columns=[*_COLUMNS])


_COLUMNS = (
    *("cell", "label", *CELL, "units", "recipe", "seeds", "n_seeds", "run_ids", "folders"),
    *("missing", "ancestry", "source", "dataset_digest", "n_epochs"),
)


def _make_cell(named: dict[str, Any], runs: pd.DataFrame) -> dict[str, Any]:
    folds = [
        fold for _, fold in runs.sort_values("seed", kind="stable").groupby("fold", dropna=False)
    ]
    folds = [fold.drop_duplicates("seed") for fold in folds]
    seeds = sorted(set.intersection(*(set(fold["seed"]) for fold in folds)))
    lacking = sorted(set(runs["seed"]) - set(seeds))
    folds = [fold[fold["seed"].isin(seeds)] for fold in folds]
    plan = read_plan(runs["folder"].iloc[0])
    units = tuple(unit["unit"] for unit in plan.get("units", []))
    identity = plan.get("identity", {})
    cell = {
        **{key: named[key] for key in (*CELL, "recipe")},
        "cell": digest_of({key: str(value) for key, value in named.items()}, 8),
        "units": units,
        "seeds": [int(seed) for seed in seeds],
        "n_seeds": len(seeds),
        "run_ids": [run_id for fold in folds for run_id in fold["run_id"]],
        "folders": [list(fold["folder"]) for fold in folds],
        "missing": f"seeds {list_names([str(seed) for seed in lacking])} lack a fold"
        if lacking
        else "",
        "ancestry": tuple(parent.get("dataset", "?") for parent in plan.get("ancestry", [])),
        "source": plan.get("settings", {}).get("init.source", named["init"]),
        "dataset_digest": identity.get("dataset", {}).get("manifest", ""),
        "n_epochs": plan.get("epochs"),
    }
    told = f" ({named['origin']})" if named["origin"] else ""
    return {**cell, "label": name_cell(cell) + told}


def read_plan(folder: str) -> Mapping[str, Any]:
    """Return a run's plan.json; empty where it cannot be read."""
    try:
        found = json.loads((Path(folder) / "plan.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _tell_recipe(row: Mapping[Any, Any], varying: Sequence[str]) -> str:
    keys = [key for key in varying if not key.startswith("init.")]
    return ", ".join(f"{key}={row[key]}" for key in keys)


def _tell_origin(row: Mapping[Any, Any], varying: Sequence[str]) -> str:
    keys = [key for key in varying if key.startswith("init.")]
    return ", ".join(f"{key}={row[key]}" for key in keys)


def name_cell(cell: Mapping[str, Any]) -> str:
    """Return how a person would call a cell, without its dataset and model.

    Example:
        >>> name_cell({"init": "imagenet", "k": 5, "j": 4, "bn": "frozen",
        ...            "units": ("stem", "stage1", "stage2", "stage3", "stage4")})
        'ImageNet, frozen through stage3'
    """
    units, k, j = cell["units"], int(cell["k"]), int(cell["j"])
    source = name_source(cell["init"]) if k else "random"
    if k and k < len(units):
        source += f" through {_name_unit(units, k)}"
    if j == 0:
        frozen = "all trained"
    elif j == len(units):
        frozen = "all frozen"
    else:
        frozen = f"frozen through {_name_unit(units, j)}"
    if j and cell.get("bn", "frozen") not in ("frozen", None):
        frozen += f" (bn {cell['bn']})"
    return f"{source}, {frozen}"


def _name_unit(units: Sequence[str], n: int) -> str:
    return units[n - 1] if n <= len(units) else f"unit {n}"


def name_source(init: str) -> str:
    """Return a source as prose has it: `imagenet-ham10000` is `ImageNet → HAM10000`."""
    return " → ".join(name_dataset(part) for part in str(init).split("-"))


def name_dataset(name: str) -> str:
    """Return a dataset's name as prose has it."""
    return _PRETTY.get(name, name)


def find_cell(cells: pd.DataFrame, **wanted: Any) -> str | None:
    """Return the key of the one cell with these values, or None."""
    found = cells
    for column, value in wanted.items():
        found = found[found[column] == value]
    return str(found["cell"].iloc[0]) if len(found) else None
