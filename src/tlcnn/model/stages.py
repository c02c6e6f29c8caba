"""Make units from groups: keep norms with their convolutions, find the neck, merge by stride."""

import math
from dataclasses import dataclass, replace

from tlcnn.model.groups import Grouping, find_owned_norms
from tlcnn.model.trace import Layer
from tlcnn.model.unit_map import is_inside, list_enclosing

Group = tuple[Layer, ...]


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
