"""Keys of `train` that depend on units, source or task: resolved and checked.

No torch.
"""

from itertools import accumulate, repeat

from tlcnn.config.schema import Config, TrainCfg
from tlcnn.data.dataset import Dataset
from tlcnn.data.policy import Policy, find_policy
from tlcnn.errors import ConfigError
from tlcnn.model.unit_map import UnitMap
from tlcnn.plan.treatment import Treatment


def find_unit_factors(train: TrainCfg, unit_map: UnitMap) -> list[float]:
    """Return what the learning rate of each unit is multiplied by, units 1..L.

    `layer_decay` counts once in unit L, twice in unit L-1, and so on, as in ELECTRA (Clark et al.
    2020) and BEiT (Bao et al. 2022). `unit_lr` multiplies the factors of the units it names.

    Raises:
        ConfigError: `unit_lr` names no unit, a unit twice, or has a factor that is not above 0.
    """
    decays = list(accumulate(repeat(train.layer_decay, len(unit_map)), lambda a, b: a * b))
    factors, names = decays[::-1], dict[int, str]()
    for name, factor in train.unit_lr.items():
        if str(name) == "head":
            raise ConfigError("train.unit_lr.head: the rate of the head is train.head_lr=RATE.")
        number = unit_map.count(name)
        if number == 0 or str(name) == "all":
            raise ConfigError(
                f"train.unit_lr.{name} is not one unit. Units: {', '.join(unit_map.names)}"
            )
        if number in names:
            raise ConfigError(
                f"train.unit_lr has {names[number]} and {name}, which are both unit "
                f"{unit_map.names[number - 1]}. Give it one factor."
            )
        is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not is_number or not 0 < factor < float("inf"):
            raise ConfigError(
                f"train.unit_lr.{name}={factor} is not allowed: it must be a number above 0. "
                "freeze.through freezes units."
            )
        names[number] = str(name)
        factors[number - 1] *= factor
    return factors


def find_tensor_factors(train: TrainCfg, unit_map: UnitMap) -> dict[str, float]:
    """Return what the learning rate is multiplied by, by tensor, where this is not 1."""
    factors = {
        name: factor
        for unit, factor in zip(unit_map.units, find_unit_factors(train, unit_map), strict=True)
        for name in unit.tensors
    }
    if train.head_lr is not None:
        factors |= dict.fromkeys(unit_map.head, train.head_lr / train.lr)
    return {name: factor for name, factor in factors.items() if factor != 1}


def list_idle(cfg: Config, cell: Treatment) -> set[str]:
    """Return the keys of `TrainCfg` that change nothing in a run, because of its other values."""
    train = cfg.train
    is_balanced = train.sampling == "balanced"  # all classes are then shown equally often
    idle = {
        "momentum": train.optimizer != "sgd",
        "effective_beta": train.class_weights != "effective" or is_balanced,
        "class_weights": is_balanced,
        "logit_adjustment": is_balanced,
        "views": find_policy(train.augment, train.erase, train.augment_ranges) == Policy(),
        "head_lr": train.head_lr == train.lr,
        "anchor": {*cell.transferred} <= {*cell.frozen}
        and not (cell.k and cfg.freeze.bn == "affine"),
        "loss": train.focal_gamma == 0,
        "focal_gamma": train.focal_gamma == 0 or train.loss != "focal",
    }
    return {key for key, is_idle in idle.items() if is_idle}


def check_train_settings(train: TrainCfg, unit_map: UnitMap, images: Dataset) -> None:
    """Refuse keys of `train` that these units or images do not allow. Raises ConfigError."""
    find_unit_factors(train, unit_map)
    if images.index.task == "multi-label":
        refused = {
            "sampling=balanced": train.sampling == "balanced",
            f"logit_adjustment={train.logit_adjustment:g}": train.logit_adjustment > 0,
        }
        for word in (word for word, is_set in refused.items() if is_set):
            raise ConfigError(
                f"train.{word} is not possible in a multi-label task, where an image has no one "
                "class. Use train.class_weights or train.loss=focal."
            )
    n_train = int((images.splits == "train").sum())
    if train.accumulate > 1 and n_train < 2 * train.accumulate:
        raise ConfigError(
            f"train.accumulate={train.accumulate}: {n_train} training images are fewer than two "
            f"in each batch. Allowed: up to {n_train // 2}."
        )
