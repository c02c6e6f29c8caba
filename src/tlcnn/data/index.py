"""The index: a table of images with labels and groups, and a way to load each of them."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

SPLITS = ("train", "val", "test")


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
        classes: K class names; a label is a position in it.
        table: N rows with `image_id` (unique str), `label` (int64), `group` (str: what may not
            straddle splits), `split` ("train", "val", "test", or "" where the dataset has no
            official one) and any further metadata columns.
        images: the N images, in the order of the rows.
    """

    name: str
    classes: tuple[str, ...]
    table: pd.DataFrame
    images: Images

    def __len__(self) -> int:
        return len(self.table)
