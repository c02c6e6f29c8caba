"""When each unit begins to be trained, and that it rests until then."""

import json

import pytest
from runs import tiny_config

from tlcnn.errors import ConfigError
from tlcnn.model.freeze import are_same_bits, list_tensors
from tlcnn.plan.describe import describe_plan
from tlcnn.plan.plan import make_plan
from tlcnn.plan.schedule import make_phases
from tlcnn.run.run import run
from tlcnn.training import fit as fitting
from tlcnn.training.optim import compute_lr
from tlcnn.training.update import Updates

HEAD_FIRST = ["train.schedule=head_first", "train.head_epochs=2"]
DEMO = ["train.schedule=head_first", "train.head_epochs=5", "train.warmup_epochs=1"]
GRADUAL = ["train.schedule=gradual", "train.unfreeze_every=1"]


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    return lambda *words: make_plan(tiny_config(tmp_path, cache_dir, "train.epochs=7", *words))


def list_phases(plan):
    phases = make_phases(plan.config, plan.treatment, len(plan.unit_map))
    return [(phase.first, phase.n_epochs, phase.resting) for phase in phases]


def test_the_phases_follow_from_the_epoch(plan_of):
    assert list_phases(plan_of()) == [(1, 7, ())]
    assert list_phases(plan_of(*HEAD_FIRST)) == [(1, 2, (1, 2, 3, 4, 5)), (3, 5, ())]
    frozen = ["freeze.units=[1,3,4]", "freeze.allow_random=true"]
    words = [*GRADUAL, *frozen, "train.unfreeze_every=2"]
    assert list_phases(plan_of(*words)) == [(1, 2, (2, 5)), (3, 2, (2,)), (5, 3, ())]


def test_together_is_the_run_without_the_word(plan_of):
    plan = plan_of()
    for words in (
        ["train.schedule=together"],
        ["train.head_epochs=3"],
        ["train.unfreeze_every=2"],
    ):
        assert plan_of(*words).run_dir == plan.run_dir
    assert "schedule" not in plan.identity["train"]
    probe = ["freeze=all", "freeze.allow_random=true"]  # nothing but the head is ever trained
    assert plan_of(*probe, *HEAD_FIRST).run_id == plan_of(*probe).run_id


def test_other_phases_are_another_run(plan_of):
    words = [[], HEAD_FIRST, GRADUAL, [*HEAD_FIRST, "train.head_epochs=3"]]
    assert len({plan_of(*each).run_id for each in words}) == 4
    assert plan_of(*HEAD_FIRST).run_id == plan_of(*HEAD_FIRST, "train.unfreeze_every=3").run_id


def test_the_run_that_weights_come_from_has_no_schedule(plan_of):
    assert plan_of("init=self", *GRADUAL).parent.run_id == plan_of("init=self").parent.run_id


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train.schedule=head_first", "train.head_epochs=7"],
            "7 epochs of the head .* and 0 of all",
        ),
        ([*HEAD_FIRST, "train.warmup_epochs=2"], "longer than train.warmup_epochs=2"),
        ([*DEMO, "train.epochs=6"], r"and 1 of all.*write train\.head_epochs=2\."),
        ([*DEMO, "train.epochs=3"], r"write train\.epochs=4 train\.head_epochs=2\."),
        ([*GRADUAL, "train.unfreeze_every=2"], "train.epochs=7 must be larger than 10"),
    ],
)
def test_too_few_epochs_are_refused(plan_of, words, message):
    with pytest.raises(ConfigError, match=message):
        plan_of(*words)


def test_the_advice_on_too_few_epochs_works(plan_of):
    words = [*DEMO, "train.epochs=3"]
    with pytest.raises(ConfigError) as caught:
        plan_of(*words)
    advice = str(caught.value).split("write ")[1].rstrip(".").split()
    assert list_phases(plan_of(*words, *advice))[1][0] == 3


def test_one_epoch_has_half_an_epoch_of_warm_up(plan_of):
    plan = plan_of("train.epochs=1", "train.warmup_epochs=1")
    assert plan.identity["train"]["warmup_epochs"] == plan.config.train.warmup_epochs == 0.5
    assert plan.run_id == plan_of("train.epochs=1", "train.warmup_epochs=0.5").run_id


@pytest.mark.parametrize("words", [[], HEAD_FIRST, GRADUAL, [*GRADUAL, "freeze.bn=adapt"]])
def test_only_units_of_the_phase_are_trained_with_a_fresh_optimiser(
    plan_of, words, monkeypatch, one_core
):
    """Tensors and buffers of other units have the same bits before and after each epoch."""
    words = [*words, "freeze.units=[1,3]", "freeze.allow_random=true", "model.drop_rate=0.1"]
    plan, changed, n_states = plan_of(*words), [], []
    real = fitting.Fit.train_epoch

    def copy(model):
        return {name: tensor.detach().clone() for name, tensor in list_tensors(model).items()}

    def watch(self):
        before = copy(self.network.model)
        n_states.append(len(self.updates.optimizer.state))
        yield from real(self)
        after = copy(self.network.model)
        changed.append({name for name in before if not are_same_bits(before[name], after[name])})

    monkeypatch.setattr(fitting.Fit, "train_epoch", watch)
    run(plan)
    units, phases = plan.unit_map, make_phases(plan.config, plan.treatment, 5)
    for phase in phases:
        assert n_states[phase.first - 1] == 0
        for epoch in range(phase.first, phase.first + phase.n_epochs):
            assert set(units.head) <= changed[epoch - 1]
            for number in range(1, 6):
                moved = changed[epoch - 1].intersection(units.tensors_in([number]))
                trained = number not in (*phase.resting, *plan.treatment.frozen)
                if plan.config.freeze.bn == "adapt" and number in plan.treatment.frozen:
                    assert moved and not any(name.endswith(("weight", "bias")) for name in moved)
                else:
                    assert bool(moved) == trained, (epoch, number)
    assert sum(n == 0 for n in n_states) == len(phases)


@pytest.mark.parametrize("words", [[], HEAD_FIRST, GRADUAL])
def test_each_phase_of_head_first_has_a_schedule_and_gradual_has_one(plan_of, words, monkeypatch):
    plan, rates = plan_of(*words), []
    real = Updates.run

    def note(self, *update):
        real(self, *update)
        rates.append(self.optimizer.param_groups[0]["lr"].item())

    monkeypatch.setattr(Updates, "run", note)
    run(plan)
    recipe, n_steps = plan.config.train, plan.steps_per_epoch
    expected = [
        compute_lr(
            step,
            peak=recipe.lr,
            n_steps=n_epochs * n_steps,
            n_warmup_steps=round(recipe.warmup_epochs * n_steps),
            final_fraction=0.0,
        )
        for n_epochs in ((2, 5) if words == HEAD_FIRST else (7,))
        for step in range(n_epochs * n_steps)
    ]
    assert rates == expected
    lines = (plan.run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["lr"] for line in lines] == rates[n_steps - 1 :: n_steps]


def test_patience_counts_from_the_last_phase_on(plan_of, monkeypatch):
    monkeypatch.setattr(fitting, "rank_epoch", lambda record, select="": -record["epoch"])
    for words, n_epochs in ([], 2), (HEAD_FIRST, 4):
        assert run(plan_of(*words, "train.patience=1"))["epochs"] == n_epochs - 1 + (words == [])


def test_plan_and_methods_say_when_units_begin(plan_of):
    text = describe_plan(plan_of(*GRADUAL))
    assert "the head from the start, from epoch 2 on stage4, from epoch 3 on stage3" in text
    assert "from epoch 3 on stem, stage1, stage2" in describe_plan(plan_of(*HEAD_FIRST))
    assert "from the start" not in describe_plan(plan_of())
