"""Batches of one split: gathered from the image cache, augmented as tensors on the device."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tlcnn.data.augment import (
    apply_augment,
    draw_params,
    make_eval_batch,
    mix,
    view_numbers,
)
from tlcnn.data.policy import NORMALIZE, find_policy

_ORDER_STREAM = 0x0D


@dataclass(frozen=True)
class Batches:
    """The n images of a split.

    Attributes:
        pixels: (N, S, S, 3) uint8, all images of the dataset: a tensor on the device where they
            fit, else the memory map they are cached in.
        rows: (n,) which of the N images belong to the split.
        labels: (n,) int64 on the device; (n, K) of 0 and 1 in a multi-label task.
        keys: (n,) uint64, one number an image that depends on its id alone.
        image_size: side of the network's input, pixels.
        normalize: `imagenet` or `half`: the mean and deviation that pixels are scaled by.
    """

    pixels: Tensor | np.ndarray
    rows: np.ndarray
    labels: Tensor
    keys: np.ndarray
    image_size: int
    normalize: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self.labels.device

    def take(self, picked: np.ndarray) -> Tensor:
        """Return the stored images at positions `picked` of the split, (B, S, S, 3) uint8."""
        rows = self.rows[picked]
        if isinstance(self.pixels, Tensor):
            return self.pixels[torch.from_numpy(rows).to(self.device, non_blocking=True)]
        batch = torch.from_numpy(self.pixels[rows])
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)


def make_order(keys: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch, (n,), a pure function of (seed, epoch, image keys)."""
    return np.argsort(mix(keys, seed, epoch, _ORDER_STREAM), kind="stable")


def make_train_batch(
    split: Batches, picked: np.ndarray, *, seed: int, epoch: int, augment: str, n_views: int | None
) -> tuple[Tensor, Tensor]:
    """Return the views of some images in an epoch.

    Returns:
        images (B, 3, H, W) float32 normalised, labels (B,) or (B, K) int64.
    """
    mean, std = NORMALIZE[split.normalize]
    keys = split.keys[picked]
    views = view_numbers(keys, seed=seed, epoch=epoch, n_views=n_views)
    policy = find_policy(augment)
    images = apply_augment(
        split.take(picked),
        torch.from_numpy(draw_params(views, keys, policy)).to(split.device, non_blocking=True),
        policy,
        image_size=split.image_size,
        mean=mean,
        std=std,
    )
    return images, split.labels[torch.from_numpy(picked).to(split.device, non_blocking=True)]


def iter_eval_batches(split: Batches, batch_size: int) -> Iterator[Tensor]:
    """Yield every image once, in the split's order, without augmentation."""
    mean, std = NORMALIZE[split.normalize]
    for start in range(0, len(split), batch_size):
        picked = np.arange(start, min(start + batch_size, len(split)))
        yield make_eval_batch(split.take(picked), image_size=split.image_size, mean=mean, std=std)
