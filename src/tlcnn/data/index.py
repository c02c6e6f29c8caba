"""The index: a table of images with labels and groups, and a way to load each of them."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

SPLITS = ("train", "val", "test")
UNUSED = "unused"  # training images that dataset.train_images leaves out
TASKS = ("binary", "multi-class", "ordinal", "multi-label")
NOTHING = "no finding"  # the stratum of images without any class, where several can hold


class Images(Protocol):
    """N images that can be loaded by position. Implementations can be pickled."""

    def __len__(self) -> int: ...

    def signature(self) -> Any:
        """Return a cheap JSON value that changes whenever any image may have changed."""
        ...

    def load_digests(self) -> list[str]:
        """Return a hex digest of each image's content, in order."""
        ...

    def load(self, position: int) -> np.ndarray:
        """Return one decoded image, (H, W, 3) uint8 RGB. Raises DataError naming the image."""
        ...


@dataclass(frozen=True)
class Index:
    """What a dataset is: its classes, one row an image, and the images in the same order.

    Attributes:
        name: the dataset's name in records and tables.
        classes: K class names; a label is a position in it (and in `strata`).
        table: N rows with `image_id` (unique str), `label` (int64), `group` (str; a group may not
            straddle splits), `split` ("train", "val", "test", or "" where the dataset has no
            official one) and any further metadata columns.
        images: the N images, in the order of the rows.
        task: one of `TASKS`. Ordinal classes are levels in ascending order.
        targets: (N, K) uint8, 1 where a class holds, of a multi-label task; None for the others.
            The table's `label` then only stratifies: see `make_strata`.
        positive: the class that sensitivity is about; None: see `statistics.metrics`.
        notes: sentences that every plan with this dataset prints as warnings.
        hint: a sentence for those who train on it or audit it; it is not recorded.
    """

    name: str
    classes: tuple[str, ...]
    table: pd.DataFrame
    images: Images
    task: str = "multi-class"
    targets: np.ndarray | None = None
    positive: str | None = None
    notes: tuple[str, ...] = ()
    hint: str = ""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def strata(self) -> tuple[str, ...]:
        """What labels are positions in: the classes, and in a multi-label task `NOTHING`."""
        return self.classes if self.targets is None else (*self.classes, NOTHING)

    @property
    def truth(self) -> np.ndarray:
        """What a network is trained on and scored by: labels (N,) int64, or targets (N, K)."""
        return self.table["label"].to_numpy() if self.targets is None else self.targets

    @property
    def memberships(self) -> np.ndarray:
        """Which strata each image belongs to, (N, len(strata)) uint8: one, or its findings."""
        if self.targets is None:
            return np.eye(len(self.classes), dtype=np.uint8)[self.truth]
        return np.column_stack([self.targets, ~self.targets.any(axis=1)]).astype(np.uint8)


def make_strata(targets: np.ndarray) -> np.ndarray:
    """Return one label an image for splitting: its rarest class; K for an image of none.

    Rarity is counted over all images; the first of equally rare classes wins. Targets are (N, K)
    of 0 and 1, strata (N,) int64.

    Example:
        >>> make_strata(np.array([[1, 0], [1, 1], [0, 0]])).tolist()
        [0, 1, 2]
    """
    counts = targets.sum(axis=0, dtype=np.int64)
    never = len(targets) + 1
    rarity = np.where(targets > 0, counts, never)
    return np.where(targets.any(axis=1), rarity.argmin(axis=1), targets.shape[1]).astype(np.int64)
