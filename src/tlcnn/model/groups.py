"""Group the layers of a network as they run, and make divisions into units from the groups."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

from timm.models import group_parameters
from torch import nn

from tlcnn.model.trace import Layer
from tlcnn.model.unit_map import is_inside, list_enclosing

Grouping = dict[str, float]  # layer path -> a number that sorts the groups
Group = tuple[Layer, ...]


def find_head(model: nn.Module) -> tuple[str, ...]:
    """Return the paths of a timm network's classifier; distilled networks have two."""
    classifier = model.get_classifier()  # type: ignore[operator]
    classifiers = classifier if isinstance(classifier, (tuple, list)) else (classifier,)
    return tuple(
        path
        for path, module in model.named_modules()
        if path and any(module is head for head in classifiers)
    )


def group_by_matcher(model: nn.Module, layers: Group, coarse: bool) -> Grouping:
    """Group the layers that have parameters as timm's layer-wise learning rates do.

    A family without a matcher, or one whose matcher fails, has no groups.
    """
    try:
        matcher = model.group_matcher(coarse=coarse)  # type: ignore[operator]
        number = group_parameters(model, matcher, reverse=True)
    except Exception:  # the code of a family may raise anything; the next grouping is tried then
        return {}
    return {layer.path: number[layer.params[0]] for layer in layers if layer.params}


def group_by_features(model: nn.Module, layers: Group, coarse: bool) -> Grouping:
    """Group the layers by the modules whose outputs timm lists as features."""
    info = getattr(model, "feature_info", None)
    info = getattr(info, "info", info) or []
    modules = [each["module"] for each in info if isinstance(each, dict) and "module" in each]
    ends = []
    for module in modules:
        calls = [c.left for la in layers if is_inside(la.path, [module]) for c in la.calls]
        ends.append(max(calls, default=0))
    return {layer.path: sum(end < layer.order for end in ends) for layer in _list_ran(layers)}


def group_by_children(model: nn.Module, layers: Group, coarse: bool) -> Grouping:
    """Group the layers by the network's direct children, in the order in which they run."""
    ran = _list_ran(layers)
    children = list(dict.fromkeys(layer.path.split(".")[0] for layer in ran))
    return {layer.path: children.index(layer.path.split(".")[0]) for layer in ran}


def group_by_convolution(layers: Group) -> Grouping:
    """Group every convolution or linear layer with its norm, and the rest around them.

    A norm in front of a convolution (pre-activation) goes with the convolution that follows; a
    scale or a learned activation goes with the one before. Groups whose layers run alternately,
    as in parallel branches, are merged.
    """
    owner = find_owned_norms(layers)
    ran = _list_ran(layers)
    position = {layer.path: n for n, layer in enumerate(ran)}
    convs = [position[layer.path] for layer in ran if layer.kind == "conv"]
    numbers = []
    for layer in ran:
        place = position[owner.get(layer.path, layer.path)]
        is_ahead = layer.kind == "norm" and layer.path not in owner
        number = sum(conv <= place for conv in convs) + is_ahead
        numbers.append(min(max(number, 1), len(convs)))
    grouping: Grouping = {}
    largest, group = -1, 0
    for n, layer in enumerate(ran):
        group += largest < min(numbers[n:])  # no layer of an earlier group runs later
        largest = max(largest, numbers[n])
        grouping[layer.path] = float(group)
    return grouping


def _list_ran(layers: Group) -> list[Layer]:
    """Return the layers with parameters that the network calls, in the order in which they run."""
    ran = (layer for layer in layers if layer.params and layer.calls)
    return sorted(ran, key=attrgetter("order"))


def find_owned_norms(layers: Group) -> dict[str, str]:
    """Return for each norm the convolution whose output tensor is its input.

    A pre-activation norm has no such convolution. Mostly its input is a sum, or a pooled or
    concatenated tensor. If its input is the output of the stem's convolution, it is left out as
    well, because it lies in a block with convolutions of its own.
    """
    convs = [layer for layer in layers if layer.kind == "conv"]
    source = {call.value_out: conv.path for conv in convs for call in conv.calls}
    owners = {}
    for norm in layers:
        value = norm.calls[0].value_in if norm.kind == "norm" and norm.calls else None
        if value is None or value not in source:
            continue
        around = list_enclosing(norm.path)[:-1]
        block = next((path for path in around if not is_inside(source[value], [path])), None)
        if block is None or not any(is_inside(conv.path, [block]) for conv in convs):
            owners[norm.path] = source[value]
    return owners


GROUPINGS: tuple[Callable[[nn.Module, Group, bool], Grouping], ...] = (
    group_by_matcher,
    group_by_features,
    group_by_children,
)


@dataclass(frozen=True)
class Division:
    """The layers with parameters, without those of the head, as groups in execution order.

    Attributes:
        groups: the layers of each group.
        has_neck: whether the last group is the neck: the layers that timm puts into the group of
            the classifier, without the classifier.
    """

    groups: tuple[Group, ...]
    has_neck: bool = False


def make_division(grouping: Grouping, layers: Group, head: tuple[str, ...]) -> Division:
    """Return the groups in order, without the head, and with norms beside their convolutions.

    A layer with parameters that the grouping does not list joins the group of the layer before it.
    The classifier's group may hold other layers. These form a group of their own, the neck, if one
    of them is a convolution or linear layer. Otherwise they join the group before.
    """
    number: Grouping = {}
    latest = min(grouping.values(), default=0.0)
    for layer in layers:
        if layer.params:
            latest = number[layer.path] = grouping.get(layer.path, latest)
    for norm, conv in find_owned_norms(layers).items():
        if norm in number and conv in number:
            number[norm] = number[conv]

    in_head = {layer.path for layer in layers if is_inside(layer.path, head)}
    members: dict[float, list[Layer]] = {group: [] for group in sorted(set(number.values()))}
    for layer in layers:
        if layer.path in number and layer.path not in in_head:
            members[number[layer.path]].append(layer)
    groups = [tuple(group) for group in members.values() if group]
    last = tuple(members[max(members)]) if members else ()
    is_neck = bool(last) and any(number.get(path) == max(members) for path in in_head)
    if not is_neck or len(groups) < 2:
        return Division(tuple(groups))
    if any(layer.kind == "conv" for layer in last):
        return Division(tuple(groups), has_neck=True)
    return Division((*groups[:-2], groups[-2] + last))


def merge_by_stride(division: Division, size: tuple[int, ...]) -> Division:
    """Merge consecutive groups of equal stride, except the stem and the neck.

    The stem is the first group, with the single convolutions that follow it at its own stride.
    """
    groups = list(division.groups)
    neck = [groups.pop()] if division.has_neck else []
    stem = groups.pop(0)
    stride = compute_stride(stem, size)
    while groups and _is_lone(groups[0], groups[1:]) and compute_stride(groups[0], size) == stride:
        stem += groups.pop(0)
    stages: list[Group] = []
    latest: int | None = None
    for group in groups:
        stride = compute_stride(group, size)
        if stride is not None and stride == latest:
            stages[-1] += group
        else:
            stages.append(group)
        latest = stride
    return replace(division, groups=(stem, *stages, *neck))


def compute_stride(group: Group, size: tuple[int, ...]) -> int | None:
    """Return input pixels per output pixel of a group's last layer, rounded to a power of two.

    Layers whose output is not a map of pixels, (N, C, H, W) or (N, H, W, C), are ignored: tokens,
    and the single pixel of a squeeze-and-excitation block. The result is None if no layer is left.

    Args:
        group: layers with parameters.
        size: (C, H, W) of the network's input.
    """
    calls = [call for layer in group for call in layer.calls]
    for call in sorted(calls, key=lambda call: call.left, reverse=True):
        shape = call.shape_out or ()
        if len(shape) == 4:
            height = shape[1] if shape[1] == shape[2] != shape[3] else shape[2]
            if height > 1:
                return int(2 ** round(math.log2(size[1] / height)))
    return None


def _is_lone(group: Group, following: list[Group]) -> bool:
    """Return whether a group is one convolution with its norm, and not a stage of such blocks."""
    convs = [layer.path for layer in group if layer.kind == "conv"]
    if len(convs) != 1:
        return False
    rest = [layer.path for member in following for layer in member]
    around = list_enclosing(convs[0])
    block = next(path for path in around if not any(is_inside(layer, [path]) for layer in rest))
    return len(around) - len(list_enclosing(block)) <= 1
