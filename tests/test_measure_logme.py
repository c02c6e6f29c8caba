"""Facts of LogME."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, ortho_group
from subjects import make_labelled_subject

from tlcnn.layers.logme import compute_evidence, compute_logme


def draw(n_images, width, strength, seed=0):
    """Features and the three classes that they tell apart more or less well."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_images, width)) * np.exp(rng.normal(size=width))
    scores = strength * features @ rng.normal(size=(width, 3)) + rng.normal(size=(n_images, 3))
    return features, np.eye(3)[scores.argmax(axis=1)]


def maximise_evidence(features, target):
    """The marginal likelihood of one target, written down and maximised directly."""

    def lose(logarithms):
        alpha, beta = np.exp(np.clip(logarithms, -30, 30))
        covariance = np.eye(len(target)) / beta + features @ features.T / alpha
        return -multivariate_normal.logpdf(target, cov=covariance)

    starts = [(a, b) for a in (-2, 3) for b in (0, 4)]
    settings = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}
    results = [minimize(lose, s, method="Nelder-Mead", options=settings) for s in starts]
    return -min(result.fun for result in results) / len(target)


@pytest.mark.parametrize(("n_images", "width"), [(60, 5), (40, 12), (30, 45)])
def test_it_is_the_largest_evidence(n_images, width):
    features, targets = draw(n_images, width, strength=1.0)
    expected = np.mean([maximise_evidence(features, target) for target in targets.T])
    assert compute_evidence(features, targets) == pytest.approx(expected, abs=1e-6)


def test_features_that_say_nothing_have_the_evidence_of_none():
    _, targets = draw(400, 6, strength=1.0)
    nothing = -np.mean(np.log(2 * np.pi * np.mean(targets**2, axis=0)) + 1) / 2
    assert compute_evidence(np.zeros((400, 6)), targets) == pytest.approx(nothing)
    noise = np.random.default_rng(1).normal(size=(400, 6))
    assert compute_evidence(noise, targets) == pytest.approx(nothing, abs=0.01)


def test_it_rises_with_what_features_tell():
    scores = [compute_evidence(*draw(300, 8, strength)) for strength in (0.0, 0.3, 1.0, 10.0)]
    assert np.all(np.diff(scores) > 0.02)


def test_rotation_and_scale_of_all_features_do_not_matter():
    features, targets = draw(200, 10, strength=1.0)
    expected = compute_evidence(features, targets)
    rotated = features @ ortho_group.rvs(10, random_state=0)
    for changed in (rotated, 1e4 * features, 1e-4 * features, features[:, ::-1]):
        assert compute_evidence(changed, targets) == pytest.approx(expected, abs=1e-9)


def test_readings_of_networks_with_the_null_of_random_filters():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 3
    good = rng.normal(size=(400, 6)) + 2 * np.eye(6)[labels]
    noise = rng.normal(size=(400, 6))
    subject = make_labelled_subject({"start": {1: good}, "random": {1: noise}}, labels)
    start, own, drawn = compute_logme(subject)
    assert start.value > drawn.value == start.null
    assert start.n_images == 200 and drawn.null is None
    assert (own.value, own.note) == (None, "the analysis has no network `own`")
    targets = np.eye(3)[labels[:200]]
    assert start.value == pytest.approx(compute_evidence(good[:200], targets))
