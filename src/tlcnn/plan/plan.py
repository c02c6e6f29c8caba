"""The plan: everything a run will do, resolved, as a value; its hash is the run's id.

    Config → units → treatment of each → index → source weights → images and splits → identity

Nothing here imports torch once the facts of a model and a dataset are remembered.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.config.schema import Config, check_config, find_cache_dir, make_cache_dir
from tlcnn.data.dataset import MEND_COPIES, Dataset, recall_dataset, recall_index
from tlcnn.data.policy import find_policy
from tlcnn.device import Device, find_device
from tlcnn.errors import ConfigError, DataError, TlcnnError, WeightsError, list_names
from tlcnn.memory import Memory
from tlcnn.model.load_units import load_unit_map
from tlcnn.model.published import PUBLISHED, locate_published
from tlcnn.model.unit_map import UnitMap
from tlcnn.model.weights import (
    RUN_WEIGHTS,
    WeightsFile,
    check_twin,
    locate_checkpoint,
    locate_imagenet,
)
from tlcnn.plan.ancestry import Ancestor, check_leaks, find_ancestors, find_run_dir, read_ancestors
from tlcnn.plan.chain import PLANNED, load_run_config, make_parent_config
from tlcnn.plan.identity import make_cell_id, make_identity, make_name
from tlcnn.plan.schedule import shorten_warmup
from tlcnn.plan.train_settings import check_train_settings
from tlcnn.plan.treatment import Treatment, make_treatment
from tlcnn.records.event_file import check_tensorboard
from tlcnn.records.plan_record import AncestorRecord, read_plan
from tlcnn.records.weights import locate_run
from tlcnn.storage import digest_of
from tlcnn.training.steps import divide_epoch


@dataclass(frozen=True)
class Plan:
    """A run before it runs. `identity` is the scientific part: what is hashed into `run_id`.

    Attributes:
        cell_id: an id that runs share which differ in the seed only.
        source: where the weights come from, first to last: `("random",)`, `("self",)`, or
            `("imagenet", "ham10000")` for ImageNet weights that were trained on HAM10000 before.
        ancestry: the runs that its weights come from, nearest first.
        parent: the plan of the nearest one, where that run may have to be trained first.
        shared_depths: j of every run of the sweep with the same source: those runs can read what
            this one stores. Empty for a run outside a sweep.
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
    shared_depths: tuple[int, ...] = ()

    @property
    def run_dir(self) -> Path:
        """The folder of this run: a readable name that ends in the run id."""
        return self.output_dir / "runs" / f"{self.run_name}-{self.run_id}"


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights of transferred units come from; as in `Treatment` and `Plan`."""

    kind: str
    weights: WeightsFile | None = None
    ancestry: tuple[Ancestor, ...] = ()
    parent: Plan | None = None


def make_plan(
    cfg: Config, memory: Memory | None = None, *, descendants: tuple[Path, ...] = ()
) -> Plan:
    """Resolve a configuration into a plan, refusing what cannot be run.

    The plans of one process share `memory`. `descendants` are the folders of unfinished runs that
    start from this one, farthest first.

    Raises:
        ConfigError: a value, unit name or combination that is not allowed.
        DataError: images are missing or broken, or the source has been trained on test images.
        WeightsError: source weights that are missing or broken.
    """
    memory = memory or Memory()
    check_config(cfg)
    if cfg.logger == "tensorboard":
        check_tensorboard("logger=tensorboard")
    cfg = shorten_warmup(cfg)
    find_policy(cfg.train.augment, ranges=cfg.train.augment_ranges)
    cache_dir = make_cache_dir(cfg.cache_dir)
    device = memory.recall("device", cfg.device, lambda: find_device(cfg.device, cache_dir))
    cell, unit_map = make_treatment(cfg, recall_unit_map(cfg, memory))
    recall_index(cfg.dataset, memory)  # missing images are reported before weights are downloaded
    source = WeightsSource("random")
    if cell.transferred:
        source = _find_source(cfg, cache_dir, memory, descendants)
    images = recall_dataset(cfg.dataset, cache_dir, memory)
    if cfg.leaks == "refuse" and images.copies:
        raise DataError(f"{cfg.dataset.name}: {images.copies}. {MEND_COPIES}")
    open_images = partial(open_ancestor_images, cache_dir=cache_dir, memory=memory)
    allow = cfg.init.allow_unchecked
    check_leaks(images, source.ancestry, open_images, cache_dir, allow_unchecked=allow)
    check_train_settings(cfg.train, unit_map, images)
    cell = replace(cell, source=source.kind, weights=source.weights)
    if cell.has_head:
        _check_head(cfg, cell, source, images)
    precision = device.resolve_precision(cfg.train.precision)
    identity = make_identity(cfg, unit_map, cell, images, precision)
    names = _list_sources(source, images)
    n_train = int((images.splits == "train").sum())
    steps = divide_epoch(n_train, cfg.train.batch_size, cfg.train.accumulate)
    return Plan(
        config=cfg,
        unit_map=unit_map,
        treatment=cell,
        dataset=images,
        device=device,
        precision=precision,
        steps_per_epoch=max(1, steps.n_steps),
        identity=identity,
        run_id=digest_of(identity, 12),
        cell_id=make_cell_id(identity, source.ancestry, names, cfg.init.task_seed_offset),
        source=names,
        run_name=make_name(cfg, cell, names),
        output_dir=_find_output_dir(cfg),
        cache_dir=cache_dir,
        ancestry=source.ancestry,
        parent=source.parent,
    )


def recall_unit_map(cfg: Config, memory: Memory) -> UnitMap:
    """Return the units of a configuration's model. Raises ConfigError when there is none."""
    name, granularity, cache_dir = cfg.model.name, cfg.model.granularity, cfg.cache_dir
    return memory.recall(
        "units",
        (name, granularity),
        lambda: load_unit_map(name, granularity=granularity, cache_dir=find_cache_dir(cache_dir)),
    )


def _check_head(cfg: Config, cell: Treatment, source: WeightsSource, images: Dataset) -> None:
    """Raise ConfigError unless the source is a run whose classes are those of the images."""
    ancestor = next(iter(source.ancestry), None)
    classes: list[str] | tuple[str, ...] | None = None
    if ancestor is not None and ancestor.images is not None:
        classes = ancestor.images.index.classes
    elif ancestor is not None:
        with suppress(DataError):
            classes = read_plan(ancestor.folder).classes
    reason = None
    if source.kind == "stats":
        reason = "init=stats draws its weights, and a drawn head is a fresh one"
    elif cell.above == "truncate":
        reason = "init.above=truncate puts a fresh head on another boundary"
    elif classes is None:
        reason = (
            f"the classes of init={cfg.init.source} are not known; a run (init=run) records them"
        )
    elif list(classes) != list(images.index.classes):
        reason = (
            f"{source.ancestry[0].full_name} has the classes {list_names(classes)}, and "
            f"{cfg.dataset.name} has {list_names(images.index.classes)}: names and order must be "
            "the same"
        )
    if reason is not None:
        raise ConfigError(f"init.head=true: {reason}. Use init.head=false.")


def _find_output_dir(cfg: Config) -> Path:
    return Path(cfg.output_dir).expanduser().absolute()


def _find_source(
    cfg: Config, cache_dir: Path, memory: Memory, descendants: tuple[Path, ...]
) -> WeightsSource:
    init = cfg.init
    if init.source in PLANNED:
        parent_cfg = make_parent_config(cfg, memory)
        key = json.dumps(asdict(parent_cfg), sort_keys=True, default=str)
        make = partial(make_plan, parent_cfg, memory, descendants=descendants)
        return _make_run_source(memory.recall("parent", key, make, n_kept=64))
    if init.source == "run":
        return _find_run_source(cfg, cache_dir, memory, descendants)
    if init.weights is None:  # check_config has refused init=checkpoint without a file
        model = cfg.model.name

        def locate() -> WeightsFile | WeightsError:
            try:
                return locate_imagenet(model, cache_dir=cache_dir, may_download=not cfg.dry_run)
            except WeightsError as error:  # a failed download is not tried again for every cell
                return error

        located = memory.recall("imagenet", model, locate)
        if isinstance(located, WeightsError):
            raise located
        if located.path is None:
            return WeightsSource(init.source, located)
        weights = located
    elif init.weights in PUBLISHED:
        weights = locate_published(init.weights, cfg.model.name, cache_dir=cache_dir)
    else:
        weights = locate_run(init.weights) or locate_checkpoint(init.weights, cache_dir=cache_dir)
    assert weights.path is not None
    if init.weights is not None and not weights.is_run:
        check_twin(weights.path, cfg.model.name)
    if weights.is_run:
        ancestry = read_ancestors(weights.path.parent)
    else:
        ancestry = find_ancestors(weights.path, weights.metadata, _find_output_dir(cfg))
    if init.source == "stats" or not ancestry:
        return WeightsSource(init.source, weights, ancestry)
    return WeightsSource("run" if weights.is_run else "checkpoint", weights, ancestry)


def _find_run_source(
    cfg: Config, cache_dir: Path, memory: Memory, descendants: tuple[Path, ...]
) -> WeightsSource:
    """Return a finished run's weights, or the plan that finishes an unfinished run."""
    assert cfg.init.run is not None  # check_config has refused it
    run_dir = find_run_dir(cfg.init.run, _find_output_dir(cfg))
    weights = locate_run(run_dir)
    if weights is not None:
        return WeightsSource("run", weights, read_ancestors(run_dir))
    if run_dir in descendants:
        circle = " -> ".join(folder.name for folder in (*descendants, run_dir))
        raise ConfigError(f"these runs start from each other: {circle}. Break the circle.")
    parent_cfg = load_run_config(run_dir, cfg)
    plan = make_plan(parent_cfg, memory, descendants=(*descendants, run_dir))
    if plan.run_dir == run_dir:
        return _make_run_source(plan)
    if plan.run_id == run_dir.name.rsplit("-", 1)[-1]:
        raise WeightsError(
            f"{run_dir} is not finished, and not where it would be: {plan.run_dir}. Move it there"
        )
    raise WeightsError(
        f"{run_dir} is not finished, and its configuration means another run now "
        f"({plan.run_id}): {describe_change(run_dir, plan)}. Finish it where it was begun, or "
        "train its configuration again and give that run."
    )


def describe_change(run_dir: Path, plan: Plan) -> str:
    """Return the first difference between a run's identity and a plan's, as text."""
    try:
        identity = read_plan(run_dir).identity
    except DataError:
        identity = {}
    values = (identity, json.loads(json.dumps(plan.identity)))
    before, now = (pd.json_normalize(dict(value)).to_dict("records")[0] for value in values)
    changes = [key for key in now | before if now.get(key) != before.get(key)]
    if not before or not changes:
        return "its data or tlcnn have changed since"
    key = changes[0]
    why = f" (device={plan.device.name} decides it)" if key == "train.precision" else ""
    return f"{key} was {before.get(key)} and is {now.get(key)}{why}"


def _make_run_source(parent: Plan) -> WeightsSource:
    path, run_id = parent.run_dir / RUN_WEIGHTS, parent.run_id
    weights = WeightsFile(path, f"run:{run_id}", parent.run_name, f"run {run_id}")
    record = AncestorRecord(
        run_id=parent.run_id,
        run_name=parent.run_name,
        cell_id=parent.cell_id,
        dataset=parent.config.dataset.name,
        source=parent.source,
        k=parent.treatment.k,
        j=parent.treatment.j,
        seed=parent.config.seed,
        manifest=parent.dataset.manifest,
    )
    nearest = Ancestor(record, parent.run_dir, images=parent.dataset)
    before = [replace(a, later=(parent.run_dir, *a.later)) for a in parent.ancestry]
    return WeightsSource("run", weights, (nearest, *before), parent)


def open_ancestor_images(ancestor: Ancestor, cache_dir: Path, memory: Memory) -> Dataset | None:
    """Return the images of an ancestor, or None where they are no longer there or have changed."""
    if ancestor.images is not None:
        return ancestor.images
    try:
        cfg = load_run_config(ancestor.folder, Config())
        images = recall_dataset(cfg.dataset, cache_dir, memory)
    except TlcnnError:
        return None
    return images if images.manifest == ancestor.record.manifest else None


def _list_sources(source: WeightsSource, images: Dataset) -> tuple[str, ...]:
    if source.kind == "stats" or not source.ancestry:
        return (source.kind,)
    nearest = source.ancestry[0].record
    is_self = nearest.manifest == images.manifest and nearest.source == ("random",)
    return ("self",) if is_self else (*nearest.source, nearest.dataset)
