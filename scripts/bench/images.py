"""The images that all sides train on: JPEGs of 600 x 450 pixels in folders, as HAM10000's are."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from tlcnn.config.compose import compose_config
from tlcnn.data.index import SPLITS
from tlcnn.plan.plan import make_plan

SHAPE = (600, 450)  # width, height: what HAM10000 is published at
QUALITY = 90
DRAWN_SIZE = 160  # pixels; drawing takes longer than enlarging


def write_folder(
    root: Path, counts: Mapping[str, int], *, source: Path | None, cache_dir: Path
) -> Path:
    """Write `root/SPLIT/CLASS/ID.jpg` and return `root`; no lesion is in two splits.

    Every class is in every split, because readers of folders number the classes that they find;
    a class too rare for that is left out.

    Args:
        counts: images of each split.
        source: a folder of HAM10000, whose images are enlarged or copied; None: drawn lesions.
    """
    plan = make_plan(compose_config([*_choose(source, counts), f"cache_dir='{cache_dir}'"]))
    index, labels = plan.dataset.index, plan.dataset.index.table["label"].to_numpy()
    found = {split: np.flatnonzero(plan.dataset.splits == split) for split in SPLITS}
    everywhere = set.intersection(*(set(labels[rows].tolist()) for rows in found.values()))
    jobs = []
    for split, rows in found.items():
        rows = rows[np.isin(labels[rows], list(everywhere))]
        for row in rows[pick(labels[rows].tolist(), counts[split])]:
            entry = index.table.iloc[int(row)]
            folder = root / split / index.classes[int(entry["label"])]
            folder.mkdir(parents=True, exist_ok=True)
            jobs.append((folder / f"{entry['image_id']}.jpg", int(row)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: _write_image(job[0], index.images.load(job[1])), jobs))
    return root


def link_folder(root: Path, source: Path, counts: Mapping[str, int]) -> Path:
    """Make `root` a part of a folder that `write_folder` wrote, without copies; return `root`."""
    for split, n_images in counts.items():
        files = sorted((source / split).glob("*/*.jpg"))
        for place in pick([file.parent.name for file in files], n_images):
            target = root / files[place].relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(files[place], target)
    return root


def pick(labels: Sequence[int] | Sequence[str], n: int) -> np.ndarray:
    """Return n positions, drawn; the first ones are of different classes, as far as n goes.

    Raises:
        SystemExit: there are fewer.
    """
    if len(labels) < n:
        raise SystemExit(f"{n} images of a split are wanted, there are {len(labels)}")
    order = np.random.default_rng(0).permutation(len(labels))
    _, first = np.unique(np.asarray(labels)[order], return_index=True)
    others = np.setdiff1d(np.arange(len(order)), first)
    return order[np.concatenate([first, others])][:n]


def _choose(source: Path | None, counts: Mapping[str, int]) -> list[str]:
    if source is not None:
        return [f"dataset.root='{source.absolute()}'", "dataset.options.missing=drop"]
    total = sum(counts.values())
    fractions = {f"dataset.{s}_fraction": counts[s] / total for s in ("val", "test")}
    return [
        "dataset=synthetic",
        f"dataset.options.n_images={total * 3 // 2}",  # groups do not divide exactly
        f"dataset.options.size={DRAWN_SIZE}",
        *(f"{key}={value:.4f}" for key, value in fractions.items()),
    ]


def _write_image(path: Path, pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels)
    if picture.size != SHAPE:
        picture = picture.resize(SHAPE, Image.Resampling.BICUBIC)
    picture.save(path, quality=QUALITY)
