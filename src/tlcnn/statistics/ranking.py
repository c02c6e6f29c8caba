"""Metrics of the order of probabilities: areas under curves, thresholds and bins."""

from dataclasses import dataclass

import numpy as np

from tlcnn.statistics.predictions import Predictions
from tlcnn.statistics.score import (
    Compute,
    Score,
    compute_mean_of_defined,
    divide,
    make_undefined,
)

N_BINS = 15  # of the expected calibration error
FALSE_RATE = 0.10  # of the operating point: a specificity of 0.90
BLOCK = 8_000_000  # numbers in one array of (rows, weightings): 64 MB

# ---- area under the ROC curve -------------------------------------------------------------------


def make_macro_auroc(predictions: Predictions) -> Score:
    """Return the mean one-vs-rest area under the ROC curve, ties counted half (mid-ranks).

    With two classes it is the area of the second one alone. Classes that do not occur are left
    out; the score is undefined where fewer than two occur. The influence is made of placement
    values: DeLong et al. 1988, and Obuchowski 1997 where a group has several rows.
    """
    if len(predictions.present) < 2:
        return make_undefined(predictions)
    positions = [1] if predictions.n_classes == 2 else predictions.present
    areas = [_rank(predictions, position) for position in positions]

    def compute(weights: np.ndarray) -> np.ndarray:
        by_group = np.ascontiguousarray(weights.T)
        values = [_compute_area(ranks, by_group) for ranks in areas]
        return compute_mean_of_defined(np.stack(values, axis=-1))

    influences = [_differentiate_area(ranks, predictions.n_groups) for ranks in areas]
    return Score(compute, np.mean(influences, axis=0))


@dataclass(frozen=True)
class _Ranks:
    """The rows of one class (positives) among all others (negatives), sorted once.

    Attributes:
        positives: (P,) the group of each positive row.
        negatives: (M,) the group of each negative row, by ascending probability.
        low, high: (P,) how many negatives are below, and not above, each positive.
    """

    positives: np.ndarray
    negatives: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _rank(predictions: Predictions, position: int) -> _Ranks:
    scores, is_positive = predictions.probabilities[:, position], predictions.labels == position
    order = np.flatnonzero(~is_positive)
    order = order[np.argsort(scores[order], kind="stable")]
    return _Ranks(
        positives=predictions.group[is_positive],
        negatives=predictions.group[order],
        low=np.searchsorted(scores[order], scores[is_positive], side="left"),
        high=np.searchsorted(scores[order], scores[is_positive], side="right"),
    )


def _compute_area(ranks: _Ranks, by_group: np.ndarray) -> np.ndarray:
    """Return the area under weights (G, B), (B,); NaN where one side weighs nothing."""
    n_negatives, n_draws = len(ranks.negatives), by_group.shape[1]
    step = max(1, BLOCK // (n_negatives + 1))
    areas = np.empty(n_draws)
    for first in range(0, n_draws, step):
        weights = by_group[:, first : first + step]
        beaten = np.zeros((n_negatives + 1, weights.shape[1]))
        np.cumsum(weights[ranks.negatives], axis=0, out=beaten[1:])
        won, total = np.zeros((2, weights.shape[1]))
        for start in range(0, len(ranks.positives), 256):  # bounds what is held at once
            rows = slice(start, start + 256)
            of_rows = weights[ranks.positives[rows]]
            won += np.einsum("pb,pb->b", of_rows, beaten[ranks.low[rows]])
            won += np.einsum("pb,pb->b", of_rows, beaten[ranks.high[rows]])
            total += of_rows.sum(axis=0)
        areas[first : first + step] = divide(won / 2, total * beaten[-1], np.nan)
    return areas


def _differentiate_area(ranks: _Ranks, n_groups: int) -> np.ndarray:
    """Return the derivative of the area by each group's weight, (G,)."""
    n_positives, n_negatives = len(ranks.positives), len(ranks.negatives)
    won = (ranks.low + ranks.high) / 2 / n_negatives  # share of negatives below each positive
    starts = np.bincount(ranks.low, minlength=n_negatives + 1).cumsum()[:-1]
    ends = np.bincount(ranks.high, minlength=n_negatives + 1).cumsum()[:-1]
    lost = 1 - (starts + ends) / 2 / n_positives  # share of positives above each negative
    area = won.mean()
    influence = np.zeros(n_groups)
    np.add.at(influence, ranks.positives, (won - area) / n_positives)
    np.add.at(influence, ranks.negatives, (lost - area) / n_negatives)
    return influence


# ---- sensitivity at 90 % specificity ------------------------------------------------------------


def make_sensitivity(predictions: Predictions, position: int) -> Score:
    """Return the highest recall of a class at a threshold with specificity of at least 0.90."""
    is_positive = predictions.labels == position
    if is_positive.all() or not is_positive.any():
        return make_undefined(predictions)
    order = np.argsort(-predictions.probabilities[:, position], kind="stable")
    ordered = predictions.probabilities[order, position]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))  # of each threshold's rows
    group, sign = predictions.group[order], is_positive[order].astype(float)

    def compute(weights: np.ndarray) -> np.ndarray:
        row_weights = weights.T[group]
        hits = np.cumsum(row_weights * sign[:, None], axis=0)
        false = np.cumsum(row_weights * (1 - sign[:, None]), axis=0)
        allowed = false[last] <= (FALSE_RATE + 1e-12) * false[-1]
        highest = np.where(allowed, hits[last], 0.0).max(axis=0)
        return divide(highest, hits[-1] * (false[-1] > 0), np.nan)

    derivatives = _differentiate_sensitivity(sign)
    influence = np.bincount(group, weights=derivatives, minlength=predictions.n_groups)
    return Score(_in_blocks(compute, len(group)), influence)


def _differentiate_sensitivity(sign: np.ndarray) -> np.ndarray:
    """Return the derivative of the sensitivity by each row's weight, rows by falling probability.

    A positive row counts as above the threshold or not. A negative row moves the threshold, and
    with it the sensitivity by the slope of the ROC curve, here over half to twice the false rate.
    """
    n_positives, n_negatives = sign.sum(), (1 - sign).sum()
    false_rate, true_rate = np.cumsum(1 - sign) / n_negatives, np.cumsum(sign) / n_positives
    above = false_rate <= FALSE_RATE
    low, high = np.interp([FALSE_RATE / 2, FALSE_RATE * 2], false_rate, true_rate)
    slope = (high - low) / (1.5 * FALSE_RATE)
    sensitivity = (sign * above).sum() / n_positives
    of_positives = sign * (above - sensitivity) / n_positives
    return of_positives - slope * (1 - sign) * (above - FALSE_RATE) / n_negatives


def compute_sensitivity(is_positive: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the sensitivity at 90 % specificity of a class, given as (N,) bool and (N,)."""
    both = np.stack([1 - probabilities, probabilities], axis=1)
    group = np.zeros(len(both), dtype=np.int64)
    return make_sensitivity(Predictions(both, is_positive.astype(np.int64), group, 1), 1).value


# ---- calibration --------------------------------------------------------------------------------


def make_ece(predictions: Predictions) -> Score:
    """Return the expected calibration error of the most probable class, 15 bins of equal mass.

    It has no influence (NaN): a bin whose gap is near 0 changes its sign between redraws.
    """
    confidence = predictions.probabilities.max(axis=1)
    compute = _make_calibration(confidence, predictions.is_right, predictions.group)
    return Score(compute, np.full(predictions.n_groups, np.nan))


def compute_calibration_error(confidence: np.ndarray, is_right: np.ndarray) -> float:
    """Return the mean gap of confidence (N,) and hits (N,) bool in 15 bins of equal mass."""
    one_group = np.zeros(len(confidence), dtype=np.int64)
    return float(_make_calibration(confidence, is_right, one_group)(np.ones((1, 1)))[0])


def _make_calibration(confidence: np.ndarray, is_right: np.ndarray, group: np.ndarray) -> Compute:
    """Return the calibration error as a function of weights.

    Equal confidences share a bin, so the order of the rows does not matter.
    """
    order = np.argsort(confidence, kind="stable")
    ordered = confidence[order]
    first = np.searchsorted(ordered, ordered, side="left")
    group, gap = group[order], (is_right - confidence)[order][:, None]

    def compute(weights: np.ndarray) -> np.ndarray:
        row_weights = weights.T[group]
        before = np.zeros((len(group) + 1, len(weights)))
        np.cumsum(row_weights, axis=0, out=before[1:])
        bins = np.floor_divide(before[first] * N_BINS, before[-1]).astype(np.int64)
        bins = np.minimum(bins, N_BINS - 1) + N_BINS * np.arange(len(weights))
        sums = np.bincount(
            bins.ravel(), weights=(row_weights * gap).ravel(), minlength=N_BINS * len(weights)
        )
        return np.abs(sums.reshape(len(weights), N_BINS)).sum(axis=1) / before[-1]

    return _in_blocks(compute, len(group))


def _in_blocks(compute: Compute, n_rows: int) -> Compute:
    """Return a computation that holds (N, B) numbers, split into blocks of weightings."""
    step = max(1, BLOCK // (2 * n_rows))

    def compute_blocks(weights: np.ndarray) -> np.ndarray:
        starts = range(0, len(weights), step)
        return np.concatenate([compute(weights[start : start + step]) for start in starts])

    return compute_blocks
