"""The plan: everything a run will do, resolved, as a value; its hash is the run's id.

    Config → units → cell (k, j) → index → source weights → images and splits → identity

Nothing here imports torch once the facts of a model and a dataset are remembered.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.config import Config, DatasetCfg, TrainCfg, check_config, find_cache_dir
from tlcnn.data.cache import FILTER, stored_size
from tlcnn.data.datasets import load_index
from tlcnn.data.index import SPLITS, Index
from tlcnn.data.policy import NORMALIZE, find_policy
from tlcnn.data.splits import (
    check_splits,
    choose_splits,
    compute_split_counts,
    manifest_digest,
)
from tlcnn.device import Device, find_device
from tlcnn.errors import CannotCreate, ConfigError, DataError, list_names
from tlcnn.model.load_units import load_unit_map
from tlcnn.model.unit_map import UnitMap
from tlcnn.model.weights import WeightsFile, locate_checkpoint, locate_imagenet
from tlcnn.storage import digest_of, make_dir, remember

PLAN_VERSION = 1


@dataclass(frozen=True)
class Cell:
    """Units 1..k come from the source, units 1..j stay a fixed function (0 <= j, k <= L)."""

    k: int
    j: int
    source: str
    weights: WeightsFile | None


@dataclass(frozen=True)
class Images:
    """The dataset of a run: its index, which split each row is in, and its manifest's hash."""

    index: Index
    splits: np.ndarray
    digests: list[str]
    manifest: str

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images per split and class."""
        labels = self.index.table["label"].to_numpy()
        table = compute_split_counts(labels, self.splits, self.index.classes)
        return {split: {str(name): int(n) for name, n in table[split].items()} for split in SPLITS}


@dataclass(frozen=True)
class Plan:
    """A run before it runs. `identity` is the scientific part: what is hashed into `run_id`."""

    config: Config
    unit_map: UnitMap
    cell: Cell
    images: Images
    device: Device
    precision: str
    steps_per_epoch: int
    identity: dict[str, Any]
    run_id: str
    run_name: str
    output_dir: Path
    cache_dir: Path

    @property
    def run_dir(self) -> Path:
        """The folder of this run: a readable name that ends in the run id."""
        return self.output_dir / "runs" / f"{self.run_name}-{self.run_id}"


def make_plan(cfg: Config) -> Plan:
    """Resolve a configuration into a plan, refusing what cannot be run.

    Raises:
        ConfigError: a value, unit name or combination that is not allowed; raised before any
            image is touched.
        DataError: images or tables that are missing or broken.
        WeightsError: source weights that are missing or broken.
    """
    check_config(cfg)
    find_policy(cfg.train.augment)
    cache_dir = _prepare_cache_dir(cfg)
    device = find_device(cfg.device, cache_dir)
    model = cfg.model
    unit_map = load_unit_map(model.name, granularity=model.granularity, cache_dir=cache_dir)
    k, j = count_units(cfg, unit_map)
    index = load_dataset(cfg.dataset)
    cell = Cell(k, j, *_locate_source(cfg, k, cache_dir))
    images = load_images(cfg.dataset, index, cache_dir)
    check_ancestor(cell, images)
    precision = device.resolve_precision(cfg.train.precision)
    identity = make_identity(cfg, unit_map, cell, images, precision)
    n_train = int((images.splits == "train").sum())
    return Plan(
        config=cfg,
        unit_map=unit_map,
        cell=cell,
        images=images,
        device=device,
        precision=precision,
        steps_per_epoch=max(1, n_train // cfg.train.batch_size),
        identity=identity,
        run_id=digest_of(identity, 12),
        run_name=_make_name(cfg, cell),
        output_dir=Path(cfg.output_dir).expanduser().absolute(),
        cache_dir=cache_dir,
    )


def _prepare_cache_dir(cfg: Config) -> Path:
    cache_dir = find_cache_dir(cfg.cache_dir)
    try:
        return make_dir(cache_dir)
    except CannotCreate as error:
        hint = "Set TLCNN_CACHE or cache_dir to a folder that can be written."
        raise CannotCreate(f"{error}. {hint}") from error


def count_units(cfg: Config, unit_map: UnitMap) -> tuple[int, int]:
    """Return (k, j), the numbers of units to transfer and to freeze.

    Raises:
        ConfigError: a name that no unit has, or fresh units to be frozen that nobody asked for.
    """
    j = unit_map.count(cfg.freeze.through)
    k = unit_map.count(cfg.init.through)
    k = 0 if cfg.init.source == "random" else k
    if j > k and not cfg.freeze.allow_random:
        raise ConfigError(_describe_random_frozen(cfg, unit_map, k, j))
    if cfg.init.source == "checkpoint" and cfg.init.weights is None:
        raise ConfigError("init=checkpoint needs a file of weights: add init.weights=FILE")
    return k, j


def _locate_source(cfg: Config, k: int, cache_dir: Path) -> tuple[str, WeightsFile | None]:
    """Return the source's name and weights. Zero units of any source are `random`."""
    if k == 0:
        return "random", None
    if cfg.init.source == "imagenet":
        weights = cfg.init.weights
        return "imagenet", locate_imagenet(cfg.model.name, weights=weights, cache_dir=cache_dir)
    assert cfg.init.weights is not None  # count_units has refused it
    return "checkpoint", locate_checkpoint(cfg.init.weights, cache_dir=cache_dir)


def _describe_random_frozen(cfg: Config, unit_map: UnitMap, k: int, j: int) -> str:
    fresh = ", ".join(unit_map.names[k:j])
    source = "imagenet" if cfg.init.source == "random" else cfg.init.source
    return (
        f"freeze.through={cfg.freeze.through} freezes {j} units but init={cfg.init.source} "
        f"transfers {k}: {fresh} would stay random filters.\n"
        f"Transfer them (init={source} init.through={unit_map.names[j - 1]}), freeze less "
        f"(freeze.through={unit_map.names[k - 1] if k else 'none'}), or, as a control, "
        "set freeze.allow_random=true."
    )


def find_root(cfg: DatasetCfg) -> Path:
    """Return the dataset's folder: as given, else `data/<name>` under the working folder."""
    return Path(cfg.root or f"data/{cfg.name}").expanduser().absolute()


def load_dataset(cfg: DatasetCfg) -> Index:
    """Read the index of the configured dataset; no image is opened."""
    index = load_index(cfg.kind, name=cfg.name, root=find_root(cfg), options=cfg.options)
    found = [index.classes[label] for label in sorted(index.table["label"].unique())]
    if len(found) < 2:
        raise DataError(
            f"{find_root(cfg)} holds images of one class only ({list_names(found)}); at least 2 "
            "are needed. Is dataset.root one folder too deep?"
        )
    return index


def load_images(cfg: DatasetCfg, index: Index, cache_dir: Path) -> Images:
    """Digest the images (once), and split them by group."""
    digests = remember(cache_dir, "images", index.images.signature(), index.images.load_digests)
    splits = choose_splits(
        index.table,
        n_classes=len(index.classes),
        mode=cfg.split,
        val_fraction=cfg.val_fraction,
        test_fraction=cfg.test_fraction,
        folds=cfg.folds,
        fold=cfg.fold,
        seed=cfg.split_seed,
    )
    check_splits(index.table["group"].to_numpy(), splits)
    manifest = manifest_digest(index.table, index.classes, splits, digests)
    return Images(index, splits, digests, manifest)


def check_ancestor(cell: Cell, images: Images) -> None:
    """Refuse weights of a run that trained on what this run tests on.

    Images are compared by their bytes, wherever they lie; groups where the dataset has the same
    name. Only run folders know what they trained on.

    Raises:
        DataError: names the images or groups.
    """
    record = cell.weights and cell.weights.path and cell.weights.path.parent / "splits.parquet"
    if not record or not record.is_file():
        return
    seen = pd.read_parquet(record).query("split == 'train'")
    table, is_test = images.index.table, images.splits == "test"
    mine = pd.Series(images.digests, index=table.index)[is_test]
    ids = table.loc[mine.index[mine.isin(seen["digest"])], "image_id"].tolist()
    same_name = seen[seen["dataset"] == images.index.name]
    groups = sorted(set(table.loc[is_test, "group"]) & set(same_name["group"]))
    if ids or groups:
        raise DataError(
            f"{len(ids)} test images ({list_names(ids)}) and {len(groups)} test groups "
            f"({list_names(groups)}) are in the training data of {record.parent.name}, whose "
            "weights this run starts from. Use the same dataset.split_seed, fold and fractions in "
            "both runs, or another source."
        )


def make_identity(
    cfg: Config, unit_map: UnitMap, cell: Cell, images: Images, precision: str
) -> dict[str, Any]:
    """Return what makes two runs the same run: resolved values, never overrides or paths."""
    init = {"source": cell.source, "k": cell.k}
    if cell.weights is not None:
        init["digest"] = cell.weights.digest
    return {
        "version": PLAN_VERSION,
        "dataset": {
            "manifest": images.manifest,
            "image_size": cfg.dataset.image_size,
            "stored_size": stored_size(cfg.dataset.image_size),
            "fit": cfg.dataset.fit,
            "filter": FILTER,
            "normalize": NORMALIZE[cfg.dataset.normalize],
        },
        "model": {
            "name": cfg.model.name.split(".")[0],  # the tag is in the digest of the weights
            "units": unit_map.digest(),
            "drop_rate": cfg.model.drop_rate,
            "drop_path_rate": cfg.model.drop_path_rate,
        },
        "init": init,
        "freeze": {"j": cell.j, "bn": cfg.freeze.bn if cell.j else "frozen"},
        "train": _make_recipe(cfg.train, precision),
        "views": asdict(find_policy(cfg.train.augment)),
        "seed": cfg.seed,
    }


def _make_recipe(train: TrainCfg, precision: str) -> dict[str, Any]:
    recipe = {**asdict(train), "precision": precision}
    unused = {
        "momentum": train.optimizer != "sgd",
        "effective_beta": train.class_weights != "effective",
        "views": train.augment == "none",
    }
    return {key: value for key, value in recipe.items() if not unused.get(key)}


def _make_name(cfg: Config, cell: Cell) -> str:
    model = cfg.model.name.split(".")[0]
    return f"{cfg.dataset.name}-{model}-{cell.source}-k{cell.k}-j{cell.j}-s{cfg.seed}"
