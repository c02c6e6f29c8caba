"""Re-initialisation robustness: what a network loses when one of its units is set back.

    r(u) = [M - M(u <- start)] / [M - chance]

M is the balanced accuracy of the final network on test images. M(u <- start) is that of the same
network with the parameters and buffers of unit u as they were before the first step (Zhang,
Bengio and Singer 2022, "Are all layers created equal?", JMLR 23). 0: the unit needed no change.
1: without its change the network guesses. Below 0: the network is better without the change.

    start              the unit as it was before the first step
    random             the unit of a network as it is drawn (re-randomisation)
    start recomputed   the running statistics of the norms from the unit on are computed anew, on
    random recomputed  train images, so that a mere change of scale costs nothing; those of all
                       norms where the network cannot be cut in front of the unit

`null` of the variants of `start` is the value of re-randomisation. Test images only score, at most
600 of them; statistics are those of one batch of at most 256 train images. The intervals are over
new test groups, for this network.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from tlcnn.data.batches import Batches, iter_plain
from tlcnn.layers.scoring import make_fixed_arm, make_guess
from tlcnn.layers.subject import BATCH_SIZE, Role, Subject, pick_images
from tlcnn.model.cut import make_suffix, pass_boundaries
from tlcnn.model.norms import apply_statistics
from tlcnn.records.measures import Reading
from tlcnn.statistics.arm import Arm
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.predictions import compute_softmax
from tlcnn.statistics.ratio import estimate_ratio
from tlcnn.study.layers import POINT

ROLES: tuple[Role, ...] = ("start", "random")
ENDINGS = ("", " recomputed")
N_TEST = 600  # images, at most
N_TRAIN = 256  # images of which statistics are computed: one batch
UNCHANGED = "the unit is the same in both networks"

Key = tuple[int, str]  # the number of a unit, and a variant
Tensors = Mapping[str, Tensor]


def compute_reinit(subject: Subject) -> list[Reading]:
    """Return r(u) of each unit, set back to its start and to random values.

    A unit that is the same in both networks has the value 0, and nothing is computed. The units in
    front of u are not changed, so the network runs from the boundary in front of u, where a single
    tensor crosses there.
    """
    numbers = range(1, len(subject.unit_map) + 1)
    keys = [(n, f"{role}{ending}") for n in numbers for role in ROLES for ending in ENDINGS]
    if subject.labels("test").ndim > 1:
        note = "several labels can hold at once, and balanced accuracy is of one"
        return [Reading("reinit", variant, n, None, note=note) for n, variant in keys]
    exchanges, notes = _make_exchanges(subject)
    images, positions = pick_images(subject.images["test"], N_TEST)
    logits = _compute_logits(subject, images, exchanges)
    scored = {name: compute_softmax(rows) for name, rows in logits.items()}
    scored["chance"] = make_guess(images.labels.cpu().numpy(), subject.n_classes)
    arms = {name: make_fixed_arm(subject, rows, positions) for name, rows in scored.items()}
    readings = {key: _make_reading(*key, arms, notes.get(key, ""), len(images)) for key in keys}
    nulls = {key: readings[key[0], key[1].replace("start", "random")].value for key in keys}
    return [
        replace(readings[key], null=nulls[key]) if key[1].startswith("start") else readings[key]
        for key in keys
    ]


def _make_reading(
    n: int, variant: str, arms: Mapping[str, Arm], note: str, n_images: int
) -> Reading:
    """Return a reading of a unit; where it has no arm, the note says why."""
    if note == UNCHANGED:
        return Reading("reinit", variant, n, 0.0, 0.0, 0.0, n_images=n_images, note=note)
    if note:
        return Reading("reinit", variant, n, None, note=note)
    final, changed = arms["final"], arms[f"{n} {variant}"]
    margin = [(1.0, final), (-1.0, arms["chance"])]
    if not estimate_contrast(margin).low > POINT:
        note = "the network is not shown to be better than guessing"
        return Reading("reinit", variant, n, None, n_images=n_images, note=note)
    loss = estimate_ratio([(1.0, final), (-1.0, changed)], margin)
    low, high = (bound if np.isfinite(bound) else None for bound in (loss.low, loss.high))
    return Reading(
        *("reinit", variant, n, loss.value, low, high), n_images=n_images, over="test groups"
    )


def _make_exchanges(subject: Subject) -> tuple[dict[Key, Tensors], dict[Key, str]]:
    """Return the tensors that take the place of the final network's, or why there are none."""
    final, unit_map = subject.networks["final"], subject.unit_map
    train = next(iter_plain(pick_images(subject.images["train"], N_TRAIN)[0], N_TRAIN))
    inputs = _find_inputs(subject, train)
    exchanges: dict[Key, Tensors] = {}
    notes: dict[Key, str] = {}
    for n, unit in enumerate(unit_map.units, start=1):
        trained = _pick_tensors(final, unit.tensors)
        for role in ROLES:
            keys = [(n, f"{role}{ending}") for ending in ENDINGS]
            if role not in subject.networks:
                notes |= dict.fromkeys(keys, f"the analysis has no network `{role}`")
                continue
            tensors = _pick_tensors(subject.networks[role], unit.tensors)
            if all(torch.equal(trained[name], tensor) for name, tensor in tensors.items()):
                notes |= dict.fromkeys(keys, UNCHANGED)
                continue
            exchanges[keys[0]] = tensors
            suffix = _build_suffix(subject, n)
            if any(isinstance(m, _NormBase) and m.track_running_stats for m in suffix.modules()):
                exchanges[keys[1]] = {**tensors, **_recompute(suffix, tensors, inputs[n])}
            else:
                notes[keys[1]] = "no norm from this unit on has running statistics"
    return exchanges, notes


def _pick_tensors(network: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    tensors = chain(network.named_parameters(), network.named_buffers())
    return {name: tensor for name, tensor in tensors if name in names}


def _build_suffix(subject: Subject, n: int) -> nn.Module:
    """Return the part of the final network that takes the inputs of unit n; see `_find_inputs`."""
    final = subject.networks["final"]
    return make_suffix(final, subject.unit_map, n - 1) if n - 1 in subject.numbers else final


@torch.no_grad()
def _find_inputs(subject: Subject, images: Tensor) -> dict[int, Tensor]:
    """Return what enters each unit of the final network; the images where it cannot be cut."""
    numbers = range(1, len(subject.unit_map) + 1)
    cuts = [n - 1 for n in numbers if n - 1 in subject.numbers]
    final = subject.networks["final"]
    crossing = pass_boundaries(final, subject.unit_map, 0, cuts)(images) if cuts else {}
    return {n: crossing.get(n - 1, images) for n in numbers}


def _recompute(suffix: nn.Module, tensors: Tensors, inputs: Tensor) -> dict[str, Tensor]:
    """Return the buffers of a suffix with a unit exchanged, and statistics of these inputs."""
    changed = copy.deepcopy(suffix)
    with torch.no_grad():
        for name, tensor in _pick_tensors(changed, tensors).items():
            tensor.copy_(tensors[name])
    apply_statistics(changed, [inputs])
    return dict(changed.named_buffers())


@torch.no_grad()
def _compute_logits(
    subject: Subject, images: Batches, exchanges: Mapping[Key, Tensors]
) -> dict[str, np.ndarray]:
    """Return logits (n, K): `final`, and of each exchange under its unit and variant."""
    last = len(subject.unit_map)
    suffixes = {n: _build_suffix(subject, n) for n in {last, *(n for n, _ in exchanges)}}
    parts: dict[str, list[Tensor]] = {"final": []}
    for batch in iter_plain(images, BATCH_SIZE):
        inputs = _find_inputs(subject, batch)
        parts["final"].append(suffixes[last](inputs[last]))
        for (n, variant), tensors in exchanges.items():
            outputs = functional_call(suffixes[n], dict(tensors), (inputs[n],))
            parts.setdefault(f"{n} {variant}", []).append(outputs)
    # A network that overflows without its norms' statistics is wrong, and no reason to stop.
    return {name: torch.nan_to_num(torch.cat(o)).cpu().numpy() for name, o in parts.items()}
