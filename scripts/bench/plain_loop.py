"""A peer: a plain PyTorch loop over a torchvision DataLoader, tuned as a good user would.

    python scripts/bench/plain_loop.py --data FOLDER --weights FILE [--freeze layer3]

It decodes every image in every epoch, in worker processes that persist; trains channels_last,
under bf16 autocast if asked, with a fused AdamW, warm-up and cosine; frozen layers run in eval
mode without a graph. One JSON line an epoch. It knows nothing of tlcnn.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MARGIN = 1.125  # shorter side / side of the network's input, in evaluation


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="has train/, val/ and test/")
    parser.add_argument("--weights", type=Path, required=True, help="of the whole network")
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
    parser.add_argument("--freeze", default="none", help="none, all, or a layer such as layer3")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--grid", action="store_true", help="every cell 0 <= j <= k <= 5")
    return parser


def main() -> None:
    """Train the cells one after the other, with one pair of loaders."""
    options = make_parser().parse_args()
    loaders = {split: build_loader(options, split) for split in ("train", "val", "test")}
    units = len(list_units(timm.create_model(options.model, num_classes=2)))
    for seed in options.seeds:
        for k, j in list_cells(options, units):
            for record in train(options, loaders, seed=seed, k=k, j=j):
                print(json.dumps({"seed": seed, "k": k, "j": j, **record}), flush=True)


def list_cells(options: argparse.Namespace, units: int) -> list[tuple[int, int]]:
    """Return (k, j): how many layers keep the given weights, and how many are frozen."""
    if options.grid:
        return [(k, j) for k in range(units + 1) for j in range(k + 1)]
    frozen = {"none": 0, "all": units, "stem": 1}
    if options.freeze not in frozen:
        frozen[options.freeze] = int(options.freeze.removeprefix("layer")) + 1
    return [(units, frozen[options.freeze])]


def build_loader(options: argparse.Namespace, split: str) -> DataLoader:
    """Return the loader of a split; its workers stay between epochs."""
    train = split == "train"
    return DataLoader(
        ImageFolder(options.data / split, make_transform(options, train)),
        options.batch_size if train else 256,
        shuffle=train,
        drop_last=train,
        num_workers=options.workers,
        persistent_workers=options.workers > 0 and split != "test",
        pin_memory=options.device == "cuda",
    )


def make_transform(options: argparse.Namespace, train: bool) -> v2.Transform:
    """Return crops with flips and colours, or the centre."""
    size = options.image_size
    end = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    if not train or options.augment == "none":
        return v2.Compose([v2.Resize(round(size * MARGIN)), v2.CenterCrop(size), *end])
    flips = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
    crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), ratio=(1.0, 1.0))
    return v2.Compose([crop, *flips, v2.ColorJitter(0.1, 0.1, 0.1), *end])


def list_units(model: nn.Module) -> list[list[nn.Module]]:
    """Return a ResNet's stem and its four layers, each as modules in order."""
    children = dict(model.named_children())
    if not {"conv1", "layer1", "layer2", "layer3", "layer4", "fc"} <= set(children):
        raise SystemExit("plain_loop.py knows how to freeze ResNets only")
    names = list(children)
    stem = [children[name] for name in names[: names.index("layer1")]]
    return [stem, *([children[f"layer{i}"]] for i in range(1, 5))]


def build_cell(
    options: argparse.Namespace, n_classes: int, *, seed: int, k: int, j: int
) -> tuple[nn.Module, nn.Module]:
    """Return the frozen first j layers and the rest; the first k have the given weights."""
    torch.manual_seed(seed)
    model = timm.create_model(options.model, num_classes=n_classes)
    initial = timm.create_model(options.model, num_classes=n_classes)
    initial.load_state_dict(load_file(options.weights))
    units = list_units(model)
    for target_unit, source_unit in zip(units[:k], list_units(initial)[:k], strict=True):
        for module, source in zip(target_unit, source_unit, strict=True):
            module.load_state_dict(source.state_dict())
    model = model.to(options.device, memory_format=torch.channels_last)
    prefix = nn.Sequential(*[module for unit in units[:j] for module in unit])
    rest = [module for unit in units[j:] for module in unit]
    return prefix.requires_grad_(False).eval(), nn.Sequential(*rest, model.global_pool, model.fc)


def train(
    options: argparse.Namespace, loaders: dict[str, DataLoader], *, seed: int, k: int, j: int
) -> Iterator[dict[str, float]]:
    """Train one cell and yield a record an epoch; the last has the test images' accuracy."""
    n_classes = len(loaders["train"].dataset.classes)
    prefix, suffix = build_cell(options, n_classes, seed=seed, k=k, j=j)
    optimizer, schedule = build_optimizer(options, suffix, len(loaders["train"]))
    for epoch in range(1, options.epochs + 1):
        started = time.perf_counter()
        n_images = train_epoch(options, loaders["train"], prefix, suffix, optimizer, schedule)
        train_s = time.perf_counter() - started
        record = {"epoch": epoch, "train_s": train_s, "images_per_s": n_images / train_s}
        record |= evaluate(options, loaders["val"], prefix, suffix, "val")
        if epoch == options.epochs:
            record |= evaluate(options, loaders["test"], prefix, suffix, "test")
        yield record


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

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train_epoch(
    options: argparse.Namespace,
    loader: DataLoader,
    prefix: nn.Module,
    suffix: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
) -> int:
    """Make one update a batch and return the number of images."""
    suffix.train()
    n_images = 0
    for images, labels in loader:
        loss = nn.functional.cross_entropy(
            forward(options, images, prefix, suffix).float(), labels.to(options.device)
        )
        loss.backward()
        nn.utils.clip_grad_norm_(suffix.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        n_images += len(labels)
    if options.device == "cuda":
        torch.cuda.synchronize()
    return n_images


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
    options: argparse.Namespace,
    loader: DataLoader,
    prefix: nn.Module,
    suffix: nn.Module,
    split: str,
) -> dict[str, float]:
    """Return accuracy and balanced accuracy."""
    suffix.eval()
    predicted, true = [], []
    for images, labels in loader:
        predicted.append(forward(options, images, prefix, suffix).argmax(1).cpu())
        true.append(labels)
    right, labels = torch.cat(predicted) == torch.cat(true), torch.cat(true)
    recalls = [right[labels == label].float().mean().item() for label in labels.unique()]
    return {
        f"{split}/accuracy": right.float().mean().item(),
        f"{split}/balanced_accuracy": sum(recalls) / len(recalls),
    }


if __name__ == "__main__":
    main()
