"""Which modules are normalisations and which are convolutions, by type and never by name."""

from collections.abc import Iterable

import timm.layers as tl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torchvision.ops import FrozenBatchNorm2d

_TIMM_NORMS = (
    *("EvoNorm2dB0", "EvoNorm2dB1", "EvoNorm2dB2", "EvoNorm2dS0", "EvoNorm2dS1", "EvoNorm2dS2"),
    *("FilterResponseNormAct2d", "FilterResponseNormTlu2d", "FrozenBatchNormAct2d", "InplaceAbn"),
    *("RmsNorm", "RmsNormFp32", "RmsNorm2d", "RmsNorm2dFp32", "LayerNormExp2d"),
    *("SimpleNorm", "SimpleNormFp32", "SimpleNorm2d", "SimpleNorm2dFp32"),
)

# Everything with a learned scale or statistics that normalises activations. Subclasses count, so
# the batch, group and layer norms of timm (BatchNormAct2d, GroupNorm1, LayerNorm2d, ...) are in.
NORM_TYPES: tuple[type[nn.Module], ...] = (
    _NormBase,  # batch norms, synchronised ones too, and instance norms
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    FrozenBatchNorm2d,
    *(getattr(tl, name) for name in _TIMM_NORMS if hasattr(tl, name)),
)

# MixedConv2d holds several convolutions and concatenates them: to its norm it is one.
CONV_TYPES: tuple[type[nn.Module], ...] = (_ConvNd, nn.Linear, tl.MixedConv2d, tl.CondConv2d)


def is_norm(module: nn.Module) -> bool:
    """Return whether a module normalises activations."""
    return isinstance(module, NORM_TYPES)


def is_conv(module: nn.Module) -> bool:
    """Return whether a module is a convolution or a linear layer."""
    return isinstance(module, CONV_TYPES)


@torch.no_grad()
def apply_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of a network's batch norms by those of some inputs.

    Each norm sees the outputs of norms that use the statistics of the batch. Nothing else changes.

    Args:
        model: a network in evaluation mode.
        batches: inputs (B, ...), of equal size but for the last.
    """
    norms = _list_tracking(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over batches
        norm.training = True
    try:
        for batch in batches:
            model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.training, norm.momentum = False, momentum


def list_statistics(model: nn.Module) -> list[Tensor]:
    """Return the running means and variances of a network's batch norms."""
    tensors = [t for m in _list_tracking(model) for t in (m.running_mean, m.running_var)]
    return [tensor for tensor in tensors if tensor is not None]


def _list_tracking(model: nn.Module) -> list[_NormBase]:
    return [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats]
