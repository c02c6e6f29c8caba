"""Images that a table lists: a CSV file with one row an image.

Input: a comma, tab or semicolon table, and images anywhere under the root.
Label: a column of names or numbers.
Group: a column; without it, every image is its own group.
"""

import logging
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.data.files import IMAGE_SUFFIXES, FileRef, check_folder
from tlcnn.data.images import FileImages
from tlcnn.data.index import Index
from tlcnn.data.labels import parse_labels
from tlcnn.data.layout import map_splits
from tlcnn.data.selection import select_images
from tlcnn.data.tabular import (
    check_columns,
    check_filled,
    check_unique,
    load_groups,
    load_table_text,
    make_index_table,
    parse_split,
)
from tlcnn.errors import ConfigError, DataError, list_names

FIELD = r"\{([^{}]*)\}"  # a column in the path of an image
EXPECTED = (
    "Expected: a table (dataset.options.csv) with a column of image files and one of labels, and "
    "the images; give the folder with dataset.root=FOLDER"
)

log = logging.getLogger(__name__)


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
    label_separator: str | None = None,
    missing: str = "refuse",
) -> Index:
    """Load the index of a table of images.

    Args:
        csv: the table, relative to root or absolute.
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
        groups: a table with the columns image and group, instead of group_column.
        label_separator: what stands between several labels in a cell, such as "|"; several classes
            can then hold. An empty cell and "No Finding" are no class.
        missing: the answer to rows whose image is not there: `refuse`, or `drop` them.

    Raises:
        ConfigError: options that contradict the table.
        DataError: the table or images are missing, double or contradictory.
    """
    check_folder(root, EXPECTED)
    if groups and group_column:
        raise ConfigError("dataset.options.groups and group_column both say what a group is")
    source = root / csv
    if not source.is_file():
        raise DataError(f"no table at {source}. {EXPECTED}")
    frame = load_table_text(FileRef(source))
    columns = [image_column, label_column, group_column, split_column]
    check_columns(frame, [column for column in columns if column], str(source))
    frame, official, notes = _parse_splits(frame, split_column, splits, str(source))
    if missing not in ("refuse", "drop"):
        raise ConfigError(f"dataset.options.missing={missing}: choose refuse or drop")
    paths = find_files(
        frame, image_path or f"{{{image_column}}}", root, may_lack=missing == "drop"
    )
    if lost := [n for n, path in enumerate(paths) if not path]:
        what = frame[image_column].iloc[lost].tolist()
        notes += (
            f"left out {len(lost):,} of {len(frame):,} rows without an image: {list_names(what)}",
        )
    is_there = [bool(path) for path in paths]
    frame = frame[is_there].reset_index(drop=True)
    files, official = list(compress(paths, is_there)), list(compress(official, is_there))
    is_chosen, more_notes = select_images(
        files,
        FileImages([FileRef(root / path) for path in files]).load,
        include=include,
        exclude=exclude,
        place=str(source),
    )
    frame = frame[is_chosen].reset_index(drop=True)
    files = list(compress(files, is_chosen))
    official = list(compress(official, is_chosen))
    rows = pd.DataFrame({"image_id": files, "label": frame[label_column]})
    rows["group"] = frame[group_column] if group_column else rows["image_id"]
    if groups:
        rows["group"] = load_groups(groups, root, [_compose(name) for name in files])
    rows["split"] = official
    _check_rows(rows, str(source), root, may_be_empty=bool(label_separator))
    labels = parse_labels(rows, classes, label_separator, str(source))
    if not group_column and not groups:
        log.warning(
            "%s: every image is taken as its own group. If patients, lesions or source images "
            "have several, name their column with dataset.options.group_column",
            source,
        )
    table = make_index_table(
        [_compose(image_id) for image_id in rows["image_id"]],
        labels.numbers,
        rows["group"].tolist(),
        rows["split"].tolist(),
    )
    metadata = frame[[column for column in frame.columns if column not in table.columns]]
    order = table["image_id"].argsort(kind="stable")
    table = pd.concat([table, metadata], axis=1).iloc[order].reset_index(drop=True)
    refs = [FileRef(root / path) for path in rows["image_id"].iloc[order]]  # as the disk has it
    return Index(
        name,
        labels.classes,
        table,
        FileImages(refs),
        task=labels.task,
        targets=None if labels.targets is None else labels.targets[order],
        notes=notes + more_notes,
    )


def _compose(text: str) -> str:
    """Write accents as one character, as not every disk does."""
    return unicodedata.normalize("NFC", text)


def _parse_splits(
    frame: pd.DataFrame, column: str | None, splits: Any, source: str
) -> tuple[pd.DataFrame, list[str], tuple[str, ...]]:
    """Return the rows of the splits that are used, the split of each, and notes.

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
        return frame, parsed.tolist(), ()
    if column is None:
        raise ConfigError("dataset.options.splits needs dataset.options.split_column=COLUMN")
    parsed = frame[column].map(map_splits(sorted(set(frame[column])), splits))
    rest = sorted(set(frame.loc[parsed.isna(), column]))
    note = f"left out {parsed.isna().sum():,} rows whose {column} is {list_names(rest)}"
    is_used = parsed.notna()
    return frame[is_used].reset_index(drop=True), parsed[is_used].tolist(), (note,) if rest else ()


def find_files(
    frame: pd.DataFrame, template: str, root: Path, *, may_lack: bool = False
) -> list[str]:
    """Return the path of each image's file, relative to root, with its suffix.

    An image that may lack and is not there has an empty path.

    The template is the path of an image, with columns of the table in braces.

    Raises:
        ConfigError: braces that name no column.
        DataError: images are not there.
    """
    fields = list(dict.fromkeys(re.findall(FIELD, template)))
    if not fields or not set(fields) <= set(frame.columns):
        raise ConfigError(
            f"dataset.options.image_path={template} needs columns of the table in braces; they "
            f"are {list_names([str(column) for column in frame.columns], 20)}"
        )
    files, lost = [], []
    for row in frame[fields].to_dict("records"):
        path = template
        for field in fields:
            path = path.replace(f"{{{field}}}", row[field])
        path = path.replace("\\", "/")
        candidates = [path + suffix for suffix in ("", *IMAGE_SUFFIXES)] if path else []
        files.append(next((c for c in candidates if os.path.isfile(root / c)), ""))
        if not files[-1]:
            lost.append(path)
    if lost and (not may_lack or len(lost) == len(files)):
        raise DataError(
            f"{len(lost):,} of {len(files):,} rows have no image under {root}: "
            f"{list_names(lost)}. Say where they are with dataset.options.image_path, "
            "such as 'images/{image}', or leave them out with dataset.options.missing=drop"
        )
    return files


def _check_rows(rows: pd.DataFrame, source: str, root: Path, *, may_be_empty: bool) -> None:
    """Raise DataError when cells are empty or an image has several rows."""
    if not may_be_empty:
        check_filled(rows, "label", source)
    check_unique(rows, source, "label")
    places = [os.path.normpath(root / path) for path in rows["image_id"]]  # x.png and ./x.png
    check_unique(rows.assign(image_id=places), source, "label")
    check_filled(rows, "group", source)
