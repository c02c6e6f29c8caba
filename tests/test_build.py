"""Fresh networks: the same draw for a seed, and logits that start near zero in every family."""

import pytest
import torch

from tlcnn.model.build import build_model


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv2_050", "efficientnet_lite0", "dla34"])
def test_logits_start_small_whatever_the_family(name):
    model = build_model(name, n_classes=7, seed=0).train()
    with torch.no_grad():
        logits = model(torch.randn(4, 3, 64, 64))
    assert logits.abs().max() < 1.5


def test_a_seed_is_one_draw_and_moves_no_generator():
    before = torch.get_rng_state()
    first, again = (build_model("test_resnet", n_classes=7, seed=3).state_dict() for _ in range(2))
    other = build_model("test_resnet", n_classes=7, seed=4).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    assert not torch.equal(first["layer1.0.conv1.weight"], other["layer1.0.conv1.weight"])
