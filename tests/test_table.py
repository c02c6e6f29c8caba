"""Images that a CSV file lists."""

import re
import sys

import openpyxl
import pandas as pd
import pytest
from PIL import Image

from tlcnn.config.compose import compose_config
from tlcnn.data.datasets import load_index
from tlcnn.data.splits import check_splits, choose_splits, compute_split_counts
from tlcnn.errors import ConfigError, DataError

ROWS = [["a.png", "nv", "p1", "train", "44"], ["b.png", "mel", "p2", "Test", ""]]
HEADER = ["image", "label", "patient", "part", "age"]


def write_table(path, rows=ROWS, header=HEADER, separator=",", encoding="utf-8"):
    text = "\r\n".join(separator.join(row) for row in [header, *rows])
    path.write_bytes(text.encode(encoding))


@pytest.fixture
def root(tmp_path):
    for n, name in enumerate(("a", "b")):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / f"{name}.png")
    write_table(tmp_path / "labels.csv")
    return tmp_path


def load(root, **options):
    return load_index("table", name="mine", root=root, options=options)


def test_columns_by_option(root):
    index = load(root, group_column="patient", split_column="part")
    assert index.classes == ("mel", "nv")
    assert index.table.to_dict("list") == {
        "image_id": ["a.png", "b.png"],
        "label": [1, 0],
        "group": ["p1", "p2"],
        "split": ["train", "test"],
        "image": ["a.png", "b.png"],
        "patient": ["p1", "p2"],
        "part": ["train", "Test"],
        "age": ["44", ""],
    }
    assert index.images.load(1)[0, 0, 0] == 1


def test_values_of_the_split_column_are_mapped(root):
    rows = [["a", "nv", "", "1"], ["b", "mel", "", "holdout"], ["c", "mel", "", "spare"]]
    write_table(root / "labels.csv", rows)
    index = load(root, split_column="part", splits={"train": [1], "test": "holdout"})
    assert index.table["split"].tolist() == ["train", "test"]
    assert index.notes == ("left out 1 rows whose part is spare",)
    with pytest.raises(ConfigError, match="needs dataset.options.split_column"):
        load(root, splits={"train": "1", "test": "holdout"})


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_dialects(root, separator, encoding):
    before = load(root).table
    write_table(root / "labels.csv", ROWS[::-1], separator=separator, encoding=encoding)
    assert load(root).table.equals(before)


def test_spaces_around_headers_and_values_are_left_out(root):
    before = load(root).table
    rows = [[f" {value} " for value in row] for row in ROWS]
    write_table(root / "labels.csv", rows, [f" {name} " for name in HEADER])
    assert load(root).table.equals(before)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system(root, end):
    before = load(root).table
    text = (root / "labels.csv").read_bytes().decode()
    (root / "labels.csv").write_bytes(text.replace("\r\n", end).encode())
    assert load(root).table.equals(before)


def test_a_table_in_another_encoding_says_how_to_save_it(root):
    write_table(root / "labels.csv", [["a.png", "nävus"], ["b.png", "mel"]], encoding="latin-1")
    with pytest.raises(DataError, match=r"labels\.csv is not UTF-8 text .*in Excel: CSV UTF-8"):
        load(root)


def test_masks_that_a_table_lists_are_refused_and_globs_leave_them_out(root):
    Image.new("RGB", (8, 8)).save(root / "a_mask.png")
    write_table(root / "labels.csv", [*ROWS, ["a_mask.png", "nv"]])
    with pytest.raises(DataError, match=r"labels\.csv: 1 of 3 images look like segmentation mask"):
        load(root)
    assert load(root, exclude="*_mask*").table["image_id"].tolist() == ["a.png", "b.png"]
    assert len(load(root, include="*")) == 3


def test_one_image_under_two_spellings_is_there_twice(root):
    write_table(root / "labels.csv", [*ROWS, ["./a.png", "nv"]])
    with pytest.raises(DataError, match=r"1 image ids occur twice .*/a\.png\. Keep one row"):
        load(root)


def test_rows_without_an_image_can_be_dropped_and_are_counted(root):
    write_table(root / "labels.csv", [*ROWS, ["c.png", "nv"]])
    with pytest.raises(DataError, match=r"1 of 3 rows have no image .*options\.missing=drop"):
        load(root)
    index = load(root, missing="drop")
    assert index.table["image_id"].tolist() == ["a.png", "b.png"]
    assert index.notes == ("left out 1 of 3 rows without an image: c.png",)
    write_table(root / "labels.csv", [["c", "nv"], ["d", "mel"]], HEADER[:2])
    with pytest.raises(DataError, match="2 of 2 rows have no image"):  # the wrong folder
        load(root, missing="drop")
    with pytest.raises(ConfigError, match="choose refuse or drop"):
        load(root, missing="skip")


@pytest.fixture
def findings(root):
    """Rows of a chest X-ray table."""
    cells = ["Edema", "No Finding", "Edema|Mass", "Mass", "Edema|Hernia"]
    for n in range(len(cells)):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(root / f"x{n}.png")
    rows = [[f"x{n}.png", cell] for n, cell in enumerate(cells)]
    write_table(root / "labels.csv", rows, HEADER[:2])
    return root


def test_several_labels_in_a_cell_are_asked_about(findings):
    with pytest.raises(DataError, match=r"2 rows hold several .*such as Edema\|Hernia") as error:
        load(findings)
    assert "\"dataset.options.label_separator='|'\" trains" in str(error.value)
    names = ["Edema", "No Finding", "Edema|Mass", "Mass", "Edema|Hernia"]
    assert load(findings, classes=names).table["label"].tolist() == [0, 1, 2, 3, 4]
    index = load(findings, label_separator="|")
    assert index.task == "multi-label" and index.classes == ("Edema", "Hernia", "Mass")
    assert index.targets.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 1], [1, 1, 0]]
    assert index.table["label"].tolist() == [0, 3, 2, 2, 1]  # the rarest one; none
    with pytest.raises(DataError, match=r"unknown label \(Hernia; .*x4\.png"):
        load(findings, label_separator="|", classes=["Edema", "Mass"])


def test_values_of_labels_can_be_mapped_or_left_out(findings):
    cells = ["1.0", "0.0", "-1.0", "", "1"]
    write_table(findings / "labels.csv", [[f"x{n}.png", c] for n, c in enumerate(cells)], HEADER)
    with pytest.raises(DataError, match="1 rows have no label: x3") as error:
        load(findings)
    words = re.findall(r'"(dataset\.[^"]*)"', str(error.value))
    options = compose_config(["dataset=table", *words]).dataset.options
    assert load(findings, **options).classes == ("-1.0", "0.0", "1", "1.0")
    words = ["dataset.options.label_values={-1: drop, blank: absent, 0: absent, 1: present}"]
    values = compose_config(["dataset=table", *words]).dataset.options["label_values"]
    assert values == {"-1": "drop", "blank": "absent", "0": "absent", "1": "present"}
    index = load(findings, label_values=values)
    assert index.classes == ("absent", "present")
    assert index.table["image_id"].tolist() == ["x0.png", "x1.png", "x3.png", "x4.png"]
    assert index.table["label"].tolist() == [1, 0, 0, 1]
    assert index.notes == ("left out 1 of 5 rows by their label",)


def test_long_codes_are_compared_digit_by_digit(findings):
    cells = ["254837009", "254837123", "254837009.0", "12345678901234567890", "007"]
    write_table(findings / "labels.csv", [[f"x{n}.png", c] for n, c in enumerate(cells)], HEADER)
    index = load(findings, label_values={"254837009": "mel"})
    assert index.classes == ("007", "12345678901234567890", "254837123", "mel")
    assert index.table["label"].tolist() == [3, 2, 3, 1, 0]


def test_only_the_mapping_leaves_rows_out(findings):
    cells = ["drop", "a", "b", "-1", "drop"]
    write_table(findings / "labels.csv", [[f"x{n}.png", c] for n, c in enumerate(cells)], HEADER)
    assert load(findings, label_values={"a": "c"}).classes == ("-1", "b", "c", "drop")
    index = load(findings, label_values={"-1": "drop"})
    assert index.classes == ("a", "b", "drop") and len(index.table) == 4


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"2": "drop"}, "no cell of label has 2; there are -1, 0, 1, blank"),
        ({"0": "none"}, "0 becomes 'none', which is an empty cell"),
        ("drop", "must say what values mean"),
    ],
)
def test_mappings_of_labels_that_do_not_fit(findings, values, text):
    rows = [["x0.png", "1.0"], ["x1.png", "0"], ["x2.png", "-1"], ["x3.png", ""]]
    write_table(findings / "labels.csv", rows, HEADER[:2])
    with pytest.raises(ConfigError, match=text):
        load(findings, label_values=values)


def test_uncertain_flags_are_said_to_be_something(findings):
    rows = [["x0.png", "1.0", ""], ["x1.png", "-1.0", "1.0"], ["x2.png", "1.0", "1.0"]]
    write_table(findings / "labels.csv", rows, ["image", "Edema", "Mass"])
    columns = {"label_columns": ["Edema", "Mass"]}
    with pytest.raises(DataError, match=r"Edema must hold 0 and 1, and has -1\.0") as error:
        load(findings, **columns)
    words = re.findall(r'"(dataset\.[^"]*)"', str(error.value))
    values = compose_config(["dataset=table", *words]).dataset.options["label_values"]
    assert load(findings, **columns, label_values=values).targets.tolist() == [
        [1, 0],
        [0, 1],
        [1, 1],
    ]
    dropped = load(findings, **columns, label_values={"-1": "drop"})
    assert dropped.targets.tolist() == [[1, 0], [1, 1]]


def test_paths_may_begin_with_the_name_of_the_root(tmp_path):
    """As in CheXpert: the table beside train has paths such as CheXpert-v1.0/train/…"""
    rows = []
    for number in range(4):
        folder = tmp_path / "my copy" / "train" / f"patient{number // 2}" / f"study{number}"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "view1_frontal.png")
        path = f"CheXpert-v1.0/train/patient{number // 2}/study{number}/view1_frontal.png"
        rows.append([path, "ab"[number % 2]])
    write_table(tmp_path / "my copy" / "labels.csv", rows, HEADER[:2])
    index = load(tmp_path / "my copy", group_regex=r"(patient\d+)")
    assert [index.images.load(n)[0, 0, 0] for n in range(4)] == [0, 1, 2, 3]
    assert index.table["group"].tolist() == ["patient0", "patient0", "patient1", "patient1"]
    assert not index.hint and "group_regex" in load(tmp_path / "my copy").hint
    with pytest.raises(ConfigError, match="groups and group_regex both say what a group is"):
        load(tmp_path / "my copy", group_regex="(a)", groups="g.csv")


def test_a_comma_in_a_name_is_no_separator(root):
    rows = [["a.png", '"nevus, blue"'], ["b.png", "nevus"]]
    write_table(root / "labels.csv", rows, HEADER[:2])
    assert load(root).classes == ("nevus", "nevus, blue")
    rows = [["a.png", '"nevus,mel"'], ["b.png", "nevus"]]
    write_table(root / "labels.csv", rows, HEADER[:2])
    assert load(root).classes == ("nevus", "nevus,mel")


def test_labels_that_differ_in_case_are_refused(root):
    write_table(root / "labels.csv", [["a", "NV"], ["b", "nv"]], HEADER[:2])
    with pytest.raises(DataError, match="differ in capital letters or spaces only: NV and nv"):
        load(root)


def test_what_excel_leaves_behind(root):
    plain = load(root).table
    text = (root / "labels.csv").read_text()
    lines = text.splitlines()
    (root / "labels.csv").write_text("\n".join(f"{line},,," for line in [*lines, ",,,,"]))
    assert load(root).table.equals(plain)
    (root / "labels.csv").write_text("sep=;\n" + text.replace(",", ";"))
    assert load(root).table.equals(plain)
    book = openpyxl.Workbook()
    for line in [*lines, ",,,,"]:
        book.active.append([*line.split(","), None])
    book.save(root / "labels.xlsx")
    assert load(root, csv="labels.xlsx").table.equals(plain)
    (root / "labels.xlsx").write_bytes(b"PK no workbook")
    with pytest.raises(DataError, match="no readable workbook"):
        load(root, csv="labels.xlsx")


def test_a_workbook_without_its_package_names_the_extra(root, monkeypatch):
    (root / "labels.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"is a workbook: pip install 'tlcnn\[excel\]'"):
        load(root, csv="labels.xlsx")


def test_images_are_found_without_suffix_or_case_and_in_several_folders(root):
    for number, folder in enumerate(("images_001/images", "images_002/images")):
        (root / folder).mkdir(parents=True)
        for name in ("a", "b"):
            path = root / folder / f"{name.upper()}{number}.PNG"
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    rows = [["a0", "nv"], ["A1.jpg", "mel"], ["C:\\data\\images_002\\images\\b1.png", "mel"]]
    write_table(root / "labels.csv", rows, HEADER[:2])
    assert load(root).table["image_id"].tolist() == [
        "images_001/images/A0.PNG",
        "images_002/images/A1.PNG",
        "images_002/images/B1.PNG",
    ]
    write_table(root / "labels.csv", [["images_001/b1", "nv"]], HEADER[:2])
    with pytest.raises(DataError, match="have no image"):  # its folder is another one
        load(root)
    Image.new("RGB", (8, 8)).save(root / "images_001/images/b1.jpg")
    write_table(root / "labels.csv", [["b1.jpg", "nv"], ["a", "mel"]], HEADER[:2])
    assert load(root).table["image_id"].tolist() == ["a.png", "images_001/images/b1.jpg"]
    write_table(root / "labels.csv", [["b1", "nv"], ["a", "mel"]], HEADER[:2])
    with pytest.raises(DataError, match=r"1 of 2 names fit several .*b1 \(images_001/images/b1"):
        load(root)


def test_a_lost_image_is_not_replaced_by_its_mask(root):
    (root / "masks").mkdir()
    Image.new("RGB", (8, 8)).save(root / "masks/lost.png")
    write_table(root / "labels.csv", [["a.png", "nv"], ["lost.png", "mel"]], HEADER[:2])
    with pytest.raises(DataError, match=r"1 of 2 rows have no image .*lost\.png"):
        load(root)


FLAGS = [["a.png", "1.0", "0.0"], ["b.png", "0.0", "1.0"]]


def test_a_column_for_each_class(root):
    write_table(root / "labels.csv", FLAGS, ["image", "MEL", "naevus, blue".replace(",", "")])
    with pytest.raises(DataError, match="no column label, and 2 columns of 0 and 1") as error:
        load(root)
    (words,) = re.findall(r'"(dataset\..*?)"', str(error.value))
    options = compose_config(["dataset=table", words]).dataset.options
    index = load(root, **options)
    assert index.classes == ("MEL", "naevus blue") and index.table["label"].tolist() == [0, 1]
    assert index.task == "multi-class"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (["b.png", "0", "0"], r"1 rows have no class: b\.png"),
        (["b.png", "1", "0"], "no row is of NV"),
        (["b.png", "0", "0.4"], r"NV must hold 0 and 1, and has 0\.4"),
    ],
)
def test_flags_that_are_no_classes(root, row, text):
    write_table(root / "labels.csv", [FLAGS[0], row], ["image", "MEL", "NV"])
    with pytest.raises(DataError, match=text):
        load(root, label_columns=["MEL", "NV"])


def test_several_flags_in_a_row_are_a_multi_label_task(root):
    write_table(root / "labels.csv", [["a", "1", "1"], ["b", "", "0"]], ["image", "MEL", "NV"])
    index = load(root, label_columns=["MEL", "NV"])
    assert index.task == "multi-label" and index.targets.tolist() == [[1, 1], [0, 0]]
    assert index.table["label"].tolist() == [0, 2]


def test_where_images_are(root):
    (root / "img" / "nv").mkdir(parents=True)
    (root / "img" / "mel").mkdir()
    (root / "a.png").rename(root / "img" / "nv" / "a.png")
    (root / "b.png").rename(root / "img" / "mel" / "b.png")
    index = load(root, image_path="img/{label}/{image}")
    assert index.table["image_id"].tolist() == ["img/mel/b.png", "img/nv/a.png"]
    assert [index.images.load(n)[0, 0, 0] for n in (0, 1)] == [1, 0]
    assert load(root).table["image_id"].tolist() == ["img/mel/b.png", "img/nv/a.png"]
    with pytest.raises(DataError, match=r"2 of 2 rows have no image .*: a/a\.png, a/b\.png\. Say"):
        load(root, image_path="a/{image}")
    for wrong in ("img/{dx}/{image}", "img", "{label", "{image.__class__}", "{0}"):
        with pytest.raises(ConfigError, match="image_path"):
            load(root, image_path=wrong)


def test_ids_without_suffix_and_absolute_paths(root):
    write_table(root / "labels.csv", [["a", "nv"], [str(root / "b.png"), "mel"]], HEADER[:2])
    index = load(root)
    assert sorted(index.images.load(n)[0, 0, 0] for n in (0, 1)) == [0, 1]


def test_labels_may_be_numbers(root):
    write_table(root / "labels.csv", [["a", "10"], ["b", "9"]], HEADER[:2])
    assert load(root).classes == ("9", "10")
    write_table(root / "labels.csv", [["a", "1"], ["b", "0"]], HEADER[:2])
    index = load(root, classes=["benign", "malignant"])
    assert index.classes == ("benign", "malignant") and index.table["label"].tolist() == [1, 0]


def test_a_fixed_order_may_hold_classes_without_images(root):
    index = load(root, classes=["nv", "df", "mel"])
    assert index.table["label"].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([["a", "nv", "p", "train", ""]] * 2, r"1 image ids occur twice \(with the same label\)"),
        ([["a", "nv", "p"], ["a", "mel", "p"]], "1 image ids occur twice with different label"),
        ([["a", "", "p"], ["b", "nv", "p"]], r"1 rows have no label: a\.png"),
        ([["a", "mel", "nan"], ["b", "nv", "p"]], r"1 rows have no group: a\.png"),
        ([["a", "mel", "p", "held"], ["b", "nv", "p"]], r"1 rows have an unknown split \(held;"),
        (
            [["a", "scc", "p"], ["b", "nv", "p"]],
            r"1 rows have an unknown label \(scc; allowed: nv",
        ),
        ([["c", "mel", "p"], ["b", "nv", "p"]], "1 of 2 rows have no image"),
        ([["a", "mel", "p", "", "", "x"]], "1 rows have more than the 5 values"),
    ],
)
def test_defects_are_named(root, rows, text):
    write_table(root / "labels.csv", rows)
    with pytest.raises(DataError, match=text):
        load(root, group_column="patient", split_column="part", classes=["nv", "mel"])


@pytest.mark.parametrize("option", ["csv", "groups"])
def test_a_table_may_lie_below_the_root_or_the_current_folder(root, tmp_path, monkeypatch, option):
    """The root comes first. The index, and so the id of a run, is the same."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (root / "groups.csv").write_text("image,group\na.png,p1\nb.png,p2\n")
    name = {"csv": "labels.csv", "groups": "groups.csv"}[option]
    below_root = load(root, groups="groups.csv")
    (here / name).write_text("image,label,group\na.png,x,q\nb.png,y,q\n")
    first = load(root, groups="groups.csv")  # as before there was one in the current folder
    (here / name).write_bytes((root / name).read_bytes())
    (root / name).unlink()
    second = load(root, groups="groups.csv")
    for index in (first, second):
        pd.testing.assert_frame_equal(index.table, below_root.table)
    absolute = load(root, **{"groups": "groups.csv", option: str(here / name)})
    pd.testing.assert_frame_equal(absolute.table, below_root.table)
    (here / name).unlink()
    with pytest.raises(DataError, match=rf"no table .*{name}, nor in the current folder"):
        load(root, groups="groups.csv")


def test_missing_columns_and_tables(root):
    with pytest.raises(
        DataError,
        match=r"lacks 1 column\(s\): lable; .* Say .* it is with dataset\.options\.label_column$",
    ):
        load(root, label_column="lable")
    image = r"\. Write dataset\.options\.image_column=file"
    for header, rows, advice in (
        (["Path", "Age"], [["a.png", "nv"]], r"\. Write dataset.options.image_column=Path\. Say"),
        (
            ["Path", "Age"],
            [["a", "nv"]],
            r"\. Say which of them it is with .*image_column, dataset",
        ),
        (["file", "label", "age"], [["a.PNG", "nv", "5"], ["b.dcm", "mel", "6"]], f"{image}$"),
        (["file", "label", "age"], [["a.png", "nv", "5"], ["b", "mel", "6"]], "image_column$"),
        (["file", "label", "mask"], [["a.png", "nv", "b.png"]], r"mask\. Say .*image_column$"),
        (["file", "label", "age"], [], r"age\. Say .*image_column$"),
    ):
        write_table(root / "other.csv", rows, header)
        with pytest.raises(DataError, match=advice) as error:
            load(root, csv="other.csv")
        assert "Did you mean" not in str(error.value)
    write_table(root / "other.csv", [["a.png", "nv"]], ["image file", "label"])
    with pytest.raises(DataError, match="Write .dataset.options.image_column=.*image file"):
        load(root, csv="other.csv")
    (root / "other.csv").unlink()
    with pytest.raises(DataError, match=r"no table at .*other\.csv"):
        load(root, csv="other.csv")
    write_table(root / "labels.csv", ROWS, ["image", "label", "label", "part", "age"])
    with pytest.raises(DataError, match="columns of the same name: label"):
        load(root)


@pytest.mark.realdata
def test_real_lung_tiles_are_split_by_source_tile(shared):
    options = {"group_column": "group", "image_path": "{label}/{image}"}
    index = load(shared / "data" / "lc25000_lung", **options)
    assert len(index) == 2959 and index.table["group"].nunique() == 740
    splits = choose_splits(
        index.table, n_classes=3, mode="auto", val_fraction=0.15, test_fraction=0.2
    )
    check_splits(index.table["group"], splits)
    counts = compute_split_counts(index.table["label"], splits, index.classes)
    print(counts)
    assert (abs(counts["test"] / counts.sum(axis=1) - 0.2) < 0.01).all()
    assert index.images.load(0).shape == (224, 224, 3)
