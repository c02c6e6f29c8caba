"""Groups of layers, in the order in which they run. `stages.py` makes units from them."""

from collections.abc import Callable
from operator import attrgetter

from timm.models import group_parameters
from torch import nn

from tlcnn.model.trace import Layer
from tlcnn.model.unit_map import is_inside, list_enclosing

Grouping = dict[str, float]  # layer path -> a number that sorts the groups


def find_head(model: nn.Module) -> tuple[str, ...]:
    """Return the paths of a timm network's classifier; distilled networks have two."""
    classifier = model.get_classifier()  # type: ignore[operator]
    classifiers = classifier if isinstance(classifier, (tuple, list)) else (classifier,)
    return tuple(
        path
        for path, module in model.named_modules()
        if path and any(module is head for head in classifiers)
    )


def group_by_matcher(model: nn.Module, layers: tuple[Layer, ...], coarse: bool) -> Grouping:
    """Group the layers that have parameters as timm's layer-wise learning rates do.

    A family without a matcher, or one whose matcher fails, has no groups.
    """
    try:
        matcher = model.group_matcher(coarse=coarse)  # type: ignore[operator]
        number = group_parameters(model, matcher, reverse=True)
    except Exception:  # the code of a family may raise anything; the next grouping is tried then
        return {}
    return {layer.path: number[layer.params[0]] for layer in layers if layer.params}


def group_by_features(model: nn.Module, layers: tuple[Layer, ...], coarse: bool) -> Grouping:
    """Group the layers by the modules whose outputs timm lists as features."""
    info = getattr(model, "feature_info", None)
    info = getattr(info, "info", info) or []
    modules = [each["module"] for each in info if isinstance(each, dict) and "module" in each]
    ends = []
    for module in modules:
        calls = [c.left for la in layers if is_inside(la.path, [module]) for c in la.calls]
        ends.append(max(calls, default=0))
    return {layer.path: sum(end < layer.order for end in ends) for layer in _list_ran(layers)}


def group_by_children(model: nn.Module, layers: tuple[Layer, ...], coarse: bool) -> Grouping:
    """Group the layers by the network's direct children, in the order in which they run."""
    ran = _list_ran(layers)
    children = list(dict.fromkeys(layer.path.split(".")[0] for layer in ran))
    return {layer.path: children.index(layer.path.split(".")[0]) for layer in ran}


def group_by_convolution(layers: tuple[Layer, ...]) -> Grouping:
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


def _list_ran(layers: tuple[Layer, ...]) -> list[Layer]:
    """Return the layers with parameters that the network calls, in the order in which they run."""
    ran = (layer for layer in layers if layer.params and layer.calls)
    return sorted(ran, key=attrgetter("order"))


def find_owned_norms(layers: tuple[Layer, ...]) -> dict[str, str]:
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


GROUPINGS: tuple[Callable[[nn.Module, tuple[Layer, ...], bool], Grouping], ...] = (
    group_by_matcher,
    group_by_features,
    group_by_children,
)
