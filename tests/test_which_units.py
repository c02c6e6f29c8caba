"""Which units are transferred, frozen and dropped: their words, and which run they mean."""

import pytest
import torch
from families import load_map
from records_made import write_cell
from runs import tiny_config
from safetensors.torch import load_file, save_file
from test_cells import cells_of

from tlcnn.cli.main import main
from tlcnn.config.compose import Composer
from tlcnn.config.overrides import check_overrides
from tlcnn.config.schema import find_conf_dir
from tlcnn.errors import ConfigError, DroppedUnits, ImpossibleCell
from tlcnn.model.build import build_model
from tlcnn.plan.describe import describe_plan, make_plan_record
from tlcnn.plan.plan import make_plan
from tlcnn.plan.reuse import make_source_key
from tlcnn.report.words import name_cell
from tlcnn.run.network import build_initial_network
from tlcnn.sweep.blocks import expand_each

RANDOM = ["init=random", "init.weights=null"]
NAMES = ("stem", "stage1", "stage2", "stage3", "stage4")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "source.safetensors"
    save_file(build_model("test_resnet", n_classes=5, seed=7).state_dict(), path)
    return path


@pytest.fixture
def plan_of(tmp_path, cache_dir, weights):
    source = ["init=checkpoint", f"init.weights={weights}"]
    return lambda *words: make_plan(tiny_config(tmp_path, cache_dir, *source, *words))


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("stage1", (2,)),
        (2, (2,)),
        ("layer2", (3,)),
        (["stage3", "stage1"], (2, 4)),
        (["stem-stage1", 4], (1, 2, 4)),
        ("2-4", (2, 3, 4)),
        ("all_but_stage2", (1, 2, 4, 5)),
        ("all_but_stage1-stage3", (1, 5)),
        ("all", (1, 2, 3, 4, 5)),
        ("none", ()),
        ([], ()),
    ],
)
def test_units_are_named_alone_as_ranges_and_by_what_is_left_out(words, numbers):
    assert load_map("test_resnet").select(words) == numbers


@pytest.mark.parametrize("words", ["stage9", "stage3-stage1", "0", "0-2", "-1", ["stage1", "x"]])
def test_what_names_no_unit_is_refused_with_the_names_there_are(words):
    with pytest.raises(ConfigError, match=r"stage1 \(layer1\)"):
        load_map("test_resnet").select(words)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["freeze.units=[stem,stage1]"], ["freeze.through=stage1"]),
        (["freeze.units=stem-stage1"], ["freeze.through=stage1"]),
        (["freeze.units=all_but_stage4"], ["freeze.through=stage3"]),
        (["freeze.units=none"], []),
        (["freeze.units=all"], ["freeze=all"]),
        (["init.units=stem-stage2"], ["init.through=stage2"]),
        (["init.units=none"], ["init.through=none"]),
        ([*RANDOM, "init.units=[stage1]"], RANDOM),
        (
            ["init.units=[1,3]", "freeze.through=transferred"],
            ["init.units=[3,1]", "freeze.units=[1,3]"],
        ),
        (["init.above=truncate"], []),
        (["init.above=stats"], []),
        (["init.above=truncate", "init.through=none"], ["init.through=none"]),
        (["init.through=2", "init.above=fresh"], ["init.through=2"]),
        (["init=stats", "init.through=2", "init.above=stats"], ["init=stats"]),
        (["init.head=true", "init.through=none"], ["init.through=none"]),
    ],
)
def test_one_run_has_many_spellings(plan_of, weights, first, second):
    first, second = plan_of(*first), plan_of(*second)
    assert first.identity == second.identity and first.run_dir == second.run_dir
    assert first.cell_id == second.cell_id


def test_other_units_are_another_run_with_a_name_of_its_own(plan_of):
    cells = [
        *([], ["freeze.units=stage1"], ["freeze.units=[stage1,stage3]"], ["freeze.units=[2,5]"]),
        *(["freeze.through=2"], ["freeze.units=all_but_stage1"], ["init.units=[1,3]"]),
        *(["init.through=3", f"init.above={above}"] for above in ("fresh", "truncate", "stats")),
        ["init.through=2", "init.above=truncate"],
    ]
    plans = [plan_of(*words) for words in cells]
    assert len({plan.run_id for plan in plans}) == len({plan.cell_id for plan in plans}) == 11
    assert len({plan.run_name for plan in plans}) == len(plans)
    names = [plan.run_name.removeprefix("synthetic-test_resnet-checkpoint-") for plan in plans]
    assert names[2] == "k5-ju2.4-s0" and names[8] == "k3-truncate-j0-s0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["freeze=stage1", "freeze.units=[stage3]"], "freeze.units=.* both say which units"),
        (["init.through=2", "init.units=[3]"], "init.through=2 .* give one of them"),
        (["freeze.units=each"], "freeze.units=each is several values: add -m"),
        (["init.units=all_but_each"], "all_but_each is several values: add -m"),
        (["init.above=truncat"], "Did you mean 'truncate'"),
        (["init.head=true"], "the classes of init=checkpoint are not known"),
        (["init=stats", "init.head=true"], "init=stats draws its weights"),
    ],
)
def test_words_that_make_no_sense_are_refused(plan_of, words, message):
    with pytest.raises(ConfigError, match=message):
        plan_of(*words)


@pytest.mark.parametrize(
    ("words", "message", "kind"),
    [
        (
            ["init.units=[1,3]", "freeze.units=[2,3]"],
            "stage1 would stay random filters",
            ImpossibleCell,
        ),
        (
            ["init.through=2", "init.above=truncate", "freeze.units=[5]"],
            "freezes stage4, which",
            DroppedUnits,
        ),
    ],
)
def test_cells_that_cannot_be_are_left_out_of_sweeps(plan_of, words, message, kind):
    with pytest.raises(ImpossibleCell, match=message) as error:
        plan_of(*words)
    assert type(error.value) is kind


def test_a_network_that_cannot_be_cut_there_is_not_truncated(tmp_path, cache_dir):
    words = ["model.name=hrnet_w18_small", "init=self", "init.through=1", "init.above=truncate"]
    with pytest.raises(ConfigError, match="init.above=fresh"):
        make_plan(tiny_config(tmp_path, cache_dir, *words, "init.through=2"))


def test_in_a_sweep_each_is_one_unit_and_all_but_each_all_others(cache_dir):
    words = ("model.name=test_resnet", "init=imagenet", f"cache_dir={cache_dir}")
    composer = Composer()
    for value, start in (("each", ""), ("all_but_each", "all_but_")):
        cells = expand_each([(*words, f"freeze.units={value}")], composer)
        assert [cell[-1] for cell in cells] == [f"freeze.units={start}{name}" for name in NAMES]
        with pytest.raises(ConfigError, match="is several values: add -m"):
            check_overrides([f"freeze.units={value}"], find_conf_dir())


def test_the_plan_says_what_happens_to_each_unit_and_to_the_head(plan_of):
    plan = plan_of("init.units=[1,3,4]", "freeze.units=[3]", "init.above=stats")
    units = make_plan_record(plan).units
    source = "source.safetensors"
    assert [unit.weights for unit in units] == [source, "fresh", source, source, "stats"]
    assert [unit.frozen for unit in units] == [False, False, True, False, False]
    settings = make_plan_record(plan).settings
    assert settings["init.units"] == "stem,stage2,stage3" and settings["freeze.units"] == "stage2"
    assert make_plan_record(plan_of("freeze.units=1-2")).settings["freeze.units"] is None
    text = describe_plan(plan_of("init.through=2", "init.above=truncate"))
    assert "units above stage1 are dropped" in text and "layer2" not in text


def test_runs_share_stored_outputs_of_the_units_in_front_of_the_first_trained_one(plan_of):
    keys = [
        make_source_key(plan_of(*words))
        for words in (
            ["freeze.through=2"],
            ["freeze.units=[1,2,4]"],
            ["init.units=[1,2,5]", "freeze.units=[1]"],
        )
    ]
    assert keys[0] and len(set(keys)) == 1
    assert make_source_key(plan_of("freeze.units=[2,3]")) is None


def test_units_above_are_drawn_with_the_mean_and_deviation_of_the_source(plan_of, weights):
    source = load_file(weights)
    plans = [plan_of("init.through=2", f"init.above={above}") for above in ("stats", "fresh")]
    plans.append(plan_of("init=stats"))
    drawn, fresh, stats = (build_initial_network(plan).model.state_dict() for plan in plans)
    below, above = (plans[0].unit_map.tensors_of(*ends) for ends in ((1, 2), (3, 5)))
    assert all(torch.equal(drawn[name], source[name]) for name in below)
    assert all(torch.equal(drawn[name], stats[name]) for name in above)  # one draw in all cells
    weight = drawn["layer4.0.conv1.weight"]
    expected = source["layer4.0.conv1.weight"]
    assert not torch.equal(weight, fresh["layer4.0.conv1.weight"])
    assert weight.mean().item() == pytest.approx(expected.mean().item(), abs=2e-3)
    assert weight.std().item() == pytest.approx(expected.std().item(), rel=0.02)
    assert torch.equal(drawn["fc.weight"], fresh["fc.weight"])


def test_a_fresh_unit_is_the_same_whichever_units_are_transferred(plan_of, weights):
    source = load_file(weights)
    plan = plan_of("init.units=[1,4]")
    start = build_initial_network(plan).model.state_dict()
    random = build_initial_network(plan_of(*RANDOM)).model.state_dict()
    for number in range(1, 6):
        expected = source if number in (1, 4) else random
        names = [n for n in plan.unit_map.tensors_of(number, number) if n in start]
        assert all(torch.equal(start[name], expected[name]) for name in names)


# ---- cells and tables ---------------------------------------------------------------------------


@pytest.fixture
def grid(tmp_path):
    """A grid of old records, which do not have these keys, and cells of any units beside it."""
    write_cell(tmp_path, (0.1, 0.2), j=2)
    write_cell(tmp_path, (0.3, 0.4), j=2, **{"freeze.units": None, "train.lr": None})
    write_cell(tmp_path, (0.5, 0.6), j=2, **{"freeze.units": "stage1,stage3"})
    write_cell(tmp_path, (0.7, 0.8), k=3, **{"init.above": "truncate"}, units=NAMES[:3])
    write_cell(tmp_path, (0.7, 0.8), k=2, **{"init.units": "stem,stage2", "init.above": "stats"})
    return tmp_path


def test_cells_of_any_units_have_names_and_stand_in_no_grid(grid):
    cells = {name_cell(cell): cell for cell in cells_of(grid)}
    assert {name: cell.is_in_grid for name, cell in cells.items()} == {
        "ImageNet, frozen through stage1": True,
        "ImageNet, frozen in stage1,stage3": False,
        "ImageNet, truncated, all trained": False,
        "ImageNet in stem,stage2, above with its statistics, all trained": False,
    }
    assert len({cell.source for cell in cells.values()}) == 1


def test_tables_have_a_column_for_the_units_of_such_cells_and_only_then(grid, tmp_path):
    columns = read_columns(grid)
    assert {"init.units", "init.above", "freeze.units"} <= set(columns)
    write_cell(tmp_path / "plain", (0.1, 0.2), **{"freeze.units": None, "init.above": "fresh"})
    assert not [name for name in read_columns(tmp_path / "plain") if "." in name]


def read_columns(folder):
    path = folder / "table.csv"
    main(["compare", str(folder), "--interval", "none", "--csv", str(path)])
    return path.read_text().splitlines()[0].split(",")
