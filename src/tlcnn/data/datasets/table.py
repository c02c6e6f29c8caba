"""Images that a table lists: a CSV file or workbook with one row an image.

Input: a table of `tlcnn.data.tabular`, and images anywhere under the root.
Label: a column of names or numbers, or a column of 0 and 1 for each class.
Group: a column, or what a regular expression captures in the image's path; without them, every
image is its own group.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.config.spelling import quote_for_shell
from tlcnn.data.dicom import SUFFIXES as DICOM_SUFFIXES
from tlcnn.data.files import IMAGE_SUFFIXES, FileRef, check_folder, compose_accents
from tlcnn.data.groups import HINT, check_one_way, load_groups, match_groups
from tlcnn.data.images import FileImages
from tlcnn.data.index import Index
from tlcnn.data.labels import find_flags, map_labels, parse_flags, parse_labels
from tlcnn.data.layout import map_splits, quote_name
from tlcnn.data.places import find_files, find_table
from tlcnn.data.selection import select_images
from tlcnn.data.tabular import (
    check_columns,
    check_filled,
    check_unique,
    load_table_text,
    make_index_table,
    parse_split,
)
from tlcnn.errors import ConfigError, DataError, list_names

_PLACE, _SPLIT = "\0place", "\0split"  # columns that no table has
EXPECTED = (
    "Expected: a table (dataset.options.csv) with a column of image files and one of labels, and "
    "the images; give the folder with dataset.root=FOLDER"
)


def load_table(
    root: Path,
    *,
    name: str,
    csv: str = "labels.csv",
    image_column: str = "image",
    label_column: str = "label",
    group_column: str | None = None,
    split_column: str | None = None,
    image_path: str | None = None,
    classes: Sequence[str] | None = None,
    include: Sequence[str] | str | None = None,
    exclude: Sequence[str] | str | None = None,
    splits: Mapping[str, Any] | None = None,
    groups: str | None = None,
    group_regex: str | None = None,
    label_columns: Sequence[str] | None = None,
    label_separator: str | None = None,
    label_values: Mapping[Any, Any] | None = None,
    missing: str = "refuse",
    cache_dir: str | None = None,
) -> Index:
    """Load the index of a table of images.

    Args:
        csv: the table, below root or, if it is not there, below the working folder.
        image_column: file names, ids without suffix, or paths.
        label_column: names or numbers.
        group_column: the column of groups, which may not straddle splits.
        split_column: the official split, if there is one.
        image_path: the place of an image, with columns in braces: "images/{label}/{image}";
            the image column alone if None. Its value is the image's id.
        classes: class names in the order of the labels. With labels 0 to K-1 it names them.
            Sorted (as numbers where all are) if None.
        include: globs of the images that are used, compared with names and with paths below root.
        exclude: globs of the images that are left out.
        splits: the values of the split column that are train, val and test, such as {train: [1,
            2], test: 3}; rows with others are left out. None: train, val or test (or like words).
        groups: a table with the columns image and group, instead of group_column; it is looked
            for as `csv` is.
        group_regex: instead of group_column, as in `load_folder`.
        label_columns: instead of label_column, a column for each class that holds 0 and 1. If some
            rows have several classes, several can hold.
        label_separator: what stands between several labels in a cell, such as "|"; several classes
            can then hold. An empty cell and "No Finding" are no class.
        label_values: what values of the label columns mean, such as {-1.0: drop, blank: 0}: `drop`
            leaves the row out, and `blank` is an empty cell.
        missing: the answer to rows whose image is not there: `refuse`, or `drop` them.
        cache_dir: as in `load_folder`.

    Raises:
        ConfigError: options that contradict the table.
        DataError: the table or images are missing, double or contradictory.
    """
    check_folder(root, EXPECTED)
    check_one_way(groups=groups, group_column=group_column, group_regex=group_regex)
    source = find_table(csv, root)
    if not source.is_file():
        raise DataError(f"no table at {source}, nor in the current folder. {EXPECTED}")
    if missing not in ("refuse", "drop"):
        raise ConfigError(f"dataset.options.missing={missing}: choose refuse or drop")
    frame = load_table_text(FileRef(source))
    label_names = [label_column] if label_columns is None else [*map(str, label_columns)]
    _check_label_column(frame, label_names, str(source))
    columns = {
        "image_column": [image_column],
        "label_column" if label_columns is None else "label_columns": label_names,
        "group_column": [group_column] if group_column else [],
        "split_column": [split_column] if split_column else [],
    }
    needed = [name for names in columns.values() for name in names]
    check_columns(frame, needed, str(source), _advise_options(frame, columns))
    frame, notes = _parse_splits(frame, split_column, splits, str(source))
    if label_values:
        frame, label_notes = map_labels(frame, label_names, label_values, str(source))
        notes += label_notes
    template = image_path or f"{{{image_column}}}"
    paths = find_files(frame, template, root, may_lack=missing == "drop")
    frame = frame.assign(**{_PLACE: paths})
    select = partial(select_images, include=include, exclude=exclude, cache_dir=cache_dir)
    frame, place_notes = _choose_rows(frame, image_column, root, select, str(source))
    files = frame[_PLACE].tolist()
    image_ids = [compose_accents(path) for path in files]
    rows = pd.DataFrame({"image_id": files, "label": frame[label_names[0]]})
    rows["group"] = frame[group_column] if group_column else files
    hint = ""
    if groups:
        rows["group"] = load_groups(groups, root, image_ids)
    elif group_regex:
        rows["group"] = match_groups([FileRef(root / file) for file in files], group_regex, root)
    elif not group_column:
        hint = HINT.format(
            source,
            "name their column with dataset.options.group_column, or give "
            "dataset.options.group_regex",
        )
    is_single = label_columns is None and not label_separator
    _check_rows(rows, str(source), root, may_be_empty=not is_single)
    if label_columns is None:
        labels = parse_labels(rows, classes, label_separator, str(source))
    else:
        labels = parse_flags(rows, frame[label_names], str(source))
    table = make_index_table(
        image_ids, labels.numbers, rows["group"].tolist(), frame[_SPLIT].tolist()
    )
    table = table.join(frame.drop(columns=[_PLACE, _SPLIT, *table.columns], errors="ignore"))
    order = table["image_id"].argsort(kind="stable").to_numpy()
    return Index(
        name,
        labels.classes,
        table.iloc[order].reset_index(drop=True),
        FileImages([FileRef(root / files[row]) for row in order]),  # as the disk has it
        task=labels.task,
        targets=None if labels.targets is None else labels.targets[order],
        notes=notes + place_notes,
        hint=hint,
    )


def _check_label_column(frame: pd.DataFrame, names: list[str], source: str) -> None:
    """Raise DataError where there is no column of labels and a column for each class."""
    flags = find_flags(frame)
    if len(names) == 1 and names[0] not in frame and len(flags) > 1:
        word = f"dataset.options.label_columns=[{','.join(map(quote_name, flags))}]"
        raise DataError(
            f"{source} has no column {names[0]}, and {len(flags)} columns of 0 and 1. If these "
            f"are classes, give {quote_for_shell(word)}; else name the labels "
            "with dataset.options.label_column"
        )


def _advise_options(frame: pd.DataFrame, columns: Mapping[str, Sequence[str]]) -> str:
    """Return which options to set, where those that name columns name some that are not there.

    Args:
        columns: the names of columns by option.
    """
    lost = [option for option, names in columns.items() if not {*names} <= {*frame.columns}]
    if not lost:
        return ""
    suffixes = (*IMAGE_SUFFIXES, *DICOM_SUFFIXES)
    files = [
        name
        for name, cells in frame.items()
        if len(cells) and cells.str.lower().str.endswith(suffixes).all()
    ]
    advice = []
    if "image_column" in lost and len(files) == 1:
        lost.remove("image_column")
        word = f"dataset.options.image_column={quote_name(str(files[0]))}"
        advice.append(f"Write {quote_for_shell(word)}")
    if lost:
        options = list_names([f"dataset.options.{option}" for option in lost])
        advice.append(f"Say which of them it is with {options}")
    return ". ".join(advice)


def _parse_splits(
    frame: pd.DataFrame, column: str | None, splits: Any, source: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the rows of the splits that are used, with the column `_SPLIT`, and notes.

    Raises:
        ConfigError: `splits` without a column, or with values that it does not have.
        DataError: values that are no split.
    """
    if splits is None:
        parsed = frame[column].map(parse_split) if column else pd.Series("", frame.index)
        unknown = sorted(set(frame.loc[parsed.isna(), column])) if column else []
        if unknown:
            raise DataError(
                f"{source}: {parsed.isna().sum():,} rows have an unknown split "
                f"({list_names(unknown)}; allowed: train, val, test). Say what they are with "
                "dataset.options.splits={train: [a,b], test: c}; others are left out"
            )
        return frame.assign(**{_SPLIT: parsed}), ()
    if column is None:
        raise ConfigError("dataset.options.splits needs dataset.options.split_column=COLUMN")
    parsed = frame[column].map(map_splits(sorted(set(frame[column])), splits))
    rest = sorted(set(frame.loc[parsed.isna(), column]))
    note = f"left out {parsed.isna().sum():,} rows whose {column} is {list_names(rest)}"
    frame = frame.assign(**{_SPLIT: parsed})[parsed.notna()].reset_index(drop=True)
    return frame, (note,) if rest else ()


def _choose_rows(
    frame: pd.DataFrame,
    image_column: str,
    root: Path,
    select: Callable[..., tuple[np.ndarray, tuple[str, ...]]],
    source: str,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the rows whose image is there and is chosen, and notes on the others.

    `select` is `select_images` with the options of the user.
    """
    is_there = (frame[_PLACE] != "").to_numpy()
    notes: tuple[str, ...] = ()
    if not is_there.all():
        names = list_names(frame.loc[~is_there, image_column].tolist())
        notes = (
            f"left out {(~is_there).sum():,} of {len(frame):,} rows without an image: {names}",
        )
    frame = frame[is_there]
    images = FileImages([FileRef(root / path) for path in frame[_PLACE]])
    is_chosen, chosen_notes = select(frame[_PLACE].tolist(), images, place=source)
    return frame[is_chosen].reset_index(drop=True), notes + chosen_notes


def _check_rows(rows: pd.DataFrame, source: str, root: Path, *, may_be_empty: bool) -> None:
    """Raise DataError when cells are empty or an image has several rows."""
    if not may_be_empty:
        check_filled(
            rows,
            "label",
            source,
            advice='Fill the cells in, or leave the rows out: "dataset.options.label_values='
            '{blank: drop}"',
        )
    check_unique(rows, source, "label")
    places = [os.path.normpath(root / path) for path in rows["image_id"]]  # x.png and ./x.png
    check_unique(rows.assign(image_id=places), source, "label")
    check_filled(rows, "group", source)
