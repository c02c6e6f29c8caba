"""What is the same run and what is another, and what cannot be run at all."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deep_made import write_deep_colour, write_tiff
from PIL import Image
from runs import tiny_command, tiny_config
from safetensors.torch import save_file

from tlcnn.config.compose import compose_config
from tlcnn.config.schema import list_keys
from tlcnn.data.policy import NORMALIZE, load_scaling
from tlcnn.errors import ConfigError, DataError, WeightsError
from tlcnn.model.build import build_model
from tlcnn.model.weights import NO_DIGEST, WeightsFile
from tlcnn.plan.describe import describe_plan, make_plan_record
from tlcnn.plan.plan import make_plan


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "source.safetensors"
    save_file(build_model("test_resnet", n_classes=5, seed=7).state_dict(), path)
    return path


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    return lambda *overrides: make_plan(tiny_config(tmp_path, cache_dir, *overrides))


# Keys outside the identity: they say where and how, never what.
WHERE = {
    "device": "cpu",
    "threads": "2",
    "workers": "3",
    "eval_batch_size": "7",
    "cuda_graph": "false",
    "checkpoint_every_s": "1",
    "on_locked": "fail",
    "until_epoch": "1",
    "output_dir": "elsewhere",
    "cache_dir": None,  # tested by every other test: the folder is a temporary one
    "dry_run": "true",
    "fail_fast": "true",
    "leaks": "refuse",
    "progress": "false",
    "logger": "tensorboard",
    "reuse": "none",
    "reuse_disk_gib": "0",
    "reuse_memory_gib": "0",
    "study": "mine",
    "dataset.name": "renamed",
    "dataset.root": "elsewhere",  # drawn images have none
}
# Keys inside it, with a value that differs from the tiny run's.
WHAT = {
    "dataset.options": "dataset.options.n_images=150",
    "dataset.image_size": "dataset.image_size=24",
    "dataset.fit": "dataset.fit=squash",
    "dataset.decode": "dataset.decode=scaled",
    "dataset.normalize": "dataset.normalize=half",
    "dataset.val_fraction": "dataset.val_fraction=0.25",
    "dataset.test_fraction": "dataset.test_fraction=0.3",
    "dataset.folds": "dataset.folds=3",
    "dataset.split_seed": "dataset.split_seed=1",
    "dataset.train_images": "dataset.train_images=60",
    "model.name": "model.name=resnet10t",
    "model.granularity": "model.granularity=block",
    "model.drop_rate": "model.drop_rate=0.1",
    "model.drop_path_rate": "model.drop_path_rate=0.1",
    "train.epochs": "train.epochs=3",
    "train.batch_size": "train.batch_size=8",
    "train.optimizer": "train.optimizer=sgd",
    "train.lr": "train.lr=0.1",
    "train.weight_decay": "train.weight_decay=0.1",
    "train.warmup_epochs": "train.warmup_epochs=0.1",
    "train.final_lr_fraction": "train.final_lr_fraction=0.1",
    "train.class_weights": "train.class_weights=none",
    "train.label_smoothing": "train.label_smoothing=0.1",
    "train.clip_norm": "train.clip_norm=null",
    "train.augment": "train.augment=none",
    "train.augment_ranges": "train.augment_ranges={rotate: 45}",
    "train.views": "train.views=4",
    "train.precision": "train.precision=bf16",
    "train.channels_last": "train.channels_last=false",
    "train.compile": "train.compile=true",
    "train.ema_decay": "train.ema_decay=0.9",
    "train.patience": "train.patience=1",
    "train.head_lr": "train.head_lr=0.1",
    "train.layer_decay": "train.layer_decay=0.5",
    "train.unit_lr": "train.unit_lr={stage1: 0.5}",
    "train.accumulate": "train.accumulate=2",
    "train.mixup": "train.mixup=0.2",
    "train.cutmix": "train.cutmix=0.2",
    "train.erase": "train.erase=0.2",
    "train.sampling": "train.sampling=balanced",
    "train.loss": "train.loss=focal",
    "train.logit_adjustment": "train.logit_adjustment=1",
    "train.select": "train.select=nll",
    "seed": "seed=1",
}
# Keys that count only in company, tested on their own below.
CONDITIONAL = {
    *("dataset.kind", "dataset.fold", "dataset.split", "dataset.on_bad", "init.source"),
    *("init.through", "init.weights", "freeze.through", "freeze.bn"),
    *("train.momentum", "train.effective_beta", "train.features"),
    *("train.anchor", "train.focal_gamma"),
    *("init.run", "init.task", "init.task_dataset", "init.parent", "init.self_seed"),
    *("init.task_run", "init.task_seed_offset"),
    *("init.units", "init.above", "init.head", "freeze.units"),  # tests/test_which_units.py
    *("train.schedule", "train.head_epochs", "train.unfreeze_every"),  # tests/test_schedule.py
    "dataset.hold_out",  # tests/test_hold_out.py
}


PERMISSIONS = {"freeze.allow_random", "init.allow_unchecked"}


def test_every_key_is_in_the_table_of_its_part():
    assert set(WHERE) | PERMISSIONS == {*list_keys("place"), *list_keys("protocol")}
    assert set(WHAT) | CONDITIONAL == set(list_keys("identity"))


@pytest.mark.parametrize("key", [key for key, value in WHERE.items() if value])
def test_where_and_how_are_not_in_the_id(plan_of, key):
    assert plan_of(f"{key}={WHERE[key]}").run_id == plan_of().run_id


@pytest.mark.parametrize("key", WHAT)
def test_whatever_changes_numbers_is_in_the_id(plan_of, key):
    assert plan_of(WHAT[key]).run_id != plan_of().run_id


def test_equal_bytes_in_train_and_test_are_counted_or_refused(tmp_path, cache_dir):
    root, rng = tmp_path / "images", np.random.default_rng(0)
    for split, n_images in (("train", 6), ("val", 4), ("test", 4)):
        for number in range(n_images):
            for label in "ab":
                path = root / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    words = ["dataset=folder", f"dataset.root={root}", "model.name=test_resnet"]
    words += [f"cache_dir={cache_dir}", f"output_dir={tmp_path}"]
    clean = make_plan(compose_config([*words, "leaks=refuse"]))
    assert not clean.dataset.copies and not make_plan_record(clean).notes
    content = (root / "train/a/0.png").read_bytes()
    for name in ("test/a/0.png", "test/b/1.png", "val/a/2.png"):
        (root / name).write_bytes(content)
    plan = make_plan(compose_config(words))
    text = (
        "2 of 8 test images are, byte for byte, training images; 1 of 8 validation images is, "
        "byte for byte, a training image; equal files have different labels, 1 time"
    )
    assert f"warning: {text}. tlcnn data audit lists" in describe_plan(plan)
    (note,) = make_plan_record(plan).notes
    assert note.startswith(text)
    with pytest.raises(DataError, match="2 of 8 test images are, byte for byte, training images"):
        make_plan(compose_config([*words, "leaks=refuse"]))


def test_several_labels_of_ones_own_images_are_a_multi_label_task(tmp_path, cache_dir):
    rng, root = np.random.default_rng(0), tmp_path / "images"
    root.mkdir()
    lines = ["image,label,Edema,Mass"]
    for number in range(24):
        name, cell = f"{number:02d}.png", ("", "Edema", "Mass", "Edema|Mass")[number % 4]
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(root / name)
        lines.append(f"{name},{cell},{int('Edema' in cell)},{int('Mass' in cell)}")
    (root / "labels.csv").write_text("\n".join(lines))
    words = ["dataset=table", f"dataset.root={root}", "model.name=test_resnet"]
    words += [f"cache_dir={cache_dir}", f"output_dir={tmp_path}"]
    ways = ["dataset.options.label_separator=|", "dataset.options.label_columns=[Edema,Mass]"]
    plans = [make_plan(compose_config([*words, way])) for way in ways]
    for plan in plans:
        record = make_plan_record(plan)
        assert (record.task, record.classes) == ("multi-label", ("Edema", "Mass"))
        sizes = pd.DataFrame(record.split_sizes).sum(axis=1).to_dict()
        assert sizes == {"Edema": 12, "Mass": 12, "no finding": 6}
    assert plans[0].dataset.manifest == plans[1].dataset.manifest
    (root / "labels.csv").write_text("\n".join([*lines[:-1], "23.png,Edema,1,0"]))
    assert make_plan(compose_config([*words, ways[0]])).run_id != plans[0].run_id


@pytest.mark.parametrize("largest", [4095, 65535])
def test_few_significant_bits_are_one_factor_in_plan_and_id(tmp_path, cache_dir, largest):
    root, rng = tmp_path / "images", np.random.default_rng(0)
    for number in range(24):
        pixels = rng.integers(0, largest, (8, 8)).astype(np.uint16)
        pixels[0, 0] = largest // (1 + number % 2)
        path = root / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    places = [
        "dataset=folder",
        f"dataset.root={root}",
        f"cache_dir={cache_dir}",
    ]
    plan = make_plan(compose_config([*places, "model.name=test_resnet", f"output_dir={tmp_path}"]))
    is_narrow = largest == 4095
    assert plan.identity["dataset"].get("bits") == (12 if is_narrow else None)
    text = "the 16-bit images use 12 bits: their values are divided by 16"
    assert (text in describe_plan(plan)) == is_narrow
    assert plan.dataset.index.images.load(0)[0, 0, 0] == 255
    assert (plan.dataset.pixel_digests == plan.dataset.digests) == (not is_narrow)
    before = plan.dataset.read_with(16)  # as runs without these bits in their id were trained
    assert before.index.images.load(0)[0, 0, 0] == (15 if is_narrow else 255)


def test_what_is_wrong_about_16_bit_images_is_said_or_refused(tmp_path, cache_dir):
    root = tmp_path / "images"
    for number in range(24):
        path = root / "ab"[number % 2] / f"{number:02d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8), 2000 * number, "<u2")
        write_tiff(path, pixels, photometric=int(number > 2))
    words = ["dataset=folder", f"dataset.root={root}", f"cache_dir={cache_dir}"]
    words += ["model.name=test_resnet", f"output_dir={tmp_path}"]
    plan = make_plan(compose_config(words))
    assert "3 16-bit TIFF images with white stored as 0" in describe_plan(plan)
    write_deep_colour(root / "a" / "colour.png", np.full((8, 8, 3), 4000))
    with pytest.raises(DataError, match="1 image with 16 bits a colour: at most 12 are used"):
        make_plan(compose_config(words))


def test_the_plan_mentions_another_mean_and_turned_images(plan_of, tmp_path, cache_dir, weights):
    assert load_scaling("resnet18.a1_in1k", cache_dir) == NORMALIZE["imagenet"]
    assert load_scaling("source.safetensors", cache_dir) is None
    plan = plan_of("init=checkpoint", f"init.weights={weights}")
    assert "note  " not in describe_plan(
        plan
    )  # nothing is known of the file, and images are drawn
    known = replace(plan.treatment.weights, tag="convnext_tiny.fb_in22k")
    plan = replace(plan, treatment=replace(plan.treatment, weights=known))
    assert "note  " not in describe_plan(plan)
    known = replace(known, tag="inception_v3.tf_in1k")
    plan = replace(plan, treatment=replace(plan.treatment, weights=known))
    text = "was trained on pixels of mean 0.5 0.5 0.5 and deviation 0.5 0.5 0.5"
    assert f"inception_v3.tf_in1k {text}" in describe_plan(plan)
    assert "; dataset.normalize=half has them" in describe_plan(plan)
    cfg = replace(plan.config, dataset=replace(plan.config.dataset, kind="folder"))
    for augment, is_turned in (("standard", True), ("none", False), ("upright", False)):
        words = replace(plan, config=replace(cfg, train=replace(cfg.train, augment=augment)))
        assert ("use train.augment=upright" in describe_plan(words)) == is_turned


def test_keys_that_have_no_effect_are_not_in_the_id(plan_of):
    base = plan_of().run_id
    assert plan_of("train.momentum=0.5").run_id == base  # adamw
    assert plan_of("train.effective_beta=0.5").run_id == base  # balanced
    assert plan_of("freeze.bn=adapt").run_id == base  # nothing frozen
    assert (
        plan_of("train.optimizer=sgd").run_id
        != plan_of("train.optimizer=sgd", "train.momentum=0.5").run_id
    )
    no_views = plan_of("train.augment=none").run_id
    assert plan_of("train.augment=none", "train.views=4").run_id == no_views


def test_close_features_are_in_the_id_where_they_can_change_anything(plan_of):
    assert plan_of("train.features=close").run_id == plan_of().run_id  # nothing frozen
    frozen = ["freeze=stage2", "freeze.allow_random=true"]
    exact = plan_of(*frozen)
    assert plan_of(*frozen, "train.features=close").run_id != exact.run_id
    assert "features" not in exact.identity["train"]
    for word in ("freeze.bn=adapt", "model.name=hrnet_w18_small"):  # nothing can be stored
        both = [plan_of(*frozen, word, f"train.features={each}") for each in ("exact", "close")]
        assert both[0].run_id == both[1].run_id, word


def test_no_units_of_any_source_are_random(plan_of, weights):
    base = plan_of().run_id
    imagenet = ["init=imagenet", f"init.weights={weights}"]
    assert plan_of(*imagenet, "init.through=none").run_id == base
    assert plan_of("init.through=layer2").run_id == base
    assert plan_of(*imagenet).run_id != base


def test_a_source_counts_by_its_content(plan_of, weights, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    first = plan_of("init=checkpoint", f"init.weights={weights}")
    assert plan_of("init=checkpoint", f"init.weights={copy}").run_id == first.run_id
    save_file(build_model("test_resnet", n_classes=5, seed=8).state_dict(), copy)
    assert plan_of("init=checkpoint", f"init.weights={copy}").run_id != first.run_id


@pytest.mark.parametrize("name", ["layer2", "stage2", "3", "layer2.0"])
def test_one_cell_has_many_spellings(plan_of, weights, name):
    cell = ["init=checkpoint", f"init.weights={weights}", f"freeze.through={name}"]
    plan = plan_of(*cell)
    assert (plan.treatment.k, plan.treatment.j) == (5, 3)


def test_frozen_fresh_units_need_to_be_asked_for(plan_of):
    with pytest.raises(ConfigError, match="would stay random filters") as error:
        plan_of("freeze=layer2")
    assert "freeze.allow_random=true" in str(error.value)
    assert plan_of("freeze=layer2", "freeze.allow_random=true").treatment.j == 3


def test_a_unit_of_another_family_is_refused_with_the_names_there_are(plan_of):
    with pytest.raises(ConfigError, match="has no unit 'denseblock2'.*\n.*stage1"):
        plan_of("freeze.through=denseblock2", "freeze.allow_random=true")


def test_a_checkpoint_needs_a_file_that_exists(plan_of):
    with pytest.raises(ConfigError, match="add init.weights=FILE"):
        plan_of("init=checkpoint")
    with pytest.raises(WeightsError, match="nowhere.pt"):
        plan_of("init=checkpoint", "init.weights=nowhere.pt")


def test_published_weights_have_a_name_and_a_place(plan_of, cache_dir):
    words = ["init=radimagenet", "init.through=1", "model.name=resnet50"]
    with pytest.raises(
        WeightsError, match=r"ResNet50\.pt from https://github.com/BMEII-AI"
    ) as caught:
        plan_of(*words)
    place = Path(re.search(r"there is no file (\S+)\.", str(caught.value))[1])
    assert place == cache_dir / "weights" / "radimagenet-resnet50.pt"
    with pytest.raises(WeightsError, match="published densenet121, not resnet50"):
        plan_of("init=chexnet", *words[1:])
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"any content has a digest")
    try:
        named = plan_of(*words)
        by_path = plan_of("init=checkpoint", f"init.weights={place}", *words[1:])
    finally:
        place.unlink()
    assert named.run_id == by_path.run_id


def test_the_weights_of_a_tf_network_are_noticed_in_its_twin(plan_of, tmp_path):
    path = tmp_path / "tf_efficientnet_b0_aa-827b6e33.pth"
    path.write_bytes(b"any content has a digest")
    words = ["init=checkpoint", f"init.weights={path}", "init.through=1"]
    with pytest.raises(WeightsError, match="Write model.name=tf_efficientnet_b0"):
        plan_of(*words, "model.name=efficientnet_b0")
    assert plan_of(*words, "model.name=tf_efficientnet_b0").treatment.k == 1
    inner = tmp_path / "about tf_efficientnet_b0" / "mine.pth"  # a folder says nothing
    inner.parent.mkdir()
    inner.write_bytes(b"any content has a digest")
    words[1] = f"init.weights={inner}"
    assert plan_of(*words, "model.name=efficientnet_b0").treatment.k == 1


def test_wrong_units_are_refused_before_data_is_touched(tmp_path, cache_dir):
    missing = ["dataset.kind=ham10000", f"dataset.root={tmp_path}/missing"]
    with pytest.raises(ConfigError, match="no unit"):
        make_plan(tiny_config(tmp_path, cache_dir, *missing, "freeze.through=layer9"))


def make_source(folder, cache_dir, *overrides):
    """The folder of a finished run of one epoch."""
    from tlcnn.run.run import run

    plan = make_plan(tiny_config(folder, cache_dir, "train.epochs=1", *overrides))
    run(plan)
    return plan


def test_a_run_is_a_source_by_its_id_wherever_it_lies(tmp_path, cache_dir):
    source = make_source(tmp_path / "a", cache_dir)
    cell = ["init=checkpoint", f"init.weights={source.run_dir}"]
    plan = make_plan(tiny_config(tmp_path / "b", cache_dir, *cell))
    assert plan.identity["init"]["digest"] == f"run:{source.run_id}"
    moved = source.run_dir.rename(tmp_path / "moved")
    cell = ["init=checkpoint", f"init.weights={moved}"]
    assert make_plan(tiny_config(tmp_path / "b", cache_dir, *cell)).run_id == plan.run_id


def test_a_source_that_trained_on_the_test_images_is_refused(tmp_path, cache_dir):
    source = make_source(tmp_path, cache_dir)
    cell = ["init=checkpoint", f"init.weights={source.run_dir}"]
    assert make_plan(tiny_config(tmp_path, cache_dir, *cell)).treatment.k == 5  # the same split
    with pytest.raises(DataError, match="test images .* are in the training data of synthetic-"):
        make_plan(tiny_config(tmp_path, cache_dir, *cell, "dataset.split_seed=1"))
    renamed = [*cell, "dataset.split_seed=1", "dataset.name=renamed"]
    with pytest.raises(DataError, match="images by their bytes") as error:  # they give it away
        make_plan(tiny_config(tmp_path, cache_dir, *renamed))
    assert "groups" not in str(error.value) and "by id" not in str(error.value)


def test_the_order_and_number_of_classes_are_in_the_id(tmp_path, cache_dir):
    for label in ("a", "b"):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for number in range(12):
            picture = np.full((24, 24, 3), 10 * number + ord(label), dtype=np.uint8)
            Image.fromarray(picture).save(folder / f"{label}{number}.png")
    words = ["dataset=folder", f"dataset.root={tmp_path}/images", "dataset.image_size=24"]
    base = ["model.name=test_resnet", "train.precision=fp32", f"cache_dir={cache_dir}", *words]
    classes = ["null", "[a,b]", "[b,a]"]
    ids = [
        make_plan(compose_config([*base, f"dataset.options.classes={given}"])).run_id
        for given in classes
    ]
    assert ids[0] == ids[1] != ids[2]


def test_the_plan_in_words_says_what_happens_to_each_unit(plan_of, weights):
    cell = ["init=checkpoint", f"init.weights={weights}", "init.through=3", "freeze.through=2"]
    plan = plan_of(*cell)
    text = describe_plan(plan)
    lines = {line.split()[1]: line for line in text.splitlines() if line[:1].isdigit()}
    assert lines["stage1"].split()[-2:] == ["source.safetensors", "frozen"]
    assert lines["stage2"].split()[-2:] == ["source.safetensors", "trained"]
    assert lines["stage3"].split()[-2:] == ["fresh", "trained"]
    assert plan.run_id in text and str(plan.run_dir) in text
    counts = plan.dataset.counts()
    assert sum(sum(of_class.values()) for of_class in counts.values()) == 140


def test_the_plan_counts_in_words_and_says_what_an_epoch_leaves_out(plan_of):
    plan = plan_of("train.epochs=1", "train.batch_size=100", "freeze.bn=adapt")
    n_train = sum(plan.dataset.counts()["train"].values())
    shown = describe_plan(plan)
    assert f"1 epoch x 1 step of {n_train} = 1 update," in shown and "too few" not in shown
    assert "nothing is frozen, so freeze.bn=adapt has no effect" in shown
    plan = plan_of("train.epochs=2", "train.batch_size=7", "train.accumulate=2")
    n_steps = n_train // 14
    n_left = n_train - 14 * n_steps
    assert n_steps > 1 and n_left > 1
    shown = describe_plan(plan)
    assert f"2 epochs x {n_steps} steps of 2 x 7 = {2 * n_steps} updates," in shown
    last = f"the last {n_left} of its random order are too few for a step"
    assert f"an epoch shows {n_train - n_left} of {n_train} images: {last}" in shown
    assert "no effect" not in shown
    plan = plan_of("train.batch_size=7", "train.accumulate=2", "train.sampling=balanced")
    assert "an epoch shows" not in describe_plan(plan)  # it repeats images of small classes


def test_a_finished_plan_is_made_again_without_torch(tmp_path, cache_dir):
    make_plan(tiny_config(tmp_path, cache_dir))
    code = (
        "import sys; sys.path.insert(0, 'tests'); from runs import tiny_config; "
        "from pathlib import Path; from tlcnn.plan.plan import make_plan; "
        f"make_plan(tiny_config(Path({str(tmp_path)!r}), Path({str(cache_dir)!r}))); "
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_dry_run_prints_the_plan_and_writes_no_run(tmp_path, cache_dir):
    command = tiny_command(tmp_path / "out", cache_dir, "dry_run=true")
    done = subprocess.run(
        [sys.executable, "-m", "tlcnn.train", *command], capture_output=True, text=True, check=True
    )
    assert "run " in done.stdout and "stage1" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_dry_run_downloads_no_weights(plan_of, monkeypatch):
    permissions = []

    def locate(model_name, *, cache_dir, may_download):
        permissions.append(may_download)
        return WeightsFile(None, NO_DIGEST, model_name, "not here")

    monkeypatch.setattr("tlcnn.plan.plan.locate_imagenet", locate)
    for word in ("true", "false"):
        assert plan_of("init=imagenet", f"dry_run={word}").treatment.weights.path is None
    assert permissions == [False, True]
