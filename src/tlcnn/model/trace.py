"""Record how a network processes an image: which layers run, in which order, on which tensors.

A *layer* here is the smallest thing that can belong to a unit: a module without children, a
norm or a mixed convolution with everything inside it, or the direct tensors of a larger module.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from tlcnn.model.norms import is_conv, is_norm

Value = tuple[int, int]  # identifies the content of a tensor: its memory, and its version


@dataclass(frozen=True)
class Call:
    """One call of one module: when it ended, and the first tensor that went in and out."""

    left: int
    value_in: Value | None
    shape_in: tuple[int, ...] | None
    value_out: Value | None
    shape_out: tuple[int, ...] | None


@dataclass(frozen=True)
class Layer:
    """The smallest thing that can belong to a unit.

    Attributes:
        kind: `conv`, `norm`, `dropout` or `other`.
        params: the names of its parameters.
        tensors: the names of its parameters and buffers.
        calls: its calls in order; empty if the network does not call the module.
        n_params: the number of trainable values.
    """

    path: str
    kind: str
    params: tuple[str, ...]
    tensors: tuple[str, ...]
    calls: tuple[Call, ...]
    n_params: int

    @property
    def order(self) -> float:
        """The number that sorts layers as they run; infinite for a layer that does not run."""
        return self.calls[0].left if self.calls else math.inf


def trace_layers(model: nn.Module, images: Tensor) -> tuple[Layer, ...]:
    """Run a network once in evaluation and return its layers in order of registration.

    Args:
        model: a network in evaluation mode; the meta device is enough.
        images: (N, C, H, W), on the model's device.
    """
    calls = _record_calls(model, images)
    layers: list[Layer] = []
    inside = ""  # a norm or convolution whose children are part of it
    for path, module in model.named_modules():
        if inside and path.startswith(inside):
            continue
        is_whole = is_conv(module) or is_norm(module)
        inside = path + "." if is_whole else inside
        params = dict(module.named_parameters(path, recurse=is_whole))
        buffers = dict(module.named_buffers(path, recurse=is_whole))
        if not (is_whole or params or buffers) and any(True for _ in module.children()):
            continue
        if is_whole:
            kind = "conv" if is_conv(module) else "norm"
        else:
            kind = "dropout" if isinstance(module, _DropoutNd) else "other"
        n_params = sum(parameter.numel() for parameter in params.values())
        tensors = (*params, *buffers)
        layers.append(Layer(path, kind, tuple(params), tensors, tuple(calls[path]), n_params))
    return tuple(layers)


def _record_calls(model: nn.Module, images: Tensor) -> dict[str, list[Call]]:
    calls: dict[str, list[Call]] = {path: [] for path, _ in model.named_modules()}
    alive: list[Tensor] = []  # tensors stay alive, so that ids are unique
    clock = count(1)

    def describe(tensors: Any) -> tuple[Value | None, tuple[int, ...] | None]:
        """Return identity and shape of the first tensor; a view has the identity of its base."""
        tensor = tensors[0] if isinstance(tensors, (tuple, list)) and tensors else tensors
        if not isinstance(tensor, Tensor):
            return None, None
        whole = tensor if tensor._base is None else tensor._base
        alive.extend((tensor, whole))
        return (id(whole), tensor._version), tuple(tensor.shape)

    def watch(path: str, module: nn.Module) -> None:
        entering: list[tuple[Value | None, tuple[int, ...] | None]] = []

        def enter(module: nn.Module, args: Any) -> None:
            entering.append(describe(args))  # before the module can write into its input

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            calls[path].append(Call(next(clock), *entering.pop(), *describe(output)))

        hooks.enter_context(module.register_forward_pre_hook(enter))
        hooks.enter_context(module.register_forward_hook(leave))

    with torch.no_grad(), ExitStack() as hooks:
        for path, module in model.named_modules():
            watch(path, module)
        model(images)
    return calls
