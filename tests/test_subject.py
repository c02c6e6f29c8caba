"""What measures look at: one pass for equal networks, and the same bits on any number of cores."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from subjects import make_subject

from tlcnn.data.batches import iter_plain
from tlcnn.layers import load_measure, subject
from tlcnn.layers.networks import apply_mean_statistics
from tlcnn.layers.subject import map_batches
from tlcnn.model.build import build_model
from tlcnn.model.cut import copy_modules
from tlcnn.model.norms import apply_statistics, list_statistics


@pytest.fixture
def n_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_measures_have_the_same_bits_on_one_core_and_on_two(n_threads):
    made = make_subject()
    readings = {}
    measures = ("knn", "cka", "gradient")
    for number in (1, 2):
        n_threads(number)
        networks = {role: copy.deepcopy(network) for role, network in made.networks.items()}
        apply_mean_statistics(networks["random"], made.images["train"])
        same = replace(made, networks=networks, _features={})
        readings[number] = {name: load_measure(name)(same) for name in measures}
    for name in measures:
        assert readings[1][name] == readings[2][name], name
        assert any(reading.value is not None for reading in readings[1][name]), name


@pytest.mark.parametrize("changed", [None, "running_mean", "weight"])
def test_networks_with_equal_units_are_passed_once(monkeypatch, changed):
    made = make_subject(roles=("start", "twin"))
    twin = copy.deepcopy(made.networks["start"])
    torch.nn.init.ones_(twin.get_classifier().weight)  # the head's weights change no feature
    if changed is not None:
        with torch.no_grad():
            getattr(twin.bn1, changed).mul_(2).add_(1)
    made = replace(made, networks={**made.networks, "twin": twin}, _features={})
    passed = []

    def compute(model, *arguments):
        passed.append(model)
        return compute_features(model, *arguments)

    compute_features = subject.compute_features
    monkeypatch.setattr(subject, "compute_features", compute)
    features = [made.features(role, "train") for role in ("start", "twin", "start")]
    assert features[0] is features[2]
    if changed is None:
        assert features[0] is features[1] and passed == [made.networks["start"]]
    else:
        assert passed == [made.networks["start"], twin]
        last = made.numbers[-1]
        assert not np.array_equal(features[0][last], features[1][last])


def test_batches_come_in_their_order_whatever_thread_takes_them(n_threads):
    images = make_subject().images["train"]
    expected = [batch.sum() for batch in iter_plain(images, 5)]
    for number in (1, 2, 7):
        n_threads(number)
        assert torch.equal(
            torch.stack(map_batches(images, lambda: torch.Tensor.sum, 5)), torch.stack(expected)
        )


def test_an_error_of_one_thread_is_raised(n_threads):
    def fail(batch):
        raise ValueError("a network that does not run")

    n_threads(2)
    with pytest.raises(ValueError, match="does not run"):
        map_batches(make_subject().images["train"], lambda: fail, 8)


def test_mean_statistics_are_those_of_one_pass(n_threads):
    images = make_subject().images["train"]
    networks = [build_model("test_resnet", n_classes=4, seed=1).eval() for _ in range(2)]
    n_threads(2)
    apply_mean_statistics(networks[0], images, batch_size=40)
    apply_statistics(networks[1], iter_plain(images, 40))
    pairs = zip(*map(list_statistics, networks), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)
    assert not any(module.training for module in networks[0].modules())


def test_copied_modules_hold_the_same_tensors_and_hooks_of_their_own():
    network = build_model("test_resnet", n_classes=4, seed=0)
    copied = copy_modules(network)
    copied.layer4.register_forward_pre_hook(lambda module, args: None)
    assert not network.layer4._forward_pre_hooks
    assert list(map(id, copied.parameters())) == list(map(id, network.parameters()))
    assert list(map(id, copied.buffers())) == list(map(id, network.buffers()))
