"""Groups of layers, in the order in which they run. `stages.py` makes units from them."""

from collections.abc import Callable, Iterable

from timm.models import group_parameters
from torch import nn

from tlcnn.model.trace import Layer, Value

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


def is_inside(path: str, modules: Iterable[str]) -> bool:
    """Return whether a path is one of the modules or lies inside one."""
    return any(path == module or path.startswith(module + ".") for module in modules)


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
    ends = sorted(_end_of(module, layers) for module in modules)
    return {
        layer.path: sum(end < layer.calls[0].left for end in ends)
        for layer in layers
        if layer.params and layer.calls
    }


def group_by_children(model: nn.Module, layers: tuple[Layer, ...], coarse: bool) -> Grouping:
    """Group the layers by the network's direct children, in the order in which they run."""
    ran = sorted((layer for layer in layers if layer.params and layer.calls), key=_left)
    children = list(dict.fromkeys(layer.path.split(".")[0] for layer in ran))
    return {layer.path: children.index(layer.path.split(".")[0]) for layer in ran}


def group_by_convolution(layers: tuple[Layer, ...]) -> Grouping:
    """Group every convolution or linear layer with its norm, and the rest around them.

    A norm in front of a convolution (pre-activation) goes with the convolution that follows; a
    scale or a learned activation goes with the one before.
    """
    owner = find_owned_norms(layers)
    ran = sorted((layer for layer in layers if layer.params and layer.calls), key=_left)
    position = {layer.path: n for n, layer in enumerate(ran)}
    convs = [position[layer.path] for layer in ran if layer.kind == "conv"]
    grouping: Grouping = {}
    for layer in ran:
        place = position[owner.get(layer.path, layer.path)]
        ahead = layer.kind == "norm" and layer.path not in owner
        number = sum(conv <= place for conv in convs) + ahead
        grouping[layer.path] = min(max(number, 1), len(convs))
    return _merge_until_monotone(grouping, ran)


def find_owned_norms(layers: tuple[Layer, ...]) -> dict[str, str]:
    """Return for each norm the convolution whose output tensor is its input.

    A pre-activation norm has no such convolution. Mostly its input is a sum, or a pooled or
    concatenated tensor. If its input is the output of the stem's convolution, it is left out as
    well, because it lies in a block with convolutions of its own.
    """
    convs = [layer.path for layer in layers if layer.kind == "conv"]
    made_by: dict[Value | None, str] = {
        call.value_out: layer.path
        for layer in layers
        for call in layer.calls
        if layer.kind == "conv" and call.value_out is not None
    }
    owners = {
        layer.path: made_by[layer.calls[0].value_in]
        for layer in layers
        if layer.kind == "norm" and layer.calls and layer.calls[0].value_in in made_by
    }
    return {norm: conv for norm, conv in owners.items() if not _opens_block(norm, conv, convs)}


def _opens_block(norm: str, conv: str, convs: list[str]) -> bool:
    """Return whether a norm lies in a module with convolutions that does not hold `conv`."""
    parts = norm.split(".")
    parents = (".".join(parts[:end]) for end in range(1, len(parts)))
    block = next((path for path in parents if not is_inside(conv, [path])), None)
    return block is not None and any(is_inside(path, [block]) for path in convs)


GROUPINGS: tuple[Callable[[nn.Module, tuple[Layer, ...], bool], Grouping], ...] = (
    group_by_matcher,
    group_by_features,
    group_by_children,
)


def _merge_until_monotone(grouping: Grouping, ran: list[Layer]) -> Grouping:
    """Merge groups whose layers run alternately, as in parallel branches."""
    numbers = [grouping[layer.path] for layer in ran]
    smallest_after = [min(numbers[n:]) for n in range(len(numbers))]
    merged, largest, group = {}, -1.0, 0
    for layer, number, smallest in zip(ran, numbers, smallest_after, strict=True):
        group += largest < smallest  # no layer of an earlier group runs later
        largest = max(largest, number)
        merged[layer.path] = float(group)
    return merged


def _left(layer: Layer) -> int:
    return layer.calls[0].left


def _end_of(module: str, layers: tuple[Layer, ...]) -> int:
    return max(
        (call.left for layer in layers if is_inside(layer.path, [module]) for call in layer.calls),
        default=0,
    )
