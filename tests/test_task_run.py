"""A source that is a chain itself: its weights, frozen units, recipe and seed can be given."""

import pytest
import torch
from runs import tiny_config
from safetensors.torch import load_file
from test_boundaries import cells_of

from tlcnn.errors import ConfigError
from tlcnn.plan.plan import make_plan
from tlcnn.run.run import run

TINY = [f"options.{word}" for word in ("n_images=48", "n_val=16", "n_test=16")]
TARGET = ["dataset=planted", *(f"dataset.{word}" for word in TINY), "train.epochs=1"]
PLAIN = ["init=task", "init.task=planted", "init.parent=random"]
PLAIN += [f"init.task_dataset.{word}" for word in (*TINY, "options.data_seed=2")]
JOINT = ["source=task", "task=planted", "parent=random", "through=2", "task_seed_offset=9"]
JOINT += [f"task_dataset.{word}" for word in (*TINY, "options.cue=both", "options.data_seed=1")]
CHAIN = [*PLAIN, "init.task_run.freeze.through=transferred", "init.task_seed_offset=1"]
CHAIN += [f"init.task_run.init.{word}" for word in JOINT]
A = [*CHAIN, "init.task_dataset.options.cue=texture"]
B = [*CHAIN, "init.task_seed_offset=2", "init.task_run.init.task_seed_offset=8"]
B += ["init.task_dataset.options.data_seed=0"]


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    return lambda *words: make_plan(tiny_config(tmp_path, cache_dir, *TARGET, *words))


def test_units_that_two_sources_share_are_equal_bit_for_bit_through_the_chain(plan_of, one_core):
    """J on both cues -> A and B from its first two units, frozen -> the run, three frozen."""
    plans = [plan_of(*words, "init.through=3", "freeze.through=3") for words in (A, B)]
    for plan in plans:
        run(plan)
    joint = plans[0].parent.parent
    assert plans[1].parent.parent.run_id == joint.run_id and joint.config.seed == 10
    states = [load_file(p.run_dir / "weights.safetensors") for p in (joint, plans[0].parent)]
    states += [load_file(p.run_dir / "weights.safetensors") for p in (plans[1].parent, *plans)]
    for number, unit in enumerate(joint.unit_map.units, start=1):
        of_joint, of_a, of_b, a_frozen, b_frozen = (
            torch.cat([state[name].flatten().double() for name in unit.tensors])
            for state in states
        )
        assert torch.equal(of_a, of_joint) == torch.equal(of_b, of_joint) == (number <= 2)
        assert torch.equal(of_a, of_b) == (number <= 2)
        assert torch.equal(a_frozen, of_a) == torch.equal(b_frozen, of_b) == (number <= 3)
    records = [ancestor.record for ancestor in plans[0].ancestry]
    assert [(r.k, r.j, r.seed) for r in records] == [(2, 2, 1), (0, 0, 10)]


def test_no_key_of_the_source_run_is_the_run_as_it_was(plan_of):
    before = plan_of(*PLAIN)
    assert plan_of(*PLAIN, "init.task_run={}", "init.task_seed_offset=0").run_id == before.run_id
    words = ["init.task_run.train.epochs=1", "init.task_run.init.through=2"]
    assert plan_of(*PLAIN, *words).run_id == before.run_id  # they are the values it has anyway
    assert "task_run" not in before.identity["init"]


def test_the_source_is_the_run_that_its_keys_alone_would_be(plan_of):
    alone = [word.removeprefix("init.task_run.") for word in CHAIN if "init.task_run." in word]
    alone += ["init=task", "dataset.options.cue=texture", "dataset.options.data_seed=2"]
    assert plan_of(*A, "seed=4").parent.run_dir == plan_of(*alone, "seed=5").run_dir


@pytest.mark.parametrize(
    "word",
    [
        "init.task_run.train.epochs=2",
        "init.task_run.init.through=1",
        "init.task_run.freeze.through=1",
        "init.task_run.init.task_dataset.options.data_seed=5",
        "init.task_run.init.task_run.train.lr=0.1",
        "init.task_run.init.task_seed_offset=7",
        "init.task_seed_offset=7",
    ],
)
def test_whatever_changes_the_source_is_another_run_and_another_cell(plan_of, word):
    plans = [plan_of(*A), plan_of(*A, word)]
    assert len({plan.run_id for plan in plans}) == len({plan.cell_id for plan in plans}) == 2
    assert plans[0].identity["train"] == plans[1].identity["train"]


def test_a_sweep_over_the_recipe_leaves_the_source_alone_where_its_own_is_given(plan_of):
    """Without it the source is trained with the recipe of the run, as it always was."""
    rates, fixed = (0.001, 0.01, 0.1), ["init.task_run.train.lr=0.001"]
    plans = [plan_of(*PLAIN, f"train.lr={rate}") for rate in rates]
    assert len({plan.parent.run_id for plan in plans}) == 3
    alone = [plan_of(*PLAIN, *fixed, f"train.lr={rate}") for rate in rates]
    assert {plan.parent.run_id for plan in alone} == {plans[0].parent.run_id}
    assert len({plan.run_id for plan in alone}) == len({plan.cell_id for plan in alone}) == 3
    assert alone[0].run_dir == plans[0].run_dir  # the same rate for both is no other run
    treated = ["train.mixup=0.2", "train.layer_decay=0.7", "train.unit_lr={stage1: 0.5}"]
    plain = "{mixup: 0, layer_decay: 1, unit_lr: {stage1: 1}}"
    plan = plan_of(*PLAIN, "train.lr=0.001", *treated, f"+init.task_run.train={plain}")
    assert plan.parent.run_id == plans[0].parent.run_id
    assert plan_of(*PLAIN, "train.lr=0.001", *treated).parent.run_id != plan.parent.run_id


def test_the_seeds_of_a_cell_move_together(plan_of):
    plans = [plan_of(*B, f"seed={seed}") for seed in range(3)]
    assert len({plan.run_id for plan in plans}) == 3 and len({p.cell_id for p in plans}) == 1
    assert [[a.record.seed for a in plan.ancestry] for plan in plans] == [
        [2, 10],
        [3, 11],
        [4, 12],
    ]


def test_no_units_of_a_chain_are_the_random_run(plan_of):
    assert plan_of(*A, "init.through=none").run_id == plan_of().run_id


def test_a_source_with_none_of_its_own_sources_units_is_a_random_run(plan_of):
    parent = plan_of(*A, "init.task_run.init.through=0").parent
    assert parent.source == ("random",) and parent.parent is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("init.task_run.frieze.through=2", "Did you mean 'freeze'.*\nKeys: init, freeze, train"),
        ("init.task_run.seed=2", "init.task_run.seed is not a key of the source run"),
        ("init.task_run.init.sorce=task", "task_run.init.sorce .*Did you mean 'source'"),
        ("init.task_run.train.epochs=many", "init.task_run.train.epochs is not of the right type"),
        ("init.task_run.train.epochs=0", "in the run on init.task=planted.*must be from 1"),
        (
            "init.task_run.train=fast",
            r"task_run.train=fast sets nothing: .*init.task_run.train.KEY",
        ),
        ("init.task_run.freeze.through=3", "would stay random filters"),
        ("init.task_run.init.source=jask", "source=jask is not allowed. Did you mean 'task'"),
        ("init.task_run.init.task_dataset.optoins=3", "Did you mean 'options'"),
        ("init.task_seed_offset=-1", "task_seed_offset=-1 is not allowed: it must be from 0"),
        ("seed=2147483647", "in the run on init.task=planted, the source: seed=2147483648"),
    ],
)
def test_what_no_source_can_have_is_refused(plan_of, word, message):
    with pytest.raises(ConfigError, match=message):
        plan_of(*A, word)


def test_the_planted_study_has_its_families(cache_dir):
    """Every AnB has a BnB whose B shares J and m, and the draws of A, B and J are apart."""
    configs = cells_of("planted", "seed=0", f"cache_dir={cache_dir}")
    chains = [cfg.init for cfg in configs if cfg.init.source == "task" and cfg.init.task_run]
    chains = [init for init in chains if init.task_run["init"]["source"] == "task"]
    frozen = [init for init in chains if init.through != "all"]
    is_b = [init.task_dataset["name"] == "planted" for init in frozen]
    by_m = [
        [
            init.task_run["init"]["through"]
            for init, b in zip(frozen, is_b, strict=True)
            if b == side
        ]
        for side in (True, False)
    ]
    assert {m: by_m[0].count(m) for m in range(6)} == dict.fromkeys(range(6), 5)
    assert {m: by_m[1].count(m) // 5 for m in range(6)} == {0: 6, 1: 1, 2: 6, 3: 1, 4: 1, 5: 1}
    joint = {(i.task_seed_offset + i.task_run["init"]["task_seed_offset"]) for i in frozen}
    assert joint == {1000} and {i.task_seed_offset for i in frozen} == {100, 200}
