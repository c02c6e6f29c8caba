"""Batches of one split: gathered from the image cache, augmented as tensors on the device."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tlcnn.config.schema import DatasetCfg
from tlcnn.data.ahead import Ahead, gather, is_beyond_memory
from tlcnn.data.augment import (
    apply_augment,
    draw_params,
    make_eval_batch,
    make_image_keys,
    make_image_tensor,
    mix,
    view_numbers,
)
from tlcnn.data.cache import load_image_cache
from tlcnn.data.dataset import Dataset, find_root
from tlcnn.data.feed import Feed, Values, list_slices
from tlcnn.data.index import SPLITS
from tlcnn.data.policy import NORMALIZE, Policy
from tlcnn.device import count_cores, find_room, send, wait_for_copies, wants_pinned
from tlcnn.errors import DataError, list_names
from tlcnn.memory import Memory
from tlcnn.text import count

log = logging.getLogger(__name__)

_ORDER_STREAM, _DRAW_STREAM = 0x0D, 0xB7


class Inputs(Protocol):
    """A split as the inputs of what is trained: images, features or rows in front of a layer."""

    def __len__(self) -> int: ...

    @property
    def rows(self) -> np.ndarray: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def keys(self) -> np.ndarray: ...

    @property
    def device(self) -> torch.device: ...

    def feed_views(
        self,
        batches: np.ndarray,
        *,
        seed: int,
        epoch: int,
        augment: Policy,
        n_views: int | None,
        repeats: np.ndarray | None = None,
    ) -> Feed: ...

    def feed_plain(self, batches: Sequence[np.ndarray]) -> Feed: ...


@dataclass(frozen=True)
class Batches:
    """The n images of a split.

    The pixels are those of all N images of the dataset, (N, S, S, 3) uint8: a tensor on the device
    where they fit, else the memory map of the image cache.
    """

    pixels: Tensor | np.ndarray
    rows: np.ndarray  # (n,) positions of the split's images among all N
    labels: Tensor  # (n,) int64 on the device; (n, K) of 0 and 1 in a multi-label task
    keys: np.ndarray  # (n,) uint64, one number an image, which depends on its id alone
    image_size: int  # the side of the network's input, pixels
    normalize: str  # `imagenet` or `half`, the mean and deviation that pixels are scaled by
    ahead: Ahead | None = None  # the gatherer of expected batches, where that is worth a thread

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        """The device on which batches are made."""
        return self.labels.device

    def take(self, picked: np.ndarray) -> Tensor:
        """Return the stored images at positions `picked` of the split, (B, S, S, 3) uint8."""
        rows = self.rows[picked]
        if isinstance(self.pixels, Tensor):
            return self.pixels.index_select(0, send(torch.from_numpy(rows), self.device))
        if self.ahead is not None:
            return send(self.ahead.take(rows), self.device)
        batch = gather(self.pixels, rows, is_pinned=wants_pinned(self.device))
        return send(batch, self.device)

    def feed_views(
        self,
        batches: np.ndarray,
        *,
        seed: int,
        epoch: int,
        augment: Policy,
        n_views: int | None,
        repeats: np.ndarray | None = None,
    ) -> Feed:
        """Return the views of an epoch, (B, 3, H, W) float32 normalised.

        The batches are (n, B) positions in the split, and the repeats (n * B,) as in
        `view_numbers`.
        """
        keys = self.keys[batches.reshape(-1)]
        views = view_numbers(keys, seed=seed, epoch=epoch, n_views=n_views, repeats=repeats)
        return feed_images(self, batches, views.reshape(batches.shape), augment)

    def feed_plain(self, batches: Sequence[np.ndarray]) -> Feed:
        """Return images without augmentation, (B, 3, H, W) float32 normalised."""
        return feed_images(self, batches)


def load_batches(
    cfg: DatasetCfg,
    dataset: Dataset,
    memory: Memory,
    *,
    device: str,
    cache_dir: Path,
    workers: int | None,
    progress: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Batches]:
    """Return the images of every split, decoded, and on the device where they fit.

    Args:
        memory: the values that the runs of this process share, here the decoded images.
        workers: the number of decoding workers; None: one for each core.

    Raises:
        DataError: an image cannot be decoded, or a split has fewer than two images.
        Stopped: `should_stop`, asked while images are decoded, returned true.
    """
    ids, place = dataset.index.table["image_id"].tolist(), torch.device(device)
    size = (cfg.image_size, cfg.fit, cfg.decode)
    key = (find_root(cfg), dataset.manifest, dataset.bits, str(cache_dir), *size, cfg.on_bad)
    load = partial(
        load_image_cache,
        dataset.index.images,
        digests=dataset.pixel_digests,
        image_size=cfg.image_size,
        fit=cfg.fit,
        decode=cfg.decode,
        cache_dir=cache_dir,
        workers=workers or count_cores(),
        progress=progress,
        on_bad=cfg.on_bad,
        should_stop=should_stop,
        ids=ids,
    )
    cache = memory.recall("decoded", key, load, n_kept=1)  # the file is checked once a process
    if cache.bad:
        names = list_names([ids[position] for position in cache.bad])
        n_bad = count(len(cache.bad), "image")
        log.warning("skipped %s that cannot be decoded: %s", n_bad, names)
    pixels = memory.recall(
        "pixels", (*key, device), lambda: place_pixels(cache.array, place), n_kept=1
    )
    ahead, is_pinned = None, wants_pinned(place)
    if isinstance(pixels, np.ndarray) and (is_pinned or is_beyond_memory(pixels.nbytes)):
        ahead = Ahead(partial(gather, pixels, is_pinned=is_pinned))  # gathering takes time
    keys = make_image_keys(ids)
    is_usable = ~np.isin(np.arange(len(ids)), cache.bad)
    batches = {}
    for split in SPLITS:
        rows = np.flatnonzero((dataset.splits == split) & is_usable)
        if len(rows) < 2:
            raise DataError(
                f"the {split} split has {count(len(rows), 'image')}; at least 2 are needed. "
                "Change dataset.val_fraction, dataset.test_fraction or dataset.folds."
            )
        labels = torch.from_numpy(dataset.index.truth[rows].astype(np.int64)).to(place)
        batches[split] = Batches(
            pixels, rows, labels, keys[rows], cfg.image_size, cfg.normalize, ahead
        )
    return batches


def place_pixels(array: np.ndarray, device: torch.device) -> np.ndarray | Tensor:
    """Return the images on a GPU where they fit into this process's share of its memory."""
    if device.type != "cuda" or array.nbytes > find_room(device):
        return array
    pixels = make_image_tensor(array).to(device)
    wait_for_copies(device)
    return pixels


def expect(split: Inputs, batches: Iterable[np.ndarray]) -> AbstractContextManager[None]:
    """Return a context in which these positions of a split will be taken, in this order.

    Images can then be gathered ahead; the batches are the same without it.
    """
    images = getattr(split, "split", split)  # features may be computed from images
    ahead: Ahead | None = getattr(images, "ahead", None)
    if ahead is None:
        return nullcontext()
    return ahead.expect(images.rows[picked] for picked in batches)


def make_order(keys: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch, (n,), a pure function of (seed, epoch, image keys)."""
    return np.argsort(mix(keys, seed, epoch, _ORDER_STREAM), kind="stable")


def make_balanced_order(
    keys: np.ndarray, labels: np.ndarray, *, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return n positions of images, of every class equally many, and how often each came before.

    An image is repeated only when all images of its class have been shown as often. A class with
    more images than that shows other ones in every epoch. Two classes differ by at most one image.
    It is a pure function of (seed, epoch, image keys and labels).

    Args:
        keys: (n,) a number of each image, which depends on its id alone.
        labels: (n,) its class.
    """
    classes = np.unique(labels)
    shares = np.full(len(classes), len(keys) // len(classes))
    shares[: len(keys) % len(classes)] += 1
    positions, repeats = [], []
    for label, n_shown in zip(np.roll(classes, epoch), shares, strict=True):
        members = np.flatnonzero(labels == label)
        for repeat, start in enumerate(range(0, n_shown, len(members))):
            drawn = np.argsort(
                mix(keys[members], seed, epoch, repeat, _DRAW_STREAM), kind="stable"
            )
            positions.append(members[drawn[: n_shown - start]])
            repeats.append(np.full(len(positions[-1]), repeat))
    shown, times = np.concatenate(positions), np.concatenate(repeats)
    order = np.argsort(mix(keys[shown], times, seed, epoch, _ORDER_STREAM), kind="stable")
    return shown[order], times[order]


def feed_images(
    split: Batches,
    batches: Sequence[np.ndarray] | np.ndarray,
    views: np.ndarray | None = None,
    augment: Policy | None = None,
) -> Feed:
    """Return views of images, or images without augmentation, (B, 3, H, W) float32 normalised.

    Args:
        batches: the positions of each batch in the split.
        views: the number of the view of each position; None: no augmentation.
        augment: the policy of the views.
    """
    policy = Policy() if views is None or augment is None else augment
    params: Tensor | None = None
    if views is not None and policy != Policy():
        positions = np.concatenate(batches)
        drawn = draw_params(views.reshape(-1), split.keys[positions], policy)  # (n * B, P)
        params = send(torch.from_numpy(drawn), split.device)
    parts = list_slices(batches)
    rows: Tensor | None = None
    if isinstance(split.pixels, Tensor):
        rows = send(torch.from_numpy(split.rows[np.concatenate(batches)]), split.device)

    def get(number: int) -> Values:
        values = {} if params is None else {"params": params[parts[number]]}
        if rows is not None:
            return {"rows": rows[parts[number]], **values}
        return {"images": split.take(batches[number]), **values}

    return Feed(get, ViewMaker(split, policy), ("images", id(split), policy))


@dataclass(frozen=True)
class ViewMaker:
    """Makes the views of a batch, (B, 3, H, W), of stored images and the parameters of views."""

    split: Batches
    policy: Policy

    def __call__(self, values: Values) -> Tensor:
        split = self.split
        if isinstance(split.pixels, Tensor):
            images = split.pixels.index_select(0, values["rows"])
        else:
            images = values["images"]
        size, scaling = split.image_size, NORMALIZE[split.normalize]
        if "params" not in values:
            return make_eval_batch(images, image_size=size, scaling=scaling)
        return apply_augment(
            images, values["params"], self.policy, image_size=size, scaling=scaling
        )


def iter_plain(split: Inputs, batch_size: int) -> Iterator[Tensor]:
    """Yield the inputs of every image once, in the split's order, without augmentation."""
    batches = list_eval_batches(len(split), batch_size)
    feed = split.feed_plain(batches)
    with expect(split, batches):
        for number in range(len(batches)):
            yield feed.make_batch(number)


def take_labels(split: Inputs, batches: np.ndarray) -> Tensor:
    """Return the labels of batches (n, B) on the split's device, (n, B) or (n, B, K) int64."""
    positions = send(torch.from_numpy(batches.reshape(-1)), split.device)
    labels = split.labels.index_select(0, positions)
    return labels.view(*batches.shape, *labels.shape[1:])


def list_eval_batches(n_images: int, batch_size: int) -> list[np.ndarray]:
    """Return the positions of an evaluation's batches, in order.

    No batch has a single image, unless there is only one: networks compute a single image in
    another way, to other last bits.

    Example:
        >>> [len(batch) for batch in list_eval_batches(9, 4)]
        [4, 5]
    """
    starts = [i for i in range(0, n_images, batch_size) if i == 0 or i + 1 < n_images]
    return [np.arange(a, b) for a, b in zip(starts, [*starts[1:], n_images], strict=True)]
