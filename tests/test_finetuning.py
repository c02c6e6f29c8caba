"""What every treatment of fine-tuning promises: frozen bits, exact resume, paired cells."""

import pytest
import torch
from runs import run_until_done, stop_at_every_step, tiny_config
from safetensors.torch import load_file, save_file
from test_recording import ALL, run_recorded
from test_recording import TREATMENTS as PARTS
from test_run import check_same

from tlcnn.errors import ConfigError
from tlcnn.memory import Memory
from tlcnn.model.build import build_model
from tlcnn.plan.plan import make_plan
from tlcnn.plan.schedule import make_phases
from tlcnn.records.open_run import open_run
from tlcnn.run.network import build_initial_network
from tlcnn.run.run import run

GRADUAL = ["train.schedule=gradual", "train.epochs=6"]  # enough for networks of six units
TREATMENTS = {
    "surgical": ["freeze.units=all_but_2"],
    "leave one out": ["freeze.units=2"],
    "any units": ["init.units=[1,3]", "freeze.units=[3]"],
    "any units, reused": ["freeze.units=all_but_3", "train.augment=none"],
    "truncated": ["init.through=2", "init.above=truncate", "freeze.units=[1]"],
    "truncated, a probe": ["init.through=2", "init.above=truncate", "freeze=all", "train.views=2"],
    "drawn above": ["init.through=2", "init.above=stats", "freeze.through=transferred"],
    "head first": ["train.schedule=head_first", "train.head_epochs=2", "train.ema_decay=0.9"],
    "gradual": [*GRADUAL, "freeze.through=2", "model.drop_rate=0.2"],
    "gradual, surgical": ["freeze.units=all_but_2", "train.schedule=gradual"],
    "gradual, sgd": [*GRADUAL, "freeze.units=[1,3]", "train.optimizer=sgd"],
}
SETTINGS = PARTS | {
    "label smoothing": ["train.label_smoothing=0.1"],
    "an average": ["train.ema_decay=0.9"],
    "all that go together": ALL,
}
EVERY = TREATMENTS | {name: [*words, "freeze.through=2"] for name, words in SETTINGS.items()}
FAMILIES = (
    *("test_resnet", "mobilenetv2_035", "mobilenetv3_small_050", "efficientnet_b0"),
    *("densenet121", "test_convnext", "regnetx_002", "test_nfnet", "ghostnet_050"),
)


def check_treatment(folder, cache_dir, words, name="test_resnet", *, n_steps=2):
    """Train twice, once with interruptions; compare frozen units with the source, and the bits."""
    weights = cache_dir / f"{name}.safetensors"
    if not weights.is_file():
        save_file(build_model(name, n_classes=5, seed=7).state_dict(), weights)
    words = ["init=checkpoint", f"init.weights={weights}", f"model.name={name}", *words]
    whole, stopped = (
        make_plan(tiny_config(folder / place, cache_dir, "train.epochs=4", *words))
        for place in ("whole", "stopped")
    )
    run(whole)
    with pytest.MonkeyPatch.context() as patched:
        stop_at_every_step(patched, n_steps)
        assert run_until_done(stopped) > 2
    check_same(whole.run_dir, stopped.run_dir)
    source, end = load_file(weights), load_file(whole.run_dir / "weights.safetensors")
    start = build_initial_network(whole, Memory()).model.state_dict()
    units, cell = whole.unit_map, whole.treatment
    frozen = [name for name in units.tensors_in(cell.frozen) if name in end]
    assert all(torch.equal(end[name], start[name]) for name in frozen)
    shared = [name for name in units.tensors_in(cell.transferred) if name in start]
    assert all(torch.equal(start[name], source[name]) for name in shared)
    check_paired(start, whole)
    assert not any(torch.equal(end[name], start[name]) for name in units.head)
    return whole


def check_paired(start, plan):
    """Check that what is not transferred is the draw of the seed, as in every other cell."""
    cfg, cell, units = plan.config, plan.treatment, plan.unit_map
    shared = [f"model.name={cfg.model.name}", f"model.drop_rate={cfg.model.drop_rate}"]
    drawn = build_initial_network(
        make_plan(tiny_config(plan.output_dir, plan.cache_dir, *shared)), Memory()
    ).model.state_dict()
    fresh = [*units.tensors_in(set(range(1, len(units) + 1)) - set(cell.transferred))]
    fresh = fresh if cell.above == "fresh" else []
    fresh += [] if units.dropped else units.head
    assert all(torch.equal(start[name], drawn[name]) for name in fresh if name in start)


@pytest.mark.parametrize("words", TREATMENTS.values(), ids=TREATMENTS)
def test_frozen_units_stay_bit_for_bit_and_an_interrupted_run_ends_in_the_same_bits(
    tmp_path, cache_dir, words, one_core
):
    plan = check_treatment(tmp_path, cache_dir, words)
    opened = open_run(plan.run_dir)
    assert opened.unit_map().names == plan.unit_map.names
    logits = opened.predictions().query("split == 'test'").filter(like="logit/").to_numpy()
    assert (opened.compute_logits("test") == logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("words", EVERY.values(), ids=EVERY)
def test_every_treatment_keeps_its_promises_in_every_family(
    tmp_path, cache_dir, words, name, one_core
):
    check_treatment(tmp_path, cache_dir, words, name)


@pytest.mark.parametrize("words", TREATMENTS.values(), ids=TREATMENTS)
def test_a_recorded_training_has_the_same_bits_and_each_phase_a_recording(
    tmp_path, cache_dir, words, one_core, monkeypatch
):
    words = ["init=self", "train.epochs=4", *words]
    called, recorded = (
        make_plan(tiny_config(tmp_path / place, cache_dir, *words)) for place in ("a", "b")
    )
    for plan in (called, recorded):
        run(plan.parent)
    run(called)
    monkeypatch.setattr("tlcnn.training.recorder.N_REAL", 1)
    n_recorded, n_replayed = run_recorded(recorded)
    n_phases = len(make_phases(called.config, called.treatment, len(called.unit_map)))
    assert n_recorded >= n_phases and n_replayed > n_phases
    check_same(called.run_dir, recorded.run_dir)


def test_stored_outputs_of_any_frozen_units_have_the_same_bits(tmp_path, cache_dir, one_core):
    """Only those in front of the first trained unit are stored; later ones are computed."""
    plans = [
        make_plan(
            tiny_config(
                tmp_path / reuse,
                cache_dir,
                *("init=self", "freeze.units=[1,2,4]", "train.augment=none", f"reuse={reuse}"),
            )
        )
        for reuse in ("auto", "none")
    ]
    summaries = [run(plan) for plan in plans]
    assert summaries[0]["reuse"]["images_reused"] > 0 and summaries[1]["reuse"] is None
    check_same(plans[0].run_dir, plans[1].run_dir)


def test_the_head_is_the_one_of_a_run_with_the_same_classes(tmp_path, cache_dir, one_core):
    words = ["init=self", "init.head=true"]
    plan = make_plan(tiny_config(tmp_path, cache_dir, *words))
    run(plan.parent)
    start = build_initial_network(plan, Memory()).model.state_dict()
    source = load_file(plan.parent.run_dir / "weights.safetensors")
    assert all(torch.equal(start[name], source[name]) for name in plan.unit_map.head)
    named = ["init=run", f"init.run={plan.parent.run_id}", "init.head=true"]
    again = make_plan(tiny_config(tmp_path, cache_dir, *named))
    assert again.run_id == plan.run_id
    assert plan.run_id != make_plan(tiny_config(tmp_path, cache_dir, words[0])).run_id


def test_a_head_for_other_classes_is_refused(tmp_path, cache_dir):
    words = ["init=task", "init.task=synthetic_source", "init.parent=random", "init.head=true"]
    words += [f"++init.task_dataset.options.{word}" for word in ("n_images=140", "size=32")]
    with pytest.raises(
        ConfigError, match="init.head=true: .* has the classes .* must be the same"
    ):
        make_plan(tiny_config(tmp_path, cache_dir, *words))
