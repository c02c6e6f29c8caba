"""A peer: a plain PyTorch loop over a torchvision DataLoader, tuned as a good user would.

    python scripts/bench/plain_loop.py --data FOLDER --weights FILE [--freeze layer3]

It writes one JSON line an epoch, and uses nothing of tlcnn. docs/performance.md describes it.
"""

import argparse
import itertools
import json
import math
from collections import OrderedDict
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS = ("layer1", "layer2", "layer3", "layer4")
FREEZES = {"none": 0, "stem": 1, "all": 5} | {name: i for i, name in enumerate(LAYERS, start=2)}
MARGIN = 1.125  # shorter side / side of the network's input, in evaluation


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="has train/, val/ and test/")
    parser.add_argument(
        "--weights", type=Path, required=True, help="safetensors of the whole network"
    )
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--warmup-epochs", type=float, default=1)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--augment", choices=["standard", "none"], default="standard")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--freeze", default="none", choices=FREEZES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--grid", action="store_true", help="every cell 0 <= j <= k <= 5")
    return parser


def main() -> None:
    """Train the cells one after the other, with one pair of loaders."""
    options = make_parser().parse_args()
    torch.backends.cudnn.benchmark = options.device == "cuda"
    loaders = {split: build_loader(options, split) for split in ("train", "val", "test")}
    n_units = 1 + len(LAYERS)
    if options.grid:
        cells = [(k, j) for k in range(n_units + 1) for j in range(k + 1)]
    else:
        cells = [(n_units, FREEZES[options.freeze])]
    for seed in options.seeds:
        for k, j in cells:
            train_cell(options, loaders, seed=seed, k=k, j=j)


def build_loader(options: argparse.Namespace, split: str) -> DataLoader:
    """Return the loader of a split; its workers stay between epochs."""
    size, is_train = options.image_size, split == "train"
    steps = [v2.Resize(round(size * MARGIN)), v2.CenterCrop(size)]
    if is_train and options.augment == "standard":
        flips = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
        crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), ratio=(1.0, 1.0))
        steps = [crop, *flips, v2.ColorJitter(0.1, 0.1, 0.1)]
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    on_gpu = options.device == "cuda"
    return DataLoader(
        ImageFolder(options.data / split, v2.Compose(steps)),
        options.batch_size if is_train else 256,
        shuffle=is_train,
        drop_last=is_train,
        num_workers=options.workers,
        persistent_workers=options.workers > 0 and split != "test",
        prefetch_factor=4 if on_gpu and options.workers > 0 else None,
        pin_memory=on_gpu,
    )


def train_cell(
    options: argparse.Namespace, loaders: dict[str, DataLoader], *, seed: int, k: int, j: int
) -> None:
    """Train one cell and print a record an epoch; the last has the test images' accuracy."""
    n_classes = len(loaders["train"].dataset.classes)
    prefix, suffix = build_cell(options, n_classes, seed=seed, k=k, j=j)
    optimizer, schedule = build_optimizer(options, suffix, len(loaders["train"]))
    for epoch in range(1, options.epochs + 1):
        suffix.train()
        for images, labels in loaders["train"]:
            logits = forward(options, images, prefix, suffix).float()
            labels = labels.to(options.device, non_blocking=True)
            nn.functional.cross_entropy(logits, labels).backward()
            nn.utils.clip_grad_norm_(suffix.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        record = {"seed": seed, "k": k, "j": j, "epoch": epoch}
        record["val/accuracy"] = evaluate(options, loaders["val"], prefix, suffix)
        if epoch == options.epochs:
            record["test/accuracy"] = evaluate(options, loaders["test"], prefix, suffix)
        print(json.dumps(record), flush=True)


def build_cell(
    options: argparse.Namespace, n_classes: int, *, seed: int, k: int, j: int
) -> tuple[nn.Module, nn.Module]:
    """Return the frozen first j layers and the rest; the first k have the given weights."""
    torch.manual_seed(seed)
    model = timm.create_model(options.model, num_classes=n_classes)
    source = timm.create_model(options.model, num_classes=n_classes)
    source.load_state_dict(load_file(options.weights))
    units = [*list_units(source)[:k], *list_units(model)[k:]]
    prefix = nn.Sequential(*units[:j]).requires_grad_(False).eval()
    suffix = nn.Sequential(*units[j:], model.global_pool, model.fc)
    place = {"device": options.device, "memory_format": torch.channels_last}
    return prefix.to(**place), suffix.to(**place)


def list_units(model: nn.Module) -> list[nn.Module]:
    """Return a ResNet's stem and its four layers."""
    children = dict(model.named_children())
    if not {*LAYERS, "fc"} <= set(children):
        raise SystemExit("plain_loop.py knows how to freeze ResNets only")
    stem = itertools.takewhile(lambda item: item[0] != "layer1", children.items())
    return [nn.Sequential(OrderedDict(stem)), *(children[name] for name in LAYERS)]


def build_optimizer(
    options: argparse.Namespace, suffix: nn.Module, n_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Return AdamW, which does not decay norms and biases, and warm-up with a cosine."""
    trained = list(suffix.parameters())
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.lr, fused=True)
    warm, total = round(options.warmup_epochs * n_steps), options.epochs * n_steps

    def compute_factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, compute_factor)


def forward(
    options: argparse.Namespace, images: Tensor, prefix: nn.Module, suffix: nn.Module
) -> Tensor:
    """Return logits; the frozen layers leave no graph."""
    images = images.to(options.device, memory_format=torch.channels_last, non_blocking=True)
    bf16 = options.precision == "bf16"
    with torch.autocast(options.device, dtype=torch.bfloat16, enabled=bf16):
        with torch.no_grad():
            features = prefix(images)
        return suffix(features)


@torch.no_grad()
def evaluate(
    options: argparse.Namespace, loader: DataLoader, prefix: nn.Module, suffix: nn.Module
) -> float:
    """Return the accuracy."""
    suffix.eval()
    n_right = torch.zeros((), dtype=torch.long, device=options.device)
    for images, labels in loader:
        predicted = forward(options, images, prefix, suffix).argmax(1)
        n_right += (predicted == labels.to(options.device, non_blocking=True)).sum()
    return n_right.item() / len(loader.dataset)


if __name__ == "__main__":
    main()
