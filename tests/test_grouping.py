"""Augmented copies of one source image are found, others are not."""

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tlcnn.data import grouping, progress
from tlcnn.data.grouping import compute_crop, load_copy_groups, make_groups
from tlcnn.errors import DataError

SIDE = 192


def draw_tissue(rng):
    """Return a source image: blobs of several sizes all over."""
    planes = [
        np.asarray(
            Image.fromarray(rng.normal(0, 1, (n, n)).astype(np.float32)).resize(
                (SIDE, SIDE), Image.Resampling.BICUBIC
            )
        )
        for n in (6, 12, 24, 48)
    ]
    grey = 128 + 30 * np.sum(planes, axis=0)
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")


def augment(image, degrees, mirror, upend):
    """Do what Augmentor's `rotate` and flips do, in its own words."""
    turned = image.rotate(degrees, expand=True, resample=Image.Resampling.BICUBIC)
    width, height = turned.size
    a = math.radians(abs(degrees))
    b = math.radians(90 - abs(degrees))
    left = math.sin(a) / math.sin(b) * (height - width * (math.sin(a) / math.sin(b)))
    left = left / 1 - (math.sin(a) ** 2 / math.sin(b) ** 2)
    top = math.sin(a) / math.sin(b) * (width - left)
    box = [round(v) for v in (left, top, width - left, height - top)]
    copy = turned.crop(box).resize(image.size, Image.Resampling.BICUBIC)
    copy = copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else copy
    copy = copy.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if upend else copy
    return np.asarray(copy)


class Held:
    def __init__(self, arrays):
        self.arrays, self.n_loads = list(arrays), 0

    def __len__(self):
        return len(self.arrays)

    def load(self, position):
        self.n_loads += 1
        if self.arrays[position] is None:
            raise DataError("broken")
        return self.arrays[position]


@pytest.fixture(scope="module")
def copies():
    """Four copies of each of 12 sources, and the sources' numbers."""
    rng = np.random.default_rng(0)
    images, truth = [], []
    for source in range(12):
        image = draw_tissue(rng)
        for _ in range(4):
            degrees, mirror, upend = rng.integers(-25, 26), rng.integers(2), rng.integers(2)
            images.append(augment(image, int(degrees), mirror, upend))
            truth.append(source)
    return images, np.array(truth)


def parts(groups):
    """Return a partition as a set of sets."""
    return {frozenset(np.flatnonzero(groups == one)) for one in set(groups)}


def name(n):
    return [f"{i:04d}" for i in range(n)]


def test_groups_are_the_sources(copies, tmp_path):
    images, truth = copies
    found = load_copy_groups(Held(images), [0] * len(truth), name(len(truth)), tmp_path)
    assert parts(found) == parts(truth)


def test_groups_do_not_depend_on_the_order_and_stay_inside_a_class(copies, tmp_path):
    images, truth = copies
    labels = np.arange(len(truth)) % 2  # copies 0 and 2 of a source, and 1 and 3
    order = np.random.default_rng(1).permutation(len(truth))
    digests = np.array(name(len(truth)))
    found = load_copy_groups(Held(images), labels.tolist(), digests.tolist(), tmp_path / "a")
    assert parts(found) == parts(truth * 2 + labels)
    mixed = load_copy_groups(
        Held([images[i] for i in order]),
        labels[order].tolist(),
        digests[order].tolist(),
        tmp_path / "b",
    )
    back = np.empty_like(mixed)
    back[order] = order[mixed]
    assert back.tolist() == found.tolist()


def test_groups_are_remembered_and_a_broken_image_is_its_own(copies, tmp_path):
    held = Held([*copies[0][:4], None])
    found = load_copy_groups(held, [0] * 5, name(5), tmp_path)
    assert found.tolist() == [0, 0, 0, 0, 4]
    assert held.n_loads == 5
    assert load_copy_groups(held, [0] * 5, name(5), tmp_path).tolist() == found.tolist()
    assert held.n_loads == 5
    load_copy_groups(held, [0] * 5, [*name(4), "changed"], tmp_path)
    assert held.n_loads == 10


def test_the_log_says_how_far_the_grouping_is(copies, tmp_path, monkeypatch, heard):
    monkeypatch.setattr(progress, "FIRST_LINE_S", -1.0)
    load_copy_groups(Held(copies[0][:4]), [0] * 4, name(4), tmp_path)
    for what in (
        "reading images for copies: 3 of 4",
        "comparing 4 images, blocks: 0 of 1",
        f"examining pairs, angles: 0 of {len(grouping.ANGLES) ** 2}",
    ):
        assert any(line.startswith(what) for line in heard.messages), what


def test_the_grouping_goes_on_with_the_class_where_it_was_stopped(copies, tmp_path):
    class Stopping(Held):
        def load(self, position):
            if position >= 4 and self.n_loads < 5:
                self.n_loads += 1
                raise KeyboardInterrupt
            return super().load(position)

    held = Stopping(copies[0][:8])
    work = (held, [0] * 4 + [1] * 4, name(8), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        load_copy_groups(*work)
    held.n_loads = 5
    assert load_copy_groups(*work).tolist()[:4] == [0, 0, 0, 0]
    assert held.n_loads == 5 + 4  # the first class was finished


def test_the_crop_is_augmentors(copies):
    for degrees in (0, 7, 25):
        turned = Image.new("L", (768, 768)).rotate(degrees, expand=True)
        width, height = compute_crop(degrees)
        assert width <= turned.width / 768 and height <= 1
    assert compute_crop(25)[1] < compute_crop(10)[1] < compute_crop(0)[1] == 1


def test_a_chain_is_cut_at_its_weakest_links(monkeypatch):
    monkeypatch.setattr(grouping, "MAX_GROUP", 4)
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [6, 7]])
    scores = np.array([0.95, 0.95, 0.78, 0.95, 0.95, 0.76])
    assert make_groups(8, pairs, scores).tolist() == [0, 0, 0, 3, 3, 3, 6, 6]
    assert make_groups(8, pairs, scores * 0.5).tolist() == list(range(8))


@pytest.mark.realdata
def test_real_tiles(shared, tmp_path):
    from sklearn.metrics import adjusted_rand_score

    root = shared / "data/lc25000_lung"
    rows = pd.read_csv(root / "labels.csv")
    kept = sorted(set(rows["group"]))[::12]
    rows = rows[rows["group"].isin(kept)].reset_index(drop=True)
    images = Held(
        np.asarray(Image.open(root / label / image).convert("RGB"))
        for label, image in zip(rows["label"], rows["image"], strict=True)
    )
    labels = pd.factorize(rows["label"])[0].tolist()
    found = load_copy_groups(images, labels, name(len(rows)), tmp_path)
    assert len(rows) > 200
    assert adjusted_rand_score(rows["group"], found) > 0.97
