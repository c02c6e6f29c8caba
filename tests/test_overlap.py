"""What two sets of images share: groups, ids, bytes, and pictures that were saved again."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tlcnn.data import overlap
from tlcnn.data.datasets import load_index
from tlcnn.data.overlap import Overlap, Part, find_isic_id, find_overlap
from tlcnn.errors import DataError


class Pictures:
    """Images by position; None cannot be decoded."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays)

    def load(self, position):
        if self.arrays[position] is None:
            raise DataError(f"image {position} is broken")
        return self.arrays[position]


@pytest.fixture(scope="module")
def drawn():
    options = {"task": "lesions", "n_images": 40, "size": 96}
    index = load_index("synthetic", name="synthetic", root=".", options=options)
    first = index.table.drop_duplicates("group").index
    return [index.images.load(i) for i in first]


def make(dataset, ids, *, groups=None, digests=None, pictures=None, rows=None):
    """A part of n images, whose digests and groups are its own unless they are given."""
    rows = np.arange(len(ids)) if rows is None else np.array(rows)
    everyone = digests or [f"{dataset}:{i}" for i in range(max([*rows, 0]) + 1)]
    columns = {
        "image_id": ids,
        "group": groups or [f"{dataset}/{i}" for i in ids],
        "digest": [everyone[row] for row in rows],
    }
    images = None if pictures is None else Pictures(pictures)
    return Part(dataset, pd.DataFrame(columns, dtype=object), images, rows, everyone)


def save_again(pixels, quality=60):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file).convert("RGB"))


NOTHING = Overlap([], [], [], [], 0)


def test_strangers_share_nothing(tmp_path):
    found = find_overlap(make("a", ["1", "2"]), make("b", ["3"]), tmp_path)
    assert found == NOTHING and not found


def test_an_empty_part_shares_nothing(tmp_path, drawn):
    some, nobody = make("a", ["1"], pictures=drawn[:1]), make("a", [], pictures=[])
    assert find_overlap(some, nobody, tmp_path) == NOTHING
    assert find_overlap(nobody, some, tmp_path) == NOTHING


@pytest.mark.parametrize("other, is_same", [("a", True), ("b", False)])
def test_ids_and_groups_mean_something_inside_one_dataset_only(tmp_path, other, is_same):
    first = make("a", ["x", "y"], groups=["p1", "p2"])
    found = find_overlap(first, make(other, ["y", "z"], groups=["p7", "p1"]), tmp_path)
    assert found.ids == (["y"] if is_same else [])
    assert found.groups == (["p1"] if is_same else [])
    assert bool(found) == is_same


def test_bytes_tell_whatever_the_names_are(tmp_path):
    first = make("a", ["x", "y"], digests=["d1", "d2"])
    found = find_overlap(first, make("b", ["q"], digests=["d2"]), tmp_path)
    assert (found.copies, found.ids, found.near) == (["y"], [], [])


@pytest.mark.parametrize("dataset", ["a", "b"])
def test_an_id_of_the_isic_archive_is_one_photograph_everywhere(tmp_path, dataset):
    first = make("a", ["nv/ISIC_0024306.jpg", "mel/ISIC_0024307.jpg"])
    second = make(dataset, ["train/1/isic_0024306.png", "ISIC_00243070", "0024307"])
    assert find_overlap(first, second, tmp_path).ids == ["nv/ISIC_0024306.jpg"]


@pytest.mark.parametrize(
    "text, found",
    [
        ("ISIC_0024306", "ISIC_0024306"),
        ("a/b/isic_0024306.JPEG", "ISIC_0024306"),
        ("ISIC_0000013_downsampled.jpg", "ISIC_0000013"),  # so named in the challenge of 2019
        ("ISIC_002430", None),
        ("ISIC_00243061", None),
        ("MY_ISIC_0024306", None),
        ("ISIC_0024306/1.jpg", None),
        ("", None),
    ],
)
def test_isic_ids(text, found):
    assert find_isic_id(text) == found


def test_pictures_saved_again_are_found_and_others_are_not(tmp_path, drawn):
    first = make("a", list("uvw"), pictures=drawn[:3])
    second = make("b", ["p", "q"], pictures=[drawn[5], save_again(drawn[1])])
    found = find_overlap(first, second, tmp_path)
    assert found == Overlap([], [], [], [("v", "q")], 0)


def test_cut_squashed_and_turned_pictures_are_found(tmp_path, drawn):
    wide = [np.ascontiguousarray(pixels[12:-12]) for pixels in drawn[:4]]  # 96 x 72
    copies = [
        Image.fromarray(wide[0][:, 12:-12]).resize((64, 64)),
        Image.fromarray(wide[1]).resize((64, 64)),
        Image.fromarray(np.rot90(wide[2])),
    ]
    first = make("a", list("uvwx"), pictures=wide)
    second = make("b", list("pqr"), pictures=[np.asarray(image) for image in copies])
    found = find_overlap(first, second, tmp_path)
    assert sorted(found.near) == [("u", "p"), ("v", "q"), ("w", "r")]


def test_rows_point_into_the_whole_dataset(tmp_path, drawn):
    """A part is a split: its table is short, its images and digests are everybody's."""
    first = make("a", ["v"], rows=[2], pictures=drawn[:4])
    others = [*drawn[6:9], save_again(drawn[2])]
    assert find_overlap(first, make("b", ["q"], rows=[3], pictures=others), tmp_path).near == [
        ("v", "q")
    ]
    assert not find_overlap(first, make("b", ["q"], rows=[1], pictures=others), tmp_path)


def test_what_bytes_have_told_is_not_told_again_by_pixels(tmp_path, drawn):
    first = make("a", ["x"], digests=["same"], pictures=drawn[:1])
    second = make("b", ["y"], digests=["same"], pictures=drawn[:1])
    assert find_overlap(first, second, tmp_path) == Overlap([], [], ["x"], [], 0)


def test_equal_file_names_only_propose(tmp_path, drawn):
    first = make("a", ["m/001.jpg", "m/002.jpg"], pictures=drawn[:2])
    second = make("b", ["t/001.png", "t/002.png"], pictures=[drawn[0] // 2, drawn[7]])
    assert find_overlap(first, second, tmp_path).near == [("m/001.jpg", "t/001.png")]
    closed = make("b", ["t/001.png", "t/002.png"])
    found = find_overlap(first, closed, tmp_path)
    assert found.n_unconfirmed == 2 and not found


def test_what_cannot_be_decoded_is_counted(tmp_path, drawn):
    first = make("a", ["m/001.jpg"], pictures=[None])
    found = find_overlap(first, make("b", ["t/001.png"], pictures=drawn[:1]), tmp_path)
    assert found.n_unconfirmed == 1 and not found


def test_too_many_pairs_are_counted_and_not_compared(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(overlap, "_MAX_PAIRS", 1)
    first = make("a", list("uv"), pictures=drawn[:2])
    second = make("b", list("pq"), pictures=[save_again(one) for one in drawn[:2]])
    found = find_overlap(first, second, tmp_path)
    assert found.n_unconfirmed >= 2 and not found


def test_without_leaves_out_by_content_and_keeps_positions():
    part = make("a", ["x", "y", "z"], digests=["1", "2", "3"]).without({"2", "9"})
    assert part.table["image_id"].tolist() == ["x", "z"] and part.rows.tolist() == [0, 2]
    assert len(part) == 2 and part.digests == ["1", "2", "3"]
