"""Metrics as functions of how much each test group weighs, many weightings at once.

    probabilities, labels, group of each row  ->  Scored  ->  weights (B, G) -> scores (B,)

With all weights 1 they are those of `training.metrics`; with whole numbers they are the metric of
rows that occur as often as their group weighs.
"""

from collections.abc import Callable

from tlcnn.statistics.counted import (
    Score,
    Scored,
    make_accuracy,
    make_balanced_accuracy,
    make_brier,
    make_macro_f1,
    make_mae,
    make_nll,
    make_precision,
    make_quadratic_kappa,
    make_recall,
)
from tlcnn.statistics.ranked import make_ece, make_macro_auroc, make_sensitivity

LOWER_IS_BETTER = ("nll", "brier", "ece", "mae", "n_absent_classes")


def is_lower_better(metric: str) -> bool:
    """Return whether a smaller value of a metric is the better one.

    Example:
        >>> is_lower_better("test/group/nll"), is_lower_better("test/accuracy")
        (True, False)
    """
    return bool(set(metric.split("/")) & set(LOWER_IS_BETTER))


def is_weightable(metric: str) -> bool:
    """Return whether `make_score` knows a metric, by its name without split and level."""
    name, _, of_class = metric.partition("/")
    return name in (CLASS_KINDS if of_class else KINDS)


def make_score(metric: str, scored: Scored, classes: tuple[str, ...]) -> Score:
    """Return a metric of one run as a function of the groups' weights.

    Args:
        metric: `balanced_accuracy`, `recall/mel`, ...: without split and level.
        classes: K names.
    """
    name, _, of_class = metric.partition("/")
    if of_class:
        return CLASS_KINDS[name](scored, classes.index(of_class))
    return KINDS[name](scored)


KINDS: dict[str, Callable[[Scored], Score]] = {
    "accuracy": make_accuracy,
    "balanced_accuracy": make_balanced_accuracy,
    "macro_f1": make_macro_f1,
    "macro_auroc": make_macro_auroc,
    "nll": make_nll,
    "brier": make_brier,
    "ece": make_ece,
    "mae": make_mae,
    "quadratic_kappa": make_quadratic_kappa,
}
CLASS_KINDS: dict[str, Callable[[Scored, int], Score]] = {
    "recall": make_recall,
    "precision": make_precision,
    "sensitivity_at_90_specificity": make_sensitivity,
}
