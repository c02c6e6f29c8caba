"""Blocks of a study and words of a command line, multiplied out."""

import pytest

from tlcnn.config.compose import Composer
from tlcnn.errors import ConfigError
from tlcnn.sweep.blocks import expand, write_word


@pytest.fixture(scope="module")
def parse():
    return Composer().parse


@pytest.fixture
def cells(parse):
    def make(*arguments, params=None, blocks=()):
        return expand(arguments, params=params or {}, blocks=blocks, parse=parse)

    return make


def test_the_last_word_varies_fastest(cells):
    assert cells("init=random,imagenet", "seed=0,1") == [
        ("init=random", "seed=0"),
        ("init=random", "seed=1"),
        ("init=imagenet", "seed=0"),
        ("init=imagenet", "seed=1"),
    ]


def test_nothing_to_multiply_is_one_cell(cells):
    assert cells() == [()]
    assert cells("seed=3") == [("seed=3",)]


def test_every_block_meets_the_params_and_the_command_line(cells):
    blocks = [{"init": "random"}, {"init": "imagenet", "freeze.through": ["none", "stem"]}]
    found = cells("train.lr=0.1", params={"seed": "range(2)"}, blocks=blocks)
    assert found == [
        ("seed=0", "init=random", "train.lr=0.1"),
        ("seed=1", "init=random", "train.lr=0.1"),
        ("seed=0", "init=imagenet", "freeze.through=none", "train.lr=0.1"),
        ("seed=0", "init=imagenet", "freeze.through=stem", "train.lr=0.1"),
        ("seed=1", "init=imagenet", "freeze.through=none", "train.lr=0.1"),
        ("seed=1", "init=imagenet", "freeze.through=stem", "train.lr=0.1"),
    ]


def test_a_block_says_it_better_than_the_params(cells):
    found = cells(params={"seed": [0, 1]}, blocks=[{"seed": 7}, {"init": "random"}])
    assert found == [("seed=7",), ("seed=0", "init=random"), ("seed=1", "init=random")]


@pytest.mark.parametrize("word", ["seed=5", "++seed=5"])
def test_the_command_line_replaces_what_params_and_blocks_say(cells, word):
    blocks = [{"seed": [0, 1], "init": "random"}, {"init": "imagenet"}]
    found = cells(word, params={"seed": "range(9)"}, blocks=blocks)
    assert found == [("init=random", word), ("init=imagenet", word)]


def test_a_key_of_a_block_may_be_written_as_a_new_one(cells):
    block = {"++init.task_dataset.root": ["/a", "/b"]}
    assert len(cells(blocks=[block])) == 2
    assert len(cells("++init.task_dataset.root=/c", blocks=[block])) == 1


@pytest.mark.parametrize("values", [[0, 1, 2], "0,1,2", "range(3)", "range(0,3)", "choice(0,1,2)"])
def test_a_list_has_many_spellings(cells, values):
    assert cells(blocks=[{"seed": values}]) == [("seed=0",), ("seed=1",), ("seed=2",)]
    if isinstance(values, str):
        assert cells(f"seed={values}") == [("seed=0",), ("seed=1",), ("seed=2",)]


def test_null_and_truth_are_what_yaml_says(cells):
    block = {"train.views": [None, 4], "freeze.allow_random": True}
    assert cells(blocks=[block]) == [
        ("train.views=null", "freeze.allow_random=true"),
        ("train.views=4", "freeze.allow_random=true"),
    ]
    config = Composer().compose(cells(blocks=[block])[0])
    assert config.train.views is None and config.freeze.allow_random is True


def test_floats_and_texts_arrive_as_they_were(cells):
    found = [Composer().compose(cell) for cell in cells(blocks=[{"train.lr": [1e-05, 0.1]}])]
    assert [config.train.lr for config in found] == [1e-05, 0.1]


@pytest.mark.parametrize("value", ["/my data/ham, skin", "a=b,c", "it's", 'say "so"', "(x)", "[a"])
def test_a_path_of_any_letters_is_one_value(cells, value):
    found = cells(blocks=[{"output_dir": [value, "/b"]}])
    assert [Composer().compose(cell).output_dir for cell in found] == [value, "/b"]


def test_an_interval_is_no_list_of_values(cells):
    with pytest.raises(
        ConfigError, match=r"train.lr=interval\(0,1\) is not a list of values.*0.1"
    ):
        cells("train.lr=interval(0,1)")


def test_a_value_is_written_as_on_the_command_line():
    assert write_word("seed", [0, 1]) == "seed=0,1"
    assert write_word("init", "random") == "init=random"
    assert write_word("train.compile", [True, False]) == "train.compile=true,false"
