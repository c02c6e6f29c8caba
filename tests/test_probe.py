"""A probe trains one layer alone, with the bits of the whole network."""

import itertools

import pytest
import torch
from runs import run_until_done, stop_at_every_step, tiny_config
from test_run import check_same
from torch import nn

from tlcnn.frozen.probe import ProbeBatches, find_probe
from tlcnn.plan.plan import make_plan
from tlcnn.run import inputs
from tlcnn.run.run import run
from tlcnn.training import fit as fitting

pytestmark = pytest.mark.usefixtures("one_core", "feature_dir")


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    numbers = itertools.count()

    def make(*words):
        folder = tmp_path / f"out{next(numbers)}"
        frozen = ["freeze=all", "freeze.allow_random=true", "train.epochs=3"]
        return make_plan(tiny_config(folder, cache_dir, *frozen, *words))

    return make


@pytest.fixture
def trained(monkeypatch):
    """The modules that trainings called."""
    found, real = [], fitting.Fit.run

    def run_noted(self):
        found.append(self.network.trained)
        return real(self)

    monkeypatch.setattr(fitting.Fit, "run", run_noted)
    return found


HEAD = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)]


@pytest.mark.parametrize(
    "layers, is_probe",
    [
        (HEAD, True),
        ([nn.BatchNorm2d(6).requires_grad_(False).eval(), *HEAD], False),  # its statistics move
        ([*HEAD[:2], nn.Dropout(0.5), HEAD[2]], False),
        ([*HEAD[:2], nn.Dropout(0.0), HEAD[2]], True),
        ([nn.GroupNorm(2, 6), *HEAD], False),
        ([*HEAD, nn.Softmax(1)], False),
        ([nn.Conv2d(6, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()], False),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_probe_is_found_where_one_layer_is_all_that_moves(layers, is_probe, precision):
    torch.manual_seed(0)
    model, images = nn.Sequential(*layers), torch.randn(4, 6, 2, 2)
    found = find_probe(model, images, precision)
    assert (found is not None) == is_probe
    if found is not None:
        head, layer = found
        assert layer is HEAD[2]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            assert torch.equal(layer(head(images)), model(images))


CASES = {
    "a pool": ["train.views=3"],
    "one view": ["train.augment=none"],
    "bf16": ["train.views=2", "train.precision=bf16"],
    "sgd": ["train.augment=none", "train.optimizer=sgd", "train.ema_decay=0.9"],
    "convnext": ["model.name=test_convnext", "train.views=2"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_probe_ends_in_the_bits_of_the_whole_network(plan_of, trained, case):
    plans = [plan_of(*CASES[case], f"reuse={reuse}") for reuse in ("none", "auto", "auto")]
    for plan in plans:
        run(plan)
        check_same(plans[0].run_dir, plan.run_dir)
    assert not isinstance(trained[0], nn.Linear)
    assert all(isinstance(part, nn.Linear) for part in trained[1:])


@pytest.mark.parametrize("word", ["train.views=null", "model.drop_rate=0.3", "reuse_memory_gib=0"])
def test_the_network_is_called_where_rows_cannot_stand_for_it(plan_of, trained, word):
    words = [] if "views" in word else ["train.views=2"]
    plain, plan = plan_of(*words, word, "reuse=none"), plan_of(*words, word)
    run(plain)
    run(plan)
    check_same(plain.run_dir, plan.run_dir)
    assert not any(isinstance(part, nn.Linear) for part in trained)


def test_a_probe_goes_on_in_the_middle_of_an_epoch(plan_of, monkeypatch):
    words = ["train.views=2", "eval_batch_size=16"]
    whole, stopped = plan_of(*words, "reuse=none"), plan_of(*words)
    run(whole)
    stop_at_every_step(monkeypatch)
    assert run_until_done(stopped) > 4
    check_same(whole.run_dir, stopped.run_dir)


def test_the_memory_of_rows_is_given_back(plan_of, monkeypatch):
    stores, real = [], inputs.ArrayStore

    def noted(*args, **words):
        stores.append(real(*args, **words))
        return stores[-1]

    monkeypatch.setattr(inputs, "ArrayStore", noted)
    run(plan_of("train.views=2"))
    assert len(stores) == 1 and stores[0]._n_reserved == 0


def test_rows_that_differ_from_those_of_a_batch_are_not_used(plan_of, monkeypatch):
    """As where pooling many images at once gives other last bits than pooling a batch."""
    plain, plan = plan_of("train.views=2", "reuse=none"), plan_of("train.views=2")
    real = ProbeBatches._pool_views
    monkeypatch.setattr(
        ProbeBatches, "_pool_views", lambda self, view: real(self, view) * (1 + 2**-20)
    )
    run(plain)
    run(plan)
    check_same(plain.run_dir, plan.run_dir)
