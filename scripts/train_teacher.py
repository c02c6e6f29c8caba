#!/usr/bin/env python
"""Train the teacher of planted tasks: `python scripts/train_teacher.py FILE` writes its weights.

FILE is `src/tlcnn/data/drawing/teacher.json`. A teacher with other weights labels images in
another way, so that all runs with `dataset.options.cue=source` or `target` are other runs.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from timm.models import register_model
from torch import Tensor, nn

from tlcnn.data.drawing.teacher import POOLED, SIZE, WIDTH
from tlcnn.train import main

WORDS = (
    "model.name=planted_teacher dataset=planted dataset.options.cue=both "
    "dataset.options.data_seed=1 dataset.options.n_images=3000 dataset.options.n_test=1000 "
    "dataset.options.noise=0.02 train.epochs=25 train.lr=0.003 train.augment=none "
    "train.class_weights=none train.precision=fp32 device=cpu threads=1"
)


class Teacher(nn.Module):
    """Five units of convolutions with few channels, and a linear head."""

    def __init__(self, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.pretrained_cfg = self.default_cfg = {"input_size": (3, SIZE, SIZE)}
        self.num_classes, self.num_features = num_classes, WIDTH
        for n, pooled in enumerate(POOLED, start=1):
            layers: list[nn.Module] = []
            for is_pooled in pooled:
                layers += [nn.Conv2d(in_chans, WIDTH, 3, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(WIDTH), nn.ReLU()]
                layers += [nn.AvgPool2d(2)] if is_pooled else []
                in_chans = WIDTH
            self.add_module(f"unit{n}", nn.Sequential(*layers))
        self.fc = nn.Linear(WIDTH, num_classes)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        for n in range(1, len(POOLED) + 1):
            x = self.get_submodule(f"unit{n}")(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x.mean((2, 3)) if pre_logits else self.fc(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@register_model
def planted_teacher(
    pretrained: bool = False, num_classes: int = 16, in_chans: int = 3, **_: Any
) -> nn.Module:
    return Teacher(num_classes, in_chans)


def list_weights(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the units' convolutions with their norms folded in, and the head, as numbers."""
    units = []
    for n in range(1, len(POOLED) + 1):
        layers = []
        for key in sorted(
            key for key in state if key.startswith(f"unit{n}.") and state[key].ndim == 4
        ):
            _, position, _ = key.split(".")
            norm = f"unit{n}.{int(position) + 1}"
            variance = state[f"{norm}.running_var"] + 1e-5
            scale = state[f"{norm}.weight"] / variance.sqrt()
            bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
            kernel = state[key] * scale[:, None, None, None]
            layers.append({"kernel": round_numbers(kernel), "bias": round_numbers(bias)})
        units.append(layers)
    head = {"weight": round_numbers(state["fc.weight"]), "bias": round_numbers(state["fc.bias"])}
    return {"units": units, "head": head}


def round_numbers(tensor: Tensor) -> Any:
    rounded = torch.round(tensor.double() * 10_000) / 10_000
    return rounded.tolist()


if __name__ == "__main__":
    path = Path(sys.argv[1])  # main changes sys.argv
    with TemporaryDirectory() as folder:
        code = main([*WORDS.split(), f"output_dir={folder}"])
        if code == 0:
            (weights,) = Path(folder).glob("runs/*/weights.safetensors")
            path.write_text(json.dumps(list_weights(load_file(weights))) + "\n", encoding="utf-8")
    sys.exit(code)
