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

    It refers to the whole network and owns nothing: it has no parameters of its own, and moving
    it or changing its mode does not touch the network.
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
    """`nn.Identity` for a finished module: whatever it is called with, the first goes on."""

    def forward(self, boundary: Any, *args: Any, **kwargs: Any) -> Any:
        return boundary


def cut(model: nn.Module, unit_map: UnitMap, n_units: int) -> tuple[nn.Module, nn.Module]:
    """Cut a network behind unit `n_units` into a prefix and a suffix that share its parameters.

    Returns:
        The prefix maps images (N, 3, H, W) to the tensor that enters unit n_units + 1, or the
        head; the suffix maps that tensor to logits (N, K) and leaves it as it is. Behind unit 0
        the prefix passes the images on and the suffix is the network.

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
    """Return a function from what crosses one boundary to what crosses later ones.

    Args:
        first: a boundary, 0 for the images; the network can be cut there.
        wanted: boundaries behind it, at which a single tensor crosses.
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
    """Return shape and type of what crosses each boundary for one image; None without a cut.

    Raises:
        RuntimeError: images of this size do not get through the network.
    """
    model = build_model(unit_map.model, n_classes=5, seed=0).eval()
    images = torch.zeros(2, 3, image_size, image_size)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        crossed = _capture(model, unit_map, images)
    return [
        (tuple(found.shape[1:]), str(found.dtype).removeprefix("torch."))
        if isinstance(found := crossed.get(n), Tensor) and unit.cut is None
        else None
        for n, unit in enumerate(unit_map.units, start=1)
    ]


def check_cut(
    model: nn.Module, prefix: nn.Module, suffix: nn.Module, images: Tensor, tolerance: float = 0.0
) -> None:
    """Check that suffix(prefix(images)) is model(images), in evaluation.

    Args:
        tolerance: as `measure_difference` measures; 0: only the same bits will do.

    Raises:
        ConfigError: it is not.
    """
    with torch.no_grad(), evaluating(model, suffix):
        expected, boundary = model(images), prefix(images)
        found = suffix(boundary)
    if measure_difference(expected, found) > tolerance:
        differs = f"by up to {(expected - found).abs().max():.3g}"
        raise ConfigError(
            f"the cut network gives other outputs than the whole one, {differs}: {_ELSEWHERE}"
        )


def find_entrances(unit_map: UnitMap, n_units: int) -> tuple[str, ...]:
    """Return the modules with which the network goes on behind a unit, outermost first.

    Which of them is called (a container may not be) is seen when the network runs.
    """
    after = [*(unit.modules for unit in unit_map.units[n_units:]), unit_map.head_modules]
    first = next(modules[0] for modules in after if modules)
    done = [path for unit in unit_map.units[:n_units] for path in unit.modules]
    parts = first.split(".")
    paths = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return tuple(path for path in paths if not any(is_inside(each, [path]) for each in done))


def find_finished(unit_map: UnitMap, n_units: int) -> tuple[str, ...]:
    """Return the outermost modules of units 1..n_units."""
    return tuple(path for unit in unit_map.units[:n_units] for path in unit.natives)


def make_suffix(model: nn.Module, finished: tuple[str, ...]) -> nn.Module:
    """Return a network that shares all modules but the finished ones, which pass on their input.

    It has the class of the network and the same names of parameters.
    """
    suffix = _without(model, "", set(finished))
    suffix.register_forward_pre_hook(_copy_boundary)
    return suffix


def find_cuts(unit_map: UnitMap) -> UnitMap:
    """Return the map with the reason, at each boundary, why the network cannot be cut there."""
    model = build_model(unit_map.model, n_classes=5, seed=0).eval()
    images = _draw_small_images(model, find_input_size(model))
    cuts = try_cuts(model, unit_map, images)
    units = tuple(replace(u, cut=c) for u, c in zip(unit_map.units, cuts, strict=True))
    return replace(unit_map, units=units)


def try_cuts(model: nn.Module, unit_map: UnitMap, images: Tensor) -> list[str | None]:
    """Cut a network behind every unit and return the reasons why not, None where it is exact.

    Every bit of the outputs is compared. Scales and norms are overwritten with random values: one
    that starts at zero, as residual blocks do, would hide what crosses.

    Args:
        model: a network in evaluation that may be spoilt.
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
    """Return why what enters a module is not a single tensor, or None when it is."""
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
    """Put networks in evaluation, and every module back in its mode afterwards."""
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
    # What follows may write into its input (an activation in place), and the caller keeps it.
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
    """Return what crosses each boundary: a copy of the tensor, or the reason why there is none."""
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
            found = suffix(crossed)
    except Exception as error:  # a family's own code: anything can come out of it
        return f"the rest does not run on the boundary alone ({_short(error)})"
    if isinstance(found, Tensor) and are_same_bits(found, expected):
        return None
    return "more than this tensor crosses (the rest alone gives other outputs)"


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
