"""Every MedMNIST file is read as published, and every broken one says how to get it again."""

import logging
import pickle
import shutil
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from medmnist_files import COUNTS, draw_arrays, write_file

from tlcnn.config.compose import compose_config
from tlcnn.config.schema import check_config, find_conf_dir
from tlcnn.data import npz
from tlcnn.data.datasets import check_options, load_index, medmnist
from tlcnn.data.datasets.medmnist import SIZES, load_medmnist_info
from tlcnn.data.index import SPLITS, TASKS
from tlcnn.errors import ConfigError, DataError, StorageError
from tlcnn.plan.describe import describe_plan
from tlcnn.plan.plan import make_plan

FLAGS = sorted(load_medmnist_info())


def load(root, flag, **options):
    options.setdefault("cache_dir", str(root / "cache"))
    return load_index("medmnist", name=flag, root=root, options={"flag": flag, **options})


# ---- the facts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", FLAGS)
def test_facts_are_whole(flag):
    facts = load_medmnist_info()[flag]
    assert facts["task"] in TASKS and facts["n_channels"] in (1, 3)
    assert len(set(facts["classes"])) == len(facts["classes"]) >= 2
    assert facts["positive"] in (None, *facts["classes"])
    assert list(facts["n_samples"]) == list(SPLITS)
    assert facts["license"] in ("CC BY 4.0", "CC BY-NC 4.0")
    for size in SIZES:
        file = facts["files"][str(size)]
        assert file["file"] in file["url"] and len(file["md5"]) == 32
        assert file["file"] == (f"{flag}.npz" if size == 28 else f"{flag}_{size}.npz")


def test_there_are_twelve_with_forty_eight_files():
    info = load_medmnist_info()
    md5s = {info[flag]["files"][str(size)]["md5"] for flag in FLAGS for size in SIZES}
    assert len(FLAGS) == 12 and len(md5s) == 48
    tasks = {flag: info[flag]["task"] for flag in FLAGS if info[flag]["task"] != "multi-class"}
    assert tasks == {
        "breastmnist": "binary",
        "pneumoniamnist": "binary",
        "retinamnist": "ordinal",
        "chestmnist": "multi-label",
    }
    assert info["breastmnist"]["positive"] == "malignant"


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_is_a_file_of_the_group_dataset(flag, tmp_path):
    config = compose_config([f"dataset={flag}", f"dataset.root={tmp_path}"])
    check_config(config)
    check_options("medmnist", config.dataset.options)
    assert config.dataset.options["flag"] == flag and config.dataset.image_size == 28
    assert config.dataset.split == "official"
    large = compose_config([f"dataset={flag}", "dataset.options.size=64", "cache_dir=/x"])
    assert large.dataset.image_size == 64 and large.dataset.options["cache_dir"] == "/x"
    first = (find_conf_dir() / "dataset" / f"{flag}.yaml").read_text().splitlines()[0]
    facts = load_medmnist_info()[flag]
    assert f"{sum(facts['n_samples'].values()):,}" in first and facts["license"] in first


# ---- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_flat", [False, True])
@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_is_read(flag, is_flat, tmp_path, caplog):
    facts = load_medmnist_info()[flag]
    is_multi = facts["task"] == "multi-label"
    arrays = write_file(tmp_path, flag, is_flat=is_flat and not is_multi)
    with caplog.at_level(logging.WARNING):
        index = load(tmp_path, flag)
    assert "published are" in caplog.text  # it is a reduced file
    assert index.task == facts["task"] and index.classes == tuple(facts["classes"])
    assert index.table["split"].value_counts().to_dict() == COUNTS
    assert index.table["image_id"].is_unique and index.truth.shape[0] == len(index)
    truth = np.concatenate([arrays[f"{split}_labels"] for split in SPLITS])
    assert np.array_equal(index.truth, truth if is_multi else truth.reshape(-1))
    for position, split, row in ((0, "train", 0), (100, "val", 4), (191, "test", 47)):
        expected = arrays[f"{split}_images"][row]
        image = index.images.load(position)
        assert image.shape == (28, 28, 3) and image.dtype == np.uint8
        assert np.array_equal(image, expected if expected.ndim == 3 else image[:, :, :1] + [0] * 3)
        assert np.array_equal(image[:, :, 0], expected.reshape(28, 28, -1)[:, :, 0])


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_a_file_of_its_own(size, tmp_path):
    counts = {"train": 4, "val": 2, "test": 2}
    write_file(tmp_path, "pathmnist", size=size, counts=counts)
    assert load(tmp_path, "pathmnist", size=size).images.load(0).shape == (size, size, 3)
    other = 64 if size == 28 else 28
    with pytest.raises(DataError, match=rf"of pathmnist there is size={size}\). `tlcnn data get"):
        load(tmp_path, "pathmnist", size=other)


def test_other_files_than_the_published_name_is_not_taken_for_it(tmp_path):
    write_file(tmp_path, "breastmnist", size=64)
    (tmp_path / "breastmnist_64.npz").rename(tmp_path / "breastmnist.npz")
    with pytest.raises(DataError, match=r"is \(96, 64, 64\) uint8: \(N, 28, 28\) uint8"):
        load(tmp_path, "breastmnist")


def test_the_28_pixel_file_may_say_its_size(tmp_path):
    write_file(tmp_path, "breastmnist")
    (tmp_path / "breastmnist.npz").rename(tmp_path / "breastmnist_28.npz")
    assert len(load(tmp_path, "breastmnist")) == sum(COUNTS.values())


def test_labels_of_any_whole_number_type(tmp_path):
    arrays = draw_arrays("bloodmnist")
    for kind in (np.int8, np.uint16, np.int64):
        changed = {k: v.astype(kind) if "labels" in k else v for k, v in arrays.items()}
        np.savez(tmp_path / "bloodmnist.npz", **changed)
        assert load(tmp_path, "bloodmnist").truth.dtype == np.int64


def test_no_warning_where_the_counts_are_the_published_ones(tmp_path, caplog):
    facts = load_medmnist_info()["breastmnist"]
    write_file(tmp_path, "breastmnist", counts=facts["n_samples"])
    with caplog.at_level(logging.WARNING):
        load(tmp_path, "breastmnist")
    assert not caplog.text


# ---- the multi-label task -----------------------------------------------------------------------


def test_labels_of_findings_are_the_rarest_one_or_none(tmp_path):
    arrays = write_file(tmp_path, "chestmnist")
    index = load(tmp_path, "chestmnist")
    targets = np.concatenate([arrays[f"{split}_labels"] for split in SPLITS])
    counts = targets.sum(axis=0)
    for label, row in zip(index.table["label"], targets, strict=True):
        if label == 14:
            assert not row.any()
        else:
            assert row[label] and counts[label] == counts[row > 0].min()
    assert index.strata == (*index.classes, "no finding")
    assert np.array_equal(index.memberships[:, :14], targets)
    assert np.array_equal(index.memberships[:, 14], ~targets.any(axis=1))


def plan_of(tmp_path, cache_dir, flag, *overrides):
    words = [f"dataset={flag}", f"dataset.root={tmp_path}", "dataset.image_size=28"]
    words += ["model.name=test_resnet", "train=quick", "device=cpu", "train.precision=fp32"]
    places = [f"output_dir={tmp_path / 'out'}", f"cache_dir={cache_dir}"]
    return make_plan(compose_config([*words, *places, *overrides]))


def test_a_plan_counts_images_of_each_finding(tmp_path, cache_dir):
    arrays = write_file(tmp_path, "chestmnist")
    plan = plan_of(tmp_path, cache_dir, "chestmnist")
    counts = plan.dataset.counts()
    for split in SPLITS:
        targets = arrays[f"{split}_labels"]
        assert list(counts[split].values())[:14] == targets.sum(axis=0).tolist()
        assert counts[split]["no finding"] == (~targets.any(axis=1)).sum()
    lines = [line for line in describe_plan(plan).splitlines() if line.startswith("train  ")]
    assert lines[0].split()[-2:] == ["96", "96"]  # images, not findings
    grouped = plan_of(tmp_path, cache_dir, "chestmnist", "dataset.split=grouped")
    assert grouped.dataset.manifest != plan.dataset.manifest


def test_only_findings_and_no_label_change_the_id(tmp_path, cache_dir):
    arrays = write_file(tmp_path, "chestmnist")
    plan = plan_of(tmp_path, cache_dir, "chestmnist")
    assert plan.identity["dataset"]["task"] == "multi-label"
    row = int(np.flatnonzero(arrays["train_labels"].sum(axis=1) >= 2)[0])
    counts = np.concatenate([arrays[f"{split}_labels"] for split in SPLITS]).sum(axis=0)
    held = np.flatnonzero(arrays["train_labels"][row])
    arrays["train_labels"][row, held[counts[held].argmax()]] = 0  # the rarest one stays
    np.savez(tmp_path / "chestmnist.npz", **arrays)
    other = plan_of(tmp_path, cache_dir, "chestmnist")
    assert other.dataset.index.table["label"].equals(plan.dataset.index.table["label"])
    assert other.run_id != plan.run_id


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "bloodmnist"])
def test_the_task_is_in_no_other_identity(flag, tmp_path, cache_dir):
    write_file(tmp_path, flag)
    assert "task" not in plan_of(tmp_path, cache_dir, flag).identity["dataset"]


def test_the_leaky_split_is_called_so(tmp_path, cache_dir):
    write_file(tmp_path, "dermamnist")
    plan = plan_of(tmp_path, cache_dir, "dermamnist")
    assert plan.run_name.startswith("dermamnist_leaky-")
    assert "\nwarning: the official split of DermaMNIST leaks: 44 %" in describe_plan(plan)
    write_file(tmp_path, "bloodmnist")
    assert "warning:" not in describe_plan(plan_of(tmp_path, cache_dir, "bloodmnist"))


# ---- large files --------------------------------------------------------------------------------


def test_large_arrays_are_unpacked_once_and_mapped(tmp_path, monkeypatch):
    write_file(tmp_path, "bloodmnist")
    small = load(tmp_path, "bloodmnist").images.load_digests()
    monkeypatch.setattr(npz, "STREAM_BYTES", 100_000)  # train and val and test are above
    index = load(tmp_path, "bloodmnist")
    assert not (tmp_path / "cache" / "arrays").exists()  # an index reads headers only
    assert index.images.load_digests() == small
    files = sorted((tmp_path / "cache" / "arrays").glob("*.bin"))
    assert len(files) == 3 and all(isinstance(a, np.memmap) for a in index.images._loaded.values())
    times = [file.stat().st_mtime_ns for file in files]
    again = pickle.loads(pickle.dumps(load(tmp_path, "bloodmnist").images))
    assert again.load_digests() == small
    assert [file.stat().st_mtime_ns for file in files] == times
    files[0].write_bytes(files[0].read_bytes()[:-1])  # cut off by a full disk elsewhere
    assert load(tmp_path, "bloodmnist").images.load_digests() == small


def test_threads_that_want_an_array_unpack_it_once(tmp_path, monkeypatch):
    write_file(tmp_path, "bloodmnist")
    monkeypatch.setattr(npz, "STREAM_BYTES", 1000)
    real, unpacked = npz._unpack, []
    monkeypatch.setattr(npz, "_unpack", lambda *words: unpacked.append(words) or real(*words))
    several = [load(tmp_path, "bloodmnist").images for _ in range(2)]
    threads = [threading.Thread(target=images.load, args=(0,)) for images in several * 4]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(unpacked) == 1


def test_threads_read_an_array_into_memory_once(tmp_path, monkeypatch):
    write_file(tmp_path, "bloodmnist")
    images, reads = load(tmp_path, "bloodmnist").images, []

    def read_slowly(array, cache_dir):
        reads.append(array)
        time.sleep(0.05)
        return npz.load_array(array, cache_dir)

    monkeypatch.setattr(medmnist, "load_array", read_slowly)
    threads = [threading.Thread(target=images.load, args=(0,)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(reads) == 1


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path, monkeypatch):
    write_file(tmp_path, "bloodmnist")
    monkeypatch.setattr(npz, "STREAM_BYTES", 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
    with pytest.raises(StorageError, match="0 MiB free. Set TLCNN_CACHE, or cache_dir="):
        load(tmp_path, "bloodmnist").images.load(0)
    assert not list((tmp_path / "cache" / "arrays").glob("*.bin"))


@pytest.mark.parametrize("limit", [1000, 2**30])
def test_damaged_pixels_are_found_when_they_are_read(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "STREAM_BYTES", limit)
    arrays = draw_arrays("bloodmnist")
    path = tmp_path / "bloodmnist.npz"
    np.savez(path, **arrays)  # stored, so that one byte can be changed
    content = bytearray(path.read_bytes())
    start = content.find(arrays["train_images"].tobytes()[:200])
    content[start + 50] ^= 1
    path.write_bytes(content)
    images = load(tmp_path, "bloodmnist").images
    with pytest.raises(DataError, match=r"bloodmnist.npz is broken or truncated \(Bad CRC-32"):
        images.load(0)
    assert not list(tmp_path.glob("cache/arrays/*.bin"))
    assert not list(tmp_path.glob("cache/arrays/.*.tmp"))


# ---- bad files ----------------------------------------------------------------------------------


def write_bad(path, what):
    """Write a broken bloodmnist file and return what the error has to say."""
    arrays = draw_arrays("bloodmnist")
    if what == "page":
        path.write_bytes(b"<!DOCTYPE html><html>404</html>")
        return "it is no .npz file but begins with b'<!DOCTYPE html>"
    if what == "empty":
        path.write_bytes(b"")
        return "it is no .npz file but begins with b''"
    if what == "noise":
        path.write_bytes(bytes(range(256)) * 9)
        return "it is no .npz file but begins"
    if what == "half":
        np.savez(path, **arrays)
        path.write_bytes(path.read_bytes()[:5000])
        return "it is no whole .npz file: its end, .*, is missing"
    change = {
        "no val": {"val_images": None},
        "objects": {"train_images": np.array([{}, 1], dtype=object)},
        "floats": {"train_images": arrays["train_images"] / 255},
        "grey": {"test_images": arrays["test_images"][..., 0]},
        "nothing": {"val_images": arrays["val_images"][:0], "val_labels": np.zeros((0, 1), int)},
        "few labels": {"train_labels": arrays["train_labels"][1:]},
        "high": {"train_labels": arrays["train_labels"] + 1},
        "wide": {"train_labels": np.zeros((96, 2), dtype=int)},
        "text": {"train_labels": np.array(["a"] * 96)},
        "fortran": {"train_images": np.asfortranarray(arrays["train_images"])},
    }[what]
    np.savez(path, **{k: v for k, v in {**arrays, **change}.items() if v is not None})
    return {
        "no val": "has no val_images; it has train_images, train_labels, val_labels",
        "objects": "train_images in .* holds Python objects",
        "floats": r"is \(96, 28, 28, 3\) float64: \(N, 28, 28, 3\) uint8 is expected",
        "grey": r"test_images in .* is \(48, 28, 28\) uint8",
        "nothing": r"val_images in .* is \(0, 28, 28, 3\) uint8.* N above 0",
        "few labels": "96 images but 95 labels",
        "high": "holds 1 to 8: 0 to 7 is expected",
        "wide": r"is \(96, 2\) int64: \(N, 1\) whole numbers",
        "text": "whole numbers are expected",
        "fortran": "Fortran order",
    }[what]


BAD = ["page", "empty", "noise", "half", "no val", "objects", "floats", "grey", "nothing"]
BAD += ["few labels", "high", "wide", "text", "fortran"]


@pytest.mark.parametrize("what", BAD)
def test_every_broken_file_says_what_and_how_to_get_it(what, tmp_path):
    message = write_bad(tmp_path / "bloodmnist.npz", what)
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path, "bloodmnist")
    assert "`tlcnn data get bloodmnist` fetches it; or download https://" in str(error.value)
    assert str(error.value).count("tlcnn data get") == 1


def test_findings_other_than_yes_and_no_are_refused(tmp_path):
    arrays = draw_arrays("chestmnist")
    arrays["val_labels"][0, 0] = 2
    np.savez(tmp_path / "chestmnist.npz", **arrays)
    with pytest.raises(DataError, match="val_labels in .* holds 0 to 2: 0 to 1 is expected"):
        load(tmp_path, "chestmnist")


def test_missing_files_and_unknown_options_are_named(tmp_path):
    with pytest.raises(DataError, match="no breastmnist.npz in .*`tlcnn data get breastmnist`"):
        load(tmp_path, "breastmnist")
    with pytest.raises(DataError, match="no breastmnist_64.npz in .* --size 64` fetches it"):
        load(tmp_path, "breastmnist", size=64)
    with pytest.raises(ConfigError, match="flag=bloodmnit is no .* Did you mean 'bloodmnist'"):
        load(tmp_path, "bloodmnit")
    with pytest.raises(ConfigError, match="size=32: MedMNIST has 28, 64, 128, 224 pixels"):
        load(tmp_path, "breastmnist", size=32)


@pytest.mark.realdata
def test_the_real_file(shared, tmp_path):
    root = shared / "data" / "medmnist"
    index = load(root, "breastmnist", cache_dir=str(tmp_path))
    facts = load_medmnist_info()["breastmnist"]
    assert index.table["split"].value_counts().to_dict() == facts["n_samples"]
    assert np.bincount(index.truth).tolist() == [210, 570]  # 133 normal and 437 benign
    sums = [index.images.load(i).mean() for i in range(0, len(index), 50)]
    assert min(sums) > 20 and max(sums) < 200
    assert len(set(index.images.load_digests())) > 770
