"""What a run stores of its frozen units' outputs, or why it stores nothing. No torch at import.

plan + sizes of the boundaries + budgets -> Reuse -> one line of the plan
"""

from dataclasses import dataclass
from typing import Any

from tlcnn.data.policy import Policy, find_policy
from tlcnn.device import find_version
from tlcnn.errors import StorageError
from tlcnn.plan.identity import find_obstacle
from tlcnn.plan.plan import Plan
from tlcnn.storage import digest_of, remember

GIB = 2**30
# Two orders of the same sums were compared on 10 families, with random weights, at every boundary:
# they differed by up to 210 eps in fp32 and 12 eps in bf16 (relative to the largest magnitude;
# docs/performance.md), but by up to 8 eps in bf16 in 9 of them. Sums of bf16 and TF32 are taken
# in fp32, so only the roundings of layers are left there.
TOLERANCES = {"fp32": 1024 * 2.0**-23, "tf32": 8 * 2.0**-10, "bf16": 8 * 2.0**-7}
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
_SHORT = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}


@dataclass(frozen=True)
class Boundary:
    """The size of what crosses a boundary, for one image."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def n_bytes(self) -> int:
        """Bytes an image."""
        n = _BYTES[self.dtype]
        for size in self.shape:
            n *= size
        return n

    def describe(self) -> str:
        """Return it in words, such as `256x4x4 fp32`."""
        return f"{'x'.join(map(str, self.shape))} {_SHORT[self.dtype]}"


@dataclass(frozen=True)
class Reuse:
    """What of the frozen units' outputs is stored.

    Attributes:
        why_not: why nothing is; None where something is.
        n_eval: 1 where validation and test images are worth storing, else 0.
        n_views: how many views of the training images are worth storing: all or the first.
        also: boundaries besides the run's own that other runs of a sweep need.
        words: for the plan.
    """

    why_not: str | None
    n_eval: int = 0
    n_views: int = 0
    also: tuple[int, ...] = ()
    words: str = ""


def find_reason(plan: Plan) -> str | None:
    """Return why a run does not reuse its frozen units' outputs, or None."""
    if plan.treatment.j and plan.config.reuse == "none":
        return "reuse=none"
    obstacle = find_obstacle(plan.config, plan.unit_map, plan.treatment.j)
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
    """Return the largest difference that is let in, relative to a tensor's largest magnitude."""
    if not is_close(plan):
        return 0.0
    # Cards that compute in bf16 natively are those that compute fp32 convolutions in TF32.
    in_tf32 = plan.device.name == "cuda" and plan.device.bf16 and plan.precision == "fp32"
    return TOLERANCES["tf32" if in_tf32 else plan.precision]


def make_source_key(plan: Plan) -> str | None:
    """Return what runs share that can share features, at one boundary or another.

    None where a run reuses nothing. Frozen units of the source do not depend on the seed; new
    views every epoch, fresh frozen units and drawn ones do.
    """
    if find_reason(plan) is not None:
        return None
    identity, cfg, cell = plan.identity, plan.config, plan.treatment
    train = identity["train"]
    by_seed = _is_fresh(plan) or cell.j > cell.k or cell.source == "stats"
    return digest_of(
        [
            {key: value for key, value in identity["init"].items() if key != "k"},
            [identity[key] for key in ("dataset", "views")],
            [identity["model"][key] for key in ("name", "units")],
            [train["precision"], train["channels_last"], train.get("views")],
            [cfg.threads, str(plan.cache_dir), cell.k if cell.j > cell.k else None],
            cfg.seed if by_seed else None,
        ],
        16,
    )


def decide_reuse(plan: Plan) -> Reuse:
    """Return what a run stores, within its budgets."""
    why_not = find_reason(plan)
    if why_not is None:
        boundaries = load_boundaries(plan)
        if boundaries is None:
            why_not = "images of this size do not get through the network"
    if why_not is not None:
        return Reuse(why_not, words=f"none: {why_not}")
    assert boundaries is not None
    own = boundaries[plan.treatment.j - 1]
    if own is None:
        return Reuse("no single tensor crosses", words="none: no single tensor crosses")
    return _fit_budgets(plan, own, boundaries)


def _fit_budgets(plan: Plan, own: Boundary, boundaries: list[Boundary | None]) -> Reuse:
    """Store validation and test images first, then training views, then others' boundaries."""
    cfg = plan.config
    sizes = {
        split: int((plan.dataset.splits == split).sum()) for split in ("train", "val", "test")
    }
    room = int(max(cfg.reuse_disk_gib, cfg.reuse_memory_gib) * GIB)
    n_eval_bytes = (sizes["val"] + sizes["test"]) * own.n_bytes
    n_eval = int(n_eval_bytes <= room)
    room -= n_eval * n_eval_bytes
    n_fit = room // (sizes["train"] * own.n_bytes)
    wanted, why_none = _count_views(plan)
    if wanted > n_fit:
        gib = sizes["train"] * own.n_bytes / GIB
        why_none = f"a view of {gib:.3g} GiB exceeds reuse_disk_gib and reuse_memory_gib"
        if not _is_fresh(plan) and n_fit:
            why_none = f"{wanted} views of {gib:.3g} GiB exceed reuse_disk_gib"
        wanted = int(n_fit) if _is_fresh(plan) else 0
    room -= wanted * sizes["train"] * own.n_bytes
    n_images = n_eval * (sizes["val"] + sizes["test"]) + wanted * sizes["train"]
    also = _choose_others(plan, boundaries, n_images, room)
    words = _describe(plan, own, n_eval, wanted, why_none, n_images)
    return Reuse(None, n_eval, wanted, also, words)


def _is_fresh(plan: Plan) -> bool:
    """Return whether every epoch has new views."""
    return not _is_plain(plan) and plan.config.train.views is None


def count_pool(plan: Plan) -> int:
    """Return how many views a training image has, all told; 0: new ones every epoch."""
    return 1 if _is_plain(plan) else plan.config.train.views or 0


def _is_plain(plan: Plan) -> bool:
    return find_policy(plan.config.train.augment) == Policy()


def _count_views(plan: Plan) -> tuple[int, str]:
    """Return how many views of the training images are worth storing, and why none is."""
    epochs, n_runs = plan.config.train.epochs, max(1, len(plan.shared_depths))
    if _is_plain(plan):
        return 1, ""
    views = plan.config.train.views
    if views is None:
        why = "training has new views every epoch (train.views=4 would allow more)"
        return (epochs, "") if n_runs > 1 else (0, why)
    if views > epochs * n_runs:
        return 0, f"{views} training views are more than {epochs} epochs show"
    return views, ""


def _choose_others(
    plan: Plan, boundaries: list[Boundary | None], n_images: int, room: int
) -> tuple[int, ...]:
    """Return the other boundaries that runs of the sweep need and that fit, deepest first."""
    also = []
    asked = set(plan.shared_depths) - {plan.treatment.j}
    for n in sorted(asked, reverse=True):
        boundary = boundaries[n - 1] if 0 < n <= plan.treatment.k else None
        if boundary is not None and n_images * boundary.n_bytes <= room:
            also.append(n)
            room -= n_images * boundary.n_bytes
    return tuple(sorted(also))


def _describe(
    plan: Plan, own: Boundary, n_eval: int, n_views: int, why_none: str, n_images: int
) -> str:
    name = plan.unit_map.names[plan.treatment.j - 1]
    parts = ["val, test once"] if n_eval else ["val and test exceed the budget"]
    if n_views:
        of = {True: "training views once", False: "training views"}[_is_plain(plan)]
        kept = "training images once" if _is_plain(plan) else f"{n_views} {of}"
        kept = f"{n_views} epochs' views" if _is_fresh(plan) else kept
        parts.append(kept)
    else:
        parts.append(why_none)
    text = f"boundary of {name} ({own.describe()}): {'; '.join(parts)}"
    if n_images:
        text += f"; {n_images * own.n_bytes / 1e9:.2f} GB"
    if is_close(plan):
        text += f"; close: up to {find_tolerance(plan):.2g} of the largest value off"
    others = len(plan.shared_depths) - 1
    return text + (f"; shared with {others} more runs" if others > 0 else "")


def load_boundaries(plan: Plan) -> list[Boundary | None] | None:
    """Return what crosses each boundary, None at those without a cut; None: images too small.

    Found out once by a pass of two images, and remembered.
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
        found = remember(plan.cache_dir, "boundaries", key, compute)
    except StorageError:  # a full disk is no reason not to train
        found = compute()
    except RuntimeError:
        return None
    return [each and Boundary(tuple(each[0]), each[1]) for each in found]


def describe_reuse(plan: Plan) -> str:
    """Return in one line what of the frozen units' outputs is stored, or why not."""
    return decide_reuse(plan).words
