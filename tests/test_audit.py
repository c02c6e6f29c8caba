"""The audit: what leaks is found and named, and nothing else is."""

import json
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from tlcnn.cli.audit import describe_audit, load_audit
from tlcnn.cli.main import make_parser, parse_words
from tlcnn.data import audit as audit_file
from tlcnn.data import progress
from tlcnn.data.datasets import load_index
from tlcnn.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TLCNN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def drawn():
    options = {"task": "lesions", "n_images": 60, "size": 96}
    index = load_index("synthetic", name="synthetic", root=".", options=options)
    first = index.table.drop_duplicates("group").index
    return [Image.fromarray(index.images.load(i)) for i in first]


@pytest.fixture
def root(tmp_path, drawn):
    """Different drawn lesions: 4 a class in train, 2 in val and test."""
    pictures = iter(drawn)
    for split, n_images in (("train", 4), ("val", 2), ("test", 2)):
        for label in ("mel", "nv"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number in range(n_images):
                next(pictures).save(folder / f"{split}_{label}_{number}.png")
    return tmp_path


def save_again(root, source, target):
    image = Image.open(root / source)
    file = BytesIO()
    image.resize((72, 72)).save(file, "JPEG", quality=60)
    (root / target).write_bytes(file.getvalue())


def run(*words):
    """Run the command; return the code it ends with, as `tlcnn` would."""
    options = parse_words(make_parser(), ["data", "audit", *map(str, words)])
    try:
        options.command(options)
    except DataError as error:
        return error.exit_code, str(error)
    return 0, ""


def test_a_clean_dataset_ends_with_0(root, capsys):
    assert run("folder", "--root", root) == (0, "")
    printed = capsys.readouterr().out
    assert "train 8 images, 8 groups: mel 4, nv 4" in printed
    assert "no leak found" in printed and "near-duplicates: 0 pairs" in printed


def test_a_picture_saved_again_across_splits_leaks_and_is_named(root, tmp_path_factory, capsys):
    save_again(root, "train/nv/train_nv_0.png", "test/nv/other.jpg")
    out = tmp_path_factory.mktemp("out")
    code, message = run(
        "folder", "--root", root, "--pairs", out / "p.csv", "--json", out / "a.json"
    )
    assert code == 2
    assert "test/nv/other.jpg = train/nv/train_nv_0.png" in message
    assert "--pairs FILE" in message
    assert "LEAKS" in capsys.readouterr().out
    (row,) = pd.read_csv(out / "p.csv").to_dict("records")
    assert row == {
        "leaks": True,
        "kind": "picture",
        "first_image": "test/nv/other.jpg",
        "second_image": "train/nv/train_nv_0.png",
        "first_split": "test",
        "second_split": "train",
        "first_group": "test/nv/other.jpg",
        "second_group": "train/nv/train_nv_0.png",
        "first_label": "nv",
        "second_label": "nv",
    }
    record = json.loads((out / "a.json").read_text())
    assert record["is_leaking"] and record["n_leaks"] == 1
    assert record["n_images"] == {"train": 8, "val": 4, "test": 5}


def test_what_was_found_stands_before_what_was_not(root, tmp_path_factory, capsys):
    save_again(root, "train/nv/train_nv_0.png", "test/nv/other.jpg")
    file = tmp_path_factory.mktemp("my out") / "groups.csv"
    regex = r"dataset.options.group_regex='^(.+)$'"
    run("folder", "--root", root, "--groups", file, regex)
    lines = capsys.readouterr().out.splitlines()
    at = {text: number for number, text in enumerate(lines)}
    assert (
        at["found:"]
        < at["near-duplicates: 1 pair"]
        < at["not found:"]
        < at["equal files: 0 pairs"]
    )
    assert at["not found:"] < at["groups in more than one split: 0"]
    assert lines[at["equal files: 0 pairs"] + 1].startswith("squashed")  # no lines of zeros
    assert (
        f"wrote {file}: train with 'dataset.options.groups={file}' dataset.split=grouped, instead "
        "of dataset.options.group_regex"
    ) in lines


def test_groups_that_mend_the_split_are_written_and_read(root, tmp_path_factory, capsys):
    save_again(root, "train/nv/train_nv_0.png", "test/nv/other.jpg")
    content = (root / "train/mel/train_mel_1.png").read_bytes()
    for name in ("test/mel/a.png", "test/mel/b.png", "val/mel/c.png"):
        (root / name).write_bytes(content)
    file = tmp_path_factory.mktemp("out") / "groups.csv"
    code, message = run("folder", "--root", root, "--groups", file)
    assert code == 2 and "so 3 of 7 test images are known from training" in message
    printed = capsys.readouterr().out
    assert "in train as well: 1 of 5 val images, 3 of 7 test images" in printed
    groups = pd.read_csv(file).set_index("image")["group"]
    assert len(groups) == 20 and groups.nunique() == 16
    assert groups["test/nv/other.jpg"] == groups["train/nv/train_nv_0.png"]
    options = [f"dataset.options.groups={file}", "dataset.split=grouped", "dataset.split_seed=3"]
    assert run("folder", "--root", root, *options) == (0, "")
    table = pd.DataFrame({"image": groups.index, "label": groups.index.str.split("/").str[1]})
    table.to_csv(root / "labels.csv", index=False)
    assert run("table", "--root", root, *options) == (0, "")
    (root / "train/nv/new.png").write_bytes(content)
    with pytest.raises(DataError, match=r"has no group of 1 of 21 images: train/nv/new\.png"):
        load_audit("folder", options, str(root), [])
    with pytest.raises(ConfigError, match="both say what a group is"):
        load_audit("folder", [*options, "dataset.options.group_regex='(.)'"], str(root), [])


def test_square_and_turned_copies_across_splits_leak_and_are_named(root, capsys):
    for name in ("train/nv/train_nv_0.png", "train/mel/train_mel_0.png"):
        image = Image.open(root / name).crop((0, 12, 96, 84))  # 96 x 72
        image.save(root / name)
    image = Image.open(root / "train/nv/train_nv_0.png")
    image.crop((12, 0, 84, 72)).resize((64, 64)).save(root / "test/nv/cut.png")
    image = Image.open(root / "train/mel/train_mel_0.png")
    image.resize((64, 64)).save(root / "test/mel/squashed.png")
    image = Image.open(root / "train/nv/train_nv_1.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "test/nv/turned.png")
    code, _ = run("folder", "--root", root)
    printed = capsys.readouterr().out
    assert code == 2
    for title in ("squashed to a square, or stretched", "cut to the centre square", "mirrored"):
        assert f"{title}: 1 pair\n" in printed.replace(" or turned by quarters", "")
    assert "3 of 7 test images" in printed


def test_equal_files_are_found_also_with_contradictory_labels(root):
    content = (root / "train/nv/train_nv_0.png").read_bytes()
    (root / "train/mel/a.png").write_bytes(content)
    found = load_audit("folder", [], str(root), [])
    (pair,) = found.pairs.itertuples()
    assert pair.kind == "bytes" and pair.first_label != pair.second_label
    assert pair.first_split == pair.second_split
    assert not found.is_leaking
    (root / "test/nv/b.png").write_bytes(content)
    found = load_audit("folder", [], str(root), [])
    assert found.is_leaking and len(found.leaks) == 2
    assert set(found.pairs["kind"]) == {"bytes"}  # told once, not as pictures too
    assert "with different labels: 2" in describe_audit(found)


def test_masks_are_refused_and_those_that_are_used_are_said(root):
    for number in range(2):
        Image.new("L", (96, 96)).save(root / f"train/nv/train_nv_{number}_mask.png")
    code, message = run("folder", "--root", root)
    assert code == 2 and "2 of 18 images look like segmentation masks" in message
    audit = load_audit("folder", ["dataset.options.include='*'"], str(root), [])
    assert "note: 2 images look like segmentation masks" in describe_audit(audit)


def test_the_same_pictures_in_one_group_and_split_are_no_leak(root):
    save_again(root, "train/nv/train_nv_0.png", "train/nv/train_nv_0_b.jpg")
    grouped = ["dataset.split=grouped", r"dataset.options.group_regex='^(\w+?_\w+?_\d)'"]
    found = load_audit("folder", grouped, str(root), [])
    (pair,) = found.pairs.itertuples()
    assert pair.kind == "picture" and pair.first_group == pair.second_group
    assert pair.first_split == pair.second_split
    assert not found.is_leaking


def test_a_group_in_two_splits_is_reported_rather_than_refused(root):
    code, message = run(
        "folder", "--root", root, r"dataset.options.group_regex='_(nv_0|mel_\d|nv_\d)$'"
    )
    assert code == 2
    assert "4 groups are in more than one split" in message
    assert "dataset.split=grouped" in message


def test_against_another_dataset(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for label in ("a", "b"):
        (other / "train" / label).mkdir(parents=True)
        (other / "test" / label).mkdir(parents=True)
        (other / "val" / label).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8)
    for pixels, name in zip(
        noise,
        ("train/a/1", "train/b/2", "test/a/3", "test/b/4", "val/a/5", "val/b/6"),
        strict=True,
    ):
        Image.fromarray(pixels).save(other / f"{name}.png")
    clean = [str(root), [f"folder={other}"]]
    options = ["dataset.name=mine"]
    assert not load_audit("folder", options, *clean).is_leaking
    save_again(root, "test/nv/test_nv_1.png", "copied.jpg")
    (root / "copied.jpg").rename(other / "train/a/copied.jpg")
    found = load_audit("folder", options, *clean)
    assert found.is_leaking and not len(found.leaks)
    assert found.against["folder"].near == [("test/nv/test_nv_1.png", "train/a/copied.jpg")]
    code, message = run("folder", "--root", root, "--against", f"folder={other}", *options)
    assert code == 2 and "training images of folder" in message


def test_broken_and_blank_images_are_counted_not_fatal(root):
    (root / "train/nv/broken.png").write_bytes(b"no image")
    Image.new("RGB", (50, 50), "grey").save(root / "train/nv/blank.png")
    found = load_audit("folder", [], str(root), [])
    assert found.n_unprinted == 2 and not len(found.pairs)
    assert "blank or broken" in describe_audit(found)


def test_too_many_candidates_lower_the_distance(root, monkeypatch):
    picture = Image.open(root / "train/nv/train_nv_0.png")
    picture.save(root / "test/nv/equal.bmp")
    ImageOps.mirror(picture).save(root / "val/nv/mirrored.png")
    everything = load_audit("folder", [], str(root), [])
    assert everything.max_bits == audit_file.MAX_BITS
    monkeypatch.setattr(audit_file, "MAX_LOOKS", 0)
    nothing = load_audit("folder", [], str(root), [])
    assert nothing.max_bits < audit_file.MAX_BITS and nothing.n_looked == 0
    assert nothing.max_turned_bits < audit_file.MAX_TURNED_BITS and nothing.n_left_out
    distances = (
        f"at most {nothing.max_bits} of 64 bits, of mirrored and turned ones in "
        f"{nothing.max_turned_bits} (pairs of equal fingerprints left out, as they are too many: "
        f"{nothing.n_left_out})"
    )
    assert distances in describe_audit(nothing)
    assert not everything.n_left_out and "left out" not in describe_audit(everything)


def test_an_audit_says_in_the_log_how_far_it_is(root, monkeypatch, capsys):
    save_again(root, "train/nv/train_nv_0.png", "test/nv/other.jpg")
    monkeypatch.setattr(progress, "FIRST_LINE_S", -1.0)
    assert run("folder", "--root", root)[0] == 2
    lines = capsys.readouterr().err
    for what in (
        "reading image files, once, 64 at a time",
        "fingerprints of images, in parts",
        "comparing fingerprints, positions",
        "comparing pixels of pairs, in parts",
    ):
        assert f"{what}: 0 of " in lines


def test_pairs_are_counted_whose_pixels_were_compared(root):
    """Not the ways in which two images may be copies, and not files that are equal."""
    before = load_audit("folder", [], str(root), []).n_looked
    (root / "test/nv/equal.png").write_bytes((root / "train/nv/train_nv_0.png").read_bytes())
    rings = np.hypot(*np.mgrid[-47.5:48, -47.5:48])  # the same in all eight positions
    picture = Image.fromarray((127 + 120 * np.sin(rings / 3)).astype(np.uint8))
    picture.save(root / "train/nv/rings.png")
    picture.resize((72, 72)).save(root / "test/nv/rings.png")
    audit = load_audit("folder", [], str(root), [])
    assert audit.n_looked == before + 1 and len(audit.pairs) == 2


def test_an_unknown_dataset_is_refused_with_those_that_are_there():
    with pytest.raises(ConfigError, match="ham10000"):
        load_audit("ham1000", [], None, [])


@pytest.mark.realdata
def test_real_photographs(shared, tmp_path):
    """A part of HAM10000 as plain folders, split at random: lesions and equal files leak."""
    source = load_index("ham10000", name="ham10000", root=shared / "data/ham10000", options={})
    table = source.table
    kept = table[table["group"].duplicated(keep=False) & table["label"].isin([0, 4])].head(300)
    for row in kept.itertuples():
        split = "test" if row.Index % 5 == 0 else "train"
        folder = tmp_path / split / source.classes[row.label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row.group}-{row.image_id}.jpg").write_bytes(source.images.read(row.Index))
    found = load_audit("folder", [], str(tmp_path), [])
    assert len(found.leaks)
    ids = found.pairs[["first_image", "second_image"]].to_numpy()
    lesions = [first for first, second in ids if first.split("/")[-1][:11] in second]
    assert len(lesions) == len(found.pairs)  # every pair found is one lesion
    regex = [r"dataset.options.group_regex='^(HAM_\d+)'"]
    assert load_audit("folder", regex, str(tmp_path), []).shared_groups
    assert not load_audit(
        "folder", [*regex, "dataset.split=grouped"], str(tmp_path), []
    ).is_leaking
