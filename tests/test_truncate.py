"""A truncated network is its first units, an average over the image, and a linear layer."""

import pytest
import torch
from families import FAMILIES, MORE_FAMILIES, Family, load_map_with_cuts

from tlcnn.errors import ConfigError
from tlcnn.model.cut import check_cut, cut
from tlcnn.model.truncate import average_image, truncate_network

# Units of families behind which the network does more than average.
REFUSED = {
    "hrnet_w18_small": {"stem"},
    "convformer_s18": {"stem", "stage1", "stage2"},  # its classifier has two layers
    "repvit_m0_9": {"stem", "stage1", "stage2", "stage3"},  # it has two classifiers
}


def check_truncated(family: Family, n_units: int) -> None:
    unit_map = load_map_with_cuts(family.name)
    whole, model = family.build().eval(), family.build().eval()
    images = family.draw_images()
    truncated = unit_map.truncate(n_units)
    truncate_network(model, truncated, seed=3)
    boundary = cut(whole, unit_map, n_units)[0](images)
    head = {name.rpartition(".")[2]: model.get_parameter(name) for name in truncated.head}
    weight, logits = head["weight"].flatten(1), model(images)
    averages = [rows for rows in average_image(boundary) if rows.shape[1] == weight.shape[1]]
    expected = [torch.nn.functional.linear(rows, weight, head.get("bias")) for rows in averages]
    assert any(torch.allclose(logits, each, atol=1e-4, rtol=1e-4) for each in expected)
    names = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    assert names == {*truncated.tensors_in(n_units), *truncated.head}
    check_cut(model, *cut(model, truncated, n_units), images)


def list_depths(family: Family) -> list[int]:
    units = load_map_with_cuts(family.name).units
    return [n for n, unit in enumerate(units[:-1], start=1) if unit.cut_obstacle is None]


@pytest.mark.parametrize(
    "name", ["test_resnet", "mobilenetv2_035", "test_convnext", "regnetx_002"]
)
def test_the_head_averages_what_leaves_the_last_unit(name):
    family = Family(name)
    for n_units in list_depths(family):
        check_truncated(family, n_units)


@pytest.mark.slow
@pytest.mark.parametrize("family", (*FAMILIES, *MORE_FAMILIES), ids=lambda family: family.name)
def test_every_family_is_truncated_exactly_or_refused(family: Family):
    refused = set()
    for n_units in list_depths(family):
        try:
            check_truncated(family, n_units)
        except ConfigError as error:
            assert "cannot be truncated behind" in str(error) and "init.above=fresh" in str(error)
            refused.add(load_map_with_cuts(family.name).names[n_units - 1])
    assert refused == REFUSED.get(family.name, set())


def test_the_fresh_head_is_a_function_of_the_seed_and_its_width():
    unit_map = load_map_with_cuts("test_resnet").truncate(3)
    heads = []
    for seed in (1, 1, 2):
        model = Family("test_resnet").build()
        torch.manual_seed(len(heads))
        before = torch.get_rng_state()
        truncate_network(model, unit_map, seed)
        assert torch.equal(before, torch.get_rng_state()) and model.training
        heads.append(model.fc.weight)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_a_head_that_does_more_than_average_is_refused():
    model = Family("test_resnet").build()
    model.global_pool = torch.nn.Sequential(torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten())
    with pytest.raises(ConfigError, match="does more with what leaves that unit than to average"):
        truncate_network(model, load_map_with_cuts("test_resnet").truncate(2), 0)
