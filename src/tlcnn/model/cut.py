"""Cut a network at the boundary between two units, without code for any family.

prefix(images) = boundary          the network, stopped where the next unit begins
suffix(boundary) = model(images)   the network, whose finished modules pass their input on
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tlcnn.errors import ConfigError
from tlcnn.model.build import build_model, find_input_size
from tlcnn.model.difference import measure_difference
from tlcnn.model.freeze import are_same_bits, hold_in_eval
from tlcnn.model.groups import is_inside
from tlcnn.model.norms import is_norm
from tlcnn.model.unit_map import UnitMap

PROBE_SIZES = (64, 128)  # pixels; a network that needs larger images is probed at its own size


class Prefix(nn.Module):
    """The network up to a boundary: images (N, 3, H, W) to the boundary tensor.

    It refers to the whole network but has no parameters of its own, so moving it to a device or
    changing its mode does not affect the network.
    """

    def __init__(self, model: nn.Module, entrances: tuple[str, ...]) -> None:
        super().__init__()
        self._network = (model,)  # in a tuple, so that it is not a submodule
        self.entrances = entrances

    def forward(self, images: Tensor) -> Tensor:
        (model,) = self._network
        with _hooks(model, self.entrances, _stop):
            try:
                model(images)
            except _Arrived as arrived:
                return arrived.boundary
        raise ConfigError(f"the network never reaches {self.entrances[0]}: {_ELSEWHERE}")


class Passed(nn.Module):
    """Stands in a suffix for a module of the prefix: it returns its first argument."""

    def forward(self, boundary: Any, *args: Any, **kwargs: Any) -> Any:
        return boundary


def cut(model: nn.Module, unit_map: UnitMap, n_units: int) -> tuple[nn.Module, nn.Module]:
    """Cut a network behind unit `n_units` into a prefix and a suffix that share its parameters.

    Returns:
        The prefix maps images (N, 3, H, W) to the tensor that enters unit n_units + 1, or the
        head. The suffix maps that tensor to logits (N, K) and does not change the tensor. For
        `n_units=0` the prefix returns the images, and the suffix is the network.

    Raises:
        ConfigError: the network cannot be cut there; the message says why.
    """
    if n_units == 0:
        return nn.Identity(), model
    reason = unit_map.units[n_units - 1].cut
    if reason is not None:
        raise ConfigError(
            f"{unit_map.model} cannot be cut behind unit {n_units} "
            f"({unit_map.names[n_units - 1]}): {reason}. {_ELSEWHERE}"
        )
    return (
        Prefix(model, find_entrances(unit_map, n_units)),
        make_suffix(model, find_finished(unit_map, n_units)),
    )


def pass_boundaries(
    model: nn.Module, unit_map: UnitMap, first: int, wanted: Sequence[int]
) -> Callable[[Tensor], dict[int, Tensor]]:
    """Return a function from the tensor at one boundary to the tensors at later boundaries.

    Args:
        model: the network.
        unit_map: its units.
        first: the number of the boundary at which the function starts, 0 for the images. The
            network can be cut there.
        wanted: the numbers of the later boundaries, at each of which a single tensor crosses.
    """
    network = make_suffix(model, find_finished(unit_map, first)) if first else model
    entrances = {n: find_entrances(unit_map, n) for n in wanted}
    watched = tuple(dict.fromkeys(path for paths in entrances.values() for path in paths))

    def run(entering: Tensor) -> dict[int, Tensor]:
        crossed: dict[int, Tensor] = {}

        def keep(path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for n in [n for n in wanted if path in entrances[n] and n not in crossed]:
                crossed[n] = args[0].clone()  # the next unit may write into it
            if len(crossed) == len(wanted):
                raise _Arrived(args[0])

        with _hooks(network, watched, keep), suppress(_Arrived):
            network(entering)
        return crossed

    return run


def measure_boundaries(
    unit_map: UnitMap, *, image_size: int, precision: str
) -> list[tuple[tuple[int, ...], str] | None]:
    """Return the shape (without N) and the type of the tensor at each boundary.

    The entry is None where the network cannot be cut.

    Raises:
        RuntimeError: the network does not run on images of this size.
    """
    model = build_model(unit_map.model, n_classes=5, seed=0).eval()
    images = torch.zeros(2, 3, image_size, image_size)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        crossed = _capture(model, unit_map, images)
    return [
        (tuple(boundary.shape[1:]), str(boundary.dtype).removeprefix("torch."))
        if isinstance(boundary := crossed.get(n), Tensor) and unit.cut is None
        else None
        for n, unit in enumerate(unit_map.units, start=1)
    ]


def check_cut(
    model: nn.Module, prefix: nn.Module, suffix: nn.Module, images: Tensor, tolerance: float = 0.0
) -> None:
    """Check that suffix(prefix(images)) equals model(images) in evaluation mode.

    Args:
        model: the whole network.
        prefix: its part before the boundary.
        suffix: its part behind the boundary.
        images: (N, 3, H, W).
        tolerance: the largest difference allowed, as `measure_difference` defines it. With 0 the
            outputs must be the same bits.

    Raises:
        ConfigError: the outputs differ by more than the tolerance.
    """
    with torch.no_grad(), evaluating(model, suffix):
        expected, boundary = model(images), prefix(images)
        outputs = suffix(boundary)
    if measure_difference(expected, outputs) > tolerance:
        raise ConfigError(
            f"the cut network gives other outputs than the whole one, by up to "
            f"{(expected - outputs).abs().max():.3g}: {_ELSEWHERE}"
        )


def find_entrances(unit_map: UnitMap, n_units: int) -> tuple[str, ...]:
    """Return the paths of the modules that begin behind a unit, outermost first.

    They are the first layer behind the boundary and the modules around it that hold nothing of the
    prefix. Only a run of the network shows which of them is called: a container may not be.
    """
    following = [*(unit.modules for unit in unit_map.units[n_units:]), unit_map.head_modules]
    first_layer = next(modules[0] for modules in following if modules)
    prefix = [path for unit in unit_map.units[:n_units] for path in unit.modules]
    parts = first_layer.split(".")
    paths = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return tuple(path for path in paths if not any(is_inside(layer, [path]) for layer in prefix))


def find_finished(unit_map: UnitMap, n_units: int) -> tuple[str, ...]:
    """Return the outermost modules of units 1..n_units."""
    return tuple(path for unit in unit_map.units[:n_units] for path in unit.natives)


def make_suffix(model: nn.Module, finished: tuple[str, ...]) -> nn.Module:
    """Return the network with `Passed` in the place of its finished modules.

    All other modules are shared with the network. The suffix has the class of the network, and its
    parameters have the same names.

    Args:
        model: the whole network.
        finished: the paths of the modules that belong to the prefix.
    """
    suffix = _without(model, "", set(finished))
    suffix.register_forward_pre_hook(_copy_boundary)
    return suffix


def find_cuts(unit_map: UnitMap) -> UnitMap:
    """Return the map with, in `Unit.cut`, the reason why the network cannot be cut, or None."""
    model = build_model(unit_map.model, n_classes=5, seed=0).eval()
    images = _draw_small_images(model, find_input_size(model))
    cuts = try_cuts(model, unit_map, images)
    units = tuple(replace(u, cut=c) for u, c in zip(unit_map.units, cuts, strict=True))
    return replace(unit_map, units=units)


def try_cuts(model: nn.Module, unit_map: UnitMap, images: Tensor) -> list[str | None]:
    """Cut a network behind every unit; return None where that is exact, else the reason.

    Every bit of the outputs is compared. Before that, scales and norms are overwritten with random
    values. In many networks the last scale of a residual block starts at zero, and then the
    outputs would be right although more than one tensor crosses the boundary.

    Args:
        model: a network in evaluation mode; its weights are overwritten.
        unit_map: its units.
        images: (N, 3, H, W).
    """
    _randomise(model)
    with torch.no_grad():
        expected = model(images)
    boundaries = _capture(model, unit_map, images)
    numbers = range(1, len(unit_map) + 1)
    return [_why_not(model, unit_map, n, boundaries.get(n), expected) for n in numbers]


_ELSEWHERE = "freeze or transfer through another unit, or train without stored boundaries."


class _Arrived(Exception):
    """The network has reached the boundary."""

    def __init__(self, boundary: Tensor) -> None:
        self.boundary = boundary


def _stop(path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    reason = _why_several(args, kwargs)
    if reason is not None:
        raise ConfigError(f"the network cannot be cut before {path}: {reason}. {_ELSEWHERE}")
    raise _Arrived(args[0])


def _why_several(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return None if a single tensor enters a module, else what enters instead."""
    if args and isinstance(args[0], Tensor):
        more = sum(isinstance(each, Tensor) for each in [*args[1:], *kwargs.values()])
        return f"{more + 1} tensors cross" if more else None
    if args and isinstance(args[0], (tuple, list)):
        return f"a list of tensors crosses ({len(args[0])})"
    return "what crosses is not passed as one tensor"


@contextmanager
def _hooks(model: nn.Module, paths: tuple[str, ...], react: Any) -> Iterator[None]:
    handles = []
    for path in paths:
        hook = lambda module, args, kwargs, path=path: react(path, args, kwargs)  # noqa: E731
        handles.append(model.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put networks in evaluation mode, and restore the mode of every module afterwards."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _without(module: nn.Module, path: str, finished: set[str]) -> nn.Module:
    if path in finished:
        return Passed()
    if path and not any(is_inside(each, [path]) for each in finished):
        return module
    clone = copy.copy(module)
    for key, value in module.__dict__.items():
        if key.endswith("_hooks"):
            clone.__dict__[key] = copy.copy(value)
    clone._modules = {
        name: child if child is None else _without(child, f"{path}.{name}".lstrip("."), finished)
        for name, child in module._modules.items()
    }
    if "train" in clone.__dict__:  # a frozen container: its copy stays in evaluation too
        hold_in_eval(clone)
    return clone


def _copy_boundary(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    # The suffix may write into its input (an in-place activation), and the caller still needs it.
    return (args[0].clone(), *args[1:])


def _randomise(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    norms = {id(t) for m in model.modules() if is_norm(m) for t in (*m.parameters(), *m.buffers())}
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            flat = tensor.ndim < 2 and isinstance(tensor, nn.Parameter) or id(tensor) in norms
            if tensor.is_floating_point() and flat:
                tensor.uniform_(0.5, 1.5, generator=generator)


def _draw_small_images(model: nn.Module, size: tuple[int, ...]) -> Tensor:
    """Return two random images of the smallest size on which a network runs."""
    generator = torch.Generator().manual_seed(1)
    for pixels in [p for p in PROBE_SIZES if p < min(size[1:])]:
        images = torch.randn(2, size[0], pixels, pixels, generator=generator)
        try:
            with torch.no_grad():
                model(images)
            return images
        except (RuntimeError, ValueError, AssertionError):
            continue
    return torch.randn(2, *size, generator=generator)


def _capture(model: nn.Module, unit_map: UnitMap, images: Tensor) -> dict[int, Any]:
    """Return for each boundary a copy of its tensor, or the reason why there is no single tensor.

    A boundary is missing in the result if the network never calls the module behind it.
    """
    entrances = {n: find_entrances(unit_map, n) for n in range(1, len(unit_map) + 1)}
    crossed: dict[int, Any] = {}

    def keep(path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for n, paths in entrances.items():
            if path in paths and n not in crossed:
                crossed[n] = _why_several(args, kwargs) or args[0].clone()

    watched = tuple(dict.fromkeys(path for paths in entrances.values() for path in paths))
    with torch.no_grad(), _hooks(model, watched, keep):
        model(images)
    return crossed


def _why_not(
    model: nn.Module, unit_map: UnitMap, n_units: int, crossed: Any, expected: Tensor
) -> str | None:
    if not isinstance(crossed, Tensor):
        return crossed or "the next unit is never called as a module"
    suffix = make_suffix(model, find_finished(unit_map, n_units))
    try:
        with torch.no_grad():
            outputs = suffix(crossed)
    except Exception as error:  # a family's own code: anything can come out of it
        first_line = str(error).splitlines()[0][:80] if str(error) else ""
        return (
            f"the rest does not run on the boundary alone ({type(error).__name__}: {first_line})"
        )
    if isinstance(outputs, Tensor) and are_same_bits(outputs, expected):
        return None
    return "more than this tensor crosses (the rest alone gives other outputs)"
