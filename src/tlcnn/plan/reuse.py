"""What a run stores of its frozen units' outputs, or why it stores nothing. No torch at import.

    plan + sizes of the boundaries + budgets -> Reuse -> one line of the plan

The budgets go first to validation and test images, then to views of the training images, and last
to the boundaries of other runs.
"""

import math
from dataclasses import dataclass
from typing import Any

from tlcnn.data.policy import Policy, find_policy
from tlcnn.device import find_version
from tlcnn.model.unit_map import count_leading
from tlcnn.plan.identity import find_obstacle
from tlcnn.plan.plan import Plan
from tlcnn.storage import digest_of, remember
from tlcnn.text import count

GIB = 2**30
_ABOVE = ("k", "units", "above", "head")  # of init: they change nothing of the frozen units
# Multiples of eps, above what two orders of the same sums differed by (docs/performance.md).
TOLERANCES = {"fp32": 1024 * 2.0**-23, "tf32": 8 * 2.0**-10, "bf16": 8 * 2.0**-7}
_TYPES = {  # torch's name of a type: its short name, the bytes of a value
    "float32": ("fp32", 4),
    "bfloat16": ("bf16", 2),
    "float16": ("fp16", 2),
    "float64": ("fp64", 8),
}


@dataclass(frozen=True)
class Boundary:
    """The shape and type of what crosses a boundary, for one image."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def n_bytes(self) -> int:
        """The bytes of one image."""
        return _TYPES[self.dtype][1] * math.prod(self.shape)


@dataclass(frozen=True)
class Reuse:
    """The outputs of frozen units that a run stores."""

    obstacle: str | None = None  # why nothing is stored
    boundary: Boundary | None = None  # what crosses the run's boundary
    n_eval: int = 0  # 1 where validation and test images are stored
    n_views: int = 0  # of each training image: all of them, or the first ones
    n_worth: int = 0  # the views that would be stored without budgets
    n_bytes: int = 0  # of all that is stored of the run's own boundary
    other_boundaries: tuple[int, ...] = ()  # of other runs, stored in the same pass
    n_sharing: int = 0  # other runs of the sweep that share the source


def find_reason(plan: Plan) -> str | None:
    """Return why a run does not reuse its frozen units' outputs, or None."""
    if plan.treatment.depth and plan.config.reuse == "none":
        return "reuse=none"
    obstacle = find_obstacle(plan.config, plan.unit_map, plan.treatment)
    if obstacle is not None or is_close(plan):
        return obstacle
    allowed = "(train.features=close allows that)"
    if plan.config.train.compile:
        return (
            f"train.compile fuses the frozen units with the others, to other last bits {allowed}"
        )
    if plan.device.name != "cpu":
        return f"off on {plan.device.name}, where other batches give other last bits {allowed}"
    return None


def is_close(plan: Plan) -> bool:
    """Return whether stored outputs may differ from the network's own in their last bits."""
    return bool(plan.identity["train"].get("features") == "close")


def find_tolerance(plan: Plan) -> float:
    """Return the largest difference that is allowed, relative to a tensor's largest magnitude."""
    if not is_close(plan):
        return 0.0
    # Cards that compute in bf16 natively are those that compute fp32 convolutions in TF32.
    in_tf32 = plan.device.name == "cuda" and plan.device.bf16 and plan.precision == "fp32"
    return TOLERANCES["tf32" if in_tf32 else plan.precision]


def make_source_key(plan: Plan) -> str | None:
    """Return a key that is equal for runs that can share outputs, at whatever boundary.

    None where a run reuses nothing. Frozen units of the source do not depend on the seed; views
    that are new every epoch, fresh frozen units and drawn ones do.
    """
    if find_reason(plan) is not None:
        return None
    identity, cfg, cell = plan.identity, plan.config, plan.treatment
    train = identity["train"]
    depends_on_seed = count_views(plan) == 0 or cell.has_fresh_depth or cell.source == "stats"
    return digest_of(
        [
            {key: value for key, value in identity["init"].items() if key not in _ABOVE},
            [identity[key] for key in ("dataset", "views")],
            [identity["model"][key] for key in ("name", "units")],
            [train["precision"], train["channels_last"], train.get("views")],
            [cfg.threads, str(plan.cache_dir), cell.transferred if cell.has_fresh_depth else None],
            cfg.seed if depends_on_seed else None,
        ],
        16,
    )


def count_views(plan: Plan) -> int:
    """Return how many views a training image has in all epochs; 0: new ones every epoch."""
    train = plan.config.train
    is_plain = find_policy(train.augment, train.erase, train.augment_ranges) == Policy()
    return 1 if is_plain else plan.config.train.views or 0


def decide_reuse(plan: Plan) -> Reuse:
    """Return what a run stores, within its budgets."""
    obstacle = find_reason(plan)
    if obstacle is not None:
        return Reuse(obstacle)
    boundaries = load_boundaries(plan)
    if boundaries is None:
        return Reuse("images of this size do not get through the network")
    boundary = boundaries[plan.treatment.depth - 1]
    if boundary is None:
        return Reuse("no single tensor crosses")
    cfg, splits, depths = plan.config, plan.dataset.splits, plan.shared_depths
    n_train = int((splits == "train").sum())
    n_eval_images = int((splits == "val").sum() + (splits == "test").sum())

    budget = int(max(cfg.reuse_disk_gib, cfg.reuse_memory_gib) * GIB)
    n_fit = budget // boundary.n_bytes  # images
    n_eval = int(n_eval_images <= n_fit)
    n_fit_views = (n_fit - n_eval * n_eval_images) // n_train
    n_drawn, epochs, n_runs = count_views(plan), cfg.train.epochs, max(1, len(depths))
    if n_drawn == 0:  # each view is shown once a run, to all runs of this seed
        is_repeated = cfg.train.sampling == "balanced"  # repeated images have views of their own
        n_worth = epochs if n_runs > 1 and not is_repeated else 0
    else:
        n_worth = n_drawn if n_drawn <= epochs * n_runs else 0
    n_views = n_worth
    if n_worth > n_fit_views:  # some of the epochs' views are of use, but a pool only as a whole
        n_views = n_fit_views if n_drawn == 0 else 0
    n_images = n_eval * n_eval_images + n_views * n_train

    room = budget - n_images * boundary.n_bytes
    shared, n_transferred = [], count_leading(plan.treatment.transferred)
    for depth in sorted(set(depths) - {plan.treatment.depth}, reverse=True):
        crossing = boundaries[depth - 1] if 0 < depth <= n_transferred else None
        if crossing is not None and n_images * crossing.n_bytes <= room:
            shared.append(depth)
            room -= n_images * crossing.n_bytes
    return Reuse(
        boundary=boundary,
        n_eval=n_eval,
        n_views=n_views,
        n_worth=n_worth,
        n_bytes=n_images * boundary.n_bytes,
        other_boundaries=tuple(sorted(shared)),
        n_sharing=max(0, len(depths) - 1),
    )


def load_boundaries(plan: Plan) -> list[Boundary | None] | None:
    """Return what crosses each boundary, None where the network cannot be cut.

    None instead of the list: images of this size do not get through the network.
    """
    size = plan.config.dataset.image_size
    key = [
        [find_version("timm"), find_version("torch"), plan.identity["model"]["name"]],
        [plan.unit_map.digest(), size, plan.precision],
    ]

    def compute() -> list[Any]:
        from tlcnn.model.cut import measure_boundaries

        return measure_boundaries(plan.unit_map, image_size=size, precision=plan.precision)

    try:
        sizes = remember(plan.cache_dir, "boundaries", key, compute)
    except RuntimeError:
        return None
    return [each and Boundary(tuple(each[0]), each[1]) for each in sizes]


def describe_reuse(plan: Plan) -> str:
    """Return in one line what of the frozen units' outputs is stored, or why nothing is."""
    reuse, n_drawn = decide_reuse(plan), count_views(plan)
    boundary = reuse.boundary
    if boundary is None:
        return f"none: {reuse.obstacle}"
    gib = int((plan.dataset.splits == "train").sum()) * boundary.n_bytes / GIB
    if reuse.n_views and n_drawn == 0:
        views = f"for the training views of {count(reuse.n_views, 'epoch')}"
    elif reuse.n_views:
        views = (
            "for training images" if n_drawn == 1 else f"for {n_drawn} views of training images"
        )
    elif reuse.n_worth:
        views = f"{n_drawn} views" if n_drawn > 1 else "a view"
        verb = "exceed" if n_drawn > 1 else "exceeds"
        size = f"{gib:.3g} GiB {verb} reuse_disk_gib and reuse_memory_gib"
        views = f"not for training images, because {views} of {size}"
    elif n_drawn == 0:
        views = "not for training images, whose views are new in every epoch (see train.views)"
    else:
        epochs = count(plan.config.train.epochs, "epoch")
        views = f"not for training images, which have {n_drawn} views, more than {epochs} show"
    name = plan.unit_map.names[plan.treatment.depth - 1]
    shape = f"{'x'.join(map(str, boundary.shape))} {_TYPES[boundary.dtype][0]}"
    evaluation = "for val and test images"
    if not reuse.n_eval:
        evaluation = "not for val and test images, which exceed the budget"
    parts = [f"outputs of {name} ({shape}) {evaluation}", views]
    if reuse.n_bytes:
        parts.append(f"{reuse.n_bytes / 1e9:.2f} GB")
    if is_close(plan):
        parts.append(f"close: they may differ by {find_tolerance(plan):.2g} of the largest value")
    if reuse.n_sharing:
        parts.append(f"shared with {count(reuse.n_sharing, 'more run')}")
    return "; ".join(parts)
