"""Debiased linear CKA: invariances, independence at any width, a peer's numbers, its interval."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from cka.hsic import hsic
from scipy.stats import ortho_group
from subjects import make_feature_subject, make_subject

from tlcnn.layers.cka import compute_cka, compute_products
from tlcnn.layers.similarity import center
from tlcnn.records.measures import Reading

PAIR = ("start", "final")


def draw(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def read(readings: list[Reading], variant: str = "pooled", n: int = 1) -> Reading:
    return next(each for each in readings if (each.variant, each.n) == (variant, n))


def measure(x: np.ndarray, y: np.ndarray, **more: np.ndarray) -> Reading:
    """Return the reading of start and final."""
    return read(compute_cka(make_feature_subject({"start": x, "final": y, **more})))


@pytest.mark.parametrize(("n", "d"), [(40, 3), (40, 12), (40, 200)])
def test_rotations_scalings_and_shifts_change_nothing(n: int, d: int):
    x = draw(n, d) * np.linspace(0.1, 3, d)
    turned = 7.0 * x @ ortho_group.rvs(d, random_state=0) + 5.0
    assert measure(x, turned).value == pytest.approx(1.0, abs=1e-12)
    squeezed = measure(x, x @ np.diag(np.linspace(1, 20, d)))
    assert squeezed.value < 0.99
    assert squeezed.value == pytest.approx(measure(x @ np.diag(np.linspace(1, 20, d)), x).value)


def test_a_network_is_equal_to_itself_and_the_interval_says_so():
    reading = measure(draw(30, 5), draw(30, 5))
    assert (reading.value, reading.low, reading.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("n", "d"), [(50, 2), (200, 16), (100, 100), (60, 600)])
def test_independent_features_are_at_zero_whatever_the_width(n: int, d: int):
    readings = [measure(draw(n, d, 2 * s), draw(n, d, 2 * s + 1)) for s in range(60)]
    values = [each.value for each in readings]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert np.std(values) == pytest.approx(np.sqrt(2) / n, rel=0.3)
    assert np.mean([each.low <= 0 <= each.high for each in readings]) >= 0.9


@pytest.mark.parametrize(("n", "d"), [(30, 4), (300, 20), (20, 500)])
def test_a_peer_has_the_same_number(n: int, d: int):
    x, y = draw(n, d) + 2.0, np.concatenate([draw(n, d), draw(n, 3, 1)], axis=1)
    grams = (torch.from_numpy(each @ each.T)[None] for each in (x, y))
    xy, xx, yy = (float(each) for each in hsic(*grams))
    assert measure(x, y).value == pytest.approx(xy / (xx * yy) ** 0.5, abs=1e-6)


def test_the_products_are_the_mean_over_all_sets_of_four_images():
    """Song et al. 2012, eq. 5: HSIC_1 is the U-statistic of a kernel of four images."""
    x, y = center(draw(7, 3)), center(draw(7, 5, 1))
    k, m = x @ x.T, y @ y.T
    kernel = [
        k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(7), 4)
    ]
    products = compute_products({"start": x, "final": y}, [PAIR])
    assert products[PAIR].sum() / (7 * 4) == pytest.approx(np.mean(kernel))


def test_narrow_and_wide_features_go_two_ways_to_one_result():
    x = draw(1200, 10)
    padded = np.pad(x, ((0, 0), (0, 400)))  # wide enough for Gram matrices, in several blocks
    narrow, wide = (
        compute_products({"start": center(each), "final": center(each**2)}, [PAIR])[PAIR]
        for each in (x, padded)
    )
    np.testing.assert_allclose(wide, narrow, rtol=1e-9, atol=1e-9 * np.abs(narrow).max())


def test_the_interval_is_that_of_leaving_groups_out():
    x = draw(400, 6)
    y = x @ draw(6, 6, 1) + draw(400, 6, 2)
    groups = np.arange(400) // 4
    reading = read(compute_cka(make_feature_subject({"start": x, "final": y}, groups.astype(str))))
    without = [measure(x[groups != g], y[groups != g]).value for g in range(100)]
    error = np.sqrt(99 / 100 * np.square(np.array(without) - np.mean(without)).sum())
    assert (reading.high - reading.low) / 2 == pytest.approx(1.98 * error, rel=0.05)


def test_the_normalised_value_is_zero_at_the_null_and_one_for_equal_features():
    x, z = draw(100, 5), draw(100, 5, 1)
    own = x + z
    for final, expected in ((own, 0.0), (x, 1.0)):
        readings = compute_cka(
            make_feature_subject({"start": x, "final": final, "own": own, "random": z})
        )
        reading = read(readings, "pooled normalised")
        assert reading.value == pytest.approx(expected, abs=1e-12)
        assert (reading.note, reading.null) == ("null: start and own", 0.0)
        against = read(readings, "pooled against")
        assert against.note == "null: start and random"
        assert against.value == read(readings).null


def test_the_normalised_interval_counts_the_error_of_the_null():
    x, groups = draw(400, 6), np.arange(400) // 4
    roles = {"start": x, "final": x + draw(400, 6, 1), "own": x + 2 * draw(400, 6, 2)}

    def measure_rho(chosen: np.ndarray) -> Reading:
        features = {role: each[chosen] for role, each in roles.items()}
        subject = make_feature_subject(features, groups[chosen].astype(str))
        return read(compute_cka(subject), "pooled normalised")

    reading = measure_rho(groups >= 0)
    without = np.array([measure_rho(groups != g).value for g in range(100)])
    error = np.sqrt(99 / 100 * np.square(without - without.mean()).sum())
    assert (reading.high - reading.low) / 2 == pytest.approx(1.98 * error, rel=0.05)


def test_what_cannot_be_computed_says_why():
    x = draw(30, 4)
    spike = np.zeros((30, 4))
    spike[3] = 1.0
    notes = {
        "the analysis has no network `final`": {"start": x},
        "the features of `final` are the same for all images": {"start": x, "final": x * 0 + 0.1},
        "not all features of `start` are finite": {"start": x * np.nan, "final": x},
        "only a single image has features that differ": {"start": x, "final": spike},
        "at least 4 images are needed": {"start": x[:3], "final": x[:3]},
    }
    for note, features in notes.items():
        reading = read(compute_cka(make_feature_subject(features)))
        assert (reading.value, reading.note) == (None, note)
    rho = read(compute_cka(make_feature_subject({"start": x, "final": x})), "pooled normalised")
    assert rho.note == "there is no null: the analysis has no network `random`"
    same = {"start": x, "final": x, "own": x}
    rho = read(compute_cka(make_feature_subject(same)), "pooled normalised")
    assert (rho.value, rho.note) == (None, "the null is too close to 1")
    alone = make_feature_subject({"start": x, "final": x + 1}, np.full(30, "one"))
    reading = read(compute_cka(alone))
    assert (reading.low, reading.over) == (None, "")


def test_networks_are_compared_at_every_boundary_that_is_one_tensor():
    subject = make_subject()
    units = list(subject.unit_map.units)
    units[1] = replace(units[1], cut_obstacle="2 tensors cross")
    subject.unit_map = replace(subject.unit_map, units=tuple(units))
    subject.networks = {**subject.networks, "final": subject.networks["start"]}
    readings = compute_cka(subject)
    assert len(readings) == 8 * len(units)
    for n in range(1, len(units) + 1):
        for variant in ("pooled", "spatial"):
            reading = read(readings, variant, n)
            if n == 2:
                assert reading.note == "no single tensor leaves the unit: 2 tensors cross"
            else:
                assert (reading.value, reading.n_images) == (1.0, 96)
                assert reading.null < 1 and reading.ceiling < 1
    assert compute_cka(subject) == readings
