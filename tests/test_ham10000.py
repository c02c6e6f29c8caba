"""Every published layout of HAM10000 gives the same index; every defect is named."""

import io
import logging
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tlcnn.data.datasets import load_index
from tlcnn.data.datasets.ham10000 import CLASSES, SAME_LESIONS
from tlcnn.data.duplicates import is_same_picture
from tlcnn.data.splits import (
    check_splits,
    choose_splits,
    compute_split_counts,
    list_split_warnings,
    manifest_digest,
)
from tlcnn.errors import ConfigError, DataError

N = 14
DX = [CLASSES[n % 7] for n in range(N)]
IDS = [f"ISIC_{24306 + n:07d}" for n in range(N)]
LESIONS = [f"HAM_{n // 2 * 2 % 12 + n % 2 if n < 12 else n:07d}" for n in range(N)]
ROWS = [
    [lesion, image, dx, "histo", "45.0" if n else "", "male", "back"]
    for n, (lesion, image, dx) in enumerate(zip(LESIONS, IDS, DX, strict=True))
]
HEADER = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]


def make_jpeg(n: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (9 * n, 200 - 9 * n, 77)).save(buffer, "JPEG")
    return buffer.getvalue()


JPEGS = {image: make_jpeg(n) for n, image in enumerate(IDS)}


def write_table(path, rows=ROWS, header=HEADER, separator=",", encoding="utf-8"):
    text = "\n".join(separator.join(row) for row in [header, *rows]) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def write_images(folder, ids=IDS, suffix=".jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for image in ids:
        (folder / f"{image}{suffix}").write_bytes(JPEGS[image])


def write_zip(path, ids, inner=""):
    with zipfile.ZipFile(path, "w") as archive:
        for image in ids:
            archive.writestr(f"{inner}{image}.jpg", JPEGS[image])


def write_truth(path):
    names = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    hot = [
        [image, *(str(float(name.lower() == dx)) for name in names)] for _, image, dx, *_ in ROWS
    ]
    write_table(path, hot, ["image", *names])


def write_lesions(path):
    rows = [[image, lesion, "histopathology"] for lesion, image, *_ in ROWS]
    write_table(path, rows, ["image", "lesion_id", "diagnosis_confirm_type"])


def lay_dataverse(root):
    write_images(root / "HAM10000_images_part_1", IDS[:5])
    write_images(root / "HAM10000_images_part_2", IDS[5:])
    write_table(root / "HAM10000_metadata.csv")


def lay_flat(root):
    write_images(root)
    write_table(root / "HAM10000_metadata", separator="\t")


def lay_kaggle(root):
    for spelling in ("HAM10000", "ham10000"):
        write_images(root / f"{spelling}_images_part_1", IDS[:5])
        write_images(root / f"{spelling}_images_part_2", IDS[5:])
    write_table(root / "HAM10000_metadata.csv")
    write_table(root / "hmnist_8_8_L.csv", [["0", "1"]], ["pixel0000", "label"])


def lay_zips(root):
    root.mkdir()
    write_zip(root / "HAM10000_images_part_1.zip", IDS[:5])
    write_zip(root / "HAM10000_images_part_2.zip", IDS[5:])
    quoted = [[f'"{value}"' for value in row] for row in ROWS]
    write_table(root / "HAM10000_metadata.tab", quoted, separator="\t")


def lay_zips_beside_folders(root):
    lay_zips(root)
    lay_dataverse(root)


def lay_isic(root):
    write_images(root / "ISIC2018_Task3_Training_Input")
    truth = "ISIC2018_Task3_Training_GroundTruth"
    write_truth(root / truth / f"{truth}.csv")
    write_lesions(root / "ISIC2018_Task3_Training_LesionGroupings.csv")


def lay_isic_zips(root):
    root.mkdir()
    write_zip(root / "ISIC2018_Task3_Training_Input.zip", IDS, "ISIC2018_Task3_Training_Input/")
    truth = "ISIC2018_Task3_Training_GroundTruth"
    write_truth(root / "t.csv")
    with zipfile.ZipFile(root / f"{truth}.zip", "w") as archive:
        archive.write(root / "t.csv", f"{truth}/{truth}.csv")
    (root / "t.csv").unlink()
    write_lesions(root / "ISIC2018_Task3_Training_LesionGroupings.csv")
    write_zip(root / "ISIC2018_Task3_Test_Input.zip", IDS[:1], "ISIC2018_Task3_Test_Input/X")


def lay_one_archive(root):
    """What Kaggle's download button gives."""
    lay_kaggle(root.parent / "unpacked")
    shutil.make_archive(str(root / "archive"), "zip", root.parent / "unpacked")


def lay_semicolons(root):
    write_images(root / "images", suffix=".JPG")
    header = [name.upper() for name in HEADER]
    rows = [[r[0], f"{r[1]}.jpg", r[2].upper(), *r[3:]] for r in ROWS]
    write_table(root / "ham10000_METADATA.CSV", rows, header, ";", "utf-8-sig")


def lay_utf16_with_clutter(root):
    write_images(root / "images")
    write_table(root / "HAM10000_metadata.csv", ROWS[::-1], separator="\t", encoding="utf-16")
    (root / "images" / ".DS_Store").write_bytes(b"\0")
    (root / "images" / "Thumbs.db").write_bytes(b"\0")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "._ISIC_0024306.jpg").write_bytes(b"\0")
    (root / "HAM10000_segmentations_lesion_tschandl").mkdir()
    mask = "HAM10000_segmentations_lesion_tschandl/ISIC_0024306_segmentation.png"
    (root / mask).write_bytes(b"\0")
    (root / "LICENSE.txt").write_text("CC BY-NC 4.0")


LAYOUTS = [
    lay_dataverse,
    lay_flat,
    lay_kaggle,
    lay_zips,
    lay_zips_beside_folders,
    lay_isic,
    lay_isic_zips,
    lay_one_archive,
    lay_semicolons,
    lay_utf16_with_clutter,
]


def load(root, **options):
    return load_index("ham10000", name="ham", root=root, options=options)


@pytest.mark.parametrize("lay", LAYOUTS)
def test_every_layout_gives_the_same_index(tmp_path, lay):
    lay(tmp_path / "root")
    index = load(tmp_path / "root")
    expected = pd.DataFrame(
        {"image_id": IDS, "label": [CLASSES.index(dx) for dx in DX], "group": LESIONS, "split": ""}
    )
    found = index.table[["image_id", "label", "group", "split"]]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert index.table["label"].dtype == np.int64
    assert index.classes == CLASSES == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert (index.table["dx_type"] == "histo").all()
    for n in range(N):
        pixel = index.images.load(n)[4, 4].astype(int)
        assert np.abs(pixel - (9 * n, 200 - 9 * n, 77)).max() < 4, f"row {n} is another image"


def test_metadata_is_kept(tmp_path):
    lay_dataverse(tmp_path / "root")
    table = load(tmp_path / "root").table
    assert np.isnan(table["age"][0]) and (table["age"][1:] == 45).all()
    assert (table["sex"] == "male").all() and (table["localization"] == "back").all()


@pytest.mark.parametrize("lay", [lay_dataverse, lay_isic])
@pytest.mark.parametrize("pair", [("HAM_0007604", "HAM_0000955"), ("HAM_0004919", "HAM_0000140")])
def test_a_photograph_under_two_lesion_ids_is_one_group(tmp_path, lay, pair):
    lay(tmp_path / "root")
    for path in (tmp_path / "root").rglob("*.csv"):
        text = path.read_text()
        for lesion, other in zip((LESIONS[12], LESIONS[13]), pair, strict=True):
            text = text.replace(lesion, other)
        path.write_text(text)
    groups = load(tmp_path / "root").table["group"].tolist()
    assert groups == [*LESIONS[:12], min(pair), min(pair)]


def change(path, **cells):
    """Return the rows with one cell of row 3 changed, written to the metadata."""
    rows = [list(row) for row in ROWS]
    for column, value in cells.items():
        rows[3][HEADER.index(column)] = value
    write_table(path, rows)


@pytest.fixture
def root(tmp_path):
    lay_dataverse(tmp_path / "root")
    return tmp_path / "root"


def refused(root, text, **options):
    with pytest.raises(DataError) as caught:
        load(root, **options)
    message = str(caught.value)
    assert text in message, message
    return message


def test_missing_dataset_says_where_to_get_it(tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        message = refused(folder, str(folder))
        assert "`tlcnn data get ham10000` fetches it" in message
        for word in ("10.7910/DVN/DBW86T", "challenge.isic-archive.com", "kmader", "dataset.root"):
            assert word in message
    refused(tmp_path / "none", "does not exist")


def test_images_without_row(root):
    write_table(root / "HAM10000_metadata.csv", ROWS[6:])
    message = refused(root, "6 images have no row in HAM10000_metadata.csv")
    assert ", ".join(IDS[:5]) + " and 1 more" in message and IDS[5] not in message


def test_rows_without_image(root, caplog):
    (root / "HAM10000_images_part_1" / f"{IDS[2]}.jpg").unlink()
    message = refused(root, f"1 rows of HAM10000_metadata.csv have no image: {IDS[2]}")
    assert "missing=drop" in message
    with caplog.at_level(logging.WARNING):
        index = load(root, missing="drop")
    assert len(index) == len(index.images) == N - 1 and IDS[2] not in set(index.table["image_id"])
    assert "dropped 1 rows" in caplog.text
    with pytest.raises(ConfigError, match="missing=skip is not allowed; choose refuse or drop"):
        load(root, missing="skip")


def test_duplicate_rows(root):
    write_table(root / "HAM10000_metadata.csv", [*ROWS, ROWS[3]])
    refused(root, f"1 image ids occur twice (with the same dx): {IDS[3]}")
    other = [*ROWS[3][:2], "vasc", *ROWS[3][3:]]
    write_table(root / "HAM10000_metadata.csv", [*ROWS, other])
    refused(root, f"1 image ids occur twice with different dx: {IDS[3]}")


@pytest.mark.parametrize("value", ["", "NaN", " ", "NA", "None"])
def test_empty_lesion(root, value):
    change(root / "HAM10000_metadata.csv", lesion_id=value)
    refused(root, f"1 rows have no lesion_id: {IDS[3]}")


def test_unknown_diagnosis(root):
    change(root / "HAM10000_metadata.csv", dx="scc")
    message = refused(root, f"1 rows have an unknown dx (scc; allowed: {', '.join(CLASSES)})")
    assert IDS[3] in message


def test_missing_columns(root):
    names = ["lesion", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    write_table(root / "HAM10000_metadata.csv", header=names)
    message = refused(root, "lacks 1 column(s): lesion_id; it has lesion, image_id")
    assert "Did you mean 'lesion'?" in message


def test_ragged_empty_and_foreign_tables(root):
    path = root / "HAM10000_metadata.csv"
    write_table(path, [*ROWS, [*ROWS[0], "more", "more"]])
    refused(root, "1 rows have more than the 7 values of the header, the first in line 16")
    path.write_bytes(b"")
    refused(root, "is empty")
    path.write_bytes(b"lesion_id,image_id,dx\nHAM,ISIC,\xff\xfa\n")
    refused(root, "is not UTF-8 text")


def test_the_same_image_with_other_content(root):
    write_images(root / "copies", IDS[:2])
    load(root)
    (root / "copies" / f"{IDS[1]}.jpg").write_bytes(JPEGS[IDS[2]] + b"x")
    refused(root, f"{IDS[1]} is there twice with different content")
    content = bytearray(JPEGS[IDS[1]])
    content[-5] ^= 1  # the same size
    (root / "copies" / f"{IDS[1]}.jpg").write_bytes(bytes(content))
    refused(root, "different content")


def test_the_same_member_with_other_content(tmp_path):
    root = tmp_path / "root"
    lay_zips(root)
    write_zip(root / "copy.zip", IDS)
    load(root)
    content = bytearray(JPEGS[IDS[1]])
    content[-5] ^= 1
    with zipfile.ZipFile(root / "copy.zip", "w") as archive:
        archive.writestr(f"{IDS[1]}.jpg", bytes(content))
    refused(root, f"{IDS[1]} is there twice with different content")


def test_isic_without_lesions_or_with_two_diagnoses(tmp_path):
    lay_isic(tmp_path / "root")
    lesions = tmp_path / "root" / "ISIC2018_Task3_Training_LesionGroupings.csv"
    text = lesions.read_text()
    lesions.unlink()
    refused(tmp_path / "root", "but not ISIC2018_Task3_Training_LesionGroupings.csv")
    lesions.write_text("\n".join(text.splitlines()[:-1]))
    refused(tmp_path / "root", f"1 rows have no lesion_id: {IDS[-1]}")
    lesions.write_text(text)
    truth = next((tmp_path / "root").rglob("*GroundTruth.csv"))
    truth.write_text(truth.read_text().replace("0.0", "1.0", 1))
    refused(tmp_path / "root", "1 rows do not have exactly one diagnosis")


def test_contradicting_metadata(root):
    write_table(root / "copy" / "HAM10000_metadata.tab", ROWS[::-1], separator="\t")
    load(root)
    change(root / "copy" / "HAM10000_metadata.tab", dx="vasc")
    refused(root, "differ; keep the one that is right")


def test_archive_of_archives_says_to_unpack_it(tmp_path):
    root = tmp_path / "root"
    lay_zips(root)
    with zipfile.ZipFile(root / "dataverse_files.zip", "w") as archive:
        for path in sorted(root.glob("HAM10000*")):
            archive.write(path, path.name)
            path.unlink()
    refused(root, "Unpack the archive that holds archives once")


def test_unsafe_archive_is_refused(root):
    write_zip(root / "more.zip", IDS[:1], "../")
    refused(root, "names that point outside it")


# ---- the real dataset


@pytest.fixture(scope="module")
def real(shared):
    return load(shared / "data" / "ham10000")


@pytest.mark.realdata
def test_real_counts(real):
    counts = np.bincount(real.table["label"])
    expected = {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142}
    assert dict(zip(CLASSES, counts, strict=True)) == expected | {"df": 115}
    assert len(real) == len(real.images) == 10_015 and real.table["group"].nunique() == 7_468
    assert real.table["image_id"].is_unique and real.images.load(7).shape == (150, 200, 3)


@pytest.mark.realdata
def test_real_photographs_under_two_lesion_ids(real):
    """Found by `tlcnn data audit`: the same picture, so one group, under the smaller id."""
    assert len(SAME_LESIONS) == 2
    table = real.table.set_index("image_id")
    for first, second, lesion in (
        ("ISIC_0027027", "ISIC_0029036", "HAM_0000955"),
        ("ISIC_0025226", "ISIC_0030074", "HAM_0000140"),
    ):
        assert table["group"][first] == table["group"][second] == lesion
        assert (table["group"] == lesion).sum() == 2
        assert table["label"][first] == table["label"][second]
        pixels = [real.images.load(table.index.get_loc(name)) for name in (first, second)]
        assert is_same_picture(*pixels)


@pytest.mark.realdata
def test_real_split_is_the_published_one(real, shared):
    """The split of everyone's HAM10000 results: a change of this digest changes them all."""
    options = {"n_classes": 7, "mode": "auto", "val_fraction": 0.15, "test_fraction": 0.2}
    splits = choose_splits(real.table, **options)
    check_splits(real.table["group"], splits)
    counts = compute_split_counts(real.table["label"], splits, CLASSES)
    print(counts)
    assert list_split_warnings(real.table["label"], splits, CLASSES) == []
    largest = real.table.groupby(["label", "group"]).size().groupby("label").max()
    for part, share in (("train", 0.65), ("val", 0.15), ("test", 0.2)):
        off = (counts[part] - share * counts.sum(axis=1)).abs()
        assert (off.to_numpy() <= largest.to_numpy()).all(), part
    digests = np.array(real.images.load_digests())
    digest = manifest_digest(real.table, CLASSES, splits, digests)
    order = np.random.default_rng(0).permutation(len(real))
    shuffled = load(shared / "data" / "ham10000").table.iloc[order]
    again = choose_splits(shuffled, **options)
    same = manifest_digest(shuffled, CLASSES, again, digests[order])
    assert digest == same
    ids = manifest_digest(real.table, CLASSES, splits, [""] * len(real))
    # Of ids, classes, lesions and splits: the same for images of every resolution.
    assert ids == "9cf34675f06a78d055f0500fa7d02da945b82a9b54a69e86bbeffb38e7e82729"
