"""A key that is added to the schema renames no run while it has its default."""

from dataclasses import fields, make_dataclass, replace

import pytest
from runs import tiny_config

from tlcnn.config.schema import Config, list_keys
from tlcnn.plan.identity import FIRST_KEYS
from tlcnn.plan.plan import make_plan

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
    assert [a.run_id for a in later.ancestry] == [a.run_id for a in plan.ancestry]


@pytest.mark.parametrize("node", NODES)
def test_a_later_key_with_another_value_is_another_run(tmp_path, cache_dir, node):
    cfg = tiny_config(tmp_path, cache_dir)
    plan, later = make_plan(cfg), make_plan(add_key(cfg, node, 0.5))
    assert later.run_id != plan.run_id and later.cell_id != plan.cell_id
    held = later.identity[node] if node else later.identity
    assert held["later_key"] == 0.5


def test_the_first_keys_are_keys_of_the_schema():
    assert set(list_keys("identity")) >= FIRST_KEYS
