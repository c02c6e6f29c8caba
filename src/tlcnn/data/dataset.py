"""The images of a configured dataset: its index, which split each row is in, and its manifest."""

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.config.hold_out import parse_hold_out
from tlcnn.config.schema import DatasetCfg
from tlcnn.data.datasets import load_index
from tlcnn.data.depth import load_depth
from tlcnn.data.fewer import keep_train_images
from tlcnn.data.hold_out import describe_pulled, split_held_out
from tlcnn.data.images import FULL_BITS, FileImages
from tlcnn.data.index import Index
from tlcnn.data.splits import check_splits, choose_splits, compute_split_counts, manifest_digest
from tlcnn.errors import DataError, list_names
from tlcnn.memory import Memory
from tlcnn.storage import digest_of, remember
from tlcnn.text import count

MEND_COPIES = (
    "tlcnn data audit lists such images; its --groups FILE writes groups that keep them together, "
    "which dataset.options.groups=FILE of a folder or table reads"
)


@dataclass(frozen=True)
class Dataset:
    """The dataset of a run.

    Attributes:
        index: its classes, table and images.
        splits: (N,) the split that each row is in; "unused" if it is in none.
        digests: N content digests.
        manifest: the hash of who is where.
        bits: the significant bits of its 16-bit images; `FULL_BITS` if their upper 8 are used.
    """

    index: Index
    splits: np.ndarray
    digests: list[str]
    manifest: str
    bits: int = FULL_BITS

    @property
    def pixel_digests(self) -> list[str]:
        """N digests of what the pixels of each image are made of."""
        if self.bits == FULL_BITS:
            return self.digests
        return [f"{digest}/{self.bits}" for digest in self.digests]

    def read_with(self, bits: int) -> "Dataset":
        """Return the dataset with so many significant bits of its 16-bit images."""
        images = self.index.images
        if bits == self.bits or not isinstance(images, FileImages):
            return self
        index = replace(self.index, images=images.with_bits(bits))
        return replace(self, index=index, bits=bits)

    @cached_property
    def copies(self) -> str:
        """A sentence on test and validation images with the bytes of training images, or ""."""
        table = pd.DataFrame({"digest": self.digests, "split": self.splits, "label": 0})
        table["label"] = [row.tobytes() for row in self.index.memberships]
        trained = set(table.loc[table["split"] == "train", "digest"])
        parts = []
        for split, name in (("test", "test"), ("val", "validation")):
            digests = table.loc[table["split"] == split, "digest"]
            if n_copies := int(digests.isin(trained).sum()):
                is_one = n_copies == 1
                parts.append(
                    f"{n_copies:,} of {count(len(digests), f'{name} image')} "
                    f"{'is' if is_one else 'are'}, byte for byte, "
                    f"{'a training image' if is_one else 'training images'}"
                )
        n_labels = table.groupby("digest")["label"].nunique()
        if n_contents := int((n_labels > 1).sum()):
            parts.append(f"equal files have different labels, {count(n_contents, 'time')}")
        return "; ".join(parts)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images per split and class."""
        table = compute_split_counts(self.index.memberships, self.splits, self.index.strata)
        return {
            str(split): {str(name): int(n) for name, n in table[split].items()} for split in table
        }


def find_root(cfg: DatasetCfg) -> Path:
    """Return the dataset's folder: as given, else `data/<name>` under the working folder."""
    return Path(cfg.root or f"data/{cfg.name}").expanduser().absolute()


def load_dataset_index(cfg: DatasetCfg) -> Index:
    """Read the index of the configured dataset; no image is opened."""
    index = load_index(cfg.kind, name=cfg.name, root=find_root(cfg), options=cfg.options)
    present = [index.strata[label] for label in sorted(index.table["label"].unique())]
    if len(present) < 2:
        raise DataError(
            f"{find_root(cfg)} holds images of one class only ({list_names(present)}); at least 2 "
            "are needed. Is dataset.root one folder too deep?"
        )
    return index


def recall_index(cfg: DatasetCfg, memory: Memory) -> Index:
    """Return the index of a configured dataset, read once per process."""
    key = _make_key(cfg.kind, cfg.name, cfg.options, find_root(cfg))
    return memory.recall("index", key, lambda: load_dataset_index(cfg))


def recall_dataset(cfg: DatasetCfg, cache_dir: Path, memory: Memory) -> Dataset:
    """Return the images and split of a configured dataset, read once per process."""

    def load() -> Dataset:
        return load_dataset(cfg, recall_index(cfg, memory), cache_dir)

    return memory.recall("images", _make_key(asdict(cfg), find_root(cfg)), load)


def _make_key(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True, default=str)


def split_index(index: Index, cfg: DatasetCfg) -> np.ndarray:
    """Return the split of every image, (N,), as the configuration of its dataset asks."""
    table, n_classes, seed = index.table, len(index.strata), cfg.split_seed
    if cfg.hold_out is not None:
        splits = split_held_out(
            table,
            parse_hold_out(cfg.hold_out),
            name=cfg.name,
            classes=index.strata,
            val_fraction=cfg.val_fraction,
            seed=seed,
        )
    else:
        splits = choose_splits(
            table,
            n_classes=n_classes,
            mode=cfg.split,
            val_fraction=cfg.val_fraction,
            test_fraction=cfg.test_fraction,
            folds=cfg.folds,
            fold=cfg.fold,
            seed=seed,
        )
    if cfg.train_images is None:
        return splits
    labels, groups = table["label"].to_numpy(), table["group"].to_numpy()
    return keep_train_images(
        labels, groups, splits, cfg.train_images, seed=seed, n_classes=n_classes
    )


def load_dataset(cfg: DatasetCfg, index: Index, cache_dir: Path, *, check: bool = True) -> Dataset:
    """Digest the images (once), and split them by group.

    Args:
        check: refuse a split that shares groups; without it, that is for the caller to find.

    Raises:
        DataError: an image that cannot be read, or a group in two splits.
    """
    digests = remember(cache_dir, "images", index.images.signature(), index.images.load_digests)
    splits = split_index(index, cfg)
    if cfg.hold_out is not None:
        pulled = describe_pulled(index.table, parse_hold_out(cfg.hold_out), cfg.name)
        index = replace(index, notes=(*index.notes, *filter(None, [pulled])))
    if check:
        check_splits(index.table["group"].to_numpy(), splits)
    manifest = manifest_digest(index.table, index.classes, splits, digests, index.targets)
    return choose_bits(Dataset(index, splits, digests, manifest), cache_dir)


def choose_bits(dataset: Dataset, cache_dir: Path) -> Dataset:
    """Return the dataset with one factor for all its 16-bit images, by their common range.

    12 significant bits in 16 would be 16 grey levels if the upper 8 were used.

    Raises:
        DataError: colour images of 16 bits that use few of them.
    """
    images = dataset.index.images
    if not isinstance(images, FileImages):
        return dataset
    depth = load_depth(images, digest_of(dataset.digests), cache_dir)
    if depth.is_narrow_colour:
        raise DataError(
            f"{dataset.index.name}: {depth.describe_colour()}. Save all images of the dataset "
            "with 8 bits a colour, on one scale"
        )
    bits, notes = depth.bits, list(dataset.index.notes)
    if bits < FULL_BITS:
        notes.append(
            f"the 16-bit images use {bits} bits: their values are divided by {2 ** (bits - 8)}, "
            "in all images alike"
        )
    if depth.n_inverted:  # inverting them would change the pixels of runs that keep their ids
        notes.append(depth.describe_inverted())
    index = replace(dataset.index, notes=tuple(notes))
    return replace(dataset, index=index).read_with(bits)
