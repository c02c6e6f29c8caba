"""Probabilities without what a training did about rare classes (prior correction).

A network that minimises a cross-entropy with class weights w estimates w_k p_k / sum_l w_l p_l,
where p_k is the probability of class k among images like those of training. Dividing by the
weights and scaling the sum to 1 gives p_k (Saerens et al. 2002, eq. 2.4; King and Zeng 2001).

With balanced sampling the network sees every class equally often, which has the same effect as
balanced weights. Logit adjustment (Menon et al. 2021) adds tau log s_k to the logits in the loss,
where s_k is the share of class k, so the network estimates w_k p_k s_k^-tau, scaled to sum 1. Both
are undone in the same way. A focal loss is not: what minimises it is no probability.
Label smoothing, mixup and CutMix are not undone.
"""

import numpy as np
import pandas as pd

from tlcnn.records.plan_record import PlanRecord
from tlcnn.training.class_weights import compute_class_weights


def find_class_weights(plan: PlanRecord) -> np.ndarray | None:
    """Return what multiplies the probabilities of the K classes; None: all equal, or unknown.

    A multi-label task has weights for each finding's yes and no, which are not of this kind.
    """
    counts = plan.split_sizes.get("train", {})
    scheme, beta = (plan.settings.get(f"train.{k}") for k in ("class_weights", "effective_beta"))
    tau = float(plan.settings.get("train.logit_adjustment") or 0.0)
    gamma = plan.settings.get("train.focal_gamma")
    is_focal = bool(gamma) and plan.settings.get("train.loss") == "focal"
    if plan.settings.get("train.sampling") == "balanced":
        scheme, tau = "balanced", 0.0
    if scheme not in ("none", "balanced", "effective") or plan.task == "multi-label" or is_focal:
        return None
    if plan.imported or not all(counts.get(name) for name in plan.classes):
        return None  # a class that was never trained has no weight
    sizes = np.array([counts[name] for name in plan.classes])
    weights = compute_class_weights(sizes, scheme=scheme, beta=float(beta or 0.0))
    weights = weights * (sizes / sizes.sum()) ** -tau
    return None if np.allclose(weights, weights[0]) else weights


def correct_logits(frame: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """Return predictions whose softmax is corrected for the class weights, if there are any."""
    weights = find_class_weights(plan)
    if weights is None:
        return frame
    logits = [f"logit/{name}" for name in plan.classes]
    return frame.assign(**dict(frame[logits].astype(float) - np.log(weights)))
