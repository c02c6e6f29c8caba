"""The images that all sides train on: JPEGs of 600 x 450 pixels in folders, as HAM10000's are."""

from pathlib import Path

import numpy as np
from PIL import Image

from tlcnn.compose import compose_config
from tlcnn.data.index import SPLITS
from tlcnn.plan import make_plan

SHAPE = (600, 450)  # width, height: what HAM10000 is published at
QUALITY = 90
DRAWN_SIZE = 160  # pixels; drawing takes longer than enlarging


def write_folder(
    root: Path, counts: dict[str, int], *, source: Path | None, cache_dir: Path
) -> Path:
    """Write `root/SPLIT/CLASS/ID.jpg` and return `root`; no lesion is in two splits.

    Args:
        counts: images of each split.
        source: a folder of HAM10000, whose images are enlarged or copied; None: drawn lesions.
    """
    plan = make_plan(compose_config([*_choose(source, counts), f"cache_dir='{cache_dir}'"]))
    index = plan.images.index
    random = np.random.default_rng(0)
    for split in SPLITS:
        rows = np.flatnonzero(plan.images.splits == split)
        if len(rows) < counts[split]:
            raise SystemExit(f"{counts[split]} {split} images are wanted, there are {len(rows)}")
        for row in random.permutation(rows)[: counts[split]]:
            entry = index.table.iloc[int(row)]
            folder = root / split / index.classes[int(entry["label"])]
            folder.mkdir(parents=True, exist_ok=True)
            _write_image(folder / f"{entry['image_id']}.jpg", index.images.load(int(row)))
    return root


def _choose(source: Path | None, counts: dict[str, int]) -> list[str]:
    if source is not None:
        return [f"dataset.root='{source.absolute()}'", "dataset.options.missing=drop"]
    total = sum(counts.values())
    fractions = {f"dataset.{s}_fraction": counts[s] / total for s in ("val", "test")}
    return [
        "dataset=synthetic",
        f"dataset.options.n_images={total * 5 // 4}",  # groups do not divide exactly
        f"dataset.options.size={DRAWN_SIZE}",
        *(f"{key}={value:.4f}" for key, value in fractions.items()),
    ]


def _write_image(path: Path, pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels)
    if picture.size != SHAPE:
        picture = picture.resize(SHAPE, Image.Resampling.BICUBIC)
    picture.save(path, quality=QUALITY)
