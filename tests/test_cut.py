"""A cut network is the network: bit for bit where one tensor crosses, refused where not."""

import copy

import pytest
import torch
from families import FAMILIES, MORE_FAMILIES, Family, list_norms, load_map_with_cuts
from torch import Tensor, nn
from torch.nn import functional as F

from tlcnn.errors import ConfigError
from tlcnn.model.cut import check_cut, cut, find_cuts, make_suffix, try_cuts
from tlcnn.model.freeze import apply_freeze, are_same_bits
from tlcnn.model.unit_map import Unit, UnitMap
from tlcnn.model.units import compute_partition


def gradients(model: nn.Module, outputs: Tensor) -> dict[str, Tensor]:
    F.cross_entropy(outputs, torch.tensor([0, 1])).backward()
    named = {name: each.grad for name, each in model.named_parameters() if each.requires_grad}
    return {name: grad.clone() for name, grad in named.items() if grad is not None}


EACH = [
    pytest.param(family, id=family.name, marks=[pytest.mark.slow] if family.heavy else [])
    for family in FAMILIES
]
EACH += [pytest.param(f, id=f.name, marks=pytest.mark.slow) for f in MORE_FAMILIES]


@pytest.mark.parametrize("family", EACH)
def test_networks_are_cut_exactly_at_every_stage_or_the_reason_is_given(family: Family):
    unit_map = load_map_with_cuts(family.name)
    assert {unit.name for unit in unit_map.units if unit.cut_obstacle} == set(family.uncut)
    model, images = family.build(seed=3).eval(), family.draw_images(seed=3)
    for n_units, unit in enumerate(unit_map.units, start=1):
        if unit.cut_obstacle is None:
            check_cut(model, *cut(model, unit_map, n_units), images)
        else:
            with pytest.raises(ConfigError, match="cannot be cut behind unit"):
                cut(model, unit_map, n_units)


def test_lists_of_tensors_are_the_reason_for_hrnet():
    reasons = [unit.cut_obstacle for unit in load_map_with_cuts("hrnet_w18_small").units]
    assert reasons[:3] == [
        None,
        "a list of tensors crosses (2)",
        "a list of tensors crosses (3)",
    ]


class Skipping(nn.Module):
    """Two units, the second of which also sees the images, through a scale that starts at zero."""

    def __init__(self, skips: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.act, self.scale = nn.ReLU(inplace=True), nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 2)
        self.skips = skips
        nn.init.zeros_(self.scale.weight)

    def forward(self, images: Tensor) -> Tensor:
        x = self.second(self.act(self.first(images)))
        return self.fc((x + self.scale(images) if self.skips else x).mean((2, 3)))


def map_skipping() -> UnitMap:
    first = Unit("stem", ("first",), ("first.weight", "first.bias"), ("first",), 12, 1)
    names = ("act", "second", "scale")
    second = Unit("stage1", names, ("second.weight",), names, 12, 1)
    return UnitMap("skipping", "stage", (first, second), ("fc.weight",), ("fc",))


def test_a_skip_that_starts_at_zero_is_found():
    images = torch.randn(2, 3, 8, 8)
    model = Skipping().eval()
    check_cut(model, *cut(model, map_skipping(), 1), images)  # weights of today hide it
    reasons = try_cuts(model, map_skipping(), images)
    assert reasons[0] == "more than this tensor crosses (the rest alone gives other outputs)"
    assert try_cuts(Skipping(skips=False).eval(), map_skipping(), images)[0] is None


def test_skips_across_layers_are_found():
    unit_map = find_cuts(compute_partition("test_resnet", granularity="layer"))
    cuts = {unit.name: unit.cut_obstacle for unit in unit_map.units}
    assert cuts["conv1.0"] is None
    assert "more than this tensor crosses" in str(cuts["layer1.0.conv1"])


def test_the_boundary_is_left_as_it_is_by_what_works_in_place():
    model, images = Skipping(), torch.randn(2, 3, 8, 8)
    prefix, suffix = cut(model, map_skipping(), 1)
    boundary = prefix(images).detach()
    kept = boundary.clone()
    suffix(boundary)
    assert are_same_bits(boundary, kept)


@pytest.mark.parametrize("n_units", [1, 3])
@pytest.mark.parametrize("name", ["test_resnet", "densenet121", "test_convnext", "resnetv2_18"])
def test_the_suffix_trains_as_the_whole_network_does(name: str, n_units: int):
    family = Family(name, drop_path=name != "densenet121")
    unit_map, images = load_map_with_cuts(name), family.draw_images()
    model = family.build()
    apply_freeze(model, unit_map, n_units)
    twin = copy.deepcopy(model)
    prefix, suffix = cut(twin, unit_map, n_units)
    boundary = prefix(images)
    kept = boundary.clone()
    model.train()
    suffix.train()
    torch.manual_seed(0)
    whole = gradients(model, model(images))
    torch.manual_seed(0)
    part = gradients(suffix, suffix(boundary))
    assert whole.keys() == part.keys()
    assert all(are_same_bits(whole[name], part[name]) for name in whole)
    assert are_same_bits(boundary, kept)
    ours = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    theirs = {**dict(twin.named_parameters()), **dict(twin.named_buffers())}
    assert all(are_same_bits(ours[key], theirs[key]) for key in ours)  # statistics moved alike


def test_the_suffix_shares_parameters_and_keeps_their_names():
    family, unit_map = Family("test_resnet"), load_map_with_cuts("test_resnet")
    model = family.build()
    _, suffix = cut(model, unit_map, 3)
    named = dict(model.named_parameters())
    for name, parameter in suffix.named_parameters():
        assert named[name] is parameter
    kept = {name.split(".")[0] for name, _ in suffix.named_parameters()}
    assert kept == {"layer3", "layer4", "fc"}


def test_the_network_is_as_it_was_after_a_cut():
    family, unit_map = Family("test_resnet"), load_map_with_cuts("test_resnet")
    model, images = family.build().eval(), family.draw_images()
    names, before = [path for path, _ in model.named_modules()], model(images)
    prefix, suffix = cut(model, unit_map, 2)
    prefix(images)
    suffix.train()
    assert not model.training and not model.layer1.training
    assert names == [path for path, _ in model.named_modules()]
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert are_same_bits(before, model.eval()(images))


def test_frozen_containers_stay_in_evaluation_in_the_suffix_too():
    unit_map = load_map_with_cuts("densenet121")
    model = Family("densenet121", drop_path=False).build()
    apply_freeze(model, unit_map, len(unit_map))
    _, suffix = cut(model, unit_map, 2)
    model.train()
    suffix.train()
    assert suffix.training and not suffix.features.training
    assert suffix.features.train.module is suffix.features
    rest = suffix.features.denseblock2.modules()
    assert not any(module.training for module in rest)


def test_behind_no_unit_the_suffix_is_the_network():
    family, unit_map = Family("test_resnet"), load_map_with_cuts("test_resnet")
    model, images = family.build(), family.draw_images()
    prefix, suffix = cut(model, unit_map, 0)
    assert suffix is model
    assert prefix(images) is images


def test_behind_the_last_unit_only_the_head_is_left():
    family, unit_map = Family("test_resnet"), load_map_with_cuts("test_resnet")
    model = family.build()
    prefix, suffix = cut(model, unit_map, len(unit_map))
    assert prefix(family.draw_images()).shape[-2:] == (1, 1)  # at 32 pixels; before the pooling
    assert {name for name, _ in suffix.named_parameters()} == {"fc.weight", "fc.bias"}


def test_a_wrong_cut_is_noticed():
    family, unit_map = Family("test_resnet"), load_map_with_cuts("test_resnet")
    model, images = family.build(), family.draw_images()
    for _, norm in list_norms(model):  # the last of each block is 0: no block would do a thing
        nn.init.ones_(norm.weight)
    prefix, suffix = cut(model, unit_map, 2)
    check_cut(model, prefix, suffix, images)
    wrong = make_suffix(model, unit_map, 1)
    with pytest.raises(ConfigError, match="gives other outputs than the whole one, by up to"):
        check_cut(model, prefix, wrong, images)
    assert model.training and model.layer1.training
