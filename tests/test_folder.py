"""A folder a class, with and without official splits."""

import logging
import os
import re
import time
import unicodedata

import numpy as np
import pytest
from PIL import Image

from tlcnn.config.compose import compose_config
from tlcnn.data.dataset import load_dataset_index
from tlcnn.data.datasets import load_index
from tlcnn.data.images import FileImages
from tlcnn.data.selection import find_masks
from tlcnn.data.splits import choose_splits
from tlcnn.errors import ConfigError, DataError

# What people's folders, tables and weights hold, and where it is tested:
#   masks beside images                    *mask* here and in test_table, test_audit; include and
#                                          exclude: test_globs
#   split and fold folders of other names  test_splits_*, test_folds_* here; columns: test_table
#   train and val without test             test_val_can_be_the_test_*
#   files that are not read, odd names     test_files_that_are_not_read_*, test_odd_names_* here
#   names that are not UTF-8               test_names_that_are_not_utf8_* here; test_config: words
#   a console that is not UTF-8            test_text, test_cli: *console*
#   patients in paths; one folder too high test_group_regex_*, test_the_folder_of_* here
#   classes in two cases, of one image     test_classes_that_differ_* here; test_splits: rare
#   12 bits in 16, white as 0, 16-bit RGB  test_images, test_plan: bits; test_predict
#   float, signed, 32-bit, large, damaged  test_images: ranges, profiles, pixels, truncation
#   image modes, frames, EXIF, archives    test_images
#   DICOM; failures that were remembered   test_dicom; test_cache, test_duplicates
#   tables: Excel, ids, several folders    test_table; every option has its word: test_datasets
#   columns of flags, several labels       test_table; a task of one's own: test_plan; test_tasks
#   rows without an image or a label       test_table: dropped and counted
#   equal files in train and test          test_plan: equal_bytes; test_run: the log; test_assemble
#   groups that mend a split               test_audit, of a folder and of a table
#   saved again, squared, mirrored, turned test_duplicates, test_overlap, test_audit; test_chain
#   two datasets of one name               test_cells: images; the manifest: test_splits
#   weights of other tools                 test_match, test_checkpoint_file
#   published weights, tf_ and its twin    test_plan: published, twin
#   networks that cannot be trained        test_units: two classifiers, no CNN; test_start: windows
#   values and flags on the command line   test_config: TYPED, wrong arguments, flags anywhere;
#                                          test_train: a plan; one epoch: test_schedule
#   another mean, quarter turns            test_plan: another_mean
#   long work in a log, and continued      test_progress; *log* in test_audit, test_grouping,
#                                          test_decode; *stopped* in test_grouping


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
    assert not caplog.records  # whoever trains on it or audits it says the hint
    assert index.classes == ("benign", "malignant") and len(index) == 12
    assert index.table["image_id"].tolist()[::6] == ["benign/p0_0.png", "malignant/deep/p3_0.png"]
    assert index.table["label"].tolist() == [0] * 6 + [1] * 6
    assert index.images.load(7)[0, 0, 0] == 11
    assert index.table["group"].is_unique
    assert "every image is taken as its own group" in index.hint


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


def test_group_regex(root):
    index = load(root, group_regex=r"^(p\d+)_")
    assert index.table["group"].tolist() == [f"p{n // 2}" for n in range(12)]
    assert not index.hint
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


def write_mask(path, value=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((8, 8), np.uint8)
    pixels[2:5, 2:5] = value
    Image.fromarray(pixels).save(path)


def write_noise(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.as_posix()))
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)


MASKS = {  # how a mask is called -> the image and the mask of each number and class
    "a known word": ("{c}/{c} ({n}).png", "{c}/{c} ({n})_mask.png"),
    "a second mask": ("{c}/{c} ({n}).png", "{c}/{c} ({n})_mask_1.png"),
    "a word in front": ("{c}/{n}.png", "{c}/mask_{n}.png"),
    "a folder in the class": ("{c}/images/{n}.png", "{c}/Masks/{n}.png"),
    "a folder beside": ("images/{c}{n}.png", "ground_truth/{c}{n}.png"),
    "two values, a letter": ("{c}/{n}.png", "{c}/{n}_X.png"),
    "two values, a folder": ("{c}/photo/{n}.png", "{c}/drawn/{n}.png"),
}


@pytest.mark.parametrize("how", MASKS)
def test_masks_are_refused_with_the_words_that_go_on(tmp_path, how):
    for c in ("benign", "normal"):
        for n in range(6):
            image, mask = (tmp_path / form.format(c=c, n=n) for form in MASKS[how])
            write_noise(image)
            write_mask(mask, 0 if c == "normal" and n else 255)
    with pytest.raises(DataError, match=r"12 of 24 images look like segmentation masks") as error:
        load(tmp_path)
    advice = re.findall(r"dataset\.options\.(\w+)='(.*?)'\"", str(error.value))
    (_, exclude), (_, include) = advice
    kept = load(tmp_path, include=include)
    assert len(kept) == 24 and "12 images look like" in kept.notes[0]
    if how != "a folder beside":  # where the classes are images and masks
        index = load(tmp_path, exclude=exclude)
        assert len(index) == 12 and index.notes[0].startswith("left out 12 of 24 images")
        assert not index.table["image_id"].str.contains("ask|drawn|X").any()


def test_a_word_for_masks_is_enough_whatever_their_pixels(tmp_path):
    for label in ("benign", "malignant"):
        for name in ("1", "1_mask", "2 (b)", "2 (b)_seg_1"):
            write_noise(tmp_path / label / f"{name}.png")
    with pytest.raises(DataError, match="4 of 8 images look like segmentation masks"):
        load(tmp_path)


def test_few_pairs_and_many_of_one_image_are_no_masks(tmp_path):
    """Where no word says so, there are as many masks as images."""
    write_noise(tmp_path / "one/a/scan.png")
    for number in range(6):
        write_mask(tmp_path / f"one/a/scan_X{number}.png")
        write_noise(tmp_path / f"one/b/{number}.png")
    for number in range(3):
        write_noise(tmp_path / f"few/a/{number}.png")
        write_mask(tmp_path / f"few/a/{number}_X.png")
        write_noise(tmp_path / f"few/b/{number}0.png")
    assert len(load(tmp_path / "one")) == 13
    assert len(load(tmp_path / "few")) == 9


def test_masks_beside_the_folders_of_many_patients(tmp_path):
    for label in ("benign", "malignant"):
        for folder in ("p1", "p2", "p3", "p4", "masks"):
            for number in range(4):
                write = write_mask if folder == "masks" else write_noise
                write(tmp_path / label / folder / f"{number}.png")
    with pytest.raises(DataError, match="8 of 40 images look like segmentation masks"):
        load(tmp_path)


def test_masks_that_were_saved_as_jpeg_have_more_than_two_values(tmp_path):
    y, x = np.mgrid[:64, :64]
    for number in range(6):
        disc = np.uint8(255 * ((x - 30) ** 2 + (y - 28) ** 2 < (16 + number) ** 2))
        for label in "ab":
            write_noise(tmp_path / label / f"{number}.jpg")
            Image.fromarray(disc).save(tmp_path / label / f"{number}_X.jpg", quality=75)
    grey = np.asarray(Image.open(tmp_path / "a/0_X.jpg"))
    assert ((grey > 10) & (grey < 245)).mean() > 0.02  # of pixels, which no PNG of a mask has
    with pytest.raises(DataError, match="12 of 24 images look like segmentation masks"):
        load(tmp_path)


def test_photographs_of_masks_and_numbers_are_no_masks(tmp_path):
    for n in range(6):
        write_noise(tmp_path / "mask" / f"{n}.png")
        write_noise(tmp_path / "no_mask" / f"{n + 6}.png")
        write_mask(tmp_path / "digit" / "one" / f"{n}0.png")  # two grey levels, as the other class
        write_mask(tmp_path / "digit" / "two" / f"{n}0.png")
    assert len(load(tmp_path)) == 24


def test_classes_that_are_called_like_masks_are_no_masks(tmp_path):
    for n in range(6):
        write_noise(tmp_path / "people/mask" / f"{n}.png")
        write_noise(tmp_path / "people/no_mask" / f"{n}.png")
        write_noise(tmp_path / "named/mask" / f"mask_{n}.png")
        write_noise(tmp_path / "named/normal" / f"{n}.png")
        write_noise(tmp_path / "ended/gt" / f"{n}_gt.png")
        write_noise(tmp_path / "ended/normal" / f"{n}.png")
        for name in ("Seg", "Band", "Lym"):
            write_noise(tmp_path / "cells/train" / name / f"{n}.png")
            write_noise(tmp_path / "cells/test" / name / f"{n}.png")
    for folder, n_images in {"people": 12, "named": 12, "ended": 12, "cells": 36}.items():
        assert len(load(tmp_path / folder)) == n_images, folder


def test_dark_images_and_patients_are_no_masks(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(6):
        write_noise(tmp_path / "dark/red" / f"{n}.png")
        pixels = rng.integers(0, 30, (32, 32), dtype=np.uint8)
        pixels[3, 3] = 255
        (tmp_path / "dark/green").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"dark/green/{n}.png")
        for patient in range(4):
            (write_noise if patient else write_mask)(tmp_path / f"many/a/p{patient}/{n}.png")
        write_noise(tmp_path / f"many/b/{n}0.png")
    assert len(load(tmp_path / "dark")) == 12
    assert len(load(tmp_path / "many")) == 30


def test_the_glob_for_masks_spares_classes_of_such_a_name(tmp_path):
    for label in ("with_masks", "no_masks"):
        for n in range(4):
            write_noise(tmp_path / label / f"{n}.png")
            write_mask(tmp_path / label / f"{n}_mask.png")
    with pytest.raises(DataError, match="8 of 16 images") as error:
        load(tmp_path)
    (exclude,) = re.findall(r"exclude='(.*?)'", str(error.value))
    assert len(load(tmp_path, exclude=exclude)) == 8


def test_masks_are_searched_in_linear_time():
    opened = []
    paths = [f"{p % 2}/p{p}/{n:03}.png" for p in range(400) for n in range(50)]
    started = time.process_time()
    assert find_masks(paths, opened.append) == {} and not opened
    assert time.process_time() - started < 2


def test_pixels_of_possible_masks_are_looked_at_once(tmp_path, monkeypatch):
    for number in range(6):
        write_image(tmp_path / "in" / "a" / f"x{number}.png", number)
        write_image(tmp_path / "in" / "b" / f"x{number}_late.png", number)
    options = {"cache_dir": str(tmp_path / "cache")}
    table = load(tmp_path / "in", **options).table
    monkeypatch.setattr(FileImages, "load", None)
    assert load(tmp_path / "in", **options).table.equals(table)
    monkeypatch.undo()
    for number in range(6):  # the same names, other pixels
        pixels = np.zeros((8, 8), np.uint8)
        pixels[number:, 2:] = 255
        Image.fromarray(pixels).save(tmp_path / "in" / "b" / f"x{number}_late.png")
        noise = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(noise).save(tmp_path / "in" / "a" / f"x{number}.png")
    with pytest.raises(DataError, match="6 of 12 images look like segmentation masks"):
        load(tmp_path / "in", **options)


def test_globs(root):
    assert len(load(root, include=["p0*", "malignant/*"])) == 8
    assert len(load(root, exclude="p0_*,*/deep/*")) == 4
    with pytest.raises(ConfigError, match=r"exclude=\*_maks\* fits none of the 12 images"):
        load(root, exclude=["*_maks*"])
    with pytest.raises(ConfigError, match="leave no image"):
        load(root, exclude="*")
    with pytest.raises(ConfigError, match=r"include=\{'a': 1\} must be globs"):
        load(root, include={"a": 1})


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


def lay_splits(root, names, labels=("benign", "malignant"), n_images=6):
    for split in names:
        for label in labels:
            for number in range(n_images):
                write_image(root / split / label / f"{split}{number}.png")


def run_words(message, root):
    """Load what the first words on a command line in a message ask for."""
    words = re.findall(r'"(dataset\.[^"]*)"', message)
    options = compose_config(["dataset=folder", words[0]]).dataset.options
    return load(root, **options)


@pytest.mark.parametrize(
    "names",
    [
        ("train_set", "val_set", "test_set"),
        ("training_set", "test_set"),
        ("TRAIN", "Test"),
        ("train_data", "valid", "testing images"),
    ],
)
def test_splits_by_the_names_that_people_use(tmp_path, names):
    lay_splits(tmp_path, names)
    index = load(tmp_path)
    assert index.classes == ("benign", "malignant")
    splits = ("train", "val", "test") if len(names) == 3 else ("train", "test")
    assert index.table["split"].value_counts().to_dict() == dict.fromkeys(splits, 12)


def test_folds_are_refused_with_words_that_map_them(tmp_path):
    lay_splits(tmp_path, ("fold 0", "fold 1", "fold 2"))
    with pytest.raises(
        DataError, match=r"fold 0, .* hold the same folders \(benign, mal"
    ) as error:
        load(tmp_path)
    assert "not understood (train, training, val, valid, validation, dev, test" in str(error.value)
    assert str(error.value).endswith('"dataset.options.splits={}" if the folders are the classes')
    index = run_words(str(error.value), tmp_path)
    assert index.classes == ("benign", "malignant")
    assert index.table["split"].value_counts().to_dict() == {"train": 24, "test": 12}
    assert load(tmp_path, splits={}).classes == ("fold 0", "fold 1", "fold 2")
    index = load(tmp_path, splits={"train": "fold 2", "test": "fold 0"})
    assert len(index) == 24
    assert index.notes == (
        "left out 12 images in folders that dataset.options.splits does not name: fold 1",
    )


@pytest.mark.parametrize(
    "names",
    [
        ("learning_tiles", "tuning_tiles", "final_tiles"),
        ("Development", "Tuning", "External validation"),
        ("train_a", "val_a", "holdout_a"),
        ("train (a)", "tuning: b", "test, c"),
    ],
)
def test_splits_under_other_words_are_refused_with_their_meaning(tmp_path, names):
    lay_splits(tmp_path, names)
    with pytest.raises(DataError, match="probably splits") as error:
        load(tmp_path)
    table = run_words(str(error.value), tmp_path).table
    places = table.groupby("split")["image_id"].agg(lambda ids: ids.iloc[0].split("/")[0])
    assert places.to_dict() == dict(zip(("train", "val", "test"), names, strict=True))


def test_splits_beside_a_copy_are_used_alone_in_the_words_of_the_message(tmp_path):
    lay_splits(tmp_path, ("train", "test", "TEST_SIMPLE"))
    with pytest.raises(DataError, match="beside other folders") as error:
        load(tmp_path)
    assert run_words(str(error.value), tmp_path).table["split"].unique().tolist() == [
        "test",
        "train",
    ]


def test_patients_in_classes_are_no_splits_and_hospitals_are_asked_about(tmp_path):
    lay_splits(tmp_path / "a", ("COVID", "Normal"), ("patient001", "patient002"))
    assert load(tmp_path / "a").classes == ("COVID", "Normal") and not load(tmp_path / "a").notes
    lay_splits(tmp_path / "b", ("Oslo", "Bergen"))
    assert load(tmp_path / "b").notes[0].startswith("the classes are Bergen, Oslo, and each holds")


def test_the_folder_of_the_classes_is_named(tmp_path):
    lay_splits(tmp_path / "root", ("my_dataset",))
    with pytest.raises(DataError, match=r"one folder only, .* dataset\.root=.*root/my_dataset"):
        load(tmp_path / "root")


@pytest.mark.parametrize(
    ("splits", "text"),
    [
        ({"train": "a"}, "must say what train, test"),
        ("train", "must say what train, test"),
        ({"train": "a", "test": "c"}, "c is not there; there are a, b"),
        ({"train": "a", "test": ["b", "a"]}, "a is mentioned twice"),
    ],
)
def test_splits_that_do_not_fit(tmp_path, splits, text):
    lay_splits(tmp_path, ("a", "b"))
    with pytest.raises(ConfigError, match=text):
        load(tmp_path, splits=splits)


def test_val_can_be_the_test_where_there_is_none(tmp_path):
    lay_splits(tmp_path, ("train", "Validation"))
    options = {"n_classes": 2, "mode": "auto", "val_fraction": 0.15, "test_fraction": 0.2}
    with pytest.raises(ConfigError, match="train and val and no test") as error:
        choose_splits(load(tmp_path).table, **options)
    index = run_words(str(error.value), tmp_path)
    splits = choose_splits(index.table, **options)
    assert set(splits) == {"train", "val", "test"}
    assert (splits == "test").sum() == 12


def test_a_class_may_be_called_test(root):
    write_image(root / "test" / "a.png")
    assert load(root).classes == ("benign", "malignant", "test")


def test_odd_names_are_read_and_clutter_is_not(tmp_path):
    names = ("basal cell carcinoma", "Naevus=common, #2", "mélanome 🩺")
    for name in names:
        for number in range(3):
            write_image(tmp_path / name / f"{number}.png", number)
    for odd in ("x" * 240, "-rf", 'a,b "c"\n'):
        write_image(tmp_path / names[0] / f"{odd}.png", 9)
    write_image(tmp_path / names[1] / "UPPER.PNG", 9)
    for clutter in ("Thumbs.db", ".DS_Store", "__MACOSX/._a.png", ".ipynb_checkpoints/a.png"):
        path = tmp_path / clutter
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / names[0] / "loop").symlink_to("..")
    index = load(tmp_path)
    assert index.classes == tuple(sorted(names)) and len(index) == 13 and not index.notes
    assert all(index.images.load(n).shape == (8, 8, 3) for n in range(13))


def test_files_that_are_not_read_are_counted(root, tmp_path):
    for name in ("benign/a.gif", "benign/b.GIF", "malignant/c.ppm", "d.jfif", "scans.zip"):
        (root / name).write_bytes(b"")
    index = load(root)
    assert len(index) == 12
    assert index.notes == ("left out 5 files that are not read (.gif 2, .jfif 1, .ppm 1, .zip 1)",)
    (tmp_path / "scans" / "a").mkdir(parents=True)
    (tmp_path / "scans" / "a" / "1.gif").write_bytes(b"")
    with pytest.raises(
        DataError,
        match=r"no images at .*: left out 1 file that is not read \(\.gif 1\); save them",
    ):
        load(tmp_path / "scans")


def test_classes_that_differ_in_case_are_refused_unless_they_are_listed(tmp_path):
    lay_splits(tmp_path, ("train",), ("Benign", "Malignant"))
    lay_splits(tmp_path, ("test",), ("benign", "malignant"))
    with pytest.raises(DataError, match="Benign and benign, Malignant and malignant") as error:
        load(tmp_path)
    assert "dataset.options.classes=[" in str(error.value)
    classes = ["Benign", "benign", "Malignant", "malignant"]
    assert load(tmp_path, classes=classes).classes == tuple(classes)


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


def test_images_of_one_class_are_refused(tmp_path):
    write_image(tmp_path / "benign" / "a.png")
    config = compose_config(["dataset=folder", f"dataset.root={tmp_path}"])
    with pytest.raises(DataError, match=r"one class only \(benign\).* one folder too deep"):
        load_dataset_index(config.dataset)


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


@pytest.mark.parametrize("prefix", ["", "seg_"])
@pytest.mark.parametrize("options", [{}, {"splits": True}])
def test_a_folder_between_a_split_and_its_classes_is_refused(tmp_path, prefix, options):
    names = [f"{prefix}train", f"{prefix}test"]
    for name in names:
        lay_splits(tmp_path / name, (name,))
    if options:
        options = {"splits": dict(zip(("train", "test"), names, strict=True))}
    with pytest.raises(DataError, match="do not hold the same classes") as error:
        load(tmp_path, **options)
    assert run_words(str(error.value), tmp_path).classes == tuple(sorted(names))


def test_splits_of_which_one_class_is_called_like_its_split_are_refused(tmp_path):
    lay_splits(tmp_path, ("train", "test"), ("a", "train"))
    with pytest.raises(DataError, match="do not hold the same classes"):
        load(tmp_path)


def test_the_advice_for_a_split_without_a_test_set_is_no_error(tmp_path):
    lay_splits(tmp_path, ("train", "holdout"))
    with pytest.raises(DataError, match="splits train beside other folders") as error:
        load(tmp_path)
    assert run_words(str(error.value), tmp_path).classes == ("holdout", "train")


def test_a_file_without_a_match_does_not_change_what_the_regex_means(tmp_path):
    for name in ("p1_1", "p1_2", "p2_1", "scan"):
        write_image(tmp_path / "p9_all" / "a" / f"{name}.png")
        write_image(tmp_path / "p8_all" / "b" / f"{name}.png")
    with pytest.raises(DataError, match=r"captures nothing in 2 of 8 names .*scan\.png"):
        load(tmp_path, group_regex=r"(p\d+)_")


def test_groups_of_any_name_are_read(tmp_path):
    names = ("NA", "none", " led")
    for name in names:
        write_image(tmp_path / "root" / name / "1.png")
    rows = "".join(f"{name}/1.png,{name}\n" for name in names)
    (tmp_path / "groups.csv").write_text(f"image,group\n{rows}")
    index = load(tmp_path / "root", groups=str(tmp_path / "groups.csv"))
    assert index.table["group"].tolist() == ["led", "NA", "none"]
