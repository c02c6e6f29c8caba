"""LC25000's lung tiles, in the layouts that they are published and shared in."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from tlcnn.data.dataset import load_dataset_index
from tlcnn.data.datasets import load_index
from tlcnn.data.datasets.lc25000_lung import CLASSES
from tlcnn.errors import DataError

NAMES = {"lung_aca": "lungaca", "lung_n": "lungn", "lung_scc": "lungscc"}
TABLE = "image,label,group\n" + "".join(
    f"{stem}{n}.jpeg,{label},{label}_{n // 2}\n" for label, stem in NAMES.items() for n in range(4)
)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TLCNN_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_tiles(folder):
    """Write four different tiles a class; tile 1 is tile 0 upside down."""
    rng = np.random.default_rng(0)
    for label, stem in NAMES.items():
        (folder / label).mkdir(parents=True)
        for n in range(4):
            small = Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8))
            if n != 1:
                tile = small.resize((96, 96), Image.Resampling.BICUBIC)
            else:
                tile = tile.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            tile.save(folder / label / f"{stem}{n}.jpeg", quality=95)


@pytest.fixture
def root(tmp_path):
    write_tiles(tmp_path)
    (tmp_path / "labels.csv").write_text(TABLE)
    return tmp_path


def load(root, **options):
    return load_index("lc25000_lung", name="lc25000_lung", root=root, options=options)


def test_a_table_gives_the_groups(root):
    index = load(root)
    assert index.classes == CLASSES
    assert index.notes == ()
    assert index.table["image_id"].tolist()[:5] == [*(f"lungaca{n}" for n in range(4)), "lungn0"]
    assert index.table["label"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert index.table["group"].tolist()[:4] == ["lung_aca_0"] * 2 + ["lung_aca_1"] * 2
    assert index.images.load(0).shape == (96, 96, 3)


def test_without_a_table_the_pixels_give_them_and_that_is_noted(root, caplog):
    for index in (load(root, groups=None), load(root, groups=None)):
        groups = index.table["group"].tolist()
        assert groups[:4] == ["lungaca0", "lungaca0", "lungaca2", "lungaca3"]
        assert len(set(groups)) == 9
        assert "9 groups were found among 12 tiles" in index.notes[0]
    assert "found among 12 tiles" in caplog.text
    (root / "labels.csv").unlink()
    assert load(root).table["group"].tolist() == groups


def test_what_the_pixels_said_is_remembered_where_the_command_line_says(
    root, monkeypatch, tmp_path_factory
):
    from tlcnn.config.compose import compose_config
    from tlcnn.plan.plan import make_plan

    default, chosen, other = (tmp_path_factory.mktemp(name) for name in "dco")
    monkeypatch.setenv("TLCNN_CACHE", str(default))
    words = ["dataset=lc25000_lung", f"dataset.root={root}", "dataset.options.groups=null"]
    words += ["model.name=test_resnet", "train=quick", "device=cpu", "train.precision=fp32"]
    words += ["dataset.image_size=32", f"output_dir={root / 'out'}"]
    plans = [make_plan(compose_config([*words, f"cache_dir={to}"])) for to in (chosen, other)]
    assert plans[0].run_id == plans[1].run_id
    assert list(default.iterdir()) == []
    for folder in (chosen, other):
        assert len(list((folder / "facts").glob("images-*"))) == 1


@pytest.mark.parametrize("layout", ["published", "zip", "both"])
def test_layouts(root, tmp_path_factory, layout):
    before = load(root, groups=None).table
    other = tmp_path_factory.mktemp("other")
    if layout != "zip":
        write_tiles(other / "lung_colon_image_set" / "lung_image_sets")
        (other / "lung_colon_image_set" / "colon_image_sets" / "colon_n").mkdir(parents=True)
        colon = other / "lung_colon_image_set" / "colon_image_sets" / "colon_n" / "colonn1.jpeg"
        Image.new("RGB", (8, 8)).save(colon)
    if layout != "published":
        with zipfile.ZipFile(other / "LC25000.zip", "w") as archive:
            for path in sorted(root.rglob("*.jpeg")):
                archive.write(path, f"lung_image_sets/{path.parent.name}/{path.name}")
    index = load(other)
    assert index.table.equals(before)
    assert index.images.load(3).shape == (96, 96, 3)


def test_tables_that_do_not_fit_are_refused(root):
    table = root / "labels.csv"
    table.write_text(TABLE.replace("lungaca1.jpeg,lung_aca", "lungaca1.jpeg,lung_n"))
    with pytest.raises(DataError, match="1 tiles another class.*lungaca1"):
        load(root)
    table.write_text(TABLE.replace("lungaca1.jpeg", "lungaca7.jpeg"))
    with pytest.raises(DataError, match="no row for 1 tiles: lungaca1"):
        load(root)
    table.write_text(TABLE.replace("group", "patch"))
    with pytest.raises(DataError, match="lacks 1 column.*group"):
        load(root)
    with pytest.raises(DataError, match=r"no table of groups.*mine\.csv.*groups=null"):
        load(root, groups="mine.csv")


def test_folders_that_do_not_fit_are_refused(root, tmp_path_factory):
    with pytest.raises(DataError, match="LC25000.zip from"):
        load(tmp_path_factory.mktemp("empty"))
    Image.new("RGB", (8, 8)).save(root / "lung_n" / "lungaca0.jpeg")
    with pytest.raises(DataError, match="lungaca0 is there twice"):
        load(root)
    for path in (root / "lung_n").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="no tiles of lung_n"):
        load(root)


@pytest.mark.realdata
def test_real_tiles(shared):
    from tlcnn.config.compose import compose_config

    root = shared / "data/lc25000_lung"
    index = load_dataset_index(
        compose_config(["dataset=lc25000_lung", f"dataset.root={root}"]).dataset
    )
    assert len(index) == 2959
    assert index.table["label"].value_counts().tolist() == [995, 992, 972]
    assert index.table["group"].nunique() == 740
