"""Build a timm network whose fresh weights depend on the seed and on nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import timm
import torch
from torch import Tensor, nn

from tlcnn.errors import ConfigError, did_you_mean
from tlcnn.storage import digest_of

PROBE_SIZES = (64, 128)  # pixels; a network that needs larger images is probed at its own size


def build_model(
    name: str,
    *,
    n_classes: int,
    seed: int,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> nn.Module:
    """Build a timm network with fresh weights, the same ones for every call with this seed.

    Args:
        name: the architecture (`resnet18`); a tag after a dot (`resnet18.tv_in1k`) is ignored.
        seed: the seed of the weights; torch's global generators are neither used nor changed.
        drop_rate: the dropout rate before the classifier.
        drop_path_rate: the rate of stochastic depth, for families that have it.

    Raises:
        ConfigError: timm has no such network, or its family does not have a rate that is not 0.
    """
    architecture = parse_architecture(name)
    with forking_draws("build", seed):
        model = make_network(
            architecture,
            num_classes=n_classes,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        # The classifier is drawn as torch draws a linear layer: U(-1/sqrt(D), 1/sqrt(D)). Some
        # families of timm draw it for a thousand classes. With seven, the logits of an
        # EfficientNet would start near +-5 for any image, and the first epochs would undo that.
        for module in model.get_classifier().modules():  # type: ignore[operator, union-attr]
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.reset_parameters()
    return model


@contextmanager
def forking_draws(purpose: str, seed: int) -> Iterator[None]:
    """Draw on the CPU from a seed and a purpose; torch's generators are as before afterwards."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would also reseed every accelerator.
        torch.default_generator.manual_seed(int(digest_of([purpose, seed], 15), 16))
        yield


def parse_architecture(name: str) -> str:
    """Return the architecture of a timm name, without its tag. Raises ConfigError."""
    architecture = str(name).strip().split(".")[0]
    if timm.is_model(architecture):
        return architecture
    raise ConfigError(
        f"timm {timm.__version__} has no network '{name}'."
        f"{did_you_mean(architecture, timm.list_models())} "
        f"timm.list_models('*{architecture[:4]}*') lists what it has."
    )


def find_input_size(model: nn.Module) -> tuple[int, ...]:
    """Return (C, H, W) of the images that a timm network was designed for."""
    return tuple(model.pretrained_cfg["input_size"])  # type: ignore[index, arg-type]


def draw_probe(model: nn.Module) -> Tensor:
    """Return two random images, (2, C, H, W), of the smallest size on which a network runs."""
    n_channels, *full_size = find_input_size(model)
    generator = torch.Generator().manual_seed(1)
    was_training = model.training
    model.eval()
    try:
        for pixels in [p for p in PROBE_SIZES if p < min(full_size)]:
            images = torch.randn(2, n_channels, pixels, pixels, generator=generator)
            with torch.no_grad(), suppress(RuntimeError, ValueError, AssertionError):
                model(images)
                return images
    finally:
        model.train(was_training)
    return torch.randn(2, n_channels, *full_size, generator=generator)


def make_network(architecture: str, **settings: Any) -> nn.Module:
    """Build a timm network. A setting that its family does not have is left out if it is zero.

    Zeros are passed to the families that have the setting, because their defaults may not be zero.
    Raises ConfigError for a setting above zero that the family does not have, and for a network
    with two classifiers.
    """
    while True:
        try:
            model: nn.Module = timm.create_model(architecture, pretrained=False, **settings)
        except TypeError as error:
            unknown = next((key for key in settings if f"'{key}'" in str(error)), None)
            if unknown is None:
                raise
            if settings[unknown]:
                raise ConfigError(
                    f"{architecture} has no {unknown}, so {unknown}={settings[unknown]} is not "
                    f"possible. Set {unknown} to 0, or choose another network."
                ) from error
            settings = {key: value for key, value in settings.items() if key != unknown}
        else:
            if isinstance(model.get_classifier(), (tuple, list)):  # type: ignore[operator]
                raise ConfigError(
                    f"{architecture} has two classifiers, whose outputs are averaged: it was "
                    "trained by distillation. tlcnn trains networks with one. Choose another "
                    "network."
                )
            return model
