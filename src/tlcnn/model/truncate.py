"""Drop the last units of a network, without code for any family.

images -> units 1..k -> what the head does with their output -> a classifier of its width
"""

from contextlib import ExitStack, suppress
from typing import Any

import torch
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

from tlcnn.errors import ConfigError
from tlcnn.model.build import draw_probe, forking_draws
from tlcnn.model.unit_map import UnitMap, list_enclosing
from tlcnn.text import first_line

_POOLING = (nn.AdaptiveAvgPool2d, SelectAdaptivePool2d)  # the head needs it, wherever it stands
_LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
_TOLERANCE = 1e-4  # relative, between two orders of the same sum


class Passed(nn.Module):
    """Stands in for a module that is cut off: it returns its first argument."""

    def forward(self, boundary: Any, *args: Any, **kwargs: Any) -> Any:
        return boundary


class _Entered(Exception):
    """The network has reached its classifier."""


def truncate_network(model: nn.Module, unit_map: UnitMap, seed: int) -> None:
    """Drop the units that a truncated map drops, in place, and put the head on the boundary.

    The dropped modules pass their input on, so that the network's own head averages what leaves
    the last unit. Its classifier is replaced by one of that width. The classifier's weights depend
    on the seed and its shape alone. A map that drops nothing changes nothing.

    Raises:
        ConfigError: the network does more with the boundary than to average it, or its classifier
            is no single linear layer.
    """
    if not unit_map.dropped:
        return
    where = f"{unit_map.model} cannot be truncated behind {unit_map.names[-1]}"
    advice = "Truncate it behind another unit, or use init.above=fresh."
    paths = {name.rpartition(".")[0] for name in unit_map.head}
    classifier = model.get_submodule(paths.pop()) if len(paths) == 1 else None
    if not isinstance(classifier, (nn.Linear, nn.Conv2d)):
        raise ConfigError(f"{where}: its classifier is no single linear layer. {advice}")
    images = draw_probe(model)
    for path in _find_dropped(model, unit_map):
        set_module(model, path, Passed())
    try:
        boundary, rows = _pass_to_classifier(model, classifier, images)
    except Exception as error:  # a family's own code: anything can come out of it
        raise ConfigError(
            f"{where}: the head does not take it ({first_line(error)}). {advice}"
        ) from error
    if not any(_are_close(rows, means) for means in average_image(boundary)):
        raise ConfigError(
            f"{where}: the network does more with what leaves that unit than to average it over "
            f"the image ({tuple(boundary.shape[1:])} to {tuple(rows.shape[1:])}). {advice}"
        )
    path = unit_map.head[0].rpartition(".")[0]
    with forking_draws("truncate", seed):
        set_module(model, path, _build_like(classifier, rows.shape[1]))


def average_image(boundary: Tensor) -> list[Tensor]:
    """Return the averages over the image of (N, C, H, W), and of (N, H, W, C); else its input."""
    return (
        [boundary.mean(dim=dims) for dims in ((2, 3), (1, 2))]
        if boundary.ndim == 4
        else [boundary]
    )


def _are_close(rows: Tensor, expected: Tensor) -> bool:
    atol = _TOLERANCE * float(expected.abs().max())
    return rows.shape == expected.shape and torch.allclose(rows, expected, _TOLERANCE, atol)


def _find_dropped(model: nn.Module, unit_map: UnitMap) -> set[str]:
    """Return the outermost modules that lie wholly inside dropped units, without global pooling.

    A list of modules stays, because the network may read its members.
    """
    rest = [*(path for unit in unit_map.units for path in unit.modules), *unit_map.head_modules]
    around_rest = {around for path in rest for around in list_enclosing(path)}
    dropped = set()
    for path in unit_map.dropped:
        if isinstance(model.get_submodule(path), _POOLING):
            continue
        around = [p for p in list_enclosing(path) if p not in around_rest]
        whole = [p for p in around if type(model.get_submodule(p)) not in _LISTS]
        dropped.add(whole[0] if whole else path)
    return dropped


def set_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in the place of another one."""
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent)._modules[name] = module


def _pass_to_classifier(
    model: nn.Module, classifier: nn.Module, images: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what enters the first dropped module, (N, C, H, W), and the classifier, (N, C)."""
    entered: list[Tensor] = []

    def keep(module: nn.Module, args: Any) -> None:
        entered.append(args[0])
        if module is classifier:
            raise _Entered

    was_training = model.training
    model.eval()
    with torch.no_grad(), ExitStack() as stack:
        for module in model.modules():
            if module is classifier or isinstance(module, Passed):
                stack.callback(module.register_forward_pre_hook(keep).remove)
        stack.enter_context(suppress(_Entered))
        model(images)
    model.train(was_training)
    return entered[0], entered[-1].flatten(1)


def _build_like(classifier: nn.Linear | nn.Conv2d, n_channels: int) -> nn.Module:
    """Return a fresh classifier for rows of another width."""
    has_bias = classifier.bias is not None
    if isinstance(classifier, nn.Linear):
        return nn.Linear(n_channels, classifier.out_features, bias=has_bias)
    return nn.Conv2d(n_channels, classifier.out_channels, 1, bias=has_bias)
