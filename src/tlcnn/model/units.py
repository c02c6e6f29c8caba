"""Compute the unit map of a timm network: trace it, group its layers, merge, validate, name."""

from collections.abc import Iterator

import torch
from torch import nn

from tlcnn.errors import ConfigError, did_you_mean, list_names
from tlcnn.model.build import find_input_size, make_network, parse_architecture
from tlcnn.model.cut import find_cuts
from tlcnn.model.groups import (
    GROUPINGS,
    Grouping,
    find_head,
    find_owned_norms,
    group_by_convolution,
    is_inside,
)
from tlcnn.model.stages import Division, compute_stride, make_division, merge_by_stride
from tlcnn.model.trace import Layer, trace_layers
from tlcnn.model.unit_map import GRANULARITIES, Unit, UnitMap

# Classes of networks whose stages are timm's groups, instead of groups merged by equal stride.
# HRNet processes all resolutions in parallel, so a group has no single stride.
OVERRIDES: dict[str, str] = {"HighResolutionNet": "native"}

Numbers = dict[str, int]  # layer path -> unit, counted from 1; the head has the number L + 1


def compute_unit_map(name: str, *, granularity: str = "stage") -> UnitMap:
    """Compute which tensors and modules each unit of a timm network owns.

    Args:
        name: timm architecture, with or without a tag.
        granularity: `stage` merges groups of equal stride, `native` and `block` are timm's
            groups, `layer` is every convolution or linear layer with its norm.

    Raises:
        ConfigError: no such network or granularity, or the network cannot be divided into units
            that partition its tensors and run one after the other.
    """
    return find_cuts(compute_partition(name, granularity=granularity))


def compute_partition(name: str, *, granularity: str = "stage") -> UnitMap:
    """Compute a unit map without cutting the network. This is fast and needs no weights.

    Raises:
        ConfigError: as `compute_unit_map`.
    """
    if granularity not in GRANULARITIES:
        raise ConfigError(
            f"granularity '{granularity}' is not known.{did_you_mean(granularity, GRANULARITIES)} "
            f"Allowed: {', '.join(GRANULARITIES)}."
        )
    architecture = parse_architecture(name)
    with torch.device("meta"):  # shapes are enough, and nothing is drawn
        model = make_network(architecture, num_classes=2).eval()
    size = find_input_size(model)
    layers = _trace(model, size, architecture)
    return _first_valid(architecture, granularity, model, layers, size)


def _trace(model: nn.Module, size: tuple[int, ...], name: str) -> tuple[Layer, ...]:
    try:
        return trace_layers(model, torch.empty(2, *size, device="meta"))
    except Exception as error:  # the code of a family may raise anything
        raise ConfigError(
            f"{name} cannot be divided into units: it does not run on {size} images ({error}). "
            f"Choose another network."
        ) from error


def _first_valid(
    name: str, granularity: str, model: nn.Module, layers: tuple[Layer, ...], size: tuple[int, ...]
) -> UnitMap:
    """Return the map of the first way of grouping that gives a valid one."""
    head = find_head(model)
    reasons = []
    for grouping in _groupings(model, layers, head, granularity):
        division = make_division(grouping, layers, head)
        if granularity == "stage" and OVERRIDES.get(type(model).__name__) != "native":
            division = merge_by_stride(division, size)
        reason = _why_not(division, layers, head)
        if reason is None:
            return _make_map(name, granularity, division, layers, head, size)
        reasons.append(reason)
    raise ConfigError(
        f"{name} cannot be divided into units at granularity {granularity}: {reasons[0]}. "
        f"Choose another granularity ({', '.join(GRANULARITIES)}) or another network."
    )


def _groupings(
    model: nn.Module, layers: tuple[Layer, ...], head: tuple[str, ...], granularity: str
) -> Iterator[Grouping]:
    if granularity == "layer":
        yield group_by_convolution(
            tuple(layer for layer in layers if not is_inside(layer.path, head))
        )
        return
    for group_by in GROUPINGS:
        yield group_by(model, layers, granularity != "block")


def _why_not(division: Division, layers: tuple[Layer, ...], head: tuple[str, ...]) -> str | None:
    """Return why the groups cannot be units, or None if they can."""
    if len(division.groups) < 2:
        return f"its layers form {len(division.groups)} group(s) besides the classifier"
    number = _number_groups(division, layers, head)
    missing = [la.path for la in layers if la.params and la.path not in number]
    if missing:
        return f"no unit holds {list_names(missing)}"
    cut_off = [n for n, c in find_owned_norms(layers).items() if number[n] != number[c]]
    if cut_off:
        return f"norm and convolution are in different units at {list_names(cut_off)}"
    return _why_not_in_order(number, layers)


def _why_not_in_order(number: Numbers, layers: tuple[Layer, ...]) -> str | None:
    calls = sorted(
        (call.left, number[layer.path], layer.path)
        for layer in layers
        if layer.path in number
        for call in layer.calls
    )
    for (_, before, earlier), (_, after, later) in zip(calls, calls[1:], strict=False):
        if after < before:
            return (
                f"{later or 'the network itself'} of unit {after} runs after {earlier} of unit "
                f"{before}; tlcnn divides CNNs whose layers run one group after the other"
            )
    return None


def _number_groups(
    division: Division, layers: tuple[Layer, ...], head: tuple[str, ...]
) -> Numbers:
    number = {layer.path: n for n, group in enumerate(division.groups, start=1) for layer in group}
    return number | {
        layer.path: len(division.groups) + 1
        for layer in layers
        if layer.params and is_inside(layer.path, head)
    }


def _make_map(
    name: str,
    granularity: str,
    division: Division,
    layers: tuple[Layer, ...],
    head: tuple[str, ...],
    size: tuple[int, ...],
) -> UnitMap:
    number = _number_the_rest(_number_groups(division, layers, head), layers)
    n_units = len(division.groups)
    natives = _find_natives(number, layers)
    units: list[Unit] = []
    for n, group in enumerate(division.groups, start=1):
        members = [layer for layer in layers if number[layer.path] == n]
        stride = compute_stride(group, size) or (units[-1].stride if units else 1)
        units.append(
            Unit(
                name=_name(n, n_units, division.has_neck, natives[n], granularity),
                natives=natives[n],
                tensors=tuple(tensor for layer in members for tensor in layer.tensors),
                modules=tuple(layer.path for layer in sorted(members, key=_execution)),
                n_params=sum(layer.n_params for layer in members),
                stride=stride,
                cut="not tried",
            )
        )
    rest = [layer for layer in layers if number[layer.path] == n_units + 1]
    return UnitMap(
        model=name,
        granularity=granularity,
        units=tuple(units),
        head=tuple(tensor for layer in rest for tensor in layer.tensors),
        head_modules=tuple(layer.path for layer in sorted(rest, key=_execution)),
    )


def _name(n: int, n_units: int, has_neck: bool, natives: tuple[str, ...], granularity: str) -> str:
    if granularity != "stage":
        return natives[0]
    if n == 1:
        return "stem"
    return "neck" if has_neck and n == n_units else f"stage{n - 1}"


def _number_the_rest(number: Numbers, layers: tuple[Layer, ...]) -> Numbers:
    """Return the unit of every layer, including the layers without parameters.

    A layer without parameters belongs to the unit of the nearest module around it that has
    parameters, if these are all in one unit. Otherwise it belongs to the unit of the layer that
    ran just before it; but a global pooling or a dropout behind the last unit begins the head. A
    layer that never runs belongs to the unit of the layer that was registered before it.
    """
    number = dict(number)
    around = _units_by_module(number)
    n_units = max(number.values()) - 1
    last = max(
        (c.left for la in layers if number.get(la.path, 0) == n_units for c in la.calls), default=0
    )
    latest = 1
    for layer in sorted((layer for layer in layers if layer.calls), key=_execution):
        if layer.path not in number:
            opens_head = _pools(layer) or layer.kind == "dropout"
            ends = opens_head and layer.calls[0].left > last
            default = n_units + 1 if ends else latest
            number[layer.path] = _unit_around(layer.path, around) or default
        latest = number[layer.path]
    latest = 1
    for layer in layers:
        if layer.path not in number:
            number[layer.path] = _unit_around(layer.path, around) or latest
        latest = number[layer.path]
    return number


def _units_by_module(number: Numbers) -> dict[str, set[int]]:
    """Return for every module, except the network itself, the units of the layers inside it."""
    around: dict[str, set[int]] = {}
    for path, unit in number.items():
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            around.setdefault(".".join(parts[:end]), set()).add(unit)
    return around


def _unit_around(path: str, around: dict[str, set[int]]) -> int:
    """Return the unit of the nearest module with parameters around a path, 0 if it has several."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        units = around.get(".".join(parts[:end]), set())
        if units:
            return next(iter(units)) if len(units) == 1 else 0
    return 0


def _pools(layer: Layer) -> bool:
    """Return whether a layer turns a map of pixels into one pixel, or into a vector."""
    before, after = layer.calls[0].shape_in or (), layer.calls[0].shape_out or ()
    if len(before) != 4 or max(before[2:]) == 0:
        return False
    return len(after) == 2 or (after[2:] == (1, 1) and before[2:] != (1, 1))


def _find_natives(number: Numbers, layers: tuple[Layer, ...]) -> dict[int, tuple[str, ...]]:
    """Return the outermost modules that lie wholly inside each unit, those with tensors first."""
    inside = _units_by_module(number)
    natives: dict[int, dict[str, bool]] = {unit: {} for unit in set(number.values())}
    for layer in sorted(layers, key=_execution):
        parts = layer.path.split(".")
        parents = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        path = next((path for path in parents if path and len(inside[path]) == 1), None)
        if path is not None:  # None for a module around several units that has direct tensors
            has_tensors = natives[number[layer.path]]
            has_tensors[path] = has_tensors.get(path, False) or bool(layer.tensors)
    return {
        unit: tuple(sorted(paths, key=lambda path, paths=paths: not paths[path]))  # type: ignore
        for unit, paths in natives.items()
    }


def _execution(layer: Layer) -> float:
    return layer.calls[0].left if layer.calls else float("inf")
