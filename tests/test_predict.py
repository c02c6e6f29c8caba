"""`predict`: the recorded logits again, from any images, for any runs, in parts."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from runs import TINY, tiny_config

import tlcnn
from tlcnn.cli.main import main
from tlcnn.cli.predict import describe_predictions
from tlcnn.config.compose import compose_config
from tlcnn.data.batches import list_eval_batches
from tlcnn.errors import ConfigError, DataError, Stopped
from tlcnn.inference.calibration import Calibration, fit_calibration
from tlcnn.inference.familiar import Distances, load_distances, warn_of_few
from tlcnn.inference.image_list import load_image_list
from tlcnn.inference.network import Network
from tlcnn.inference.outputs import list_parts
from tlcnn.inference.predict import build_predictor, predict, warn_of_depth
from tlcnn.plan.plan import make_plan
from tlcnn.records.plan_record import PlanRecord, read_plan
from tlcnn.run.run import run
from tlcnn.statistics.predictions import compute_softmax
from tlcnn.study.class_weights import find_class_weights
from tlcnn.training.evaluate import compute_logits

SLOW = pytest.mark.slow
FAMILIES = (
    *("test_resnet", "test_convnext", "lcnet_035"),
    *(
        pytest.param(name, marks=SLOW)
        for name in (
            *("mobilenetv2_035", "mobilenetv3_small_050", "regnetx_002"),
            *("test_nfnet", "cs3darknet_s"),
        )
    ),
)


def train(output_dir, cache_dir, *words):
    """Train a tiny run and return its plan."""
    torch.set_num_threads(1)
    plan = make_plan(tiny_config(output_dir, cache_dir, "train.epochs=1", *words))
    run(plan)
    return plan


@pytest.fixture(scope="module")
def plans(tmp_path_factory, cache_dir):
    """Two runs that differ in the seed."""
    folder = tmp_path_factory.mktemp("runs")
    words = ("eval_batch_size=9", "train.class_weights=balanced")
    return [train(folder, cache_dir, f"seed={seed}", *words) for seed in (0, 1)]


@pytest.fixture(scope="module")
def folder(plans, tmp_path_factory):
    """The test images of the runs as PNG files, and their ids in the order of the files."""
    place = tmp_path_factory.mktemp("images")
    dataset = plans[0].dataset
    for number, row in enumerate(np.flatnonzero(dataset.splits == "test")):
        Image.fromarray(dataset.index.images.load(row)).save(place / f"{number:03d}.png")
    return place


def read_recorded(plan, split="test"):
    """The predictions that a run has recorded."""
    table = tlcnn.open_run(plan.run_dir).predictions()
    return table[table["split"] == split].reset_index(drop=True)


def take(frame, start):
    """The columns whose names begin so, as an array."""
    return frame[[c for c in frame.columns if c.startswith(start)]].to_numpy()


@pytest.mark.parametrize("model", FAMILIES)
def test_the_recorded_logits_come_out_again_bit_for_bit(model, tmp_path, cache_dir):
    plan = train(tmp_path, cache_dir, f"model.name={model}", "eval_batch_size=9")
    frame = predict(plan.run_dir, device="cpu", checks=False)
    recorded = read_recorded(plan)
    assert frame["image_id"].tolist() == recorded["image_id"].tolist()
    assert np.array_equal(take(frame, "logit/"), take(recorded, "logit/"))


def test_files_and_arrays_give_the_same_bits_as_the_dataset(plans, folder):
    recorded = take(read_recorded(plans[0]), "logit/")
    from_folder = predict(plans[0].run_dir, folder, device="cpu", checks=False)
    assert np.array_equal(take(from_folder, "logit/"), recorded)
    arrays = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    assert np.array_equal(
        take(predict(plans[0].run_dir, arrays, checks=False), "logit/"), recorded
    )
    alone = predict(plans[0].run_dir, folder / "003.png", device="cpu", checks=False)
    assert np.array_equal(take(alone, "logit/"), recorded[3:4])


def test_16_bit_files_are_read_with_the_bits_of_the_run(tmp_path, cache_dir):
    rng = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 4096, (32, 32)).astype(np.uint16)).save(path)
    words = [word for word in TINY if not word.startswith("dataset")]
    words += ["dataset=folder", f"dataset.root={tmp_path}/images", "dataset.image_size=32"]
    words += [f"output_dir={tmp_path}", f"cache_dir={cache_dir}", "train.epochs=1"]
    plan = make_plan(compose_config(words))
    assert plan.dataset.bits == 12
    torch.set_num_threads(1)
    run(plan)
    recorded = read_recorded(plan)
    files = [tmp_path / "images" / image_id for image_id in recorded["image_id"]]
    frame = predict(plan.run_dir, files, device="cpu", checks=False)
    assert np.array_equal(take(frame, "logit/"), take(recorded, "logit/"))


@pytest.mark.parametrize(
    ("trained_with", "largest", "text"),
    [
        (16, 4095, "by 16 bits, as in its training, and these use 12: they become nearly black"),
        (12, 60000, "by 12 bits, as in its training, and these use 16: they become white"),
        (12, 4095, ""),
        (16, 60000, ""),
        (12, None, ""),
    ],
)
def test_images_of_another_bit_depth_are_noticed(
    plans, tmp_path, monkeypatch, heard, trained_with, largest, text
):
    dtype = np.uint8 if largest is None else np.uint16
    pixels = np.linspace(0, largest or 255, 64, dtype=dtype).reshape(8, 8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    network = tlcnn.load(plans[0].run_dir)
    form = (*network.stored_form[:3], trained_with)
    monkeypatch.setattr(type(network), "stored_form", property(lambda self: form))
    warn_of_depth([network], load_image_list([tmp_path], cache_dir=tmp_path / "cache"))
    shown = "\n".join(record.getMessage() for record in heard.records)
    assert (text in shown and "bit depth" in shown) if text else not shown


@pytest.mark.parametrize(("n_val", "share"), [(10, "10 %"), (60, "3 %"), (100, "")])
def test_few_validation_images_make_no_threshold(n_val, share, heard):
    """The share that is named is that of images like those of validation."""
    warn_of_few(n_val, "mine")
    shown = heard.text
    assert (f"About {share} of images" in shown and f"{n_val} validation" in shown) == bool(share)
    rng = np.random.default_rng(0)
    scales = np.quantile(rng.random((4000, n_val)), 0.99, axis=1)
    beyond = (rng.random((4000, 100)) > scales[:, None]).mean()
    assert not share or f"{100 * beyond:.0f} %" == share


def test_an_ensemble_is_the_mean_of_its_runs(plans, folder):
    options = {"images": folder, "device": "cpu", "checks": False}
    both = predict([plan.run_dir for plan in plans], **options)
    alone = [predict(plan.run_dir, **options) for plan in plans]
    expected = np.mean([take(frame, "probability/") for frame in alone], axis=0)
    assert np.allclose(take(both, "probability/"), expected, atol=1e-12)
    assert not take(both, "logit/").size
    assert (both["class"] == [plans[0].dataset.index.classes[k] for k in expected.argmax(1)]).all()


def test_a_run_that_is_given_twice_counts_once(plans, folder):
    options = {"images": folder, "device": "cpu", "checks": False}
    first, second = (plan.run_dir for plan in plans)
    both, again = (predict(runs, **options) for runs in ([first, second], [first, second, first]))
    assert (take(again, "probability/") == take(both, "probability/")).all()


def test_runs_with_other_classes_are_no_ensemble(plans, tmp_path, cache_dir):
    other = train(tmp_path, cache_dir, "dataset.options.task=textures")
    with pytest.raises(ConfigError, match=r"no ensemble: their classes are .*same classes"):
        predict([plans[0].run_dir, other.run_dir])


def test_flips_are_averaged(plans):
    draw = np.random.default_rng(0).integers
    images = draw(0, 256, (4, 36, 36, 3), dtype=np.uint8)  # of the stored size: not resized
    options = {"device": "cpu", "checks": False}
    axes = ((), (1,), (2,), (1, 2))
    views = [predict(plans[0].run_dir, np.flip(images, a), **options) for a in axes]
    expected = np.mean([take(view, "probability/") for view in views], axis=0)
    averaged = predict(plans[0].run_dir, images, tta=True, **options)
    assert np.allclose(take(averaged, "probability/"), expected, atol=1e-9)
    network = tlcnn.load(plans[0].run_dir)
    config = replace(network.run.config, train=replace(network.run.config.train, augment="none"))
    with pytest.raises(ConfigError, match="no flipped images.*Leave out --tta"):
        build_predictor([replace(network, run=replace(network.run, config=config))], tta=True)


@pytest.mark.parametrize("task", ["multi-class", "multi-label"])
def test_the_temperature_of_scaled_logits_is_their_scale(task):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 3))
    probabilities = Calibration(task).compute(logits)
    draws = generator.random((len(logits), 3))
    labels = (draws[:, :1] > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=2)
    frame = pd.DataFrame(3 * logits, columns=["logit/a", "logit/b", "logit/c"])
    frame = frame.assign(split="val", label=labels)
    frame[["target/a", "target/b", "target/c"]] = draws < probabilities
    record = PlanRecord("r", "c", "d", "m", ("random",), 0, 0, "frozen", 0)
    record = replace(record, classes=("a", "b", "c"), task=task)
    run = SimpleNamespace(record=record, predictions=lambda: frame, folder="r")
    assert fit_calibration(run).temperature == pytest.approx(3, rel=0.03)


def test_calibrated_probabilities_are_corrected_for_class_weights(plans):
    run_dir = plans[0].run_dir
    frame = predict(run_dir, split="val", calibrated=True, checks=False, device="cpu")
    calibration = fit_calibration(tlcnn.open_run(run_dir))
    logits = take(frame, "logit/") - np.log(find_class_weights(read_plan(run_dir)))
    expected = compute_softmax(logits / calibration.temperature)
    assert np.allclose(take(frame, "probability/"), expected)


def test_images_of_training_are_recognised(plans, tmp_path):
    dataset = plans[0].dataset
    rows = np.flatnonzero(dataset.splits == "train")[:3]
    for number, row in enumerate(rows):
        picture = Image.fromarray(dataset.index.images.load(row))
        picture.resize((96, 96), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.jpg")
    frame = predict(plans[0].run_dir, tmp_path, device="cpu")
    ids = dataset.index.table["image_id"][rows]
    for image_id, warnings in zip(ids, frame["warnings"], strict=True):
        assert f"seen in training by picture ({image_id})" in warnings
    for split, text in (("train", "seen in training by id"), ("val", "seen in validation by id")):
        warnings = predict(plans[0].run_dir, split=split, device="cpu")["warnings"]
        assert warnings.str.contains(text, regex=False).all()
    assert not predict(plans[0].run_dir, device="cpu")["warnings"].str.contains("seen").any()


def test_an_image_of_a_group_with_a_seen_image_is_warned_of(plans, tmp_path):
    """Also where the two are in different parts of the output; an empty cell is no group."""
    images = plans[0].dataset.index.images
    (seen, *_) = np.flatnonzero(plans[0].dataset.splits == "train")
    new = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    Image.fromarray(images.load(seen)).save(tmp_path / "00.png")
    names = [f"{number:02}.png" for number in range(12)]
    for number, name in enumerate(names[1:]):
        new.rotate(7 * number).save(tmp_path / name)
    patients = ["p", *"qqqqqqqqq", "p", ""]
    pd.DataFrame({"image": names, "patient": patients}).to_csv(tmp_path / "x.csv", index=False)
    frame = predict(plans[0].run_dir, tmp_path / "x.csv", device="cpu", batch_size=4)
    first, *others, mate, alone = frame["warnings"]
    assert "seen in training by picture" in first
    assert mate.startswith("seen in training by group")
    assert not any("seen" in text for text in [*others, alone])
    assert frame.attrs["warned"]["seen in training by group"] == ["10.png"]


def test_bytes_and_ids_are_recognised_after_the_images_are_gone(tmp_path, cache_dir):
    images = tmp_path / "data"
    draw = np.random.default_rng(0).integers
    for number in range(40):
        place = images / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = draw(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"ISIC_{number:07d}.png")
    words = ["dataset=folder", f"dataset.root={images}", "dataset.name=mine", *TINY[3:]]
    words += ["train.batch_size=8", f"output_dir={tmp_path / 'runs'}", f"cache_dir={cache_dir}"]
    plan = make_plan(compose_config(words))
    run(plan)
    seen = plan.dataset.index.table["image_id"][plan.dataset.splits == "train"].tolist()
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(images / seen[0], new / "copy.png")
    Image.new("RGB", (32, 32), "red").save(new / f"{Path(seen[1]).stem}.png")
    shutil.rmtree(images)
    frame = predict(plan.run_dir, new, device="cpu").set_index("image_id")
    assert frame["warnings"]["copy.png"] == "seen in training by bytes"
    assert frame["warnings"][f"{Path(seen[1]).stem}.png"] == "seen in training by id"
    assert "distance" not in frame


def test_images_unlike_those_of_training_are_far(plans, tmp_path):
    known = Distances(np.array([1.0, 0.0]), np.diag([1.0, 0.25]), scale=2.0)
    assert known.measure(np.array([[1, 0], [5, 0], [1, 4]])).tolist() == [0, 2, 1]
    distances = predict(plans[0].run_dir, split="val", device="cpu")["distance"]
    assert (distances <= 1).mean() >= 0.95 and distances.max() >= 1
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "blue.png")
    frame = predict(plans[0].run_dir, tmp_path, device="cpu")
    assert "far from the training images" in frame["warnings"][0] and frame["distance"][0] > 1


def test_a_broken_image_has_a_warning_and_harms_no_other(plans, folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "003.png").write_bytes(b"no image")
    frame = predict(plans[0].run_dir, tmp_path, device="cpu")
    recorded = take(read_recorded(plans[0]), "logit/")
    others = frame["image_id"] != "003.png"
    assert np.array_equal(take(frame[others], "logit/"), recorded[others])
    (broken,) = frame[~others].to_dict("records")
    assert broken["warnings"].startswith("cannot be decoded: ") and broken["class"] == ""
    assert np.isnan(broken["probability/nv"]) and np.isnan(broken["distance"])


def test_an_interrupted_command_goes_on_to_the_same_table(plans, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tlcnn.inference.outputs.PART", 9)
    whole = predict(plans[0].run_dir, folder, device="cpu")
    job = {"runs": plans[0].run_dir, "images": folder, "device": "cpu"}
    job["output"] = tmp_path / "out.csv"
    computed = []
    real = Network.compute

    def compute(self, images, **options):
        computed.append(len(images))
        if len(computed) == 3:
            raise Stopped("a signal")
        return real(self, images, **options)

    monkeypatch.setattr(Network, "compute", compute)
    with pytest.raises(Stopped):
        predict(**job)
    assert len(list((tmp_path / "out.csv.parts").glob("*.parquet"))) == 2
    with pytest.raises(DataError, match="parts of another command.*Delete it"):
        predict(**job, calibrated=True)
    frame = predict(**job)
    assert sum(computed[3:]) == len(whole) - 18  # the two stored parts are not computed again
    pd.testing.assert_frame_equal(frame, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.csv.json"]
    n_computed = len(computed)
    again = predict(**job)
    assert len(computed) == n_computed  # it is done
    pd.testing.assert_frame_equal(again, whole, check_dtype=False)
    job["output"].write_text("changed")
    assert len(predict(**job)) == len(whole) and len(computed) > n_computed


def test_parquet_is_written_and_other_names_are_refused(plans, folder, tmp_path):
    job = {"runs": plans[0].run_dir, "images": folder, "device": "cpu", "checks": False}
    frame = predict(**job, output=tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), frame)
    with pytest.raises(ConfigError, match=r"ends in \.csv or \.parquet"):
        predict(**job, output=tmp_path / "out.xlsx")


def test_a_table_gives_groups_and_groups_are_pooled(plans, folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    names = sorted(path.name for path in folder.iterdir())[:5]
    table = pd.DataFrame({"image": names, "patient": ["p", "q", "p", "q", "r"]})
    table.to_csv(tmp_path / "list.csv", index=False)
    frame = predict(plans[0].run_dir, tmp_path / "list.csv", device="cpu", checks=False)
    assert frame["group"].tolist() == table["patient"].tolist()
    means = take(frame, "probability/")[[0, 2]].mean(axis=0)
    pooled = take(frame, "group_probability/")
    assert np.allclose(pooled[[0, 2]], means) and np.allclose(pooled[4], take(frame, "prob")[4])
    assert frame["group_class"][0] == plans[0].dataset.index.classes[means.argmax()]
    lost = table.assign(image="gone.png")
    lost.to_csv(tmp_path / "lost.csv", index=False)
    with pytest.raises(DataError, match="5 of 5 rows have no image"):
        predict(plans[0].run_dir, tmp_path / "lost.csv")


def test_an_npz_file_is_read(plans, tmp_path):
    arrays = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", test_images=arrays, test_labels=np.zeros(3))
    frame = predict(plans[0].run_dir, tmp_path / "x.npz", device="cpu", checks=False)
    assert frame["image_id"].tolist() == ["test-000000", "test-000001", "test-000002"]
    expected = predict(plans[0].run_dir, arrays, device="cpu", checks=False)
    assert np.array_equal(take(frame, "logit/"), take(expected, "logit/"))


def test_a_dataset_is_named_as_in_training(plans, cache_dir, monkeypatch):
    words = ["dataset=synthetic", "dataset.options.n_images=140", "dataset.options.size=32"]
    monkeypatch.setenv("TLCNN_CACHE", str(cache_dir))
    options = {"device": "cpu", "checks": False}
    frame = predict(plans[0].run_dir, [*words, "dataset.image_size=32"], split="test", **options)
    recorded = read_recorded(plans[0])
    assert np.array_equal(take(frame, "logit/"), take(recorded, "logit/"))
    assert set(frame["split"]) == {"test"}
    everything = predict(plans[0].run_dir, words, **options)
    assert len(everything) == 140 and set(everything["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ("none", {}, "there is no none. A folder, files"),
        (".", {}, "no images at"),
        (["dataset=synthetic", "."], {}, "and others together"),
        (".", {"split": "test"}, "is for datasets"),
        (None, {"split": "all"}, "no split all: train, val, test"),
        (np.zeros((2, 8, 8, 3)), {}, r"\(H, W, 3\) or \(H, W\) uint8, and is \(8, 8, 3\) float64"),
    ],
)
def test_what_is_no_image_is_refused(plans, tmp_path, monkeypatch, images, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        predict(plans[0].run_dir, images, **options)


def test_a_run_that_is_not_finished_is_refused(plans, tmp_path):
    copy = shutil.copytree(plans[0].run_dir, tmp_path / "copy")
    (copy / "DONE").unlink()
    with pytest.raises(DataError, match=r"not finished \(stopped\)"):
        tlcnn.load(copy)


@pytest.mark.parametrize("n_images", [1, 2, 9, 10, 18, 19, 1023, 1024, 1025, 1027, 1028, 3000])
def test_parts_are_made_of_the_batches_of_the_run(n_images):
    parts = list_parts(n_images, 9)
    batches = [part[batch] for part in parts for batch in list_eval_batches(len(part), 9)]
    expected = list_eval_batches(n_images, 9)
    assert len(batches) == len(expected) and all(map(np.array_equal, batches, expected))


def test_the_command_writes_a_table_and_names_what_is_odd(
    plans, folder, tmp_path, capsys, monkeypatch
):
    for name, value in (("handlers", []), ("propagate", False)):  # the command sets them
        monkeypatch.setattr(logging.getLogger("tlcnn"), name, value)
    output = tmp_path / "out.csv"  # in front of the images: words may follow options
    main(["predict", str(plans[0].run_dir), "-o", str(output), str(folder), "--device", "cpu"])
    text = capsys.readouterr().out
    n_images = len(list(folder.iterdir()))
    assert f"{n_images} images, by predicted class" in text and f"wrote {output}" in text
    assert len(pd.read_csv(output)) == n_images
    with pytest.raises(SystemExit, match="1"):
        main(["predict", str(folder)])
    assert "is no run folder" in capsys.readouterr().err


def test_the_command_counts_kinds_of_warnings_whatever_files_are_called(
    plans, tmp_path, capsys, monkeypatch
):
    for name, value in (("handlers", []), ("propagate", False)):  # the command sets them
        monkeypatch.setattr(logging.getLogger("tlcnn"), name, value)
    images, output = tmp_path / "images", tmp_path / "out.csv"
    images.mkdir()
    (images / "a; b (c).png").write_bytes(b"no image")
    words = ["predict", str(plans[0].run_dir), str(images), "-o", str(output), "--device", "cpu"]
    for _ in ("computed", "read again"):
        main(words)
        lines = capsys.readouterr().out.splitlines()
        warnings = [line for line in lines if line.startswith("warning")]
        assert warnings == ["warning: cannot be decoded: 1 (a; b (c).png)"]
    assert list(pd.read_csv(output).columns[-2:]) == ["distance", "warnings"]


def change_config(network, **changes):
    """A network whose run has another configuration: `augment`, or keys of the top."""
    config = network.run.config
    augment = changes.pop("augment", config.train.augment)
    config = replace(config, train=replace(config.train, augment=augment), **changes)
    return replace(network, run=replace(network.run, config=config))


def test_another_question_is_not_already_done(plans, folder, tmp_path, monkeypatch, caplog):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    table = pd.DataFrame({"image": sorted(path.name for path in folder.iterdir())[:4]})
    job = {"runs": plans[0].run_dir, "images": tmp_path / "list.csv", "device": "cpu"}
    job["output"] = tmp_path / "out.csv"
    for groups in (list("abab"), list("aabb")):
        table.assign(group=groups).to_csv(tmp_path / "list.csv", index=False)
        assert predict(**job)["group"].tolist() == groups
    with monkeypatch.context() as patch:
        patch.setattr("tlcnn.records.open_run.recall_dataset", refuse)
        predict(**job)
    assert "only ids and bytes are compared" in caplog.text  # a weaker check is another answer
    with caplog.at_level(logging.INFO):
        caplog.clear()
        predict(**job)
        assert "already done" not in caplog.text
        predict(**job)
        assert "already done" in caplog.text


def refuse(*_):
    """Raise what images that are gone raise."""
    raise DataError("there are no images")


def test_an_ensemble_is_flipped_as_all_of_its_runs_were_trained(plans):
    networks = [tlcnn.load(plan.run_dir, device="cpu") for plan in plans]
    for augments, views in (
        (("light", "upright"), [(), (2,)]),
        (("upright", "light"), [(), (2,)]),
        (("light", "standard"), [(), (1,), (2,), (1, 2)]),
    ):
        changed = [change_config(n, augment=a) for n, a in zip(networks, augments, strict=True)]
        assert list(build_predictor(changed, tta=True, checks=False).flips) == views
    changed = [networks[0], change_config(networks[1], augment="none")]
    with pytest.raises(ConfigError, match="no flipped images.*Leave out --tta"):
        build_predictor(changed, tta=True)


def test_each_network_computes_with_its_batches_and_threads(plans, tmp_path, monkeypatch):
    networks = [tlcnn.load(plan.run_dir, device="cpu") for plan in plans]
    networks[1] = change_config(networks[1], eval_batch_size=6, threads=2)
    real, calls = compute_logits, []

    def compute(model, images, *, batch_size, precision):
        calls.append((batch_size, torch.get_num_threads()))
        return real(model, images, batch_size=batch_size, precision=precision)

    before = torch.get_num_threads()
    monkeypatch.setattr("tlcnn.inference.network.compute_logits", compute)
    predict(networks, np.zeros((18, 32, 32, 3), np.uint8), checks=False)
    assert calls == [(9, networks[0].run.config.threads), (6, 2)]
    calls.clear()
    load_distances(replace(networks[1], run=replace(networks[1].run, cache_dir=tmp_path)))
    assert set(calls) == {(6, 2)} and torch.get_num_threads() == before


def test_options_that_a_loaded_network_does_not_have_are_refused(plans, tmp_path):
    network = tlcnn.load(plans[0].run_dir, device="cpu")
    assert tlcnn.load(network) is network and tlcnn.load(network, device="cpu") is network
    for options in ({"device": "cuda"}, {"root": tmp_path}, {"cache_dir": tmp_path}):
        with pytest.raises(ConfigError, match=r"is loaded already.*Load it again: tlcnn\.load"):
            tlcnn.load(network, **options)
    with pytest.raises(ConfigError, match="root=.* is loaded already"):
        tlcnn.features(network, root=tmp_path)


@pytest.mark.parametrize(
    ("classes", "is_said"),
    [(["nv"] * 10, True), (["nv"] * 9, False), (["nv"] * 10 + ["mel"], False), ([""] * 10, False)],
)
def test_one_class_for_all_of_many_images_is_a_sentence(classes, is_said):
    frame = pd.DataFrame({"class": classes})
    frame.attrs["warned"] = {}
    said = describe_predictions(frame).splitlines()
    assert ("All 10 images get the class nv." in said) == is_said
    assert any(line.startswith("All ") for line in said) == is_said
