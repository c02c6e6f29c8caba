"""Metrics of the order of probabilities: areas under curves, thresholds and bins."""

import numpy as np

from tlcnn.statistics.predictions import Predictions, make_predictions
from tlcnn.statistics.score import Compute, Score, compute_mean_of_defined, divide, make_undefined

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
    areas = [_make_area(predictions, position) for position in positions]
    shares = np.bincount(predictions.labels, minlength=predictions.n_classes)
    is_positive = np.eye(predictions.n_classes, dtype=bool)[positions]
    reach = np.mean([np.where(row, 1, shares / shares[~row].sum()) for row in is_positive], axis=0)

    def compute(weights: np.ndarray) -> np.ndarray:
        return compute_mean_of_defined(np.stack([a.compute(weights) for a in areas], axis=-1))

    return Score(compute, np.mean([area.influence for area in areas], axis=0), reach=reach)


def _make_area(predictions: Predictions, position: int) -> Score:
    """Return the area of one class (positives) against all others (negatives)."""
    scores, is_positive = predictions.probabilities[:, position], predictions.labels == position
    rows = np.flatnonzero(~is_positive)
    rows = rows[np.argsort(scores[rows], kind="stable")]  # by ascending probability
    positives, negatives = predictions.group[is_positive], predictions.group[rows]
    n_positives, n_negatives = len(positives), len(negatives)
    low, high = (  # how many negatives are below, and not above, each positive
        np.searchsorted(scores[rows], scores[is_positive], side) for side in ("left", "right")
    )

    def compute(weights: np.ndarray) -> np.ndarray:
        by_group = np.ascontiguousarray(weights.T)
        beaten = np.zeros((n_negatives + 1, len(weights)))
        np.cumsum(by_group[negatives], axis=0, out=beaten[1:])
        won, total = np.zeros((2, len(weights)))
        for start in range(0, n_positives, 256):  # bounds what is held at once
            part = slice(start, start + 256)
            of_rows = by_group[positives[part]]
            won += np.einsum("pb,pb->b", of_rows, beaten[low[part]])
            won += np.einsum("pb,pb->b", of_rows, beaten[high[part]])
            total += of_rows.sum(axis=0)
        return divide(won / 2, total * beaten[-1], np.nan)

    won = (low + high) / 2 / n_negatives  # share of negatives below each positive
    starts = np.bincount(low, minlength=n_negatives + 1).cumsum()[:-1]
    ends = np.bincount(high, minlength=n_negatives + 1).cumsum()[:-1]
    lost = 1 - (starts + ends) / 2 / n_positives  # share of positives above each negative
    influence = np.zeros(predictions.n_groups)
    np.add.at(influence, positives, (won - won.mean()) / n_positives)
    np.add.at(influence, negatives, (lost - won.mean()) / n_negatives)
    return Score(_in_blocks(compute, n_negatives), influence)


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
    reach = np.eye(predictions.n_classes)[position]
    return Score(_in_blocks(compute, len(group)), influence, reach=reach, is_counted=True)


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
    return make_sensitivity(make_predictions(both, is_positive), 1).value


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
