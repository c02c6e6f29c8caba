"""Compute the unit map of a timm network: trace it, group its layers, merge, validate, name."""

from collections.abc import Callable
from functools import partial
from operator import attrgetter

import torch
from torch import nn

from tlcnn.errors import ConfigError, did_you_mean, list_names
from tlcnn.model.build import (
    find_input_size,
    forking_draws,
    make_network,
    parse_architecture,
)
from tlcnn.model.cut import find_cuts
from tlcnn.model.groups import (
    GROUPINGS,
    Division,
    Grouping,
    compute_stride,
    find_head,
    find_owned_norms,
    group_by_convolution,
    make_division,
    merge_by_stride,
)
from tlcnn.model.trace import Layer, trace_layers
from tlcnn.model.unit_map import GRANULARITIES, Unit, UnitMap, is_inside, list_enclosing

# Classes of networks whose stages are timm's groups, instead of groups merged by equal stride.
# HRNet processes all resolutions in parallel, so a group has no single stride.
NATIVE_STAGES = ("HighResolutionNet",)

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

    The first way of grouping the layers that gives valid units is taken.

    Raises:
        ConfigError: as `compute_unit_map`.
    """
    if granularity not in GRANULARITIES:
        raise ConfigError(
            f"granularity '{granularity}' is not known.{did_you_mean(granularity, GRANULARITIES)} "
            f"Allowed: {', '.join(GRANULARITIES)}."
        )
    architecture = parse_architecture(name)
    model = _build_without_weights(architecture)
    size = find_input_size(model)
    try:
        layers = trace_layers(model, torch.empty(2, *size, device="meta"))
    except Exception as error:  # the code of a family may raise anything
        raise ConfigError(
            f"{architecture} cannot be divided into units: it does not run on {size} images "
            f"({error}). Choose another network."
        ) from error
    head = find_head(model)
    groupings: list[Callable[[], Grouping]]
    if granularity == "layer":
        body = tuple(layer for layer in layers if not is_inside(layer.path, head))
        groupings = [partial(group_by_convolution, body)]
    else:
        is_coarse = granularity != "block"
        groupings = [partial(group_by, model, layers, is_coarse) for group_by in GROUPINGS]
    obstacles = []
    for group in groupings:
        division = make_division(group(), layers, head)
        if granularity == "stage" and type(model).__name__ not in NATIVE_STAGES:
            division = merge_by_stride(division, size)
        in_head = tuple(layer for layer in layers if layer.params and is_inside(layer.path, head))
        numbered = enumerate((*division.groups, in_head), start=1)
        number = {layer.path: n for n, members in numbered for layer in members}
        obstacle = _find_obstacle(division, number, layers)
        if obstacle is None:
            return _make_map(architecture, granularity, division, number, layers, size)
        obstacles.append(obstacle)
    raise ConfigError(_describe_refusal(architecture, granularity, layers, obstacles[0]))


def _build_without_weights(architecture: str) -> nn.Module:
    """Build a network on the meta device: shapes are enough, and nothing is drawn."""
    try:
        with torch.device("meta"):
            return make_network(architecture, num_classes=2).eval()
    except (NotImplementedError, RuntimeError):  # an older timm computes while it builds
        with forking_draws("shapes", 0):
            return make_network(architecture, num_classes=2).eval().to("meta")


def _describe_refusal(
    architecture: str, granularity: str, layers: tuple[Layer, ...], obstacle: str
) -> str:
    if not _processes_maps(layers):
        return (
            f"{architecture} is not a CNN whose layers process maps of pixels one after the other "
            f"({obstacle}), so it has no units at any granularity. Choose a CNN, for example "
            "model=resnet18, model=convnext_tiny or model=efficientnet_b0."
        )
    return (
        f"{architecture} cannot be divided into units at granularity {granularity}: {obstacle}. "
        f"Choose another granularity ({', '.join(GRANULARITIES)}) or another network."
    )


def _processes_maps(layers: tuple[Layer, ...]) -> bool:
    """Return whether most layers put out maps of pixels, and none of the parameters is outside.

    Transformers process tokens, (N, tokens, C), and add parameters for their positions to them.
    """
    shapes = [c.shape_out or () for layer in layers if layer.kind == "conv" for c in layer.calls]
    n_maps = sum(len(shape) == 4 for shape in shapes)
    return 2 * n_maps > len(shapes) and not any(la.params for la in layers if not la.path)


def _find_obstacle(division: Division, number: Numbers, layers: tuple[Layer, ...]) -> str | None:
    """Return why the groups cannot be units, or None if they can."""
    if len(division.groups) < 2:
        return f"its layers form {len(division.groups)} group(s) besides the classifier"
    missing = [la.path for la in layers if la.params and la.path not in number]
    if missing:
        return f"no unit holds {list_names(missing)}"
    separate = [n for n, c in find_owned_norms(layers).items() if number[n] != number[c]]
    if separate:
        return f"norm and convolution are in different units at {list_names(separate)}"
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


def _make_map(
    name: str,
    granularity: str,
    division: Division,
    number: Numbers,
    layers: tuple[Layer, ...],
    size: tuple[int, ...],
) -> UnitMap:
    n_units = len(division.groups)
    number = _number_every_layer(number, layers, n_units)
    natives = _find_natives(number, layers)
    members: dict[int, list[Layer]] = {n: [] for n in range(1, n_units + 2)}
    for layer in layers:
        members[number[layer.path]].append(layer)
    tensors = {n: tuple(t for la in members[n] for t in la.tensors) for n in members}
    by_order = attrgetter("order")
    modules = {n: tuple(la.path for la in sorted(members[n], key=by_order)) for n in members}
    units: list[Unit] = []
    for n, group in enumerate(division.groups, start=1):
        if granularity != "stage":
            unit_name = natives[n][0]
        elif n == 1:
            unit_name = "stem"
        else:
            unit_name = "neck" if division.has_neck and n == n_units else f"stage{n - 1}"
        units.append(
            Unit(
                name=unit_name,
                natives=natives[n],
                tensors=tensors[n],
                modules=modules[n],
                n_params=sum(layer.n_params for layer in members[n]),
                stride=compute_stride(group, size) or (units[-1].stride if units else 1),
                cut_obstacle="not tried",
            )
        )
    head = n_units + 1
    return UnitMap(name, granularity, tuple(units), tensors[head], modules[head])


def _number_every_layer(number: Numbers, layers: tuple[Layer, ...], n_units: int) -> Numbers:
    """Return the unit of every layer, including the layers without parameters.

    A layer without parameters belongs to the unit of the nearest module around it that has
    parameters, if these are all in one unit. Otherwise it belongs to the unit of the layer that
    ran just before it; but a global pooling or a dropout behind the last unit begins the head. A
    layer that never runs belongs to the unit of the layer that was registered before it.
    """
    inside = _find_units_inside(number)

    def find_enclosing_unit(path: str) -> int:
        for around in reversed(list_enclosing(path)[:-1]):
            if around in inside:
                return min(inside[around]) if len(inside[around]) == 1 else 0
        return 0

    number = dict(number)
    calls_of_last = (c for la in layers if number.get(la.path) == n_units for c in la.calls)
    end = max((call.left for call in calls_of_last), default=0)
    ran = sorted((layer for layer in layers if layer.calls), key=attrgetter("order"))
    for ordered in (ran, layers):
        latest = 1
        for layer in ordered:
            if layer.path not in number:
                is_last = bool(layer.calls) and layer.order > end
                begins_head = is_last and (layer.kind == "dropout" or _pools(layer))
                default = n_units + 1 if begins_head else latest
                number[layer.path] = find_enclosing_unit(layer.path) or default
            latest = number[layer.path]
    return number


def _find_units_inside(number: Numbers) -> dict[str, set[int]]:
    """Return for every module, except the network itself, the units of the layers inside it."""
    inside: dict[str, set[int]] = {}
    for path, unit in number.items():
        for around in list_enclosing(path):
            inside.setdefault(around, set()).add(unit)
    return inside


def _pools(layer: Layer) -> bool:
    """Return whether a layer turns a map of pixels into one pixel, or into a vector."""
    before, after = layer.calls[0].shape_in or (), layer.calls[0].shape_out or ()
    if len(before) != 4 or max(before[2:]) == 0:
        return False
    return len(after) == 2 or (after[2:] == (1, 1) and before[2:] != (1, 1))


def _find_natives(number: Numbers, layers: tuple[Layer, ...]) -> dict[int, tuple[str, ...]]:
    """Return the outermost modules that lie wholly inside each unit, those with tensors first."""
    inside = _find_units_inside(number)
    has_tensors: dict[int, dict[str, bool]] = {unit: {} for unit in set(number.values())}
    for layer in sorted(layers, key=attrgetter("order")):
        around = list_enclosing(layer.path)
        path = next((path for path in around if path and len(inside[path]) == 1), None)
        if path is not None:  # None for a module around several units that has direct tensors
            of_unit = has_tensors[number[layer.path]]
            of_unit[path] = of_unit.get(path, False) or bool(layer.tensors)
    return {
        unit: tuple(sorted(paths, key=lambda path, paths=paths: not paths[path]))  # type: ignore
        for unit, paths in has_tensors.items()
    }
