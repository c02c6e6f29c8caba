"""Predictions of other tools, checked: probabilities that are some, labels that are classes.

    file -> Raw (texts, and what its columns are) -> Foreign (labels, groups, logits)

MedMNIST's evaluator files have neither header nor labels: their name says dataset and split, and
the dataset's npz has the labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.data.index import SPLITS, TASKS, make_strata
from tlcnn.data.medmnist_info import load_medmnist_info
from tlcnn.errors import ConfigError, DataError, did_you_mean, list_names
from tlcnn.records.foreign_table import (
    NAMES,
    Raw,
    find_roles,
    is_medmnist_file,
    load_medmnist_scores,
    load_raw,
    load_texts,
    parse_medmnist_name,
    to_numbers,
)

_FLOOR = 1e-30  # of a probability, so that its logarithm is finite
_TOLERANCE = 1e-3  # of a row's sum


@dataclass(frozen=True)
class Options:
    """How a file is to be read, where it does not say so itself.

    Attributes:
        split: what the images were, where no column says it; default `test`.
        labels: a table of id and label, or of a MedMNIST file the dataset's npz.
        groups: a table of id and group (the lesion).
        classes: K names in the order of the labels; default: the columns that hold scores.
        columns: names of the columns `id`, `label`, `group` and `split`.
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
        table: split, image_id, group, label (int64), `logit/CLASS` (float64; of probabilities
            their logarithms) and, of a multi-label task, `target/CLASS`.
        classes: K names, in the order of the labels.
        positive: the class that sensitivity is about, or None.
        has_groups: the groups are known; else each image is its own.
        notes: what was assumed.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    task: str
    has_groups: bool = True
    positive: str | None = None
    notes: tuple[str, ...] = ()


def load_foreign(path: Path, options: Options | None = None) -> Foreign:
    """Read a file of predictions: CSV, TSV or parquet with a header, or an evaluator's file.

    Raises:
        DataError: the file is broken, or its numbers are no probabilities.
        ConfigError: a split, task, class or column that is not known.
    """
    options = options or Options()
    _check_words(options)
    columns = options.columns or {}
    if is_medmnist_file(path):
        options = _fill_medmnist(path, options)
        raw = _label_medmnist(load_medmnist_scores(path, options.classes), options)
    else:
        raw = _label(load_raw(path, options.classes, columns), options)
    _check_ids(raw)
    classes = options.classes or tuple(raw.scores)
    if len(classes) < 2:
        raise DataError(
            f"{path} has scores of one class, {classes[0]}: name both with --classes, "
            "the other one first"
        )
    task = options.task or _guess_task(raw, classes)
    logits = _make_logits(raw, classes, task, are_logits=options.logits or raw.are_logits)
    truth = _read_targets(raw, classes) if task == "multi-label" else _read_labels(raw, classes)
    table = pd.DataFrame({"split": _read_splits(raw, options.split), "image_id": list(raw.ids)})
    table["group"] = _read_groups(raw, options)
    table["label"] = make_strata(truth) if truth.ndim == 2 else truth
    scores = {f"logit/{name}": logits[:, i] for i, name in enumerate(classes)}
    if truth.ndim == 2:
        scores |= {f"target/{name}": truth[:, i] for i, name in enumerate(classes)}
    table = pd.concat([table, pd.DataFrame(scores)], axis=1)
    notes = (f"columns not read: {list_names(raw.ignored, 8)}",) if raw.ignored else ()
    has_groups = options.groups is not None or "group" in raw.roles
    return Foreign(table, classes, task, has_groups, options.positive, notes)


def _check_words(options: Options) -> None:
    for name, given, allowed in (
        ("--task", options.task, TASKS),
        ("--split", options.split, SPLITS),
    ):
        if given is not None and given not in allowed:
            hint = did_you_mean(given, allowed)
            raise ConfigError(f"{name} {given}: one of {', '.join(allowed)}.{hint}")
    if len(set(options.classes)) < len(options.classes):
        raise ConfigError(f"--classes {' '.join(options.classes)}: every class once")


def _check_ids(raw: Raw) -> None:
    ids = raw.ids
    if (ids.astype(str).str.strip() == "").any():
        raise DataError(f"{raw.path}: row {int((ids == '').argmax()) + 1} has no image id")
    twice = sorted(set(ids[ids.duplicated()]))
    if twice:
        raise DataError(
            f"{raw.path}: {len(twice)} images are there more than once: "
            f"{list_names(twice)}. Give one prediction an image (the mean of its views)"
        )


# ---- MedMNIST -----------------------------------------------------------------------------------


def _fill_medmnist(path: Path, options: Options) -> Options:
    found = parse_medmnist_name(path)
    assert found is not None
    facts = load_medmnist_info()[found.flag]
    return replace(
        options,
        split=options.split or found.split,
        classes=options.classes or tuple(facts["classes"]),
        task=options.task or facts["task"],
        positive=options.positive or facts["positive"],
    )


def _label_medmnist(raw: Raw, options: Options) -> Raw:
    """Add the labels that the npz has, by position."""
    found = parse_medmnist_name(raw.path)
    assert found is not None
    if options.labels is None:
        raise ConfigError(
            f"{raw.path.name} has no labels: give the dataset's file, --labels {found.flag}.npz "
            f"(`tlcnn data get {found.flag}` fetches it)"
        )
    labels = _load_npz_labels(options.labels, f"{found.split}_labels")
    positions = [int(image_id.rpartition("-")[2]) for image_id in raw.ids]
    if sorted(positions) != list(range(len(labels))):
        raise DataError(
            f"{raw.path} has {len(positions):,} rows, {options.labels.name} has {len(labels):,} "
            f"{found.split} images: every position from 0 on once is expected"
        )
    mine = labels[positions]
    if mine.shape[1] == 1:
        frame, roles = raw.frame.assign(label=mine[:, 0].astype(str)), {"label": "label"}
    else:
        names = [f"target/{name}" for name in options.classes]
        frame, roles = raw.frame.assign(**dict(zip(names, mine.T.astype(str), strict=True))), {}
    return replace(raw, frame=frame, roles={**raw.roles, **roles})


def _load_npz_labels(path: Path, name: str) -> np.ndarray:
    """Return the labels of a split, (n, number of labels an image)."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            labels = arrays[name]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"cannot read {name} in {path}: {error}") from error
    return labels.reshape(len(labels), -1)


# ---- labels, targets, groups, splits ------------------------------------------------------------


def _label(raw: Raw, options: Options) -> Raw:
    """Add the labels of another table, where the file itself has none."""
    has_targets = any(str(column).startswith("target/") for column in raw.frame)
    if options.labels is not None:
        found = _look_up(options.labels, "label", raw, options.columns or {})
        return replace(
            raw,
            frame=raw.frame.assign(**{"label ": found}),
            roles={**raw.roles, "label": "label "},
        )
    if "label" not in raw.roles and not has_targets:
        raise DataError(
            f"{raw.path} has no column of labels (one of {', '.join(NAMES['label'])}). Name it "
            "with --label-column, or give a table of id and label: --labels FILE"
        )
    return raw


def _look_up(path: Path, role: str, raw: Raw, columns: Mapping[str, str]) -> list[str]:
    """Return a column of another table for the images of this one."""
    frame = load_texts(path)
    roles = find_roles(frame, {k: v for k, v in columns.items() if v in frame}, path)
    if "id" not in roles or role not in roles:
        raise DataError(
            f"{path} needs a column of ids ({', '.join(NAMES['id'])}) and one of {role}s "
            f"({', '.join(NAMES[role])}); it has {list_names(list(frame.columns), 12)}"
        )
    found = dict(zip(frame[roles["id"]].astype(str), frame[roles[role]].astype(str), strict=True))
    lost = [image_id for image_id in raw.ids if image_id not in found]
    if lost:
        raise DataError(f"{path} has no {role} of {len(lost)} images: {list_names(lost)}")
    return [found[image_id] for image_id in raw.ids]


def _read_labels(raw: Raw, classes: Sequence[str]) -> np.ndarray:
    """Return labels (N,) int64 of names, or of positions in the classes."""
    given = [str(value).strip() for value in raw.frame[raw.roles["label"]]]
    position = {name: i for i, name in enumerate(classes)}
    if not set(given) <= set(position):
        numbers = {str(i): i for i in range(len(classes))}
        numbers |= {f"{i}.0": i for i in range(len(classes))}
        if set(given) <= set(numbers):
            position = numbers
    unknown = [(i, name) for i, name in enumerate(given) if name not in position]
    if unknown:
        row, name = unknown[0]
        raise DataError(
            f"{raw.path}: row {row + 1} (image {raw.ids.iloc[row]}) has the label {name!r}, which "
            f"is no class; they are {list_names(list(classes), 12)}."
            f"{did_you_mean(name, list(classes))} Name the classes with --classes"
        )
    return np.array([position[name] for name in given], dtype=np.int64)


def _read_targets(raw: Raw, classes: Sequence[str]) -> np.ndarray:
    """Return targets (N, K) uint8 of `target/CLASS` columns."""
    lost = [name for name in classes if f"target/{name}" not in raw.frame]
    if lost:
        raise DataError(
            f"{raw.path}: a multi-label task needs a column target/CLASS of 0 and 1 for every "
            f"class; target/{lost[0]} is missing"
        )
    values = raw.frame[[f"target/{name}" for name in classes]].astype(str)
    if not values.isin(["0", "1"]).all(axis=None):
        raise DataError(f"{raw.path}: a target is neither 0 nor 1")
    return values.to_numpy().astype(np.uint8)


def _read_groups(raw: Raw, options: Options) -> list[str]:
    """Return the group of each image; alone where none is known."""
    if options.groups is not None:
        return _look_up(options.groups, "group", raw, options.columns or {})
    if "group" in raw.roles:
        return [str(group) for group in raw.frame[raw.roles["group"]]]
    return [str(image_id) for image_id in raw.ids]


def _read_splits(raw: Raw, split: str | None) -> list[str]:
    if split is not None or "split" not in raw.roles:
        return [split or "test"] * len(raw.frame)
    given = [str(value) for value in raw.frame[raw.roles["split"]]]
    wrong = [value for value in given if value not in SPLITS]
    if wrong:
        raise DataError(f"{raw.path}: the split {wrong[0]!r} is none of {', '.join(SPLITS)}")
    return given


def _guess_task(raw: Raw, classes: Sequence[str]) -> str:
    if "label" not in raw.roles:
        return "multi-label"
    return "binary" if len(classes) == 2 else "multi-class"


# ---- scores -------------------------------------------------------------------------------------


def _make_logits(raw: Raw, classes: Sequence[str], task: str, *, are_logits: bool) -> np.ndarray:
    """Return logits (N, K) whose softmax, or sigmoid, are the file's probabilities."""
    values = to_numbers(raw)
    if not are_logits:
        _check_range(raw, values)
    if values.shape[1] == 1 and len(classes) == 2 and task != "multi-label":
        other = np.zeros(len(values)) if are_logits else 1 - values[:, 0]
        is_first = classes[0] in raw.scores
        pair = (values[:, 0], other) if is_first else (other, values[:, 0])
        values = np.column_stack(pair)
    if are_logits:
        return values
    if task == "multi-label":
        kept = np.clip(values, _FLOOR, 1 - 1e-16)
        return np.log(kept) - np.log1p(-kept)
    _check_sums(raw, values)
    return np.log(np.maximum(values, _FLOOR))


def _check_range(raw: Raw, values: np.ndarray) -> None:
    bad = np.argwhere((values < 0) | (values > 1 + _TOLERANCE))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{raw.path}: row {row + 1} (image {raw.ids.iloc[row]}) has a probability of "
            f"{values[row, column]:g} for {list(raw.scores)[column]}; 0 to 1 is allowed. If these "
            "are logits, say --logits"
        )


def _check_sums(raw: Raw, values: np.ndarray) -> None:
    sums = values.sum(axis=1)
    bad = np.flatnonzero(np.abs(sums - 1) > _TOLERANCE)
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{raw.path}: row {row + 1} (image {raw.ids.iloc[row]}) has probabilities that sum to "
            f"{sums[row]:.4g}, not 1 ({len(bad):,} of {len(sums):,} rows). If these are logits, "
            "say --logits; if several classes can hold at once, --task multi-label"
        )
