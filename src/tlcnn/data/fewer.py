"""Fewer training images: a part of the training split, for studies of how much data is needed."""

from collections.abc import Sequence

import numpy as np

from tlcnn.data.index import UNUSED
from tlcnn.data.splits import count_groups
from tlcnn.errors import ConfigError


def keep_train_images(
    labels: Sequence[int] | np.ndarray,
    groups: Sequence[str] | np.ndarray,
    splits: np.ndarray,
    n_images: int,
    *,
    seed: int,
    n_classes: int,
) -> np.ndarray:
    """Return splits in which `n_images` images are for training, and the others are unused.

    Validation and test images stay as they are. Groups are kept whole, so there may be fewer than
    `n_images` images, by less than the size of one group. Each class keeps its share, as far as
    whole groups allow. With the same seed, a smaller number of images is a part of a larger one.

    Args:
        splits: (N,) array of str: "train", "val" or "test".

    Returns:
        (N,) array of str: "train", "val", "test" or "unused".

    Raises:
        ConfigError: the training split has fewer images, or a group has more.

    Example:
        >>> splits = np.array(["train", "train", "test", "train", "train"])
        >>> labels, groups = [0, 0, 0, 1, 1], ["a", "b", "c", "d", "e"]
        >>> keep_train_images(labels, groups, splits, 2, seed=0, n_classes=2).tolist()
        ['train', 'unused', 'test', 'train', 'unused']
    """
    rows = np.flatnonzero(splits == "train")
    key = f"dataset.train_images={n_images}"
    if n_images > len(rows):
        raise ConfigError(
            f"{key}: the training split has {len(rows):,} images. Give at most so many, or leave "
            "the key out to use them all"
        )
    names = np.asarray(groups, dtype=object)[rows].astype(str).tolist()
    counts = count_groups(np.asarray(labels)[rows], names, n_classes, seed)
    chosen, n_chosen = set[str](), 0
    for group in _order_groups(counts):
        n_chosen += sum(counts[group])
        if n_chosen > n_images:
            break
        chosen.add(group)
    if not chosen:
        raise ConfigError(
            f"{key}: a group has {n_chosen:,} images, and groups are kept whole. Give a larger "
            "number"
        )
    kept = splits.astype(object)
    kept[[row for row, name in zip(rows, names, strict=True) if name not in chosen]] = UNUSED
    return kept


def _order_groups(counts: dict[str, list[int]]) -> list[str]:
    """Return groups so that the first ones have, at any number, the shares of all classes.

    A group belongs to the most frequent of its classes. Its place is the share of the images of
    that class which lie before its middle, in hash order.
    """
    classes = {group: int(np.argmax(row)) for group, row in counts.items()}
    totals, before = dict[int, int](), dict[int, int]()
    for group, row in counts.items():
        totals[classes[group]] = totals.get(classes[group], 0) + sum(row)
    places = {}
    for group, row in counts.items():
        label, size = classes[group], sum(row)
        places[group] = (before.get(label, 0) + size / 2) / totals[label]
        before[label] = before.get(label, 0) + size
    return sorted(counts, key=lambda group: places[group])  # stable: equals in hash order
