"""Gradient need: known gradients, what scaling weights does, and the head that is fitted first."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from coloured import N_CLASSES, make_coloured
from subjects import make_subject
from torch import nn
from torch.nn import functional as F

from tlcnn.data.batches import iter_plain
from tlcnn.layers.gradient import N_BLOCKS, compute_gradient, compute_gradients, fit_head
from tlcnn.layers.subject import Subject
from tlcnn.model.unit_map import Unit, UnitMap


class Plain(nn.Module):
    """Two convolutions without norms and biases; the second sees the images, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.second = nn.Conv2d(4 + 3, 6, 3, stride=2, bias=False)
        self.fc = nn.Linear(6, N_CLASSES)

    def forward(self, images):
        hidden = torch.cat([self.first(images).relu(), images], dim=1)
        return self.fc(self.second(hidden).relu().mean(dim=(2, 3)))


def make_plain(**changes) -> Subject:
    """Return a subject of coloured images and a network as it is drawn."""
    torch.manual_seed(0)
    units = (
        Unit("stem", ("first",), ("first.weight",), ("first",), 108, 1, "2 tensors cross"),
        Unit("stage1", ("second",), ("second.weight",), ("second",), 378, 2),
    )
    sizes = {"train": 96, "val": 40, "test": 40}
    subject = Subject(
        unit_map=UnitMap("plain", "stage", units, ("fc.weight", "fc.bias"), ("fc",)),
        networks={"start": Plain().eval()},
        images={split: make_coloured(n, n) for split, n in sizes.items()},
        groups={split: np.arange(n).astype(str) for split, n in sizes.items()},
        n_classes=N_CLASSES,
        k=2,
    )
    return replace(subject, **changes)


def read(subject):
    return {(reading.variant, reading.n): reading for reading in compute_gradient(subject)}


def test_the_mean_gradient_is_that_of_all_images_with_the_fitted_head():
    subject = make_plain()
    network = copy.deepcopy(subject.networks["start"])
    assert fit_head(network, subject) is None
    images, labels = next(iter_plain(subject.images["train"], 96)), subject.images["train"].labels
    F.cross_entropy(network(images), labels).backward()
    for n, name in ((1, "first.weight"), (2, "second.weight")):
        weight = network.get_parameter(name)
        expected = float(weight.grad.norm() / weight.detach().norm())
        reading = read(subject)["mean", n]
        assert reading.value == pytest.approx(expected, rel=1e-4)
        assert 0 < reading.low < expected < reading.high
        assert (reading.n_images, reading.over) == (96, "batches of train images")


def test_a_unit_without_a_gradient_has_no_need():
    subject = make_plain()
    with torch.no_grad():
        subject.networks["start"].second.weight[:, :4] = 0
    readings = read(subject)
    for variant in ("mean", "batch", "fisher"):
        still, other = readings[variant, 1], readings[variant, 2]
        assert (still.value, still.low, still.high) == (0.0, 0.0, 0.0)
        assert other.value > 0


def test_four_times_the_weights_have_a_sixteenth_of_the_need():
    plain, scaled = make_plain(), make_plain()
    with torch.no_grad():
        scaled.networks["start"].first.weight.mul_(4)
        scaled.networks["start"].second.weight[:, :4].div_(4)  # the same function, the same bits
    expected, readings = read(plain), read(scaled)
    for variant, factor in (("mean", 16), ("batch", 16), ("fisher", 256)):
        ratio = expected[variant, 1].value / readings[variant, 1].value
        assert ratio == pytest.approx(factor, rel=1e-6)


def test_the_fisher_trace_from_batches_is_the_mean_over_images():
    subject = make_plain()
    network = subject.networks["start"]
    images, parameters = subject.images["train"], {1: [network.first.weight]}
    squares = []
    for batch, label in zip(next(iter_plain(images, 96)), images.labels, strict=True):
        network.zero_grad()
        F.cross_entropy(network(batch[None]), label[None]).backward()
        squares.append(float(network.first.weight.grad.square().sum()))
    expected = np.mean(squares)

    def estimate(seed, batch_size):
        order = np.random.default_rng(seed).permutation(96)
        gradients = compute_gradients(network, parameters, images, order, batch_size)[1]
        return gradients.compute(np.arange(N_BLOCKS))["fisher"]

    assert estimate(0, 1) == pytest.approx(expected, rel=1e-4)
    estimates = [estimate(seed, 6) for seed in range(40)]
    error = np.std(estimates) / 40**0.5
    assert abs(np.mean(estimates) - expected) < 3 * error < 0.2 * expected


def test_the_interval_of_the_batches_is_students():
    subject = make_plain()
    network = copy.deepcopy(subject.networks["start"])
    fit_head(network, subject)
    order = np.random.default_rng(0).permutation(96)
    weight = network.second.weight
    gradients = compute_gradients(network, {2: [weight]}, subject.images["train"], order)[2]
    means = np.sqrt(gradients.squares).mean(axis=1) / float(weight.detach().norm())
    half = 2.570582 * means.std(ddof=1) / N_BLOCKS**0.5
    reading = read(subject)["batch", 2]
    assert reading.high - reading.value == pytest.approx(half, rel=1e-4)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "mobilenetv3_small_050"])
def test_networks_are_left_as_they_are_and_the_same_bits_come_again(name):
    subject = make_subject(name, roles=("start",))
    subject.networks["start"].requires_grad_(False)  # as of frozen units
    before = copy.deepcopy(subject.networks["start"].state_dict())
    readings = compute_gradient(subject)
    assert readings == compute_gradient(replace(subject, _features={}))
    assert all(reading.value > 0 for reading in readings)
    after = subject.networks["start"].state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert not any(p.requires_grad for p in subject.networks["start"].parameters())


# ---- the head -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_present", [2, 4])
def test_the_head_alone_is_fitted_to_the_classes_that_occur(n_present):
    images = {
        split: make_coloured(n, n) for split, n in (("train", 96), ("val", 40), ("test", 40))
    }
    images = {s: replace(b, labels=b.labels % n_present) for s, b in images.items()}
    subject = make_plain(images=images)
    network = copy.deepcopy(subject.networks["start"])
    assert fit_head(network, subject) is None
    predicted = network(next(iter_plain(images["test"], 40))).argmax(dim=1)
    assert (predicted < n_present).all()
    if n_present == N_CLASSES:  # two colours of each of two classes are not on a line
        assert (predicted == images["test"].labels).float().mean() > 0.9
    for name, parameter in subject.networks["start"].named_parameters():
        assert torch.equal(parameter, network.get_parameter(name)) == (not name.startswith("fc"))


def test_a_head_that_cannot_be_fitted_is_said():
    subject = make_plain()
    network = copy.deepcopy(subject.networks["start"])
    network.fc = nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 4, 1), nn.Flatten())
    wide = read(replace(subject, networks={"start": network}))["mean", 1]
    assert wide.value is None and wide.note == "the head has no linear layer"
    train = subject.images["train"]
    findings = {"train": replace(train, labels=torch.ones(len(train), 3))}
    assert "several labels" in read(make_plain(images=findings))["mean", 1].note
    one = {"train": replace(train, labels=torch.zeros(len(train), dtype=torch.int64))}
    assert "two classes" in read(make_plain(images=one))["mean", 1].note
