"""Make units from groups: keep norms with their convolutions, find the neck, merge by stride."""

import math
from dataclasses import dataclass, replace

from tlcnn.model.groups import Grouping, find_owned_norms, is_inside
from tlcnn.model.trace import Layer

Groups = tuple[tuple[Layer, ...], ...]


@dataclass(frozen=True)
class Division:
    """The layers with parameters, without those of the head, as groups in execution order.

    Attributes:
        groups: the layers of each group.
        has_neck: whether the last group is the neck: the layers that timm puts into the group of
            the classifier, without the classifier.
    """

    groups: Groups
    has_neck: bool


def make_division(
    grouping: Grouping, layers: tuple[Layer, ...], head: tuple[str, ...]
) -> Division:
    """Return the groups in order, without the head, and with norms beside their convolutions.

    The classifier's group may hold other layers. These form a group of their own, the neck, if one
    of them is a convolution or linear layer. Otherwise they join the group before.
    """
    number = _number_every_layer(grouping, layers)
    in_head = {layer.path for layer in layers if is_inside(layer.path, head)}
    body = [layer for layer in layers if layer.path not in in_head]
    members = {
        group: tuple(layer for layer in body if number.get(layer.path) == group)
        for group in sorted(set(number.values()))
    }
    groups = [group for group in members.values() if group]
    last = members[max(members)] if members else ()
    after = any(number.get(path) == max(members) for path in in_head) and bool(last)
    if not after or len(groups) < 2:
        return Division(tuple(groups), has_neck=False)
    if any(layer.kind == "conv" for layer in last):
        return Division(tuple(groups), has_neck=True)
    return Division((*groups[:-2], groups[-2] + last), has_neck=False)


def merge_by_stride(division: Division, size: tuple[int, ...]) -> Division:
    """Merge consecutive groups of equal stride, except the stem and the neck.

    The stem is the first group, with the single convolutions that follow it at its own stride.
    """
    groups = list(division.groups)
    neck = [groups.pop()] if division.has_neck else []
    stem = [groups.pop(0)]
    stride = compute_stride(stem[0], size)
    while groups and _is_lone(groups[0], groups) and compute_stride(groups[0], size) == stride:
        stem.append(groups.pop(0))
    stages: list[list[Layer]] = []
    latest: int | None = None
    for group in groups:
        stride = compute_stride(group, size)
        if stride is not None and stride == latest:
            stages[-1].extend(group)
        else:
            stages.append(list(group))
        latest = stride
    merged = (tuple(layer for group in stem for layer in group), *map(tuple, stages), *neck)
    return replace(division, groups=merged)


def compute_stride(group: tuple[Layer, ...], size: tuple[int, ...]) -> int | None:
    """Return input pixels per output pixel of a group's last layer, rounded to a power of two.

    Layers whose output is not a map of pixels are ignored: tokens, and the single pixel of a
    squeeze-and-excitation block. The result is None if no layer is left.

    Args:
        group: layers with parameters.
        size: (C, H, W) of the network's input.
    """
    calls = [call for layer in group for call in layer.calls]
    for call in sorted(calls, key=lambda call: call.left, reverse=True):
        height = _height(call.shape_out)
        if height > 1:
            return int(2 ** round(math.log2(size[1] / height)))
    return None


def _height(shape: tuple[int, ...] | None) -> int:
    """Return the height of an (N, C, H, W) or (N, H, W, C) map, and 1 for anything else."""
    if shape is None or len(shape) != 4:
        return 1
    return shape[1] if shape[1] == shape[2] != shape[3] else shape[2]


def _is_lone(group: tuple[Layer, ...], groups: list[tuple[Layer, ...]]) -> bool:
    """Return whether a group is one convolution with its norm, and not a stage of such blocks."""
    convs = [layer.path for layer in group if layer.kind == "conv"]
    if len(convs) != 1:
        return False
    rest = [layer.path for member in groups if member is not group for layer in member]
    parts = convs[0].split(".")
    parents = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    block = next(path for path in parents if not any(is_inside(layer, [path]) for layer in rest))
    return len(parts) - len(block.split(".")) <= 1


def _number_every_layer(grouping: Grouping, layers: tuple[Layer, ...]) -> Grouping:
    """Return the group of every layer with parameters.

    A layer that the grouping does not list joins the group of the layer before it. A norm joins
    the group of its convolution.
    """
    owners = find_owned_norms(layers)
    number: Grouping = {}
    latest = min(grouping.values(), default=0.0)
    for layer in layers:
        if layer.params:
            latest = number[layer.path] = grouping.get(layer.path, latest)
    for norm, conv in owners.items():
        if norm in number and conv in number:
            number[norm] = number[conv]
    return number
