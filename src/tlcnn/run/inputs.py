"""The inputs of the trained part of a network: images, or stored outputs of its frozen units.

images -> network                       nothing is reused
FeatureBatches -> units j+1..L, head    the outputs of units 1..j are stored
ProbeBatches -> last linear layer       and only this layer is trained
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tlcnn.data.array_store import ArrayStore
from tlcnn.data.batches import Batches, Inputs
from tlcnn.data.cache import make_cache_key, stored_size
from tlcnn.device import find_version
from tlcnn.errors import ConfigError
from tlcnn.frozen.batches import FeatureBatches
from tlcnn.frozen.device_cache import DeviceCache
from tlcnn.frozen.frozen_units import FrozenUnits, ReuseCounts
from tlcnn.frozen.probe import find_probe, make_probe_batches
from tlcnn.memory import Memory
from tlcnn.model.cut import check_cut, cut
from tlcnn.plan.plan import Plan
from tlcnn.plan.reuse import GIB, Reuse, count_views, decide_reuse, find_tolerance
from tlcnn.text import count
from tlcnn.training.evaluate import autocast
from tlcnn.training.interrupt import StopRequest

log = logging.getLogger(__name__)

_N_TRIED = 4  # images that the cut network is compared with the whole one on


@dataclass(frozen=True)
class TrainedPart:
    """The part of a network that is called in training, and what it is fed with, by split."""

    trained: nn.Module
    splits: Mapping[str, Inputs]
    counts: ReuseCounts | None = None  # None where the whole network is called


def build_inputs(
    plan: Plan, model: nn.Module, splits: dict[str, Batches], memory: Memory, stop: StopRequest
) -> TrainedPart:
    """Return the part of a network to train and its inputs, reusing frozen outputs if possible.

    The network is at its start, on the device, with its units frozen.
    """
    reuse = decide_reuse(plan)
    if reuse.obstacle is not None:
        return TrainedPart(model, splits)
    if plan.config.train.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    validation = splits["val"]
    images = validation.feed_plain([np.arange(min(_N_TRIED, len(validation)))]).make_batch(0)
    try:
        prefix, suffix = cut(model, plan.unit_map, plan.treatment.depth)
        with autocast(images.device, plan.precision):
            check_cut(model, prefix, suffix, images, tolerance=find_tolerance(plan))
    except ConfigError as error:
        log.warning("the frozen units' outputs are not reused: %s", error)
        return TrainedPart(model, splits)
    batches = _build_feature_batches(plan, model, reuse, splits, memory, stop)
    counts = batches["train"].frozen.counts
    part = TrainedPart(suffix, batches, counts)
    n_views = count_views(plan)
    if plan.treatment.depth < len(plan.unit_map) or n_views == 0:
        return part
    with torch.no_grad(), autocast(images.device, plan.precision):
        boundary = prefix(images)
    probe = find_probe(suffix, boundary, plan.precision)
    if probe is None:
        return part
    pool, layer = probe
    rows = pool(boundary)
    row_bytes = rows.shape[1] * rows.element_size()
    rows_by_split = make_probe_batches(batches, pool, row_bytes=row_bytes, n_views=n_views)
    return part if rows_by_split is None else TrainedPart(layer, rows_by_split, counts)


def _build_feature_batches(
    plan: Plan,
    model: nn.Module,
    reuse: Reuse,
    splits: dict[str, Batches],
    memory: Memory,
    stop: StopRequest,
) -> dict[str, FeatureBatches]:
    cfg, device = plan.config, splits["train"].device
    folder = plan.cache_dir / "features"
    disk, ram = int(cfg.reuse_disk_gib * GIB), int(cfg.reuse_memory_gib * GIB)
    frozen = FrozenUnits(
        model,
        plan.unit_map,
        plan.treatment.depth,
        precision=plan.precision,
        key=_make_key(plan),
        other_boundaries=reuse.other_boundaries,
        tolerance=find_tolerance(plan),
        store=memory.recall(
            "features",
            (str(folder), disk, ram),
            lambda: ArrayStore(folder, disk_bytes=disk, memory_bytes=ram),
            n_kept=1,
        ),
        check_stop=stop.check,
    )

    cache = memory.recall(
        "features on a device", str(device), lambda: DeviceCache(device), n_kept=1
    )
    return {
        name: FeatureBatches(
            split,
            frozen,
            n_views=reuse.n_views if name == "train" else reuse.n_eval,
            device_cache=cache,
            cache_dir=plan.cache_dir,
        )
        for name, split in splits.items()
    }


def _make_key(plan: Plan) -> list[Any]:
    """Return what decides the bits of features beside weights, view and split."""
    data, device = plan.config.dataset, plan.device
    size = stored_size(data.image_size)
    if device.name == "cuda":  # the threads of the host change nothing there
        cudnn = torch.backends.cudnn
        libraries = [torch.version.cuda, cudnn.version(), cudnn.allow_tf32]
    else:
        capability = torch.backends.cpu.get_cpu_capability()
        libraries = [capability, torch.get_num_threads(), torch.backends.mkldnn.is_available()]
    return [
        [plan.identity["model"]["name"], find_version("timm"), find_version("torch")],
        [device.name, device.hardware, torch.get_float32_matmul_precision()],
        [plan.config.train.channels_last, *libraries],
        [make_cache_key(plan.dataset.pixel_digests, size, data.fit, data.decode), data.image_size],
        plan.identity["dataset"]["normalize"],
    ]


def describe_counts(counts: ReuseCounts) -> str:
    """Return in words what a run computed and what it read."""
    computed = count(counts.images_computed, "image")
    text = (
        f"frozen units: {computed} computed, {counts.images_reused:,} reused; "
        f"{count(counts.arrays_filled, 'array')} stored, {counts.arrays_found} found"
    )
    if counts.tolerance:
        text += (
            f"; where compared, they differed by up to {counts.largest_difference:.2g} of the "
            f"largest value (train.features=close allows {counts.tolerance:.2g})"
        )
    return text
