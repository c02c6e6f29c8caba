"""Units 1..k are the source's, bit for bit; the rest is the seed's own draw in every cell."""

import hand_made
import pytest
import torch

from tlcnn.errors import WeightsError
from tlcnn.model.checkpoint_file import load_state
from tlcnn.model.initialize import InitReport, apply_source, check_transfer
from tlcnn.model.match import match_names

SOURCE = hand_made.make_source().state_dict()
MAP = hand_made.make_map(hand_made.make_net(seed=0))


def _cell(k: int, seed: int = 0) -> dict[str, torch.Tensor]:
    net = hand_made.make_net(seed=seed)
    apply_source(net, MAP, SOURCE, k)
    return net.state_dict()


@pytest.mark.parametrize("k", range(6))
def test_units_up_to_k_are_the_source_and_the_rest_is_the_draw(k):
    cell, fresh = _cell(k), hand_made.make_net(seed=0).state_dict()
    below = set(MAP.tensors_of(1, k))
    for name, tensor in cell.items():
        assert torch.equal(tensor, (SOURCE if name in below else fresh)[name]), name
    for unit in MAP.units[k:]:  # a norm's fresh values are constants, so compare by unit
        assert not all(torch.equal(cell[n], SOURCE[n]) for n in unit.tensors), unit.name


def test_counters_and_statistics_travel():
    cell = _cell(1)
    assert int(cell["bn1.num_batches_tracked"]) == 7
    assert int(cell["layer1.0.bn1.num_batches_tracked"]) == 0
    assert torch.equal(cell["bn1.running_var"], SOURCE["bn1.running_var"])


def test_another_seed_draws_other_units():
    one, two = _cell(2, seed=0), _cell(2, seed=1)
    assert torch.equal(one["layer2.0.conv1.weight"], SOURCE["layer2.0.conv1.weight"]) is False
    assert not torch.equal(one["layer2.0.conv1.weight"], two["layer2.0.conv1.weight"])
    assert torch.equal(one["layer1.0.conv1.weight"], two["layer1.0.conv1.weight"])


def test_the_source_and_the_generator_are_left_alone():
    before = {name: tensor.clone() for name, tensor in SOURCE.items()}
    state = torch.random.get_rng_state()
    net = hand_made.make_net(seed=0)
    apply_source(net, MAP, SOURCE, 5)
    with torch.no_grad():
        net.conv1.weight.zero_()
    assert all(torch.equal(SOURCE[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.requires_grad for p in net.parameters())


def test_report_accounts_for_every_tensor():
    net = hand_made.make_net(seed=0)
    report = apply_source(net, MAP, {**SOURCE, "extra.weight": torch.zeros(1)}, 2)
    assert set(report.loaded) == set(MAP.tensors_of(1, 2))
    assert set(report.fresh) == set(net.state_dict()) - set(report.loaded)
    assert report.skipped["fc.weight"] == "head"
    assert report.skipped["layer3.0.conv1.weight"] == "above the transferred units"
    assert report.skipped["extra.weight"] == "not in this model"
    assert len(report.loaded) + len(report.skipped) == len(SOURCE) + 1
    text = report.describe()
    assert text.startswith(f"tensors: {len(report.loaded)} from the source, ")
    assert text.endswith(" above the transferred units, 2 head, 1 not in this model")
    assert InitReport(("a",), ()).describe() == "tensors: 1 from the source, 0 fresh"


def test_counters_may_be_missing():
    foreign = {n: t for n, t in SOURCE.items() if not n.endswith("num_batches_tracked")}
    net = hand_made.make_net(seed=0)
    report = apply_source(net, MAP, foreign, 1)
    assert int(net.bn1.num_batches_tracked) == 0
    assert "bn1.num_batches_tracked" in report.fresh
    assert "bn1.running_mean" in report.loaded


def _without(name: str) -> dict[str, torch.Tensor]:
    return {n: t for n, t in SOURCE.items() if n != name}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (_without("layer1.1.bn2.bias"), " missing: layer1.1.bn2.bias"),
        (_without("bn1.running_mean"), "missing: bn1.running_mean"),
        (
            {**SOURCE, "conv1.weight": torch.zeros(64, 1, 7, 7)},
            "conv1.weight (64, 1, 7, 7) instead of (64, 3, 7, 7)",
        ),
        ({**SOURCE, "bn1.bias": torch.full((64,), float("nan"))}, "not finite: bn1.bias"),
        ({**SOURCE, "bn1.bias": torch.zeros(64, dtype=torch.int8)}, "Quantised"),
    ],
)
def test_what_does_not_fit_changes_nothing(state, expected):
    net = hand_made.make_net(seed=0)
    with pytest.raises(WeightsError) as caught:
        apply_source(net, MAP, state, 2)
    assert expected in str(caught.value)
    fresh = hand_made.make_net(seed=0).state_dict()
    assert all(torch.equal(t, fresh[n]) for n, t in net.state_dict().items())


def test_what_is_above_k_may_be_broken():
    state = {**SOURCE, "layer4.0.bn1.bias": torch.full((512,), float("nan"))}
    apply_source(hand_made.make_net(seed=0), MAP, state, 4)
    with pytest.raises(WeightsError):
        apply_source(hand_made.make_net(seed=0), MAP, state, 5)


def test_check_transfer_sees_one_bit():
    net = hand_made.make_net(seed=0)
    apply_source(net, MAP, SOURCE, 2)
    check_transfer(net, MAP, SOURCE, 2)
    net.bn1.num_batches_tracked += 1
    with pytest.raises(WeightsError, match="bn1.num_batches_tracked"):
        check_transfer(net, MAP, SOURCE, 2)


def test_half_precision_sources_are_cast():
    half = {n: t.half() if t.is_floating_point() else t for n, t in SOURCE.items()}
    net = hand_made.make_net(seed=0)
    apply_source(net, MAP, half, 1)
    assert net.conv1.weight.dtype == torch.float32
    assert torch.equal(net.conv1.weight, half["conv1.weight"].float())
    check_transfer(net, MAP, half, 1)


@pytest.mark.realdata
def test_real_mobilenet(shared):
    state = load_state(shared / "weights" / "mobilenetv2_100.imagenet.safetensors")
    net = hand_made.make_net("mobilenetv2_100", seed=0, n_classes=7)
    units = hand_made.make_map(net, "mobilenetv2_100")
    report = apply_source(net, units, match_names(state, net, units), len(units))
    assert report.fresh == ("classifier.weight", "classifier.bias")
    assert report.skipped == {"classifier.bias": "head", "classifier.weight": "head"}
    assert len(report.loaded) + 2 == len(net.state_dict()) == len(state)
    check_transfer(net, units, state, len(units))
