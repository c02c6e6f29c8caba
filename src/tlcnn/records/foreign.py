"""Predictions of other tools: a file is read and checked.

    file -> table of texts -> Foreign (labels, groups, logits)

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

from tlcnn.config.schema import check_word
from tlcnn.data.datasets.medmnist import load_medmnist_info
from tlcnn.data.files import open_file
from tlcnn.data.index import SPLITS, TASKS, make_strata
from tlcnn.errors import ConfigError, DataError, did_you_mean, list_names

MIN_PROBABILITY = 1e-30  # so that its logarithm is finite
SUM_TOLERANCE = 1e-3  # of the probabilities of an image

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
class Foreign:
    """Predictions that another tool made of N images, checked.

    Attributes:
        table: split, image_id, group, label (int64), `logit/CLASS` (float64; the logarithms of
            probabilities) and, for a multi-label task, `target/CLASS`.
        classes: K names, in the order of the labels.
        has_groups: whether the groups are known; else each image is its own.
        positive: the class that sensitivity is about, or None.
        notes: what was assumed.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    task: str
    has_groups: bool = True
    positive: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def logits(self) -> np.ndarray:
        """(N, K) float64."""
        return self.table[[f"logit/{name}" for name in self.classes]].to_numpy(np.float64)


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


def load_foreign(path: Path, options: Options | None = None) -> Foreign:
    """Read a file of predictions.

    Raises:
        DataError: the file is broken, or its numbers are no probabilities.
        ConfigError: an unknown split, task, class or column.
    """
    options = options or Options()
    if options.task is not None:
        check_word("--task", options.task, TASKS)
    if options.split is not None:
        check_word("--split", options.split, SPLITS)
    if len(set(options.classes)) < len(options.classes):
        raise ConfigError(f"--classes {' '.join(options.classes)}: every class once")
    frame, options = _load_predictions(path, options)
    roles = _find_roles(path, frame, options.columns)
    about = _load_about(path, frame, roles, options)
    rows = Rows(path, about["id"].tolist())

    names = list(map(str, frame.columns))
    targets = [name for name in names if name.startswith("target/")]
    rest = [name for name in names if name not in (*roles.values(), *targets)]
    columns = _find_score_columns(path, rest, options.classes)
    classes = options.classes or tuple(columns)
    if len(classes) < 2:
        raise DataError(
            f"{path} has scores of one class, {classes[0]}: name both with --classes, "
            "the other one first"
        )
    task = "binary" if len(classes) == 2 else "multi-class"
    task = options.task or (task if "label" in about or not targets else "multi-label")
    if task != "multi-label" and "label" not in about:
        raise DataError(_describe_lack(path, frame, "label"))

    are_logits = options.logits or all(
        column.lower().startswith(("logit/", "logit_")) for column in columns.values()
    )
    scores = frame[list(columns.values())].set_axis(list(columns), axis=1)
    logits = _make_logits(rows, scores, classes, task, are_logits)
    table = pd.DataFrame({"split": _choose_splits(rows, about, options.split)})
    table["image_id"], table["group"] = about["id"], about.get("group", about["id"])
    frames = [table, pd.DataFrame(logits, columns=[f"logit/{name}" for name in classes])]
    if task == "multi-label":
        frames.append(_parse_targets(rows, frame, [f"target/{name}" for name in classes]))
        table["label"] = make_strata(frames[-1].to_numpy())
    else:
        table["label"] = _parse_labels(rows, about["label"], classes)
    ignored = [column for column in rest if column not in columns.values()]
    return Foreign(
        pd.concat(frames, axis=1),
        classes,
        task,
        has_groups="group" in about,
        positive=options.positive,
        notes=(f"columns not read: {list_names(ignored, 8)}",) if ignored else (),
    )


# ---- files as texts -----------------------------------------------------------------------------


def _load_predictions(path: Path, options: Options) -> tuple[pd.DataFrame, Options]:
    """Return a file as a table with a header, and the options that the file settles."""
    name = parse_evaluator_name(path)
    if name is not None:
        rows = _load_rows(path)
        if not np.isnan(_parse_number(rows.iat[0, 0])):  # it has no header
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


def _load_about(
    path: Path, frame: pd.DataFrame, roles: Mapping[str, str], options: Options
) -> pd.DataFrame:
    """Return the texts of each role that is known, one column a role; `id` is one of them."""
    about = pd.DataFrame({role: frame[column].astype(str) for role, column in roles.items()})
    if "id" not in about:
        raise DataError(_describe_lack(path, frame, "id"))
    rows = Rows(path, about["id"].tolist())
    rows.refuse(about["id"].str.strip() == "", lambda row: "no image id")
    rows.refuse(
        about["id"].duplicated(),
        lambda row: "a prediction before. Give one an image (the mean of its views)",
    )
    for role, table_path in (("label", options.labels), ("group", options.groups)):
        if table_path is not None:
            about[role] = _look_up(table_path, role, about["id"], options.columns)
    return about


def _look_up(
    path: Path, role: str, image_ids: "pd.Series[str]", columns: Mapping[str, str]
) -> "pd.Series[str]":
    """Return a column of another table, for these images."""
    frame = _load_table(path)
    roles = _find_roles(path, frame, {k: v for k, v in columns.items() if v in frame})
    for needed in ("id", role):
        if needed not in roles:
            raise DataError(_describe_lack(path, frame, needed))
    ids, values = (frame[roles[name]].astype(str) for name in ("id", role))
    texts = image_ids.map(dict(zip(ids, values, strict=True)))
    missing = image_ids[texts.isna()].tolist()
    if missing:
        raise DataError(f"{path} has no {role} of {len(missing)} images: {list_names(missing)}")
    return texts


def _describe_lack(path: Path, frame: pd.DataFrame, role: str) -> str:
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
    positions = rows[0].map(_parse_number).tolist()
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


# ---- from texts to checked values ---------------------------------------------------------------


def _parse_labels(rows: Rows, texts: "pd.Series[str]", classes: Sequence[str]) -> np.ndarray:
    """Return labels (N,) int64; texts are names of classes or their positions."""
    names = texts.str.strip()
    position = {name: i for i, name in enumerate(classes)}
    numbers = {text: i for i in range(len(classes)) for text in (str(i), f"{i}.0")}
    if not names.isin(position).all() and names.isin(numbers).all():
        position = numbers
    rows.refuse(
        ~names.isin(position),
        lambda row: (
            f"the label {names[row]!r}, which is no class; they are "
            f"{list_names(list(classes), 12)}.{did_you_mean(names[row], list(classes))} "
            "Name the classes with --classes"
        ),
    )
    return names.map(position).to_numpy(np.int64)


def _choose_splits(rows: Rows, about: pd.DataFrame, split: str | None) -> list[str]:
    if split is not None or "split" not in about:
        return [split or "test"] * len(about)
    splits = about["split"]
    rows.refuse(
        ~splits.isin(SPLITS),
        lambda row: f"the split {splits[row]!r}, which is none of {', '.join(SPLITS)}",
    )
    return splits.tolist()


def _parse_targets(rows: Rows, frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise DataError(
            f"{rows.path}: a multi-label task needs a column target/CLASS of 0 and 1 for every "
            f"class; {missing[0]} is missing"
        )
    texts = frame[columns].astype(str)
    rows.refuse(~texts.isin(["0", "1"]).all(axis=1), lambda row: "a target that is not 0 or 1")
    return texts.astype(np.uint8)


def _make_logits(
    rows: Rows, scores: pd.DataFrame, classes: Sequence[str], task: str, are_logits: bool
) -> np.ndarray:
    """Return logits (N, K) whose softmax, or sigmoid, are the file's probabilities."""
    values = scores.map(_parse_number).to_numpy(np.float64)

    def refuse(is_wrong: np.ndarray, advice: str) -> None:
        def describe(row: int) -> str:
            column = int(is_wrong[row].argmax())
            return f"{scores.columns[column]}={scores.iloc[row, column]!r}; {advice}"

        rows.refuse(is_wrong.any(axis=1), describe)

    refuse(
        ~np.isfinite(values),
        "a finite number is expected. If this is no class, name the classes with --classes",
    )
    if not are_logits:
        outside = (values < 0) | (values > 1 + SUM_TOLERANCE)
        refuse(outside, "a probability is 0 to 1. If these are logits, say --logits")
    if values.shape[1] == 1 and len(classes) == 2 and task != "multi-label":
        score = values[:, 0]
        rest = np.zeros(len(score)) if are_logits else 1 - score
        pair = (score, rest) if classes[0] in scores else (rest, score)
        values = np.column_stack(pair)
    if are_logits:
        return values
    if task == "multi-label":
        clipped = np.clip(values, MIN_PROBABILITY, 1 - 1e-16)
        return np.log(clipped) - np.log1p(-clipped)
    sums = values.sum(axis=1)
    rows.refuse(
        np.abs(sums - 1) > SUM_TOLERANCE,
        lambda row: (
            f"probabilities that sum to {sums[row]:.4g}, not 1. If these are logits, say "
            "--logits; if several classes can hold at once, --task multi-label"
        ),
    )
    return np.log(np.maximum(values, MIN_PROBABILITY))


def _parse_number(text: object) -> float:
    """Return a number as Python reads it, to the nearest double; NaN for anything else."""
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
