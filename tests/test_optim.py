"""The schedule, the optimiser and the average, against known answers."""

import pytest
import torch
from torch import nn

from tlcnn.training.optim import (
    WeightAverage,
    build_optimizer,
    compute_lr,
    load_optimizer,
    make_groups,
    make_rates,
)
from tlcnn.training.recipe import Recipe

SCHEDULE = {"peak": 0.1, "n_steps": 100, "n_warmup_steps": 10, "final_fraction": 0.01}


def test_the_rate_rises_to_its_peak_and_falls_to_its_end():
    rates = [compute_lr(step, **SCHEDULE) for step in range(100)]
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == rates[9] == pytest.approx(0.1)
    assert 0.001 < rates[-1] < 0.0012


def test_norms_and_biases_are_not_decayed():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    recipe = Recipe(optimizer="adamw", weight_decay=0.5)
    groups = make_groups(trained, recipe)
    updates = build_optimizer(groups, recipe, make_rates(2, torch.device("cpu")))
    decayed, plain = ({id(p) for p in group["params"]} for group in updates.param_groups)
    assert decayed == {id(model[3].weight)}
    assert plain == {id(model[1].weight), id(model[1].bias), id(model[3].bias)}
    assert [group["weight_decay"] for group in updates.param_groups] == [0.5, 0]


def test_the_average_follows_its_formula_and_comes_and_goes():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = WeightAverage(model, decay=0.5)
    for step, value in enumerate([1.0, 2.0], start=100):  # past the first, faster steps
        nn.init.constant_(model.weight, value)
        average.update(torch.tensor(average.compute_weight(step)))
    with average.in_place():
        assert model.weight.item() == pytest.approx(0.5 * (0.5 * 0 + 0.5 * 1) + 0.5 * 2)
    assert model.weight.item() == 2
    assert torch.equal(average.average["weight"], torch.tensor([[1.25]]))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_rate_is_read_at_every_step_and_again_after_a_checkpoint(optimizer):
    def step_with(rates, checkpoint_after=None):
        weight, recipe = nn.Parameter(torch.ones(3, 2)), Recipe(optimizer=optimizer)
        groups = make_groups({"weight": weight}, recipe)
        rate = make_rates(1, torch.device("cpu"))
        updates = build_optimizer(groups, recipe, rate)
        for number, value in enumerate(rates):
            if number == checkpoint_after:
                state = updates.state_dict()
                rate = make_rates(1, torch.device("cpu"))
                updates = build_optimizer(groups, recipe, rate)
                load_optimizer(updates, state, rate)
            rate.fill_(value)
            weight.grad = torch.full_like(weight, number + 1.0)
            updates.step()
        return weight.detach()

    rates = [0.1, 0.02, 0.3, 0.04]
    assert not torch.equal(step_with(rates), step_with([0.1] * 4))
    assert torch.equal(step_with(rates), step_with(rates, checkpoint_after=2))
