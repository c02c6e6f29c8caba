"""The images of a run: decoded once, checked, and placed where batches are made of them."""

import logging
from functools import partial

import numpy as np
import torch

from tlcnn.data.ahead import Ahead, gather, is_beyond_memory
from tlcnn.data.augment import make_image_keys, make_image_tensor
from tlcnn.data.batches import Batches
from tlcnn.data.cache import ImageCache, load_image_cache
from tlcnn.data.dataset import find_root
from tlcnn.data.index import SPLITS
from tlcnn.data.splits import check_splits
from tlcnn.device import count_cores, find_room
from tlcnn.errors import DataError, list_names
from tlcnn.memory import Memory
from tlcnn.plan.plan import Plan
from tlcnn.training.interrupt import StopRequest

log = logging.getLogger(__name__)


def load_batches(plan: Plan, stop: StopRequest, memory: Memory) -> dict[str, Batches]:
    """Return the images of every split, decoded, and on the device where they fit.

    Raises:
        DataError: an image cannot be decoded, or a split has fewer than two images.
        Stopped: a signal came.
    """
    data, index, splits = plan.config.dataset, plan.dataset.index, plan.dataset.splits
    check_splits(index.table["group"].to_numpy(), splits)
    device = torch.device(plan.device.name)
    dataset = (find_root(data), plan.dataset.manifest)
    size = (data.image_size, data.fit, data.decode)
    ids = index.table["image_id"].tolist()
    key = (*dataset, str(plan.cache_dir), *size, data.on_bad)
    # the file is checked once a process, not once a run
    cache = memory.recall("decoded", key, lambda: _load_cache(plan, stop, ids), n_kept=1)
    if cache.bad:
        names = list_names([ids[row] for row in cache.bad])
        log.warning("skipped %d images that cannot be decoded: %s", len(cache.bad), names)
    pixels = memory.recall(
        "pixels", (*dataset, *size, str(device)), lambda: _place(cache.array, device), n_kept=1
    )
    keys = memory.recall("image keys", dataset, lambda: make_image_keys(ids), n_kept=1)
    ahead = _build_ahead(pixels, device)
    is_usable = ~np.isin(np.arange(len(index)), cache.bad)
    batches = {}
    for split in SPLITS:
        rows = np.flatnonzero((splits == split) & is_usable)
        if len(rows) < 2:
            raise DataError(
                f"the {split} split has {len(rows)} images; at least 2 are needed. Change "
                "dataset.val_fraction, dataset.test_fraction or dataset.folds."
            )
        batches[split] = Batches(
            pixels=pixels,
            rows=rows,
            labels=torch.from_numpy(index.truth[rows].astype(np.int64)).to(device),
            keys=keys[rows],
            image_size=data.image_size,
            normalize=data.normalize,
            ahead=ahead,
        )
    return batches


def _load_cache(plan: Plan, stop: StopRequest, ids: list[str]) -> ImageCache:
    cfg, data = plan.config, plan.config.dataset
    return load_image_cache(
        plan.dataset.index.images,
        digests=plan.dataset.digests,
        image_size=data.image_size,
        fit=data.fit,
        decode=data.decode,
        cache_dir=plan.cache_dir,
        workers=cfg.workers or count_cores(),
        progress=cfg.progress,
        on_bad=data.on_bad,
        should_stop=lambda: bool(stop),
        ids=ids,
    )


def _place(array: np.ndarray, device: torch.device) -> np.ndarray | torch.Tensor:
    """Return the images on a GPU where they fit into this process's share of its memory."""
    if device.type != "cuda" or array.nbytes > find_room(device):
        return array
    return make_image_tensor(array).to(device)


def _build_ahead(pixels: np.ndarray | torch.Tensor, device: torch.device) -> Ahead | None:
    """Return a thread that gathers the next images, where gathering them takes time."""
    if isinstance(pixels, torch.Tensor) or (
        device.type != "cuda" and not is_beyond_memory(pixels.nbytes)
    ):
        return None
    return Ahead(partial(gather, pixels, is_pinned=device.type == "cuda"))
