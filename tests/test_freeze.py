"""A frozen prefix is a fixed function, in every family, whatever is called on the network."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from families import FAMILIES, MORE_FAMILIES, Family, list_norms, load_map
from torch import Tensor, nn
from torch.nn import functional as F

from tlcnn.config.schema import describe_type
from tlcnn.errors import BrokenPromise, ConfigError
from tlcnn.model.build import build_model
from tlcnn.model.cut import find_entrances
from tlcnn.model.freeze import (
    TREATMENTS,
    apply_freeze,
    are_same_bits,
    check_frozen,
    find_modules,
    snapshot_frozen,
)
from tlcnn.model.unit_map import Unit, UnitMap

STEPS = 2


@contextmanager
def watching(model: nn.Module, unit_map: UnitMap, n_units: int) -> Iterator[list[list[Tensor]]]:
    """Collect what enters the unit behind `n_units`, one list of tensors per forward pass."""
    crossed: list[list[Tensor]] = []
    outermost: list[str] = []

    def keep(path: str, args: tuple) -> None:
        outermost[:] = outermost or [path]
        if path == outermost[0]:
            first = args[0]
            tensors = [first] if isinstance(first, Tensor) else list(first)
            crossed.append([each.detach().clone() for each in tensors])

    handles = [
        model.get_submodule(path).register_forward_pre_hook(
            lambda module, args, path=path: keep(path, args)
        )
        for path in find_entrances(unit_map, n_units)
    ]
    try:
        yield crossed
    finally:
        for handle in handles:
            handle.remove()


def train(model: nn.Module, images: Tensor, steps: int = STEPS) -> None:
    """Take steps that would move anything that can move: every parameter, with weight decay."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
    for _ in range(steps):
        model.train()
        optimiser.zero_grad()
        F.cross_entropy(model(images), torch.tensor([0, 1])).backward()
        optimiser.step()


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def moved(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    after = tensors_of(model)
    return {name for name in before if not are_same_bits(before[name], after[name])}


def check_promise(family: Family, n_frozen: int, granularity: str = "stage") -> None:
    unit_map = load_map(family.name, granularity)
    model, images = family.build(), family.draw_images()
    apply_freeze(model, unit_map, n_frozen)
    before = tensors_of(model)
    snapshot = snapshot_frozen(model, unit_map, n_frozen)
    torch.manual_seed(1)  # dropout
    with watching(model, unit_map, n_frozen) as crossed:
        train(model, images)
        model.eval()
        model(images)
    check_frozen(model, snapshot)
    changed = moved(before, model)
    frozen = set(unit_map.tensors_of(1, n_frozen))
    assert set(snapshot) == frozen
    assert not changed & frozen
    assert set(unit_map.head) <= changed
    if n_frozen < len(unit_map):  # the rest does train
        rest = set(unit_map.tensors_of(n_frozen + 1, len(unit_map)))
        assert len(changed & rest) > len(rest) / 4
    assert len(crossed) == STEPS + 1
    for tensors in crossed[1:]:
        assert all(map(are_same_bits, crossed[0], tensors))


def pick(family: Family, where: str) -> int:
    n_units = len(load_map(family.name))
    return {"first": 1, "middle": n_units // 2 + 1, "all": n_units}[where]


# The normal suite freezes the first unit, half of the network and all of it, heavy families half;
# the slow one every number of units.
CASES = [
    pytest.param(family, where, id=f"{family.name}-{where}")
    for family in FAMILIES
    for where in (("middle",) if family.heavy else ("first", "middle", "all"))
]


@pytest.mark.parametrize(("family", "where"), CASES)
def test_frozen_units_are_a_fixed_function(family: Family, where: str):
    check_promise(family, pick(family, where))


@pytest.mark.slow
@pytest.mark.parametrize("family", (*FAMILIES, *MORE_FAMILIES), ids=lambda family: family.name)
def test_frozen_units_are_a_fixed_function_at_every_depth(family: Family):
    for n_frozen in range(len(load_map(family.name)) + 1):
        check_promise(family, n_frozen)


def check_units(family: Family, units: tuple[int, ...]) -> None:
    """Whatever units are frozen, nothing in them moves, and other tensors do."""
    unit_map = load_map(family.name)
    model, images = family.build(), family.draw_images()
    apply_freeze(model, unit_map, units)
    before, snapshot = tensors_of(model), snapshot_frozen(model, unit_map, units)
    frozen = set(unit_map.tensors_in(units))
    assert set(snapshot) == frozen
    torch.manual_seed(1)  # dropout
    train(model, images)
    check_frozen(model, snapshot)
    changed, rest = moved(before, model), set(before) - frozen
    assert not changed & frozen and len(changed) > len(rest) / 4
    active = {path for path, each in find_modules(model, unit_map, units) if each.training}
    assert not active


def list_masks(family: Family) -> list[tuple[int, ...]]:
    """All but one unit, and every second unit."""
    numbers = range(1, len(load_map(family.name)) + 1)
    but_one = [tuple(n for n in numbers if n != unit) for unit in numbers]
    return [*but_one, tuple(numbers[::2]), tuple(numbers[1::2])]


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_035", "test_convnext"])
def test_any_units_can_be_frozen(name: str):
    for units in list_masks(Family(name)):
        check_units(Family(name), units)


@pytest.mark.slow
@pytest.mark.parametrize("family", (*FAMILIES, *MORE_FAMILIES), ids=lambda family: family.name)
def test_any_units_can_be_frozen_in_every_family(family: Family):
    for units in list_masks(family):
        check_units(family, units)


@pytest.mark.parametrize("n_frozen", [7, 9])
def test_single_layers_are_frozen_with_the_dropped_paths_around_them(n_frozen: int):
    check_promise(Family("test_resnet"), n_frozen, "layer")
    model = Family("test_resnet").build()  # the map is made without dropped paths
    apply_freeze(model, load_map("test_resnet", "layer"), n_frozen)
    model.train()
    whole = n_frozen >= 8  # units 6 to 8 are layer2
    assert model.layer2[0].drop_path.training is not whole
    assert model.layer3[0].drop_path.training


# --- what each treatment of batch norm moves -----------------------------------------------


def norm_tensors(model: nn.Module, unit_map: UnitMap, n_frozen: int) -> tuple[set, set]:
    inside = set(unit_map.tensors_of(1, n_frozen))
    norms = list_norms(model)
    params = {name for path, norm in norms for name, _ in norm.named_parameters(path)}
    buffers = {name for path, norm in norms for name, _ in norm.named_buffers(path)}
    return params & inside, buffers & inside


@pytest.mark.parametrize("bn", TREATMENTS)
@pytest.mark.parametrize(
    "name", ["test_resnet", "test_byobnet", "test_efficientnet_gn", "test_convnext", "test_nfnet"]
)
def test_each_treatment_of_norms_moves_what_it_says_and_nothing_else(name: str, bn: str):
    family, n_frozen = Family(name), 3
    unit_map, model = load_map(name), family.build()
    apply_freeze(model, unit_map, n_frozen, bn=bn)
    before = tensors_of(model)
    snapshot = snapshot_frozen(model, unit_map, n_frozen, bn=bn)
    train(model, family.draw_images())
    params, buffers = norm_tensors(model, unit_map, n_frozen)
    treatment = TREATMENTS[bn]
    expected = (params if treatment.trains_parameters else set()) | (
        buffers if treatment.stores_statistics else set()
    )
    frozen = set(unit_map.tensors_of(1, n_frozen))
    assert moved(before, model) & frozen == expected
    assert set(snapshot) == frozen - expected
    check_frozen(model, snapshot)


def test_the_configuration_allows_every_treatment_and_no_other():
    assert describe_type("freeze.bn") == f"one of {', '.join(TREATMENTS)}"


@pytest.mark.parametrize("bn", ["adapt", "batch"])
def test_batch_statistics_are_used_in_training_and_stored_ones_in_evaluation(bn: str):
    family = Family("test_resnet", drop_path=False)
    unit_map, images = load_map(family.name), family.draw_images()
    plain, frozen = family.build(), family.build()
    apply_freeze(frozen, unit_map, len(unit_map), bn=bn)
    for _, norm in list_norms(plain):
        norm.running_mean.normal_()
    frozen.load_state_dict(plain.state_dict())
    assert are_same_bits(*(model.eval().forward_features(images) for model in (plain, frozen)))
    trained = [model.train().forward_features(images) for model in (plain, frozen)]
    assert are_same_bits(*trained)
    assert not torch.allclose(trained[0], plain.eval().forward_features(images))
    if bn == "adapt":
        assert all(map(are_same_bits, plain.buffers(), frozen.buffers()))


def test_adapt_still_silences_dropped_paths():
    family = Family("test_resnet")
    unit_map, images = load_map(family.name), family.draw_images()
    model = family.build()
    apply_freeze(model, unit_map, len(unit_map), bn="batch")
    model.train()
    with torch.no_grad():
        outputs = [model.forward_features(images) for _ in range(3)]
    assert all(are_same_bits(outputs[0], each) for each in outputs)


# --- the frozen mode survives ------------------------------------------------------------


@pytest.fixture
def frozen() -> tuple[nn.Module, UnitMap]:
    unit_map = load_map("test_resnet")
    model = Family("test_resnet").build()
    apply_freeze(model, unit_map, 3)
    return model, unit_map


def is_quiet(model: nn.Module, through: str = "layer2") -> bool:
    modules = [model.conv1, model.bn1, *model.layer1.modules()]
    modules += list(model.get_submodule(through).modules())
    return not any(module.training for module in modules)


def test_frozen_modules_stay_in_evaluation_whatever_is_trained(frozen):
    model, _ = frozen
    for call in (model, model.layer1, model.layer2[0], model.layer2[0].bn1, model.bn1):
        call.train()
        assert is_quiet(model)
    model.train()
    assert model.training and model.layer3.training and model.layer4[0].bn1.training


def test_a_deep_copy_keeps_the_promise_and_minds_its_own_modules(frozen):
    model, unit_map = frozen
    twin = copy.deepcopy(model)
    snapshot = snapshot_frozen(twin, unit_map, 3)
    train(twin, Family("test_resnet").draw_images())
    check_frozen(twin, snapshot)
    assert is_quiet(twin)
    twin.layer2.training = twin.layer2[0].training = True  # by hand, behind its back
    model.train()
    assert twin.layer2.training, "the original's train() reached into the copy"
    assert twin.train().layer2.training is False


def test_more_units_can_be_frozen_later(frozen):
    model, unit_map = frozen
    apply_freeze(model, unit_map, 4)
    model.train()
    assert is_quiet(model, "layer3")
    assert not any(parameter.requires_grad for parameter in model.layer3.parameters())


def test_nothing_frozen_is_plain_training():
    unit_map, family = load_map("test_resnet"), Family("test_resnet", drop_path=False)
    plain, model = family.build(), family.build()
    apply_freeze(model, unit_map, 0)
    for each in (plain, model):
        torch.manual_seed(0)
        train(each, family.draw_images())
    assert not moved(tensors_of(plain), model)


def test_norms_are_found_by_type_and_not_by_name():
    model = nn.ModuleDict()
    model["bn_of_no_norm"] = nn.Conv2d(3, 4, 1)
    model["scale"] = nn.BatchNorm2d(4)
    unit = Unit(
        name="stem",
        natives=("bn_of_no_norm", "scale"),
        tensors=tuple(tensors_of(model)),
        modules=("bn_of_no_norm", "scale"),
        n_params=0,
        stride=1,
    )
    unit_map = UnitMap("toy", "stage", (unit,), (), ())
    apply_freeze(model, unit_map, 1, bn="affine")
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert trained == {"scale.weight", "scale.bias"}


# --- the proof itself --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["bn1.running_mean", "bn1.num_batches_tracked", "layer2.0.conv1.weight"]
)
def test_a_frozen_tensor_that_moved_is_named(frozen, name: str):
    model, unit_map = frozen
    snapshot = snapshot_frozen(model, unit_map, 3)
    check_frozen(model, snapshot)
    with torch.no_grad():
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        tensors[name].view(-1)[0] += 1
    with pytest.raises(BrokenPromise, match=rf"1 of {len(snapshot)} .*{name}"):
        check_frozen(model, snapshot)


def test_bits_are_compared_and_not_values():
    zero, nan = torch.zeros(2), torch.full((2,), float("nan"))
    assert not are_same_bits(zero, -zero)
    assert are_same_bits(nan, nan.clone())
    assert not are_same_bits(zero, zero.double())
    image = torch.randn(2, 3, 4, 4)
    assert are_same_bits(image, image.to(memory_format=torch.channels_last))


def test_a_misspelt_treatment_is_refused_with_what_is_allowed():
    unit_map = load_map("test_resnet")
    model = build_model("test_resnet", n_classes=2, seed=0)
    with pytest.raises(ConfigError, match="Did you mean 'frozen'.*affine, adapt, batch"):
        apply_freeze(model, unit_map, 1, bn="frozn")
    with pytest.raises(ConfigError, match="Allowed: 0 to 5"):
        apply_freeze(model, unit_map, 6)
