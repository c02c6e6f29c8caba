"""What every dataset of the registry promises, and how options are bound."""

import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest
from medmnist_files import write_file
from PIL import Image

from tlcnn.config.compose import compose_config
from tlcnn.data.datasets import DATASETS, check_options, load_index
from tlcnn.data.index import SPLITS, TASKS
from tlcnn.errors import ConfigError, DataError


def lay_folder(root):
    for n in range(12):
        path = root / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (n, 0, 0)).save(path)
    return {"group_regex": r"^(\d)"}


def lay_table(root):
    lay_folder(root)
    rows = [f"{'ab'[n % 2]}/{n}.png,{'ab'[n % 2]},g{n // 3}" for n in range(12)]
    (root / "labels.csv").write_text("\n".join(["image,label,group", *rows]))
    return {"group_column": "group"}


def lay_ham10000(root):
    rows = [f"HAM_{n // 2},ISIC_{n:07d},{('nv', 'mel')[n % 2]}" for n in range(12)]
    (root / "HAM10000_metadata.csv").write_text("\n".join(["lesion_id,image_id,dx", *rows]))
    for n in range(12):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(root / f"ISIC_{n:07d}.jpg")
    return {}


def lay_lc25000_lung(root):
    rng = np.random.default_rng(0)
    for n in range(12):
        path = root / ("lung_aca", "lung_n", "lung_scc")[n % 3] / f"{n}.jpeg"
        path.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    rows = [f"{n}.jpeg,tile {n % 3} {n // 6}" for n in range(12)]
    (root / "labels.csv").write_text("\n".join(["image,group", *rows]))
    return {}


def lay_medmnist(root):
    write_file(root, "chestmnist")
    return NEEDED["medmnist"] | {"cache_dir": str(root)}


NEEDED = {"medmnist": {"flag": "chestmnist"}}  # options that have no default
LAID = {
    "folder": lay_folder,
    "ham10000": lay_ham10000,
    "lc25000_lung": lay_lc25000_lung,
    "medmnist": lay_medmnist,
    "table": lay_table,
}
DRAWN = {  # nothing on disk
    "planted": {"n_images": 60, "n_val": 16, "n_test": 16},
    "synthetic": {"n_images": 200, "size": 32},
}


@pytest.fixture(params=sorted(DATASETS))
def index(request, tmp_path):
    kind = request.param
    if kind not in LAID and kind not in DRAWN:
        pytest.skip(f"add to LAID how {kind} is laid out on the disk, and these tests run")
    options = LAID[kind](tmp_path) if kind in LAID else DRAWN[kind]
    return load_index(kind, name="mine", root=tmp_path, options=options)


def test_table_is_an_index(index):
    table = index.table
    assert index.name == "mine" and len(index) == len(table) == len(index.images) > 0
    assert table["image_id"].is_unique and table["image_id"].map(type).eq(str).all()
    assert table["label"].dtype == np.int64
    assert table["label"].between(0, len(index.strata) - 1).all()
    assert len(set(index.classes)) == len(index.classes)
    assert index.task in TASKS and (index.targets is None) == (index.task != "multi-label")
    assert index.truth.shape[0] == len(index)
    assert table["group"].map(type).eq(str).all() and (table["group"] != "").all()
    assert table["split"].isin([*SPLITS, ""]).all()
    assert table.index.equals(type(table.index)(range(len(table))))


def test_images_open_and_have_digests_and_signatures(index):
    images = pickle.loads(pickle.dumps(index.images))
    assert images.signature() == index.images.signature()
    digests = images.load_digests()
    assert digests == index.images.load_digests() and len(digests) == len(images)
    assert all(isinstance(digest, str) and len(digest) >= 32 for digest in digests)
    for position in (0, len(images) - 1):
        image = images.load(position)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert (image == index.images.load(position)).all()


@pytest.mark.parametrize("kind", sorted(LAID))
def test_missing_folders_are_named(kind, tmp_path):
    with pytest.raises(DataError, match=r"no dataset at .*gone: the folder does not exist\. \S+"):
        options = NEEDED.get(kind, {})
        load_index(kind, name="mine", root=tmp_path / "gone", options=options)


def test_options_are_bound_to_the_signature():
    check_options("table", {"csv": "a.csv", "group_column": "patient"})
    with pytest.raises(ConfigError, match=r"options\.group_colum does not exist; table takes csv"):
        check_options("table", {"group_colum": "patient"})
    with pytest.raises(ConfigError, match="Did you mean 'group_column'"):
        check_options("table", {"group_colum": "patient"})
    with pytest.raises(ConfigError, match=r"options\.name does not exist; ham10000 takes missing"):
        check_options("ham10000", {"name": "x"})


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_every_option_of_a_reader_can_be_given_on_the_command_line(kind):
    """Options that the file of a dataset does not have are refused there."""
    parameters = inspect.signature(DATASETS[kind]).parameters.values()
    options = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} - {"name"}
    assert set(compose_config([f"dataset={kind}"]).dataset.options) == options


def test_a_needed_option_is_asked_for(monkeypatch):
    monkeypatch.setitem(DATASETS, "toy", lambda root, *, name, csv: None)
    with pytest.raises(ConfigError, match=r"options\.csv is needed by dataset\.kind=toy"):
        check_options("toy", {})


def test_options_are_checked_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match=r"options\.mising does not .* Did you mean 'missing'"):
        load_index("ham10000", name="x", root=tmp_path / "gone", options={"mising": "drop"})


def test_unknown_kinds_are_named():
    with pytest.raises(ConfigError, match=r"kind=ham1000 does not .* Did you mean 'ham10000'"):
        load_index("ham1000", name="x", root=".", options={})


def test_no_torch_is_imported():
    code = "import sys, tlcnn.data.datasets, tlcnn.data.splits; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
