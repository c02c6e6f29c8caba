"""Freeze units of a network, so that each is a fixed function, and check that they stayed so."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tlcnn.errors import BrokenPromise, ConfigError, did_you_mean, list_names
from tlcnn.model.norms import is_norm
from tlcnn.model.unit_map import UnitMap, Units, list_enclosing, list_numbers


@dataclass(frozen=True)
class NormTreatment:
    """What the norm layers of frozen units may do while the rest of the network is trained.

    Attributes:
        trains_parameters: their weights and biases are trained.
        uses_batch_statistics: in training they normalise by the statistics of each batch, as plain
            training does. In evaluation they always use the stored statistics.
        stores_statistics: the stored statistics follow the batches.
    """

    trains_parameters: bool = False
    uses_batch_statistics: bool = False
    stores_statistics: bool = False


TREATMENTS = {  # the values of freeze.bn
    "frozen": NormTreatment(),
    "affine": NormTreatment(trains_parameters=True),
    "adapt": NormTreatment(uses_batch_statistics=True, stores_statistics=True),
    "batch": NormTreatment(uses_batch_statistics=True),
}


class StaysInEval:
    """Replaces `module.train` of a frozen module: the module stays in evaluation mode.

    Its children are still asked, because each of them has its own `train`. This is an object and
    not a closure, so that a deep copy of the module gets a copy that refers to the copied module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        self.module.training = False
        for child in self.module.children():
            child.train(mode)
        return self.module


def apply_freeze(model: nn.Module, unit_map: UnitMap, units: Units, *, bn: str = "frozen") -> None:
    """Make each of some units a fixed function, whatever calls of `train()` follow.

    Their parameters require no gradient. Every module that lies wholly inside these units stays in
    evaluation mode: no dropout, no dropped paths, no new statistics. The rest of the model is not
    changed. A second call may freeze more units, but not fewer.

    Args:
        units: n for units 1..n, or the numbers of any units.
        bn: the treatment of the norm layers in these units, a key of `TREATMENTS`.

    Raises:
        ConfigError: `bn` or `units` is not allowed.
    """
    moving = _find_moving_tensors(model, unit_map, units, bn)
    frozen = set(unit_map.tensors_in(units))
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(name in moving)
    treatment = TREATMENTS[bn]
    for _, module in find_modules(model, unit_map, units):
        has_statistics = is_norm(module) and any(True for _ in module.buffers())
        if not (has_statistics and treatment.uses_batch_statistics):
            hold_in_eval(module)
        elif not treatment.stores_statistics:
            if isinstance(module, _BatchNorm):
                module.track_running_stats = False  # evaluation still reads the stored ones
            else:
                module.momentum = 0.0  # type: ignore[assignment]


def hold_in_eval(module: nn.Module) -> None:
    """Put one module, but not its children, in evaluation mode for good."""
    module.training = False
    module.train = StaysInEval(module)  # type: ignore[method-assign]


def snapshot_frozen(
    model: nn.Module, unit_map: UnitMap, units: Units, *, bn: str = "frozen"
) -> dict[str, Tensor]:
    """Return copies of the tensors that must not change while some units are frozen.

    The tensors that the treatment `bn` allows to change are not among them. Raises ConfigError.
    """
    moving = _find_moving_tensors(model, unit_map, units, bn)
    tensors = list_tensors(model)
    return {
        name: tensors[name].detach().clone()
        for name in unit_map.tensors_in(units)
        if name not in moving
    }


def check_frozen(model: nn.Module, snapshot: dict[str, Tensor]) -> None:
    """Check that the tensors of a model are still those of a snapshot, bit for bit.

    Raises BrokenPromise, which names those that have changed.
    """
    tensors = list_tensors(model)
    moved = [
        name
        for name, before in snapshot.items()
        if name not in tensors or not are_same_bits(before, tensors[name].detach())
    ]
    if moved:
        raise BrokenPromise(
            f"{len(moved)} of {len(snapshot)} frozen tensors changed: {list_names(moved)}. Frozen "
            f"units must not change. This is a bug in tlcnn, or in code that edits its network. "
            f"Do not use the results of this run."
        )


def are_same_bits(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors have the same type, shape and bits, wherever they are."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    pair = (first.to(second.device), second)
    bits = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in pair]
    return torch.equal(*bits)


def list_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a network by name, those of no state dict too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _find_moving_tensors(model: nn.Module, unit_map: UnitMap, units: Units, bn: str) -> set[str]:
    """Return the tensors of the frozen units that a treatment of their norm layers may change."""
    if bn not in TREATMENTS:
        raise ConfigError(
            f"freeze.bn={bn} is not known.{did_you_mean(bn, tuple(TREATMENTS))} "
            f"Allowed: {', '.join(TREATMENTS)}."
        )
    if not set(list_numbers(units)) <= set(list_numbers(len(unit_map))):
        raise ConfigError(
            f"{units} units of {unit_map.model} cannot be frozen: it has {len(unit_map)}. "
            f"Allowed: 0 to {len(unit_map)}."
        )
    moving: set[str] = set()
    for path, module in find_modules(model, unit_map, units):
        if is_norm(module) and TREATMENTS[bn].trains_parameters:
            moving |= {name for name, _ in module.named_parameters(path)}
        if is_norm(module) and TREATMENTS[bn].stores_statistics:
            moving |= {name for name, _ in module.named_buffers(path)}
    return moving


def find_modules(model: nn.Module, unit_map: UnitMap, units: Units) -> list[tuple[str, nn.Module]]:
    """Return the paths and modules that lie wholly inside some units.

    A network may have modules that its unit map does not list, such as dropped paths. Such a
    module belongs to the module around it.
    """
    numbers = list_numbers(units)
    inside = [path for number in numbers for path in unit_map.units[number - 1].natives]
    outside = [
        path
        for number, unit in enumerate(unit_map.units, start=1)
        if number not in numbers
        for path in unit.modules
    ]
    around_inside = {around for path in inside for around in list_enclosing(path)}
    around_outside = {
        around for path in (*outside, *unit_map.head_modules) for around in list_enclosing(path)
    }
    whole = {*inside, *(around_inside - around_outside)}
    return [
        (path, module)
        for path, module in model.named_modules()
        if path and not whole.isdisjoint(list_enclosing(path))
    ]
