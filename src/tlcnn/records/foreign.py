"""Predictions of other tools: files are read and checked.

    file -> Texts (what its columns say) -> Foreign (labels, groups, logits)

Two kinds of files are read: a table (CSV, TSV, parquet) of image id, label and one score a class;
and a file of MedMNIST's evaluator, which has neither header nor labels: its name says dataset and
split, and the dataset's npz has the labels.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

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
_NUMBER = re.compile(r"\s*[-+]?(\d|\.\d|nan|inf)", re.IGNORECASE)


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
    columns: Mapping[str, str] | None = None
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
class Texts:
    """The N rows of a file, as texts.

    Attributes:
        ids: the images' ids.
        roles: `label`, `group` and `split`, where the file has them, and their values.
        scores: one column a class.
        targets: one column a class, where the file has columns `target/CLASS`.
        are_logits: the columns' names say so.
        ignored: the columns that are none of these.
    """

    path: Path
    ids: list[str]
    roles: Mapping[str, list[str]]
    scores: pd.DataFrame
    targets: pd.DataFrame
    are_logits: bool = False
    ignored: tuple[str, ...] = ()

    def describe_row(self, row: int) -> str:
        """Return the place of a row for messages."""
        return f"{self.path}: row {row + 1} (image {self.ids[row]})"


def load_foreign(path: Path, options: Options | None = None) -> Foreign:
    """Read a file of predictions.

    Raises:
        DataError: the file is broken, or its numbers are no probabilities.
        ConfigError: an unknown split, task, class or column.
    """
    options = options or Options()
    for name, value, allowed in (
        ("--task", options.task, TASKS),
        ("--split", options.split, SPLITS),
    ):
        if value is not None and value not in allowed:
            hint = did_you_mean(value, allowed)
            raise ConfigError(f"{name} {value}: one of {', '.join(allowed)}.{hint}")
    if len(set(options.classes)) < len(options.classes):
        raise ConfigError(f"--classes {' '.join(options.classes)}: every class once")
    evaluator_name = parse_evaluator_name(path)
    if evaluator_name and _has_no_header(path):
        texts, options = _load_evaluator_file(path, evaluator_name, options)
    else:
        texts = _load_table(path, options)
    _check_ids(texts)
    classes = options.classes or tuple(map(str, texts.scores))
    if len(classes) < 2:
        raise DataError(
            f"{path} has scores of one class, {classes[0]}: name both with --classes, "
            "the other one first"
        )
    task = options.task
    if task is None and "label" not in texts.roles:
        task = "multi-label"
    elif task is None:
        task = "binary" if len(classes) == 2 else "multi-class"
    logits = _make_logits(texts, classes, task, options.logits or texts.are_logits)
    table = pd.DataFrame({"split": _parse_splits(texts, options.split), "image_id": texts.ids})
    if options.groups is not None:
        table["group"] = _look_up(options.groups, "group", texts, options)
    else:
        table["group"] = texts.roles.get("group", texts.ids)
    if task == "multi-label":
        targets = _parse_targets(texts, classes)
        table["label"] = make_strata(targets)
    else:
        table["label"] = _parse_labels(texts, classes)
    columns = {f"logit/{name}": logits[:, i] for i, name in enumerate(classes)}
    if task == "multi-label":
        columns |= {f"target/{name}": targets[:, i] for i, name in enumerate(classes)}
    return Foreign(
        pd.concat([table, pd.DataFrame(columns)], axis=1),
        classes,
        task,
        has_groups=options.groups is not None or "group" in texts.roles,
        positive=options.positive,
        notes=(f"columns not read: {list_names(texts.ignored, 8)}",) if texts.ignored else (),
    )


# ---- files as texts -----------------------------------------------------------------------------


def _load_table(path: Path, options: Options) -> Texts:
    """Read a table with a header."""
    frame = _load_texts(path)
    roles = _find_roles(frame, options.columns or {}, path)
    if "id" not in roles:
        raise DataError(
            f"{path} has no column of image ids (one of {', '.join(ROLES['id'])}); it has "
            f"{list_names(list(frame.columns), 12)}. Name it with --id-column"
        )
    target_columns = [c for c in frame.columns if c.startswith("target/")]
    rest = [c for c in frame.columns if c not in roles.values() and c not in target_columns]
    prefixed = {match[2]: c for c in rest if (match := _SCORE.fullmatch(c))}
    score_columns = _find_score_columns(path, rest, prefixed, options.classes)
    chosen = set(score_columns.values())
    are_logits = chosen <= set(prefixed.values()) and any(
        column.lower().startswith("logit") for column in prefixed.values()
    )
    texts = Texts(
        path,
        frame[roles["id"]].astype(str).tolist(),
        {role: frame[c].astype(str).tolist() for role, c in roles.items() if role != "id"},
        pd.DataFrame({name: frame[column] for name, column in score_columns.items()}),
        frame[target_columns].rename(columns=lambda c: c.removeprefix("target/")).astype(str),
        are_logits,
        tuple(column for column in rest if column not in chosen),
    )
    if options.labels is not None:
        labels = _look_up(options.labels, "label", texts, options)
        return replace(texts, roles={**texts.roles, "label": labels})
    if "label" not in roles and not target_columns:
        raise DataError(
            f"{path} has no column of labels (one of {', '.join(ROLES['label'])}). Name it "
            "with --label-column, or give a table of id and label: --labels FILE"
        )
    return texts


def _find_score_columns(
    path: Path, rest: Sequence[str], prefixed: Mapping[str, str], classes: Sequence[str]
) -> dict[str, str]:
    """Return class -> column: those of the named classes, else those with a prefix, else all.

    Args:
        rest: the columns that have no other role.
        prefixed: class -> column, such as `mel` -> `prob_mel`.
    """
    columns = dict(prefixed) or {column: column for column in rest}
    if not columns:
        raise DataError(f"{path} has no column of scores: one a class is expected")
    if not classes:
        return columns
    if sorted(columns) == sorted(str(i) for i in range(len(classes))):
        return {name: columns[str(i)] for i, name in enumerate(classes)}
    columns = {**{column: column for column in rest}, **prefixed}
    missing = [name for name in classes if name not in columns]
    if len(missing) > (1 if len(classes) == 2 else 0):
        raise ConfigError(
            f"--classes {missing[0]}: {path.name} has no such column; it has "
            f"{list_names(list(columns), 12)}.{did_you_mean(missing[0], list(columns))}"
        )
    return {name: columns[name] for name in classes if name in columns}


def _find_roles(frame: pd.DataFrame, columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return role -> column: the one in `columns`, else the first with a name in `ROLES`."""
    roles = {}
    by_lower = {column.lower(): column for column in reversed(list(frame.columns))}
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


def _look_up(path: Path, role: str, texts: Texts, options: Options) -> list[str]:
    """Return a column of another table for the images of this one."""
    frame = _load_texts(path)
    columns = {k: v for k, v in (options.columns or {}).items() if v in frame}
    roles = _find_roles(frame, columns, path)
    if "id" not in roles or role not in roles:
        raise DataError(
            f"{path} needs a column of ids ({', '.join(ROLES['id'])}) and one of {role}s "
            f"({', '.join(ROLES[role])}); it has {list_names(list(frame.columns), 12)}"
        )
    ids, values = frame[roles["id"]].astype(str), frame[roles[role]].astype(str)
    by_id = dict(zip(ids, values, strict=True))
    missing = [image_id for image_id in texts.ids if image_id not in by_id]
    if missing:
        raise DataError(f"{path} has no {role} of {len(missing)} images: {list_names(missing)}")
    return [by_id[image_id] for image_id in texts.ids]


def _load_texts(path: Path) -> pd.DataFrame:
    """Read CSV, TSV or parquet as texts, so that no id is taken for a number."""
    if path.suffix.lower() == ".parquet":
        try:
            frame = pd.read_parquet(io.BytesIO(_read_bytes(path)))
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
    first_line = text.splitlines()[0]
    separator = max((",", "\t", ";"), key=first_line.count)
    names = [name.strip() for name in next(csv.reader([first_line], delimiter=separator))]
    repeated = [name for name in names if names.count(name) > 1]
    if header is not None and repeated:
        raise DataError(f"{path} has the column {repeated[0]} twice")
    try:
        return pd.read_csv(
            io.StringIO(text), sep=separator, header=header, dtype=str, keep_default_na=False
        )
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"cannot read {path}: {error}") from error


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except ValueError as error:
        raise DataError(f"cannot read {path} as text: {error}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        with open_file(path) as file:
            return file.read()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


# ---- files of MedMNIST's evaluator --------------------------------------------------------------


@dataclass(frozen=True)
class EvaluatorName:
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


def _has_no_header(path: Path) -> bool:
    if path.suffix == ".parquet":
        return False
    lines = _read_text(path).splitlines()
    return bool(lines) and all(_NUMBER.match(word) for word in lines[0].split(","))


def _load_evaluator_file(
    path: Path, name: EvaluatorName, options: Options
) -> tuple[Texts, Options]:
    """Read an evaluator file: the position in the split, then a score a class.

    Returns:
        The texts with the labels of the npz, and the options that the dataset settles.
    """
    facts = load_medmnist_info()[name.flag]
    options = replace(
        options,
        split=options.split or name.split,
        classes=options.classes or tuple(facts["classes"]),
        task=options.task or facts["task"],
        positive=options.positive or facts["positive"],
    )
    classes = list(options.classes)
    frame = _read_csv(path, header=None)
    n_scores = frame.shape[1] - 1
    if n_scores != len(classes) and (n_scores, len(classes)) != (1, 2):
        raise DataError(
            f"{path} has {n_scores} scores a row; {name.flag} has {len(classes)} classes: "
            f"{list_names(classes, 14)}"
        )
    scores = frame.iloc[:, 1:].set_axis(classes[-n_scores:], axis=1)  # one is the second class's
    try:
        positions = frame.iloc[:, 0].astype(float).astype(int).tolist()
    except ValueError as error:
        raise DataError(f"{path}: the first column is no position in the split: {error}") from None
    if options.labels is None:
        raise ConfigError(
            f"{path.name} has no labels: give the dataset's file, --labels {name.flag}.npz "
            f"(`tlcnn data get {name.flag}` fetches it)"
        )
    try:
        with np.load(io.BytesIO(_read_bytes(options.labels)), allow_pickle=False) as arrays:
            labels = arrays[f"{name.split}_labels"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"cannot read {name.split}_labels in {options.labels}: {error}") from error
    if sorted(positions) != list(range(len(labels))):
        raise DataError(
            f"{path} has {len(positions):,} rows, {options.labels.name} has {len(labels):,} "
            f"{name.split} images: every position from 0 on once is expected"
        )
    truth = pd.DataFrame(labels.reshape(len(labels), -1)[positions].astype(str))
    ids = [f"{name.split}-{position:06d}" for position in positions]
    if truth.shape[1] == 1:
        return Texts(path, ids, {"label": truth[0].tolist()}, scores, pd.DataFrame()), options
    return Texts(path, ids, {}, scores, truth.set_axis(classes, axis=1)), options


# ---- from texts to checked values ---------------------------------------------------------------


def _check_ids(texts: Texts) -> None:
    ids = pd.Series(texts.ids)
    is_empty = ids.str.strip() == ""
    if is_empty.any():
        raise DataError(f"{texts.path}: row {int(is_empty.argmax()) + 1} has no image id")
    repeated = sorted(set(ids[ids.duplicated()]))
    if repeated:
        raise DataError(
            f"{texts.path}: {len(repeated)} images are there more than once: "
            f"{list_names(repeated)}. Give one prediction an image (the mean of its views)"
        )


def _parse_labels(texts: Texts, classes: Sequence[str]) -> np.ndarray:
    """Return labels (N,) int64; texts are names of classes or their positions."""
    names = [name.strip() for name in texts.roles["label"]]
    position = {name: i for i, name in enumerate(classes)}
    if not set(names) <= set(position):
        numbers = {text: i for i in range(len(classes)) for text in (str(i), f"{i}.0")}
        position = numbers if set(names) <= set(numbers) else position
    for row, name in enumerate(names):
        if name not in position:
            raise DataError(
                f"{texts.describe_row(row)} has the label {name!r}, which is no class; they are "
                f"{list_names(list(classes), 12)}.{did_you_mean(name, list(classes))} "
                "Name the classes with --classes"
            )
    return np.array([position[name] for name in names], dtype=np.int64)


def _parse_targets(texts: Texts, classes: Sequence[str]) -> np.ndarray:
    """Return targets (N, K) uint8."""
    missing = [name for name in classes if name not in texts.targets]
    if missing:
        raise DataError(
            f"{texts.path}: a multi-label task needs a column target/CLASS of 0 and 1 for every "
            f"class; target/{missing[0]} is missing"
        )
    values = texts.targets[list(classes)]
    if not values.isin(["0", "1"]).all(axis=None):
        raise DataError(f"{texts.path}: a target is neither 0 nor 1")
    return values.to_numpy().astype(np.uint8)


def _parse_splits(texts: Texts, split: str | None) -> list[str]:
    if split is not None or "split" not in texts.roles:
        return [split or "test"] * len(texts.ids)
    unknown = [value for value in texts.roles["split"] if value not in SPLITS]
    if unknown:
        raise DataError(f"{texts.path}: the split {unknown[0]!r} is none of {', '.join(SPLITS)}")
    return texts.roles["split"]


def _make_logits(texts: Texts, classes: Sequence[str], task: str, are_logits: bool) -> np.ndarray:
    """Return logits (N, K) whose softmax, or sigmoid, are the file's probabilities."""
    values = _parse_numbers(texts)
    if not are_logits:
        outside = np.argwhere((values < 0) | (values > 1 + SUM_TOLERANCE))
        if len(outside):
            row, column = outside[0]
            raise DataError(
                f"{texts.describe_row(row)} has a probability of {values[row, column]:g} for "
                f"{texts.scores.columns[column]}; 0 to 1 is allowed. If these are logits, say "
                "--logits"
            )
    if values.shape[1] == 1 and len(classes) == 2 and task != "multi-label":
        score = values[:, 0]
        rest = np.zeros(len(score)) if are_logits else 1 - score
        pair = (score, rest) if classes[0] in texts.scores else (rest, score)
        values = np.column_stack(pair)
    if are_logits:
        return values
    if task == "multi-label":
        clipped = np.clip(values, MIN_PROBABILITY, 1 - 1e-16)
        return np.log(clipped) - np.log1p(-clipped)
    sums = values.sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if len(wrong):
        raise DataError(
            f"{texts.describe_row(int(wrong[0]))} has probabilities that sum to "
            f"{sums[wrong[0]]:.4g}, not 1 ({len(wrong):,} of {len(sums):,} rows). If these are "
            "logits, say --logits; if several classes can hold at once, --task multi-label"
        )
    return np.log(np.maximum(values, MIN_PROBABILITY))


def _parse_numbers(texts: Texts) -> np.ndarray:
    """Return the scores, (N, number of columns) float64, all finite."""

    def parse(text: object) -> float:
        try:  # Python's own parser: pandas' older ones miss the nearest double by a bit
            return float(text)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return float("nan")

    values = np.array([[parse(text) for text in row] for row in texts.scores.to_numpy().tolist()])
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, column = wrong[0]
        name = texts.scores.columns[column]
        raise DataError(
            f"{texts.describe_row(row)} has {name}={texts.scores.iloc[row, column]!r}, a finite "
            f"number is expected. If {name} is no class, name the classes with --classes"
        )
    return values
