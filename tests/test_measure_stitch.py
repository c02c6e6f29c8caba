"""Stitching: networks that fit up to a linear map, units without any information, and training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from subjects import make_images, make_subject
from torch import Tensor, nn
from torch.nn import functional as F

from tlcnn.layers import DEFAULT, MEASURES
from tlcnn.layers.stitch import compute_stitch, fit_layer, stitch, train_layer
from tlcnn.layers.subject import Role, Subject
from tlcnn.model.cut import cut
from tlcnn.model.unit_map import Unit, UnitMap
from tlcnn.records.measures import Reading

MIX = torch.tensor([[0.0, 2.0, 0.0], [0.5, 0.0, 1.0], [0.0, 1.0, -1.0]])  # invertible


class Colours(nn.Module):
    """Two units that pass colours on as a map and as a vector; the class is the brightest."""

    def __init__(self, mix: Tensor) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 3, 1), nn.Linear(3, 3), nn.Linear(3, 3)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with torch.no_grad():
            self.first.weight.copy_(mix[:, :, None, None])
            self.second.weight.copy_(mix)
            self.fc.weight.copy_(5 * torch.linalg.pinv(mix @ mix))
            for layer in (self.first, self.second, self.fc):
                layer.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.second(self.pool(self.first(images))))


def make_colours(**roles: Tensor) -> Subject:
    units = (
        Unit("stem", ("first",), ("first.weight", "first.bias"), ("first",), 12, 1),
        Unit("vector", ("pool", "second"), ("second.weight",), ("pool", "second"), 12, 1),
    )
    images = {}
    for seed, split in enumerate(("train", "val", "test")):
        images[split] = make_images(60, 3, seed, pixels=4)
        pixels = images[split].pixels // 2
        pixels[np.arange(60), :, :, np.arange(60) % 3] += 90
        images[split] = replace(images[split], pixels=pixels)
    return Subject(
        unit_map=UnitMap("colours", "stage", units, ("fc.weight", "fc.bias"), ("fc",)),
        networks={role: Colours(mix).eval() for role, mix in roles.items()},
        images=images,
        groups={split: np.arange(60).astype(str) for split in images},
        n_classes=3,
        k=1,
    )


def test_a_linear_map_costs_nothing_and_dead_units_cost_everything():
    subject = make_colours(start=MIX, own=torch.eye(3), twin=MIX @ MIX, random=torch.zeros(3, 3))
    readings = compute_stitch(subject)
    for n, reading in enumerate(readings, start=1):
        assert (reading.n, reading.value, reading.ceiling) == (n, 0.0, 0.0)
        assert reading.low < 0 < reading.high < 0.1
        assert reading.null == pytest.approx(1 - 1 / 3)
        assert (reading.n_images, reading.over) == (60, "test groups")
    assert compute_stitch(subject) == readings


@pytest.mark.parametrize("n", [1, 2])
def test_least_squares_undoes_a_linear_map(n: int):
    subject = make_colours(start=MIX, own=torch.eye(3))
    images = subject.images["train"]
    prefix, target = (
        cut(subject.networks[role], subject.unit_map, n)[0] for role in ("start", "own")
    )
    layer = fit_layer(prefix, target, images)
    assert isinstance(layer, nn.Conv2d if n == 1 else nn.Linear)
    batch = images.feed_plain([np.arange(60)]).make_batch(0)
    torch.testing.assert_close(layer(prefix(batch)), target(batch), atol=5e-3, rtol=0)


def test_a_network_is_stitched_to_itself_as_it_is():
    subject = make_subject(roles=("own",))
    subject.networks = {"start": subject.networks["own"], "own": subject.networks["own"]}
    for n in subject.numbers:
        prefix, suffix = cut(subject.networks["own"], subject.unit_map, n)
        layer = fit_layer(prefix, prefix, subject.images["train"])
        batch = subject.images["train"].feed_plain([np.arange(96)]).make_batch(0)
        with torch.no_grad():
            expected = prefix(batch)
            error = (layer(expected) - expected).square().mean()
            assert error < 1e-3 * expected.square().mean()


def test_training_lowers_the_loss_and_changes_the_layer_alone():
    subject = make_subject()
    before = {
        role: {name: t.clone() for name, t in network.state_dict().items()}
        for role, network in subject.networks.items()
    }
    stitched = stitch(subject, "start", "own", 3)
    train = subject.images["train"]
    batch = train.feed_plain([np.arange(96)]).make_batch(0)
    optimizer = torch.optim.Adam(stitched.layer.parameters(), lr=1e-3)
    losses = []
    for epoch in (1, 2, 3):
        train_layer(stitched, optimizer, train, seed=0, epoch=epoch)
        with torch.no_grad():
            losses.append(float(F.cross_entropy(stitched(batch), train.labels)))
    assert losses[0] > losses[1] > losses[2]
    for role, network in subject.networks.items():
        assert not network.training
        assert all(p.grad is None and p.requires_grad for p in network.parameters())
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, before[role][name])


def test_what_cannot_be_stitched_says_why():
    def read(subject: Subject, n: int = 1) -> Reading:
        return compute_stitch(subject)[n - 1]

    roles: dict[Role, Tensor] = {"start": MIX, "own": torch.eye(3)}
    assert read(make_colours(start=MIX)).note == "the analysis has no network `own`"
    assert read(make_colours(**roles)).null is None and read(make_colours(**roles)).value == 0
    broken = make_colours(**roles)
    nn.init.constant_(broken.networks["start"].first.bias, float("nan"))
    assert read(broken).note == "not all features of `start` are finite"
    subject = make_colours(**roles)
    first, second = subject.unit_map.units
    lists = replace(second, cut_obstacle="a list of tensors crosses (2)")
    subject.unit_map = replace(subject.unit_map, units=(first, lists))
    note = "no single tensor leaves the unit: a list of tensors crosses (2)"
    assert (read(subject, 2).value, read(subject, 2).note) == (None, note)
    train = subject.images["train"]
    findings = replace(train, labels=F.one_hot(train.labels, 3))
    subject.images = {**subject.images, "train": findings}
    assert read(subject).note == "not defined for a task in which an image has several labels"


def test_stitching_is_computed_on_demand_alone():
    assert "stitch" in MEASURES and "stitch" not in DEFAULT
    assert {*DEFAULT, "stitch"} == set(MEASURES)
