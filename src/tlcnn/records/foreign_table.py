"""Files of predictions as tables of texts, and what their columns are."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.data.medmnist_info import load_medmnist_info
from tlcnn.errors import ConfigError, DataError, did_you_mean, list_names

# What columns may be called, without regard to case.
NAMES = {
    "id": ("image_id", "id", "image", "filename", "file", "isic_id"),
    "label": ("label", "dx", "target", "y_true", "true", "true_0", "truth", "diagnosis", "class"),
    "group": ("group", "lesion_id", "patient_id", "lesion", "patient"),
    "split": ("split",),
}
_PREFIX = re.compile(r"(logit|prob|probability|score|p)[/_](.+)", re.IGNORECASE)
_MEDMNIST = re.compile(r"([a-z]+mnist)(?:_(\d+))?_(train|val|test)(?![a-z])")
_NUMBER = re.compile(r"\s*[-+]?(\d|\.\d|nan|inf)", re.IGNORECASE)


@dataclass(frozen=True)
class Raw:
    """N rows of texts.

    Attributes:
        roles: `id` and, where the file has them, `label`, `group`, `split` -> their columns.
        scores: class -> its column, in the order of the classes.
        are_logits: the columns' names say so.
        ignored: columns that are nothing of these.
    """

    path: Path
    frame: pd.DataFrame
    roles: Mapping[str, str]
    scores: Mapping[str, str]
    are_logits: bool = False
    ignored: tuple[str, ...] = ()

    @property
    def ids(self) -> pd.Series:
        """The images' ids, (N,)."""
        return self.frame[self.roles["id"]]


@dataclass(frozen=True)
class MedmnistName:
    """What the name of a MedMNIST evaluator file says."""

    flag: str
    split: str
    seed: int | None


def parse_medmnist_name(path: Path) -> MedmnistName | None:
    """Return what the name of an evaluator file says, or None if it is not such a name.

    Example:
        >>> parse_medmnist_name(Path("breastmnist_64_test_[AUC]0.850_[ACC]0.860@run1.csv"))
        MedmnistName(flag='breastmnist', split='test', seed=1)
    """
    found = _MEDMNIST.match(path.name)
    if not found or found[1] not in load_medmnist_info():
        return None
    run = re.search(r"@\D*(\d{1,6})\.csv$", path.name)  # longer ones are times
    return MedmnistName(found[1], found[3], int(run[1]) if run else None)


def is_medmnist_file(path: Path) -> bool:
    """Return whether a file is an evaluator's: its name says so, and it has no header."""
    if parse_medmnist_name(path) is None or path.suffix == ".parquet":
        return False
    lines = _read_text(path).splitlines()
    return bool(lines) and all(_NUMBER.match(word) for word in lines[0].split(","))


def load_medmnist_scores(path: Path, classes: Sequence[str]) -> Raw:
    """Read an evaluator file: position in the split, then a score a class."""
    found = parse_medmnist_name(path)
    assert found is not None
    frame = _read_csv(path, header=None)
    n_scores = frame.shape[1] - 1
    if n_scores not in (len(classes), 1 if len(classes) == 2 else len(classes)):
        raise DataError(
            f"{path} has {n_scores} scores a row; {found.flag} has {len(classes)} classes: "
            f"{list_names(list(classes), 14)}"
        )
    names = list(classes)[-n_scores:]  # one score of two classes is the second's
    frame.columns = pd.Index(["id", *names])
    try:
        positions = frame["id"].astype(float).astype(int)
    except ValueError as error:
        raise DataError(f"{path}: the first column is no position in the split: {error}") from None
    frame["id"] = [f"{found.split}-{position:06d}" for position in positions]
    return Raw(path, frame, {"id": "id"}, {name: name for name in names})


def load_raw(path: Path, classes: Sequence[str], columns: Mapping[str, str]) -> Raw:
    """Read a table with a header.

    Args:
        classes: the columns of scores; none: all that are left.
        columns: what roles are called here.

    Raises:
        DataError: it cannot be read, or has no rows or no scores.
        ConfigError: a column that is not there.
    """
    frame = load_texts(path)
    roles = find_roles(frame, columns, path)
    if "id" not in roles:
        raise DataError(
            f"{path} has no column of image ids (one of {', '.join(NAMES['id'])}); it has "
            f"{list_names(list(frame.columns), 12)}. Name it with --id-column"
        )
    rest = [c for c in frame.columns if c not in roles.values() and not c.startswith("target/")]
    prefixed = {found[2]: c for c in rest if (found := _PREFIX.fullmatch(c))}
    are_logits = any(c.lower().startswith("logit") for c in prefixed.values())
    scores = _choose_scores({**{c: c for c in rest}, **prefixed}, prefixed, rest, classes, path)
    kept = set(scores.values())
    is_known = all(c in prefixed.values() for c in kept)
    ignored = tuple(c for c in rest if c not in kept)
    return Raw(path, frame, roles, scores, are_logits and is_known, ignored)


def _choose_scores(
    known: Mapping[str, str],
    prefixed: Mapping[str, str],
    rest: Sequence[str],
    classes: Sequence[str],
    path: Path,
) -> dict[str, str]:
    """Return class -> column: the asked ones, else those that say it, else all."""
    found = dict(prefixed) or {column: column for column in rest}
    if not found:
        raise DataError(f"{path} has no column of scores: one a class is expected")
    is_numbered = sorted(found) == sorted(str(i) for i in range(len(found)))
    if classes and is_numbered and len(found) == len(classes):
        return {name: found[str(i)] for i, name in enumerate(classes)}
    if not classes:
        return found
    lost = [name for name in classes if name not in known]
    if len(lost) > (1 if len(classes) == 2 else 0):
        raise ConfigError(
            f"--classes {lost[0]}: {path.name} has no such column; it has "
            f"{list_names(list(found), 12)}.{did_you_mean(lost[0], list(known))}"
        )
    return {name: known[name] for name in classes if name in known}


def find_roles(frame: pd.DataFrame, columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return which column is what: the named one, else the first that is called so."""
    roles = {}
    by_lower = {column.lower(): column for column in reversed(list(frame.columns))}
    for role, names in NAMES.items():
        if role in columns:
            if columns[role] not in frame:
                raise ConfigError(
                    f"--{role}-column {columns[role]}: {path.name} has no such column; it has "
                    f"{list_names(list(frame.columns), 12)}"
                )
            roles[role] = columns[role]
        else:
            found = [by_lower[name] for name in names if name in by_lower]
            if found:
                roles[role] = found[0]
    return roles


def load_texts(path: Path) -> pd.DataFrame:
    """Read CSV, TSV or parquet as texts, so that no id is taken for a number.

    Raises:
        DataError: it is missing, empty or cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
    else:
        frame = _read_csv(path, header=0)
    if not len(frame) or not len(frame.columns):
        raise DataError(f"{path} has no rows")
    frame.columns = pd.Index([str(column).strip() for column in frame.columns])
    return frame


def _read_csv(path: Path, *, header: int | None) -> pd.DataFrame:
    text = _read_text(path)
    if not text.strip():
        raise DataError(f"{path} is empty")
    first = text.splitlines()[0]
    separator = max((",", "\t", ";"), key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=separator))]
    twice = [name for name in names if names.count(name) > 1]
    if header is not None and twice:
        raise DataError(f"{path} has the column {twice[0]} twice")
    try:
        return pd.read_csv(
            path,
            sep=separator,
            header=header,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"cannot read {path}: {error}") from error


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        return path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as text: {error}") from error


def to_numbers(raw: Raw) -> np.ndarray:
    """Return the scores, (N, number of columns) float64.

    Raises:
        DataError: a cell that is no finite number; names row, image and column.
    """
    columns = list(raw.scores.values())
    values = np.array([[_parse(text) for text in raw.frame[c]] for c in columns]).T
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        given = raw.frame[columns[column]].iloc[row]
        raise DataError(
            f"{raw.path}: row {row + 1} (image {raw.ids.iloc[row]}) has {columns[column]}="
            f"{given!r}, a finite number is expected. If {columns[column]} is no class, name the "
            "classes with --classes"
        )
    return values


def _parse(text: Any) -> float:
    """Return the nearest double, which older pandas' own parser misses by a bit."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")
