"""Studies of every boundary, whatever the model: `each` and `transferred`."""

from dataclasses import replace

import pytest
import yaml
from runs import tiny_config

from tlcnn.config.compose import Composer
from tlcnn.config.overrides import check_overrides
from tlcnn.config.schema import find_conf_dir
from tlcnn.errors import ConfigError
from tlcnn.model.load_units import load_unit_map
from tlcnn.plan.plan import make_plan
from tlcnn.plan.treatment import make_treatment
from tlcnn.sweep.blocks import expand, expand_each

MODELS = ["mobilenetv2", "mobilenetv3_large", "mobilenetv4_small", "efficientnet_b0"]
MODELS += ["efficientnetv2_t", "vgg16_bn", "resnet18"]


def cells_of(experiment, *words):
    """The cells of an experiment: the source, k and j of each, and the model's number of units."""
    text = (find_conf_dir() / "experiment" / f"{experiment}.yaml").read_text()
    sweeper = yaml.safe_load(text)["hydra"]["sweeper"]
    composer = Composer()
    blocks, params = sweeper.get("blocks", []), sweeper["params"]
    words = [f"experiment={experiment}", *words]
    cells = expand(words, params=params, blocks=blocks, parse=composer.parse)
    return [composer.compose(cell) for cell in expand_each(cells, composer)]


def place(cfg, unit_map):
    try:
        cell, _ = make_treatment(cfg, unit_map)
        return (cfg.init.source, cell.k, cell.j)
    except ConfigError:
        return None  # it freezes more than it transfers


@pytest.mark.parametrize("model", MODELS)
def test_a_grid_reaches_the_top_unit_of_every_model(model, cache_dir):
    configs = cells_of("grid", f"model={model}", "seed=0", f"cache_dir={cache_dir}")
    unit_map = load_unit_map(configs[0].model.name, cache_dir=cache_dir)
    n_units = len(unit_map)
    found = {(k, j) for _, k, j in filter(None, [place(cfg, unit_map) for cfg in configs])}
    assert found == {(k, j) for k in range(n_units + 1) for j in range(k + 1)}


@pytest.mark.parametrize("model", MODELS)
def test_the_layer_study_reaches_the_top_unit_of_every_model(model, cache_dir):
    configs = cells_of("yosinski", f"model={model}", "seed=0", f"cache_dir={cache_dir}")
    unit_map = load_unit_map(configs[0].model.name, cache_dir=cache_dir)
    units = range(1, len(unit_map) + 1)
    found = {place(cfg, unit_map) for cfg in configs}
    expected = {("random", 0, 0), *(("random", 0, n) for n in units)}
    expected |= {(init, n, j) for init in ("imagenet", "self") for n in units for j in (0, n)}
    assert found == expected


def test_each_is_every_unit_at_any_granularity(cache_dir):
    composer = Composer()
    words = ("model=resnet18", "model.granularity=block", f"cache_dir={cache_dir}")
    cells = expand_each([(*words, "init.through=each", "seed=0")], composer)
    unit_map = load_unit_map("resnet18", granularity="block", cache_dir=cache_dir)
    assert len(cells) == len(unit_map) > 5
    throughs = [composer.compose(cell).init.through for cell in cells]
    assert [unit_map.count(through) for through in throughs] == [*range(1, len(unit_map) + 1)]
    assert expand_each([words], composer) == [words]


def test_each_needs_a_sweep(tmp_path, cache_dir):
    with pytest.raises(ConfigError, match="init.through=each is several values: add -m"):
        check_overrides(["init=imagenet", "init.through=each"], find_conf_dir())
    check_overrides(["-m", "init=imagenet", "init.through=none,each"], find_conf_dir())
    with pytest.raises(ConfigError, match="each stands for every unit"):
        cfg = tiny_config(tmp_path, cache_dir)
        make_plan(replace(cfg, freeze=replace(cfg.freeze, through="each")))


def test_as_many_units_are_frozen_as_are_transferred(tmp_path, cache_dir):
    words = ["init=self", "init.through=stage2"]
    plan = make_plan(tiny_config(tmp_path, cache_dir, *words, "freeze.through=transferred"))
    by_name = make_plan(tiny_config(tmp_path, cache_dir, *words, "freeze.through=stage2"))
    assert plan.run_id == by_name.run_id
    base = make_plan(tiny_config(tmp_path, cache_dir, "freeze.through=transferred"))
    assert base.run_id == make_plan(tiny_config(tmp_path, cache_dir)).run_id
