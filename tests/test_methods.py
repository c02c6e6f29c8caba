"""The methods of a report: they say all of a recipe, and how runs differ, from records alone."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
from test_page import make_once

import tlcnn.report
from tlcnn.config.schema import Config, TrainCfg, iterate_fields
from tlcnn.data.policy import NORMALIZE, describe_views, find_policy
from tlcnn.records.plan_record import AncestorRecord, PlanRecord, UnitRecord, WeightsRecord
from tlcnn.report.assumptions import describe_margin
from tlcnn.report.glossary import make_glossary, write_lead
from tlcnn.report.method_sentences import describe_guessing
from tlcnn.report.methods import make_methods
from tlcnn.report.references import WORKS
from tlcnn.report.reproduce import explain_commands

SETTINGS = {
    **{f"train.{key}": value for key, value in asdict(TrainCfg()).items()},
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
        "views": describe_views(
            find_policy(merged["train.augment"], ranges=merged["train.augment_ranges"])
        ),
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
        "Data": "10,005 of the 10,015 published images of HAM10000 (Tschandl et al. 2018) were "
        "used: 6,500 to train on, 1,502 for validation and 2,003 for the test. Their 2 classes "
        "are mel (melanoma) and nv (melanocytic naevus).",
        "Preprocessing": "The largest central square of an image was cut out and resized to 144 × "
        "144 pixels (bilinear interpolation, antialiased). The network saw 128 × 128 pixels",
        "Networks": "ImageNet weights of resnet18 were resnet18.a1_in1k (sha256 abababababab).",
        "Training": "Networks were trained by AdamW (Loshchilov and Hutter 2019) with weight "
        "decay 0.05, not on norms and biases. The learning rate rose linearly to 0.0005 in the "
        "first epoch and then fell along a cosine to 0. Training took 15 epochs with batches of "
        "64 images. The loss was the cross-entropy, with classes weighted by their inverse "
        "frequency. Gradients were clipped at norm 1. Networks computed in 32-bit floating point.",
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
    "augment_ranges": {"rotate": 45, "scale": [0.9, 1.1]},
    "views": 8,
    "ema_decay": 0.99,
    "patience": 3,
    "momentum": 0.5,
    "effective_beta": 0.9,
    "head_lr": 0.01,
    "layer_decay": 0.75,
    "unit_lr": {"stage1": 0.1},
    "accumulate": 2,
    "anchor": 0.1,
    "mixup": 0.2,
    "cutmix": 1.0,
    "erase": 0.25,
    "sampling": "balanced",
    "loss": "focal",
    "focal_gamma": 1.0,
    "logit_adjustment": 1.0,
    "select": "nll",
    "schedule": "gradual",
    "head_epochs": 3,
    "unfreeze_every": 2,
}
BESIDE = {
    "momentum": ("optimizer", "sgd"),
    "effective_beta": ("class_weights", "effective"),
    "focal_gamma": ("loss", "focal"),
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


# ---- what a reader would ask --------------------------------------------------------------------


def make_child(seed, parent_seed, first="random"):
    """Return the plan of a run on lung that starts from a run on HAM10000 of a seed."""
    parent = AncestorRecord(
        f"p{parent_seed}", "p", "c", "ham10000", (first,), 5, 0, parent_seed, ""
    )
    source = (first, "ham10000")
    return replace(make_plan(seed, "lung"), seed=seed, source=source, ancestry=(parent,))


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (((0, 0), (1, 1)), "from the run of HAM10000 of the same seed, which began with random"),
        (((0, 1), (1, 2)), "from the run of HAM10000 of another seed, which began with random"),
        (((0, 7), (1, 7)), "from one run of HAM10000 (seed 7), which began with random weights: "),
    ],
)
def test_what_a_source_of_our_own_is_and_whether_intervals_cover_it(content, pairs, text):
    told = write(content, *(make_child(*pair) for pair in pairs))["Networks"]
    assert f"Runs of lung from “HAM10000” started {text}" in told
    assert ("the intervals cover the training of the source too" in told) == (
        "one run" not in text
    )


def test_sources_that_began_differently_do_not_contradict_each_other(content):
    plans = [make_child(0, 0), make_child(0, 1, "imagenet")]
    told = write(content, *plans)["Networks"]
    assert "from “HAM10000” started from the run of HAM10000 of the same seed, which b" in told
    assert "from “ImageNet → HAM10000” started from the run of HAM10000 of another seed" in told


@pytest.mark.parametrize(("n_steps", "n_left"), [(101, 36), (102, 0), (None, 0)])
def test_images_that_no_step_had_are_counted(content, n_steps, n_left):
    """6,500 images make 101 batches of 64 and 36 images more."""
    told = write(content, replace(make_plan(), steps_per_epoch=n_steps))
    assert "new view of every image" not in told["Augmentation"]
    assert ("An epoch had 101 steps: the last 36 images" in told["Training"]) == bool(n_left)


def test_an_epoch_is_divided_in_methods_as_in_training(content):
    """100 images in updates of 4 batches of 8 leave 4; 31 images are fewer than a batch."""
    plan = replace(make_plan(train__batch_size=8, train__accumulate=4), steps_per_epoch=3)
    plan = replace(plan, split_sizes={"train": {"mel": 60, "nv": 40}})
    last = "An epoch had 3 steps: the last 4 images of its random order, too few for a step,"
    assert last in write(content, plan)["Training"]
    balanced = replace(plan, settings=plan.settings | {"train.sampling": "balanced"})
    assert "An epoch had" not in write(content, balanced)["Training"]
    few = replace(make_plan(), split_sizes={"train": {"mel": 31}}, steps_per_epoch=1)
    assert "15 epochs with batches of 31 images" in write(content, few)["Training"]


def test_what_a_network_scores_that_has_learnt_nothing():
    plan = replace(make_plan(), split_sizes={"test": {"mel": 200, "nv": 600}})
    line = describe_guessing(plan)
    assert "guessing has a balanced accuracy of 50.0 %" in line
    assert "the commonest class (nv)" in line and "an accuracy of 75.0 %" in line
    assert describe_guessing(replace(plan, task="multi-label")) == ""
    folded = replace(plan, settings={"dataset.folds": 2}, split_sizes={"train": {"mel": 600}})
    folded = replace(folded, split_sizes={**folded.split_sizes, "test": {"mel": 1, "nv": 199}})
    assert "(mel)" in describe_guessing(folded) and "75.1 %" in describe_guessing(folded)


def test_units_are_listed_with_their_modules(content):
    units = (UnitRecord("stem", modules="conv1 bn1"), UnitRecord("stage1", modules="layer1"))
    told = write(content, replace(make_plan(), units=units))["Networks"]
    assert "2 units: stem (conv1, bn1) and stage1 (layer1)." in told


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("groups", "groups.csv", "by group of files, so that no group of files is in two parts"),
        ("group_regex", "^(P[0-9]+)", "by group of files, so that no group of files is"),
        ("group_column", "patient", "by patient, so that no patient is in two parts"),
        ("classes", "[a,b]", "divided image by image"),
    ],
)
def test_what_does_not_straddle_splits_is_named_however_groups_are_given(
    content, option, value, words
):
    settings = {"dataset__kind": "folder", f"dataset__options__{option}": value}
    plan = make_plan(dataset="slides", **settings)
    bare = replace(content, runs=pd.DataFrame({"state": "done", "plan": [plan]}))
    assert words in write(bare, plan)["Data"]


@pytest.mark.parametrize(
    ("settings", "is_official"),
    [
        ({"kind": "table"}, False),
        ({"kind": "table", "options__split_column": None}, False),
        ({"kind": "table", "options__split_column": "part"}, True),
        ({"kind": "table", "options__split_column": "part", "split": "grouped"}, False),
        ({"kind": "table", "options__split_column": "part", "folds": 5}, False),
        ({"kind": "medmnist"}, True),
        ({"kind": "folder", "options__splits": {}}, False),
        ({"kind": "folder", "options__splits": {"train": "a", "test": "b"}}, True),
        ({"kind": "folder", "options__splits": None}, None),
    ],
)
def test_only_the_split_that_a_run_had_is_described(content, settings, is_official):
    words = {f"dataset__{key}": value for key, value in settings.items()}
    words["dataset__options__group_column"] = "patient"
    plan = make_plan(dataset="skin", **words)
    said = write(content, plan)["Data"]
    assert ("skin was used with its official split." in said) == (is_official is True)
    assert ("skin was divided by patient, so that no patient" in said) == (is_official is False)
    unknown = "The record does not say whether skin was used with an official split. Without one, "
    assert (f"{unknown}it was divided by patient" in said) == (is_official is None)
    assert said.count("split.") <= 1 and "; without one" not in said


def test_only_what_is_used_is_cited_and_explained(content):
    bare = replace(
        content,
        runs=pd.DataFrame({"state": "done", "plan": [make_plan(dataset__kind="x")]}),
        comparisons=content.comparisons[:0],
        layers=(),
        calibration=pd.DataFrame(),
        metrics=(),
    )
    told, words = write(bare, make_plan(dataset__kind="x")), dict(make_glossary(bare))
    for name in ("Tschandl", "Holm S", "Yosinski", "Saerens", "Nadeau"):
        assert name not in told["References"]
    assert "Loshchilov" in told["References"] and "Layers" not in told
    assert not words.keys() & {
        "general",
        "δ",
        "AnB",
        "ECE",
        "NLL",
        "macro AUROC",
        "balanced accuracy",
    }
    full, words = write(content, make_plan()), dict(make_glossary(content))
    assert "Holm S." in full["References"] and "Yosinski J" in full["References"]
    assert {"general", "δ", "n", "AnB", "BnB", "ImageNet", "epoch", "family"} <= words.keys()


def test_what_is_often_misread_is_explained_as_it_is(content):
    words = dict(make_glossary(content))
    assert "not mean “equal”" in words["inconclusive"]
    assert "shown to be smaller" in words["equivalent"]
    assert "in either direction" in words["equivalent"]
    assert "many such intervals, each from a study of its own" in words["interval"]
    assert "random start" in words["seed"]


def test_every_work_of_the_list_is_cited_in_the_text():
    """By its first author and its year."""
    folder = Path(tlcnn.report.__file__).parent
    texts = [p.read_text() for p in folder.glob("*.py") if p.name != "references.py"]
    text = re.sub(r'"\s*f?"', "", " ".join(texts))
    for work, _ in WORKS:
        author, year = work.split()[0], re.findall(r"\b(?:19|20)\d\d\b", work.split("arXiv:")[0])
        citation = rf"{author}[^;]{{0,30}}?\(?{year[-1] if year else work[-5:-1]}"
        assert re.search(citation, text), work


def test_the_margin_and_intervals_too_wide_for_it_are_stated_once(content):
    frame = content.comparisons.assign(margin=0.02)
    for half, is_wide in ((0.03, True), (0.01, False)):
        wide = frame.assign(low=frame["delta"] - half, high=frame["delta"] + half)
        lines = list(describe_margin(replace(content, comparisons=wide)))
        assert lines[0] == "The margin of equivalence was 2.0 points, in either direction."
        assert (len(lines) > 1) == is_wide
        assert all("the narrowest reaches 3.0 points" in line for line in lines[1:])


def test_the_first_sentence_says_what_the_results_are_about(content):
    plans = [replace(make_plan(s, dataset__split_seed=0), epochs=15) for s in range(2)]
    lead = write_lead(replace(content, runs=pd.DataFrame({"state": "done", "plan": plans})))
    first = lead.split(". ")[0]
    for text in ("resnet18", "images of 128 pixels", "15 epochs", "seeds a cell", "one split"):
        assert text in first
    assert "A research report: no result here is for clinical use." in lead
    folded = [replace(plans[0], settings={**plans[0].settings, "dataset.folds": 5})]
    lead = write_lead(replace(content, runs=pd.DataFrame({"state": "done", "plan": folded})))
    assert "one split" not in lead
