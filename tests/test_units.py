"""Units partition every network, in the order in which it runs, with the names users expect."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from families import FAMILIES, MORE_FAMILIES, Family, load_map, load_map_with_cuts
from torch import nn

from tlcnn.errors import ConfigError
from tlcnn.model.build import build_model, parse_architecture
from tlcnn.model.load_units import load_unit_map
from tlcnn.model.unit_map import GRANULARITIES, UnitMap
from tlcnn.model.units import compute_partition
from tlcnn.plan.describe import describe_units

# --- the expected maps: the modules with tensors of every unit, and its stride -----------------

RESNET = "stem: conv1 bn1 @2 | stage1: layer1 @4 | stage2: layer2 @8 | stage3: layer3 @16 | "
MOBILE = (
    "stem: conv_stem bn1 @2 | stage1: blocks.0 @2 | stage2: blocks.1 @4 | stage3: blocks.2 @8 | "
    "stage4: blocks.3 blocks.4 @16 | "
)
DENSE = "stage{0}: features.denseblock{0} features.transition{0} @{1} | "
GOLDENS = {
    "resnet18": RESNET + "stage4: layer4 @32",
    "resnext50_32x4d": RESNET + "stage4: layer4 @32",
    "seresnet50": RESNET + "stage4: layer4 @32",
    "res2net50_26w_4s": RESNET + "stage4: layer4 @32",
    "densenet121": "stem: features.conv0 features.norm0 @2 | "
    + DENSE.format(1, 4)
    + DENSE.format(2, 8)
    + DENSE.format(3, 16)
    + "stage4: features.denseblock4 features.norm5 @32",
    "vgg16": "stem: features.0 features.2 @1 | stage1: features.5 features.7 @2 | "
    "stage2: features.10 features.12 features.14 @4 | "
    "stage3: features.17 features.19 features.21 @8 | "
    "stage4: features.24 features.26 features.28 @16 | neck: pre_logits @16",
    "vgg11_bn": "stem: features.0 features.1 @1 | stage1: features.4 features.5 @2 | "
    "stage2: features.8 features.9 features.11 features.12 @4 | "
    "stage3: features.15 features.16 features.18 features.19 @8 | "
    "stage4: features.22 features.23 features.25 features.26 @16 | neck: pre_logits @16",
    "mobilenetv2_100": MOBILE + "stage5: blocks.5 blocks.6 conv_head bn2 @32",
    "efficientnet_b0": MOBILE + "stage5: blocks.5 blocks.6 conv_head bn2 @32",
    "tf_efficientnetv2_b0": MOBILE + "stage5: blocks.5 conv_head bn2 @32",
    "mobilenetv3_large_100": MOBILE + "stage5: blocks.5 blocks.6 @32 | neck: conv_head @32",
    "convnext_tiny": "stem: stem @4 | stage1: stages.0 @4 | stage2: stages.1 @8 | "
    "stage3: stages.2 @16 | stage4: stages.3 head.norm @32",
    "inception_v3": "stem: Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 @2 | "
    "stage1: Conv2d_3b_1x1 Conv2d_4a_3x3 @4 | stage2: Mixed_5b Mixed_5c Mixed_5d @8 | "
    "stage3: Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e @16 | "
    "stage4: Mixed_7a Mixed_7b Mixed_7c @32",
    "resnetv2_50": "stem: stem @2 | stage1: stages.0 @4 | stage2: stages.1 @8 | "
    "stage3: stages.2 @16 | stage4: stages.3 norm @32",
    "xception41p": "stem: stem @2 | stage1: blocks.0 @4 | stage2: blocks.1 @8 | "
    "stage3: blocks.2 blocks.3 blocks.4 blocks.5 blocks.6 blocks.7 blocks.8 blocks.9 blocks.10 "
    "@16 | stage4: blocks.11 blocks.12 @32",
    "dla34": "stem: base_layer level0 @1 | stage1: level1 @2 | stage2: level2 @4 | "
    "stage3: level3 @8 | stage4: level4 @16 | stage5: level5 @32",
    "hrnet_w18_small": "stem: conv1 bn1 conv2 bn2 @4 | stage1: layer1 transition1 @8 | "
    "stage2: stage2 transition2 @16 | stage3: stage3 transition3 @32 | stage4: stage4 @32 | "
    "neck: incre_modules downsamp_modules final_layer @32",
}


def summarise(unit_map: UnitMap) -> str:
    def held(unit) -> list[str]:
        return [n for n in unit.natives if any(f"{t}.".startswith(f"{n}.") for t in unit.tensors)]

    units = unit_map.units
    return " | ".join(f"{unit.name}: {' '.join(held(unit))} @{unit.stride}" for unit in units)


@pytest.mark.parametrize("name", GOLDENS)
def test_stages_are_the_expected_ones(name: str):
    assert summarise(load_map(name)) == GOLDENS[name]


def test_native_units_are_the_groups_of_timm():
    assert len(load_map("mobilenetv2_100", "native")) == 8
    assert len(load_map("inception_v3", "native")) == 13
    assert load_map("resnet18", "native").names == (
        "conv1",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    )


def test_vgg_keeps_every_norm_with_its_convolution():
    """timm's own groups cut between the two, at every convolution."""
    convs = load_map("vgg11_bn", "native").units[:-1]
    assert len(convs) == 8
    for unit in convs:
        conv, norm = unit.tensors[0].rpartition(".")[0], unit.tensors[2].rpartition(".")[0]
        assert unit.natives[:2] == (conv, norm)
        assert f"{norm}.running_mean" in unit.tensors


def test_layers_are_convolutions_with_their_norms():
    unit_map = load_map("vgg11_bn", "layer")
    assert len(unit_map) == 8 + 2
    assert unit_map.units[0].tensors[:3] == (
        "features.0.weight",
        "features.0.bias",
        "features.1.weight",
    )
    dense = {unit.name: unit for unit in load_map("densenet121", "layer").units}
    first = dense["features.denseblock1.denselayer1.norm1"]  # pre-activation: with what follows
    assert {tensor.split(".")[3] for tensor in first.tensors} == {"norm1", "conv1", "norm2"}


def test_blocks_are_finer_than_stages():
    unit_map = load_map("resnet18", "block")
    assert unit_map.names[:3] == ("conv1", "layer1.0", "layer1.1")
    assert len(unit_map) == 9


# --- properties of every map ----------------------------------------------------------------


def owners_of(unit_map: UnitMap) -> dict[str, int]:
    parts = [*(unit.tensors for unit in unit_map.units), unit_map.head]
    return {tensor: n for n, tensors in enumerate(parts, start=1) for tensor in tensors}


def check_partition(unit_map: UnitMap, model: nn.Module) -> None:
    named = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    listed = [tensor for unit in unit_map.units for tensor in unit.tensors]
    assert sorted([*listed, *unit_map.head]) == sorted(named)
    assert all(unit.tensors for unit in unit_map.units)


def check_execution(unit_map: UnitMap, model: nn.Module, family: Family) -> None:
    """Run the network and look: units one after the other, and no norm without its convolution.

    A norm is a convolution's when it is given the very tensor that the convolution returned, by
    the module that holds both.
    """
    owners, ran, made, alive = owners_of(unit_map), [], {}, []

    def look(path: str, module: nn.Module, args: tuple, output: torch.Tensor) -> None:
        own = [f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)]
        ran.extend(owners[name] for name in own)
        if isinstance(module, nn.Conv2d):
            made[id(output)] = path
            alive.append(output)
        if isinstance(module, nn.BatchNorm2d) and id(args[0]) in made:
            conv = made[id(args[0])]
            if conv.rpartition(".")[0] == path.rpartition(".")[0]:
                assert owners[f"{conv}.weight"] == owners[f"{path}.weight"], (conv, path)

    for path, module in model.named_modules():
        module.register_forward_hook(
            lambda module, args, output, path=path: look(path, module, args, output)
        )
    with torch.no_grad():
        model.eval()(family.draw_images())
    assert ran == sorted(ran)


ALL = [pytest.param(f, id=f.name) for f in FAMILIES]
ALL += [pytest.param(f, id=f.name, marks=pytest.mark.slow) for f in MORE_FAMILIES]


@pytest.mark.parametrize("family", ALL)
def test_units_partition_the_network_in_execution_order(family: Family):
    unit_map, model = load_map(family.name), family.build(n_classes=7)
    check_partition(unit_map, model)
    check_execution(unit_map, model, family)
    assert unit_map.names[0] == "stem"
    assert len(set(unit_map.names)) == len(unit_map)
    assert 2 <= len(unit_map) <= 7


def test_parameters_are_counted():
    sizes = {
        n: p.numel() for n, p in Family("densenet121", drop_path=False).build().named_parameters()
    }
    for unit in load_map("densenet121").units:
        assert unit.n_params == sum(sizes.get(tensor, 0) for tensor in unit.tensors)


FINE = ["test_resnet", "test_nfnet", "test_convnext", "dla46x_c", "ghostnet_050", "resnetv2_18"]
SLOW_FINE = {f.name: pytest.mark.slow for f in FAMILIES if f.name not in FINE}


@pytest.mark.parametrize("granularity", GRANULARITIES[1:])
@pytest.mark.parametrize(
    "family", [pytest.param(f, id=f.name, marks=SLOW_FINE.get(f.name, ())) for f in FAMILIES]
)
def test_finer_units_partition_the_network_too(family: Family, granularity: str):
    unit_map, model = load_map(family.name, granularity), family.build()
    check_partition(unit_map, model)
    check_execution(unit_map, model, family)
    assert len(unit_map) >= len(load_map(family.name)) - 1
    assert len(set(unit_map.names)) == len(unit_map)


def test_the_classes_of_the_head_are_not_in_the_digest():
    unit_map = load_map("test_resnet")
    assert unit_map.digest() == replace(unit_map, head=()).digest()
    assert unit_map.digest() == compute_partition("test_resnet.r160_in1k").digest()
    assert unit_map.digest() != load_map("test_resnet", "block").digest()


# --- names that users type ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "through", "expected"),
    [
        ("resnet18", "layer3", 4),
        ("resnet18", "layer3.1", 4),
        ("resnet18", "layer3.1.conv1", 4),
        ("resnet18", "stage3", 4),
        ("resnet18", "stem", 1),
        ("resnet18", "maxpool", 1),
        ("resnet18", 2, 2),
        ("resnet18", "2", 2),
        ("resnet18", "none", 0),
        ("resnet18", None, 0),
        ("resnet18", "all", 5),
        ("densenet121", "denseblock2", 3),
        ("densenet121", "features.denseblock2", 3),
        ("densenet121", "transition2", 3),
        ("densenet121", "denseblock2.denselayer3", 3),
        ("efficientnet_b0", "blocks.4", 5),
        ("convnext_tiny", "stages.1", 3),
        ("inception_v3", "Mixed_5b", 3),
        ("vgg16", "features.7", 2),
        ("vgg16", "neck", 6),
        ("vgg16", "pre_logits", 6),
        ("hrnet_w18_small", "stage3", 4),
    ],
)
def test_through_counts_up_to_the_unit_that_holds_it(name: str, through: object, expected: int):
    assert load_map(name).count(through) == expected


@pytest.mark.parametrize(
    ("through", "message"),
    [
        ("layr3", "Did you mean 'layer3'"),
        ("blocks.4", "Allowed: none, all, 0..5, or a unit: stem"),
        ("layer3.7", "no unit 'layer3.7'"),
        ("fc", "no unit 'fc'"),
        ("conv2", "no unit 'conv2'"),  # in several units
        (6, "a number from 0 to 5 is allowed, not 6"),
        (-1, "not -1"),
    ],
)
def test_other_names_are_refused_with_the_list(through: object, message: str):
    with pytest.raises(ConfigError, match=message):
        load_map("resnet18").count(through)


# --- refusals -------------------------------------------------------------------------------


def test_unknown_granularities_and_networks_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'stage'.*native, block, layer"):
        compute_partition("resnet18", granularity="stages")
    with pytest.raises(ConfigError, match="timm .* has no network 'resnet19'"):
        compute_partition("resnet19")


def test_networks_without_units_in_a_row_are_refused_with_the_reason():
    with pytest.raises(ConfigError, match="runs after .* Choose a CNN"):
        compute_partition("coat_tiny")


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "visformer_tiny"])
def test_a_network_of_tokens_is_called_no_cnn_at_every_granularity(name: str, granularity: str):
    with pytest.raises(ConfigError, match=f"{name} is not a CNN .* no units at any granularity"):
        compute_partition(name, granularity=granularity)


@pytest.mark.parametrize("name", ["efficientformer_l1", "levit_128s"])
def test_networks_with_two_classifiers_are_refused_as_such(name: str):
    with pytest.raises(ConfigError, match=f"{name} has two classifiers"):
        compute_partition(name)
    with pytest.raises(ConfigError, match=f"{name} has two classifiers"):
        build_model(name, n_classes=2, seed=0)


# --- networks -------------------------------------------------------------------------------


def test_weights_depend_on_the_seed_and_leave_the_generators_alone():
    before = torch.random.get_rng_state()
    first = build_model("test_resnet", n_classes=3, seed=1).state_dict()
    torch.randn(3)
    second = build_model("test_resnet.r160_in1k", n_classes=3, seed=1).state_dict()
    other = build_model("test_resnet", n_classes=3, seed=2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.0.weight"], other["conv1.0.weight"])
    torch.random.set_rng_state(before)
    build_model("test_resnet", n_classes=3, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_dropped_paths_are_refused_where_a_family_has_none():
    build_model("densenet121", n_classes=2, seed=0, drop_path_rate=0.0)
    with pytest.raises(ConfigError, match="densenet121 has no drop_path_rate"):
        build_model("densenet121", n_classes=2, seed=0, drop_path_rate=0.1)


def test_a_misspelt_network_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'resnet50'"):
        parse_architecture("resnet5O")


# --- maps that are remembered, and shown ---------------------------------------------------


def test_a_remembered_map_needs_no_torch(tmp_path: Path):
    first = load_unit_map("test_resnet", cache_dir=tmp_path)
    assert first == load_map_with_cuts("test_resnet")
    code = (
        "import sys; from pathlib import Path; from tlcnn.model.load_units import load_unit_map; "
        "m = load_unit_map('test_resnet.r160_in1k', cache_dir=Path(sys.argv[1])); "
        "print(m.digest(), 'torch' in sys.modules or 'timm' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.split() == [first.digest(), "False"]


def test_a_map_survives_json():
    unit_map = load_map_with_cuts("test_resnet")
    assert UnitMap.from_dict(json.loads(json.dumps(asdict(unit_map)))) == unit_map


def test_units_are_described_line_by_line():
    lines = describe_units(load_map_with_cuts("hrnet_w18_small")).splitlines()
    stem = ["conv1", "bn1", "conv2", "bn2"]
    assert lines[0] == "hrnet_w18_small: 6 units at granularity stage"
    assert lines[2].split() == ["1", "stem", *stem, "4", "38,848", "12", "exact"]
    assert lines[3].endswith("a list of tensors crosses (2)")
    assert lines[-1].split() == ["head", "classifier"]
