"""Finding a network's tensors in a state dict that names them differently.

Tried in this order, the first that gives every tensor of the units wins:

    1. the names as they are
    2. without the wrappers of DataParallel and torch.compile, and without a common prefix
    3. the network's parts by number, as in `nn.Sequential(*network.children())`
    4. timm's own conversion of its architectures' original checkpoints
    5. by position, where kinds and shapes agree one by one (torchvision's names)
"""

import re
from collections.abc import Callable
from functools import partial

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
    *("base_encoder.", "trunk.", "model.backbone.", "model.encoder.", "model.model."),
)
# Foreign names whose order was checked to mean the same network: the outputs of the two programs
# agree. Nothing else is mapped by position, because a file does not tell what its network computes
# (torchvision's MobileNetV3 and EfficientNet-B5 have timm's shapes and another BatchNorm epsilon).
BY_POSITION = (
    (r"mobilenetv2_100", "features.0.0.weight"),
    (r"efficientnet_b[0-4]", "features.0.0.weight"),
    (r"convnext_(tiny|small|base|large)", "features.0.0.weight"),
    (r"mnasnet_100", "layers.0.weight"),
    (r"tf_efficientnet_(lite[0-4]|b[0-7])", "_conv_stem.weight"),  # where 32 divides the size
)
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")  # conv.1 is conv1 now


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
    bare = {_OLD_DENSENET.sub(r"\1", wrappers.sub("", n)): t for n, t in state.items()}
    shared = [p for p in _list_prefixes(bare) if all(name.startswith(p) for name in bare)]
    ways: list[Callable[[], State]] = [
        lambda: state,
        lambda: _take_off_best_prefix(bare, shapes),
        lambda: _name_children(bare, model, shapes),
        *(partial(_convert_by_timm, _strip(bare, p), unit_map.model) for p in shared),
        lambda: _match_by_position(bare, model, unit_map),
    ]
    best: State = {}
    for match in ways:
        best = max(best, match(), key=lambda renamed: _count_fitting(renamed, shapes))
        if _count_fitting(best, shapes) == len(shapes):
            break
    _check_same_architecture(best, state, shapes, unit_map)
    return best


def describe_misfit(
    state: State, expected: dict[str, torch.Size], model: str, file: State | None = None
) -> str:
    """Say which expected tensors are missing or have another shape, and which others are there.

    Args:
        file: the tensors under the file's own names, where `state` has others.
    """
    missing = [name for name in expected if name not in state]
    misshapen = [
        f"{_list_file_names(state, [name], file)[0]} {tuple(state[name].shape)} instead of "
        f"{tuple(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    further = _list_file_names(state, [name for name in state if name not in expected], file)
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


def _list_file_names(state: State, names: list[str], file: State | None) -> list[str]:
    """Return the names that tensors of a renamed state have in the file."""
    originals = {id(tensor): name for name, tensor in (file or {}).items()}
    return [originals.get(id(state[name]), name) for name in names]


def _count_fitting(state: State, shapes: dict[str, torch.Size]) -> int:
    return sum(n in state and state[n].shape == shape for n, shape in shapes.items())


def _check_same_architecture(
    state: State, file: State, shapes: dict[str, torch.Size], unit_map: UnitMap
) -> None:
    """Refuse the stem of a ResNet-50 for a ResNet-18, and the half of a ResNet-34 that fits.

    Names under which less than half fits explain nothing: messages then have the file's own.
    """
    n_fitting = _count_fitting(state, shapes)
    if not n_fitting:
        raise WeightsError(describe_misfit(file, shapes, unit_map.model))
    expected = dict(shapes)
    for unit in unit_map.units:
        if not any(name in state for name in unit.tensors):  # a unit that was cut off
            expected = {name: s for name, s in expected.items() if name not in unit.tensors}
    if _count_fitting(state, expected) < len(expected):
        is_explained = 2 * n_fitting >= min(len(shapes), len(file))
        shown, required = (state, expected) if is_explained else (file, shapes)
        raise WeightsError(describe_misfit(shown, required, unit_map.model, file))
    modules = {n.split(".")[0] for n in shapes} - {n.split(".")[0] for n in unit_map.head}
    further = [
        name
        for name in state
        if name not in shapes and name.split(".")[0] in modules and name.endswith(TRAINED)
    ]
    if further:
        raise WeightsError(
            f"these weights do not fit {unit_map.model}: they hold {len(further)} tensors in "
            f"layers that it does not have: "
            f"{list_names(_list_file_names(state, further, file))}. They come from another "
            "architecture."
        )


def _take_off_best_prefix(bare: State, shapes: dict[str, torch.Size]) -> State:
    """Return the state without the prefix, of up to three parts, under which most tensors fit."""
    counts = {p: _count_fitting(_strip(bare, p), shapes) for p in _list_prefixes(bare)}
    most = max(counts.values(), default=0)
    tied = [prefix for prefix, count in counts.items() if count == most]
    preferred = [prefix for prefix in PREFERRED if prefix in tied]
    if len(tied) > 1 and not preferred and most == len(shapes):
        raise WeightsError(
            f"this checkpoint holds several networks that fit, under {list_names(tied)}: save "
            f"the one that you mean to a file of its own."
        )
    return _strip(bare, (preferred or tied or [""])[0])


def _list_prefixes(state: State) -> list[str]:
    """Return the beginnings of names, of none to three parts, shorter ones first."""
    paths = [name.split(".")[:-1][:3] for name in state]
    prefixes = ["".join(f"{part}." for part in p[:depth]) for depth in range(4) for p in paths]
    return list(dict.fromkeys(prefixes))


def _strip(state: State, prefix: str) -> State:
    return {n[len(prefix) :]: tensor for n, tensor in state.items() if n.startswith(prefix)}


def _name_children(bare: State, model: nn.Module, shapes: dict[str, torch.Size]) -> State:
    """Return the state with the names of the network's parts in place of their numbers.

    `nn.Sequential(*network.children())` has numbers, and so have the files of RadImageNet and
    fastai; torchvision's ResNets, DenseNets and Inception have timm's parts in timm's order.
    """
    parts = [name for name, _ in model.named_children()]
    best: State = {}
    for prefix in _list_prefixes(bare):
        numbered = [(n.split(".", 1), tensor) for n, tensor in _strip(bare, prefix).items()]
        named = {
            f"{parts[int(name[0])]}.{name[-1]}": tensor
            for name, tensor in numbered
            if name[0].isdecimal() and int(name[0]) < len(parts)
        }
        best = max(best, named, key=lambda renamed: _count_fitting(renamed, shapes))
    return best


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
    is_checked = any(
        re.fullmatch(models, architecture) and f".{first}".endswith(f".{name}")
        for models, name in BY_POSITION
    )
    if not is_checked:
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
