"""Runs to cells: one row for all runs that differ in the seed alone, and what to call it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.config.schema import list_keys
from tlcnn.errors import list_names
from tlcnn.records.settings import CELL, spread_settings
from tlcnn.storage import digest_of

FOLD = "dataset.fold"
_PRETTY = {"imagenet": "ImageNet", "ham10000": "HAM10000", "lc25000_lung": "LC25000 lung"}


def merge_folds(done: pd.DataFrame) -> pd.DataFrame:
    """Give the runs of one cell that differ in the fold alone one cell_id, and a column `fold`."""
    records = done.to_dict("records")
    keys: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        settings = record["settings"]
        if isinstance(settings, dict) and settings.get("dataset.folds") is not None:
            kept = {k: v for k, v in settings.items() if k not in (FOLD, *list_keys("place"))}
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
        cell (a key that is stable between reports), label (readable), start (the source, told from
        others of its name), CELL, units (names of units 1..L), recipe (settings of data, model and
        training in which cells of this dataset and model differ, as text), seeds, n_seeds,
        run_ids, folders (a list a fold, each in the order of seeds; one list without folds),
        missing (what is left out, and why), ancestry (datasets, nearest first), n_epochs, ...
    """
    done = _take_placed(runs)
    if not len(done):
        return pd.DataFrame(columns=[*_COLUMNS])
    done = merge_folds(done)
    varying = _list_varying(done)
    texts = [_list_settings(settings, varying) for settings in done["settings"]]
    recipe = [_join(text, own=False) for text in texts]
    cell_id = done["cell_id"].where(done["cell_id"].notna(), [_join(t, own=True) for t in texts])
    told = pd.Series(texts, index=done.index, dtype=object)
    done = done.assign(recipe=recipe, told=told, cell_id=cell_id)
    keys = [*CELL, "recipe", "cell_id"]
    groups = done.groupby(keys, dropna=False, sort=True)
    rows = [_make_cell(dict(zip(keys, key, strict=True)), group) for key, group in groups]
    return pd.DataFrame(rows, columns=[*_COLUMNS])


_COLUMNS = (
    *("cell", "label", "start", *CELL, "units", "recipe", "seeds", "n_seeds", "run_ids"),
    *("folders", "missing", "ancestry", "source", "imported", "dataset_digest", "n_classes"),
    *("fold_sizes", "n_epochs"),
)


def list_unplaced(runs: pd.DataFrame) -> list[str]:
    """Return a line for every finished run that is in no cell: its record lacks k or j."""
    done = runs[runs["state"] == "done"] if len(runs) else runs
    lacking = done[done[["k", "j", "seed"]].isna().any(axis=1)] if len(done) else done
    return [f"no k, j or seed in its record: {folder}" for folder in lacking["folder"]]


def _take_placed(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs that have a place in a grid, each once."""
    done = runs[runs["state"] == "done"] if len(runs) else runs
    if not len(done):
        return done
    for column in ("cell_id", "run_id", "settings", "imported"):
        if column not in done:
            done = done.assign(**{column: None})
    done = done[done[["k", "j", "seed"]].notna().all(axis=1)]
    name = done["run_id"].where(done["run_id"].notna(), done["folder"])
    return done[~name.duplicated()]


def _list_varying(done: pd.DataFrame) -> list[str]:
    """Return the settings that tell cells apart beside their names.

    Of data, model and training those in which any cells of one dataset and model differ; of the
    source those in which cells of one name do.
    """
    _, of_recipe = spread_settings(done.assign(init="", k=0, j=0, bn=""))
    _, of_source = spread_settings(done)
    recipe = [key for key in of_recipe if not key.startswith(("init.", "freeze."))]
    return recipe + [key for key in of_source if key.startswith("init.")]


def _list_settings(settings: Any, keys: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """Return those settings that a run has, in order."""
    known = settings if isinstance(settings, dict) else {}
    return tuple((key, known[key]) for key in keys if known.get(key) is not None)


def _join(settings: Sequence[tuple[str, Any]], *, own: bool) -> str:
    """Return settings as text: those of the recipe, or (`own`) those of the source."""
    return ", ".join(f"{k}={v}" for k, v in settings if k.startswith("init.") == own)


def _make_cell(named: dict[str, Any], runs: pd.DataFrame) -> dict[str, Any]:
    runs = runs.sort_values("seed", kind="stable")
    folds = [fold.drop_duplicates("seed") for _, fold in runs.groupby("fold", dropna=False)]
    seeds = sorted(set.intersection(*(set(fold["seed"]) for fold in folds)))
    kept = [fold[fold["seed"].isin(seeds)] for fold in folds]
    plan = read_plan(runs["folder"].iloc[0])
    units = tuple(unit["unit"] for unit in plan.get("units", []))
    cell = {
        **{key: named[key] for key in (*CELL, "recipe")},
        "cell": digest_of({key: str(value) for key, value in named.items()}, 8),
        "units": units,
        "seeds": [int(seed) for seed in seeds],
        "n_seeds": len(seeds),
        "run_ids": [run_id for fold in kept for run_id in fold["run_id"]],
        "folders": [list(fold["folder"]) for fold in kept],
        "missing": _tell_missing(runs, folds, seeds),
        "ancestry": tuple(parent.get("dataset", "?") for parent in plan.get("ancestry", [])),
        "source": plan.get("settings", {}).get("init.source", named["init"]),
        "imported": bool(plan.get("imported", False)),
        "dataset_digest": plan.get("identity", {}).get("dataset", {}).get("manifest", ""),
        "n_classes": len(plan.get("classes", [])),
        "fold_sizes": _find_fold_sizes(plan) if runs["fold"].notna().all() else None,
        "n_epochs": plan.get("epochs"),
    }
    same = set.intersection(*(set(told) for told in runs["told"]))
    origin = _join([pair for pair in runs["told"].iloc[0] if pair in same], own=True)
    notes = [*([origin] if origin and cell["k"] else []), *(["imported"] * cell["imported"])]
    told = f" ({', '.join(notes)})" if notes else ""
    start = cell["init"] if cell["k"] else "random"
    return {**cell, "start": start + told, "label": name_cell(cell) + told}


def _tell_missing(runs: pd.DataFrame, folds: Sequence[pd.DataFrame], seeds: Sequence[Any]) -> str:
    """Say which runs of a cell do not count: further ones of a seed, seeds and folds not whole."""
    lines = []
    n_more = len(runs) - sum(len(fold) for fold in folds)
    if n_more:
        lines.append(f"{n_more} more runs have the seed of another and are left out")
    lacking = sorted(set(runs["seed"]) - set(seeds))
    if lacking:
        lines.append(f"seeds {list_names([str(int(s)) for s in lacking])} lack a fold")
    settings = runs["settings"].iloc[0]
    wanted = settings.get("dataset.folds") if isinstance(settings, dict) else None
    if wanted and len(folds) > 1 and len(folds) < wanted:
        lines.append(f"{len(folds)} of {wanted} folds")
    return "; ".join(lines)


def _find_fold_sizes(plan: Mapping[str, Any]) -> tuple[int, int]:
    """Return the training and test images of a fold."""
    sizes = plan.get("split_sizes", {})
    n_train, n_test = (sum(sizes.get(split, {}).values()) for split in ("train", "test"))
    n_folds = plan.get("settings", {}).get("dataset.folds") or 2
    return (n_train, n_test) if n_train and n_test else (n_folds - 1, 1)


def read_plan(folder: str) -> Mapping[str, Any]:
    """Return a run's plan.json; empty where it cannot be read."""
    try:
        found = json.loads((Path(folder) / "plan.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
