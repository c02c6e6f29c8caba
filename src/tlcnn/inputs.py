"""What the trained part of a run is fed with: images, or what its frozen units make of them."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from tlcnn.data.cache import make_cache_key, stored_size
from tlcnn.errors import ConfigError, StorageError
from tlcnn.memory import Memory
from tlcnn.model.cut import check_cut, cut
from tlcnn.plan import Plan
from tlcnn.reuse import GIB, Reuse, decide_reuse
from tlcnn.storage import remember
from tlcnn.training.batches import Batches, Inputs, make_plain_views
from tlcnn.training.evaluate import autocast
from tlcnn.training.feature_store import FeatureStore
from tlcnn.training.features import FeatureBatches
from tlcnn.training.frozen_prefix import Counts, FrozenPrefix
from tlcnn.training.interrupt import StopRequest

log = logging.getLogger(__name__)

_N_PROBED = 4


@dataclass(frozen=True)
class Fed:
    """A network as it is trained.

    Attributes:
        trained: the part that is called: the network, or what follows its frozen units.
        splits: what yields this part's inputs.
        counts: of what was computed and reused; None where all of the network is called.
    """

    trained: nn.Module
    splits: Mapping[str, Inputs]
    counts: Counts | None = None


def build_inputs(
    plan: Plan, model: nn.Module, splits: dict[str, Batches], memory: Memory, stop: StopRequest
) -> Fed:
    """Return the network as it is trained, reusing the outputs of its frozen units if it can.

    Args:
        model: at its start, on the device, frozen.
    """
    plain = Fed(model, splits)
    reuse = decide_reuse(plan)
    if reuse.why_not is not None:
        return plain
    if plan.config.train.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        prefix, suffix = cut(model, plan.unit_map, plan.cell.j)
        picked = torch.arange(min(_N_PROBED, len(splits["val"]))).numpy()
        images = make_plain_views(splits["val"], picked)
        with autocast(images.device, plan.precision):
            check_cut(model, prefix, suffix, images)
    except ConfigError as error:
        log.warning("the frozen units' outputs are not reused: %s", error)
        return plain
    frozen = _build_prefix(plan, model, reuse, memory, stop)
    return Fed(suffix, _wrap(plan, reuse, splits, frozen), frozen.counts)


def _build_prefix(
    plan: Plan, model: nn.Module, reuse: Reuse, memory: Memory, stop: StopRequest
) -> FrozenPrefix:
    cfg = plan.config
    folder = plan.cache_dir / "features"
    disk, ram = int(cfg.reuse_disk_gib * GIB), int(cfg.reuse_memory_gib * GIB)
    store = memory.recall(
        "features",
        (str(folder), disk, ram),
        lambda: FeatureStore(folder, disk_bytes=disk, memory_bytes=ram),
        n_kept=1,
    )
    return FrozenPrefix(
        model,
        plan.unit_map,
        plan.cell.j,
        precision=plan.precision,
        key=_make_key(plan),
        also=reuse.also,
        store=store,
        check_stop=stop.check,
    )


def _make_key(plan: Plan) -> list[Any]:
    """Return what decides the bits of features beside weights, view and split."""
    data = plan.config.dataset
    size = stored_size(data.image_size)
    return [
        [plan.identity["model"]["name"], version("timm"), version("torch")],
        [plan.device.name, plan.device.hardware, torch.backends.cpu.get_cpu_capability()],
        [torch.get_num_threads(), torch.get_float32_matmul_precision()],
        [plan.config.train.channels_last, torch.backends.mkldnn.is_available()],
        [make_cache_key(plan.images.digests, size, data.fit, data.decode), data.image_size],
        plan.identity["dataset"]["normalize"],
    ]


def _wrap(
    plan: Plan, reuse: Reuse, splits: dict[str, Batches], frozen: FrozenPrefix
) -> Mapping[str, Inputs]:
    def recall(key: str, compare: Callable[[], bool]) -> bool:
        try:
            return bool(remember(plan.cache_dir, "same-bits", [key, _make_key(plan)], compare))
        except StorageError:
            return bool(compare())

    return {
        name: FeatureBatches(
            split,
            frozen,
            n_views=reuse.n_views if name == "train" else reuse.n_eval,
            remember=recall,
        )
        for name, split in splits.items()
    }


def describe_counts(counts: Counts) -> str:
    """Return in words what a run computed and what it read."""
    return (
        f"frozen units: {counts.images_computed:,} images computed, {counts.images_reused:,} "
        f"reused; {counts.arrays_filled} arrays stored, {counts.arrays_found} found"
    )
