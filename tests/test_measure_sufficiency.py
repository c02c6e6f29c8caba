"""Facts of probe sufficiency and its twin of nearest neighbours."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from subjects import make_labelled_subject, make_subject

from tlcnn.layers import load_measure
from tlcnn.layers.sufficiency import COMPARED, SCORED, find_components, standardise

N_CLASSES = 3
LABELS = np.arange(600) % N_CLASSES
VARIANTS = ("pooled", "pooled gap", "components", "components gap", *SCORED)

measures = pytest.mark.parametrize("measure", ["probe", "knn"])


def draw_features(distance, seed=0, width=8):
    """Gaussian noise, with the classes' means so many deviations apart."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(LABELS), width))
    noise[:, :N_CLASSES] += distance / np.sqrt(2) * np.eye(N_CLASSES)[LABELS]
    return noise.astype(np.float32)


def measure_features(measure, labels=LABELS, **features):
    """Return readings of one unit, by variant."""
    by_role = {role: {1: each} for role, each in features.items()}
    readings = load_measure(measure)(make_labelled_subject(by_role, labels))
    assert [reading.variant for reading in readings] == list(VARIANTS)
    return {reading.variant: reading for reading in readings}


@measures
def test_separable_classes_score_one_and_noise_scores_as_guessing(measure):
    readings = measure_features(
        measure, start=draw_features(30, 1), own=draw_features(3, 2), random=draw_features(0, 3)
    )
    assert readings["start"].value == 1
    assert 0.85 < readings["own"].value < 1
    error = np.sqrt(2 / 9 / (len(LABELS) / 4))
    assert readings["random"].value == pytest.approx(1 / N_CLASSES, abs=3.5 * error)
    assert readings["random"].low < 1 / N_CLASSES < readings["random"].high
    assert readings["start"].null == readings["random"].value
    gains = [readings[role].value - readings["random"].value for role in ("start", "own")]
    assert readings["pooled"].value == pytest.approx(gains[0] / gains[1])
    assert readings["pooled"].value > 1
    gap = readings["pooled gap"]
    assert gap.value == pytest.approx(gains[1] - gains[0])
    assert gap.null == pytest.approx(gains[1])
    assert gap.low < gap.value < gap.high


@measures
@pytest.mark.parametrize(("twin", "expected"), [("own", 1.0), ("random", 0.0)])
def test_equal_features_have_a_ratio_of_one_and_random_ones_of_zero(measure, twin, expected):
    features = {"own": draw_features(3, 1), "random": draw_features(0.5, 2)}
    readings = measure_features(measure, start=features[twin], **features)
    for variant in ("pooled", "components"):
        reading = readings[variant]
        assert reading.value == expected
        assert reading.low <= expected <= reading.high
        assert reading.high - reading.low < 0.2
        assert (reading.null, reading.over, reading.n_images) == (0, "test groups", 150)


@measures
def test_order_scale_and_shift_of_features_do_not_matter(measure):
    start, own, drawn = draw_features(1.5, 1), draw_features(2, 2), draw_features(0, 3)
    rng = np.random.default_rng(4)
    changed = start[:, ::-1] * 10.0 ** rng.integers(-3, 4, 8) + rng.normal(size=8)
    plain, other = (
        measure_features(measure, start=x, own=own, random=drawn) for x in (start, changed)
    )
    for variant in ("start", "pooled", "components"):
        assert other[variant].value == pytest.approx(plain[variant].value, abs=0.01)


@measures
def test_copies_of_features_do_not_change_what_components_say(measure):
    start, own, drawn = draw_features(1.5, 1), draw_features(2, 2), draw_features(0, 3)
    narrow, wide = (
        measure_features(measure, start=x, own=own, random=drawn)["components"]
        for x in (start, np.tile(start, 6))
    )
    assert wide.value == pytest.approx(narrow.value, abs=0.01)


def test_components_are_uncorrelated_and_those_without_variance_are_zero():
    features = draw_features(1)
    features = np.column_stack([features, features[:, :2], np.full(len(features), 3.0)])
    parts = {"train": features[:400], "test": features[400:]}
    components = find_components(standardise(parts), 11)
    expected = np.diag([0.0] * 3 + [1.0] * 8)
    assert np.cov(components["train"].T, ddof=0) == pytest.approx(expected, abs=1e-9)
    assert np.abs(components["test"]).max() < 10
    nothing = find_components(standardise({"train": np.ones((9, 3))}), 2)
    assert not nothing["train"].any()


@measures
def test_a_rare_class_counts_as_much_as_a_frequent_one(measure):
    """Ten to one: what is right most often scores 0.58, and what is best 0.76."""
    rng = np.random.default_rng(0)
    labels = (rng.random(1200) < 1 / 11).astype(np.int64)
    features = rng.normal(size=(1200, 3)) + 0.8 * labels[:, None]
    readings = measure_features(measure, labels, start=features, own=features, random=features)
    assert readings["start"].value > 0.65


@measures
def test_a_class_without_training_images_is_never_right(measure):
    labels = np.where((LABELS == 2) & (np.arange(600) < 300), 0, LABELS)
    features = draw_features(30)
    readings = measure_features(measure, labels, start=features, own=features, random=features)
    assert readings["start"].value == pytest.approx(2 / 3)


@measures
def test_what_is_missing_is_a_sentence(measure):
    x = draw_features(3)
    readings = measure_features(measure, start=x, random=x)
    for variant in ("pooled", "components", "own"):
        assert readings[variant].value is None
        assert readings[variant].note == "the analysis has no network `own`"
    assert readings["start"].value > 0.8
    readings = measure_features(measure, start=x, own=draw_features(0, 1), random=x)
    assert readings["pooled"].note.endswith("not shown to be 1% better than random filters")
    bad = np.where(np.arange(8) == 1, np.nan, x)
    readings = measure_features(measure, start=x, own=bad, random=x)
    assert readings["pooled"].note == "not all features of `own` are finite"
    readings = measure_features(measure, np.zeros(600, int), start=x, own=x, random=x)
    assert {each.note for each in readings.values()} == {"all training images have one class"}


@measures
def test_a_multi_label_task_and_an_uncut_unit_are_sentences(measure):
    subject = make_labelled_subject({role: {1: draw_features(3)} for role in COMPARED}, LABELS)
    targets = torch.eye(N_CLASSES, dtype=torch.int64)
    images = {s: replace(each, labels=targets[each.labels]) for s, each in subject.images.items()}
    notes = {reading.note for reading in load_measure(measure)(replace(subject, images=images))}
    assert notes == {"not defined for a task in which an image has several labels"}
    (unit,) = subject.unit_map.units
    uncut = replace(subject.unit_map, units=(unit, replace(unit, cut_obstacle="two cross")))
    readings = load_measure(measure)(replace(subject, unit_map=uncut))
    assert [reading.n for reading in readings] == [1] * 8 + [2] * 8
    notes = {reading.note for reading in readings if reading.n == 2}
    assert notes == {"no single tensor leaves the unit: two cross"}


@measures
def test_networks_are_measured_at_every_unit_with_the_same_bits(measure):
    subject = make_subject()
    readings = load_measure(measure)(subject)
    assert len(readings) == len(subject.unit_map) * len(VARIANTS)
    for reading in readings:
        if reading.variant in SCORED:
            assert reading.low <= reading.value <= reading.high
    assert load_measure(measure)(make_subject()) == readings
