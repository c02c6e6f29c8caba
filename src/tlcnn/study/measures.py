"""Readings of measures become curves over units, which are compared with the costs of freezing.

frame of `read_measures` -> the runs of one cell of a source -> an estimate a unit -> curves
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.estimate import estimate_contrast, make_unknown
from tlcnn.study.block import Block
from tlcnn.study.cells import Cell, Source
from tlcnn.study.layers import Basis, UnitScores

# The depth of a measure is that of the costs, one that the verdicts leave open, or another one.
Standing = Literal["same", "open", "disagrees", "none"]
LEAST_UNITS = 3  # that an order of units is compared over
_NUMBERS = ["value", "low", "high", "null", "ceiling", "n_images"]


@dataclass(frozen=True)
class UnitReading:
    """One variant of a measure at one unit, over the seeds of a cell.

    Attributes:
        estimate: the mean over seeds with its 95 % interval; of one seed the reading's interval.
            Its value is NaN where no run has one.
        null, ceiling: their means over seeds; NaN without any.
        n_images: the images of a run, the least of all runs.
        over: what the interval covers; empty without one.
        note: the different notes of the runs, joined.
    """

    n: int
    unit: str
    estimate: Estimate
    null: float
    ceiling: float
    n_images: int
    over: str = ""
    note: str = ""


@dataclass(frozen=True)
class MeasureCurve:
    """One variant of a measure over the units, in their order."""

    measure: str
    variant: str
    readings: tuple[UnitReading, ...]


@dataclass(frozen=True)
class SourceMeasures:
    """What measures say about the units of a source.

    Attributes:
        cell: the cell whose networks they looked at.
        n_others: further cells of the source that were analysed and are not shown.
    """

    block: Block
    source: Source
    cell: Cell
    curves: tuple[MeasureCurve, ...]
    n_others: int = 0


@dataclass(frozen=True)
class Agreement:
    """A curve beside the cost of freezing the first n units.

    Attributes:
        tau: Kendall's tau_b of both over the units that have both, with the sign turned such that
            1 is the same order from general to specific; NaN for fewer than `LEAST_UNITS` units,
            and where one of both is constant.
        n_units: those units.
        depth: the n that the curve points to; None where it points to none. See `find_depth`.
    """

    tau: float
    n_units: int
    depth: int | None


@dataclass(frozen=True)
class CostDepth:
    """How many of the first units are general, by what freezing them costs.

    Attributes:
        value: the largest n whose cost is below the margin; 0 for none.
        low, high: the least and the greatest number that the verdicts leave open.
    """

    value: int
    low: int
    high: int

    def judge(self, depth: int | None) -> Standing:
        """Return how the depth of a measure stands to this one."""
        if depth is None:
            return "none"
        if depth == self.value:
            return "same"
        return "open" if self.low <= depth <= self.high else "disagrees"


def summarize_measures(frame: pd.DataFrame, blocks: Iterable[Block]) -> Iterator[SourceMeasures]:
    """Yield the measures of each source of each block that has any.

    Of several analysed cells of a source, that with most transferred and fewest frozen units is
    shown: full fine-tuning, where it was analysed.

    Args:
        frame: what `tlcnn.records.measures.read_measures` returned.
    """
    by_run = dict(list(frame.groupby("run_id"))) if len(frame) else {}
    for block in blocks:
        for source in block.sources:
            cells = [
                cell
                for cell in block.cells.values()
                if cell.is_plain and cell.k and cell.source == source
                if any(run.run_id in by_run for run in cell.runs)
            ]
            if cells:
                cell = max(cells, key=lambda cell: (cell.k, -cell.j, len(cell.seeds)))
                scratch = block.cells[block.scratch].runs if block.scratch else ()
                bases = {base.run_id for base in scratch}
                rows = [
                    _choose_rows(by_run[run.run_id], bases).assign(seed=run.seed)
                    for run in cell.runs
                    if run.run_id in by_run
                ]
                curves = tuple(make_curves(pd.concat(rows)))
                yield SourceMeasures(block, source, cell, curves, len(cells) - 1)


def _choose_rows(rows: pd.DataFrame, bases: Collection[str]) -> pd.DataFrame:
    """Return a run's readings, each measure's against one run.

    Of several, it is a base run of the block, and then that against which most readings have a
    value.
    """
    parts = []
    for _, part in rows.groupby("measure", sort=False):
        counts = part.groupby("against")["value"].count()
        chosen = min(counts.index, key=lambda name: (name not in bases, -counts[name], name))
        parts.append(part[part["against"] == chosen])
    return pd.concat(parts)


def make_curves(rows: pd.DataFrame) -> Iterator[MeasureCurve]:
    """Yield the curve of each measure and variant, over the seeds of some readings.

    Args:
        rows: the columns of `read_measures`, of runs that differ in the seed alone.
    """
    numbers = rows[_NUMBERS].apply(pd.to_numeric, errors="coerce")
    columns = rows.assign(**numbers.where(numbers.abs() < math.inf)).to_dict("list")
    by_curve: dict[tuple[str, str], dict[int, list[int]]] = {}
    for row, key in enumerate(zip(columns["measure"], columns["variant"], strict=True)):
        by_curve.setdefault(key, {}).setdefault(columns["n"][row], []).append(row)
    for (measure, variant), places in by_curve.items():
        readings = [_make_reading(n, columns, places[n]) for n in sorted(places)]
        yield MeasureCurve(measure, variant, tuple(readings))


def _make_reading(n: int, columns: Mapping[Any, list[Any]], rows: Sequence[int]) -> UnitReading:
    """Return the reading of some rows of the columns."""
    part = {name: [column[row] for row in rows] for name, column in columns.items()}
    estimate = _estimate(part["seed"], part["value"], part["low"], part["high"])
    overs = [f"{estimate.n_seeds} seeds"] if estimate.n_seeds > 1 else part["over"]
    notes = dict.fromkeys(text for text in part["note"] if isinstance(text, str) and text)
    null, ceiling = (_average(part[name]) for name in ("null", "ceiling"))
    return UnitReading(
        n,
        str(part["unit"][0]),
        estimate,
        null,
        ceiling,
        int(min(0 if size != size else size for size in part["n_images"])),
        str(overs[0]) if math.isfinite(estimate.low) else "",
        "; ".join(notes),
    )


def _average(values: Sequence[float]) -> float:
    """Return the mean of the values that are no NaN; NaN for none."""
    finite = [value for value in values if value == value]
    return math.fsum(finite) / len(finite) if finite else math.nan


def _estimate(
    seeds: Sequence[int], values: Sequence[float], lows: Sequence[float], highs: Sequence[float]
) -> Estimate:
    """Return the mean over seeds; the runs of one seed, of several folds, are one number."""
    rows = [row for row in zip(seeds, values, lows, highs, strict=True) if row[1] == row[1]]
    by_seed = {
        seed: _average([value for row_seed, value, *_ in rows if row_seed == seed])
        for seed in sorted({row[0] for row in rows})
    }
    scores = np.array([*by_seed.values()])
    if len(scores) > 1:
        return estimate_contrast([(1.0, Arm("", np.array([*by_seed]), scores))])
    if len(rows) != 1:
        return make_unknown(_average([*by_seed.values()]), len(scores))
    _, value, low, high = rows[0]
    return Estimate(value, math.nan, math.nan, low, high, 1)


# ---- beside the costs ---------------------------------------------------------------------------


def compare_with_costs(
    readings: Sequence[UnitReading], costs: Mapping[int, float], side: int
) -> Agreement:
    """Return how a curve orders the units beside what freezing the first n units costs.

    Args:
        costs: F(n) or S(n) by n.
        side: 1 where a larger reading is more specific, -1 where a smaller one is.
    """
    values = {r.n: side * r.estimate.value for r in readings if math.isfinite(r.estimate.value)}
    common = [n for n in values if math.isfinite(costs.get(n, math.nan))]
    tau = math.nan
    if len(common) >= LEAST_UNITS:
        tau = float(kendalltau([values[n] for n in common], [costs[n] for n in common]).statistic)
    return Agreement(tau, len(common), find_depth(readings, side))


def find_depth(readings: Sequence[UnitReading], side: int) -> int | None:
    """Return the n after which a curve moves most towards specific; units 1..n are then general.

    Where every unit has a ceiling, the distance from the ceiling is looked at instead of the
    value, and it is 0 at n = 0. A step counts where it is larger than the half widths of both
    intervals, added in quadrature. None: no step counts, so the curve sets no depth apart.
    """
    valued = [r for r in readings if math.isfinite(r.estimate.value)]
    has_ceiling = all(math.isfinite(r.ceiling) for r in valued)
    places = [(0, 0.0, 0.0)] if has_ceiling and valued else []
    for reading in valued:
        level = reading.estimate.value - (reading.ceiling if has_ceiling else 0.0)
        half = (reading.estimate.high - reading.estimate.low) / 2
        places.append((reading.n, side * level, half if math.isfinite(half) else 0.0))
    steps = [
        (then[1] - first[1], first[0])
        for first, then in pairwise(places)
        if then[1] - first[1] > math.hypot(first[2], then[2])
    ]
    return max(steps, key=lambda step: step[0])[1] if steps else None


def find_cost_depth(scores: Sequence[UnitScores], basis: Basis, margin: float) -> CostDepth | None:
    """Return the depth that the costs of freezing point to; None without any cost.

    It is the number of units in front of the first one whose cost is not below the margin.
    """
    gaps = {unit.n: gap.value for unit in scores if (gap := unit.gaps[basis])}
    if not gaps:
        return None
    costly = min((n for n, gap in gaps.items() if gap >= margin), default=len(scores) + 1)
    value = max((n for n in gaps if n < costly), default=0)
    general = max((u.n for u in scores if u.verdict in ("general", "better")), default=0)
    specific = min((u.n for u in scores if u.verdict == "specific"), default=len(scores) + 1)
    return CostDepth(value, min(value, general, specific - 1), max(value, general, specific - 1))


def list_apart(readings: Iterable[UnitReading], side: int, reference: str) -> list[str] | None:
    """Return the units that are shown to lie on one side of a reference; None without any.

    Args:
        side: 1 for units above it, -1 for units below it, interval included.
        reference: `null` or `ceiling`.
    """
    judged = [
        (reading.unit, end, float(getattr(reading, reference)))
        for reading in readings
        for end in [reading.estimate.low if side > 0 else reading.estimate.high]
    ]
    judged = [(unit, end, line) for unit, end, line in judged if math.isfinite(end + line)]
    return [u for u, end, line in judged if side * (end - line) > 0] if judged else None
