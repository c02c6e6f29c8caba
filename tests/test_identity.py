"""A key that is added to the schema renames no run while it has its default."""

from dataclasses import asdict, fields, make_dataclass, replace

import pytest
from runs import tiny_config

from tlcnn.config.schema import Config, list_keys
from tlcnn.plan.chain import load_run_config
from tlcnn.plan.identity import FIRST_KEYS
from tlcnn.plan.plan import make_plan
from tlcnn.records.folder import RunDir

NODES = ["", "dataset", "model", "init", "freeze", "train"]
SELF = ["init=self", "init.through=2", "freeze.through=1"]
TASK = ["init=task", "init.task=synthetic_source", "init.parent=random"]
TASK += [f"++init.task_dataset.options.{word}" for word in ("n_images=140", "size=32")]


def add_key(cfg: Config, node: str, value: float) -> Config:
    """The configuration as a schema with one key more would have it."""
    before = getattr(cfg, node) if node else cfg
    later = make_dataclass("Later", [("later_key", float, 0.0)], bases=(type(before),))
    values = {item.name: getattr(before, item.name) for item in fields(before)}
    after = later(**values, later_key=value)
    return replace(cfg, **{node: after}) if node else after


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("words", [[], SELF, TASK], ids=["random", "self", "task"])
def test_a_later_key_renames_no_run_while_it_has_its_default(tmp_path, cache_dir, node, words):
    cfg = tiny_config(tmp_path, cache_dir, *words)
    plan, later = make_plan(cfg), make_plan(add_key(cfg, node, 0.0))
    assert later.run_dir == plan.run_dir
    assert later.cell_id == plan.cell_id
    assert later.identity == plan.identity
    assert [a.record.run_id for a in later.ancestry] == [a.record.run_id for a in plan.ancestry]


@pytest.mark.parametrize("node", NODES)
def test_a_later_key_with_another_value_is_another_run(tmp_path, cache_dir, node):
    cfg = tiny_config(tmp_path, cache_dir)
    plan, later = make_plan(cfg), make_plan(add_key(cfg, node, 0.5))
    assert later.run_id != plan.run_id and later.cell_id != plan.cell_id
    held = later.identity[node] if node else later.identity
    assert held["later_key"] == 0.5


def test_the_first_keys_are_keys_of_the_schema():
    assert set(list_keys("identity")) >= FIRST_KEYS


def test_an_unfinished_run_is_trained_in_the_place_of_the_command(tmp_path, cache_dir):
    """The folder of runs is where the run lies; every other place is the command's."""
    run_dir = tmp_path / "there" / "runs" / "x-0123456789ab"
    run_dir.mkdir(parents=True)
    begun = tiny_config(tmp_path / "there", cache_dir, "seed=3", "fail_fast=true")
    RunDir(run_dir).write_config(asdict(begun))
    places = {
        "device": "cuda",
        "threads": 7,
        "workers": 5,
        "eval_batch_size": 9,
        "cuda_graph": False,
        "cache_dir": "c",
        "checkpoint_every_s": 1.0,
        "on_locked": "fail",
        "progress": False,
        "logger": "tensorboard",
        "reuse": "none",
        "reuse_disk_gib": 0.5,
        "reuse_memory_gib": 0.25,
    }
    top = [key for key in list_keys("place") if "." not in key]
    assert {*places, "output_dir", "until_epoch"} == set(top)
    command = tiny_config(tmp_path, cache_dir, "seed=8", "train.lr=0.5", "until_epoch=1")
    command = replace(command, **places)
    loaded = load_run_config(run_dir, command)
    assert {key: getattr(loaded, key) for key in places} == places
    assert loaded.output_dir == str(tmp_path / "there")
    assert loaded.until_epoch is None  # a source is trained to its end
    assert (loaded.seed, loaded.train) == (3, begun.train)
