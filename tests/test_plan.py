"""What is the same run and what is another, and what cannot be run at all."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from runs import tiny_command, tiny_config
from safetensors.torch import save_file

from tlcnn.config.compose import compose_config
from tlcnn.config.schema import list_keys
from tlcnn.errors import ConfigError, DataError, WeightsError
from tlcnn.model.build import build_model
from tlcnn.plan.describe import describe_plan
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
    "progress": "false",
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
