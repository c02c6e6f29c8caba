"""Drawn datasets: a picture is a function of its seeds, and a class has what it is known for."""

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from tlcnn.data.datasets.synthetic import (
    DRAWING_VERSION,
    HAM_COUNTS,
    compute_class_counts,
    load_synthetic,
)
from tlcnn.data.drawing import lesion as lesions
from tlcnn.data.drawing.field import Draws, blur, make_frame, make_mesh, noise
from tlcnn.data.drawing.lesion import CLASSES, RECIPES, draw_lesion, make_recipe
from tlcnn.data.drawing.stroke import spots
from tlcnn.data.drawing.texture import DRAWINGS, TEXTURES, draw_texture
from tlcnn.data.index import Index
from tlcnn.errors import ConfigError, DataError


def load(**options) -> Index:
    return load_synthetic(None, name="synthetic", **{"n_images": 60, "size": 32, **options})


@pytest.mark.parametrize("task", ["lesions", "textures"])
def test_index_is_well_formed(task):
    index = load(task=task, n_images=300)
    table = index.table
    assert len(table) == len(index.images) == 300
    assert table["image_id"].is_unique
    assert table["label"].dtype == np.int64
    assert sorted(table["label"].unique()) == list(range(len(index.classes)))
    assert (table["split"] == "").all()
    assert (table.groupby("group")["label"].nunique() == 1).all()


@pytest.mark.parametrize("task", ["lesions", "textures"])
def test_every_picture_is_uint8_of_the_size_asked_for(task):
    index = load(task=task, n_images=48, size=40)
    for position in range(48):
        picture = index.images.load(position)
        assert picture.shape == (40, 40, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 3


@pytest.mark.parametrize("task", ["lesions", "textures"])
def test_the_same_seed_draws_the_same_bytes_and_another_does_not(task):
    one, same, other = load(task=task), load(task=task), load(task=task, data_seed=1)
    for position in (0, 7, 33):
        assert (one.images.load(position) == same.images.load(position)).all()
        assert (one.images.load(position) != other.images.load(position)).any()
    assert one.images.signature() == same.images.signature() != other.images.signature()
    assert one.images.load_digests() == same.images.load_digests()
    assert not set(one.images.load_digests()) & set(other.images.load_digests())
    assert not set(one.table["image_id"]) & set(other.table["image_id"])


def test_digests_and_signature_react_to_every_parameter():
    base = load(n_images=200)
    others = [load(n_images=200, size=33), load(n_images=200, data_seed=2), load(n_images=201)]
    others.append(load(n_images=200, imbalance=0.0))
    signatures = [repr(index.images.signature()) for index in [base, *others]]
    assert len(set(signatures)) == 5
    assert len(set(base.images.load_digests())) == 200
    assert set(base.images.load_digests()) < set(others[2].images.load_digests())


@pytest.mark.parametrize(
    ("task", "digest"),
    [
        ("lesions", "1bcd82c5c5d14468ba40717ade4d712941e4456e5c977396dbcc08959a76c480"),
        ("textures", "f001e589b55bf29d4ceca2239e1e2b52cae5f7b10a6b9aa9b50b09c31959aedd"),
    ],
)
def test_pictures_are_bit_for_bit_those_of_this_drawing_version(task, digest):
    """Whoever changes a pixel raises DRAWING_VERSION, and the digits of the demo change."""
    images = load(task=task, n_images=60, size=64).images
    pixels = b"".join(images.load(position).tobytes() for position in range(60))
    assert (DRAWING_VERSION, hashlib.sha256(pixels).hexdigest()) == (1, digest)


@pytest.mark.parametrize("task", ["lesions", "textures"])
def test_a_larger_dataset_holds_the_pictures_of_a_smaller_one(task):
    small, large = load(task=task, n_images=60), load(task=task, n_images=200)
    where = {name: i for i, name in enumerate(large.table["image_id"])}
    for position in (0, 20, 59):
        twin = where[small.table["image_id"][position]]
        assert (small.images.load(position) == large.images.load(twin)).all()


def test_the_name_in_records_changes_no_picture():
    other = load_synthetic(None, name="other", n_images=60, size=32)
    assert other.name == "other"
    assert other.images.load_digests() == load().images.load_digests()


@pytest.mark.parametrize("task", ["lesions", "textures"])
def test_pickled_images_draw_the_same(task):
    images = load(task=task).images
    copy = pickle.loads(pickle.dumps(images))
    assert (copy.load(5) == images.load(5)).all()


def test_classes_go_as_those_of_ham10000():
    counts = compute_class_counts(10015, 1.0)
    assert dict(zip(CLASSES, counts, strict=True)) == HAM_COUNTS
    tempered = compute_class_counts(2400, 0.6)
    assert np.argsort(tempered).tolist() == np.argsort(counts).tolist()
    assert max(compute_class_counts(700, 0.0)) == min(compute_class_counts(700, 0.0)) == 100


@pytest.mark.parametrize("n_images", [28, 61, 200, 1499, 10015])
@pytest.mark.parametrize("imbalance", [0.0, 0.6, 1.0])
def test_counts_add_up_and_leave_no_class_empty(n_images, imbalance):
    counts = compute_class_counts(n_images, imbalance)
    assert sum(counts) == n_images
    assert min(counts) >= min(n_images // 7, 16)


def test_lesions_have_one_to_four_photographs_like_ham10000():
    sizes = load(n_images=3000).table.groupby("group").size()
    assert sizes.min() == 1
    assert sizes.max() == 4
    assert sizes.mean() == pytest.approx(10015 / 7470, abs=0.04)


def test_photographs_of_one_lesion_are_closer_than_strangers():
    """In the colour of their skin and lesion and in the size of the lesion."""
    spread_within, spread_between = [], []
    for label in range(7):
        features = np.array(
            [
                [
                    _describe(draw_lesion((0, 0, label, number), label, photo, 32))
                    for photo in (0, 1)
                ]
                for number in range(8)
            ]
        )
        spread_within.append(np.abs(features[:, 0] - features[:, 1]).mean(0))
        spread_between.append(np.abs(features[:, 0] - np.roll(features[:, 1], 1, 0)).mean(0))
    within, between = np.mean(spread_within, 0), np.mean(spread_between, 0)
    assert (within < 0.8 * between).all(), within / between


def _describe(picture: np.ndarray) -> list[float]:
    """The skin's green, the contrast of the lesion, and its redness."""
    skin = np.median(picture[[3, -4]].reshape(-1, 3), axis=0)
    lesion = np.median(picture[10:22, 10:22].reshape(-1, 3), axis=0)
    return [skin[1], skin[1] - lesion[1], lesion[0] - lesion[2]]


def test_photographs_of_one_lesion_share_its_outline_in_its_own_coordinates(monkeypatch):
    """Turned back by the camera's pose, the lesion is where it was; the rest of it changes."""
    key, size = (0, 0, 5, 3), 64
    monkeypatch.setattr(lesions, "apply_hair", lambda *_: None)
    monkeypatch.setattr(
        lesions, "photograph", lambda picture, _: np.round(np.clip(picture, 0, 1) * 255)
    )
    monkeypatch.setattr(lesions, "make_frame", lambda size, *_: make_frame(size))
    straight = draw_lesion(key, 5, 0, size)
    assert (straight == draw_lesion(key, 5, 1, size)).all()
    monkeypatch.setattr(lesions, "make_frame", lambda size, *_: make_frame(size, angle=np.pi / 2))
    turned = draw_lesion(key, 5, 0, size).astype(int)
    assert np.abs(np.rot90(turned, -1) - straight).max() <= 1


@pytest.mark.parametrize("label", range(7))
def test_a_larger_picture_has_the_same_layout(label):
    small = draw_lesion((4, 0, label, 1), label, 0, 32).astype(float)
    large = draw_lesion((4, 0, label, 1), label, 0, 128).astype(float)
    shrunk = large.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.93


@pytest.mark.parametrize("task", ["lesions", "textures"])
def test_classes_can_be_told_apart_by_simple_features_but_not_well(task):
    """Colours and edges alone beat chance by far and leave room for what a network learns."""
    index = load(task=task, n_images=600, size=32, **_balanced(task))
    features = np.array([_simple_features(index.images.load(i)) for i in range(600)])
    labels = index.table["label"].to_numpy()
    train = np.arange(600) < 400
    groups = index.table["group"].to_numpy()
    test = ~train & ~np.isin(groups, groups[train])
    scaler = StandardScaler().fit(features[train])
    model = LogisticRegression(max_iter=300).fit(scaler.transform(features[train]), labels[train])
    score = balanced_accuracy_score(labels[test], model.predict(scaler.transform(features[test])))
    chance = 1 / len(index.classes)
    assert chance + 0.15 < score < 0.85


def _balanced(task: str) -> dict:
    return {"imbalance": 0.0} if task == "lesions" else {}


def _simple_features(picture: np.ndarray) -> np.ndarray:
    pixels = picture.astype(float)
    edges = (
        np.abs(np.diff(pixels, axis=0)).mean((0, 1)),
        np.abs(np.diff(pixels, axis=1)).std((0, 1)),
    )
    centre = pixels[10:22, 10:22].mean((0, 1))
    return np.concatenate([pixels.mean((0, 1)), pixels.std((0, 1)), centre, *edges])


def test_each_diagnosis_shows_its_own_traits():
    """Blended or not, the mean amount of a trait is highest where dermatologists look for it."""
    amounts = {
        name: [make_recipe((1, 0, label, i), label) for i in range(150)]
        for label, name in enumerate(CLASSES)
    }
    expected = {
        "vessels": "bcc", "nests": "bcc", "cysts": "bkl", "plugs": "bkl", "scar": "df",
        "lacunae": "vasc", "follicles": "akiec", "scale": "akiec", "veil": "mel",
        "streaks": "mel", "wobble": "mel", "regression": "mel", "globules": "nv",
    }  # fmt: skip
    for trait, name in expected.items():
        means = {n: np.mean([recipe[trait] for recipe in amounts[n]]) for n in CLASSES}
        assert max(means, key=means.__getitem__) == name, (trait, means)


def test_tables_of_drawings_fit_the_classes():
    assert tuple(RECIPES) == CLASSES == tuple(HAM_COUNTS)
    assert set(DRAWINGS) == set(TEXTURES)
    assert len(TEXTURES) == 12


def test_textures_are_balanced():
    counts = load(task="textures", n_images=300).table["label"].value_counts()
    assert counts.min() == counts.max() == 25


@pytest.mark.parametrize("label", range(12))
def test_textures_of_one_kind_differ(label):
    pictures = [draw_texture((0, 1, label, i), label, 24) for i in range(3)]
    assert (pictures[0] != pictures[1]).mean() > 0.5
    assert (pictures[1] != pictures[2]).mean() > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "lesion"}, "Did you mean 'lesions'"),
        ({"n_images": 5}, "give 28 or more"),
        ({"data_seed": -1}, "give 0 or more"),
        ({"size": 8}, "give 16 to 1024"),
        ({"imbalance": 1.5}, "between 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load(**options)


def test_a_position_outside_is_refused():
    with pytest.raises(DataError, match="positions go from 0 to 59"):
        load().images.load(60)


def test_neither_the_index_nor_a_picture_needs_torch():
    code = (
        "import sys\n"
        "from tlcnn.data.datasets.synthetic import load_synthetic\n"
        "for task in ('lesions', 'textures'):\n"
        "    load_synthetic(None, name='s', task=task, n_images=40, size=16).images.load(3)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_noise_is_standard_and_agrees_with_its_definition():
    """Against the sum of waves written out, in a turned, zoomed and shifted frame."""
    frame = make_frame(48, angle=0.7, zoom=1.3, shift=(0.2, -0.1))
    field = noise(frame, Draws(3), 2, 6, n_waves=40)
    assert field.mean() == pytest.approx(0, abs=0.25)
    assert field.std() == pytest.approx(1, abs=0.25)
    draws = Draws(3)
    frequency = 2 * 3 ** ((np.arange(40) + draws.array(40)) / 40)
    angle, phase = 2 * np.pi * draws.array(40), 2 * np.pi * draws.array(40)
    amplitude = 2 / frequency
    amplitude *= (2 / np.sum(amplitude**2)) ** 0.5
    path = np.cos(angle) * frame.u[..., None] + np.sin(angle) * frame.v[..., None]
    expected = (amplitude * np.cos(np.pi * frequency * path + phase)).sum(-1)
    np.testing.assert_allclose(field, expected, atol=1e-9)


def test_cells_are_those_of_the_nearest_lattice_points():
    """A honeycomb without jitter: no point is farther than its corners, walls have no gap."""
    frame = make_frame(160, zoom=6)
    comb = make_mesh(frame.u, frame.v, Draws(1), jitter=0.0)
    assert comb.near.max() == pytest.approx(3**-0.5, abs=0.02)
    assert comb.gap.min() < 0.1
    assert comb.gap.max() == pytest.approx(1, abs=0.1)
    foam = make_mesh(frame.u, frame.v, Draws(1), jitter=0.8)
    np.testing.assert_allclose(np.hypot(foam.du, foam.dv), foam.near)


def test_spots_lie_where_they_were_put():
    frame = make_frame(50, angle=1.0, zoom=1.2, shift=(0.1, 0.2))
    point = np.array([[0.3, -0.2]])
    cover = spots(frame, point, np.array([0.15]))
    inside = np.hypot(frame.u - 0.3, frame.v + 0.2)
    assert cover[inside < 0.1].min() > 0.9
    assert cover[inside > 0.21].max() == 0


def test_blur_is_a_gaussian_that_keeps_the_light():
    point = np.zeros((41, 41, 1))
    point[20, 20] = 1
    spread = blur(point, 1.5)[..., 0]
    assert spread.sum() == pytest.approx(1)
    assert spread[20, 22] / spread[20, 20] == pytest.approx(np.exp(-0.5 * (2 / 1.5) ** 2))
    assert blur(np.full((9, 9, 3), 0.4), 2.0) == pytest.approx(0.4)
