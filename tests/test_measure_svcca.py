"""SVCCA: invariances, chance, known correlations, its interval, and what it refuses."""

import numpy as np
import pytest
from subjects import make_feature_subject, make_subject

from tlcnn.layers.svcca import compute_components, compute_svcca
from tlcnn.records.measures import Reading


def draw(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def measure(x: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Reading:
    """Return the reading of start and final."""
    return compute_svcca(make_feature_subject({"start": x, "final": y}, groups))[0]


def test_invertible_linear_maps_and_shifts_change_nothing():
    x = draw(200, 5)
    reading = measure(x, x @ (draw(5, 5, 1) + 3 * np.eye(5)) + 4.0)
    assert reading.value == pytest.approx(1.0, abs=1e-12)
    assert reading.high - reading.low < 1e-9


def test_components_below_a_hundredth_of_the_variance_are_left_out():
    x = draw(300, 6) * [1, 1, 1, 1, 0.05, 0.05]
    assert compute_components(x - x.mean(axis=0)).shape == (300, 4)
    y = np.concatenate([x[:, :4], draw(300, 2, 1) * 0.05], axis=1)
    assert measure(x, y).value > 0.999


@pytest.mark.parametrize("d", [3, 60])
def test_components_are_orthonormal_in_narrow_and_wide_features(d: int):
    x = draw(40, d)
    components = compute_components(x - x.mean(axis=0))
    np.testing.assert_allclose(components.T @ components, np.eye(components.shape[1]), atol=1e-9)
    np.testing.assert_allclose(components.sum(axis=0), 0, atol=1e-9)


def test_it_has_the_correlations_that_were_planted():
    shared, x, y = (draw(20_000, 4, seed) for seed in range(3))
    correlation = 0.6
    x, y = (correlation**0.5 * shared + (1 - correlation) ** 0.5 * each for each in (x, y))
    reading = measure(x, y)
    assert reading.low < correlation < reading.high and reading.high - reading.low < 0.02


def test_independent_features_are_near_zero_where_there_are_many_images():
    few, many = (measure(draw(n, 8), draw(n, 8, 1)).value for n in (50, 5000))
    assert many < 0.05 < 0.15 < few


def test_the_interval_is_that_of_leaving_groups_out():
    x = draw(400, 3)
    y = x @ draw(3, 3, 1) + draw(400, 3, 2)
    groups = np.arange(400) // 4
    reading = measure(x, y, groups.astype(str))
    without = np.array([measure(x[groups != g], y[groups != g]).value for g in range(100)])
    error = np.sqrt(99 / 100 * np.square(without - without.mean()).sum())
    assert (reading.high - reading.low) / 2 == pytest.approx(1.98 * error, rel=0.1)


def test_as_many_components_as_images_have_no_value():
    reading = measure(draw(20, 30), draw(20, 30, 1))
    assert reading.value is None
    assert reading.note.endswith("components are too many for 20 images")


def test_networks_are_compared_on_pooled_features():
    readings = compute_svcca(make_subject())
    variants = ["pooled", "pooled normalised", "pooled against", "pooled against normalised"]
    assert [each.variant for each in readings[:4]] == variants
    first = readings[0]
    assert 0 < first.value < 1 and first.note == "null: start and own" and 0 < first.ceiling < 1
