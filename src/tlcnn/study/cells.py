"""Runs to cells: runs that differ in the seed alone, or in seed and fold, are one cell.

frame of `read_runs` -> Run (finished, with a place in a grid) -> Cell
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from tlcnn.config.schema import list_keys
from tlcnn.records.plan_record import PlanRecord, read_plan
from tlcnn.records.settings import list_varying
from tlcnn.storage import digest_of

FOLD = "dataset.fold"
N_FOLDS = "dataset.folds"
_MOST = 2**63 - 1  # seeds are 64-bit integers

Setting = tuple[str, Any]
Settings = tuple[Setting, ...]
Name = tuple[str, str, str, int, int, str | None]


@dataclass(frozen=True)
class Run:
    """A finished run that has a place in a grid: one row of `read_runs`.

    Attributes:
        fold: the fold that it was tested on, where its cell has several; else None.
        scores: metrics of its summary, those that are numbers.
        train_s: seconds of training; NaN if unknown.
    """

    folder: str
    run_id: str
    dataset: str
    model: str
    init: str
    k: int
    j: int
    bn: str | None
    seed: int
    cell_id: str
    is_imported: bool
    settings: Mapping[str, Any]
    scores: Mapping[str, float]
    train_s: float

    @property
    def name(self) -> Name:
        """Dataset, model and treatment."""
        return (self.dataset, self.model, self.init, self.k, self.j, self.bn)


@dataclass(frozen=True)
class Omission:
    """Runs that count in no mean, and why.

    Attributes:
        kind: `no place`: a record without usable k, j or seed. `repeated seed`: further runs of
            one seed; the run whose id sorts first is taken. `lacks a fold`: runs of seeds that
            were not trained on every fold of their cell. `folds`: folds that no run was trained
            on. `odd effort`: runs that count, with a time or a number of epochs that is none.
        n: runs; of `folds`, the folds that are there.
        names: folders of `no place` and `odd effort`, seeds of `lacks a fold`.
        n_planned: folds that the configuration names.
    """

    kind: Literal["no place", "repeated seed", "lacks a fold", "folds", "odd effort"]
    n: int
    names: tuple[str, ...] = ()
    n_planned: int = 0


@dataclass(frozen=True)
class Source:
    """Where transferred weights come from.

    Attributes:
        init: the name in plans and tables: imagenet, self, or a chain such as imagenet-ham10000.
        settings: those of `init.*` that tell it from other sources of the name.
        is_imported: predictions of another tool.
        chain: see `PlanFacts`.
    """

    init: str
    settings: Settings = ()
    is_imported: bool = False
    chain: tuple[str, ...] = field(default=(), compare=False)

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets of ours that its weights were trained on, the nearest first."""
        return self.chain[:0:-1]


@dataclass(frozen=True)
class Cell:
    """The runs of one cell.

    Attributes:
        key: a short digest that is the same in every report.
        source: of the units 1..k; `random` where k = 0.
        recipe: settings of data, model and training in which cells of its dataset and model
            differ.
        settings: those that all its runs share.
        folds: the runs that count, a tuple a fold (one tuple without folds), by seed; every fold
            has the same seeds.
        fold_numbers: the fold of each; empty without folds.
        fold_ratio: test images over training images of a fold; None without folds.
        units: names of units 1..L.
        image_digest: digest of the images and their splits; empty if unknown.
        n_classes: K; 0 if unknown.
        omissions: runs of the cell that do not count.
    """

    key: str
    dataset: str
    model: str
    init: str
    k: int
    j: int
    bn: str | None
    source: Source
    recipe: Settings
    settings: Mapping[str, Any]
    cell_id: str
    folds: tuple[tuple[Run, ...], ...]
    fold_numbers: tuple[int, ...]
    fold_ratio: float | None
    units: tuple[str, ...]
    image_digest: str
    n_classes: int
    n_epochs: int | None
    omissions: tuple[Omission, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs that count."""
        return tuple(run for fold in self.folds for run in fold)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every fold has."""
        return tuple(run.seed for run in self.folds[0])

    @property
    def is_plain(self) -> bool:
        """Whether it belongs to a grid: our own run, and frozen units do not change at all.

        Other treatments of norm layers (`freeze.bn`) exist only by name.
        """
        return not self.source.is_imported and (self.j == 0 or self.bn in ("frozen", None))


# ---- runs ---------------------------------------------------------------------------------------


def make_runs(frame: pd.DataFrame) -> tuple[tuple[Run, ...], tuple[Omission, ...]]:
    """Return the finished runs, each once, and those that have no place in a grid.

    Args:
        frame: what `read_runs` returned, in any states.
    """
    done = frame[frame["state"] == "done"] if len(frame) else frame
    metrics = [column for column in done.columns if "/" in column]
    numbers = {name: list_numbers(done[name]) for name in metrics}
    times = list_numbers(done["train_s"]) if "train_s" in done else [math.nan] * len(done)
    columns = [column for column in done.columns if column not in numbers]
    runs: dict[str, Run] = {}
    without_place = []
    for at, record in enumerate(done[columns].to_dict("records")):
        places = [_parse_count(record.get(name)) for name in ("k", "j", "seed")]
        if None in places:
            without_place.append(str(record["folder"]))
            continue
        k, j, seed = (place for place in places if place is not None)
        settings = record.get("settings")
        run = Run(
            folder=str(record["folder"]),
            run_id=_write_name(record.get("run_id")),
            dataset=_write_name(record["dataset"]),
            model=_write_name(record["model"]),
            init=_write_name(record["init"]),
            k=k,
            j=j,
            bn=_write_name(record["bn"]) or None,
            seed=seed,
            cell_id=_write_name(record.get("cell_id")),
            is_imported=record.get("imported") is True,
            settings=settings if isinstance(settings, dict) else {},
            scores={
                name: values[at] for name, values in numbers.items() if values[at] == values[at]
            },
            train_s=times[at],
        )
        runs.setdefault(run.run_id or run.folder, run)
    names = tuple(without_place)
    omissions = (Omission("no place", len(names), names),) if names else ()
    return tuple(runs.values()), omissions


def clean_numbers(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return runs with NaN for measures of effort that are no numbers, and the folders of those.

    A record may say anything: one odd value must not end a table of all runs.
    """
    odd: dict[str, None] = {}
    columns = {}
    for name in ("epochs", "best_epoch", "planned_epochs", "train_s", "images_per_s"):
        if name in frame and not pd.api.types.is_numeric_dtype(frame[name]):
            numbers = list_numbers(frame[name])
            columns[name] = numbers
            pairs = zip(frame["folder"], frame[name], numbers, strict=True)
            odd |= {
                str(folder): None
                for folder, value, number in pairs
                if math.isnan(number) and not (pd.api.types.is_scalar(value) and pd.isna(value))
            }
    return frame.assign(**columns), list(odd)


def list_numbers(values: pd.Series) -> list[float]:
    """Return a column as numbers, NaN for everything else."""
    return [
        float(value) if isinstance(value, (int, float)) and abs(value) <= 1e300 else math.nan
        for value in values.tolist()
    ]


def _parse_count(value: Any) -> int | None:
    """Return a whole number of at most 64 bits; None for anything else."""
    if not isinstance(value, (int, float)) or not abs(value) <= _MOST or value != int(value):
        return None
    return int(value)


def _write_name(value: Any) -> str:
    return value if isinstance(value, str) else "" if pd.api.types.is_scalar(value) else str(value)


# ---- cells --------------------------------------------------------------------------------------


def make_cells(runs: Sequence[Run]) -> tuple[Cell, ...]:
    """Return the cells of runs, sorted by dataset, model, source, k, j and recipe.

    Runs of one cell have one `cell_id`; where records have none, runs belong together that differ
    in no setting. Cells that differ in the fold alone are one. Settings that differ between runs
    of one cell, such as the parent of each seed, do not part cells.
    """
    parts = _split_by_cell(runs)
    groups = _merge_folds(parts)
    shared = [_list_shared_settings(group, is_folded) for group, is_folded in groups]
    names = [group[0].name for group, _ in groups]
    blocks = [name[:2] for name in names]
    recipe_keys = [
        key for key in list_varying(blocks, shared) if not key.startswith(("init.", "freeze."))
    ]
    source_keys = [key for key in list_varying(names, shared) if key.startswith("init.")]
    cells = [
        _make_cell(group, is_folded, settings, recipe_keys, source_keys)
        for (group, is_folded), settings in zip(groups, shared, strict=True)
    ]
    return tuple(sorted(cells, key=_make_sort_key))


def _split_by_cell(runs: Sequence[Run]) -> list[list[Run]]:
    varying = list_varying([run.name for run in runs], [run.settings for run in runs])
    parts: dict[Any, list[Run]] = {}
    for run in runs:
        texts = tuple(repr(run.settings.get(key)) for key in varying)
        parts.setdefault((run.name, run.is_imported, run.cell_id or texts), []).append(run)
    return list(parts.values())


def _merge_folds(parts: Sequence[list[Run]]) -> list[tuple[list[Run], bool]]:
    """Return the runs of each cell, and whether it has folds, merged over those."""
    by_seed = {key for part in parts for key in _list_keys_that_vary(part)}
    groups: dict[Any, list[list[Run]]] = {}
    for at, part in enumerate(parts):
        settings = part[0].settings
        key: Any = at
        if settings.get(N_FOLDS) is not None:
            ignored = {*by_seed, FOLD, *list_keys("place")}
            recipe = {name: value for name, value in settings.items() if name not in ignored}
            key = digest_of([part[0].name, part[0].is_imported, recipe], 12)
        groups.setdefault(key, []).append(part)
    merged: list[tuple[list[Run], bool]] = []
    for members in groups.values():
        if len({repr(part[0].settings.get(FOLD)) for part in members}) > 1:
            merged.append(([run for part in members for run in part], True))
        else:
            merged += [(part, False) for part in members]
    return merged


def _list_keys_that_vary(runs: Sequence[Run]) -> list[str]:
    return list_varying([0] * len(runs), [run.settings for run in runs]) if len(runs) > 1 else []


def _list_shared_settings(runs: Sequence[Run], is_folded: bool) -> dict[str, Any]:
    """Return the settings that all runs of a cell have with one value, without the fold."""
    varying = {*_list_keys_that_vary(runs), *([FOLD] if is_folded else [])}
    return {
        key: value
        for key, value in runs[0].settings.items()
        if key not in varying and all(key in run.settings for run in runs)
    }


def _make_cell(
    runs: Sequence[Run],
    is_folded: bool,
    settings: Mapping[str, Any],
    recipe_keys: Sequence[str],
    source_keys: Sequence[str],
) -> Cell:
    first = runs[0]
    by_fold: dict[int, list[Run]] = {}
    for run in runs:
        by_fold.setdefault(
            _parse_count(run.settings.get(FOLD)) or 0 if is_folded else 0, []
        ).append(run)
    numbers = tuple(sorted(by_fold))
    folds, omissions = _choose_runs([by_fold[number] for number in numbers])
    n_planned = _parse_count(settings.get(N_FOLDS)) or 0
    if is_folded and len(folds) < n_planned:
        omissions.append(Omission("folds", len(folds), n_planned=n_planned))
    plans = [read_plan(by_fold[number][0].folder) for number in numbers]
    source_settings = _pick(settings, source_keys)
    chain = plans[0].source if first.k else ("random",)
    cell_ids = sorted({run.cell_id for run in runs})
    return Cell(
        key=digest_of([*map(str, first.name), first.is_imported, cell_ids or settings], 8),
        dataset=first.dataset,
        model=first.model,
        init=first.init,
        k=first.k,
        j=first.j,
        bn=first.bn,
        source=Source(
            first.init if first.k else "random",
            source_settings if first.k else (),
            first.is_imported,
            chain or (first.init,),
        ),
        recipe=_pick(settings, recipe_keys),
        settings=settings,
        cell_id=cell_ids[0] if len(cell_ids) == 1 else f"folds:{digest_of(cell_ids, 12)}",
        folds=folds,
        fold_numbers=numbers if is_folded else (),
        fold_ratio=_compute_fold_ratio(plans, n_planned) if is_folded else None,
        units=tuple(unit.unit for unit in plans[0].units),
        image_digest=plans[0].manifest,
        n_classes=len(plans[0].classes),
        n_epochs=plans[0].epochs,
        omissions=tuple(omissions),
    )


def _pick(settings: Mapping[str, Any], keys: Iterable[str]) -> Settings:
    """Return those settings that a cell has; lists and objects as text."""
    values = {key: settings[key] for key in keys if settings.get(key) is not None}
    return tuple((k, str(v) if isinstance(v, (list, dict)) else v) for k, v in values.items())


def _choose_runs(
    folds: Sequence[list[Run]],
) -> tuple[tuple[tuple[Run, ...], ...], list[Omission]]:
    """Return the runs that count, by fold and seed, and what does not.

    Of several runs of one seed (and fold) the one whose id sorts first is taken. A seed that was
    not trained on every fold is left out, so that folds differ by nothing but their images.
    """
    by_seed: list[dict[int, Run]] = []
    for fold in folds:
        ordered = sorted(fold, key=lambda run: (run.seed, run.run_id, run.folder))
        by_seed.append({})
        for run in ordered:
            by_seed[-1].setdefault(run.seed, run)
    whole = set.intersection(*(set(seeds) for seeds in by_seed))
    partial = sorted({seed for seeds in by_seed for seed in seeds} - whole)
    n_repeated = sum(map(len, folds)) - sum(map(len, by_seed))
    n_partial = sum(seed in partial for seeds in by_seed for seed in seeds)
    omissions = [Omission("repeated seed", n_repeated)] if n_repeated else []
    if partial:
        omissions.append(Omission("lacks a fold", n_partial, tuple(map(str, partial))))
    return tuple(tuple(seeds[seed] for seed in sorted(whole)) for seeds in by_seed), omissions


def _compute_fold_ratio(plans: Sequence[PlanRecord], n_folds: int) -> float:
    """Return test over training images, of the mean fold; of equal folds where none is known."""
    counts = {
        split: sum(plan.count_images(split) for plan in plans) for split in ("train", "test")
    }
    n_train, n_test = counts["train"], counts["test"]
    return n_test / n_train if n_train and n_test else 1 / max(n_folds - 1, 1)


def _make_sort_key(cell: Cell) -> tuple[Any, ...]:
    name = (cell.dataset, cell.model, cell.init, cell.k, cell.j, cell.bn or "~")
    return (*name, order_settings(cell.recipe), cell.cell_id)


def order_settings(settings: Settings) -> list[tuple[str, bool, float, str]]:
    """Return what settings are sorted by: numbers as numbers, before texts."""
    numbers = [
        float(v) if isinstance(v, (int, float)) and abs(v) <= 1e300 else math.nan
        for _, v in settings
    ]
    return [
        (key, math.isnan(number), 0.0 if math.isnan(number) else number, str(value))
        for (key, value), number in zip(settings, numbers, strict=True)
    ]
