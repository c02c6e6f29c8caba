"""Whether frozen units compute an image to the same bits in every batch of one size.

If they do, outputs that were stored in other batches are exact, and `train.features=exact` may
read them on this device.
"""

import numpy as np
import torch
from torch import Tensor

from tlcnn.data.batches import load_batches
from tlcnn.frozen.features import make_rows
from tlcnn.memory import Memory
from tlcnn.model.cut import pass_boundaries
from tlcnn.plan.plan import Plan
from tlcnn.run.network import build_initial_network
from tlcnn.run.run import set_torch_flags
from tlcnn.training.evaluate import autocast


@torch.no_grad()
def count_differing(plan: Plan, n_batches: int = 12) -> dict[str, int]:
    """Return, for each unit with one output, how many images have other bits in other batches.

    Every batch has the size of the plan's training batches and draws its images anew, so an image
    stands at other positions, beside other images. Its output is compared with its first one.
    """
    set_torch_flags(plan.config.threads, plan.device.name)
    memory, cfg = Memory(), plan.config
    split = load_batches(
        cfg.dataset,
        plan.dataset,
        memory,
        device=plan.device.name,
        cache_dir=plan.cache_dir,
        workers=cfg.workers,
        progress=cfg.progress,
    )["train"]
    model = build_initial_network(plan, memory).model.to(split.device).eval()
    if cfg.train.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    compute = pass_boundaries(model, plan.unit_map, 0, range(1, len(plan.unit_map) + 1))
    size = min(cfg.train.batch_size, len(split))
    rng, n_images = np.random.default_rng(0), min(len(split), 3 * size)
    batches = [rng.permutation(n_images)[:size] for _ in range(n_batches)]
    feed = split.feed_plain(batches)
    first: dict[tuple[str, int], Tensor] = {}
    differing: dict[str, set[int]] = {}
    for number, picked in enumerate(batches):
        images = feed.make_batch(number)
        with autocast(split.device, plan.precision):
            crossed = compute(images)
        for unit_number, unit in enumerate(plan.unit_map.units, start=1):
            boundary = crossed.get(unit_number)
            if unit.cut_obstacle is not None or not isinstance(boundary, Tensor):
                continue
            names = differing.setdefault(unit.name, set())
            for image, row in zip(picked.tolist(), make_rows(boundary)[0], strict=True):
                bits = row.contiguous().view(torch.uint8)
                if not torch.equal(first.setdefault((unit.name, image), bits), bits):
                    names.add(image)
    return {name: len(images) for name, images in differing.items()}
