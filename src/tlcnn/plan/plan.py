"""The plan: everything a run will do, resolved, as a value; its hash is the run's id.

    Config → units → cell (k, j) → index → source weights → images and splits → identity

Nothing here imports torch once the facts of a model and a dataset are remembered.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tlcnn.config.schema import Config, check_config, find_cache_dir
from tlcnn.data.dataset import Dataset, recall_dataset, recall_index
from tlcnn.data.policy import find_policy
from tlcnn.device import Device, find_device
from tlcnn.errors import (
    CannotCreate,
    ConfigError,
    DataError,
    ImpossibleCell,
    TlcnnError,
    WeightsError,
)
from tlcnn.memory import Memory
from tlcnn.model.load_units import load_unit_map
from tlcnn.model.unit_map import UnitMap
from tlcnn.model.weights import (
    RUN_WEIGHTS,
    WeightsFile,
    locate_checkpoint,
    locate_imagenet,
)
from tlcnn.plan.ancestry import (
    Ancestor,
    check_leaks,
    find_ancestors,
    find_run_dir,
    read_ancestors,
)
from tlcnn.plan.chain import PLANNED, load_run_config, make_parent_config
from tlcnn.plan.identity import Treatment, make_cell_id, make_identity, make_name
from tlcnn.records.plan_record import AncestorRecord, read_plan
from tlcnn.records.weights import locate_run
from tlcnn.storage import digest_of, make_dir


@dataclass(frozen=True)
class Plan:
    """A run before it runs. `identity` is the scientific part: what is hashed into `run_id`.

    Attributes:
        cell_id: equal for runs that differ in the seed only.
        source: where the weights come from, first to last: `("random",)`, `("self",)`, or
            `("imagenet", "ham10000")` for ImageNet weights that were trained on HAM10000 before.
        ancestry: the runs that its weights come from, nearest first.
        parent: the plan of the nearest, where that run may have to be trained first.
    """

    config: Config
    unit_map: UnitMap
    treatment: Treatment
    dataset: Dataset
    device: Device
    precision: str
    steps_per_epoch: int
    identity: dict[str, Any]
    run_id: str
    cell_id: str
    source: tuple[str, ...]
    run_name: str
    output_dir: Path
    cache_dir: Path
    ancestry: tuple[Ancestor, ...] = ()
    parent: "Plan | None" = None

    @property
    def label(self) -> str:
        """The source as one text, as it stands in names: `imagenet-ham10000`."""
        return "-".join(self.source)

    @property
    def run_dir(self) -> Path:
        """The folder of this run: a readable name that ends in the run id."""
        return self.output_dir / "runs" / f"{self.run_name}-{self.run_id}"


@dataclass(frozen=True)
class Origin:
    """Where the weights of a run come from."""

    source: str
    weights: WeightsFile | None
    ancestry: tuple[Ancestor, ...] = ()
    parent: Plan | None = None


def make_plan(cfg: Config, memory: Memory | None = None, *, _below: tuple[Path, ...] = ()) -> Plan:
    """Resolve a configuration into a plan, refusing what cannot be run.

    Args:
        cfg: the configuration.
        memory: what the plans of one process share; a sweep gives the same to all.

    Raises:
        ConfigError: a value, unit name or combination that is not allowed; raised before any
            image is touched.
        DataError: images or tables that are missing or broken, or test images that the source
            has been trained on.
        WeightsError: source weights that are missing or broken.
    """
    memory = memory or Memory()
    check_config(cfg)
    find_policy(cfg.train.augment)
    cache_dir = _prepare_cache_dir(cfg)
    device = memory.recall("device", cfg.device, lambda: find_device(cfg.device, cache_dir))
    unit_map = _recall_units(cfg, cache_dir, memory)
    k, j = count_units(cfg, unit_map)
    recall_index(cfg.dataset, memory)  # so that missing images are told before a download
    origin = _find_origin(cfg, k, cache_dir, memory, _below)
    images = recall_dataset(cfg.dataset, cache_dir, memory)
    check_leaks(
        images,
        origin.ancestry,
        lambda ancestor: _open_images(ancestor, cache_dir, memory),
        cache_dir,
        allow_unchecked=cfg.init.allow_unchecked,
    )
    cell = Treatment(k, j, origin.source, origin.weights)
    precision = device.resolve_precision(cfg.train.precision)
    identity = make_identity(cfg, unit_map, cell, images, precision)
    names = _list_sources(origin, images)
    label = "-".join(names)
    n_train = int((images.splits == "train").sum())
    return Plan(
        config=cfg,
        unit_map=unit_map,
        treatment=cell,
        dataset=images,
        device=device,
        precision=precision,
        steps_per_epoch=max(1, n_train // cfg.train.batch_size),
        identity=identity,
        run_id=digest_of(identity, 12),
        cell_id=make_cell_id(identity, origin.ancestry, label),
        source=names,
        run_name=make_name(cfg, cell, label),
        output_dir=_find_output_dir(cfg),
        cache_dir=cache_dir,
        ancestry=origin.ancestry,
        parent=origin.parent,
    )


def _find_output_dir(cfg: Config) -> Path:
    return Path(cfg.output_dir).expanduser().absolute()


def _recall_units(cfg: Config, cache_dir: Path, memory: Memory) -> UnitMap:
    name, granularity = cfg.model.name, cfg.model.granularity
    return memory.recall(
        "units",
        (name, granularity),
        lambda: load_unit_map(name, granularity=granularity, cache_dir=cache_dir),
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
        ConfigError: a name that no unit has.
        ImpossibleCell: fresh units to be frozen that nobody asked for.
    """
    j = unit_map.count(cfg.freeze.through)
    k = unit_map.count(cfg.init.through)
    k = 0 if cfg.init.source == "random" else k
    if j > k and not cfg.freeze.allow_random:
        raise ImpossibleCell(_describe_random_frozen(cfg, unit_map, k, j))
    return k, j


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


def _find_origin(
    cfg: Config, k: int, cache_dir: Path, memory: Memory, below: tuple[Path, ...]
) -> Origin:
    """Return where units 1..k come from. Zero units of any source are `random`."""
    init = cfg.init
    if k == 0:
        return Origin("random", None)
    if init.source in PLANNED:
        return _make_run_origin(_recall_parent(cfg, memory, below))
    if init.source == "run":
        return _find_run_origin(cfg, cache_dir, memory, below)
    if init.weights is None:  # check_config has refused init=checkpoint without a file
        weights = _recall_imagenet(cfg.model.name, cache_dir, memory)
    else:
        run = locate_run(init.weights)
        weights = run or locate_checkpoint(init.weights, cache_dir=cache_dir)
    assert weights.path is not None
    if weights.is_run:
        ancestry = read_ancestors(weights.path.parent)
    else:
        ancestry = find_ancestors(weights.path, weights.metadata, _find_output_dir(cfg))
    if init.source == "stats" or not ancestry:
        return Origin(init.source, weights, ancestry)
    return Origin("run" if weights.is_run else "checkpoint", weights, ancestry)


def _recall_imagenet(model: str, cache_dir: Path, memory: Memory) -> WeightsFile:
    """Return pretrained weights; a download that failed is not tried again for every cell."""

    def locate() -> WeightsFile | WeightsError:
        try:
            return locate_imagenet(model, cache_dir=cache_dir)
        except WeightsError as error:
            return error

    found = memory.recall("imagenet", model, locate)
    if isinstance(found, WeightsError):
        raise found
    return found


def _recall_parent(cfg: Config, memory: Memory, below: tuple[Path, ...]) -> Plan:
    parent = make_parent_config(cfg, memory)
    key = json.dumps(asdict(parent), sort_keys=True, default=str)
    return memory.recall("parent", key, lambda: make_plan(parent, memory, _below=below), n_kept=64)


def _find_run_origin(
    cfg: Config, cache_dir: Path, memory: Memory, below: tuple[Path, ...]
) -> Origin:
    """Return a finished run as it is, and of an unfinished one the plan to finish it."""
    assert cfg.init.run is not None  # check_config has refused it
    run_dir = find_run_dir(cfg.init.run, _find_output_dir(cfg))
    weights = locate_run(run_dir)
    if weights is not None:
        return Origin("run", weights, read_ancestors(run_dir))
    if run_dir in below:
        circle = " -> ".join(folder.name for folder in (*below, run_dir))
        raise ConfigError(f"these runs start from each other: {circle}. Break the circle.")
    plan = make_plan(load_run_config(run_dir, cfg), memory, _below=(*below, run_dir))
    if plan.run_id == run_dir.name.rsplit("-", 1)[-1] and plan.run_dir != run_dir:
        raise WeightsError(f"{run_dir} is not finished, and not where it would be: {plan.run_dir}")
    if plan.run_dir != run_dir:
        raise WeightsError(
            f"{run_dir} is not finished, and would here and today be another run ({plan.run_id}): "
            f"{_describe_change(run_dir, plan)}. Finish it where it was begun, or train its "
            "configuration again and give that run."
        )
    return _make_run_origin(plan)


def _describe_change(run_dir: Path, plan: Plan) -> str:
    """Return in words what tells a run from the one that its configuration makes now."""
    try:
        before = _flatten(dict(read_plan(run_dir).identity))
    except DataError:
        before = {}
    now = _flatten(json.loads(json.dumps(plan.identity)))
    keys = [key for key in now | before if now.get(key) != before.get(key)]
    if not before or not keys:
        return "its data or tlcnn have changed since"
    key = keys[0]
    why = f" (device={plan.device.name} decides it)" if key == "train.precision" else ""
    return f"{key} was {before.get(key)} and is {now.get(key)}{why}"


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix[:-1]: value}
    pairs = (_flatten(inner, f"{prefix}{key}.").items() for key, inner in value.items())
    return {key: leaf for inner in pairs for key, leaf in inner}


def _make_run_origin(parent: Plan) -> Origin:
    weights = WeightsFile(
        parent.run_dir / RUN_WEIGHTS,
        f"run:{parent.run_id}",
        parent.run_name,
        f"run {parent.run_id}",
    )
    before = [replace(a, later=(parent.run_dir, *a.later)) for a in parent.ancestry]
    return Origin("run", weights, (make_ancestor(parent), *before), parent)


def make_ancestor(plan: Plan) -> Ancestor:
    """Return a planned run as an ancestor of another."""
    record = AncestorRecord(
        run_id=plan.run_id,
        run_name=plan.run_name,
        cell_id=plan.cell_id,
        dataset=plan.config.dataset.name,
        source=plan.source,
        k=plan.treatment.k,
        j=plan.treatment.j,
        seed=plan.config.seed,
        manifest=plan.dataset.manifest,
    )
    return Ancestor(record, plan.run_dir, images=plan.dataset)


def _open_images(ancestor: Ancestor, cache_dir: Path, memory: Memory) -> Dataset | None:
    """Return the images of an ancestor, if they are still where its configuration says."""
    if ancestor.images is not None:
        return ancestor.images
    try:
        cfg = load_run_config(ancestor.folder, Config())
        images = recall_dataset(cfg.dataset, cache_dir, memory)
    except TlcnnError:
        return None
    return images if images.manifest == ancestor.record.manifest else None


def _list_sources(origin: Origin, images: Dataset) -> tuple[str, ...]:
    if origin.source == "stats" or not origin.ancestry:
        return (origin.source,)
    nearest = origin.ancestry[0].record
    if nearest.manifest == images.manifest and nearest.source == ("random",):
        return ("self",)
    return (*nearest.source, nearest.dataset)
