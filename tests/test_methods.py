"""The methods of a report: they say all of a recipe, and how runs differ, from records alone."""

from dataclasses import replace

import pandas as pd
import pytest
from test_page import make_once

from tlcnn.config.schema import Config, TrainCfg, iterate_fields
from tlcnn.data.policy import AUGMENTS, NORMALIZE, describe_views
from tlcnn.records.plan_record import PlanRecord, UnitRecord, WeightsRecord
from tlcnn.report.methods import make_methods
from tlcnn.report.reproduce import explain_commands

SETTINGS = {
    **{f"train.{key}": item.default for key, item in iterate_fields(TrainCfg)},
    "dataset.kind": "ham10000",
    "dataset.split": "auto",
    "dataset.folds": None,
    "dataset.val_fraction": 0.15,
    "dataset.test_fraction": 0.2,
    "dataset.split_seed": 0,
    "model.drop_rate": 0.0,
    "model.drop_path_rate": 0.0,
}
DATA = {"image_size": 128, "stored_size": 144, "fit": "crop", "filter": "bilinear"}
DATA["normalize"] = NORMALIZE["imagenet"]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return make_once(tmp_path_factory)


def make_plan(seed=0, dataset="ham10000", part=None, **settings):
    """Return the plan of a run from ImageNet; keys of settings have `__` for a dot."""
    merged = SETTINGS | {key.replace("__", "."): value for key, value in settings.items()}
    identity = {
        "dataset": {**DATA, **(part or {})},
        "train": {"precision": "fp32"},
        "views": describe_views(AUGMENTS[merged["train.augment"]]),
        "init": {"digest": "ab" * 32},
    }
    units = tuple(map(UnitRecord, ("stem", "stage1", "stage2", "stage3", "stage4")))
    sizes = {"train": {"mel": 6500}, "val": {"mel": 1502}, "test": {"mel": 2003}}
    return PlanRecord(
        f"{dataset}{seed}{sorted(settings.items())}",
        *("cell", dataset, "resnet18", ("imagenet",), 5, 0, "frozen", seed),
        identity=identity,
        units=units,
        classes=("mel", "nv"),
        split_sizes=sizes,
        settings=merged,
        weights=WeightsRecord("resnet18.a1_in1k", ""),
    )


def write(content, *plans):
    """Return the paragraphs of a report on runs of these plans."""
    runs = pd.DataFrame({"state": "done", "plan": plans})
    return {
        heading: " ".join(lines) for heading, lines in make_methods(replace(content, runs=runs))
    }


def test_a_recipe_is_told_in_words(content):
    told = write(content, make_plan())
    for heading, text in {
        "Data": "HAM10000 has 10,005 images of 2 classes: 6,500 to train on, 1,502 for validation",
        "Preprocessing": "The largest central square of an image was cut out and resized to 144 × "
        "144 pixels (bilinear interpolation, antialiased). The network saw 128 × 128 pixels",
        "Networks": "ImageNet weights of resnet18 were resnet18.a1_in1k (sha256 abababababab).",
        "Training": "Networks were trained by AdamW with weight decay 0.05, not on norms and "
        "biases. The learning rate rose linearly to 0.0005 in the first epoch and then fell along "
        "a cosine to 0. Training took 15 epochs with batches of 64 images. The loss was the "
        "cross-entropy, with classes weighted by their inverse frequency. Gradients were clipped "
        "at norm 1. Networks computed in 32-bit floating point.",
    }.items():
        assert text in told[heading]
    assert "by lesion, so that no lesion is in two parts, and stratified by class" in told["Data"]
    assert "15 % for validation and 20 % for the test" in told["Data"]
    assert all(line in told["Statistics"] for line in content.assumptions)


@pytest.mark.parametrize(
    "name, texts",
    [
        ("none", ["were not augmented"]),
        ("light", ["a crop of 128 of the 144 pixels", "eight flips and quarter turns"]),
        ("standard", ["from 0.85 to 1.2 (log", "up to 20 degrees", "from 0.9 to 1.1", "mirrored"]),
        ("strong", ["0.7 to 1.4", "up to 1.15", "45 degrees", "0.7 to 1.3", "0.95 to 1.05"]),
        ("upright", ["a left-right flip", "up to 10 degrees"]),
    ],
)
def test_augmentation_is_told_with_its_ranges(content, name, texts):
    told = write(content, make_plan(train__augment=name))["Augmentation"]
    assert all(text in told for text in texts)


# Another value of every part of the recipe, with what it takes to matter.
OTHERS = {
    "epochs": 7,
    "batch_size": 32,
    "optimizer": "sgd",
    "lr": 0.1,
    "weight_decay": 0.01,
    "warmup_epochs": 0.0,
    "final_lr_fraction": 0.1,
    "class_weights": "none",
    "label_smoothing": 0.1,
    "clip_norm": None,
    "augment": "strong",
    "views": 8,
    "ema_decay": 0.99,
    "patience": 3,
    "momentum": 0.5,
    "effective_beta": 0.9,
    "schedule": "gradual",
    "head_epochs": 3,
    "unfreeze_every": 2,
}
BESIDE = {
    "momentum": ("optimizer", "sgd"),
    "effective_beta": ("class_weights", "effective"),
    "head_epochs": ("schedule", "head_first"),
    "unfreeze_every": ("schedule", "gradual"),
}
SILENT = {"precision", "channels_last", "features", "compile"}  # resolved, or of speed alone


@pytest.mark.parametrize("key", sorted(key for key, _ in iterate_fields(TrainCfg)))
def test_every_part_of_a_recipe_is_told(content, key):
    if key in SILENT:
        return
    beside, word = BESIDE.get(key, ("epochs", 15))
    shared = {f"train__{beside}": word}
    plain = write(content, make_plan(**shared))
    assert write(content, make_plan(**{**shared, f"train__{key}": OTHERS[key]})) != plain


def test_where_runs_differ_each_sentence_says_which_it_is_about(content):
    told = write(content, make_plan(), make_plan(dataset="lung", train__epochs=5))["Training"]
    assert "HAM10000: Training took 15 epochs" in told and "lung: Training took 5" in told
    assert told.count("cross-entropy") == 1
    told = write(content, make_plan(), make_plan(1), make_plan(2, train__lr=0.1))["Training"]
    assert "2 of 3 runs: The learning rate" in told and "1 of 3 runs: The learning rate" in told


def test_what_a_record_lacks_is_left_out(content):
    bare = replace(make_plan(), identity={}, settings={}, split_sizes={})
    told = write(content, bare)
    assert "Preprocessing" not in told and "Training" not in told and "Statistics" in told
    imported = write(content, replace(bare, imported=True))
    assert imported["Training"] == "1 run of other tools: their training is not recorded."


def test_a_command_of_a_sweep_is_not_said_to_train_one_run():
    for command, is_sweep in {
        "seed=0": False,
        "-m seed=0,1": True,
        "experiment=demo": True,
        "hydra.mode=RUN experiment=demo": False,
    }.items():
        line = explain_commands(["", f"python -m tlcnn.train {command}"])
        assert ("trains a whole sweep" in line) == is_sweep and "one run" not in line


def test_the_defaults_are_those_of_the_schema():
    assert Config().train.epochs == SETTINGS["train.epochs"]
