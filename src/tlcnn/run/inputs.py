"""What the trained part of a run is fed with: images, or what its frozen units make of them."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tlcnn.data.batches import Batches, Inputs, make_plain_views
from tlcnn.data.cache import make_cache_key, stored_size
from tlcnn.device import find_version
from tlcnn.errors import ConfigError, StorageError
from tlcnn.frozen.feature_store import FeatureStore
from tlcnn.frozen.features import FeatureBatches
from tlcnn.frozen.frozen_prefix import Counts, FrozenPrefix, digest_units
from tlcnn.frozen.placing import Shelf
from tlcnn.frozen.probe import find_probe, make_probe_inputs
from tlcnn.memory import Memory
from tlcnn.model.cut import check_cut, cut
from tlcnn.plan.plan import Plan
from tlcnn.plan.reuse import GIB, Reuse, count_pool, decide_reuse, find_tolerance
from tlcnn.storage import remember
from tlcnn.training.evaluate import autocast
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
        prefix, suffix = cut(model, plan.unit_map, plan.treatment.j)
        images = _take_few(splits["val"])
        with autocast(images.device, plan.precision):
            _check_cut_once(plan, model, prefix, suffix, images, memory)
    except ConfigError as error:
        log.warning("the frozen units' outputs are not reused: %s", error)
        return plain
    frozen = _build_prefix(plan, model, reuse, memory, stop)
    frozen.counts.tolerance = find_tolerance(plan)
    behind = _wrap(plan, reuse, splits, frozen, memory)
    probe = _find_probe(plan, prefix, suffix, behind, images)
    return Fed(*(probe or (suffix, behind)), frozen.counts)


def _take_few(split: Batches) -> Tensor:
    return make_plain_views(split, np.arange(min(_N_PROBED, len(split))))


def _check_cut_once(
    plan: Plan,
    model: nn.Module,
    prefix: nn.Module,
    suffix: nn.Module,
    images: Tensor,
    memory: Memory,
) -> None:
    """Check that the cut network is the whole one; the cells of a source need it once."""
    source = plan.treatment.weights.digest if plan.treatment.weights else plan.config.seed
    cell, train = plan.treatment, plan.config.train
    what = (plan.unit_map.model, plan.unit_map.digest(), cell.source, source, cell.k, cell.j)
    how = (str(images.device), images.shape, plan.precision, train.channels_last)
    tolerance = find_tolerance(plan)

    def check() -> bool:
        check_cut(model, prefix, suffix, images, tolerance=tolerance)
        return True

    memory.recall("exact cuts", (*what, *how, torch.get_num_threads(), tolerance), check)


def _find_probe(
    plan: Plan,
    prefix: nn.Module,
    suffix: nn.Module,
    behind: Mapping[str, FeatureBatches],
    images: Tensor,
) -> tuple[nn.Module, Mapping[str, Inputs]] | None:
    """Return the last layer and what enters it, where it is all that is trained; else None."""
    n_views = count_pool(plan)
    if plan.treatment.j < len(plan.unit_map) or n_views == 0:
        return None
    with torch.no_grad(), autocast(images.device, plan.precision):
        boundary = prefix(images)
    found = find_probe(suffix, boundary, plan.precision)
    if found is None:
        return None
    head, layer = found
    rows = head(boundary)
    row_bytes = rows.shape[1] * rows.element_size()
    inputs = make_probe_inputs(behind, head, row_bytes=row_bytes, n_views=n_views)
    return None if inputs is None else (layer, inputs)


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
        plan.treatment.j,
        precision=plan.precision,
        key=_make_key(plan),
        also=reuse.also,
        digests=_recall_digests(plan, model, max(plan.treatment.j, *reuse.also, 0), memory),
        store=store,
        check_stop=stop.check,
    )


def _recall_digests(plan: Plan, model: nn.Module, n_units: int, memory: Memory) -> dict[int, str]:
    """Return the digests of units 1..n; those of a source's weights are computed once."""
    weights, cell = plan.treatment.weights, plan.treatment

    def compute() -> dict[int, str]:
        return digest_units(model, plan.unit_map, n_units)

    if weights is None or weights.path is None or cell.k < n_units or cell.source == "stats":
        return compute()
    when = weights.path.stat().st_mtime_ns
    key = (str(weights.path), when, weights.digest, plan.unit_map.digest(), n_units)
    found: dict[int, str] = memory.recall("digests of units", key, compute)
    return found


def _make_key(plan: Plan) -> list[Any]:
    """Return what decides the bits of features beside weights, view and split."""
    data = plan.config.dataset
    size = stored_size(data.image_size)
    return [
        [plan.identity["model"]["name"], find_version("timm"), find_version("torch")],
        [plan.device.name, plan.device.hardware, torch.get_float32_matmul_precision()],
        [plan.config.train.channels_last, *_list_libraries(plan.device.name)],
        [make_cache_key(plan.dataset.digests, size, data.fit, data.decode), data.image_size],
        plan.identity["dataset"]["normalize"],
    ]


def _list_libraries(device: str) -> list[Any]:
    """Return what computes there: on a GPU the threads of the host change nothing."""
    if device == "cuda":
        cudnn = torch.backends.cudnn
        return [torch.version.cuda, cudnn.version(), cudnn.allow_tf32]
    kind = torch.backends.cpu.get_cpu_capability()
    return [kind, torch.get_num_threads(), torch.backends.mkldnn.is_available()]


def _wrap(
    plan: Plan, reuse: Reuse, splits: dict[str, Batches], frozen: FrozenPrefix, memory: Memory
) -> Mapping[str, FeatureBatches]:
    def recall(key: str, compare: Callable[[], float]) -> float:
        if plan.device.name != "cpu":  # only there is a difference found once found for good
            return compare()
        try:
            return float(remember(plan.cache_dir, "difference", [key, _make_key(plan)], compare))
        except StorageError:
            return compare()

    device = splits["train"].device
    shelf = memory.recall("shelf", str(device), lambda: Shelf(device), n_kept=1)

    return {
        name: FeatureBatches(
            split,
            frozen,
            n_views=reuse.n_views if name == "train" else reuse.n_eval,
            tolerance=frozen.counts.tolerance,
            shelf=shelf,
            remember=recall,
        )
        for name, split in splits.items()
    }


def describe_counts(counts: Counts) -> str:
    """Return in words what a run computed and what it read."""
    text = (
        f"frozen units: {counts.images_computed:,} images computed, {counts.images_reused:,} "
        f"reused; {counts.arrays_filled} arrays stored, {counts.arrays_found} found"
    )
    if counts.tolerance:
        text += (
            f"; where compared, they differed by up to {counts.largest_difference:.2g} of the "
            f"largest value (train.features=close allows {counts.tolerance:.2g})"
        )
    return text
