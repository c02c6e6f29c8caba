"""The files of predictions of other tools as tables of texts, in which every column has a role.

Two kinds of files are read: a table (CSV, TSV, parquet) of image id, label and one score a class;
and a file of MedMNIST's evaluator, which has neither header nor labels: its name says dataset and
split, and the dataset's npz has the labels.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tlcnn.data.datasets.medmnist import load_medmnist_info
from tlcnn.data.files import open_file
from tlcnn.errors import ConfigError, DataError, did_you_mean, list_names

ROLES = {  # what a column may be called, without regard to case
    "id": ("image_id", "id", "image", "filename", "file", "isic_id"),
    "label": ("label", "dx", "target", "y_true", "true", "true_0", "truth", "diagnosis", "class"),
    "group": ("group", "lesion_id", "patient_id", "lesion", "patient"),
    "split": ("split",),
}
_SCORE = re.compile(r"(logit|prob|probability|score|p)[/_](.+)", re.IGNORECASE)
_EVALUATOR_FILE = re.compile(r"([a-z]+mnist)(?:_(\d+))?_(train|val|test)(?![a-z])")


@dataclass(frozen=True)
class Options:
    """How a file is to be read, where it does not say so itself.

    Attributes:
        split: the split of all images, where no column says it; default `test`.
        labels: a table of id and label, or for an evaluator file the dataset's npz.
        groups: a table of id and group (the lesion).
        classes: K names in the order of the labels; default: the columns that hold scores.
        columns: the names of the columns of `ROLES`.
        task: one of `TASKS`; default by the number of classes.
        positive: the class that sensitivity is about.
        logits: the scores are logits, not probabilities.
    """

    split: str | None = None
    labels: Path | None = None
    groups: Path | None = None
    classes: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    task: str | None = None
    positive: str | None = None
    logits: bool = False


@dataclass(frozen=True)
class Rows:
    """The N rows of a file, to name one of them in a message."""

    path: Path
    ids: list[str]

    def refuse(self, is_wrong: Any, describe: Callable[[int], str]) -> None:
        """Raise DataError for the first wrong row, where there is one.

        Args:
            is_wrong: (N,) bool, an array or a series.
            describe: from the position of a row to what it has, and what is allowed.
        """
        wrong = np.flatnonzero(is_wrong)
        if len(wrong):
            row = int(wrong[0])
            more = f" ({len(wrong):,} of {len(self.ids):,} rows are so)" if len(wrong) > 1 else ""
            place = f"{self.path}: row {row + 1} (image {self.ids[row]})"
            raise DataError(f"{place} has {describe(row)}{more}")


@dataclass(frozen=True)
class TextTable:
    """A file of predictions of N images, as texts.

    Attributes:
        frame: all columns of the file.
        options: those of the caller, completed by what the file itself says.
        about: the texts of each role that is known, one column a role; `id` is one of them.
        score_columns: class -> column of `frame`.
        unread: the columns that have neither a role nor scores nor targets.
    """

    rows: Rows
    frame: pd.DataFrame
    options: Options
    about: pd.DataFrame
    score_columns: Mapping[str, str]
    unread: tuple[str, ...]


def load_text_table(path: Path, options: Options) -> TextTable:
    """Read a file of predictions, and find what each of its columns holds.

    Raises:
        DataError: the file is broken, or has no image ids or scores.
        ConfigError: a column or class that the file does not have, or missing labels.
    """
    frame, options = _load_predictions(path, options)
    roles = _find_roles(path, frame, options.columns)
    about = _load_role_texts(path, frame, roles, options)
    columns = [str(name) for name in frame if name not in roles.values()]
    columns = [name for name in columns if not name.startswith("target/")]
    score_columns = _find_score_columns(path, columns, options.classes)
    unread = tuple(name for name in columns if name not in score_columns.values())
    return TextTable(
        Rows(path, about["id"].tolist()), frame, options, about, score_columns, unread
    )


def _load_predictions(path: Path, options: Options) -> tuple[pd.DataFrame, Options]:
    """Return a file as a table with a header, and the options that the file settles."""
    name = parse_evaluator_name(path)
    if name is not None:
        rows = _load_rows(path)
        if not np.isnan(parse_number(rows.iat[0, 0])):  # it has no header
            return _add_labels(path, rows, name, options)
    return _load_table(path), options


def _load_table(path: Path) -> pd.DataFrame:
    """Read a parquet file, or CSV or TSV with a header: as texts, so that ids stay as they are."""
    rows = _load_rows(path)
    if path.suffix.lower() != ".parquet":
        rows = rows[1:].set_axis(rows.iloc[0], axis=1)
    columns = pd.Index([str(column).strip() for column in rows.columns])
    if columns.has_duplicates:
        raise DataError(f"{path} has the column {columns[columns.duplicated()][0]} twice")
    if rows.empty:
        raise DataError(f"{path} has no rows")
    return rows.set_axis(columns, axis=1).reset_index(drop=True)


def _load_rows(path: Path) -> pd.DataFrame:
    """Read a parquet file, or all rows of a CSV or TSV file, the header among them."""
    try:
        with open_file(path) as file:
            content = file.read()
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(io.BytesIO(content))
        text = content.decode("utf-8-sig")
        separator = max((",", "\t", ";"), key=text.partition("\n")[0].count)
        return pd.read_csv(
            io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False
        )
    except (OSError, ValueError) as error:  # the errors of pandas' parsers are ValueErrors
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {reason}") from error


def _find_roles(path: Path, frame: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, str]:
    """Return role -> column: the one in `columns`, else the first with a name in `ROLES`."""
    by_lower = {column.lower(): column for column in reversed(list(frame.columns))}
    roles = {}
    for role, names in ROLES.items():
        if role in columns and columns[role] not in frame:
            raise ConfigError(
                f"--{role}-column {columns[role]}: {path.name} has no such column; it has "
                f"{list_names(list(frame.columns), 12)}"
            )
        candidates = [by_lower[name] for name in names if name in by_lower]
        if role in columns or candidates:
            roles[role] = columns.get(role) or candidates[0]
    return roles


def _load_role_texts(
    path: Path, frame: pd.DataFrame, roles: Mapping[str, str], options: Options
) -> pd.DataFrame:
    """Return the texts of each role that is known, one column a role; `id` is one of them."""
    texts = pd.DataFrame({role: frame[column].astype(str) for role, column in roles.items()})
    if "id" not in texts:
        raise DataError(describe_missing(path, frame, "id"))
    rows = Rows(path, texts["id"].tolist())
    rows.refuse(texts["id"].str.strip() == "", lambda row: "no image id")
    rows.refuse(
        texts["id"].duplicated(),
        lambda row: "a prediction before. Give one an image (the mean of its views)",
    )
    for role, table_path in (("label", options.labels), ("group", options.groups)):
        if table_path is not None:
            texts[role] = _look_up(table_path, role, texts["id"], options.columns)
    return texts


def _look_up(
    path: Path, role: str, image_ids: "pd.Series[str]", columns: Mapping[str, str]
) -> "pd.Series[str]":
    """Return a column of another table, for these images."""
    frame = _load_table(path)
    roles = _find_roles(path, frame, {k: v for k, v in columns.items() if v in frame})
    for needed in ("id", role):
        if needed not in roles:
            raise DataError(describe_missing(path, frame, needed))
    ids, values = (frame[roles[name]].astype(str) for name in ("id", role))
    texts = image_ids.map(dict(zip(ids, values, strict=True)))
    missing = image_ids[texts.isna()].tolist()
    if missing:
        raise DataError(f"{path} has no {role} of {len(missing)} images: {list_names(missing)}")
    return texts


def describe_missing(path: Path, frame: pd.DataFrame, role: str) -> str:
    elsewhere = f", or give another table: --{role}s FILE" if role in ("label", "group") else ""
    return (
        f"{path} has no column of the {role} ({', '.join(ROLES[role])}); it has "
        f"{list_names(list(frame.columns), 12)}. Name it with --{role}-column{elsewhere}"
    )


def _find_score_columns(
    path: Path, columns: Sequence[str], classes: Sequence[str]
) -> dict[str, str]:
    """Return class -> column: those of the named classes, else those with a prefix, else all.

    Args:
        columns: the columns that have no other role. `prob_mel` is one of the class `mel`.
    """
    prefixed = {match[2]: column for column in columns if (match := _SCORE.fullmatch(column))}
    plain = {column: column for column in columns}
    scores = prefixed or plain
    if not scores:
        raise DataError(f"{path} has no column of scores: one a class is expected")
    if not classes:
        return scores
    if sorted(scores) == sorted(str(i) for i in range(len(classes))):
        return {name: scores[str(i)] for i, name in enumerate(classes)}
    scores = plain | prefixed
    missing = [name for name in classes if name not in scores]
    if len(missing) > (1 if len(classes) == 2 else 0):  # one score of two classes is enough
        raise ConfigError(
            f"--classes {missing[0]}: {path.name} has no such column; it has "
            f"{list_names(list(scores), 12)}.{did_you_mean(missing[0], list(scores))}"
        )
    return {name: scores[name] for name in classes if name in scores}


# ---- files of MedMNIST's evaluator --------------------------------------------------------------


class EvaluatorName(NamedTuple):
    """What the name of a MedMNIST evaluator file says."""

    flag: str
    split: str
    seed: int | None


def parse_evaluator_name(path: Path) -> EvaluatorName | None:
    """Return what the name of an evaluator file says, or None if it is not such a name.

    Example:
        >>> parse_evaluator_name(Path("breastmnist_64_test_[AUC]0.850_[ACC]0.860@run1.csv"))
        EvaluatorName(flag='breastmnist', split='test', seed=1)
    """
    match = _EVALUATOR_FILE.match(path.name)
    if not match or match[1] not in load_medmnist_info():
        return None
    run = re.search(r"@\D*(\d{1,6})\.csv$", path.name)  # longer numbers are times
    return EvaluatorName(match[1], match[3], int(run[1]) if run else None)


def _add_labels(
    path: Path, rows: pd.DataFrame, name: EvaluatorName, options: Options
) -> tuple[pd.DataFrame, Options]:
    """Return an evaluator file as a table with labels, and the options that its dataset settles.

    Args:
        rows: the position in the split, then a score a class, or that of the second of two.
    """
    facts = load_medmnist_info()[name.flag]
    classes = options.classes or tuple(facts["classes"])
    n_scores = rows.shape[1] - 1
    if n_scores != len(classes) and (n_scores, len(classes)) != (1, 2):
        raise DataError(
            f"{path} has {n_scores} scores a row; {name.flag} has {len(classes)} classes: "
            f"{list_names(classes, 14)}"
        )
    if options.labels is None:
        raise ConfigError(
            f"{path.name} has no labels: give the dataset's file, --labels {name.flag}.npz "
            f"(`tlcnn data get {name.flag}` fetches it)"
        )
    try:
        with open_file(options.labels) as file, np.load(file, allow_pickle=False) as arrays:
            labels = arrays[f"{name.split}_labels"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"cannot read {name.split}_labels in {options.labels}: {error}") from error
    positions = rows[0].map(parse_number).tolist()
    if sorted(positions) != list(range(len(labels))):
        raise DataError(
            f"{path} has {len(positions):,} rows, {options.labels.name} has {len(labels):,} "
            f"{name.split} images: every position from 0 on once is expected"
        )
    truth = labels.reshape(len(labels), -1)[np.array(positions, dtype=int)]
    names = ["label"] if truth.shape[1] == 1 else [f"target/{label}" for label in classes]
    scores = rows.drop(columns=0).set_axis([f"prob/{c}" for c in classes[-n_scores:]], axis=1)
    ids = pd.Series([f"{name.split}-{int(position):06d}" for position in positions], name="id")
    return pd.concat([ids, scores, pd.DataFrame(truth, columns=names)], axis=1), replace(
        options,
        split=options.split or name.split,
        labels=None,
        classes=classes,
        columns={},
        task=options.task or facts["task"],
        positive=options.positive or facts["positive"],
    )


def parse_number(text: object) -> float:
    """Return a number as Python reads it, to the nearest double; NaN for anything else."""
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
