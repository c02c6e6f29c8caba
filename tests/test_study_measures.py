"""Readings of several runs become curves, and curves are held against the costs of freezing."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from measures_made import CURVES, make_readings
from records_made import write_cell
from scipy.stats import t

from tlcnn.records.read import read_runs
from tlcnn.statistics.arm import Estimate
from tlcnn.study.arms import load_arms
from tlcnn.study.block import make_blocks
from tlcnn.study.cells import make_cells
from tlcnn.study.layers import UnitScores
from tlcnn.study.measures import (
    CostDepth,
    UnitReading,
    compare_with_costs,
    find_cost_depth,
    find_depth,
    list_apart,
    summarize_measures,
)
from tlcnn.study.runs import make_runs

METRIC = "test/balanced_accuracy"


def make_curve(values, half=math.nan, ceiling=math.nan, null=math.nan):
    """Readings of units u1, u2, ...; None is a unit without a value."""
    readings = []
    for n, value in enumerate(values, start=1):
        value = math.nan if value is None else value
        estimate = Estimate(value, math.nan, math.nan, value - half, value + half, 1)
        readings.append(UnitReading(n, f"u{n}", estimate, null, ceiling, 100))
    return readings


def make_study(folder, n_seeds=3):
    """Runs of ImageNet, all trained and with two units frozen, and their blocks."""
    write_cell(folder, (0.4, 0.4), init="random", k=0)
    write_cell(folder, (0.7, 0.71, 0.72)[:n_seeds], j=0)
    write_cell(folder, (0.7, 0.71, 0.72)[:n_seeds], j=2)
    runs = read_runs(folder)
    cells = {cell.key: cell for cell in make_cells(make_runs(runs))}
    arms = {key: load_arms(cell, [METRIC]) for key, cell in cells.items()}
    return runs[runs["k"] > 0], make_blocks(cells, arms, METRIC)


# ---- from runs to curves ------------------------------------------------------------------------


def test_a_curve_is_the_mean_over_seeds_with_students_interval(tmp_path):
    runs, blocks = make_study(tmp_path)
    frame = make_readings(runs[runs["j"] == 0])
    (measured,) = summarize_measures(frame, blocks)
    assert {(c.measure, c.variant) for c in measured.curves} == set(CURVES)
    probe = next(c for c in measured.curves if (c.measure, c.variant) == ("probe", "pooled"))
    rows = frame[(frame["measure"] == "probe") & (frame["variant"] == "pooled")]
    for reading in probe.readings:
        scores = rows.loc[rows["n"] == reading.n, "value"]
        half = t.ppf(0.975, 2) * scores.std() / math.sqrt(3)
        assert reading.estimate.value == pytest.approx(scores.mean())
        assert reading.estimate.high - reading.estimate.value == pytest.approx(half, rel=1e-6)
        assert (reading.null, reading.ceiling, reading.over) == (0.0, 1.0, "3 seeds")


def test_one_seed_has_the_interval_of_its_reading(tmp_path):
    runs, blocks = make_study(tmp_path, n_seeds=1)
    (measured,) = summarize_measures(make_readings(runs[runs["j"] == 0]), blocks)
    curves = {(c.measure, c.variant): c.readings for c in measured.curves}
    (reading, *_) = curves["probe", "pooled"]
    assert reading.estimate.high - reading.estimate.low == pytest.approx(0.12)
    assert reading.over == "test groups" and reading.estimate.n_seeds == 1
    (bare, *_) = curves["movement", "weights"]
    assert math.isnan(bare.estimate.low) and bare.over == ""


def test_full_fine_tuning_is_shown_where_several_cells_were_analysed(tmp_path):
    runs, blocks = make_study(tmp_path)
    (both,) = summarize_measures(make_readings(runs), blocks)
    assert (both.cell.j, both.n_others) == (0, 1)
    (frozen,) = summarize_measures(make_readings(runs[runs["j"] == 2]), blocks)
    assert (frozen.cell.j, frozen.n_others) == (2, 0)


def test_missing_values_of_some_seeds_leave_the_others_and_their_notes(tmp_path):
    runs, blocks = make_study(tmp_path)
    frame = make_readings(runs[runs["j"] == 0])
    at = (frame["measure"] == "probe") & (frame["n"] == 1)
    lost = at & (frame["seed"] > 0)
    frame.loc[lost, ["value", "low", "high"]] = [np.nan, np.inf, np.nan]
    frame.loc[lost, "note"] = "random filters do as well"
    frame.loc[at & (frame["variant"] == "components"), "value"] = np.inf
    (measured,) = summarize_measures(frame, blocks)
    pooled, components = (c.readings[0] for c in measured.curves if c.measure == "probe")
    assert pooled.estimate.n_seeds == 1 and pooled.note == "random filters do as well"
    assert math.isfinite(pooled.estimate.value) and math.isnan(components.estimate.value)


def test_of_several_networks_to_compare_with_the_base_run_counts(tmp_path):
    runs, blocks = make_study(tmp_path, n_seeds=1)
    base = next(c for c in blocks[0].cells.values() if c.k == 0).runs[0].run_id
    runs = runs[runs["j"] == 0]
    frames = [make_readings(runs, against=name) for name in ("0-first", base)]
    frames[0]["value"] += 5
    (measured,) = summarize_measures(pd.concat(frames), blocks)
    assert all(r.estimate.value < 3 for c in measured.curves for r in c.readings)


def test_no_readings_and_those_of_other_runs_are_nothing(tmp_path):
    runs, blocks = make_study(tmp_path, n_seeds=1)
    assert list(summarize_measures(pd.DataFrame(), blocks)) == []
    assert list(summarize_measures(make_readings(runs).assign(run_id="x"), blocks)) == []


# ---- beside the costs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "side", "half", "depth"),
    [
        ((1.0, 1.0, 0.4, 0.3), -1, 0.05, 2),
        ((0.0, 0.1, 0.2, 0.9), 1, 0.05, 3),
        ((1.0, 0.9, 0.8, 0.7), -1, 0.2, None),  # every step is inside its interval
        ((0.1, 0.2, 0.3, 0.4), -1, 0.01, None),  # every step is towards general
        ((1.0, None, 0.9, 0.2), -1, 0.05, 3),
        ((None, None), -1, 0.05, None),
    ],
)
def test_the_depth_is_the_unit_before_the_largest_step_towards_specific(values, side, half, depth):
    assert find_depth(make_curve(values, half), side) == depth


def test_a_ceiling_is_where_a_curve_begins():
    assert find_depth(make_curve((0.5, 0.45, 0.4), 0.02, ceiling=0.95), -1) == 0
    assert find_depth(make_curve((0.95, 0.90, 0.4), 0.02, ceiling=0.95), -1) == 2


def test_tau_is_1_where_a_measure_orders_the_units_as_the_costs_do():
    costs = {1: -0.01, 2: 0.0, 3: 0.05, 4: 0.2}
    falling, rising = make_curve((0.9, 0.8, 0.5, 0.1)), make_curve((0.9, 1.8, 2.5, 3.1))
    assert compare_with_costs(falling, costs, -1).tau == pytest.approx(1)
    assert compare_with_costs(rising, costs, 1).tau == pytest.approx(1)
    assert compare_with_costs(rising, costs, -1).tau == pytest.approx(-1)
    partly = compare_with_costs(make_curve((0.8, 0.9, 0.5, None)), costs, -1)
    assert partly.tau == pytest.approx(1 / 3) and partly.n_units == 3
    assert math.isnan(compare_with_costs(make_curve((0.9, 0.8, None, None)), costs, -1).tau)
    assert math.isnan(compare_with_costs(make_curve((0.5,) * 4), costs, -1).tau)


def test_ties_count_as_tau_b_has_them():
    costs = {1: 0.0, 2: 0.0, 3: 0.1}
    tau = compare_with_costs(make_curve((1.0, 2.0, 3.0)), costs, 1).tau
    assert tau == pytest.approx(2 / math.sqrt(3 * 2))  # 2 concordant pairs, 1 tie in the costs


def make_scores(*pairs):
    blank = UnitScores(0, "", dict.fromkeys("FSCG"), None, "undetermined", False, ())
    return [
        replace(
            blank, n=n, gaps={**blank.gaps, "F": Estimate(gap, 0, 0, 0, 0, 3)}, verdict=verdict
        )
        for n, (gap, verdict) in enumerate(pairs, start=1)
    ]


def test_the_depth_of_the_costs_has_what_their_verdicts_leave_open():
    scores = make_scores(
        (0.0, "general"), (0.008, "undetermined"), (0.03, "undetermined"), (0.2, "specific")
    )
    depth = find_cost_depth(scores, "F", 0.01)
    assert depth == CostDepth(2, 1, 3)
    judged = [depth.judge(n) for n in (None, 0, 1, 2, 3, 4)]
    assert judged == ["none", "disagrees", "open", "same", "open", "disagrees"]
    assert find_cost_depth(make_scores((0.3, "specific")), "F", 0.01) == CostDepth(0, 0, 0)
    assert find_cost_depth(scores, "S", 0.01) is None
    dear = make_scores((0.03, "undetermined"), (0.0, "undetermined"), (0.2, "specific"))
    assert find_cost_depth(dear, "F", 0.01) == CostDepth(0, 0, 2)  # the first unit is not below it


def test_units_are_apart_from_a_reference_with_their_whole_interval():
    curve = make_curve((0.97, 0.90, 0.2), 0.03, ceiling=0.95, null=0.18)
    assert list_apart(curve, -1, "ceiling") == ["u2", "u3"]
    assert list_apart(curve, 1, "null") == ["u1", "u2"]
    assert list_apart(make_curve((0.9, 0.2), ceiling=0.95), -1, "ceiling") is None  # no interval
