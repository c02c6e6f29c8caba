"""Every YAML composes, every default agrees with the schema, and every wrong word is refused."""

import shlex
from dataclasses import asdict
from operator import attrgetter

import hypothesis
import hypothesis.strategies as st
import pandas as pd
import pytest
from hydra.errors import ConfigCompositionException
from hypothesis import given

from tlcnn.config.compose import Composer, compose_config
from tlcnn.config.overrides import check_overrides
from tlcnn.config.schema import (
    Config,
    TrainCfg,
    check_config,
    find_conf_dir,
    iterate_fields,
    list_cell_columns,
    list_keys,
)
from tlcnn.config.spelling import (
    GROUPS,
    spell,
    write_command,
    write_override,
    write_shell_word,
)
from tlcnn.data.datasets import DATASETS, check_options
from tlcnn.errors import ConfigError
from tlcnn.model.published import PUBLISHED
from tlcnn.records.settings import CELL, spread_settings

CONF = find_conf_dir()
OPTIONS = sorted(
    f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml") if path.stem != "config"
)


NEEDED = {  # options that do not say everything
    "init=checkpoint": ["init.weights=FILE"],
    "init=run": ["init.run=ID"],
    "init=task": ["init.task=NAME"],
}


def test_there_are_as_many_options_as_files():
    assert len(OPTIONS) == len(list(CONF.rglob("*.yaml"))) - 1 > 35
    assert {option.split("=")[0] for option in OPTIONS} <= set(GROUPS)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_is_allowed(option):
    config = compose_config([option, *NEEDED.get(option, [])])
    check_config(config)
    assert config.dataset.kind in DATASETS
    if config.dataset.options.get("csv", "") is not None:
        check_options(config.dataset.kind, config.dataset.options)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_name_of_published_weights_is_an_option(name):
    assert compose_config([f"init={name}"]).init.weights == name


def test_the_default_recipe_is_what_the_schema_says():
    assert asdict(compose_config().train) == asdict(TrainCfg())
    fresh = asdict(Config())
    composed = asdict(compose_config())
    for key in ("model", "freeze", "seed", "device", "threads", "eval_batch_size", "on_locked"):
        assert composed[key] == fresh[key]


def test_a_key_that_no_schema_declares_is_refused_in_a_file(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.yaml").write_text("epochs: 3\nepoch: 4\n")
    with pytest.raises(ConfigCompositionException):
        compose_config([f"hydra.searchpath=[file://{tmp_path}]", "train=mine"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.optimizer=adam"], "train.optimizer=adam is not allowed. Did you mean 'adamw'"),
        (["freeze.bn=frozn"], "Did you mean 'frozen'?\nAllowed: frozen, affine, adapt, batch"),
        (["train.epochs=0"], "train.epochs=0 is not allowed: it must be from 1"),
        (["train.clip_norm=0"], "train.clip_norm=0.0 is not allowed: it must be above 0."),
        (
            ["train.warmup_epochs=20"],
            "is longer than train.epochs=15. Write train.warmup_epochs=7.5",
        ),
        (["dataset.fold=3"], "dataset.fold=3 needs dataset.folds"),
        (["dataset.folds=3", "dataset.fold=3"], "3 folds are 0 to 2"),
        (["dataset.val_fraction=0.5", "dataset.test_fraction=0.5"], "nothing to train on"),
        (["dataset.name=../evil"], "names folders"),
        (["init.weights=x.pt"], "Use init=checkpoint, or init=imagenet"),
        (["dataset.val_fraction=0.9"], "it must be from 0.01 to 0.5"),
        (["train.lr=-1"], "train.lr=-1.0 is not allowed: it must be above 0"),
        (["seed=-1"], "it must be from 0 to 2147483647"),
    ],
)
def test_wrong_values_name_the_key_and_what_is_allowed(overrides, message):
    with pytest.raises(ConfigError) as error:
        check_config(compose_config(overrides))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("freeze=2", "For any other value write freeze.through=2."),
        ("freeze=blocks.4", "For any other value write freeze.through=blocks.4."),
        ("freeze=layr3", "Did you mean 'layer3'?\nOptions of freeze: all, layer1"),
        ("frezee=layer3", "there is no key 'frezee'. Did you mean 'freeze'?"),
        ("model=resnet19", "Did you mean 'resnet18'?"),
        ("sead=1", "there is no key 'sead'. Did you mean 'seed'?"),
        ("+sead=1", "there is no key 'sead'"),
        ("lr=0.1", "there is no key 'lr'. Did you mean 'train.lr'?"),
        ("train.bacth_size=3", "Did you mean 'train.batch_size'?"),
        ("init.source.x=1", "there is no key 'init.source.x'"),
        ("seed=[", "cannot read 'seed=['"),
        ("train.learning_rate=1", "Did you mean 'train.lr'?"),
        ("seed=0..4", "write -m 'seed=range(5)'"),
        ("train.epochs=3-5", "write -m 'train.epochs=range(3,6)'"),
        ("init=pretrained", "Did you mean 'imagenet'?"),
        ("model=resnet101", "write model.name=resnet101."),
        ("model=efficientnet_b3", "write model.name=efficientnet_b3."),
        ("dataset=/data/x", "write dataset=folder dataset.root=/data/x\n"),
        ("dataset=~/my x", "write dataset=folder 'dataset.root=~/my x'\n"),
        ("dataset=a/l.csv", "dataset=table dataset.root=a dataset.options.csv=l.csv\n"),
        ("epochs=5", "Did you mean 'train.epochs'?"),
        ("train.scheduler=cosine", "falls along a cosine to train.final_lr_fraction"),
        ("pretrained=true", "Did you mean init=imagenet?"),
        ("model.pretrained=False", "Did you mean init=random?"),
        ("model=resnet101", "is not an option. For any other value write model.name=resnet101."),
        ("epochs", "sets nothing: write train.epochs=VALUE"),
        ("train.batch=5", "Did you mean 'train.batch_size'?"),
        ("--lr=1e-3", "write train.lr=1e-3, without dashes"),
        ("dataset.root=/a/caf\udce9", r"/a/caf\xe9' is not UTF-8"),
        ("init.weights=a,b.pt", "Or is it one text? Write \"init.weights='a,b.pt'\"."),
        ("dataset.options.exclude=a,b", "Or is it one text?"),
        ("freeze", "sets nothing: write freeze=VALUE"),
        ("show", "sets nothing: write KEY=VALUE, e.g. freeze=layer3 (`tlcnn --help` lists"),
        ("dataset=foo", "write dataset=folder (or dataset=table) dataset.name=foo dataset.root="),
        ("init=foo.pt", "a file is init=checkpoint init.weights=foo.pt"),
        ("--freeze=layer3", "write freeze=layer3, without dashes"),
        ("freeze=layer3,layer4", "add -m to run all of them"),
        ("dataset.options.mising=drop", "Did you mean 'missing'?\nIts options: missing"),
    ],
)
def test_wrong_arguments_are_refused_before_hydra(argument, message):
    with pytest.raises(ConfigError) as error:
        check_overrides([argument], CONF)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) < 25


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        *(("init.checkpoint", "init.weights"), ("init.file", "init.weights")),
        *(("train.learning_rate", "train.lr"), ("train.optim", "train.optimizer")),
        *(("model.arch", "model.name"), ("train.epoch", "train.epochs")),
        *(("dataset.path", "dataset.root"), ("dataset.size", "dataset.image_size")),
        *(("freeze.until", "freeze.through"), ("init.until", "init.through")),
        *(("dataset.seed", "dataset.split_seed"), ("dataset.test_size", "dataset.test_fraction")),
        *(("dataset.csv", "dataset.options.csv"), ("dataset.holdout", "dataset.hold_out")),
        ("train.dropout", None),  # nothing is near
    ],
)
def test_a_wrong_key_is_answered_with_the_one_that_is_meant(key, meant):
    with pytest.raises(ConfigError) as error:
        check_overrides(["dataset=table", f"{key}=1"], CONF)
    hint = f" Did you mean '{meant}'?" if meant else ""
    assert str(error.value).splitlines()[0] == f"there is no key '{key}'.{hint}"


TYPED = [
    *("~/data", "my images (2)", "epoch=03-val_loss=0.31.ckpt", "Größe", "{image}", "a{b}.png"),
    *(r"^(patient\d+)_", "[A-Z]+_(.*)", "(a|b)", r"C:\data\x", "it's", 'a"b', "a#b", "a & b"),
    *("true", "123e45678901", "012345678901", "[ab]", r"a\' b"),
]


@pytest.mark.parametrize("text", TYPED)
@pytest.mark.parametrize("key", ["dataset.root", "init.weights"])
def test_a_text_means_what_was_typed(key, text):
    config = compose_config([f"{key}={text}"])
    assert attrgetter(key)(config) == text


@pytest.mark.parametrize("text", TYPED[:14])
def test_options_and_new_keys_mean_what_was_typed(text):
    config = compose_config(["dataset=folder", f"dataset.options.group_regex={text}"])
    assert config.dataset.options["group_regex"] == text
    config = compose_config(["init=ham10000", f"init.task_dataset.root={text}"])
    assert config.init.task_dataset["root"] == text


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1).filter(str.strip))
def test_any_text_survives_as_an_override(text):
    hypothesis.assume("${" not in text)  # OmegaConf's interpolation
    composer = Composer()
    assert composer.parse(write_override("dataset.root", text)).value() == text


READ_AS_MORE = ("null", "true", "12", " a", "a ")  # by Hydra, without quotes


def test_a_word_that_is_printed_for_a_shell_means_its_text():
    composer = Composer()
    for text in (*TYPED[:14], "site:A", "a, b.csv", "x{1}.csv", "$HOME", "[ab]", *READ_AS_MORE):
        keys = ("dataset.root", "dataset.options.groups")
        words = [shlex.split(write_shell_word(key, text)) for key in keys]
        assert [len(each) for each in words] == [1, 1]
        cfg = composer.compose(spell(["dataset=folder", *(w for (w,) in words)])).dataset
        assert cfg.root == cfg.options["groups"] == text


def test_words_are_quoted_for_a_shell_only_where_it_needs_that():
    words = ["dataset.hold_out=site:A", "a=b c", "x='it (1)'", "splits={train: a}", "x='$y'"]
    line = "dataset.hold_out=site:A 'a=b c' \"x='it (1)'\" \"splits={train: a}\""
    assert write_command(words[:4]) == line
    assert shlex.split(write_command(words)) == words


def test_values_of_a_sweep_are_quoted_one_by_one():
    words = spell(["-m", "init.weights=~/a (1).pt,null,b=2.pt"])
    assert words == ["-m", "init.weights='~/a (1).pt',null,'b=2.pt'"]


def test_flags_may_stand_anywhere():
    words = ["experiment=mine", "--config-dir", "/x", "train.epochs=1", "-m", "--config-name=c"]
    assert spell(words) == [
        *("--config-dir", "/x", "-m", "--config-name=c", "experiment=mine", "train.epochs=1")
    ]


def test_a_gpu_is_called_cuda():
    with pytest.raises(ConfigError, match="device=gpu is not allowed. Did you mean 'cuda'"):
        check_config(compose_config(["device=gpu"]))


@pytest.mark.parametrize("device", ["gpu:1", "cuda:1", "cuda1", "1"])
def test_the_number_of_a_gpu_is_set_by_cuda(device):
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=1 in front.* device=cuda in it"):
        check_config(compose_config([f"device={device}"]))


@pytest.mark.parametrize(
    "argument",
    ["freeze=layer3", "freeze=none,layer1", "seed=range(5)", "hydra.verbose=true", "~experiment"]
    + ["dataset.options.n_images=10", "init.through=none,stem"],
)
def test_right_arguments_pass(argument):
    check_overrides(["-m", "dataset=synthetic", argument], CONF)


def test_every_value_of_a_sweep_is_looked_at():
    with pytest.raises(ConfigError, match="freeze=layr2 is not an option"):
        check_overrides(["-m", "freeze=layer1,layr2"], CONF)


def test_options_from_folders_of_ones_own_are_known(tmp_path):
    (tmp_path / "freeze").mkdir()
    (tmp_path / "freeze" / "mine.yaml").write_text("through: stem\n")
    check_overrides([f"--config-dir={tmp_path}", "freeze=mine"], CONF)
    with pytest.raises(ConfigError, match="freeze=mime is not an option. Did you mean 'mine'"):
        check_overrides(["-cd", str(tmp_path), "freeze=mime"], CONF)
    check_overrides([f"hydra.searchpath=[file://{tmp_path}]", "freeze=elsewhere"], CONF)


def test_a_default_of_every_key_exists():
    assert "train.views" in list_keys() and "seed" in list_keys()


def test_every_field_says_what_it_is_part_of():
    parts = {key: item.metadata["part"] for key, item in iterate_fields(Config)}
    assert set(parts.values()) == {"identity", "place", "protocol"}
    listed = [*list_keys("identity"), *list_keys("place"), *list_keys("protocol")]
    assert sorted(listed) == sorted(list_keys()) == sorted(parts)


def test_the_columns_of_a_cell_are_resolved_keys():
    assert (
        tuple(list_cell_columns().values()) == CELL == ("dataset", "model", "init", "k", "j", "bn")
    )


def test_settings_that_make_no_other_run_tell_no_runs_apart():
    runs = pd.DataFrame([dict.fromkeys(CELL, "x") | {"settings": {}} for _ in range(2)])
    for key in list_keys():
        runs["settings"] = [{key: "a"}, {key: "b"}]
        is_told = key in list_keys("identity") and key not in list_cell_columns()
        assert spread_settings(runs)[1] == [key] * is_told
