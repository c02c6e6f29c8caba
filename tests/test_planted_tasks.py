"""Tasks that share the first units of a trained teacher: its labels, and what they depend on."""

import json
from pathlib import Path

import numpy as np
import pytest

from tlcnn.data.datasets.planted import (
    N_OUTPUTS,
    TAUGHT,
    PlantedImages,
    load_planted,
)
from tlcnn.data.drawing import teacher
from tlcnn.data.drawing.teacher import (
    N_UNITS,
    SIZE,
    apply_layers,
    compute_codes,
    compute_means,
    convolve,
    find_components,
    find_digest,
    find_sparse_value,
    load_teacher,
    make_labeller,
    normalize,
)
from tlcnn.errors import ConfigError

SMALL = {"n_images": 60, "n_val": 20, "n_test": 30}


@pytest.fixture
def load(tmp_path):
    return lambda **options: load_planted(cache_dir=str(tmp_path), **{**SMALL, **options})


def draw(n, data_seed=5):
    images = PlantedImages(data_seed, SIZE, 0.02, 0, tuple(range(n)))
    return np.stack([images.load(i) for i in range(n)])


@pytest.fixture(scope="module")
def pictures():
    return draw(300)


# ----------------------------------------------------------------------------- the network


def test_the_teacher_sees_both_cues():
    head = json.loads(Path(teacher.__file__).with_suffix(".json").read_text())["head"]
    index = load_planted(cue="both", data_seed=5, noise=0.02, **SMALL)
    values = normalize(np.stack([index.images.load(i) for i in range(len(index))]))
    features = compute_means(
        apply_layers([each for unit in load_teacher() for each in unit], values)
    )
    classes = (features @ np.array(head["weight"]).T + head["bias"]).argmax(axis=1)
    assert (classes == index.truth).mean() > 0.98


def test_a_convolution_is_that_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values, kernel = rng.standard_normal((2, 6, 5, 3)), rng.standard_normal((4, 3, 3, 3))
    images = torch.from_numpy(values.transpose(0, 3, 1, 2).copy())
    expected = torch.nn.functional.conv2d(images, torch.from_numpy(kernel), padding=1)
    np.testing.assert_allclose(convolve(values, kernel).transpose(0, 3, 1, 2), expected)


@pytest.mark.parametrize("m", [0, 2, N_UNITS])
def test_two_tasks_share_the_first_m_units_alone(pictures, m):
    one, other = (make_labeller(pictures, m, task) for task in (1, 2))
    n_shared = sum(len(unit) for unit in load_teacher()[:m])
    pairs = list(zip(one.layers, other.layers, strict=True))
    same = [np.array_equal(a.kernel, b.kernel) for a, b in pairs]
    assert same == [True] * n_shared + [False] * (len(pairs) - n_shared)
    np.testing.assert_allclose(one.compute_outputs(pictures), one.reference, atol=1e-9)


def test_components_are_uncorrelated_and_ordered_and_have_one_sign():
    features = np.random.default_rng(0).standard_normal((500, 4)) * [1, 3, 2, 0.5]
    features -= features.mean(axis=0)
    outputs = features @ find_components(features)
    covariance = outputs.T @ outputs / 500
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
    assert (np.diff(np.diag(covariance)) < 0).all()
    flipped = features * [-1, 1, 1, 1]  # an axis with the opposite sign
    np.testing.assert_allclose(np.abs(flipped @ find_components(flipped)), np.abs(outputs))


def test_an_output_is_cut_between_clusters_and_near_the_median():
    values = np.concatenate([np.linspace(0, 1, 450), np.linspace(5, 6, 550)])
    assert 1 < find_sparse_value(values) < 5
    assert 0.35 <= (np.random.default_rng(0).random(999) < 0.5).mean() <= 0.65


def test_no_class_of_a_tree_is_rare():
    outputs = np.random.default_rng(0).standard_normal((4000, 3)) @ np.array(
        [[1, 0.9, 0.9], [0, 0.2, 0], [0, 0, 0.2]]
    )  # correlated: independent cuts would leave most classes empty
    counts = np.bincount(compute_codes(outputs, outputs), minlength=8) / len(outputs)
    assert counts.min() >= 0.35**3 - 0.01 and counts.max() <= 0.65**3 + 0.01


# of the first training images, where m is 0 and 5
LABELS = [[3, 3, 0, 2, 2, 3, 2, 3, 1, 0, 6, 6], [1, 6, 3, 1, 7, 1, 6, 0, 3, 7, 0, 7]]

# ----------------------------------------------------------------------------- the dataset


def test_labels_are_bit_for_bit_those_of_this_teacher(load):
    """Whoever changes a label changes all runs on these tasks."""
    labels = [load(cue="target", shared=m).truth.tolist()[:12] for m in (0, 5)]
    assert labels == LABELS


def test_tasks_have_outputs_and_classes(load):
    source, target = load(cue="source", shared=3), load(cue="target", shared=3)
    assert source.task == "multi-label" and source.truth.shape == (110, N_OUTPUTS)
    assert target.task == "multi-class" and len(target.classes) == 8
    assert source.images.signature() == target.images.signature() == load().images.signature()
    assert (source.truth.mean(axis=0) > 0.15).all() and (source.truth.mean(axis=0) < 0.85).all()


@pytest.mark.parametrize("cue", sorted(TAUGHT))
def test_a_label_depends_on_the_clean_picture_and_m_alone(load, cue):
    plain = load(cue=cue, shared=2).truth
    for option in ({"noise": 0.3}, {"block": 4}):
        assert (load(cue=cue, shared=2, **option).truth == plain).all()
    assert (load(cue=cue, shared=2, n_test=40).truth[:110] == plain).all()
    assert (load(cue=cue, shared=3).truth != plain).any()
    assert (load(cue=cue, shared=2, data_seed=1).truth != plain).any()


def test_labels_are_remembered_by_the_digest_of_the_teacher(load, tmp_path, monkeypatch):
    before = load(cue="target").truth
    monkeypatch.setattr("tlcnn.data.datasets.planted.make_labeller", lambda *_: 1 / 0)
    assert (load(cue="target").truth == before).all()  # nothing is computed
    assert len(list((tmp_path / "facts").glob("planted-*"))) == 1
    digest = find_digest()
    monkeypatch.setattr(teacher, "CENTRAL", (0.4, 0.6))
    assert find_digest() != digest
    with pytest.raises(ZeroDivisionError):
        load(cue="target")


def test_noise_replaces_outputs_and_classes_of_training_images_alone(load):
    for cue, share in (("source", 0.5), ("target", 7 / 8)):
        true, noisy = (load(cue=cue, label_noise=noise).truth for noise in (0, 1))
        assert (true[60:] == noisy[60:]).all()
        assert (true[:60] != noisy[:60]).mean() == pytest.approx(share, abs=0.13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shared": 6}, "shared=6: the teacher has 5 units; give 0 to 5"),
        ({"shared": -1}, "give 0 to 5"),
        ({"size": 64}, "size=64 and cue=target: the teacher sees 32 pixels"),
    ],
)
def test_what_the_teacher_cannot_label_is_refused(load, options, message):
    with pytest.raises(ConfigError, match=message):
        load(cue="target", **options)
