"""The metrics: their names, which way is better, and how a run's predictions are scored by them.

A new metric is a function of `Predictions` that returns a `Score`, in `counting` or `ranking`,
and a line in `METRICS` or `CLASS_METRICS`.

Keys: `balanced_accuracy` for images, `group/balanced_accuracy` for groups (lesions, patients),
`recall/mel` for one class.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tlcnn.errors import ConfigError, did_you_mean
from tlcnn.statistics import counting, ranking
from tlcnn.statistics.predictions import (
    Predictions,
    compute_group_means,
    compute_sigmoid,
    compute_softmax,
    make_findings,
    make_predictions,
)
from tlcnn.statistics.score import Score

MELANOMA = ("mel", "melanoma")  # the positive class by default, where a dataset has it
SPLITS = ("train", "val", "test")
SELECTION_METRICS = ("balanced_accuracy", "accuracy", "nll")


@dataclass(frozen=True)
class Metric:
    """One number of predictions.

    Attributes:
        make: the metric as a function of the weights of test groups.
        lower_is_better: for losses, errors and counts of what is missing.
        needs_order: only for ordinal tasks, whose classes are levels.
        low, high: the least and the greatest value.
    """

    make: Callable[[Predictions], Score]
    lower_is_better: bool = False
    needs_order: bool = False
    low: float = 0.0
    high: float = 1.0


METRICS: dict[str, Metric] = {
    "balanced_accuracy": Metric(counting.make_balanced_accuracy),
    "accuracy": Metric(counting.make_accuracy),
    "macro_auroc": Metric(ranking.make_macro_auroc),
    "macro_f1": Metric(counting.make_macro_f1),
    "nll": Metric(counting.make_nll, lower_is_better=True, high=math.inf),
    "brier": Metric(counting.make_brier, lower_is_better=True, high=2.0),
    "ece": Metric(ranking.make_ece, lower_is_better=True),
    "n_absent_classes": Metric(
        counting.make_n_absent_classes, lower_is_better=True, high=math.inf
    ),
    "quadratic_kappa": Metric(counting.make_quadratic_kappa, needs_order=True, low=-1.0),
    "mae": Metric(counting.make_mae, lower_is_better=True, needs_order=True, high=math.inf),
}

CLASS_METRICS: dict[str, Callable[[Predictions, int], Score]] = {  # one number a class
    "recall": counting.make_recall,
    "precision": counting.make_precision,
}

POSITIVE_METRICS: dict[str, Callable[[Predictions, int], Score]] = {  # of the positive class
    "sensitivity_at_90_specificity": ranking.make_sensitivity,
}

_BY_CLASS = {**CLASS_METRICS, **POSITIVE_METRICS}

FINDING_METRICS: dict[str, Callable[[Predictions], Score]] = {  # one number a finding
    "recall": partial(counting.make_recall, position=1),
    "specificity": partial(counting.make_recall, position=0),
    "precision": partial(counting.make_precision, position=1),
    "auroc": ranking.make_macro_auroc,
}


# ---- one metric under weights -------------------------------------------------------------------


@dataclass(frozen=True)
class MetricKey:
    """The parts of a metric's key in a summary: `SPLIT/[group/]NAME[/CLASS]`.

    Attributes:
        split: `train`, `val` or `test`; empty where the key has none.
        by_group: whether groups are scored instead of images.
        name: the metric, such as `recall`.
        class_name: the class that it is about, which may hold any character; empty for none.
    """

    split: str
    by_group: bool
    name: str
    class_name: str


def parse_metric(metric: str) -> MetricKey:
    """Return the parts of a metric's key.

    Example:
        >>> parse_metric("test/group/recall/mel")
        MetricKey(split='test', by_group=True, name='recall', class_name='mel')
    """
    split, _, rest = metric.partition("/")
    if split not in SPLITS:
        split, rest = "", metric
    by_group = rest.startswith("group/")
    name, _, class_name = rest.removeprefix("group/").partition("/")
    return MetricKey(split, by_group, name, class_name)


def is_lower_better(metric: str) -> bool:
    """Return whether a smaller value of a metric is the better one.

    Example:
        >>> is_lower_better("test/group/nll"), is_lower_better("test/accuracy")
        (True, False)
    """
    key = parse_metric(metric)
    return not key.class_name and key.name in METRICS and METRICS[key.name].lower_is_better


def is_possible(metric: str, value: float) -> bool:
    """Return whether a metric can have a value: NaN and what is beyond 1e12 never count.

    Example:
        >>> is_possible("test/accuracy", 1e308), is_possible("test/nll", 20.0)
        (False, True)
    """
    low, high = find_range(metric)
    return low - 1e-9 <= value <= high + 1e-9 and abs(value) <= 1e12  # rounding


def find_range(metric: str) -> tuple[float, float]:
    """Return the least and the greatest value of a metric; metrics of one class are shares.

    Example:
        >>> find_range("test/recall/mel"), find_range("test/nll")
        ((0.0, 1.0), (0.0, inf))
    """
    name = parse_metric(metric).name
    if name in METRICS:
        return METRICS[name].low, METRICS[name].high
    is_share = name in (*_BY_CLASS, *FINDING_METRICS)
    return (0.0, 1.0) if is_share else (-math.inf, math.inf)


def is_weightable(metric: str, classes: Sequence[str]) -> bool:
    """Return whether `make_score` has a metric; its split and level do not matter."""
    key = parse_metric(metric)
    if not key.class_name:
        return key.name in METRICS
    return key.name in _BY_CLASS and key.class_name in classes


def make_score(metric: str, predictions: Predictions, classes: Sequence[str]) -> Score:
    """Return a metric of one run as a function of the groups' weights.

    Args:
        metric: the key of a metric, such as `recall/mel`; its split and level do not matter.
        classes: K names.
    """
    key = parse_metric(metric)
    if not key.class_name:
        return METRICS[key.name].make(predictions)
    return _BY_CLASS[key.name](predictions, list(classes).index(key.class_name))


# ---- all metrics of a run -----------------------------------------------------------------------


def compute_scores(
    task: str,
    logits: np.ndarray,
    truth: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    *,
    classes: Sequence[str],
    positive: str | None = None,
) -> dict[str, float]:
    """Return every metric of the images, and as `group/...` of the groups.

    Args:
        task: binary, multi-class, ordinal or multi-label.
        logits: (N, K).
        truth: labels (N,), or targets (N, K) of a multi-label task.
        groups: (N,) the group of each image; a group's prediction is its images' mean probability.
    """
    probabilities = compute_probabilities(task, logits)
    by_group = compute_group_means(probabilities, truth, groups)
    scores = compute_metrics(task, probabilities, truth, classes=classes, positive=positive)
    group_scores = compute_metrics(task, *by_group, classes=classes, positive=positive)
    return scores | {f"group/{name}": value for name, value in group_scores.items()}


def compute_selection(
    task: str, logits: np.ndarray, truth: np.ndarray, select: str = "balanced_accuracy"
) -> dict[str, float]:
    """Return the few metrics that an epoch is chosen by; cheap enough for every epoch.

    `select` is a metric of every kind of task, a key of `METRICS`.
    """
    names = dict.fromkeys([*SELECTION_METRICS, select])
    probabilities = compute_probabilities(task, logits)
    if task == "multi-label":
        return _average_findings(make_findings(probabilities, truth), list(names))
    predictions = make_predictions(probabilities, truth)
    return {name: METRICS[name].make(predictions).value for name in names}


def rank_epoch(
    record: Mapping[str, Any], select: str = "balanced_accuracy"
) -> tuple[float, float]:
    """Return what epochs are compared by; the best epoch is the first one of the highest rank.

    What counts is the metric `select` on the validation images; a lower negative log-likelihood
    breaks a tie. A value that is not defined (None or NaN) ranks below every number.

    Args:
        record: the values of an epoch: `val/NAME` of `compute_selection`, and others.

    Example:
        >>> rank_epoch({"val/balanced_accuracy": 0.5, "val/nll": float("nan")})
        (0.5, -inf)
    """
    rank = []
    for name in (select, "nll"):
        value = record[f"val/{name}"]
        is_undefined = value is None or math.isnan(value)
        sign = -1 if METRICS[name].lower_is_better else 1
        rank.append(-math.inf if is_undefined else sign * value)
    return rank[0], rank[1]


def compute_metrics(
    task: str,
    probabilities: np.ndarray,
    truth: np.ndarray,
    *,
    classes: Sequence[str],
    positive: str | None = None,
) -> dict[str, float]:
    """Return every metric of one set of predictions; see `compute_scores`.

    Args:
        probabilities: (N, K); rows sum to one except in a multi-label task.
        classes: K names, for the keys.
        positive: the class that sensitivity is about. By default it is melanoma if there is such
            a class, else the second of two classes; in a multi-label task there is no default.

    Raises:
        DataError: no rows, or shapes and labels that do not fit.
        Diverged: a probability is not finite.
        ConfigError: `positive` is not a class.
    """
    if task == "multi-label":
        return _compute_finding_metrics(probabilities, truth, classes, positive)
    predictions = make_predictions(probabilities, truth, len(classes))
    names = [name for name, m in METRICS.items() if task == "ordinal" or not m.needs_order]
    names += [f"{name}/{class_name}" for name in CLASS_METRICS for class_name in classes]
    position = find_positive(classes, positive)
    if position is not None:
        names += [f"{name}/{classes[position]}" for name in POSITIVE_METRICS]
    return {name: make_score(name, predictions, classes).value for name in names}


def find_positive(classes: Sequence[str], positive: str | None) -> int | None:
    """Return the position of the positive class, or None. Raises ConfigError for another name."""
    if positive is None:
        melanoma = [i for i, name in enumerate(classes) if name.lower() in MELANOMA]
        return melanoma[0] if melanoma else 1 if len(classes) == 2 else None
    if positive not in classes:
        hint = did_you_mean(positive, list(classes))
        raise ConfigError(f"positive class {positive}: one of {', '.join(classes)}.{hint}")
    return list(classes).index(positive)


def compute_probabilities(task: str, logits: np.ndarray) -> np.ndarray:
    """Return probabilities (N, K) of logits: of each finding where several can hold."""
    return compute_sigmoid(logits) if task == "multi-label" else compute_softmax(logits)


# ---- multi-label tasks: each finding is a task of two classes -----------------------------------


def _compute_finding_metrics(
    probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str], positive: str | None
) -> dict[str, float]:
    findings = make_findings(probabilities, targets)
    scores = _average_findings(findings, [n for n, m in METRICS.items() if not m.needs_order])
    for name, make in FINDING_METRICS.items():
        for class_name, finding in zip(classes, findings, strict=True):
            scores[f"{name}/{class_name}"] = make(finding).value
    position = find_positive(classes, positive) if positive is not None else None
    if position is not None:
        for name, make_positive in POSITIVE_METRICS.items():
            scores[f"{name}/{positive}"] = make_positive(findings[position], 1).value
    return scores


def _average_findings(findings: Sequence[Predictions], names: Sequence[str]) -> dict[str, float]:
    """Return the mean of some metrics over the findings, as MedMNIST's evaluator averages them.

    A finding that all samples have, or none, has neither balanced accuracy nor AUROC; it is left
    out of their means. `n_absent_classes` counts such findings. F1 is that of yes alone.
    """
    whole = [finding for finding in findings if len(finding.present) == 2]
    scores = {}
    for name in names:
        if name == "n_absent_classes":
            scores[name] = float(len(findings) - len(whole))
            continue
        make = partial(counting.make_f1, position=1) if name == "macro_f1" else METRICS[name].make
        counted = whole if name in ("balanced_accuracy", "macro_auroc") else findings
        values = [make(finding).value for finding in counted]
        scores[name] = float(np.mean(values)) if values else float("nan")
    return scores
