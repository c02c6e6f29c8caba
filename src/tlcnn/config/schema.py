"""The schema behind every YAML: types, defaults, allowed values. `conf/` only holds values."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from tlcnn.config.hold_out import KEY as HOLD_OUT
from tlcnn.config.hold_out import parse_hold_out
from tlcnn.errors import CannotCreate, ConfigError, did_you_mean
from tlcnn.storage import make_dir

Part = Literal["identity", "place", "protocol"]
# What a key of the configuration is part of. Every field of the schema says it once.
#   identity  what is computed: it is hashed into the run's id, as given or resolved
#   place     where and how it is computed: devices, threads, paths, memory, progress
#   protocol  what the program may do and what it calls things: permissions, names, dry runs


_READS_WEIGHTS = ("imagenet", "checkpoint", "stats", "task")
_NEEDED = {  # source -> the key that it needs, and its value for a message
    "checkpoint": ("weights", "FILE"),
    "run": ("run", "ID or its folder"),
    "task": ("task", "the name of a dataset"),
}
_SYNONYMS = {"gpu": "cuda"}  # words of other programs, and the allowed word for each
EACH = "each"  # in a sweep: every unit of the cell's model, one run for each
EACH_UNIT = tuple(  # the words that stand for several runs
    f"{group}.{word}"
    for group in ("init", "freeze")
    for word in (f"through={EACH}", f"units={EACH}", f"units=all_but_{EACH}")
)
_EACH_VALUE = re.compile(rf"{re.escape(HOLD_OUT)}=([^:]+):{EACH}")
TRANSFERRED = "transferred"  # of freeze.through: as many units as init transfers


def setting(default: Any = MISSING, *, part: Part = "identity", **metadata: Any) -> Any:
    """Return a field of the schema; a default that is a type is called for a new value.

    Args:
        part: what the key is part of. Without it, a key is part of the identity, so that a key
            whose part was forgotten can never make two different runs share one id.
        metadata: `choices`, bounds, and `column`: the column of a table of runs that holds the
            resolved value, such as `k` for `init.through`; `names_cells`: cells that differ in it
            have different names, and none but its default is in a k x j grid.
    """
    metadata["part"] = part
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def choice(default: str, *alternatives: str, part: Part = "identity", **metadata: Any) -> Any:
    """Return a field of the schema that takes one of a few words."""
    return setting(default, part=part, choices=(default, *alternatives), **metadata)


def ranged(
    default: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float = -math.inf,
    part: Part = "identity",
) -> Any:
    """Return a field that takes a number from `low` to `high`, or larger than `above`."""
    return setting(default, part=part, low=low, high=high, above=above)


@dataclass
class DatasetCfg:
    """Which images, at which size, split how. `options` go to the reader named by `kind`."""

    kind: str = setting("")
    name: str = setting("", part="protocol", column="dataset")
    root: str | None = setting(None, part="place")
    options: dict[str, Any] = setting(dict)
    image_size: int = ranged(128, 16, 1024)
    fit: str = choice("crop", "squash", "pad")
    decode: str = choice("full", "scaled")
    normalize: str = choice("imagenet", "half")
    val_fraction: float = ranged(0.15, 0.01, 0.5)
    test_fraction: float = ranged(0.2, 0.01, 0.5)
    folds: int | None = ranged(None, 2, 100)
    fold: int = ranged(0, 0)
    split_seed: int = ranged(0, 0)
    split: str = choice("auto", "official", "grouped")
    train_images: int | None = ranged(None, 2)
    hold_out: str | None = setting(None)
    on_bad: str = choice("refuse", "skip")


@dataclass
class ModelCfg:
    """Which timm CNN, and how finely it is divided into units."""

    name: str = setting("resnet18", column="model")
    granularity: str = choice("stage", "native", "block", "layer")
    drop_rate: float = ranged(0.0, 0.0, 0.9)
    drop_path_rate: float = ranged(0.0, 0.0, 0.9)


@dataclass
class InitCfg:
    """Where weights come from, and through which unit.

    `run` is read by source run; `task`, `task_dataset`, `task_run`, `task_seed_offset` and
    `parent` by task; `self_seed` by self.
    `allow_unchecked` accepts weights of runs whose training images are unknown.
    `units` names the transferred units instead of `through`.
    """

    source: str = choice(
        "random", "imagenet", "checkpoint", "run", "task", "self", "stats", column="init"
    )
    through: Any = setting("all", column="k")
    units: Any = setting(None, names_cells=True)
    above: str = choice("fresh", "truncate", "stats", names_cells=True)
    head: bool = setting(False, names_cells=True)
    weights: str | None = setting(None)
    run: str | None = setting(None)
    task: str | None = setting(None)
    task_dataset: dict[str, Any] = setting(dict)
    task_run: dict[str, Any] = setting(dict)
    task_seed_offset: int = ranged(0, 0, 2**31 - 1)
    parent: str = choice("imagenet", "random")
    self_seed: int | None = ranged(None, 0, 2**31 - 1)
    allow_unchecked: bool = setting(False, part="protocol")


@dataclass
class FreezeCfg:
    """Which units stay a fixed function, and what their norm layers may do."""

    through: Any = setting("none", column="j")
    units: Any = setting(None, names_cells=True)
    bn: str = choice("frozen", "affine", "adapt", "batch", column="bn")
    allow_random: bool = setting(False, part="protocol")


@dataclass
class TrainCfg:
    """The recipe."""

    epochs: int = ranged(15, 1, 10_000)
    batch_size: int = ranged(64, 2, 65_536)
    optimizer: str = choice("adamw", "sgd")
    lr: float = ranged(5e-4, above=0.0)
    weight_decay: float = ranged(0.05, 0.0)
    momentum: float = ranged(0.9, 0.0, 1.0)
    warmup_epochs: float = ranged(1.0, 0.0)
    final_lr_fraction: float = ranged(0.0, 0.0, 1.0)
    class_weights: str = choice("balanced", "none", "effective")
    effective_beta: float = ranged(0.999, 0.0, 0.999999)
    label_smoothing: float = ranged(0.0, 0.0, 0.9)
    clip_norm: float | None = ranged(1.0, above=0.0)
    augment: str = choice("standard", "none", "upright", "light", "strong")
    augment_ranges: dict[str, Any] = setting(dict)
    views: int | None = ranged(None, 1)
    precision: str = choice("auto", "bf16", "fp32")
    channels_last: bool = setting(True)
    features: str = choice("exact", "close")
    compile: bool = setting(False)
    ema_decay: float | None = ranged(None, high=0.999999, above=0.0)
    patience: int | None = ranged(None, 1)
    head_lr: float | None = ranged(None, above=0.0)
    layer_decay: float = ranged(1.0, high=1.0, above=0.0)
    unit_lr: dict[str, Any] = setting(dict)
    accumulate: int = ranged(1, 1, 1024)
    anchor: float = ranged(0.0, 0.0)
    mixup: float = ranged(0.0, 0.0, 100.0)
    cutmix: float = ranged(0.0, 0.0, 100.0)
    erase: float = ranged(0.0, 0.0, 1.0)
    sampling: str = choice("natural", "balanced")
    loss: str = choice("cross_entropy", "focal")
    focal_gamma: float = ranged(2.0, 0.0, 100.0)
    logit_adjustment: float = ranged(0.0, 0.0, 100.0)
    select: str = choice(
        "balanced_accuracy", "accuracy", "macro_auroc", "macro_f1", "nll", "brier"
    )
    schedule: str = choice("together", "head_first", "gradual")
    head_epochs: int = ranged(5, 1, 10_000)
    unfreeze_every: int = ranged(1, 1, 10_000)


@dataclass
class Config:
    """The configuration of a run."""

    dataset: DatasetCfg = setting(DatasetCfg)
    model: ModelCfg = setting(ModelCfg)
    init: InitCfg = setting(InitCfg)
    freeze: FreezeCfg = setting(FreezeCfg)
    train: TrainCfg = setting(TrainCfg)
    seed: int = ranged(0, 0, 2**31 - 1)
    device: str = choice("auto", "cpu", "cuda", "mps", part="place")
    threads: int | None = ranged(None, 1, part="place")
    workers: int | None = ranged(None, 1, part="place")
    eval_batch_size: int = ranged(256, 2, part="place")
    cuda_graph: bool = setting(True, part="place")
    checkpoint_every_s: float = ranged(300.0, 0.0, part="place")
    on_locked: str = choice("wait", "fail", part="place")
    until_epoch: int | None = ranged(None, 1, part="place")
    fail_fast: bool = setting(False, part="protocol")
    leaks: str = choice("warn", "refuse", part="protocol")
    progress: bool = setting(True, part="place")
    logger: str = choice("none", "tensorboard", part="place")
    reuse: str = choice("auto", "none", part="place")
    reuse_disk_gib: float = ranged(20.0, 0.0, part="place")
    reuse_memory_gib: float = ranged(2.0, 0.0, part="place")
    study: str | None = setting(None, part="protocol")
    output_dir: str = setting("outputs", part="place")
    cache_dir: str | None = setting(None, part="place")
    dry_run: bool = setting(False, part="protocol")


def find_conf_dir() -> Path:
    """Return the folder of YAML files: in an installed wheel, or beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    folders = (package / "conf", package.parents[1] / "conf")
    return next((folder for folder in folders if (folder / "config.yaml").is_file()), folders[0])


def find_cache_dir(cache_dir: str | None) -> Path:
    """Return the cache folder: as given, else `$TLCNN_CACHE`, else the user's cache folder."""
    import platformdirs

    chosen = cache_dir or os.environ.get("TLCNN_CACHE") or platformdirs.user_cache_dir("tlcnn")
    return Path(chosen).expanduser().absolute()


def make_cache_dir(cache_dir: str | None) -> Path:
    """Return the cache folder, made if missing. Raises CannotCreate."""
    try:
        return make_dir(find_cache_dir(cache_dir))
    except CannotCreate as error:
        hint = "Set TLCNN_CACHE or cache_dir to a folder that can be written."
        raise CannotCreate(f"{error}. {hint}") from error


def list_keys(part: Part | None = None) -> list[str]:
    """Return the keys that can be set, dotted, all or those of one part.

    Example:
        >>> list_keys("place")[:3]
        ['dataset.root', 'device', 'threads']
    """
    parts = {key: item.metadata.get("part", "identity") for key, item in iterate_fields(Config)}
    return [key for key in parts if part in (None, parts[key])]


def list_local_keys() -> list[str]:
    """Return the keys that say where and how a command trains, but not which runs it may train.

    They are the keys of place and of protocol, without permissions (`allow_...`) and without keys
    that a table of runs shows, such as `dataset.name`.
    """
    return [
        key
        for key, item in iterate_fields(Config)
        if item.metadata.get("part", "identity") != "identity"
        and not item.name.startswith("allow_")
        and "column" not in item.metadata
    ]


def list_cell_columns() -> dict[str, str]:
    """Return the column of a table of runs that a key is resolved to, as in `init.through: k`."""
    items = dict(iterate_fields(Config))
    return {k: i.metadata["column"] for k, i in items.items() if "column" in i.metadata}


def list_naming_keys() -> dict[str, Any]:
    """Return the keys beside those of columns that name a cell, with their defaults."""
    items = dict(iterate_fields(Config))
    return {k: i.default for k, i in items.items() if i.metadata.get("names_cells")}


def iterate_fields(node: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Yield the dotted key and the field of every setting of a node, a type or a value."""
    for item in fields(node):
        inner = getattr(node, item.name, item.default_factory)  # a class has no such attribute
        if is_dataclass(inner):
            yield from iterate_fields(inner, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item


def check_config(cfg: Config) -> None:
    """Refuse words and numbers outside what the schema allows. Raises ConfigError."""
    for key, item in iterate_fields(cfg):
        value, rules = attrgetter(key)(cfg), item.metadata
        if "choices" in rules:
            check_word(key, value, rules["choices"])
        elif "low" not in rules or value is None:
            continue
        elif not (rules["low"] <= value <= rules["high"] and value > rules["above"]):  # NaN, too
            bounds = _describe_bounds(rules).strip()
            raise ConfigError(f"{key}={value} is not allowed: it must be {bounds}.")
    _check_combinations(cfg)


def is_each(word: str) -> bool:
    """Return whether a word of a sweep stands for several runs, one for each unit or value.

    Example:
        >>> is_each("init.through=each"), is_each("dataset.hold_out=site:each"), is_each("seed=0")
        (True, True, False)
    """
    return word.lstrip("+") in EACH_UNIT or find_each_column(word) != ""


def find_each_column(word: str) -> str:
    """Return the column of which a word of a sweep holds out each value in turn, or ""."""
    match = _EACH_VALUE.fullmatch(word.lstrip("+"))
    return match[1] if match else ""


def check_word(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of the allowed words."""
    if value in allowed:
        return
    hint = did_you_mean(_SYNONYMS.get(value, value), allowed)
    if "cuda" in allowed and (number := re.fullmatch(r"(?:cuda|gpu)?[:_ ]?(\d+)", value)):
        place = f"CUDA_VISIBLE_DEVICES={number[1]} in front of the command"
        hint = f" Write {place}, and {key}=cuda in it"
    raise ConfigError(f"{key}={value} is not allowed.{hint}\nAllowed: {', '.join(allowed)}")


def _check_combinations(cfg: Config) -> None:
    """Refuse values that are allowed alone and make no sense together."""
    data, train = cfg.dataset, cfg.train
    fold, folds = data.fold, data.folds
    if folds is None and fold:
        raise ConfigError(f"dataset.fold={fold} needs dataset.folds, the number of folds.")
    if folds is not None and fold >= folds:
        raise ConfigError(f"dataset.fold={fold}: {folds} folds are 0 to {folds - 1}.")
    if data.hold_out is not None:
        _check_hold_out(data)
    test_fraction = data.test_fraction if folds is None else 1 / folds
    if data.val_fraction + test_fraction >= 1:
        raise ConfigError(
            f"dataset.val_fraction={data.val_fraction} and a test set of {test_fraction:.3g} "
            "leave nothing to train on."
        )
    if train.warmup_epochs > train.epochs:
        raise ConfigError(
            f"train.warmup_epochs={train.warmup_epochs:g} is longer than "
            f"train.epochs={train.epochs}. Write train.warmup_epochs={train.epochs / 2:g}, or "
            "train longer."
        )
    if not data.kind or not data.name:
        raise ConfigError(
            "dataset.kind and dataset.name must be set in conf/dataset/NAME.yaml: the reader of "
            "the images, and the name of the dataset in records and tables."
        )
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", data.name):
        raise ConfigError(
            f"dataset.name={data.name} names folders: use letters, digits, '_', '-' and '.' only."
        )
    for group, node, default in (("init", cfg.init, "all"), ("freeze", cfg.freeze, "none")):
        if node.units is not None and node.through != default:
            raise ConfigError(
                f"{group}.through={node.through} and {group}.units={node.units} both say which "
                "units: give one of them."
            )
    init = cfg.init
    needed, example = _NEEDED.get(init.source, ("source", ""))
    if getattr(init, needed) is None:
        raise ConfigError(f"init={init.source} does not say which: add init.{needed}={example}")
    if init.weights is not None and init.source not in _READS_WEIGHTS:
        raise ConfigError(
            f"init={init.source} does not read init.weights={init.weights}. Use init=checkpoint, "
            "or init=imagenet; init.through=none is the random run of either."
        )


def _check_hold_out(data: DatasetCfg) -> None:
    """Refuse a held-out value that cannot be read, or beside another rule for test images."""
    hold_out = parse_hold_out(str(data.hold_out))
    if EACH in hold_out.values:
        raise ConfigError(
            f"{HOLD_OUT}={hold_out}: each is every value in turn, one run for each: add -m to run "
            "all of them."
        )
    for key, value in (("folds", data.folds), ("split", data.split)):
        if value not in (None, "auto", "grouped"):
            raise ConfigError(
                f"{HOLD_OUT}={hold_out} and dataset.{key}={value} both say which images are "
                "tested: give one of them."
            )


def describe_type(key: str) -> str:
    """Return what a key takes as text: `one of adamw, sgd`, `an integer from 1 to 10000`."""
    node: Any = Config
    *parents, name = key.split(".")
    for parent in parents:
        node = get_type_hints(node)[parent]
    rules, hint = dict(iterate_fields(Config))[key].metadata, get_type_hints(node)[name]
    if "choices" in rules:
        return "one of " + ", ".join(rules["choices"])
    is_optional = type(None) in get_args(hint)
    kind = get_args(hint)[0] if is_optional else hint
    texts = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    text = texts.get(kind, "a value") + _describe_bounds(rules)
    return text + (" or null" if is_optional else "")


def _describe_bounds(rules: Mapping[str, Any]) -> str:
    names = {"low": "at least", "above": "above", "high": "at most"}
    bounds = {name: rules[name] for name in names if math.isfinite(rules.get(name, math.inf))}
    if bounds.keys() == {"low", "high"}:
        return f" from {bounds['low']:.10g} to {bounds['high']:.10g}"
    text = " and ".join(f"{names[name]} {bound:.10g}" for name, bound in bounds.items())
    return f" {text}" if text else ""
