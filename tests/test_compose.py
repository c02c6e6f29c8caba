"""Our composer reads files once for many command lines; it must mean what Hydra means."""

import random

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from tlcnn.config.compose import (
    Composer,
    compose_config,
    make_hydra_options,
    register_schema,
    write_override,
)
from tlcnn.config.schema import check_config, find_conf_dir
from tlcnn.config.spelling import list_flags
from tlcnn.errors import ConfigError

VALUES = {
    "dataset.image_size": [24, 32, 48],
    "dataset.name": ["mine", "'it is mine'", "${model.name}"],
    "dataset.root": ["null", "some/where", '"a, b"'],
    "dataset.folds": ["null", 3],
    "dataset.split_seed": [0, 7],
    "model.name": ["resnet34", "convnext_tiny.in12k"],
    "model.drop_rate": [0.1, "1e-3"],
    "init.through": ["all", "none", 2, "layer2.0"],
    "init.weights": ["null", "file.pt"],
    "freeze.through": ["stage1", 3],
    "freeze.allow_random": ["true", "no"],
    "train.epochs": [2, 40],
    "train.lr": ["1e-2", 3],
    "train.clip_norm": ["null", 2],
    "++init.task_dataset.root": ["/data", "null"],
    "++init.task_dataset.options.n_images": [7],
    "++init.task_run.init.through": [2, "stem"],
    "+init.task_dataset": ["{fold: 1, options: {size: 3}}"],
    "seed": [0, 3],
    "device": ["cpu"],
    "output_dir": ["out", "${seed}"],
    "study": ["null", "mine"],
    "hydra.job.name": ["x"],
}
GROUPS = ("dataset", "model", "init", "freeze", "train")


def ask_hydra(words):
    """The configuration of a command line, read by Hydra alone."""
    register_schema()
    with initialize_config_dir(str(find_conf_dir()), **make_hydra_options()):
        return OmegaConf.to_object(compose("config", list(words)))


def outcome(call, words):
    try:
        return call(words)
    except Exception as error:
        return type(error), str(error)


def draw_words(rng, options):
    groups = rng.sample(GROUPS, rng.randint(0, 3))
    words = [f"{group}={rng.choice(options[group])}" for group in groups]
    keys = rng.choices(list(VALUES), k=rng.randint(0, 6))  # some twice: the last one holds
    words += [f"{key}={rng.choice(VALUES[key])}" for key in keys]
    rng.shuffle(words)
    return words


@pytest.fixture(scope="module")
def composer():
    return Composer()


def test_forty_command_lines_mean_what_hydra_means(composer):
    rng = random.Random(0)
    options = {group: composer.list_options(group) for group in GROUPS}
    assert all(options.values()) and "ham10000" in options["dataset"]
    for _ in range(40):
        words = draw_words(rng, options)
        assert outcome(composer.compose, words) == outcome(ask_hydra, words), words


def test_values_are_laid_over_a_copy(composer):
    composer.compose(["train.lr=0.5", "++init.task_dataset.root=/a", "++dataset.options={a: 1}"])
    again = composer.compose([])
    assert again == ask_hydra([]) and again.init.task_dataset == {}
    again.dataset.options["mine"] = 1
    assert "mine" not in composer.compose([]).dataset.options


def test_files_are_read_once_for_equal_choices(monkeypatch):
    composer, read = Composer(), []
    real = composer._compose_files
    monkeypatch.setattr(composer, "_compose_files", lambda c: read.append(c) or real(c))
    for seed in range(5):
        for source in ("random", "imagenet"):
            composer.compose([f"init={source}", f"seed={seed}", "dataset.image_size=64"])
    assert read == [("init=random",), ("init=imagenet",)]


def test_a_key_that_is_added_to_a_mapping_needs_no_file(monkeypatch):
    composer = Composer()
    composer.compose(["seed=1"])
    monkeypatch.setattr(composer, "_compose_files", None)
    words = ["++init.task_run.init.through=2", "++init.task_dataset.root=/a", "seed=2"]
    assert composer.compose(words).init.task_run == {"init": {"through": 2}}


@pytest.mark.parametrize("size", [32, 96])
def test_what_refers_to_another_key_follows_it(composer, size):
    cfg = composer.compose(["dataset=synthetic", f"dataset.image_size={size}"])
    assert cfg.dataset.options["size"] == size
    medmnist = composer.compose(["dataset=dermamnist", f"cache_dir=/c{size}"])
    assert medmnist.dataset.options["cache_dir"] == f"/c{size}"


def test_the_last_of_a_repeated_key_holds(composer):
    words = ["seed=1", "model=resnet34", "seed=2", "model.name=a", "model=resnet50"]
    cfg = composer.compose(words)
    assert (cfg.seed, cfg.model.name) == (2, "a")
    assert cfg == ask_hydra(words)


BAD = [
    ["seed=abc"],
    ["dataset=nope"],
    ["dataset="],
    ["train.lr=null"],
    ["nokey=3"],
    ["dataset.nokey=1"],
    ["init.task_dataset.root=/a"],  # only with ++
    ["+seed=3"],
    ["~seed", "seed=1"],
    ["seed=1,2"],
    ["init.through=1,2"],
    ["dataset=synthetic,ham10000"],
    ["train.epochs"],
    ["train=[1"],
    ["freeze.allow_random=perhaps"],
    ["dataset.root=${nowhere}"],
]


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_errors_are_in_hydras_words(composer, words):
    ours, theirs = outcome(composer.compose, words), outcome(ask_hydra, words)
    assert isinstance(theirs, tuple), "Hydra takes it"
    assert ours == theirs


def test_the_programs_own_hydra_is_left_as_it_was(composer):
    with initialize_config_dir(str(find_conf_dir()), **make_hydra_options()):
        ours = GlobalHydra.instance().hydra
        composer.compose(["model=resnet34", "train=quick"])
        assert GlobalHydra.instance().hydra is ours
        with pytest.raises(Exception, match="nowhere"):
            composer.compose(["dataset=nowhere"])
        assert GlobalHydra.instance().hydra is ours
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize("name", ["mine", "it's [mine], (really) = 1"])
def test_a_users_own_folder(tmp_path, name):
    folder = tmp_path / name / "dataset"
    folder.mkdir(parents=True)
    own = yaml.safe_load((find_conf_dir() / "dataset/folder.yaml").read_text())
    (folder / "own.yaml").write_text(yaml.safe_dump({**own, "name": "own", "image_size": 77}))
    with pytest.raises(Exception, match="own"):
        Composer().compose(["dataset=own"])
    composer = Composer(list_flags(["-m", "--config-dir", str(folder.parent), "seed=0,1"]))
    for seed in (3, 4):
        cfg = composer.compose(["dataset=own", f"seed={seed}"])
        assert (cfg.dataset.name, cfg.dataset.image_size, cfg.seed) == ("own", 77, seed)
    assert composer.compose(["dataset=synthetic"]) == compose_config(["dataset=synthetic"])
    assert {"own", "ham10000"} <= set(composer.list_options("dataset"))


def test_flags_are_found_however_they_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["-cd", "a"], ["--config-dir", "a"], ["--config-dir=a"], ["-cd=a"]):
        assert list_flags(["-m", *words, "seed=0,1"]) == [f"--config-dir={tmp_path / 'a'}"]
    assert list_flags(["-m", "seed=0,1", "dataset.root=-cd"]) == []


@pytest.mark.parametrize(
    "value", ["plain", "it's", "a, b", "[x]", "{y: 1}", "", "1", "null", "ü "]
)
def test_a_text_that_is_written_down_is_read_back(composer, value):
    assert composer.compose([write_override("study", value)]).study == value


@pytest.mark.parametrize("value", [None, 3])
def test_a_number_or_nothing_is_read_back(composer, value):
    assert composer.compose([write_override("threads", value)]).threads == value


def test_a_dataset_file_has_to_say_kind_and_name(tmp_path):
    """Without them the images would be recorded under the name of another dataset."""
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("root: elsewhere\n")
    cfg = Composer([f"--config-dir={tmp_path}"]).compose(["dataset=mine"])
    with pytest.raises(ConfigError, match=r"dataset\.kind and dataset\.name must be set"):
        check_config(cfg)
