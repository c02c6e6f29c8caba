"""Rules that read a depth from the curve of a measure: how many of the first units are general.

A rule gets the curves of all families, because a threshold has to be chosen somewhere. It never
uses the depth of the family that it is applied to.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tlcnn.study.measures import UnitReading, find_depth
from tlcnn.study.planted import Family

LEAST_SPAN = 1e-6  # the least distance between null and ceiling for which a curve is scaled

Curves = Mapping[int, Sequence[UnitReading]]  # by the position of the family
Rule = Callable[[Curves, Sequence[Family]], dict[int, int]]


def orient(readings: Sequence[UnitReading], side: int) -> np.ndarray:
    """Return a curve (L,) of which a larger value is more specific; NaN without a value.

    Where every unit has a null and a ceiling, the ceiling is -1 and the null 0. Elsewhere it is
    the value itself, with the sign that `side` gives it.
    """
    values, null, ceiling = np.array(
        [(r.estimate.value, r.null, r.ceiling) for r in readings], dtype=float
    ).T
    span = ceiling - null
    if np.isfinite(span).all() and (np.abs(span) > LEAST_SPAN).all():
        levels: np.ndarray = -(values - null) / span
        return levels
    return side * values


def make_rules(side: int, points: float, margin: float) -> dict[str, Rule]:
    """Return the rules that read a depth from the curves of all families, by their names.

    Args:
        points: what turns a value into points of accuracy; 0 where it is in other units.
        margin: in points.
    """

    def find_steps(curves: Curves, families: Sequence[Family]) -> dict[int, int]:
        steps = {i: find_depth(readings, side) for i, readings in curves.items()}
        return {i: families[i].n_units if n is None else n for i, n in steps.items()}

    def apply_margin(curves: Curves, families: Sequence[Family]) -> dict[int, int]:
        limit = np.array([margin / points])
        values = {i: np.array([r.estimate.value for r in c]) for i, c in curves.items()}
        return {i: int(count_general(each, limit)[0]) for i, each in values.items()}

    def leave_out(find_group: Callable[[Family], str]) -> Rule:
        def apply_threshold(curves: Curves, families: Sequence[Family]) -> dict[int, int]:
            levels = {i: orient(readings, side) for i, readings in curves.items()}
            depths = {}
            for i, level in levels.items():
                group = find_group(families[i])
                rest = [n for n in levels if find_group(families[n]) != group]
                if rest:
                    truths = [families[n].find_depth(margin) for n in rest]
                    threshold = choose_threshold([levels[n] for n in rest], truths)
                    depths[i] = int(count_general(level, np.array([threshold]))[0])
            return depths

        return apply_threshold

    rules: dict[str, Rule] = {"largest step": find_steps}
    if points:
        rules["margin"] = apply_margin
    rules["threshold of other families"] = leave_out(lambda family: family.name)
    rules["threshold of other networks"] = leave_out(lambda family: family.model)
    return rules


def count_general(level: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the units before the first whose level is not below a threshold, (T,) int.

    A unit without a level is no evidence against the units before or after it.

    Args:
        level: (L,), larger is more specific.
        thresholds: (T,).

    Example:
        >>> count_general(np.array([0.0, np.nan, 0.3, 0.1]), np.array([0.2, 0.4]))
        array([2, 4])
    """
    is_specific = level[None, :] >= thresholds[:, None]  # (T, L); False where NaN
    first = np.argmax(is_specific, axis=1)
    return np.where(is_specific.any(axis=1), first, len(level))


def choose_threshold(levels: Sequence[np.ndarray], truths: Sequence[int]) -> float:
    """Return the threshold whose depths are within one unit of the truth most often.

    Of those, it is one with the most exact depths, and of these the middle one.

    Args:
        levels: a curve (L,) for each family, larger is more specific.
        truths: n* of each family.
    """
    values = np.unique(np.concatenate(levels))
    values = values[np.isfinite(values)]
    if not len(values):
        return math.inf
    candidates = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2, [math.inf]])
    errors = np.abs(
        [count_general(level, candidates) - n for level, n in zip(levels, truths, strict=True)]
    )
    rank = len(errors) * 2 * (errors <= 1).sum(axis=0) + (errors == 0).sum(axis=0)
    best = np.flatnonzero(rank == rank.max())
    return float(candidates[best[len(best) // 2]])
