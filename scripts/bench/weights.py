"""The weights that every side starts from: those of a file, or of a short training on textures."""

import sys
from pathlib import Path

from bench.watch import watch


def make_weights(
    path: Path, *, model: str, n_classes: int, given: Path | None, cache: Path, device: str
) -> Path:
    """Write safetensors of a whole network with `n_classes` outputs, and return the path.

    Args:
        given: weights of the body, e.g. ImageNet's; None: trained for a minute on drawn textures.
        cache: of tlcnn.
    """
    import timm
    import torch
    from safetensors.torch import save_file

    from tlcnn.model.checkpoint_file import load_state

    body = load_state(given or train_source(path.parent / "source", model, cache, device))
    torch.manual_seed(0)
    state = timm.create_model(model, num_classes=n_classes).state_dict()
    fitting = {name: body[name] for name in state if name in body}
    state |= {name: t for name, t in fitting.items() if t.shape == state[name].shape}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def train_source(output: Path, model: str, cache: Path, device: str) -> Path:
    """Train on drawn textures for a moment and return the run's weights."""
    words = [
        "dataset=synthetic_source",
        "dataset.options.n_images=600",
        f"model.name={model}",
        "train=quick",
        "train.augment=light",
        f"device={device}",
        f"output_dir='{output}'",
        f"cache_dir='{cache}'",
    ]
    watch([sys.executable, "-m", "tlcnn.train", *words])
    return next((output / "runs").glob("*/weights.safetensors"))
