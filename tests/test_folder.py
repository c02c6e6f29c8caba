"""A folder a class, with and without official splits."""

import logging
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from tlcnn.data.datasets import load_index
from tlcnn.data.splits import choose_splits
from tlcnn.errors import ConfigError, DataError


def write_image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 0, 0)).save(path)


@pytest.fixture
def root(tmp_path):
    for n in range(6):
        write_image(tmp_path / "root" / "benign" / f"p{n // 2}_{n}.png", n)
        write_image(tmp_path / "root" / "malignant" / "deep" / f"p{n // 2 + 3}_{n}.png", 10 + n)
    (tmp_path / "root" / "README.txt").write_text("not an image")
    (tmp_path / "root" / ".cache").mkdir()
    return tmp_path / "root"


def load(root, **options):
    return load_index("folder", name="mine", root=root, options=options)


def test_classes_are_folders_and_images_in_order(root, caplog):
    with caplog.at_level(logging.WARNING):
        index = load(root)
    assert index.classes == ("benign", "malignant") and len(index) == 12
    assert index.table["image_id"].tolist()[::6] == ["benign/p0_0.png", "malignant/deep/p3_0.png"]
    assert index.table["label"].tolist() == [0] * 6 + [1] * 6
    assert index.images.load(7)[0, 0, 0] == 11
    assert index.table["group"].is_unique
    assert "every image is taken as its own group" in caplog.text


@pytest.mark.parametrize("place", [b"benign/caf\xe9.png", b"M\xe9lanome/1.png"])
def test_names_that_are_not_utf8_are_refused_by_name(root, place):
    """Python writes other bytes as surrogates, which no record can hold."""
    try:
        write_image(root / os.fsdecode(place), 7)
    except OSError:
        pytest.skip("this disk has no such names")
    (root / os.fsdecode(b"caf\xe9.txt")).write_text("which is no image")
    with pytest.raises(DataError, match="the names of 1 images are not UTF-8") as caught:
        load(root)
    assert repr(place) in str(caught.value)


def test_group_regex_may_match_the_path_below_the_root(tmp_path):
    for patient in range(6):
        for number in range(2):
            path = tmp_path / "7" / "ab"[patient % 2] / f"p{patient}" / f"{number}.png"
            write_image(path, patient * 9 + number)
    groups = load(tmp_path / "7", group_regex=r"/p(\d+)/").table["group"]
    assert sorted(groups) == sorted("001122334455")
    with pytest.raises(DataError, match="captures nothing in 12 of 12 paths"):
        load(tmp_path / "7", group_regex="(7)")  # what is above the root tells nothing


def test_group_regex(root, caplog):
    index = load(root, group_regex=r"^(p\d+)_")
    assert index.table["group"].tolist() == [f"p{n // 2}" for n in range(12)]
    assert not caplog.records
    with pytest.raises(DataError, match=r"captures nothing in 12 of 12 .*p0_0\.png"):
        load(root, group_regex=r"^(patient\d+)_")
    with pytest.raises(ConfigError, match="has 0 capture groups; put exactly one pair"):
        load(root, group_regex=r"^p\d+")
    with pytest.raises(ConfigError, match="is no regex"):
        load(root, group_regex="(")


def test_classes_option_orders(root):
    assert load(root, classes=["malignant", "benign"]).table["label"].tolist()[0] == 1
    for wrong in (["benign"], ["benign", "malign"], ["benign", "malignant", "nv"]):
        with pytest.raises(ConfigError, match="are not the class folders: benign, malignant"):
            load(root, classes=wrong)
    with pytest.raises(ConfigError, match="name every class once"):
        load(root, classes=["benign", "benign"])
    with pytest.raises(ConfigError, match="is not a list"):
        load(root, classes="benign")


@pytest.mark.parametrize("val", ["val", "valid", "Validation", None])
def test_official_splits(tmp_path, val):
    for split in filter(None, ("train", val, "test")):
        for label in ("a", "b"):
            for n in range(8):
                write_image(tmp_path / split / label / f"{split}{n}.png")
    index = load(tmp_path)
    assert index.classes == ("a", "b")
    counts = index.table["split"].value_counts().to_dict()
    assert counts == {"train": 16, "test": 16} | ({"val": 16} if val else {})
    splits = choose_splits(
        index.table, n_classes=2, mode="auto", val_fraction=0.15, test_fraction=0.2
    )
    assert ((splits == "test") == index.table["image_id"].str.startswith("test/")).all()
    assert (splits == "val").any()


def test_splits_beside_classes_are_refused(root):
    write_image(root / "train" / "benign" / "a.png")
    with pytest.raises(DataError, match=r"holds the splits train beside other folders \(benign"):
        load(root)


def test_a_class_may_be_called_test(root):
    write_image(root / "test" / "a.png")
    assert load(root).classes == ("benign", "malignant", "test")


def test_numbered_classes_are_in_numeric_order(tmp_path):
    for name in ("10", "9", "0"):
        write_image(tmp_path / name / "a.png")
    assert load(tmp_path).classes == ("0", "9", "10")


def test_names_are_the_same_however_the_disk_spells_them(tmp_path):
    for form in ("NFC", "NFD"):
        write_image(tmp_path / form / unicodedata.normalize(form, "nävus") / "ä.png", 7)
    first, second = (load(tmp_path / form) for form in ("NFC", "NFD"))
    assert first.classes == second.classes
    assert first.table.equals(second.table) and first.classes == ("n\u00e4vus",)
    assert (second.images.load(0)[..., 0] == 7).all()


def test_defects_are_named(root, tmp_path):
    with pytest.raises(DataError, match=r"no dataset at .*none: the folder does not exist"):
        load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no images at .*empty.*one folder for each class"):
        load(tmp_path / "empty")
    (root / "healthy").mkdir()
    with pytest.raises(DataError, match="1 class folders hold no image: healthy"):
        load(root)
    (root / "healthy").rmdir()
    write_image(root / "loose.png")
    with pytest.raises(DataError, match=r"1 images are in no class folder: loose\.png"):
        load(root)
    with pytest.raises(DataError, match="it is a file, not a folder"):
        load(root / "loose.png")


@pytest.mark.realdata
def test_real_lung_tiles(shared):
    index = load(shared / "data" / "lc25000_lung")
    assert len(index) == 2959 and index.classes == ("lung_aca", "lung_n", "lung_scc")
    assert index.images.load(0).shape == (224, 224, 3)
    assert np.bincount(index.table["label"]).min() > 900
