"""Networks and unit maps made by hand, for tests that should not depend on how maps are found."""

import timm
import torch
from torch import nn

from tlcnn.model.unit_map import Unit, UnitMap

RESNET_UNITS = {
    "stem": ("conv1", "bn1"),
    "layer1": ("layer1",),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4",),
}


def make_net(name: str = "resnet18", *, seed: int, n_classes: int = 7) -> nn.Module:
    """Return a fresh timm network whose draws depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(name, num_classes=n_classes).eval()


def make_source(name: str = "resnet18", *, seed: int = 100, n_classes: int = 5) -> nn.Module:
    """Return a network that looks trained: its norms and counters have moved."""
    return move_norms(make_net(name, seed=seed, n_classes=n_classes))


def move_norms(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give every vector and statistic of a network a value of its own, in place."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif tensor.dim() == 1:
            tensor.add_(torch.randn(tensor.shape, generator=draw) * 0.1)
    return net


def make_map(net: nn.Module, name: str = "resnet18") -> UnitMap:
    """Return the map of a ResNet, or one unit that is everything but the classifier."""
    names = [n for n, _ in [*net.named_parameters(), *net.named_buffers()]]
    classifier = next(n for n, m in net.named_modules() if m is net.get_classifier())
    head = tuple(n for n in names if n.startswith(classifier + "."))
    body = [n for n in names if n not in head]
    groups = RESNET_UNITS if name.startswith("resnet") else {"all": ("",)}
    units = tuple(
        Unit(unit, parts, tuple(n for n in body if n.startswith(parts)), (), 0, 1)
        for unit, parts in groups.items()
    )
    return UnitMap(name, "stage", units, head, (classifier,))
