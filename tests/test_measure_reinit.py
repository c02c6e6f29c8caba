"""Re-initialisation: 0 without change, 1 without the network, and what statistics repair."""

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from coloured import N_CLASSES, make_coloured
from subjects import make_subject

from tlcnn.data.batches import iter_plain
from tlcnn.layers.reinit import compute_reinit
from tlcnn.layers.scoring import make_fixed_arm, make_guess
from tlcnn.layers.subject import Subject
from tlcnn.model.build import build_model
from tlcnn.model.norms import apply_statistics
from tlcnn.statistics.estimate import estimate_contrast


@pytest.fixture(scope="module")
def trained() -> Subject:
    """A network that tells the colours apart, and what it was before."""
    subject = make_subject(roles=("start", "final", "random"), n_classes=N_CLASSES)
    images = {"train": make_coloured(96, 0), "val": make_coloured(16, 1)}
    images["test"] = make_coloured(120, 2)
    groups = {split: (np.arange(len(b)) // 2).astype(str) for split, b in images.items()}
    start = build_model("test_resnet", n_classes=N_CLASSES, seed=3).train()
    final = copy.deepcopy(start)
    optimizer = torch.optim.Adam(final.parameters(), lr=0.01)
    for _ in range(12):
        for number, batch in enumerate(iter_plain(images["train"], 32)):
            labels = images["train"].labels[32 * number : 32 * (number + 1)]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(final(batch), labels).backward()
            optimizer.step()
    random = build_model("test_resnet", n_classes=N_CLASSES, seed=9).eval()
    networks = {"start": start.eval(), "final": final.eval(), "random": random}
    for role in ("start", "random"):
        apply_statistics(networks[role], list(iter_plain(images["train"], 96)))
    return replace(subject, networks=networks, images=images, groups=groups)


def read(subject):
    return {(reading.variant, reading.n): reading for reading in compute_reinit(subject)}


def test_the_bits_are_the_same_on_one_core_and_on_two(trained):
    before = torch.get_num_threads()
    readings = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        readings.append(read(trained))
    torch.set_num_threads(before)
    assert readings[0] == readings[1]


def test_a_unit_that_did_not_change_loses_exactly_nothing(trained):
    mixed = copy.deepcopy(trained.networks["start"])
    unit = trained.unit_map.units[1]
    tensors = trained.networks["final"].state_dict()
    mixed.load_state_dict({n: tensors[n] for n in unit.tensors}, strict=False)
    readings = read(replace(trained, networks={**trained.networks, "start": mixed}))
    for variant in ("start", "start recomputed"):
        still = readings[variant, 2]
        assert (still.value, still.low, still.high) == (0.0, 0.0, 0.0)
        assert "same in both networks" in still.note
    expected = read(trained)
    assert readings["start", 4] == expected["start", 4]
    assert readings["start", 4].null == readings["random", 4].value > 0.2
    assert expected["start", 2].note == ""


def test_the_whole_network_drawn_anew_guesses(trained):
    units = trained.unit_map.units
    whole = replace(
        units[-1],
        natives=tuple(path for unit in units for path in unit.natives),
        tensors=tuple(name for unit in units for name in unit.tensors),
        modules=tuple(path for unit in units for path in unit.modules),
    )
    subject = replace(trained, unit_map=replace(trained.unit_map, units=(whole,)), _obstacles={})
    for variant in ("random", "random recomputed"):
        reading = read(subject)[variant, 1]
        assert reading.low - 1e-9 <= 1 <= reading.high + 1e-9 and abs(reading.value - 1) < 0.25
    upper = read(trained)["start", len(units)]
    assert -0.05 <= upper.value < reading.value
    assert (upper.n_images, upper.over) == (120, "test groups")


def test_the_value_is_that_of_the_network_itself_with_the_unit_set_back(trained):
    readings, final = read(trained), trained.networks["final"]
    test, train = (next(iter_plain(trained.images[s], 256)) for s in ("test", "train"))
    labels = trained.labels("test")

    @torch.no_grad()
    def score(network):
        right = network(test).argmax(dim=1).numpy() == labels
        return np.mean([right[labels == k].mean() for k in range(N_CLASSES)])

    top = score(final)
    assert top > 0.9
    for n, unit in enumerate(trained.unit_map.units, start=1):
        for role in ("start", "random"):
            changed = copy.deepcopy(final)
            tensors = trained.networks[role].state_dict()
            changed.load_state_dict({name: tensors[name] for name in unit.tensors}, strict=False)
            expected = (top - score(changed)) / (top - 1 / N_CLASSES)
            assert readings[role, n].value == pytest.approx(expected)
            assert readings[role, n].low <= expected <= readings[role, n].high
            if n == 1:  # the norms in front of the unit would stay as they are
                apply_statistics(changed, [train])
                expected = (top - score(changed)) / (top - 1 / N_CLASSES)
                assert readings[f"{role} recomputed", n].value == pytest.approx(expected)


def test_a_change_of_scale_is_repaired_by_new_statistics(trained):
    scaled = copy.deepcopy(trained.networks["final"])
    apply_statistics(scaled, [next(iter_plain(trained.images["train"], 256))])
    final, start = copy.deepcopy(scaled), scaled
    with torch.no_grad():
        for name, parameter in start.named_parameters():
            if parameter.ndim == 4 and name in trained.unit_map.units[2].tensors:
                parameter.mul_(50)
    readings = read(replace(trained, networks={"start": start, "final": final}))
    assert readings["start", 3].value > 0.2
    assert readings["start recomputed", 3].value == pytest.approx(0, abs=0.02)


def test_networks_are_left_as_they_are_and_the_same_bits_come_again(trained):
    before = copy.deepcopy(dict(trained.networks))
    first = compute_reinit(trained)
    assert first == compute_reinit(trained)
    for role, network in trained.networks.items():
        state = before[role].state_dict()
        assert all(torch.equal(t, state[name]) for name, t in network.state_dict().items())
        assert not any(module.training for module in network.modules())


def test_a_boundary_that_cannot_be_cut_changes_no_value(trained):
    units = tuple(replace(u, cut_obstacle="2 tensors cross") for u in trained.unit_map.units)
    uncut = replace(trained, unit_map=replace(trained.unit_map, units=units), _obstacles={})
    expected, readings = read(trained), read(uncut)
    for n in range(1, len(units) + 1):
        assert readings["start", n].value == pytest.approx(expected["start", n].value)


def test_what_is_missing_has_no_value_and_a_note(trained):
    networks = {role: trained.networks[role] for role in ("start", "final")}
    assert read(replace(trained, networks=networks))["random", 1].note.endswith(
        "no network `random`"
    )
    guessing = {"start": trained.networks["final"], "final": trained.networks["random"]}
    reading = read(replace(trained, networks=guessing))["start", 1]
    assert reading.value is None and "better than guessing" in reading.note
    plain = make_subject("test_convnext", roles=("start", "final"))
    assert "no norm" in read(plain)["start recomputed", 1].note
    findings = {
        split: replace(b, labels=torch.ones(len(b), 3)) for split, b in plain.images.items()
    }
    assert "several labels" in read(replace(plain, images=findings))["start", 1].note


def test_the_interval_of_one_network_is_that_of_new_test_groups():
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    right = rng.random(600) < 0.8
    images = SimpleNamespace(keys=np.arange(600))
    subject: Any = SimpleNamespace(
        labels=lambda split: labels,
        groups={"test": np.arange(600).astype(str)},
        images={"test": images},
    )
    network = make_fixed_arm(subject, np.eye(3)[np.where(right, labels, (labels + 1) % 3)])
    guess = make_fixed_arm(subject, make_guess(labels, 3))
    mean = estimate_contrast([(1.0, network), (-1.0, guess)])
    recalls = [right[labels == k].mean() for k in range(3)]
    expected = np.sqrt(sum(r * (1 - r) / 199 for r in recalls)) / 3
    assert mean.value == pytest.approx(np.mean(recalls) - 1 / 3)
    assert mean.se == pytest.approx(expected, rel=0.05)
    assert not mean.notes
