"""What makes two runs the same run, and what they are called."""

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass
from operator import attrgetter
from typing import Any

from tlcnn.config.schema import Config, TrainCfg, iterate_fields
from tlcnn.data.cache import FILTER, stored_size
from tlcnn.data.dataset import Dataset
from tlcnn.data.policy import NORMALIZE, describe_views, find_policy
from tlcnn.model.unit_map import UnitMap
from tlcnn.model.weights import WeightsFile
from tlcnn.plan.ancestry import Ancestor
from tlcnn.storage import digest_of

PLAN_VERSION = 1


@dataclass(frozen=True)
class Treatment:
    """Units 1..k come from the source, units 1..j stay a fixed function (0 <= j, k <= L).

    Attributes:
        source: random, imagenet, checkpoint, stats or run (another run, however it was named).
        weights: what units 1..k are read from; of a run that is not trained yet, where they will
            be.
    """

    k: int
    j: int
    source: str
    weights: WeightsFile | None


# Keys that every identity holds, as they are or resolved. A key that the schema gets later is not
# added here: the identity then holds it only where it differs from its default, and so the ids of
# all earlier runs stay as they are.
FIRST_KEYS = frozenset(
    f"{node}.{key}" if node else key
    for node, keys in {
        "": "seed",
        "dataset": "kind options image_size fit decode normalize val_fraction test_fraction folds "
        "fold split_seed split on_bad",
        "model": "name granularity drop_rate drop_path_rate",
        "init": "source through weights run task task_dataset parent self_seed",
        "freeze": "through bn",
        "train": "epochs batch_size optimizer lr weight_decay momentum warmup_epochs "
        "final_lr_fraction class_weights effective_beta label_smoothing clip_norm augment views "
        "precision channels_last features compile ema_decay patience",
    }.items()
    for key in keys.split()
)


def make_identity(
    cfg: Config, unit_map: UnitMap, cell: Treatment, images: Dataset, precision: str
) -> dict[str, Any]:
    """Return what makes two runs the same run: resolved values, never overrides or paths."""
    task, decode = images.index.task, cfg.dataset.decode
    identity: dict[str, Any] = {
        "version": PLAN_VERSION,
        "dataset": {
            "manifest": images.manifest,
            **({"task": task} if task == "multi-label" else {}),  # others have one softmax
            "image_size": cfg.dataset.image_size,
            "stored_size": stored_size(cfg.dataset.image_size),
            "fit": cfg.dataset.fit,
            "filter": FILTER,
            **({} if decode == "full" else {"decode": decode}),
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
            **({} if cell.weights is None else {"digest": cell.weights.digest}),
        },
        "freeze": {"j": cell.j, "bn": cfg.freeze.bn if cell.j else "frozen"},
        "train": make_recipe(cfg.train, precision, is_close=reads_close(cfg, unit_map, cell.j)),
        "views": describe_views(find_policy(cfg.train.augment)),
        "seed": cfg.seed,
    }
    for key, value in _list_later_values(cfg):
        *nodes, name = key.split(".")
        (identity[nodes[0]] if nodes else identity)[name] = value
    return identity


def _list_later_values(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Yield the keys that are not among the first and the values that are not their default."""
    for key, item in iterate_fields(cfg):
        if key in FIRST_KEYS or item.metadata.get("part", "identity") != "identity":
            continue
        value = attrgetter(key)(cfg)
        make = item.default_factory
        default = item.default if make is MISSING else make()
        if value != default:
            yield key, value


def find_obstacle(cfg: Config, unit_map: UnitMap, n_frozen: int) -> str | None:
    """Return why the frozen units' outputs cannot be stored, on whatever device, or None."""
    if n_frozen == 0:
        return "nothing is frozen"
    if cfg.freeze.bn != "frozen":
        return f"freeze.bn={cfg.freeze.bn} lets the frozen units change"
    reason = unit_map.units[n_frozen - 1].cut_obstacle
    name = unit_map.names[n_frozen - 1]
    return None if reason is None else f"no single tensor leaves {name}: {reason}"


def reads_close(cfg: Config, unit_map: UnitMap, n_frozen: int) -> bool:
    """Return whether a run may read stored outputs that are close to its network's own."""
    return cfg.train.features == "close" and find_obstacle(cfg, unit_map, n_frozen) is None


def make_recipe(train: TrainCfg, precision: str, *, is_close: bool = False) -> dict[str, Any]:
    """Return the part of the recipe that changes numbers.

    Args:
        is_close: whether `train.features=close` does, in this run.
    """
    recipe = {key: value for key, value in vars(train).items() if f"train.{key}" in FIRST_KEYS}
    recipe["precision"] = precision
    unused = {
        "momentum": train.optimizer != "sgd",
        "effective_beta": train.class_weights != "effective",
        "views": train.augment == "none",
        "features": not is_close,
    }
    return {key: value for key, value in recipe.items() if not unused.get(key)}


def make_name(cfg: Config, cell: Treatment, label: str) -> str:
    model = cfg.model.name.split(".")[0]
    return f"{cfg.dataset.name}-{model}-{label}-k{cell.k}-j{cell.j}-s{cfg.seed}"


def make_cell_id(identity: dict[str, Any], ancestry: Sequence[Ancestor], label: str) -> str:
    """Return what runs that are equal but for the seed share; parents have seeds, too.

    A network of the same seed as its own source shares its draws, so `self` with another distance
    between the seeds is another cell.
    """
    init = dict(identity["init"])
    if ancestry:
        distance = ancestry[0].record.seed - identity["seed"] if label == "self" else 0
        init["digest"] = f"cell:{ancestry[0].record.cell_id}{distance:+d}"
    return digest_of({**identity, "init": init, "seed": None}, 12)
