"""Images that a table lists: a CSV file with one row an image.

Input: a comma, tab or semicolon table, and images anywhere under the root.
Label: a column of names or numbers.
Group: a column; without it, every image is its own group.
"""

import logging
import os
import string
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tlcnn.data.files import IMAGE_SUFFIXES, FileRef, check_folder
from tlcnn.data.images import FileImages
from tlcnn.data.index import Index
from tlcnn.data.tabular import (
    check_columns,
    check_filled,
    check_known,
    check_unique,
    load_table_text,
    make_classes,
    make_index_table,
    parse_split,
)
from tlcnn.errors import ConfigError, DataError, list_names

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
) -> Index:
    """Load the index of a table of images.

    Args:
        root: the folder that paths are relative to.
        name: the dataset's name in records.
        csv: the table, relative to root or absolute.
        image_column: file names, ids without suffix, or paths.
        label_column: names or numbers.
        group_column: the column of groups, which may not straddle splits.
        split_column: the official split, if there is one: train, val or test (or like words).
        image_path: the place of an image, with columns in braces: "images/{label}/{image}";
            the image column alone if None. Its value is the image's id.
        classes: class names in the order of the labels. With labels 0 to K-1 it names them.
            Sorted (as numbers where all are) if None.

    Raises:
        ConfigError: options that contradict the table.
        DataError: the table or images are missing, double or contradictory.
    """
    check_folder(root, EXPECTED)
    source = root / csv
    if not source.is_file():
        raise DataError(f"no table at {source}. {EXPECTED}")
    frame = load_table_text(FileRef(source))
    columns = [image_column, label_column, group_column, split_column]
    check_columns(frame, [column for column in columns if column], str(source))
    paths = make_paths(frame, image_path or f"{{{image_column}}}")
    image_files = find_files(root, paths)
    rows = pd.DataFrame({"image_id": image_files, "label": frame[label_column]})
    rows["group"] = frame[group_column] if group_column else rows["image_id"]
    rows["split"] = frame[split_column] if split_column else ""
    ordered = _check_rows(rows, classes, str(source))
    if not group_column:
        log.warning(
            "%s: every image is taken as its own group. If patients, lesions or source images "
            "have several, name their column with dataset.options.group_column",
            source,
        )
    table = _make_table(rows, frame, ordered)
    files = [FileRef(root / path) for path in table.pop("path")]
    return Index(name, ordered, table, FileImages(files))


def make_paths(frame: pd.DataFrame, template: str) -> list[str]:
    """Return one path a row from a template with columns in braces.

    Example:
        >>> make_paths(pd.DataFrame({"a": ["x"], "b": ["y.jpg"]}), "{a}/{b}")
        ['x/y.jpg']

    Raises:
        ConfigError: braces that name no column.
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"dataset.options.image_path={template}: {error}") from error
    fields = [field for _, field, _, _ in pieces if field is not None]
    unknown = [field for field in fields if field not in frame.columns]
    if unknown or not fields:
        raise ConfigError(
            f"dataset.options.image_path={template} needs columns of the table in braces; they "
            f"are {list_names([str(column) for column in frame.columns], 20)}"
        )
    values = frame[fields].to_dict("records")
    return [
        "".join(text + (row[field] if field is not None else "") for text, field, _, _ in pieces)
        for row in values
    ]


def find_files(root: Path, paths: list[str]) -> list[str]:
    """Return the path of each image's file, relative to root, with its suffix.

    Raises:
        DataError: images are not there.
    """
    files: list[str | None] = []
    for path in (path.replace("\\", "/") for path in paths):
        candidates = [path, *(path + suffix for suffix in IMAGE_SUFFIXES)] if path else []
        files.append(next((c for c in candidates if os.path.isfile(root / c)), None))
    lost = [path for path, file in zip(paths, files, strict=True) if file is None]
    if lost:
        raise DataError(
            f"{len(lost):,} of {len(paths):,} rows have no image under {root}: "
            f"{list_names(lost)}. Say where they are with dataset.options.image_path, "
            "such as 'images/{image}'"
        )
    return [str(file) for file in files]


def _check_rows(rows: pd.DataFrame, classes: Sequence[str] | None, source: str) -> tuple[str, ...]:
    """Check and complete the columns in place, and return the classes."""
    check_filled(rows, "label", source)
    check_unique(rows, source, "label")
    check_filled(rows, "group", source)
    ordered = make_classes(rows["label"], classes)
    values, positions = set(rows["label"]), {str(k) for k in range(len(ordered))}
    if classes is not None and values.isdisjoint(ordered) and values <= positions:
        rows["label"] = [ordered[int(label)] for label in rows["label"]]
    check_known(rows, "label", list(ordered), source)
    splits = rows["split"].map(parse_split)
    strange = rows[splits.isna()]
    if len(strange):
        raise DataError(
            f"{source}: {len(strange):,} rows have an unknown split "
            f"({list_names(sorted(set(strange['split'])))}; allowed: train, val, test): "
            f"{list_names(strange['image_id'].tolist())}"
        )
    rows["split"] = splits
    return ordered


def _make_table(rows: pd.DataFrame, frame: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Return the index table sorted by image id, with files' paths and other columns."""
    table = make_index_table(
        [unicodedata.normalize("NFC", image_id) for image_id in rows["image_id"]],
        [classes.index(label) for label in rows["label"]],
        rows["group"].tolist(),
        rows["split"].tolist(),
    )
    table["path"] = rows["image_id"]  # as the disk spells it
    metadata = frame[[column for column in frame.columns if column not in table.columns]]
    joined = pd.concat([table, metadata], axis=1)
    return joined.sort_values("image_id", ignore_index=True)
