"""Numbers as prose has them: percentages and points, intervals, p values, lists."""

import math
from collections.abc import Sequence

from tlcnn.statistics.arm import Comparison, Estimate

_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_auroc": "macro AUROC",
    "macro_f1": "macro F1",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "ece": "calibration error",
}
_SHARES = ("accuracy", "recall", "precision", "sensitivity")  # told in per cent


def name_metric(metric: str) -> str:
    """Return a metric as prose has it.

    Example:
        >>> name_metric("test/balanced_accuracy"), name_metric("test/recall/mel")
        ('balanced accuracy', 'recall of mel')
    """
    name, *rest = metric.split("/")[1:]
    if name == "group":
        return f"{name_metric('/'.join(['', *rest]))} of groups"
    told = _NAMES.get(name, name.replace("_", " "))
    return f"{told} of {'/'.join(rest)}" if rest else told


def is_share(metric: str) -> bool:
    """Return whether a metric is a share of images, and so told in per cent."""
    return any(word in metric for word in _SHARES)


def format_score(value: float, metric: str) -> str:
    """Return a score: `55.9 %`, or `0.912` for what is no share."""
    if math.isnan(value):
        return "–"
    return f"{100 * value:.1f} %" if is_share(metric) else f"{value:.3f}"


def format_gap(value: float, metric: str) -> str:
    """Return a difference without its sign: `2.4 points`."""
    if not is_share(metric):
        return f"{abs(value):.3f}"
    points = f"{abs(100 * value):.1f}"
    return f"{abs(100 * value):.2g} points" if points == "0.0" and value else f"{points} points"


def format_interval(found: Estimate, metric: str) -> str:
    """Return `95 % interval -1.0 to 1.8, 3 seeds`, or why there is none."""
    seeds = f"{found.n_seeds} seed{'s' if found.n_seeds != 1 else ''}"
    if math.isnan(found.low):
        return f"{seeds}: no interval is possible" if found.n_seeds < 2 else seeds
    low, high = (format_signed(bound, metric) for bound in (found.low, found.high))
    return f"95 % interval {low} to {high}, {seeds}"


def format_signed(value: float, metric: str) -> str:
    """Return a difference in points, or as it is, with a minus sign where it has one."""
    text = f"{100 * value:.1f}" if is_share(metric) else f"{value:.3f}"
    return text.replace("-", "−")


def format_p(p: float) -> str:
    """Return `p = 0.012`, `p < 0.001` or `no p`."""
    if math.isnan(p):
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def format_difference(found: Comparison, metric: str, other: str) -> str:
    """Return `2.4 points more (95 % interval 1.1 to 3.7, 3 seeds; adjusted p = 0.01) OTHER`."""
    way = "more" if found.delta.value > 0 else "less"
    return (
        f"{format_gap(found.delta.value, metric)} {way} ({_tell_sureness(found, metric)}) {other}"
    )


def format_gain(found: Comparison, metric: str) -> str:
    """Return `a gain of 2.4 points (95 % interval 1.1 to 3.7, 3 seeds; adjusted p = 0.012)`."""
    way = "gain" if found.delta.value > 0 else "loss"
    return f"a {way} of {format_gap(found.delta.value, metric)} ({_tell_sureness(found, metric)})"


def _tell_sureness(found: Comparison, metric: str) -> str:
    told = format_p(found.p_holm)
    adjusted = told if math.isnan(found.p_holm) else f"adjusted {told}"
    return "; ".join([format_interval(found.delta, metric), adjusted])


def format_seeds_needed(found: Comparison) -> str:
    """Return what would settle an inconclusive comparison, as a sentence; empty if unknown."""
    needed = found.seeds_needed
    if math.isnan(needed):
        return ""
    if math.isinf(needed):
        return "More seeds would not settle it: the test set is too small for such a difference."
    return f"About {needed:.0f} seeds would settle a difference of this size."


def join_words(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
