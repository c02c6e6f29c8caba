"""Labels of a table: one class a row, or several classes in one cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.data.index import NOTHING, make_strata
from tlcnn.data.tabular import check_known, is_empty, make_classes
from tlcnn.errors import DataError, list_names

SEPARATORS = ("|", ";", ",")


@dataclass(frozen=True)
class Labels:
    """What the rows of a table are labelled with.

    Attributes:
        classes: K names in order.
        numbers: N labels, as in the table of an `Index`.
        targets: (N, K) uint8 where several classes can hold; None where one does.
    """

    classes: tuple[str, ...]
    numbers: list[int]
    targets: np.ndarray | None = None

    @property
    def task(self) -> str:
        """The task of an `Index`."""
        return "multi-class" if self.targets is None else "multi-label"


def parse_labels(rows: pd.DataFrame, classes: Any, separator: str | None, source: str) -> Labels:
    """Return the labels of the column `label`; needs `image_id`.

    Args:
        classes: class names in their order, as in `make_classes`; numbers 0 to K-1 are positions.
        separator: what stands between several labels of a cell; None: each cell is one label.

    Raises:
        DataError: unknown labels, or cells with several labels and no separator.
    """
    if separator:
        return _split_labels(rows, classes, separator, source)
    if classes is None:
        check_single(rows["label"], source)
    ordered = make_classes(rows["label"], classes)
    values, positions = set(rows["label"]), {str(k) for k in range(len(ordered))}
    if classes is not None and values.isdisjoint(ordered) and values <= positions:
        return Labels(ordered, [int(label) for label in rows["label"]])
    check_known(rows, "label", list(ordered), source)
    return Labels(ordered, [ordered.index(label) for label in rows["label"]])


def check_single(labels: pd.Series, source: str) -> None:
    """Raise DataError when cells hold several labels that other cells hold alone."""
    distinct = sorted(set(labels))
    for separator in SEPARATORS:
        parts = {label: _split(label, separator) for label in distinct if separator in label}
        alone = set(distinct) - parts.keys()
        several = [label for label, names in parts.items() if alone & set(names)]
        if separator == ",":  # which names may hold as well
            several = several if all(set(names) <= alone for names in parts.values()) else []
        if several:
            n_rows = int(labels.isin(several).sum())
            raise DataError(
                f"{source}: {n_rows:,} rows hold several labels in one cell, such as "
                f"{several[0]}. dataset.options.label_separator='{separator}' trains a network in "
                "which several classes can hold (multi-label). If each combination is a class of "
                "its own, list all classes with dataset.options.classes=[first,second]"
            )


def _split(cell: str, separator: str) -> list[str]:
    parts = (part.strip() for part in cell.split(separator))
    return [part for part in parts if part and part.lower() != NOTHING]


def _split_labels(rows: pd.DataFrame, classes: Any, separator: str, source: str) -> Labels:
    """Return the labels of a multi-label task; an empty cell or `NOTHING` is no class."""
    cells = [[] if is_empty(cell) else _split(cell, separator) for cell in rows["label"]]
    ordered = make_classes([name for cell in cells for name in cell], classes)
    return make_multi_label(rows, cells, ordered, source)


def make_multi_label(
    rows: pd.DataFrame, cells: Sequence[Sequence[str]], classes: tuple[str, ...], source: str
) -> Labels:
    """Return the labels of rows of which several classes, or none, can hold."""
    unknown = sorted({name for cell in cells for name in cell} - set(classes))
    if unknown:
        bad = [
            i for i, cell in zip(rows["image_id"], cells, strict=True) if set(cell) & {*unknown}
        ]
        raise DataError(
            f"{source}: {len(bad):,} rows have an unknown label ({list_names(unknown)}; allowed: "
            f"{list_names(classes, 20)}): {list_names(bad)}"
        )
    targets = np.array([[name in cell for name in classes] for cell in cells], np.uint8)
    return Labels(classes, make_strata(targets).tolist(), targets)
