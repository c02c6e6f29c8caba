"""What makes two runs the same run, and what they are called."""

import re
from collections.abc import Sequence
from dataclasses import MISSING
from operator import attrgetter
from typing import Any

from tlcnn.config.hold_out import HoldOut, parse_hold_out
from tlcnn.config.schema import Config, iterate_fields
from tlcnn.data.cache import FILTER, stored_size
from tlcnn.data.dataset import Dataset
from tlcnn.data.hold_out import normalize_hold_out
from tlcnn.data.images import FULL_BITS
from tlcnn.data.policy import NORMALIZE, describe_views, find_policy, name_policy
from tlcnn.model.unit_map import UnitMap
from tlcnn.plan.ancestry import Ancestor
from tlcnn.plan.schedule import resolve_schedule
from tlcnn.plan.train_settings import find_unit_factors, list_idle
from tlcnn.plan.treatment import Treatment, is_prefix, name_units
from tlcnn.storage import digest_of

PLAN_VERSION = 1


# Keys that every identity holds, as they are or resolved. A key that the schema gets later is not
# added here, unless the id of the source run holds it, as it does those of `init.task...`: the
# identity then holds it only where it differs from its default, and so the ids of all earlier runs
# stay as they are.
FIRST_KEYS = frozenset(
    f"{node}.{key}" if node else key
    for node, keys in {
        "": "seed",
        "dataset": "kind options image_size fit decode normalize val_fraction test_fraction folds "
        "fold split_seed split on_bad",
        "model": "name granularity drop_rate drop_path_rate",
        "init": "source through weights run task task_dataset task_run task_seed_offset parent "
        "self_seed",
        "freeze": "through bn",
        "train": "epochs batch_size optimizer lr weight_decay momentum warmup_epochs "
        "final_lr_fraction class_weights effective_beta label_smoothing clip_norm augment views "
        "precision channels_last features compile ema_decay patience",
    }.items()
    for key in keys.split()
)
# Later keys of which the identity holds what they are resolved to, where that is not the default.
RESOLVED_KEYS = frozenset(
    {"dataset.hold_out"}
    | {"init.units", "init.above", "init.head", "freeze.units"}
    | {"train.schedule", "train.head_epochs", "train.unfreeze_every"}
    | {"train.layer_decay", "train.unit_lr", "train.erase", "train.augment_ranges"}
)


def make_identity(
    cfg: Config, unit_map: UnitMap, cell: Treatment, images: Dataset, precision: str
) -> dict[str, Any]:
    """Return what makes two runs the same run: resolved values, never overrides or paths."""
    task, decode, held = images.index.task, cfg.dataset.decode, _read_hold_out(cfg)
    identity: dict[str, Any] = {
        "version": PLAN_VERSION,
        "dataset": {
            "manifest": images.manifest,
            **({"task": task} if task == "multi-label" else {}),  # others have one softmax
            **({} if held is None else {"hold_out": str(held)}),
            "image_size": cfg.dataset.image_size,
            "stored_size": stored_size(cfg.dataset.image_size),
            "fit": cfg.dataset.fit,
            "filter": FILTER,
            **({} if decode == "full" else {"decode": decode}),
            **({} if images.bits == FULL_BITS else {"bits": images.bits}),
            "normalize": NORMALIZE[cfg.dataset.normalize],
        },
        "model": {
            "name": cfg.model.name.split(".")[0],  # the tag is in the digest of the weights
            "units": unit_map.digest(),
            "drop_rate": cfg.model.drop_rate,
            "drop_path_rate": cfg.model.drop_path_rate,
        },
        "init": {
            "source": cell.source,
            "k": cell.k,
            **({} if is_prefix(cell.transferred) else {"units": list(cell.transferred)}),
            **({} if cell.above == "fresh" else {"above": cell.above}),
            **({"head": True} if cell.has_head else {}),
            **({} if cell.weights is None else {"digest": cell.weights.digest}),
        },
        "freeze": {
            "j": cell.j,
            "bn": cfg.freeze.bn if cell.j else "frozen",
            **({} if is_prefix(cell.frozen) else {"units": list(cell.frozen)}),
        },
        "train": {
            **make_recipe(cfg, precision, cell, find_obstacle(cfg, unit_map, cell)),
            **resolve_schedule(cfg, cell, len(unit_map)),
        },
        "views": describe_views(
            find_policy(cfg.train.augment, cfg.train.erase, cfg.train.augment_ranges)
        ),
        "seed": cfg.seed,
    }
    resolved = RESOLVED_KEYS | {f"train.{key}" for key in list_idle(cfg, cell)}
    factors = find_unit_factors(cfg.train, unit_map)
    if cfg.freeze.bn != "affine":  # else frozen units have norms that are trained
        factors = [1.0 if n in cell.frozen else f for n, f in enumerate(factors, start=1)]
    if any(factor != 1 for factor in factors):
        identity["train"]["unit_factors"] = factors
    for key, item in iterate_fields(cfg):
        if key in FIRST_KEYS | resolved or item.metadata.get("part", "identity") != "identity":
            continue
        value, make = attrgetter(key)(cfg), item.default_factory
        if value != (item.default if make is MISSING else make()):
            *nodes, name = key.split(".")
            (identity[nodes[0]] if nodes else identity)[name] = value
    return identity


def _read_hold_out(cfg: Config) -> HoldOut | None:
    """Return what is held out; a run is the same however its numbers are spelled."""
    text = cfg.dataset.hold_out
    return None if text is None else normalize_hold_out(parse_hold_out(text))


def find_obstacle(cfg: Config, unit_map: UnitMap, cell: Treatment) -> str | None:
    """Return why the frozen units' outputs cannot be stored, on whatever device, or None."""
    if cell.depth == 0:
        return (
            f"the first unit ({unit_map.names[0]}) is trained" if cell.j else "nothing is frozen"
        )
    if cfg.train.mixup or cfg.train.cutmix:
        return "train.mixup and train.cutmix mix images in front of the frozen units"
    if cfg.freeze.bn != "frozen":
        return f"freeze.bn={cfg.freeze.bn} lets the frozen units change"
    reason = unit_map.units[cell.depth - 1].cut_obstacle
    name = unit_map.names[cell.depth - 1]
    return None if reason is None else f"no single tensor leaves {name}: {reason}"


def make_recipe(
    cfg: Config, precision: str, cell: Treatment, obstacle: str | None
) -> dict[str, Any]:
    """Return the part of the recipe that changes numbers; `obstacle` is of `find_obstacle`."""
    train = cfg.train
    recipe = {key: value for key, value in vars(train).items() if f"train.{key}" in FIRST_KEYS}
    recipe["precision"] = precision
    recipe["augment"] = name_policy(find_policy(train.augment, ranges=train.augment_ranges))
    idle = list_idle(cfg, cell)
    if train.features != "close" or obstacle is not None:
        idle.add("features")
    return {key: value for key, value in recipe.items() if key not in idle}


def make_name(cfg: Config, cell: Treatment, source: Sequence[str]) -> str:
    """Return a run's readable name: `ham10000-resnet18-imagenet-k3-j2-s0`."""
    model = cfg.model.name.split(".")[0]
    k, j = name_units(cell.transferred), name_units(cell.frozen)
    held = _read_hold_out(cfg)
    if held is not None:
        tested = re.sub(r"[^\w.]+", "_", "_".join(held.values))
        j += f"-test_{tested[:40]}"
    k += f"-{cell.above}" * (cell.above != "fresh") + "-head" * cell.has_head
    return f"{cfg.dataset.name}-{model}-{'-'.join(source)}-k{k}-j{j}-s{cfg.seed}"


def make_cell_id(
    identity: dict[str, Any],
    ancestry: Sequence[Ancestor],
    source: Sequence[str],
    seed_offset: int = 0,
) -> str:
    """Return what runs that are equal but for the seed share; parents have seeds, too.

    A network of the same seed as its own source shares its draws, so `self` with another distance
    between the seeds is another cell, and so is a task with another `init.task_seed_offset`.
    """
    init = dict(identity["init"])
    if ancestry:
        is_self = source == ("self",)
        distance = ancestry[0].record.seed - identity["seed"] if is_self else seed_offset
        init["digest"] = f"cell:{ancestry[0].record.cell_id}{distance:+d}"
    return digest_of({**identity, "init": init, "seed": None}, 12)
