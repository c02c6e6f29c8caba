"""Finding a network's tensors in a state dict that names them differently.

Tried in this order, the first that gives every tensor of the units wins:

    1. the names as they are
    2. without the wrappers of DataParallel and torch.compile, and without a common prefix
    3. timm's own conversion of its architectures' original checkpoints
    4. by position, where kinds and shapes agree one by one (torchvision's names)
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from tlcnn.errors import WeightsError, list_names
from tlcnn.model.checkpoint_file import State
from tlcnn.model.unit_map import UnitMap

COUNTER = "num_batches_tracked"
TRAINED = (".weight", ".bias", ".running_mean", ".running_var")
# Prefixes under which a checkpoint keeps *the* network when it holds several.
PREFERRED = (
    "",
    "model.",
    "net.",
    "network.",
    "backbone.",
    "encoder.",
    "encoder_q.",
    "student.",
    "trunk.",
    "model.backbone.",
    "model.encoder.",
    "model.model.",
)
# Foreign names whose order was checked to mean the same network: the outputs of the two programs
# agree. Nothing else is mapped by position, because a file does not tell what its network computes
# (torchvision's MobileNetV3 and EfficientNet-B5 have timm's shapes and another BatchNorm epsilon).
BY_POSITION = (
    (r"mobilenetv2_100", "features.0.0.weight"),
    (r"efficientnet_b[0-4]", "features.0.0.weight"),
    (r"convnext_(tiny|small|base|large)", "features.0.0.weight"),
    (r"mnasnet_100", "layers.0.weight"),
)


def match_names(state: State, model: nn.Module, unit_map: UnitMap) -> State:
    """Return the state with the model's tensor names, whatever its own were.

    Tensors that the model does not have keep their names. Whole units may be missing (a backbone
    that was cut), but a tensor of another shape, half a unit, or further layers inside a unit mean
    another architecture, even where the first layers agree. The state is returned as it is when
    it already has every name.

    Raises:
        WeightsError: it fits no unit, contradicts one, or it is not clear which network is meant.
    """
    body = _body_shapes(model, unit_map)
    bare = {_unwrapped(name): tensor for name, tensor in state.items()}
    inner = _inner(bare)
    candidates: list[Callable[[], State]] = [
        lambda: state,
        lambda: _without_prefix(bare, body),
        lambda: _converted_by_timm(inner, unit_map.model),
        lambda: _by_position(inner, model, unit_map),
    ]
    best: State = {}
    for candidate in candidates:
        found = candidate()
        if _count(found, body) == len(body):
            _check_same_architecture(found, body, unit_map)
            return found
        best = max(best, found, key=lambda names: _count(names, body))
    if not _count(best, body):
        raise WeightsError(describe_misfit(state, body, unit_map.model))
    _check_same_architecture(best, body, unit_map)
    return best


def describe_misfit(state: State, wanted: dict[str, torch.Size], model: str) -> str:
    """Say which wanted tensors are missing or have another shape, and which others are there."""
    missing = [name for name in wanted if name not in state]
    shaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(shape)}"
        for name, shape in wanted.items()
        if name in state and state[name].shape != shape
    ]
    other = [name for name in state if name not in wanted]
    parts = [
        f"{len(names)} of {len(wanted)} {what}: {list_names(names)}"
        for what, names in (("missing", missing), ("of another shape", shaped))
        if names
    ]
    if missing and other:
        parts.append(f"{len(other)} it holds instead or besides: {list_names(other)}")
    return (
        f"these weights do not fit {model}.\n" + "\n".join(parts) + "\nCheck the model's name "
        "and that the file comes from the same architecture."
    )


def _body_shapes(model: nn.Module, unit_map: UnitMap) -> dict[str, torch.Size]:
    """Return the shapes of the units' saved tensors; counters are optional in any file."""
    own = model.state_dict()
    names = unit_map.tensors_of(1, len(unit_map))
    return {n: own[n].shape for n in names if n in own and not n.endswith(COUNTER)}


def _count(state: State, shapes: dict[str, torch.Size]) -> int:
    return sum(n in state and state[n].shape == shape for n, shape in shapes.items())


def _check_same_architecture(found: State, body: dict[str, torch.Size], unit_map: UnitMap) -> None:
    """Refuse the stem of a ResNet-50 for a ResNet-18, and the half of a ResNet-34 that fits."""
    wanted = dict(body)
    for unit in unit_map.units:
        if not any(name in found for name in unit.tensors):  # a unit that was cut off
            wanted = {name: shape for name, shape in wanted.items() if name not in unit.tensors}
    if _count(found, wanted) < len(wanted):
        raise WeightsError(describe_misfit(found, wanted, unit_map.model))
    inside = {n.split(".")[0] for n in body} - {n.split(".")[0] for n in unit_map.head}
    further = [
        name
        for name in found
        if name not in body and name.split(".")[0] in inside and name.endswith(TRAINED)
    ]
    if further:
        raise WeightsError(
            f"these weights do not fit {unit_map.model}: they hold {len(further)} tensors in "
            f"layers that it does not have: {list_names(further)}. They come from another "
            f"architecture."
        )


# --------------------------------------------------------------------------- 2. prefixes


def _without_prefix(bare: State, body: dict[str, torch.Size]) -> State:
    counts = {p: _count(_strip(bare, p), body) for p in _prefixes(bare)}
    most = max(counts.values())
    tied = [prefix for prefix, count in counts.items() if count == most]
    preferred = [prefix for prefix in PREFERRED if prefix in tied]
    if len(tied) > 1 and not preferred and most == len(body):
        raise WeightsError(
            f"this checkpoint holds several networks that fit, under {list_names(tied)}: save "
            f"the one that you mean to a file of its own."
        )
    return _strip(bare, (preferred or tied)[0])


def _unwrapped(name: str) -> str:
    return re.sub(r"(^|(?<=\.))(_orig_mod|module)\.", "", name)


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return every prefix of up to three components, the empty one first."""
    parts = [name.split(".")[:-1][:3] for name in names]
    return list(
        dict.fromkeys(
            "".join(f"{part}." for part in path[:depth]) for depth in range(4) for path in parts
        )
    )


def _inner(bare: State) -> State:
    """Take off a prefix that every name has, where it is one of the preferred."""
    shared = [p for p in PREFERRED if bare and all(name.startswith(p) for name in bare)]
    return _strip(bare, max(shared, key=len)) if shared else bare


def _strip(state: State, prefix: str) -> State:
    return {n[len(prefix) :]: tensor for n, tensor in state.items() if n.startswith(prefix)}


# ------------------------------------------------------------------- 3. timm's conversion


def _converted_by_timm(state: State, architecture: str) -> State:
    """Load into timm's own network with the file's class count, and read the names there.

    The count is timm's own, or that of the last tensor where the file kept its order.
    """
    import timm

    cfg = timm.get_pretrained_cfg(architecture)
    last = next((len(t) for t in reversed(state.values()) if t.dim()), 0)
    for n_classes in dict.fromkeys((cfg.num_classes if cfg else last, last)):
        source = {"state_dict": state, "num_classes": n_classes, "label_offset": 0}
        try:
            with torch.random.fork_rng(devices=[]):  # its fresh weights are nobody's draws
                return timm.create_model(
                    architecture,
                    pretrained=True,
                    num_classes=n_classes,
                    pretrained_cfg_overlay={**source, "custom_load": False},
                ).state_dict()
        except Exception:  # converters fail in any way on what they were not written for
            continue
    return {}


# -------------------------------------------------------------------------- 4. positions


@dataclass(frozen=True)
class _Slot:
    module: str
    kind: str
    shape: tuple[int, ...]


def _by_position(state: State, model: nn.Module, unit_map: UnitMap) -> State:
    """Pair tensors one by one in the order of registration, or give up and return nothing.

    Registration order is the file's order, except where it was sorted by name on saving
    (safetensors does that), in which case nothing can be said.
    """
    own = model.state_dict()
    names = [name for name in own if not name.endswith(COUNTER)]
    theirs = [name for name in state if not name.endswith(COUNTER)]
    if len(names) != len(theirs) or _lost_its_order(state, theirs):
        return {}
    head = set(unit_map.head)
    modules: dict[str, str] = {}
    found: State = {}
    for mine, other in zip(names, theirs, strict=True):
        here, there = _slot(mine, own[mine]), _slot(other, state[other])
        agrees = here.kind == there.kind and (here.shape == there.shape or mine in head)
        if not agrees or modules.setdefault(there.module, here.module) != here.module:
            return {}
        same_rank = mine in head or state[other].shape == own[mine].shape
        found[mine] = state[other] if same_rank else state[other].reshape(own[mine].shape)
    if len(set(modules.values())) != len(modules):
        return {}
    _check_same_network(unit_map.model.split(".")[0], theirs[0])
    return found | _counters(state, modules)


def _lost_its_order(state: State, names: list[str]) -> bool:
    """Tell whether names were sorted, as safetensors does within each dtype."""
    by_dtype: dict[torch.dtype, list[str]] = {}
    for name in names:
        by_dtype.setdefault(state[name].dtype, []).append(name)
    return all(group == sorted(group) for group in by_dtype.values())


def _slot(name: str, tensor: torch.Tensor) -> _Slot:
    """Describe a tensor; a 1x1 convolution and a linear layer, or (C, 1, 1) and (C,), agree."""
    module, _, leaf = name.rpartition(".")
    shape = list(tensor.shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return _Slot(module, leaf if name.endswith(TRAINED) else "other", tuple(shape))


def _counters(state: State, modules: dict[str, str]) -> State:
    return {
        f"{mine}.{COUNTER}": state[f"{other}.{COUNTER}"]
        for other, mine in modules.items()
        if f"{other}.{COUNTER}" in state
    }


def _check_same_network(architecture: str, first_name: str) -> None:
    if any(
        re.fullmatch(models, architecture) and first_name == known for models, known in BY_POSITION
    ):
        return
    raise WeightsError(
        f"these weights have the shapes of {architecture} under other names (the first "
        f"is {first_name}), but the file does not tell whether its network computes the same. "
        f"Torchvision's {architecture} may differ in padding or in the epsilon of its norms. Use "
        f"weights from timm, or save these under timm's names if you know that they agree."
    )
