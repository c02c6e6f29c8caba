"""Cut a network at the boundary between two units, without code for any family.

prefix(images) = boundary          the network, stopped where the next unit begins
suffix(boundary) = model(images)   the network, whose finished modules pass their input on
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from tlcnn.errors import ConfigError
from tlcnn.model.build import build_model, draw_probe
from tlcnn.model.difference import measure_difference
from tlcnn.model.freeze import are_same_bits, hold_in_eval
from tlcnn.model.norms import is_norm
from tlcnn.model.truncate import Passed, truncate_network
from tlcnn.model.unit_map import UnitMap, is_inside, list_enclosing
from tlcnn.text import first_line

_ELSEWHERE = "freeze or transfer through another unit, or train without stored boundaries."


def cut(
    model: nn.Module, unit_map: UnitMap, n_units: int
) -> tuple[Callable[[Tensor], Tensor], nn.Module]:
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
    unit = unit_map.units[n_units - 1]
    if unit.cut_obstacle is not None:
        raise ConfigError(
            f"{unit_map.model} cannot be cut behind unit {n_units} ({unit.name}): "
            f"{unit.cut_obstacle}. {_ELSEWHERE}"
        )
    prefix = make_prefix(model, find_entrances(unit_map, n_units))
    return prefix, make_suffix(model, unit_map, n_units)


def make_prefix(network: nn.Module, entrances: tuple[str, ...]) -> Callable[[Tensor], Tensor]:
    """Return the network up to the first of some modules, as a function of its inputs.

    It raises ConfigError where no single tensor enters them.
    """

    def prefix(inputs: Tensor) -> Tensor:
        crossing = _capture(network, {0: entrances}, inputs).get(0, "the network never calls it")
        if isinstance(crossing, Tensor):
            return crossing
        raise ConfigError(
            f"the network cannot be cut before {entrances[0]}: {crossing}. {_ELSEWHERE}"
        )

    return prefix


def pass_boundaries(
    model: nn.Module, unit_map: UnitMap, first: int, later: Sequence[int]
) -> Callable[[Tensor], dict[int, Tensor]]:
    """Return a function from the tensor at one boundary to the tensors at later boundaries.

    Args:
        first: the number of the boundary at which the function starts, 0 for the images. The
            network can be cut there.
        later: the numbers of the later boundaries, at each of which a single tensor crosses.
    """
    network = make_suffix(model, unit_map, first) if first else model
    return partial(_capture, network, {n: find_entrances(unit_map, n) for n in later})


def measure_boundaries(
    unit_map: UnitMap, *, image_size: int, precision: str
) -> list[tuple[tuple[int, ...], str] | None]:
    """Return the shape (without N) and the type of the tensor at each boundary.

    The entry is None where the network cannot be cut.
    Raises RuntimeError where the network does not run on images of this size.
    """
    model = build_model(unit_map.model, n_classes=5, seed=0).eval()
    truncate_network(model, unit_map, seed=0)
    images = torch.zeros(2, 3, image_size, image_size)
    numbers = range(1, len(unit_map) + 1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        crossing = pass_boundaries(model, unit_map, 0, numbers)(images)
    return [
        (tuple(boundary.shape[1:]), str(boundary.dtype).removeprefix("torch."))
        if isinstance(boundary := crossing.get(n), Tensor) and unit.cut_obstacle is None
        else None
        for n, unit in enumerate(unit_map.units, start=1)
    ]


def check_cut(
    model: nn.Module,
    prefix: Callable[[Tensor], Tensor],
    suffix: nn.Module,
    images: Tensor,
    tolerance: float = 0.0,
) -> None:
    """Check that suffix(prefix(images)) equals model(images) in evaluation mode.

    Args:
        tolerance: the largest difference allowed, as `measure_difference` defines it. With 0 the
            outputs must be the same bits.

    Raises:
        ConfigError: the outputs differ by more than the tolerance.
    """
    with torch.no_grad(), evaluating(model, suffix):
        expected, outputs = model(images), suffix(prefix(images))
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
    paths = list_enclosing(next(modules[0] for modules in following if modules))
    prefix = [path for unit in unit_map.units[:n_units] for path in unit.modules]
    return tuple(path for path in paths if not any(is_inside(layer, [path]) for layer in prefix))


def make_suffix(model: nn.Module, unit_map: UnitMap, n_units: int) -> nn.Module:
    """Return the network with `Passed` in the place of the modules of its first units.

    All other modules are shared with the network. The suffix has the class of the network, and its
    parameters have the same names.
    """
    finished = {path for unit in unit_map.units[:n_units] for path in unit.natives}
    suffix = _copy_without(model, "", finished)
    suffix.register_forward_pre_hook(_copy_boundary)
    return suffix


def copy_modules(
    model: nn.Module, replaced: Mapping[str, Tensor] = MappingProxyType({})
) -> nn.Module:
    """Return a copy of a network that shares its tensors, such as for another thread.

    What `pass_boundaries` and `functional_call` do to modules while they run concerns one thread.

    Args:
        replaced: tensors by name that the copy has instead of those of the network.
    """
    tensors = chain(model.named_parameters(), model.named_buffers())
    return copy.deepcopy(model, {id(t): replaced.get(name, t) for name, t in tensors})


def _copy_without(module: nn.Module, path: str, finished: set[str]) -> nn.Module:
    if path in finished:
        return Passed()
    if path and not any(is_inside(each, [path]) for each in finished):
        return module
    clone = copy.copy(module)
    for key, value in module.__dict__.items():
        if key.endswith("_hooks"):
            clone.__dict__[key] = copy.copy(value)
    clone._modules = {
        name: None
        if child is None
        else _copy_without(child, f"{path}.{name}".lstrip("."), finished)
        for name, child in module._modules.items()
    }
    if "train" in clone.__dict__:  # a frozen container: its copy stays in evaluation too
        hold_in_eval(clone)
    return clone


def _copy_boundary(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    # The suffix may write into its input (an in-place activation), and the caller still needs it.
    return (args[0].clone(), *args[1:])


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


# ---- where a network can be cut -----------------------------------------------------------------


def find_cuts(unit_map: UnitMap) -> UnitMap:
    """Return the map with, in `cut_obstacle`, why the network cannot be cut there, or None.

    The network is tried on two random images of the smallest size on which it runs.
    """
    model = build_model(unit_map.model, n_classes=5, seed=0).eval()
    obstacles = try_cuts(model, unit_map, draw_probe(model))
    pairs = zip(unit_map.units, obstacles, strict=True)
    return replace(unit_map, units=tuple(replace(u, cut_obstacle=o) for u, o in pairs))


def try_cuts(model: nn.Module, unit_map: UnitMap, images: Tensor) -> list[str | None]:
    """Cut a network behind every unit; return None where that is exact, else the reason.

    Every bit of the outputs is compared. Before that, scales and norms are overwritten with random
    values. In many networks the last scale of a residual block starts at zero, and then the
    outputs would be right although more than one tensor crosses the boundary.

    Args:
        model: a network in evaluation mode; its weights are overwritten.
        images: (N, 3, H, W).
    """
    generator = torch.Generator().manual_seed(0)
    norms = {id(t) for m in model.modules() if is_norm(m) for t in (*m.parameters(), *m.buffers())}
    numbers = range(1, len(unit_map) + 1)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            is_scale = tensor.ndim < 2 and isinstance(tensor, nn.Parameter)
            if tensor.is_floating_point() and (is_scale or id(tensor) in norms):
                tensor.uniform_(0.5, 1.5, generator=generator)
        expected = model(images)
        crossing = pass_boundaries(model, unit_map, 0, numbers)(images)
        return [_try_cut(model, unit_map, n, crossing.get(n), expected) for n in numbers]


def _try_cut(
    model: nn.Module, unit_map: UnitMap, n_units: int, crossing: Any, expected: Tensor
) -> str | None:
    if not isinstance(crossing, Tensor):
        return crossing or "the next unit is never called as a module"
    try:
        outputs = make_suffix(model, unit_map, n_units)(crossing)
    except Exception as error:  # a family's own code: anything can come out of it
        cause = f"{type(error).__name__}: {first_line(error)[:80]}"
        return f"the rest does not run on the boundary alone ({cause})"
    if isinstance(outputs, Tensor) and are_same_bits(outputs, expected):
        return None
    return "more than this tensor crosses (the rest alone gives other outputs)"


class _AllCrossed(Exception):
    """The network has reached the last boundary that is asked for."""


def _capture(
    network: nn.Module, entrances: Mapping[int, tuple[str, ...]], inputs: Tensor
) -> dict[int, Any]:
    """Run a network up to its last boundary; return what crosses each boundary, by its number.

    The value is a copy of the tensor, or a text that says why there is no single tensor. A
    boundary is missing in the result if the network never calls a module behind it.
    """
    crossing: dict[int, Any] = {}

    def keep(path: str, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        entering = args[0] if args else None
        for n, paths in entrances.items():
            if path not in paths or n in crossing:
                continue
            if isinstance(entering, Tensor):
                more = sum(isinstance(each, Tensor) for each in [*args[1:], *kwargs.values()])
                crossing[n] = f"{more + 1} tensors cross" if more else entering.clone()
            elif isinstance(entering, (tuple, list)):
                crossing[n] = f"a list of tensors crosses ({len(entering)})"
            else:
                crossing[n] = "what crosses is not passed as one tensor"
        if len(crossing) == len(entrances):
            raise _AllCrossed

    with ExitStack() as stack:
        for path in dict.fromkeys(path for paths in entrances.values() for path in paths):
            hook = partial(keep, path)
            module = network.get_submodule(path)
            stack.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
        stack.enter_context(suppress(_AllCrossed))
        network(inputs)
    return crossing
