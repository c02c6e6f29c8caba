"""Labels of a table: a class a row, several classes in one cell, or a column for each class."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.config.spelling import quote_for_shell, write_override
from tlcnn.data.index import NOTHING, make_strata
from tlcnn.data.tabular import check_known, is_empty, make_classes, write_cell
from tlcnn.errors import ConfigError, DataError, list_names

SEPARATORS = ("|", ";", ",")
BLANK, DROP = "blank", "drop"  # an empty cell, and what leaves a row out, in `map_labels`


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


def map_labels(
    frame: pd.DataFrame, columns: Sequence[str], values: Any, source: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a table whose label columns hold what their values mean, and notes on rows left out.

    Args:
        values: a mapping from values, or `BLANK` for an empty cell, to labels or `DROP`. Numbers
            are compared as numbers.

    Raises:
        ConfigError: no such mapping, or a value that no cell has.
        DataError: no row is left.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"dataset.options.label_values={values} must say what values mean: "
            '"dataset.options.label_values={-1.0: drop, blank: healthy}"'
        )
    meanings = {_normalize(value): str(meaning) for value, meaning in values.items()}
    if empty := [value for value, meaning in meanings.items() if is_empty(meaning)]:
        raise ConfigError(
            f"dataset.options.label_values: {list_names(empty)} becomes {meanings[empty[0]]!r}, "
            f"which is an empty cell. Choose another name, or {DROP}"
        )
    cells = frame[list(columns)].map(_normalize)
    present = sorted(set(cells.to_numpy().ravel()))
    if unknown := [value for value in meanings if value not in present]:
        raise ConfigError(
            f"dataset.options.label_values: no cell of {list_names(list(columns))} has "
            f"{list_names(unknown)}; there are {list_names(present, 20)}"
        )
    mapped = cells.apply(lambda column: column.map(meanings))
    is_dropped = (mapped == DROP).any(axis=1)
    if is_dropped.all():
        raise DataError(f"{source}: dataset.options.label_values leaves no row")
    frame = frame.assign(**mapped.fillna(frame[list(columns)]))[~is_dropped].reset_index(drop=True)
    note = f"left out {is_dropped.sum():,} of {len(is_dropped):,} rows by their label"
    return frame, (note,) if is_dropped.any() else ()


def _normalize(value: Any) -> str:
    """Return a value of a cell as it is compared: numbers alike, an empty cell as `BLANK`.

    Example:
        >>> [_normalize(value) for value in (-1, "-1.0", " NaN ", "Mass")]
        ['-1', '-1', 'blank', 'Mass']
    """
    text = write_cell(value)
    return BLANK if is_empty(text) else text


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
            word = quote_for_shell(write_override("dataset.options.label_separator", separator))
            raise DataError(
                f"{source}: {n_rows:,} rows hold several labels in one cell, such as "
                f"{several[0]}. {word} trains a "
                "network in which several classes can hold (multi-label). If each combination is "
                "a class of its own, list all classes with dataset.options.classes=[first,second]"
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


def parse_flags(rows: pd.DataFrame, flags: pd.DataFrame, source: str) -> Labels:
    """Return the labels of columns that hold 1 where a class holds, and else 0 or nothing.

    Where every row has one class, it is the label. Where some have several, several can hold.

    Args:
        rows: N rows with `image_id`.
        flags: N rows with one column a class.

    Raises:
        DataError: other values, a class without images, or rows without a class where no row has
            several.
    """
    values = flags.map(_parse_flag)
    if values.isna().any(axis=None):
        column = values.columns[values.isna().any()][0]
        strange = sorted(set(flags.loc[values[column].isna(), column]))
        word = f"dataset.options.label_values={{{strange[0]}: 0}}"
        raise DataError(
            f"{source}: {column} must hold 0 and 1, and has {list_names(strange)}. Say what it "
            f"means, such as {quote_for_shell(word)}; instead of 0, "
            f"{DROP} leaves such rows out"
        )
    classes = tuple(map(str, flags.columns))
    targets = values.to_numpy(np.uint8)
    counts = targets.sum(axis=1)
    if counts.max() == 1 and counts.min() == 0:
        empty = rows["image_id"][counts == 0].tolist()
        raise DataError(
            f"{source}: {len(empty):,} rows have no class: {list_names(empty)}. Give them one, "
            "such as a column none, or leave them out with dataset.options.exclude"
        )
    if unused := [name for name, n in zip(classes, targets.sum(axis=0), strict=True) if not n]:
        raise DataError(
            f"{source}: no row is of {list_names(unused)}; leave it out of "
            "dataset.options.label_columns"
        )
    if counts.max() > 1:
        return Labels(classes, make_strata(targets).tolist(), targets)
    return Labels(classes, targets.argmax(axis=1).tolist())


def _parse_flag(value: str) -> int | None:
    """Return 0 or 1, or None for anything that is neither."""
    text = value.strip().lower()
    if is_empty(text) or text in ("false", "no"):
        return 0
    if text in ("true", "yes"):
        return 1
    return int(float(text)) if re.fullmatch(r"[01](\.0*)?", text) else None


def find_flags(frame: pd.DataFrame) -> list[str]:
    """Return the columns that hold 0 and 1 only, and both."""
    return [
        str(column)
        for column in frame.columns
        if column and set(frame[column]) in ({"0", "1"}, {"0.0", "1.0"})
    ]
