"""Predictions of other tools: labels, groups and logits from the texts of a file, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.config.schema import check_word
from tlcnn.data.index import SPLITS, TASKS, make_strata
from tlcnn.errors import ConfigError, DataError, did_you_mean, list_names
from tlcnn.records.foreign_table import (
    Options,
    Rows,
    describe_missing,
    load_text_table,
    parse_number,
)

MIN_PROBABILITY = 1e-30  # so that its logarithm is finite
SUM_TOLERANCE = 1e-3  # of the probabilities of an image


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
    texts = load_text_table(path, options)
    options, rows, about, columns = texts.options, texts.rows, texts.about, texts.score_columns
    classes = options.classes or tuple(columns)
    if len(classes) < 2:
        raise DataError(
            f"{path} has scores of one class, {classes[0]}: name both with --classes, "
            "the other one first"
        )
    task = "binary" if len(classes) == 2 else "multi-class"
    has_targets = any(str(name).startswith("target/") for name in texts.frame)
    task = options.task or (task if "label" in about or not has_targets else "multi-label")
    if task != "multi-label" and "label" not in about:
        raise DataError(describe_missing(path, texts.frame, "label"))

    are_logits = options.logits or all(
        column.lower().startswith(("logit/", "logit_")) for column in columns.values()
    )
    scores = texts.frame[list(columns.values())].set_axis(list(columns), axis=1)
    logits = _make_logits(rows, scores, classes, task, are_logits)
    table = pd.DataFrame({"split": _choose_splits(rows, about, options.split)})
    table["image_id"], table["group"] = about["id"], about.get("group", about["id"])
    frames = [table, pd.DataFrame(logits, columns=[f"logit/{name}" for name in classes])]
    if task == "multi-label":
        frames.append(_parse_targets(rows, texts.frame, [f"target/{name}" for name in classes]))
        table["label"] = make_strata(frames[-1].to_numpy())
    else:
        table["label"] = _parse_labels(rows, about["label"], classes)
    return Foreign(
        pd.concat(frames, axis=1),
        classes,
        task,
        has_groups="group" in about,
        positive=options.positive,
        notes=(f"columns not read: {list_names(texts.unread, 8)}",) if texts.unread else (),
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
    values = scores.map(parse_number).to_numpy(np.float64)

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
