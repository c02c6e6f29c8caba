"""Names are mapped only where the mapped network computes what the original one does."""

import re

import hand_made
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tlcnn.errors import WeightsError
from tlcnn.model import match
from tlcnn.model.checkpoint_file import State, load_state
from tlcnn.model.match import match_names
from tlcnn.model.unit_map import Unit, UnitMap

NET = hand_made.make_net(seed=0)
MAP = hand_made.make_map(NET)
SOURCE = hand_made.make_source().state_dict()
BODY = MAP.tensors_of(1, len(MAP))


def _renamed(prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in SOURCE.items()}


def _fits(found: State) -> bool:
    return all(torch.equal(found[name], SOURCE[name]) for name in BODY)


def test_equal_names_are_left_alone():
    assert match_names(SOURCE, NET, MAP) is SOURCE


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "model._orig_mod.",
        "module.backbone.",
        "net.encoder.",
        "any.thing.else.",
    ],
)
def test_prefixes(prefix):
    assert _fits(match_names(_renamed(prefix), NET, MAP))


def test_parts_that_were_wrapped_one_by_one():
    state = {re.sub(r"^(layer\d)\.", r"\1._orig_mod.", n): t for n, t in SOURCE.items()}
    assert _fits(match_names(state, NET, MAP))


def test_a_backbone_beside_other_modules():
    others = {"model.projector.0.weight": torch.zeros(3), "queue": torch.zeros(9)}
    state = {**others, **_renamed("model.backbone.")}
    assert _fits(match_names(state, NET, MAP))


def test_the_trained_one_of_two_networks():
    other = {f"encoder_k.{n}": torch.zeros_like(t) for n, t in SOURCE.items()}
    assert _fits(match_names({**other, **_renamed("module.encoder_q.")}, NET, MAP))


def test_the_trained_one_of_a_network_and_its_momentum_copy():
    other = {f"momentum_encoder.{n}": torch.zeros_like(t) for n, t in SOURCE.items()}
    assert _fits(match_names({**other, **_renamed("module.base_encoder.")}, NET, MAP))


def test_two_networks_without_a_preference_are_ambiguous():
    with pytest.raises(WeightsError, match=r"several networks that fit, under left\., right\."):
        match_names({**_renamed("left."), **_renamed("right.")}, NET, MAP)


def test_a_cut_backbone_is_found():
    part = {f"backbone.{n}": SOURCE[n] for n in MAP.tensors_of(1, 3)}
    found = match_names(part, NET, MAP)
    assert all(torch.equal(found[name], SOURCE[name]) for name in MAP.tensors_of(1, 3))


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("resnet34", "layers that it does not have: layer1.2.conv1.weight"),
        ("resnet50", "layer1.0.conv1.weight (64, 64, 1, 1) instead of (64, 64, 3, 3)"),
        ("resnet10t", "missing: conv1.weight"),
        ("mobilenetv2_050", "missing: conv1.weight"),
    ],
)
def test_another_architecture(architecture, expected):
    with pytest.raises(WeightsError, match="do not fit resnet18") as caught:
        match_names(hand_made.make_source(architecture).state_dict(), NET, MAP)
    assert expected in str(caught.value)


def test_a_shallower_architecture():
    deep = hand_made.make_net("resnet34", seed=0)
    with pytest.raises(WeightsError, match=r"missing: layer1\.2\.conv1\.weight"):
        match_names(SOURCE, deep, hand_made.make_map(deep, "resnet34"))


@pytest.mark.parametrize("state", [{"weight": torch.zeros(3)}, {"scale": torch.tensor(1.0)}])
def test_anything_else(state):
    with pytest.raises(WeightsError, match="100 of 100 missing: conv1.weight"):
        match_names(state, NET, MAP)


# timm's name, torchvision's name, image size; checked by outputs
SAME = [
    ("resnet18", "resnet18", 64),
    ("densenet121", "densenet121", 64),
    ("mobilenetv2_100", "mobilenet_v2", 64),
    ("efficientnet_b0", "efficientnet_b0", 64),
    ("regnety_004", "regnet_y_400mf", 64),
]
SAME_SLOW = [
    ("convnext_tiny", "convnext_tiny", 64),
    ("mnasnet_100", "mnasnet1_0", 64),
    ("vgg11", "vgg11", 224),
    ("vgg16_bn", "vgg16_bn", 224),
    ("inception_v3", "inception_v3", 299),
    ("wide_resnet50_2", "wide_resnet50_2", 64),
    ("regnetx_008", "regnet_x_800mf", 64),
    ("convnext_small", "convnext_small", 64),
    *[(f"efficientnet_b{i}", f"efficientnet_b{i}", 64) for i in (1, 2, 3, 4)],
]
OTHERWISE = [
    ("mobilenetv3_large_100", "mobilenet_v3_large"),
    *(
        pytest.param(*row, marks=pytest.mark.slow)
        for row in (
            ("efficientnet_b5", "efficientnet_b5"),
            ("tf_efficientnetv2_s", "efficientnet_v2_s"),
        )
    ),
]


def _make_torchvision(name: str) -> torch.nn.Module:
    extra = {"init_weights": False} if name == "inception_v3" else {}
    net = torchvision.models.get_model(name, weights=None, num_classes=5, **extra)
    return hand_made.move_norms(net).eval()


@pytest.mark.parametrize(
    ("name", "theirs", "size"),
    [*SAME, *(pytest.param(*row, marks=pytest.mark.slow) for row in SAME_SLOW)],
)
def test_torchvision_weights_compute_the_same(tmp_path, name, theirs, size):
    original = _make_torchvision(theirs)
    torch.save({"model": original.state_dict()}, tmp_path / "a.pth")
    net = hand_made.make_net(name, seed=0, n_classes=5)
    found = match_names(load_state(tmp_path / "a.pth"), net, hand_made.make_map(net, name))
    net.load_state_dict({n: found[n] for n in net.state_dict()})
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, expected = net(images), original(images)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert all(int(t) == 7 for n, t in net.state_dict().items() if n.endswith("tracked"))


def _number_parts(net: torch.nn.Module, prefix: str) -> State:
    """Return the tensors of `nn.Sequential(*net.children())`."""
    parts = torch.nn.Sequential(*net.children()).state_dict()
    return {prefix + name: tensor for name, tensor in parts.items()}


def _write_old_names(net: torch.nn.Module) -> State:
    """Return the names of torchvision before 0.3, as CheXNet's file has them."""
    return {
        "module.densenet121." + re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", n): t
        for n, t in net.state_dict().items()
        if not n.endswith("tracked")
    }


@pytest.mark.parametrize(
    ("name", "rename", "size"),
    [
        ("resnet18", lambda net: _number_parts(net, "backbone."), 64),  # RadImageNet
        ("resnet18", lambda net: _number_parts(net, "0."), 64),  # fastai
        ("resnet18", lambda net: _number_parts(net, "module.features."), 64),
        ("densenet121", lambda net: _number_parts(net, "backbone."), 64),
        ("densenet121", _write_old_names, 64),
        ("densenet121", lambda net: _write_old_names(net) | {"loss.weight": torch.ones(5)}, 64),
        pytest.param(
            *("inception_v3", lambda net: _number_parts(net, "backbone."), 299),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_renamed_torchvision_weights_compute_the_same(name, rename, size):
    original = _make_torchvision(name)
    if name == "inception_v3":
        del original.AuxLogits
    net = hand_made.make_net(name, seed=0, n_classes=5)
    units = hand_made.make_map(net, name)
    found = match_names(rename(original), net, units)
    missing = net.load_state_dict(found, strict=False).missing_keys
    assert all(name.endswith("tracked") or name in units.head for name in missing)
    net.get_classifier().load_state_dict(list(original.children())[-1].state_dict())
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net(images), original(images), rtol=1e-4, atol=1e-5)


def test_efficientnet_lite_under_its_original_names():
    """The first name is the file's; the kinds, shapes and order of all others decide."""
    source = hand_made.make_source("tf_efficientnet_lite0")
    modules = dict.fromkeys(name.rpartition(".")[0] for name in source.state_dict())
    names = {m: "_conv_stem" if i == 0 else f"_blocks.{i}" for i, m in enumerate(modules)}
    state = {
        f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": tensor
        for name, tensor in source.state_dict().items()
    }
    net = hand_made.make_net("tf_efficientnet_lite0", seed=0)
    units = hand_made.make_map(net, "tf_efficientnet_lite0")
    found = match_names(state, net, units)
    assert all(torch.equal(found[n], source.state_dict()[n]) for n in units.tensors_of(1, 1))
    twin = hand_made.make_net("efficientnet_lite0", seed=0)
    with pytest.raises(WeightsError, match="does not tell whether its network computes the same"):
        match_names(state, twin, hand_made.make_map(twin, "efficientnet_lite0"))


def test_a_misfit_is_described_in_the_names_of_the_file():
    """A prefix that was guessed from a few equal shapes is no part of a message."""
    state = _number_parts(hand_made.make_source("resnet50"), "backbone.")
    with pytest.raises(
        WeightsError, match=r"backbone\.4\.0\.conv1\.weight \(64, 64, 1, 1\) instead"
    ):
        match_names(state, NET, MAP)
    foreign = {f"a.{i}.weight": torch.zeros(64, 3, 7, 7) for i in range(9)}  # one fits conv1
    with pytest.raises(WeightsError, match=r"it holds instead or besides: a\.0\.weight") as caught:
        match_names(foreign, NET, MAP)
    assert "100 of 100 missing: conv1.weight" in str(caught.value)
    deeper = _number_parts(hand_made.make_source("resnet34"), "backbone.")
    with pytest.raises(WeightsError, match=r"does not have: backbone\.4\.2\.conv1\.weight"):
        match_names(deeper, NET, MAP)
    grey = {**SOURCE, "conv1.weight": SOURCE["conv1.weight"][:, :1]}
    with pytest.raises(WeightsError, match=r"x\.conv1\.weight \(64, 1, 7, 7\) instead of"):
        match_names({f"x.{n}": t for n, t in grey.items()}, NET, MAP)


@pytest.mark.parametrize(("name", "theirs"), OTHERWISE)
def test_equal_shapes_with_another_computation_are_refused(name, theirs):
    net = hand_made.make_net(name, seed=0)
    with pytest.raises(WeightsError, match="does not tell whether its network computes the same"):
        match_names(_make_torchvision(theirs).state_dict(), net, hand_made.make_map(net, name))


def test_a_file_that_lost_its_order_is_not_mapped(tmp_path):
    save_file(_make_torchvision("mobilenet_v2").state_dict(), tmp_path / "a.safetensors")
    net = hand_made.make_net("mobilenetv2_100", seed=0)
    units = hand_made.make_map(net, "mobilenetv2_100")
    with pytest.raises(WeightsError, match="do not fit"):
        match_names(load_file(tmp_path / "a.safetensors"), net, units)


@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float32, torch.float16)])
def test_equal_blocks_in_another_order_are_not_mapped(dtypes):
    """The trap: block 10 sorts before block 2 and has its shape."""
    net = torch.nn.Sequential(*(torch.nn.Linear(2, 2, bias=False) for _ in range(12)))
    names = tuple(net.state_dict())
    units = UnitMap("mobilenetv2_100", "stage", (Unit("all", (), names, (), 0, 1),), (), ())
    in_order = {
        f"features.{i}.0.weight": torch.full((2, 2), float(i), dtype=dtypes[i % len(dtypes)])
        for i in range(12)
    }
    found = match._match_by_position(in_order, net, units)
    assert [float(found[name][0, 0]) for name in names] == list(range(12))
    by_name = sorted(in_order, key=lambda name: (str(in_order[name].dtype), name))
    assert match._match_by_position({n: in_order[n] for n in by_name}, net, units) == {}


def test_mapping_draws_nothing_and_changes_nothing():
    net = hand_made.make_net("mobilenetv2_100", seed=0)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.random.get_rng_state()
    state = _make_torchvision("mobilenet_v2").state_dict()
    torch.random.set_rng_state(expected)
    match_names(state, net, hand_made.make_map(net, "mobilenetv2_100"))
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
