"""Metrics of the order of scores: areas under curves, thresholds and bins."""

import numpy as np

from tlcnn.statistics.counted import (
    Compute,
    Score,
    Scored,
    compute_mean_of_defined,
    divide,
    make_undefined,
)

N_BINS = 15  # as in `training.metrics`
FALSE_RATE = 0.10  # at which sensitivity is told
BLOCK = 8_000_000  # numbers in one array of (rows, weightings): 64 MB


def make_macro_auroc(scored: Scored) -> Score:
    """Return the mean one-vs-rest area, ties counted half; of class 1 alone where K = 2.

    Its influence is made of placement values: DeLong et al. 1988, and Obuchowski 1997 where a
    group has several rows.
    """
    present = np.unique(scored.labels)
    if len(present) < 2:
        return make_undefined(scored)
    positions = [1] if scored.n_classes == 2 else list(present)
    areas = [_Area(scored, position) for position in positions]

    def compute(weights: np.ndarray) -> np.ndarray:
        by_group = np.ascontiguousarray(weights.T)
        return compute_mean_of_defined(
            np.stack([area.compute(by_group) for area in areas], axis=-1)
        )

    return Score(compute, np.mean([area.influence() for area in areas], axis=0))


class _Area:
    """The rows of one class against the rest, sorted once for all weightings."""

    def __init__(self, scored: Scored, position: int) -> None:
        scores, is_positive = scored.probabilities[:, position], scored.labels == position
        self.n_groups = scored.n_groups
        self.order = np.flatnonzero(~is_positive)
        self.order = self.order[np.argsort(scores[self.order], kind="stable")]
        self.negatives = scored.group[self.order]
        self.positives = scored.group[is_positive]
        below = scores[self.order]
        self.low = np.searchsorted(below, scores[is_positive], side="left")
        self.high = np.searchsorted(below, scores[is_positive], side="right")

    def compute(self, by_group: np.ndarray) -> np.ndarray:
        """Return the area for weights (G, B), (B,); NaN where one side weighs nothing."""
        step = max(1, BLOCK // (len(self.negatives) + 1))
        parts = [
            self._compute(by_group[:, start : start + step])
            for start in range(0, by_group.shape[1], step)
        ]
        return np.concatenate(parts)

    def _compute(self, by_group: np.ndarray) -> np.ndarray:
        beaten = np.zeros((len(self.negatives) + 1, by_group.shape[1]))
        np.cumsum(by_group[self.negatives], axis=0, out=beaten[1:])
        total = np.zeros(by_group.shape[1])
        weight = np.zeros(by_group.shape[1])
        for start in range(0, len(self.positives), 256):  # bounds what is held at once
            rows = slice(start, start + 256)
            ours = by_group[self.positives[rows]]
            total += np.einsum("pb,pb->b", ours, beaten[self.low[rows]])
            total += np.einsum("pb,pb->b", ours, beaten[self.high[rows]])
            weight += ours.sum(axis=0)
        return divide(total / 2, weight * beaten[-1], np.nan)

    def influence(self) -> np.ndarray:
        """Return the area's derivative by each group's weight, (G,)."""
        n_low, n_high = len(self.positives), len(self.negatives)
        won = (self.low + self.high) / 2 / n_high  # of each positive, the share it is above
        area = won.mean()
        starts = np.bincount(self.low, minlength=n_high + 1).cumsum()[:-1]
        ends = np.bincount(self.high, minlength=n_high + 1).cumsum()[:-1]
        lost = 1 - (starts + ends) / 2 / n_low  # of each negative, the share that is above it
        influence = np.zeros(self.n_groups)
        np.add.at(influence, self.positives, (won - area) / n_low)
        np.add.at(influence, self.negatives, (lost - area) / n_high)
        return influence


def make_sensitivity(scored: Scored, position: int) -> Score:
    """Return the highest recall of a class at a threshold with specificity of at least 0.90."""
    is_positive = scored.labels == position
    if is_positive.all() or not is_positive.any():
        return make_undefined(scored)
    order = np.argsort(-scored.probabilities[:, position], kind="stable")
    ordered = scored.probabilities[order, position]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))  # of each threshold's rows
    group, sign = scored.group[order], is_positive[order].astype(float)

    def compute(weights: np.ndarray) -> np.ndarray:
        mine = weights.T[group]
        hits = np.cumsum(mine * sign[:, None], axis=0)
        false = np.cumsum(mine * (1 - sign[:, None]), axis=0)
        allowed = false[last] <= (FALSE_RATE + 1e-12) * false[-1]
        reached = np.where(allowed, hits[last], 0.0).max(axis=0)
        return divide(reached, hits[-1] * (false[-1] > 0), np.nan)

    values = _differentiate_sensitivity(sign)
    influence = np.bincount(group, weights=values, minlength=scored.n_groups)
    return Score(_in_blocks(compute, len(group)), influence)


def _differentiate_sensitivity(sign: np.ndarray) -> np.ndarray:
    """Return the derivative of the sensitivity by each row's weight, rows by falling score.

    A positive row counts as above the threshold or not; a negative one moves the threshold, and
    with it the sensitivity by the slope of the ROC curve, here over half to twice the false rate.
    """
    false_rate = np.cumsum(1 - sign) / (1 - sign).sum()
    true_rate = np.cumsum(sign) / sign.sum()
    above = false_rate <= FALSE_RATE
    ends = np.interp([FALSE_RATE / 2, FALSE_RATE * 2], false_rate, true_rate)
    slope = (ends[1] - ends[0]) / (1.5 * FALSE_RATE)
    own = sign * (above - (sign * above).sum() / sign.sum()) / sign.sum()
    return own - slope * (1 - sign) * (above - FALSE_RATE) / (1 - sign).sum()


def make_ece(scored: Scored) -> Score:
    """Return the calibration error of the top label; equal confidences share a bin.

    It has no influence (NaN): a bin whose gap is near 0 turns its sign between redraws.
    """
    confidence = scored.probabilities.max(axis=1)
    right = scored.probabilities.argmax(axis=1) == scored.labels
    order = np.argsort(confidence, kind="stable")
    ordered = confidence[order]
    first = np.searchsorted(ordered, ordered, side="left")
    group, gap = scored.group[order], (right - confidence)[order][:, None]

    def compute(weights: np.ndarray) -> np.ndarray:
        mine = weights.T[group]
        before = np.zeros((len(group) + 1, len(weights)))
        np.cumsum(mine, axis=0, out=before[1:])
        bins = np.floor_divide(before[first] * N_BINS, before[-1]).astype(np.int64)
        bins = np.minimum(bins, N_BINS - 1) + N_BINS * np.arange(len(weights))
        sums = np.bincount(
            bins.ravel(), weights=(mine * gap).ravel(), minlength=N_BINS * len(weights)
        )
        return np.abs(sums.reshape(len(weights), N_BINS)).sum(axis=1) / before[-1]

    return Score(_in_blocks(compute, len(group)), np.full(scored.n_groups, np.nan))


def _in_blocks(compute: Compute, n_rows: int) -> Compute:
    """Return a computation that holds (N, B) numbers, cut to blocks of weightings."""
    step = max(1, BLOCK // (2 * n_rows))

    def compute_blocks(weights: np.ndarray) -> np.ndarray:
        starts = range(0, len(weights), step)
        return np.concatenate([compute(weights[start : start + step]) for start in starts])

    return compute_blocks
