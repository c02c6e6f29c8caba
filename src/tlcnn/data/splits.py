"""Splits: which images are for training, validation and test, by group and the same everywhere.

The code is our own, because a library's shuffling changes between its versions. Order comes from
a hash of (seed, group) and every comparison is between integers, so the result depends on labels,
groups, fractions and seed only: not on the order of rows, the platform or other metadata.

    rows -> groups (hash order) -> apportion(groups, targets) -> a part for each group -> rows

Promise, where every group has one class: in each part, each class has its ideal number of images
to within the size of that class's largest group, except where a part would have no image at all.
With folds it holds for the test part and the validation part, and for training to within two
such groups.
"""

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.data.apportion import apportion
from tlcnn.data.index import SPLITS, UNUSED
from tlcnn.errors import ConfigError, DataError, list_names
from tlcnn.storage import digest_of


def make_splits(
    labels: Sequence[int] | np.ndarray,
    groups: Sequence[str] | np.ndarray,
    *,
    val_fraction: float | Fraction,
    test_fraction: float | Fraction,
    folds: int | None = None,
    fold: int = 0,
    seed: int = 0,
    n_classes: int,
) -> np.ndarray:
    """Divide images into train, val and test, keeping groups whole.

    Stratified on class and on images per group. A class with too few groups for every part is
    first in train, then in test, then in val (see `list_split_warnings`).

    Args:
        val_fraction, test_fraction: parts of all N images; with folds, the latter is not used.
        folds: the number of test folds that partition the data, or None.
        fold: the number of the fold that is the test part.
        seed: decides which groups go where; fractions and folds are met with any seed.

    Returns:
        (N,) array of str: "train", "val" or "test".

    Raises:
        ConfigError: fractions or folds that cannot be.
        DataError: too few groups to fill every part.
    """
    _check_request(val_fraction, test_fraction, folds, fold)
    counts = count_groups(labels, groups, n_classes, seed)
    total = np.sum(list(counts.values()), axis=0, dtype=object)  # (K,)
    val = _exact(val_fraction)
    if folds is None:
        test = _exact(test_fraction)
        names = ("train", "test", "val")  # the order in which a rare class fills them
        parts = _divide(counts, names, [(1 - val - test) * total, test * total, val * total])
    elif folds > len(counts):
        raise ConfigError(f"dataset.folds={folds} is more than there are groups ({len(counts)})")
    else:
        targets = [Fraction(1, folds) * total] * folds
        parts = _divide(counts, range(folds), targets, ranked=False)
        rest = {group: counts[group] for group, part in parts.items() if part != fold}
        left = np.sum(list(rest.values()), axis=0, dtype=object)
        val_target = np.minimum(val * total, left)
        divided_rest = _divide(rest, ("train", "val"), [left - val_target, val_target])
        parts = dict.fromkeys(counts, "test") | divided_rest
    fractions = {"train": 1, "val": val_fraction, "test": test_fraction or folds}
    empty = [part for part, share in fractions.items() if share and part not in parts.values()]
    if empty:
        raise DataError(
            f"{len(parts)} groups are too few: no image is left for {list_names(empty)}. "
            "Groups are kept whole; add images, or set the fraction of that part to 0"
        )
    return np.array([parts[str(group)] for group in groups], dtype=object)


def _exact(fraction: float | Fraction) -> Fraction:
    # 0.15 is 3/20, not the nearest binary number
    return fraction if isinstance(fraction, Fraction) else Fraction(repr(float(fraction)))


def _check_request(
    val: float | Fraction, test: float | Fraction, folds: int | None, fold: int
) -> None:
    if folds is not None:
        if folds < 2:
            raise ConfigError(f"dataset.folds={folds}: at least 2, or null for one split")
        if not 0 <= fold < folds:
            raise ConfigError(f"dataset.fold={fold}: with {folds} folds it is 0 to {folds - 1}")
        test = 1 / folds
    for key, value in (("val_fraction", val), ("test_fraction", test)):
        if not 0 <= value < 1:
            raise ConfigError(f"dataset.{key}={value} is not allowed; give 0 <= {key} < 1")
    if val + test >= 1:
        raise ConfigError(
            f"validation ({val}) and test ({test:.4g}) leave nothing to train on; "
            "their sum must be below 1"
        )


def count_groups(
    labels: Sequence[int] | np.ndarray,
    groups: Sequence[str] | np.ndarray,
    n_classes: int,
    seed: int,
) -> dict[str, list[int]]:
    """Return the images of each class in each group, in the order of hash(seed, group)."""
    counts: dict[str, list[int]] = {}
    for label, group in zip(labels, groups, strict=True):
        assert 0 <= label < n_classes, f"label {label} of {n_classes} classes"
        counts.setdefault(str(group), [0] * n_classes)[int(label)] += 1

    def compute_hash(group: str) -> bytes:
        return hashlib.sha256(f"{seed}:{group}".encode("utf-8", "surrogatepass")).digest()

    return {group: counts[group] for group in sorted(counts, key=compute_hash)}


def _divide(
    counts: dict[str, list[int]],
    names: Sequence[Any],
    targets: list[np.ndarray],
    *,
    ranked: bool = True,
) -> dict[str, Any]:
    """Return the name of the part of each group."""
    exact = [[Fraction(value) for value in row] for row in targets]
    chosen = apportion(list(counts.values()), exact, ranked=ranked)
    return {group: names[part] for group, part in zip(counts, chosen, strict=True)}


def choose_splits(
    table: pd.DataFrame,
    *,
    n_classes: int,
    mode: str,
    val_fraction: float,
    test_fraction: float,
    folds: int | None = None,
    fold: int = 0,
    seed: int = 0,
) -> np.ndarray:
    """Return the splits of an index's table, (N,) str.

    Args:
        table: a table with `label`, `group` and `split`.
        mode: "official" (the dataset's own), "grouped" (ours), or "auto": the dataset's own where
            it has one and no folds are asked for. Without an official validation split,
            `val_fraction` of all images is cut from the official training split.

    Raises:
        ConfigError: an official split that does not exist, lacks train or test, or is asked for
            with folds.
        DataError: too few groups.
    """
    if mode == "official" and folds is not None:
        raise ConfigError("dataset.folds needs dataset.split=grouped: an official split is one")
    labels, groups = table["label"].to_numpy(), table["group"].to_numpy()
    divide = partial(make_splits, seed=seed, n_classes=n_classes)
    official = table["split"].to_numpy(dtype=object).copy()
    if mode == "grouped" or folds is not None or (mode == "auto" and (official == "").all()):
        divide = partial(divide, val_fraction=val_fraction, test_fraction=test_fraction)
        return divide(labels, groups, folds=folds, fold=fold)
    if (official == "").any() or not {"train", "test"} <= set(official):
        if set(official) == {"train", "val"}:
            raise ConfigError(
                "the dataset has the splits train and val and no test. "
                '"dataset.options.splits={train: train, test: val}" tests on val and cuts a new '
                "val from train; dataset.split=grouped splits all images anew"
            )
        what = "no official split" if (official == "").all() else "an incomplete official split"
        raise ConfigError(f"the dataset has {what}; use dataset.split=grouped")
    if (official == "val").any() or val_fraction == 0:
        return official
    train = np.flatnonzero(official == "train")
    share = _exact(val_fraction) * len(table) / len(train)
    if share >= 1:
        raise ConfigError(
            f"dataset.val_fraction={val_fraction} of {len(table):,} images is not less than the "
            f"official training split ({len(train):,})"
        )
    official[train] = divide(labels[train], groups[train], val_fraction=share, test_fraction=0)
    return official


def find_shared_groups(
    groups: Sequence[str] | np.ndarray, splits: Sequence[str] | np.ndarray
) -> dict[str, tuple[str, ...]]:
    """Return the groups that are in more than one split, and in which.

    Example:
        >>> find_shared_groups(["a", "a", "b"], ["train", "test", "test"])
        {'a': ('test', 'train')}
    """
    places = pd.DataFrame({"group": groups, "split": splits}, dtype=object).map(str)
    places = places.drop_duplicates()
    shared = places[places.duplicated("group", keep=False)].groupby("group")["split"]
    return {str(group): tuple(sorted(group_splits)) for group, group_splits in shared}


def check_splits(groups: Sequence[str] | np.ndarray, splits: Sequence[str] | np.ndarray) -> None:
    """Raise DataError when a group is in two splits, or a split has another name."""
    strange = sorted(set(map(str, splits)) - {*SPLITS, UNUSED})
    if strange:
        raise DataError(f"unknown splits {list_names(strange)}; allowed: {list_names(SPLITS)}")
    shared = find_shared_groups(groups, splits)
    leaking = [f"{group} ({', '.join(parts)})" for group, parts in shared.items()]
    if leaking:
        raise DataError(
            f"{len(leaking):,} groups are in more than one split: {list_names(leaking)}. Test "
            "scores would count images that training has seen; use dataset.split=grouped"
        )


def compute_split_counts(
    labels: Sequence[int] | np.ndarray, splits: Sequence[str] | np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """Return the number of images, one row a class, one column a split.

    Labels are (N,), or (N, K) of 0 and 1 where an image can be of several classes. A column of
    unused images is there if there are any.
    """
    values, parts = np.asarray(labels), np.asarray(splits, dtype=object)
    row, label = np.nonzero(values) if values.ndim == 2 else (np.arange(len(values)), values)
    names = [*SPLITS, UNUSED] if (parts == UNUSED).any() else SPLITS
    counts = {
        split: np.bincount(label[parts[row] == split], minlength=len(classes)) for split in names
    }
    return pd.DataFrame(counts, index=list(classes))


def list_split_warnings(
    labels: Sequence[int] | np.ndarray, splits: Sequence[str] | np.ndarray, classes: Sequence[str]
) -> list[str]:
    """Return one sentence for each split that lacks classes (labels as `compute_split_counts`)."""
    counts = compute_split_counts(labels, splits, classes)
    present = [split for split in SPLITS if split in set(splits)]
    absent = {split: counts.index[counts[split] == 0].tolist() for split in present}
    return [
        f"{split} has no image of {len(names)} of {len(classes)} classes ({list_names(names)}): "
        "their scores there do not exist"
        for split, names in absent.items()
        if names
    ]


def manifest_digest(
    table: pd.DataFrame,
    classes: Sequence[str],
    splits: Sequence[str] | np.ndarray,
    digests: Sequence[str],
    targets: np.ndarray | None = None,
) -> str:
    """Return the sha256 of the classes in order, and of who is where.

    Who is where: sorted (split, image id, class, group, content digest). With `targets`, (N, K)
    of 0 and 1, these stand in the place of the class.

    Equal on every platform and run, and for every order of the rows.
    """
    if targets is None:
        names = [classes[label] for label in table["label"]]
    else:
        names = ["".join(map(str, row)) for row in targets.tolist()]
    columns = (splits, table["image_id"], names, table["group"], digests)
    rows = sorted([str(value) for value in row] for row in zip(*columns, strict=True))
    return digest_of([list(classes), rows])
