"""Which measure finds the depth that two networks share, where an oracle knows it.

families (`tlcnn.study.planted`) + readings -> a curve for each family, measure and variant
    -> its order of the units beside S* and F* (Kendall's tau_b), and the depth n^ that each rule
       reads from it, beside n*

No rule sees the depth of the family that it is applied to.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from tlcnn.statistics.estimate import make_unknown
from tlcnn.study.depth_rules import Curves, make_rules, orient
from tlcnn.study.measures import MeasureCurve, UnitReading, compute_tau, make_curves
from tlcnn.study.planted import POINTS, Family

MARGIN = 2.0  # points
# What a measure has to reach before its depth counts.
LEAST_FAMILIES, LEAST_WITHIN, LEAST_TAU, MOST_FALSE = 20, 0.9, 0.7, 0.05
COST = ("cost", "F")
NUMBER = ("number", "n")  # the control: a curve of the number of the unit alone
# Losses of accuracy, by what turns them into points. They rise where a unit is more specific, and
# the margin of the oracle is theirs too.
IN_POINTS = {
    COST: 1.0,
    **{
        (measure, f"{form} gap"): POINTS
        for measure in ("probe", "knn")
        for form in ("pooled", "components")
    },
    ("stitch", "trained"): POINTS,
}
REFERENCES = ("own", "random", "final")  # networks that a measure scores beside `start`


@dataclass(frozen=True)
class Interval:
    """A mean over families with its 95 % bootstrap interval; NaN without one."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Score:
    """How well one rule reads the depth from one variant of a measure.

    Attributes:
        plant: of its families; a threshold is chosen among them alone.
        depths: (n^, n*) by the name of the family.
        tau_S, tau_F: Kendall's tau_b of its curve with S* and with F*, over the families in which
            something is specific.
        false: of the families in which A learnt B's own task, those that it calls specific and
            all of them, by the training images of A.
        moved: its change where only a factor of A's training changes, as a share of its change
            from m = 0 to the largest m.
    """

    plant: str
    measure: str
    variant: str
    rule: str
    depths: Mapping[str, tuple[int, int]]
    tau_S: Interval
    tau_F: Interval
    false: Mapping[int, tuple[int, int]]
    moved: Mapping[str, float]

    def count_errors(self, least: int, most: float = math.inf) -> float:
        """Return the share of families whose n^ - n* is from `least` to `most`."""
        errors = [estimate - truth for estimate, truth in self.depths.values()]
        return float(np.mean([least <= error <= most for error in errors])) if errors else math.nan

    @property
    def reaches_bar(self) -> bool:
        """Whether the depth that it points to deserves trust."""
        is_false = [n_false > MOST_FALSE * n for n_false, n in self.false.values()]
        return (
            len(self.depths) >= LEAST_FAMILIES
            and self.count_errors(-1, 1) >= LEAST_WITHIN
            and self.tau_S.value >= LEAST_TAU
            and self.tau_S.low > 0
            and not any(is_false)
        )


def score_measures(
    families: Sequence[Family],
    all_curves: Mapping[tuple[str, str], Curves],
    sides: Mapping[str, int],
    margin: float = MARGIN,
) -> Iterator[Score]:
    """Yield a score for every plant, measure, variant and rule.

    Args:
        all_curves: what `collect_curves` returned.
        sides: 1 for measures of which a larger value is more specific, -1 for the others, by name;
            a measure whose side is 0 or missing is left out.
        margin: of the oracle, in points.
    """
    pairs = [
        (plant, key, {i: each for i, each in curves.items() if families[i].plant == plant})
        for plant in dict.fromkeys(family.plant for family in families)
        for key, curves in all_curves.items()
    ]
    for plant, (measure, variant), curves in pairs:
        rises = (measure, variant) in (*IN_POINTS, NUMBER)  # where a unit is more specific
        side = 1 if rises else sides.get(measure, 0)
        if not side or not curves:
            continue
        rules = make_rules(side, IN_POINTS.get((measure, variant), 0), margin)
        moved = compute_moved(families, {i: orient(c, side) for i, c in curves.items()})
        tau_S, tau_F = (_average_tau(families, curves, side, basis, margin) for basis in "SF")
        for rule, estimate_depths in rules.items():
            depths = estimate_depths(curves, families)
            yield Score(
                plant,
                measure,
                variant,
                rule,
                {families[i].name: (n, families[i].find_depth(margin)) for i, n in depths.items()},
                tau_S,
                tau_F,
                _count_false(families, depths),
                moved,
            )


# ---- curves -------------------------------------------------------------------------------------


def collect_curves(
    families: Sequence[Family], readings: pd.DataFrame
) -> dict[tuple[str, str], dict[int, Sequence[UnitReading]]]:
    """Return the mean curve over seeds of each measure and variant, by the family's position.

    Args:
        readings: what `read_measures` returned; only those of the families' trios count.

    The costs F* are among them, and as a control the number of the unit itself. Where a measure
    scores `start` and `own`, the second is the ceiling of the first, and the variants that do not
    look at the source are left out.
    """
    curves: dict[tuple[str, str], dict[int, Sequence[UnitReading]]] = {}
    by_pair = {(str(a), str(b)): part for (a, b), part in readings.groupby(["run_id", "against"])}
    for i, family in enumerate(families):
        places = {n: make_unknown(n, 0) for n in family.specificity}
        for key, estimates in ((NUMBER, places), (COST, family.cost)):
            if estimates:
                curves.setdefault(key, {})[i] = [
                    UnitReading(n, str(n), estimate, math.nan, math.nan, 0)
                    for n, estimate in estimates.items()
                ]
        for curve in _make_family_curves(family, by_pair):
            curves.setdefault((curve.measure, curve.variant), {})[i] = curve.readings
    for measure in [measure for measure, variant in curves if variant == "own"]:
        for name in REFERENCES:
            curves.pop((measure, name), None)
    return curves


def _make_family_curves(
    family: Family, readings: Mapping[tuple[str, str], pd.DataFrame]
) -> Iterator[MeasureCurve]:
    pairs = [(trio.run.run_id, trio.own.run_id) for trio in family.trios]
    parts = [readings[pair] for pair in pairs if pair in readings]
    if not parts:
        return
    rows = pd.concat(parts)
    keys = ["run_id", "measure", "n"]
    own_values = rows[rows["variant"] == "own"].set_index(keys)["value"].rename("own")
    rows = rows.join(own_values, on=keys)
    is_start = (rows["variant"] == "start") & rows["own"].notna()
    rows["ceiling"] = rows["ceiling"].mask(is_start, rows["own"])
    yield from make_curves(rows)


# ---- the order of units -------------------------------------------------------------------------


def _average_tau(
    families: Sequence[Family], curves: Curves, side: int, basis: str, margin: float
) -> Interval:
    """Return the mean of tau_b over the families in which the oracle finds something specific."""
    taus = []
    for i, readings in curves.items():
        family = families[i]
        gaps = family.specificity if basis == "S" else family.cost
        if family.find_depth(margin) < family.n_units:
            numbers = [reading.n for reading in readings]
            levels = dict(zip(numbers, orient(readings, side).tolist(), strict=True))
            taus.append(compute_tau(levels, {n: gap.value for n, gap in gaps.items()})[0])
    return average([tau for tau in taus if math.isfinite(tau)])


def average(values: Sequence[float]) -> Interval:
    """Return a mean and its 95 % percentile bootstrap interval; NaN for fewer than two values.

    Example:
        >>> average([0.5, 0.7, 0.9]).value.__round__(3), average([0.5]).low
        (0.7, nan)
    """
    mean = float(np.mean(values)) if values else math.nan
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan, len(values))
    draws = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    low, high = draws.confidence_interval
    return Interval(mean, float(low), float(high), len(values))


def _count_false(
    families: Sequence[Family], depths: Mapping[int, int]
) -> dict[int, tuple[int, int]]:
    counts: dict[int, tuple[int, int]] = {}
    for i, n in depths.items():
        family = families[i]
        if family.is_same_task:
            n_false, n_all = counts.get(family.factors["images"], (0, 0))
            counts[family.factors["images"]] = (n_false + (n < family.n_units), n_all + 1)
    return dict(sorted(counts.items()))


# ---- what else moves a measure ------------------------------------------------------------------


def compute_moved(
    families: Sequence[Family], levels: Mapping[int, np.ndarray]
) -> dict[str, float]:
    """Return how much each factor of A's training moves a measure, as a share of what m does.

    A change is the mean over units of the absolute difference of two curves: of the least and the
    greatest value of a factor at one m > 0, and of m = 0 and the greatest m. The share is the mean
    over networks.

    Args:
        levels: a curve (L,) by the position of its family.
    """
    shares: dict[str, list[float]] = {}
    for model in dict.fromkeys(family.model for family in families):
        rows = [
            (family, levels[i])
            for i, family in enumerate(families)
            if i in levels and family.model == model and not family.is_same_task
        ]
        plain = sorted(((f.m, level) for f, level in rows if not f.changed), key=lambda r: r[0])
        if len(plain) < 2:
            continue
        whole = _measure_change(plain[0][1], plain[-1][1])
        for name in dict.fromkeys(name for family, _ in rows for name in family.changed):
            varied = [(f, level) for f, level in rows if set(f.changed) <= {name} and f.m > 0]
            for m in {f.m for f, _ in varied if f.changed}:
                part = sorted(
                    ((f.factors[name], level) for f, level in varied if f.m == m),
                    key=lambda r: r[0],
                )
                if len(part) > 1 and whole > 0:
                    change = _measure_change(part[0][1], part[-1][1])
                    shares.setdefault(name, []).append(change / whole)
    return {name: float(np.mean(values)) for name, values in shares.items()}


def _measure_change(first: np.ndarray, last: np.ndarray) -> float:
    changes = np.abs(first - last)
    return (
        float(np.mean(changes[np.isfinite(changes)])) if np.isfinite(changes).any() else math.nan
    )
