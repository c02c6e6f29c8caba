"""Finding a network's tensors in a state dict that names them differently.

Tried in this order, the first that gives every tensor of the units wins:

    1. the names as they are
    2. without the wrappers of DataParallel and torch.compile, and without a common prefix
    3. timm's own conversion of its architectures' original checkpoints
    4. by position, where kinds and shapes agree one by one (torchvision's names)
"""

import re
from collections.abc import Callable

import torch
from torch import nn

from tlcnn.errors import WeightsError, list_names
from tlcnn.model.checkpoint_file import State
from tlcnn.model.unit_map import UnitMap

COUNTER = "num_batches_tracked"
TRAINED = (".weight", ".bias", ".running_mean", ".running_var")
# Prefixes under which a checkpoint keeps *the* network when it holds several.
PREFERRED = (
    *("", "model.", "net.", "network.", "backbone.", "encoder.", "encoder_q.", "student."),
    *("trunk.", "model.backbone.", "model.encoder.", "model.model."),
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
    Raises WeightsError where it fits no unit, contradicts one, or may mean several networks.
    """
    tensors = model.state_dict()
    names = unit_map.tensors_of(1, len(unit_map))  # the counters are optional in any file
    shapes = {n: tensors[n].shape for n in names if n in tensors and not n.endswith(COUNTER)}
    wrappers = re.compile(r"(^|(?<=\.))(_orig_mod|module)\.")
    bare = {wrappers.sub("", name): tensor for name, tensor in state.items()}
    shared = [p for p in PREFERRED if all(name.startswith(p) for name in bare)]
    inner = _strip(bare, max(shared, key=len))
    ways: list[Callable[[], State]] = [
        lambda: state,
        lambda: _take_off_best_prefix(bare, shapes),
        lambda: _convert_by_timm(inner, unit_map.model),
        lambda: _match_by_position(inner, model, unit_map),
    ]
    best: State = {}
    for match in ways:
        best = max(best, match(), key=lambda renamed: _count_fitting(renamed, shapes))
        if _count_fitting(best, shapes) == len(shapes):
            break
    if not _count_fitting(best, shapes):
        raise WeightsError(describe_misfit(state, shapes, unit_map.model))
    _check_same_architecture(best, shapes, unit_map)
    return best


def describe_misfit(state: State, expected: dict[str, torch.Size], model: str) -> str:
    """Say which expected tensors are missing or have another shape, and which others are there."""
    missing = [name for name in expected if name not in state]
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    further = [name for name in state if name not in expected]
    parts = [
        f"{len(names)} of {len(expected)} {what}: {list_names(names)}"
        for what, names in (("missing", missing), ("of another shape", misshapen))
        if names
    ]
    if missing and further:
        parts.append(f"{len(further)} it holds instead or besides: {list_names(further)}")
    return (
        f"these weights do not fit {model}.\n" + "\n".join(parts) + "\nCheck the model's name "
        "and that the file comes from the same architecture."
    )


def _count_fitting(state: State, shapes: dict[str, torch.Size]) -> int:
    return sum(n in state and state[n].shape == shape for n, shape in shapes.items())


def _check_same_architecture(
    state: State, shapes: dict[str, torch.Size], unit_map: UnitMap
) -> None:
    """Refuse the stem of a ResNet-50 for a ResNet-18, and the half of a ResNet-34 that fits."""
    expected = dict(shapes)
    for unit in unit_map.units:
        if not any(name in state for name in unit.tensors):  # a unit that was cut off
            expected = {name: s for name, s in expected.items() if name not in unit.tensors}
    if _count_fitting(state, expected) < len(expected):
        raise WeightsError(describe_misfit(state, expected, unit_map.model))
    modules = {n.split(".")[0] for n in shapes} - {n.split(".")[0] for n in unit_map.head}
    further = [
        name
        for name in state
        if name not in shapes and name.split(".")[0] in modules and name.endswith(TRAINED)
    ]
    if further:
        raise WeightsError(
            f"these weights do not fit {unit_map.model}: they hold {len(further)} tensors in "
            f"layers that it does not have: {list_names(further)}. They come from another "
            f"architecture."
        )


def _take_off_best_prefix(bare: State, shapes: dict[str, torch.Size]) -> State:
    """Return the state without the prefix, of up to three parts, under which most tensors fit."""
    paths = [name.split(".")[:-1][:3] for name in bare]
    prefixes = ["".join(f"{part}." for part in p[:depth]) for depth in range(4) for p in paths]
    counts = {p: _count_fitting(_strip(bare, p), shapes) for p in dict.fromkeys(prefixes)}
    most = max(counts.values(), default=0)
    tied = [prefix for prefix, count in counts.items() if count == most]
    preferred = [prefix for prefix in PREFERRED if prefix in tied]
    if len(tied) > 1 and not preferred and most == len(shapes):
        raise WeightsError(
            f"this checkpoint holds several networks that fit, under {list_names(tied)}: save "
            f"the one that you mean to a file of its own."
        )
    return _strip(bare, (preferred or tied or [""])[0])


def _strip(state: State, prefix: str) -> State:
    return {n[len(prefix) :]: tensor for n, tensor in state.items() if n.startswith(prefix)}


def _convert_by_timm(state: State, architecture: str) -> State:
    """Load into timm's own network with the file's class count, and read the names there."""
    import timm

    cfg = timm.get_pretrained_cfg(architecture)
    # The count is timm's own, or that of the last tensor where the file kept its order.
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


def _match_by_position(state: State, model: nn.Module, unit_map: UnitMap) -> State:
    """Pair tensors one by one in the order of registration, or give up and return nothing.

    Registration order is the file's order, except where it was sorted by name on saving
    (safetensors does that, within each dtype), in which case nothing can be said.
    """
    tensors = model.state_dict()
    names = [name for name in tensors if not name.endswith(COUNTER)]
    file_names = [name for name in state if not name.endswith(COUNTER)]
    by_dtype: dict[torch.dtype, list[str]] = {}
    for name in file_names:
        by_dtype.setdefault(state[name].dtype, []).append(name)
    is_sorted = all(group == sorted(group) for group in by_dtype.values())
    if len(names) != len(file_names) or is_sorted:
        return {}
    head = set(unit_map.head)
    modules: dict[str, str] = {}  # of the file -> of the model
    matched: State = {}
    for name, file_name in zip(names, file_names, strict=True):
        tensor, expected = state[file_name], tensors[name]
        has_kind = _find_kind(name) == _find_kind(file_name)
        has_shape = _drop_ones(tensor) == _drop_ones(expected) or name in head
        module, file_module = name.rpartition(".")[0], file_name.rpartition(".")[0]
        if not (has_kind and has_shape) or modules.setdefault(file_module, module) != module:
            return {}
        matched[name] = tensor if name in head else tensor.reshape(expected.shape)
    if len(set(modules.values())) != len(modules):
        return {}
    architecture, first = unit_map.model.split(".")[0], file_names[0]
    if not any(re.fullmatch(models, architecture) and first == f for models, f in BY_POSITION):
        raise WeightsError(
            f"these weights have the shapes of {architecture} under other names (the first is "
            f"{first}), but the file does not tell whether its network computes the same. "
            f"Torchvision's {architecture} may differ in padding or in the epsilon of its norms. "
            "Use weights from timm, or save these under timm's names if you know that they agree."
        )
    for file_module, module in modules.items():
        if f"{file_module}.{COUNTER}" in state:
            matched[f"{module}.{COUNTER}"] = state[f"{file_module}.{COUNTER}"]
    return matched


def _find_kind(name: str) -> str:
    return name.rpartition(".")[2] if name.endswith(TRAINED) else "other"


def _drop_ones(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return a shape in which a 1x1 convolution and a linear layer, (C, 1, 1) and (C,), agree."""
    shape = list(tensor.shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return tuple(shape)
