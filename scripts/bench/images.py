"""What all sides share: JPEGs of 600 x 450 pixels in folders, as HAM10000's are, and weights."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from bench.watch import watch
from tlcnn.config.compose import compose_config
from tlcnn.data.index import SPLITS
from tlcnn.plan.plan import make_plan

SHAPE = (600, 450)  # width, height: what HAM10000 is published at
DRAWN_SIZE = 160  # pixels; drawing takes longer than enlarging


def write_folder(
    root: Path, counts: Mapping[str, int], *, source: Path | None, cache_dir: Path
) -> Path:
    """Write `root/SPLIT/CLASS/ID.jpg` and return `root`; no lesion is in two splits.

    Every class is in every split, because readers of folders number the classes that they see;
    a class too rare for that is left out.

    Args:
        counts: number of images of each split.
        source: a folder of HAM10000; None: lesions are drawn.
    """
    total = sum(counts.values())
    if source is None:
        overrides = ["dataset=synthetic", f"dataset.options.size={DRAWN_SIZE}"]
        overrides.append(f"dataset.options.n_images={total * 3 // 2}")  # groups divide unevenly
        overrides += [f"dataset.{s}_fraction={counts[s] / total:.4f}" for s in ("val", "test")]
    else:
        overrides = [f"dataset.root='{source.absolute()}'", "dataset.options.missing=drop"]
    dataset = make_plan(compose_config([*overrides, f"cache_dir='{cache_dir}'"])).dataset
    index, labels = dataset.index, dataset.index.table["label"].to_numpy()
    split_rows = {split: np.flatnonzero(dataset.splits == split) for split in SPLITS}
    common_labels = set.intersection(*(set(labels[rows].tolist()) for rows in split_rows.values()))
    files: list[tuple[Path, int]] = []
    for split, rows in split_rows.items():
        rows = rows[np.isin(labels[rows], list(common_labels))]
        for row in rows[pick(labels[rows].tolist(), counts[split])]:
            entry = index.table.iloc[int(row)]
            folder = root / split / index.classes[int(entry["label"])]
            folder.mkdir(parents=True, exist_ok=True)
            files.append((folder / f"{entry['image_id']}.jpg", int(row)))

    def write_image(path: Path, row: int) -> None:
        picture = Image.fromarray(index.images.load(row))
        picture.resize(SHAPE, Image.Resampling.BICUBIC).save(path, quality=90)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write_image, *zip(*files, strict=True)))
    return root


def pick(labels: Sequence[int] | Sequence[str], n: int) -> np.ndarray:
    """Return n drawn positions; the first ones are of different classes, as far as n goes.

    Raises:
        SystemExit: there are fewer.
    """
    if len(labels) < n:
        raise SystemExit(f"{n} images of a split are wanted, there are {len(labels)}")
    order = np.random.default_rng(0).permutation(len(labels))
    _, first = np.unique(np.asarray(labels)[order], return_index=True)
    return order[np.concatenate([first, np.setdiff1d(np.arange(len(order)), first)])][:n]


def write_weights(
    path: Path,
    *,
    model: str,
    n_classes: int,
    source: Path | None,
    cache_dir: Path,
    device: str,
    is_trained: bool = True,
) -> Path:
    """Write safetensors of a whole network with `n_classes` outputs, and return the path.

    Args:
        source: weights of the body, e.g. ImageNet's; None: they are trained for a minute on
            drawn textures.
        is_trained: whether there are weights of the body; else all are drawn.
    """
    import timm
    import torch
    from safetensors.torch import save_file

    from tlcnn.model.checkpoint_file import load_state

    if source is None and is_trained:
        output = path.parent / "source"
        arguments = ["dataset=synthetic_source", "dataset.options.n_images=600", "train=quick"]
        arguments += ["train.augment=light", f"model.name={model}", f"device={device}"]
        arguments += [f"output_dir='{output}'", f"cache_dir='{cache_dir}'"]
        watch("-m", "tlcnn.train", *arguments)
        source = next((output / "runs").glob("*/weights.safetensors"))
    body = {} if source is None else load_state(source)
    torch.manual_seed(0)
    state = timm.create_model(model, num_classes=n_classes).state_dict()
    for name, tensor in state.items():
        if name in body and body[name].shape == tensor.shape:
            state[name] = body[name]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path
