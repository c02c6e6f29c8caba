"""Freeze a prefix of a network, so that it is a fixed function, and prove that it stayed one."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tlcnn.errors import BrokenPromise, ConfigError, did_you_mean, list_names
from tlcnn.model.norms import is_norm
from tlcnn.model.unit_map import FREEZE_BN, UnitMap


class StaysInEval:
    """`module.train` of a frozen module: it stays in evaluation; its children decide themselves.

    An object and not a closure, so that a deep copy of the module gets one of its own.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        self.module.training = False
        for child in self.module.children():
            child.train(mode)
        return self.module


def apply_freeze(
    model: nn.Module, unit_map: UnitMap, n_frozen: int, *, bn: str = "frozen"
) -> None:
    """Make units 1..n_frozen a fixed function, whatever `train()` is called afterwards.

    Their parameters need no gradient, and every module that lies wholly inside them stays in
    evaluation: no dropout, no dropped paths, no statistics. The model is otherwise as it was.
    May be called again with more units, not with fewer.

    Args:
        model: the network that `unit_map` describes.
        unit_map: its units.
        n_frozen: how many units, counted from the input.
        bn: what the norms of the frozen units do.
            `frozen`: nothing moves.
            `affine`: weights and biases are trained, statistics are fixed.
            `adapt`: statistics follow the batches as in plain training, weights are fixed.
            `batch`: training normalises by the batch's statistics, the stored ones do not move
            and are used in evaluation.

    Raises:
        ConfigError: `bn` or `n_frozen` is not allowed.
    """
    _check_arguments(unit_map, n_frozen, bn)
    frozen = set(unit_map.tensors_of(1, n_frozen))
    trained = _trained_tensors(model, unit_map, n_frozen, bn)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(name in trained)
    for _, module in _frozen_modules(model, unit_map, n_frozen):
        if bn == "batch" and _has_statistics(module):
            _hold_statistics(module)
        elif bn != "adapt" or not _has_statistics(module):
            hold_in_eval(module)


def hold_in_eval(module: nn.Module) -> None:
    """Put one module, not its children, in evaluation for good."""
    module.training = False
    module.train = StaysInEval(module)  # type: ignore[method-assign]


def snapshot_frozen(
    model: nn.Module, unit_map: UnitMap, n_frozen: int, *, bn: str = "frozen"
) -> dict[str, Tensor]:
    """Return copies of the tensors that must not move when units 1..n_frozen are frozen.

    With `bn="affine"` the norms' weights are not among them, with `bn="adapt"` their statistics.
    """
    _check_arguments(unit_map, n_frozen, bn)
    moving = _trained_tensors(model, unit_map, n_frozen, bn)
    tensors = _named_tensors(model)
    return {
        name: tensors[name].detach().clone()
        for name in unit_map.tensors_of(1, n_frozen)
        if name not in moving
    }


def check_frozen(model: nn.Module, snapshot: dict[str, Tensor]) -> None:
    """Check that every tensor of a snapshot is still the same, bit for bit.

    Raises:
        BrokenPromise: some moved; the message names them.
    """
    tensors = _named_tensors(model)
    moved = [
        name
        for name, before in snapshot.items()
        if name not in tensors or not are_same_bits(before, tensors[name].detach())
    ]
    if moved:
        raise BrokenPromise(
            f"{len(moved)} of {len(snapshot)} frozen tensors moved: {list_names(moved)}. Frozen "
            f"units must not change: this is a bug in tlcnn or in code that edits its network, "
            f"and the run's results are not those of its plan."
        )


def are_same_bits(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors have the same type, shape and bits, wherever they are."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return torch.equal(_bits(first.to(second.device)), _bits(second))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _check_arguments(unit_map: UnitMap, n_frozen: int, bn: str) -> None:
    if bn not in FREEZE_BN:
        raise ConfigError(
            f"freeze.bn={bn} is not known.{did_you_mean(bn, FREEZE_BN)} "
            f"Allowed: {', '.join(FREEZE_BN)}."
        )
    if not 0 <= n_frozen <= len(unit_map):
        raise ConfigError(
            f"{n_frozen} units of {unit_map.model} cannot be frozen: it has {len(unit_map)}. "
            f"Allowed: 0 to {len(unit_map)}."
        )


def _frozen_modules(
    model: nn.Module, unit_map: UnitMap, n_frozen: int
) -> list[tuple[str, nn.Module]]:
    """Return the modules that lie wholly inside units 1..n_frozen.

    What the map does not know, because only this network has it (a dropped path), is where the
    module around it is.
    """
    natives = [native for unit in unit_map.units[:n_frozen] for native in unit.natives]
    others = [
        *(path for unit in unit_map.units[n_frozen:] for path in unit.modules),
        *unit_map.head_modules,
    ]
    spoilt = _around(others)
    whole = {*natives, *(path for path in _around(natives) if path not in spoilt)}
    return [(path, each) for path, each in model.named_modules() if _around([path]) & whole]


def _around(paths: Iterable[str]) -> set[str]:
    """Return the paths and those of all modules around them, the network itself left out."""
    split = [path.split(".") for path in paths if path]
    return {".".join(parts[:end]) for parts in split for end in range(1, len(parts) + 1)}


def _trained_tensors(model: nn.Module, unit_map: UnitMap, n_frozen: int, bn: str) -> set[str]:
    """Return the tensors of the frozen units that a policy lets move: all of them of norms."""
    pick: dict[str, Callable[[nn.Module, str], Iterator[tuple[str, Tensor]]]] = {
        "affine": lambda module, path: module.named_parameters(path),
        "adapt": lambda module, path: module.named_buffers(path),
    }
    if bn not in pick:
        return set()
    return {
        name
        for path, module in _frozen_modules(model, unit_map, n_frozen)
        if is_norm(module)
        for name, _ in pick[bn](module, path)
    }


def _has_statistics(module: nn.Module) -> bool:
    """Return whether a module is a norm that keeps running statistics."""
    return is_norm(module) and any(True for _ in module.buffers())


def _hold_statistics(norm: nn.Module) -> None:
    """Let a norm use each batch's statistics in training without storing them."""
    if isinstance(norm, _BatchNorm):
        norm.track_running_stats = False  # evaluation still reads the stored ones
    else:
        norm.momentum = 0.0  # type: ignore[assignment]
