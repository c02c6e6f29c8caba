"""Intervals of ratios of two contrasts."""

from dataclasses import replace

import numpy as np

from tlcnn.statistics.arm import Estimate
from tlcnn.statistics.estimate import (
    Parts,
    Terms,
    compute_parts,
    compute_quantile,
    make_unknown,
)
from tlcnn.statistics.notes import Note, NoteKind, merge_notes


def estimate_ratio(numerator: Terms, denominator: Terms, level: float = 0.95) -> Estimate:
    """Return the interval of a ratio of two contrasts (Fieller 1954).

    It holds every g for which numerator - g * denominator does not differ from 0 at the level.
    Where the denominator itself does not, that is no bounded set: low = -inf, high = inf.
    `se` is the delta method's; df is that of numerator - value * denominator.
    """
    top, bottom = compute_parts(numerator), compute_parts(denominator)
    nothing = make_unknown(float("nan"), top.n_seeds, top.notes)
    if bottom.value == 0 or not np.isfinite(top.value / (bottom.value or 1.0)):
        return replace(nothing, notes=merge_notes(top.notes, [Note(NoteKind.ZERO_DENOMINATOR)]))
    value = top.value / bottom.value
    variances = _compute_covariance(numerator, denominator, top, bottom)
    if not np.isfinite(variances).all():
        return replace(nothing, value=value)
    tested = compute_parts([*numerator, *((-value * c, arm) for c, arm in denominator)])
    t = compute_quantile(tested.df, (1 + level) / 2)
    low, high = compute_fieller(top.value, bottom.value, *variances, t)
    v_top, v_bottom, covariance = variances
    delta = max(v_top - 2 * value * covariance + value**2 * v_bottom, 0.0)
    notes = tested.notes
    if np.isinf(low):
        notes = merge_notes(notes, [Note(NoteKind.UNBOUNDED_RATIO)])
    se = float(np.sqrt(delta)) / abs(bottom.value)
    return Estimate(value, se, tested.df, low, high, tested.n_seeds, notes)


def _compute_covariance(
    numerator: Terms, denominator: Terms, top: Parts, bottom: Parts
) -> tuple[float, float, float]:
    """Return both variances, and the covariance by polarisation, at most what they allow."""
    together = compute_parts([*numerator, *denominator])
    covariance = (together.variance - top.variance - bottom.variance) / 2
    limit = float(np.sqrt(top.variance * bottom.variance))
    return top.variance, bottom.variance, float(np.clip(covariance, -limit, limit))


def compute_fieller(
    top: float, bottom: float, v_top: float, v_bottom: float, covariance: float, t: float
) -> tuple[float, float]:
    """Return the bounds of top / bottom (Fieller 1954); infinite where they are not bounded."""
    a = bottom**2 - t**2 * v_bottom
    b = top * bottom - t**2 * covariance
    c = top**2 - t**2 * v_top
    root = b**2 - a * c
    if a <= 0 or root < 0:
        return float("-inf"), float("inf")
    half = float(np.sqrt(root))
    return (b - half) / a, (b + half) / a
