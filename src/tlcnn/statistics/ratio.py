"""Intervals of ratios of two contrasts."""

from dataclasses import replace

import numpy as np

from tlcnn.statistics.arm import Estimate
from tlcnn.statistics.estimate import Terms, compute_parts, make_unknown
from tlcnn.statistics.notes import Note, NoteKind, merge_notes
from tlcnn.statistics.variance import compute_quantile


def estimate_ratio(numerator: Terms, denominator: Terms) -> Estimate:
    """Return the 95 % interval of a ratio of two contrasts (Fieller 1954).

    It holds every g for which numerator - g * denominator does not differ from 0. Where the
    denominator itself does not, that is no bounded set: low = -inf, high = inf. `se` is the delta
    method's; df is that of numerator - value * denominator.
    """
    top, bottom = compute_parts(numerator), compute_parts(denominator)
    nothing = make_unknown(float("nan"), top.n_seeds, top.notes)
    if bottom.value == 0 or not np.isfinite(top.value / (bottom.value or 1.0)):
        return replace(nothing, notes=merge_notes(top.notes, [Note(NoteKind.ZERO_DENOMINATOR)]))
    value, v_top, v_bottom = top.value / bottom.value, top.variance, bottom.variance
    both = compute_parts([*numerator, *denominator]).variance
    limit = float(np.sqrt(v_top * v_bottom))
    covariance = float(np.clip((both - v_top - v_bottom) / 2, -limit, limit))
    if not np.isfinite([v_top, v_bottom, covariance]).all():
        return replace(nothing, value=value)
    tested = compute_parts([*numerator, *((-value * c, arm) for c, arm in denominator)])
    t = compute_quantile(tested.df, 0.975)
    low, high = compute_fieller(top.value, bottom.value, v_top, v_bottom, covariance, t)
    delta = max(v_top - 2 * value * covariance + value**2 * v_bottom, 0.0)
    notes = tested.notes
    if np.isinf(low):
        notes = merge_notes(notes, [Note(NoteKind.UNBOUNDED_RATIO)])
    se = float(np.sqrt(delta)) / abs(bottom.value)
    return Estimate(value, se, tested.df, low, high, tested.n_seeds, notes)


def compute_fieller(
    top: float, bottom: float, v_top: float, v_bottom: float, covariance: float, t: float
) -> tuple[float, float]:
    """Return the bounds of top / bottom (Fieller 1954); infinite where they are not bounded."""
    square = t * t
    a = bottom * bottom - square * v_bottom
    if not a > 0:
        return float("-inf"), float("inf")
    b = top * bottom - square * covariance
    root = b * b - a * (top * top - square * v_top)
    if np.isnan(root):
        return float("-inf"), float("inf")
    half = float(np.sqrt(max(root, 0.0)))  # top / bottom is always inside: below 0 is rounding
    return (b - half) / a, (b + half) / a
