"""Tables: text with commas, tabs, semicolons or bars, and the first sheet of a workbook."""

import csv
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO, StringIO
from typing import Any

import pandas as pd

from tlcnn.data.files import FileRef, read_file
from tlcnn.errors import ConfigError, DataError, did_you_mean, list_names

SEPARATORS = (",", "\t", ";", "|")
WORKBOOKS = (".xlsx", ".xlsm")
EMPTY = ("", "na", "n/a", "nan", "none", "null")  # in lower case
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_NUMBER = re.compile(r"(?P<whole>[-+]?(?:0|[1-9][0-9]*))(?:\.0*(?P<decimals>[0-9]*))?")
_SPLIT = re.compile(rf"({'|'.join(SPLIT_WORDS)})(?:[ _.-]*(?:set|data|dataset|images?|split))?")


def load_table_text(ref: FileRef) -> pd.DataFrame:
    """Read a table of text or a workbook, everything as str, values and headers stripped.

    Columns and cells without a name and a value at the end, as Excel leaves them, are left out.

    Raises:
        DataError: it has no header, two columns of one name, or rows longer than the header.
    """
    rows = _read_workbook(ref) if ref.suffix in WORKBOOKS else _read_text(ref)
    if not rows:
        raise DataError(f"{ref} is empty: a table with a header row is expected")
    columns, *rows = rows
    width = max(map(len, [columns, *rows]))
    padded = pd.DataFrame([row + [""] * (width - len(row)) for row in rows], dtype=object)
    is_filled = [bool((padded[n] != "").any()) if len(rows) else False for n in range(width)]
    long = [n for n, row in enumerate(rows, start=2) if any(row[len(columns) :])]
    if long:
        raise DataError(
            f"{ref}: {len(long):,} rows have more than the {len(columns)} values of the header, "
            f"the first in line {long[0]}; check its separator and quotes"
        )
    used = [n for n, column in enumerate(columns) if column or is_filled[n]]
    names = [columns[n] for n in used]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{ref} has columns of the same name: {list_names(twice)}")
    frame = padded[used] if len(rows) else pd.DataFrame(columns=used, dtype=object)
    return frame.set_axis(names, axis=1)


def _read_text(ref: FileRef) -> list[list[str]]:
    """Return the rows of a table of text that are not empty, with the header."""
    content = read_file(ref)
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{ref} is not UTF-8 text ({error}); save it as UTF-8 (in Excel: CSV UTF-8)"
        ) from error
    header, _, rest = text.lstrip("\r\n").partition("\n")
    delimiter = max(SEPARATORS, key=header.count)
    if match := re.fullmatch(r'"?sep=(.)"?\s*', header, re.IGNORECASE):  # a line for Excel
        text, delimiter = rest, match[1]
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [[value.strip() for value in row] for row in reader if any(row)]
    except csv.Error as error:
        raise DataError(f"{ref} is not a readable table: {error}") from error


def _read_workbook(ref: FileRef) -> list[list[str]]:
    """Return the rows of a workbook's first sheet that are not empty, with the header."""
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            f"{ref} is a workbook: pip install 'tlcnn[excel]', or save it as CSV UTF-8"
        ) from None
    try:
        book = openpyxl.load_workbook(BytesIO(read_file(ref)), read_only=True, data_only=True)
        rows = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
    except (ValueError, KeyError, OSError, IndexError, SyntaxError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{ref} is no readable workbook ({error}); save it as CSV UTF-8"
        ) from error
    texts = [["" if value is None else str(value).strip() for value in row] for row in rows]
    return [row for row in texts if any(row)]


def is_empty(value: str) -> bool:
    """Whether a cell says that its value is not known.

    Example:
        >>> is_empty("NaN"), is_empty("0")
        (True, False)
    """
    return value.strip().lower() in EMPTY


def write_cell(value: object) -> str:
    """Return a value of a cell as text: a number in its shortest exact form, other texts stripped.

    A whole number keeps all of its digits. A text with a leading zero, such as 007, is a code and
    no number.

    Example:
        >>> [write_cell(value) for value in (40.0, "40.0", "+40", "-7.50", "254837009", " 007 ")]
        ['40', '40', '40', '-7.5', '254837009', '007']
    """
    if isinstance(value, float):
        is_whole = value.is_integer() and abs(value) < 2**53
        return str(int(value)) if is_whole else f"{value:.15g}"
    text = str(value).strip()
    match = _NUMBER.fullmatch(text)
    if not match:
        return text
    if match["decimals"]:
        return f"{float(text):.15g}"
    return "0" if match["whole"] == "-0" else match["whole"].removeprefix("+")


def check_columns(
    frame: pd.DataFrame, needed: Sequence[str], source: str, advice: str = ""
) -> None:
    """Raise DataError when columns are missing, naming those that are there.

    Args:
        advice: what to do; the column whose name is spelled alike if empty.
    """
    present = [str(name) for name in frame.columns]
    lost = [name for name in needed if name not in present]
    if lost:
        raise DataError(
            f"{source} lacks {len(lost)} column(s): {list_names(lost)}; it has "
            f"{list_names(present, 24)}."
            + (f" {advice}" if advice else did_you_mean(lost[0], present, 0.6))
        )


def check_filled(
    frame: pd.DataFrame,
    column: str,
    source: str,
    is_gap: Callable[[str], bool] = is_empty,
    advice: str = "Fill the cells in or take the rows out",
) -> None:
    """Raise DataError when a column has empty cells; needs the column `image_id`."""
    empty = frame.loc[frame[column].map(is_gap), "image_id"].tolist()
    if empty:
        raise DataError(
            f"{source}: {len(empty):,} rows have no {column}: {list_names(empty)}. {advice}"
        )


def check_unique(frame: pd.DataFrame, source: str, value: str) -> None:
    """Raise DataError when an `image_id` occurs twice, saying if with different values."""
    again = frame["image_id"].duplicated(keep=False)
    kinds = frame[again].groupby("image_id", sort=True)[value].nunique()
    which_is_right = "Find out which is right and take the others out"
    for ids, which, advice in (
        (kinds[kinds > 1].index, f"with different {value}", which_is_right),
        (kinds.index, f"(with the same {value})", "Keep one row of each"),
    ):
        if len(ids):
            raise DataError(
                f"{source}: {len(ids):,} image ids occur twice {which}: "
                f"{list_names(ids.tolist())}. {advice}"
            )


def check_known(frame: pd.DataFrame, column: str, allowed: list[str], source: str) -> None:
    """Raise DataError when a column holds values that are not allowed; needs `image_id`."""
    bad = frame[~frame[column].isin(allowed)]
    if len(bad):
        values = sorted(set(bad[column]))
        raise DataError(
            f"{source}: {len(bad):,} rows have an unknown {column} ({list_names(values)}; "
            f"allowed: {list_names(allowed, 20)}): {list_names(bad['image_id'].tolist())}"
        )


def make_classes(labels: Iterable[str], names: Sequence[Any] | None) -> tuple[str, ...]:
    """Return the class names in order: the given names, else the labels, sorted.

    Labels that are all numbers are sorted as numbers.

    Example:
        >>> make_classes(["10", "9", "9"], None)
        ('9', '10')

    Raises:
        ConfigError: the names are no list, or have repetitions.
        DataError: no names, and labels that differ in their case or spaces only.
    """
    if names is None:
        distinct = set(labels)
        alike: dict[str, list[str]] = {}
        for label in sorted(distinct):
            alike.setdefault(" ".join(label.casefold().split()), []).append(label)
        doubtful = [" and ".join(group) for group in alike.values() if len(group) > 1]
        if doubtful:
            raise DataError(
                f"classes that differ in capital letters or spaces only: {list_names(doubtful)}. "
                "Give each class one name. If they are different classes, list all classes with "
                "dataset.options.classes=[first,second]"
            )
        numeric = all(label.isdecimal() for label in distinct)
        return tuple(sorted(distinct, key=lambda label: (int(label) if numeric else 0, label)))
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ConfigError(f"dataset.options.classes={names} is not a list; write [first,second]")
    classes = tuple(str(name) for name in names)
    if len(set(classes)) < len(classes) or not classes:
        raise ConfigError(f"dataset.options.classes={list(classes)}: name every class once")
    return classes


def make_index_table(
    image_ids: Sequence[str],
    labels: Sequence[int],
    groups: Sequence[str],
    splits: Sequence[str] | str = "",
) -> pd.DataFrame:
    """Return the four columns that every index has, in the order given."""
    columns = {"image_id": image_ids, "label": labels, "group": groups, "split": splits}
    types = {"image_id": object, "label": "int64", "group": object, "split": object}
    return pd.DataFrame(columns, index=range(len(image_ids))).astype(types)


def parse_split(value: str) -> str | None:
    """Return "train", "val", "test" or "" for the words that people use; None for others.

    Example:
        >>> parse_split("Validation"), parse_split("test_set"), parse_split("holdout")
        ('val', 'test', None)
    """
    text = value.strip().lower()
    match = _SPLIT.fullmatch(text)
    return SPLIT_WORDS[match[1]] if match else None if text else ""
