"""What a run's plan says of the treatments of its training, as sentences of a paper.

Every sentence is empty where a run has no such treatment, and for records from before it existed.
"""

from typing import Any

from tlcnn.records.plan_record import PlanRecord
from tlcnn.report.words import join_words


def _read(plan: PlanRecord, key: str) -> Any:
    return plan.settings.get(f"train.{key}")


def describe_rates(plan: PlanRecord) -> str:
    """Return how the learning rates of units and head differ."""
    decay, factors, head = (_read(plan, key) for key in ("layer_decay", "unit_lr", "head_lr"))
    parts = []
    if decay not in (None, 1):
        parts.append(
            f"the rate of each unit was {decay:g} times that of the unit behind it, and that of "
            f"the last unit {decay:g} times that of the schedule"
        )
    if factors:
        rates = join_words([f"{factor:g} ({name})" for name, factor in factors.items()])
        parts.append(f"the rates of some units were multiplied by {rates}")
    if head is not None:
        parts.append(f"the classifier had a rate of {head:g} at its peak")
    if not parts:
        return ""
    line = join_words(parts)
    return f"{line[:1].upper()}{line[1:]}."


def describe_accumulation(plan: PlanRecord) -> str:
    """Return of how many batches an update was made."""
    n_batches = _read(plan, "accumulate") or 1
    if n_batches == 1:
        return ""
    return f"Each update had the gradients of {n_batches} batches."


def describe_anchor(plan: PlanRecord) -> str:
    """Return how strongly transferred units were pulled towards their start."""
    strength = _read(plan, "anchor")
    if not strength or plan.k == 0:
        return ""
    return (
        "Transferred units had no weight decay, but were pulled towards their initial weights "
        f"(L2-SP, strength {strength:g})."
    )


def describe_mixing(plan: PlanRecord) -> str:
    """Return how training images were mixed and erased."""
    alphas = {"mixup": _read(plan, "mixup"), "CutMix": _read(plan, "cutmix")}
    names = [f"{name} (alpha {alpha:g})" for name, alpha in alphas.items() if alpha]
    lines = [f"Training images were mixed by {' or '.join(names)}."] if names else []
    if _read(plan, "erase"):
        lines.append(
            f"A rectangle was erased in {100 * _read(plan, 'erase'):g} % of the training images."
        )
    return " ".join(lines)


def describe_imbalance(plan: PlanRecord) -> str:
    """Return how images were sampled and logits adjusted."""
    if _read(plan, "sampling") == "balanced":
        return "Every epoch showed equally many images of each class."
    tau = _read(plan, "logit_adjustment")
    if not tau:
        return ""
    return f"In the loss, logits were adjusted by the frequencies of the classes (tau {tau:g})."
