"""Few test groups and few seeds: small simulations, whose bounds the wrong formulas miss."""

from dataclasses import replace
from unittest import mock

import pytest
from simulate_few import (
    SATURATED,
    UNEQUAL,
    simulate_moderation,
    simulate_pairing,
    simulate_small_classes,
)
from simulate_statistics import main

from tlcnn.statistics import estimate


def test_intervals_cover_where_nearly_everything_is_right():
    shares = simulate_small_classes(SATURATED, 3.75, n_seeds=3, n_repeats=120, n_truth=1500)
    assert shares["coverage of a cell"] >= 0.95 and shares["coverage of a difference"] >= 0.95
    assert shares["cells a margin apart found equivalent"] <= 0.02


def test_without_a_floor_they_do_not():
    def compute_without(terms):
        return estimate_parts([(c, replace(arm, floor=None)) for c, arm in terms])

    estimate_parts = estimate.compute_parts
    with mock.patch.object(estimate, "compute_parts", compute_without):
        shares = simulate_small_classes(SATURATED, 3.75, n_seeds=3, n_repeats=120, n_truth=1500)
    assert shares["coverage of a cell"] < 0.85


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("deviations", [(0.5, 0.5), (3.0, 3.0), (3.0, 1.0)])
def test_differences_cover_from_two_seeds_on(n_seeds, deviations):
    covered, _ = simulate_pairing(n_seeds, deviations, 0.15, 1500)
    assert 0.92 <= covered <= 0.98  # 1500 repeats: 0.93 - 1.5 sd to 0.97 + 2 sd


def test_not_pairing_detects_more_where_seeds_are_few():
    alone = simulate_pairing(3, (2.0, 2.0), 0.0, 1500)[1]
    with mock.patch.object(estimate, "LEAST_PAIRS", 2):
        assert alone > simulate_pairing(3, (2.0, 2.0), 0.0, 1500)[1] + 0.03


def test_moderated_variances_fail_loud_cells():
    """Why they are not used: cells of a grid differ in how much seeds move them."""
    assert simulate_moderation(3, 2.0, (1.0,), 400)[1.0][0] > 0.93
    assert simulate_moderation(3, 2.0, UNEQUAL, 400)[2.5][0] < 0.92


def test_the_command_prints_both_tables(capsys):
    with mock.patch("simulate_few.SMALL_CLASSES", {"tiny": (SATURATED, 3.0)}):
        main(["--part", "classes", "--repeats", "1", "--seeds", "2"])
    main(["--part", "seeds", "--repeats", "2", "--seeds", "2"])
    printed = capsys.readouterr().out
    assert "| tiny | 2 |" in printed and "| 2 | moderated, unequal cells, sd x 2.5 |" in printed
