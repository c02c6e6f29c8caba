"""Runs to cells: runs that differ in the seed alone, or in seed and fold, are one cell.

frame of `read_runs` -> Run (`tlcnn.study.runs`) -> Cell
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from tlcnn.config.schema import Config, list_keys
from tlcnn.records.plan_record import PlanRecord
from tlcnn.records.search import SearchedArm
from tlcnn.records.settings import CELL, list_held_out, list_naming, list_varying, write_value
from tlcnn.statistics.choice import Choice
from tlcnn.storage import digest_of
from tlcnn.study.runs import Omission, Place, Run, choose_runs

FOLD, N_FOLDS, SPLIT_SEED = "dataset.fold", "dataset.folds", "dataset.split_seed"

SEARCH = "search"  # in a recipe: the study that searched its settings

Settings = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Source:
    """Where transferred weights come from.

    Attributes:
        init: the name in plans and tables: imagenet, self, or a chain such as imagenet-ham10000.
        settings: those of `init.*` that tell it from other sources of the name.
        is_imported: predictions of another tool.
        chain: what the weights were trained on, first to last.
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
class Tuning:
    """How a cell came to its recipe.

    Attributes:
        keys: the tuned settings.
        tried: their values in each cell that was tried, by its key.
        candidates: those that were trained on all seeds, by key.
        choice: the candidates' choice on validation.
    """

    keys: tuple[str, ...]
    tried: Mapping[str, Settings]
    candidates: Mapping[str, "Cell"]
    choice: Choice


@dataclass(frozen=True)
class Cell:
    """The runs of one cell.

    Attributes:
        key: a short digest that is the same in every report.
        k, j: how many units are transferred and frozen; the first ones where `treatment` is empty.
        source: of the transferred units; `random` where k = 0.
        recipe: settings of data, model and training in which cells of its dataset and model
            differ.
        settings: those that all its runs share.
        folds: the runs that count, a tuple a fold (one tuple without folds), by seed; every fold
            has the same seeds. Other split seeds repeat the folds.
        places: the split seed and the number of each fold; empty without folds.
        fold_ratio: test images over training images of a fold; None without folds.
        units: names of units 1..L.
        image_digest: digest of the images and their splits; empty if unknown.
        n_classes: K; 0 if unknown.
        omissions: runs of the cell that do not count.
        tuning: of a tuned cell (`tlcnn.study.tune`), whose runs may have different recipes.
        searched: the arm of a search whose final runs these are; None for others. Its recipe
            names the search instead of the settings that were searched.
    """

    key: str
    dataset: str
    model: str
    init: str
    k: int
    j: int
    bn: str
    source: Source
    recipe: Settings
    settings: Mapping[str, Any]
    cell_id: str
    folds: tuple[tuple[Run, ...], ...]
    places: tuple[Place, ...]
    fold_ratio: float | None
    units: tuple[str, ...]
    image_digest: str
    n_classes: int
    n_epochs: int | None
    omissions: tuple[Omission, ...]
    tuning: Tuning | None = None
    searched: SearchedArm | None = None

    @property
    def candidates(self) -> Mapping[str, "Cell"]:
        """The cells that validation chooses among: of a tuned cell its recipes, else itself."""
        return self.tuning.candidates if self.tuning else {self.key: self}

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs that count."""
        return tuple(run for fold in self.folds for run in fold)

    @property
    def repeats(self) -> list[list[tuple[Run, ...]]]:
        """The folds of each split seed, which hold every image once; one fold without folds."""
        by_split: dict[int, list[tuple[Run, ...]]] = {}
        for (split_seed, _), runs in zip(self.places or [(0, 0)], self.folds, strict=True):
            by_split.setdefault(split_seed, []).append(runs)
        return list(by_split.values())

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every fold has."""
        return tuple(run.seed for run in self.folds[0])

    @property
    def treatment(self) -> Settings:
        """What happens to the units, beside k, j and bn; empty where k and j say all.

        For example `freeze.units`, where the frozen units are not the first j.
        """
        return _pick(self.settings, list_naming([self.settings]))

    @property
    def shown_settings(self) -> Mapping[str, Any]:
        """Its settings without those that a search chose, which are in `searched`."""
        searched = self.searched.arm.keys if self.searched else ()
        return {key: value for key, value in self.settings.items() if key not in searched}

    @property
    def is_unsearched(self) -> bool:
        """Whether it is an arm of a search for which nothing was searched."""
        return self.searched is not None and not self.searched.arm.space

    @property
    def is_plain(self) -> bool:
        """Whether it is our own run of units 1..k and 1..j, and frozen units do not change at all.

        Other treatments of norm layers (`freeze.bn`) and of units exist only by name.
        """
        is_frozen = self.j == 0 or self.bn == "frozen"
        return not self.source.is_imported and is_frozen and not self.treatment

    @property
    def is_in_grid(self) -> bool:
        """Whether it is a point of a k x j grid: plain, and no random unit is frozen (j <= k)."""
        return self.is_plain and self.j <= self.k


def make_cells(runs: Sequence[Run]) -> tuple[Cell, ...]:
    """Return the cells of runs, sorted by dataset, model, source, k, j and recipe.

    Of two cells of a search with one name, the one whose settings were searched is the first, so
    that it is the one that other searched cells are compared with.

    Runs of one cell have one `cell_id`; cells that differ in the fold alone are one, and so are
    those with folds that differ in the split seed, which repeat each other. Settings that differ
    between runs of one cell, such as the parent of each seed, do not part cells.
    """
    groups = _group_runs(runs)
    shared = [_list_shared_settings(group) for group in groups]
    names = [group[0].name for group in groups]
    recipe_keys = [
        key
        for key in dict.fromkeys(
            [*list_varying([name[:2] for name in names], shared), *list_held_out(shared)]
        )
        if not key.startswith(("init.", "freeze."))
    ]
    naming = list_naming(shared)
    source_keys = [
        key for key in list_varying(names, shared) if key.startswith("init.") and key not in naming
    ]
    cells = [
        _make_cell(group, settings, recipe_keys, source_keys)
        for group, settings in zip(groups, shared, strict=True)
    ]

    def rank(cell: Cell) -> tuple[Any, ...]:
        name = (*(getattr(cell, name) for name in CELL), order_settings(cell.recipe))
        return (*name, cell.is_unsearched, cell.cell_id)

    return tuple(sorted(cells, key=rank))


def _group_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs of each cell: of one `cell_id`, and of all its folds."""
    parts: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        arm = run.searched.name if run.searched else None
        parts.setdefault((*run.name, run.is_imported, arm, run.cell_id), []).append(run)
    by_seed = {key for part in parts.values() for key in _list_varying_keys(part)}
    ignored = {*by_seed, FOLD, SPLIT_SEED, *list_keys("place"), *list_keys("protocol")}
    defaults = {key: attrgetter(key)(Config()) for key in list_keys()}
    families: dict[Any, list[list[Run]]] = {}
    for key, part in parts.items():
        settings = part[0].settings
        family: Any = key
        if settings.get(N_FOLDS) is not None:
            # A fold that was trained before a setting existed was trained with its default.
            recipe = {
                name: value
                for name, value in settings.items()
                if name not in ignored
                and (name not in defaults or value != defaults[name])
                and not (value is None and name.startswith("dataset.options."))
            }
            family = digest_of([*key[:-1], recipe], 12)
        families.setdefault(family, []).append(part)
    groups = []
    for members in families.values():
        everything = [run for part in members for run in part]
        groups += [everything] if _has_folds(everything) else members
    return groups


def _list_varying_keys(runs: Sequence[Run]) -> list[str]:
    return list_varying([0] * len(runs), [run.settings for run in runs])


def _has_folds(runs: Sequence[Run]) -> bool:
    return len({repr(run.settings.get(FOLD)) for run in runs}) > 1


def _list_shared_settings(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the settings that all runs of a cell have with one value, without those of a fold."""
    varying = {*_list_varying_keys(runs), *([FOLD, SPLIT_SEED] if _has_folds(runs) else [])}
    return {
        key: value
        for key, value in runs[0].settings.items()
        if key not in varying and all(key in run.settings for run in runs)
    }


def _make_cell(
    runs: Sequence[Run],
    settings: Mapping[str, Any],
    recipe_keys: Sequence[str],
    source_keys: Sequence[str],
) -> Cell:
    first, is_folded = runs[0], _has_folds(runs)
    all_runs: dict[Place, list[Run]] = {}
    for run in runs:
        split_seed, fold = (
            _parse_count(run.settings.get(key)) if is_folded else 0 for key in (SPLIT_SEED, FOLD)
        )
        all_runs.setdefault((split_seed, fold), []).append(run)
    by_place, omissions = choose_runs(all_runs)
    plans = [all_runs[place][0].plan for place in by_place]
    plan, fold_ratio = plans[0], None
    if is_folded:
        n_planned, n_folds = (
            _parse_count(settings.get(N_FOLDS)),
            len({fold for _, fold in by_place}),
        )
        if n_folds < n_planned:
            omissions.append(Omission("folds", n_folds, n_planned=n_planned))
        fold_ratio = measure_fold_ratio(plans) or 1 / max(n_planned - 1, 1)
    if first.k:
        source = Source(first.init, _pick(settings, source_keys), first.is_imported, plan.source)
    else:
        source = Source("random", (), first.is_imported, ("random",))
    cell_ids = sorted({run.cell_id for run in runs})
    arm = first.searched
    return Cell(
        key=digest_of(
            [*map(str, first.name), first.is_imported, cell_ids, *(arm.name if arm else ())], 8
        ),
        **{name: getattr(first, name) for name in CELL},
        source=source,
        recipe=_make_recipe(settings, recipe_keys, arm),
        settings=settings,
        cell_id=cell_ids[0] if len(cell_ids) == 1 else f"folds:{digest_of(cell_ids, 12)}",
        folds=tuple(by_place.values()),
        places=tuple(by_place) if is_folded else (),
        fold_ratio=fold_ratio,
        units=tuple(unit.unit for unit in plan.units),
        image_digest=plan.manifest,
        n_classes=len(plan.classes),
        n_epochs=plan.epochs,
        omissions=tuple(omissions),
        searched=arm,
    )


def measure_fold_ratio(plans: Sequence[PlanRecord]) -> float:
    """Return test images for each image of the training split, over folds; 0 if unknown.

    How much the scores of folds depend on each other follows from the share of training images
    that folds have in common (Nadeau and Bengio 2003). Images that `dataset.train_images` leaves
    out count as training images: the part of a fold that is trained on is drawn from all of them,
    and the parts of two folds overlap as the whole training splits do.
    """
    n_train, n_unused, n_test = (
        sum(plan.count_images(split) for plan in plans) for split in ("train", "unused", "test")
    )
    return n_test / (n_train + n_unused) if n_train else 0.0


def _make_recipe(
    settings: Mapping[str, Any], keys: Sequence[str], arm: SearchedArm | None
) -> Settings:
    """Return the settings that tell recipes apart; of a searched arm, its search among them.

    So cells of one search are compared with each other, whatever settings it chose for each, and
    with an arm that has one value of what others search.
    """
    if arm is None:
        return _pick(settings, keys)
    searched = {key for each in arm.search.arms for key in each.keys}
    rest = _pick(settings, [key for key in keys if key not in searched])
    return (*rest, (SEARCH, arm.search.study))


def _parse_count(value: Any) -> int:
    """Return a setting that is a whole number of 64 bits; 0 for anything else."""
    return value if isinstance(value, int) and abs(value) < 2**63 else 0


def _pick(settings: Mapping[str, Any], keys: Iterable[str]) -> Settings:
    """Return those settings that a cell has; lists and objects as text."""
    return tuple((k, write_value(settings[k])) for k in keys if settings.get(k) is not None)


def order_settings(settings: Settings) -> list[tuple[str, bool, float, str]]:
    """Return what settings are sorted by: numbers as numbers, before texts."""
    numbers = list_numbers(value for _, value in settings)
    return [
        (key, math.isnan(number), 0.0 if math.isnan(number) else number, str(value))
        for (key, value), number in zip(settings, numbers, strict=True)
    ]


def list_numbers(values: Iterable[Any]) -> list[float]:
    """Return values as numbers, NaN for everything that is none."""
    return [
        float(value) if isinstance(value, (int, float)) and abs(value) <= 1e300 else math.nan
        for value in values
    ]
