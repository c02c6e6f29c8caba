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

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from tlcnn.data.batches import Batches, iter_plain
from tlcnn.layers.scoring import make_fixed_arm, make_guess
from tlcnn.layers.subject import Role, Subject, map_batches, pick_images, run_tasks
from tlcnn.model.cut import copy_modules, make_suffix, pass_boundaries
from tlcnn.model.norms import apply_statistics
from tlcnn.model.unit_map import UnitMap
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
    with torch.no_grad():
        inputs = _pass_inputs(final, unit_map)(train)
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
            suffix = _build_suffix(final, unit_map, n)
            if any(isinstance(m, _NormBase) and m.track_running_stats for m in suffix.modules()):
                exchanges[keys[1]] = tensors
            else:
                notes[keys[1]] = "no norm from this unit on has running statistics"

    def recompute(key: Key) -> Tensors:
        suffix = _build_suffix(final, unit_map, key[0])
        return {**exchanges[key], **_recompute(suffix, exchanges[key], inputs[key[0]])}

    recomputed = [key for key in exchanges if key[1].endswith(ENDINGS[1])]
    results = run_tasks(recompute, recomputed, train.device)
    return {**exchanges, **dict(zip(recomputed, results, strict=True))}, notes


def _pick_tensors(network: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    tensors = chain(network.named_parameters(), network.named_buffers())
    return {name: tensor for name, tensor in tensors if name in names}


def _can_cut(unit_map: UnitMap, n: int) -> bool:
    """Return whether a single tensor enters unit n, and it is not the images."""
    return n > 1 and unit_map.units[n - 2].cut_obstacle is None


def _build_suffix(network: nn.Module, unit_map: UnitMap, n: int) -> nn.Module:
    """Return the part of a network that takes the inputs of unit n; see `_pass_inputs`."""
    return make_suffix(network, unit_map, n - 1) if _can_cut(unit_map, n) else network


def _pass_inputs(network: nn.Module, unit_map: UnitMap) -> Callable[[Tensor], dict[int, Tensor]]:
    """Return a function from images to what enters each unit of a network.

    It is the images where the network cannot be cut.
    """
    numbers = range(1, len(unit_map) + 1)
    cuts = [n - 1 for n in numbers if _can_cut(unit_map, n)]
    run = pass_boundaries(network, unit_map, 0, cuts)

    def find_inputs(images: Tensor) -> dict[int, Tensor]:
        crossing = run(images) if cuts else {}
        return {n: crossing.get(n - 1, images) for n in numbers}

    return find_inputs


def _recompute(suffix: nn.Module, tensors: Tensors, inputs: Tensor) -> dict[str, Tensor]:
    """Return the buffers of a suffix with a unit exchanged, and statistics of these inputs."""
    buffers = {name: tensors.get(name, b).clone() for name, b in suffix.named_buffers()}
    changed = copy_modules(suffix, {**tensors, **buffers})
    apply_statistics(changed, [inputs])
    return dict(changed.named_buffers())


def _compute_logits(
    subject: Subject, images: Batches, exchanges: Mapping[Key, Tensors]
) -> dict[str, np.ndarray]:
    """Return logits (n, K): `final`, and of each exchange under its unit and variant."""
    final, unit_map = subject.networks["final"], subject.unit_map
    last = len(unit_map)

    def build() -> Callable[[Tensor], dict[str, Tensor]]:
        network = copy_modules(final)
        numbers = {last, *(n for n, _ in exchanges)}
        suffixes = {n: _build_suffix(network, unit_map, n) for n in numbers}
        find_inputs = _pass_inputs(network, unit_map)

        def compute(batch: Tensor) -> dict[str, Tensor]:
            inputs = find_inputs(batch)
            outputs = {"final": suffixes[last](inputs[last])}
            for (n, variant), tensors in exchanges.items():
                changed = functional_call(suffixes[n], dict(tensors), (inputs[n],))
                outputs[f"{n} {variant}"] = changed
            return outputs

        return compute

    parts = map_batches(images, build)
    # A network that overflows without its norms' statistics is wrong, and no reason to stop.
    return {
        name: torch.nan_to_num(torch.cat([part[name] for part in parts])).cpu().numpy()
        for name in parts[0]
    }
