"""Record how a network processes an image: which layers run, in which order, on which tensors.

A *layer* here is the smallest thing that can belong to a unit: a module without children, a
norm or a mixed convolution with everything inside it, or the direct tensors of a larger module.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from tlcnn.model.norms import is_conv, is_norm

Value = tuple[int, int]  # identifies the content of a tensor: its memory, and its version


@dataclass(frozen=True)
class Call:
    """One call of one module: when it began and ended, and what went in and out."""

    entered: int
    left: int
    value_in: Value | None
    value_out: Value | None
    shape_in: tuple[int, ...] | None
    shape_out: tuple[int, ...] | None


@dataclass(frozen=True)
class Layer:
    """The smallest thing that can belong to a unit.

    Attributes:
        path: the path of its module.
        kind: `conv`, `norm`, `dropout` or `other`.
        params: the names of its parameters.
        buffers: the names of its buffers.
        calls: its calls in order; empty if the network does not call the module.
        n_params: the number of trainable values.
    """

    path: str
    kind: str
    params: tuple[str, ...]
    buffers: tuple[str, ...]
    calls: tuple[Call, ...]
    n_params: int = 0

    @property
    def tensors(self) -> tuple[str, ...]:
        return self.params + self.buffers


@dataclass
class _Recorder:
    clock: int = 0
    alive: list[Any] = field(default_factory=list)  # tensors stay alive, so that ids are unique
    calls: dict[str, list[Call]] = field(default_factory=dict)
    begun: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    def enter(self, path: str, args: Any) -> None:
        self.clock += 1
        self.begun.setdefault(path, []).append((self.clock, *self._look_at(args)))

    def leave(self, path: str, output: Any) -> None:
        self.clock += 1
        entered, value_in, shape_in = self.begun[path].pop()
        value_out, shape_out = self._look_at(output)
        call = Call(entered, self.clock, value_in, value_out, shape_in, shape_out)
        self.calls.setdefault(path, []).append(call)

    def _look_at(self, tensors: Any) -> tuple[Value | None, tuple[int, ...] | None]:
        """Return identity and shape of the first tensor; a view has the identity of its base."""
        tensor = tensors[0] if isinstance(tensors, (tuple, list)) and tensors else tensors
        if not isinstance(tensor, Tensor):
            return None, None
        whole = tensor if tensor._base is None else tensor._base
        self.alive.append((tensor, whole))
        return (id(whole), tensor._version), tuple(tensor.shape)


def trace_layers(model: nn.Module, images: Tensor) -> tuple[Layer, ...]:
    """Run a network once in evaluation and return its layers in order of registration.

    Args:
        model: a network in evaluation mode; the meta device is enough.
        images: (N, C, H, W), on the model's device.
    """
    recorder = _Recorder()
    with torch.no_grad(), _recording(model, recorder):
        model(images)
    return tuple(
        _make_layer(path, module, recorder.calls.get(path, []))
        for path, module in named_layers(model)
    )


def named_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the path and the module of every layer, in order of registration."""
    inside = ""  # a norm or convolution whose children are part of it
    for path, module in model.named_modules():
        if inside and path.startswith(inside):
            continue
        if is_norm(module) or is_conv(module):
            inside = path + "."
            yield path, module
        elif _direct_tensors(module) or not any(True for _ in module.children()):
            yield path, module


def _direct_tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _make_layer(path: str, module: nn.Module, calls: list[Call]) -> Layer:
    kind = _kind_of(module)
    recurse = kind in ("conv", "norm")
    params = dict(module.named_parameters(path, recurse=recurse))
    return Layer(
        path=path,
        kind=kind,
        params=tuple(params),
        buffers=tuple(name for name, _ in module.named_buffers(path, recurse=recurse)),
        calls=tuple(calls),
        n_params=sum(parameter.numel() for parameter in params.values()),
    )


def _kind_of(module: nn.Module) -> str:
    if is_conv(module):
        return "conv"
    if is_norm(module):
        return "norm"
    return "dropout" if isinstance(module, _DropoutNd) else "other"


@contextmanager
def _recording(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    handles = []
    for path, module in model.named_modules():
        enter, leave = _hooks(recorder, path)
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(recorder: _Recorder, path: str) -> tuple[Any, Any]:
    def enter(module: nn.Module, args: Any) -> None:
        recorder.enter(path, args)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        recorder.leave(path, output)

    return enter, leave
