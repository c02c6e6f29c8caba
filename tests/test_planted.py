"""Drawn images with two cues: independent, as labelled, and functions of a seed and a number."""

import hashlib
import pickle

import numpy as np
import pytest

from tlcnn.data.datasets.planted import DRAWING_VERSION, load_planted
from tlcnn.data.drawing.cues import OUTLINES, TEXTURES, draw_cues, draw_outline, scramble
from tlcnn.data.drawing.field import Draws
from tlcnn.data.index import SPLITS
from tlcnn.data.overlap import Part, find_overlap
from tlcnn.errors import ConfigError, DataError

SMALL = {"n_images": 60, "n_val": 20, "n_test": 30}


def load(**options):
    return load_planted(None, **{**SMALL, **options})


def read_pixels(index, n=40):
    return np.stack([index.images.load(i) for i in range(n)])


def test_pictures_are_bit_for_bit_those_of_this_drawing_version():
    """Whoever changes a pixel raises DRAWING_VERSION, and the planted study is another one."""
    pixels = read_pixels(load(), 60).tobytes()
    digest = "b6ab9f0ea5a29159b2416b4da4f3597e3984db803656918353c8626901075e2e"
    assert (DRAWING_VERSION, hashlib.sha256(pixels).hexdigest()) == (1, digest)


@pytest.mark.parametrize("sizes", [{"n_images": 90}, {"n_val": 50}, {"n_test": 31}])
def test_a_smaller_split_is_the_first_part_of_a_larger_one(sizes):
    small, large = load(label_noise=0.4), load(label_noise=0.4, **sizes)
    for split in SPLITS:
        tables = [index.table[index.table["split"] == split] for index in (small, large)]
        ids, labels = ([list(table[key]) for table in tables] for key in ("image_id", "label"))
        assert ids[1][: len(ids[0])] == ids[0] and labels[1][: len(labels[0])] == labels[0]
    where = {image_id: i for i, image_id in enumerate(large.table["image_id"])}
    for i in (0, 59, 79, 109):
        twin = where[small.table["image_id"][i]]
        assert (small.images.load(i) == large.images.load(twin)).all()
        assert small.images.load_digests()[i] == large.images.load_digests()[twin]


def test_another_seed_is_another_draw_of_everything():
    one, same, other = load(), load(), load(data_seed=1)
    assert (read_pixels(one) == read_pixels(same)).all()
    assert (read_pixels(one) != read_pixels(other)).any(axis=(1, 2, 3)).all()
    assert one.images.signature() == same.images.signature() != other.images.signature()
    assert not set(one.images.load_digests()) & set(other.images.load_digests())
    assert not set(one.table["image_id"]) & set(other.table["image_id"])
    copy = pickle.loads(pickle.dumps(one.images))
    assert (copy.load(5) == one.images.load(5)).all()


@pytest.mark.parametrize("option", [{"noise": 0.2}, {"block": 4}, {"size": 16}, {"n_test": 31}])
def test_the_signature_reacts_to_what_changes_a_picture(option):
    assert load(**option).images.signature() != load().images.signature()


def test_images_of_two_seeds_are_no_copies_of_each_other(tmp_path):
    parts = []
    for data_seed in (0, 1):
        index = load(n_images=200, data_seed=data_seed)
        digests = index.images.load_digests()
        table = index.table[["image_id", "group"]].assign(digest=digests)
        parts.append(Part("planted", table, index.images, np.arange(len(index)), digests))
    overlap = find_overlap(*parts, tmp_path)
    assert not overlap and overlap.n_unconfirmed == 0


# ----------------------------------------------------------------------------- labels


def test_the_cue_changes_the_label_and_no_pixel():
    indices = {cue: load(cue=cue) for cue in ("texture", "outline", "both")}
    labels = {cue: index.table["label"].to_numpy() for cue, index in indices.items()}
    assert (labels["both"] == len(OUTLINES) * labels["texture"] + labels["outline"]).all()
    assert indices["both"].classes[6] == f"{TEXTURES[1]} {OUTLINES[2]}"
    assert len({repr(index.images.signature()) for index in indices.values()}) == 1


def test_the_cues_are_balanced_and_independent():
    labels = load(cue="both", n_images=8000).table["label"]
    counts = np.bincount(labels, minlength=16)
    expected = len(labels) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 40  # chi2 of 15 degrees: p = 0.0005


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_noise_replaces_that_share_of_the_training_labels_alone(share):
    true, noisy = load(n_images=4000).table, load(n_images=4000, label_noise=share).table
    is_train = (true["split"] == "train").to_numpy()
    differs = (true["label"] != noisy["label"]).to_numpy()
    assert not differs[~is_train].any()
    # a class that is drawn at random is the true one once in four
    assert differs[is_train].mean() == pytest.approx(0.75 * share, abs=0.03)
    assert (noisy["label"] == load(n_images=4000, label_noise=share).table["label"]).all()


def test_shuffled_labels_say_nothing_of_the_picture():
    true, noisy = (load(n_images=8000, label_noise=x).table["label"][:8000] for x in (0, 1))
    counts = np.histogram2d(true, noisy, bins=4)[0]
    assert counts.min() > 420 and counts.max() < 580  # 500 each


# ----------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("texture", range(4))
def test_stripes_lie_in_the_direction_of_the_label(texture):
    """The gradient is across them: its mean direction, from the structure tensor."""
    for number in range(10):
        grey = draw_cues(Draws(0, number), texture, 0, 64, 0.0).mean(axis=2)[20:44, 20:44]
        gy, gx = np.gradient(grey)
        across = 0.5 * np.arctan2(2 * (gx * gy).sum(), (gx**2 - gy**2).sum())
        along = np.pi * texture / 4  # with the axis y downwards
        error = (across - np.pi / 2 - along + np.pi / 2) % np.pi - np.pi / 2
        assert abs(error) < 0.25


@pytest.mark.parametrize(
    ("outline", "corners"), [("diamond", 0.0), ("square", np.pi / 4), ("trefoil", np.pi / 3)]
)
def test_the_corners_of_a_shape_are_where_its_name_says(outline, corners):
    n_corners = 3 if outline == "trefoil" else 4
    for number in range(10):
        radius, angle = measure_outline(number, outline)
        step = 2 * np.pi / n_corners
        farthest = (angle[radius > 0.97 * radius.max()] - corners + step / 2) % step - step / 2
        assert np.abs(farthest).mean() < 0.3
        assert radius.max() > 1.2 * np.median(radius)


def test_a_disc_is_round():
    for number in range(10):
        radius, _ = measure_outline(number, "disc")
        assert radius.max() < 1.12 * radius.min()


def measure_outline(number, outline):
    """How far a shape reaches in 90 directions from its middle, and these in radians."""
    ticks = np.linspace(-1, 1, 128)
    inside = draw_outline(Draws(1, number), OUTLINES.index(outline), ticks[None], ticks[:, None])
    rows, columns = np.nonzero(inside > 0.5)
    if outline == "trefoil":
        middle = rows.mean(), columns.mean()
    else:
        middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    radius = np.hypot(rows - middle[0], columns - middle[1])
    angle = np.arctan2(rows - middle[0], columns - middle[1])
    sector = ((angle + np.pi) / (2 * np.pi) * 90).astype(int) % 90
    farthest = [max(np.flatnonzero(sector == s), key=lambda i: radius[i]) for s in range(90)]
    return radius[farthest], angle[farthest]


def test_noise_has_the_deviation_that_was_asked_for():
    difference = draw_cues(Draws(0, 1), 0, 0, 64, 0.05) - draw_cues(
        Draws(0, 1), 0, 0, 64, 0.0
    ).astype(float)
    assert difference.std() / 255 == pytest.approx(0.05, rel=0.05)


def test_scrambled_blocks_are_the_same_blocks_in_one_order_for_all_images():
    plain, scrambled = read_pixels(load()), read_pixels(load(block=4))

    def cut(picture):
        return picture.reshape(8, 4, 8, 4, 3).swapaxes(1, 2).reshape(64, -1)

    order = [np.flatnonzero((cut(plain[0]) == b).all(axis=1))[0] for b in cut(scrambled[0])]
    assert sorted(order) == list(range(64)) and order != list(range(64))
    assert all((cut(b) == cut(a)[order]).all() for a, b in zip(plain, scrambled, strict=True))


def test_a_block_as_large_as_the_picture_changes_nothing():
    picture = load().images.load(0)
    assert (scramble(picture, Draws(3), 32) == picture).all()


# ----------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cue": "textur"}, "Did you mean 'texture'"),
        ({"n_images": 5}, "n_images=5 is too few"),
        ({"n_val": 0}, "n_val=0 is too few"),
        ({"n_test": 15}, "n_test=15 is too few"),
        ({"data_seed": -1}, "give 0 or more"),
        ({"size": 8}, "give 16 to 256"),
        ({"noise": -0.1}, "noise=-0.1 is not allowed; give 0 to 1"),
        ({"label_noise": 1.5}, "label_noise=1.5 is not allowed"),
        ({"block": 5}, "block=5 does not divide size=32"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load(**options)


def test_a_position_outside_is_refused():
    with pytest.raises(DataError, match="positions go from 0 to 109"):
        load().images.load(110)
