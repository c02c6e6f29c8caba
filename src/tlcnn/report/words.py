"""Names and numbers in words: datasets, sources, cells, metrics, points, intervals, p values."""

import math
from collections.abc import Sequence

from tlcnn.statistics.arm import Comparison, Estimate
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.study.cells import Cell, Settings, Source

_DATASETS = {"imagenet": "ImageNet", "ham10000": "HAM10000", "lc25000_lung": "LC25000 lung"}

_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_auroc": "macro AUROC",
    "macro_f1": "macro F1",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "ece": "calibration error",
}
_SHARES = ("accuracy", "recall", "precision", "sensitivity")  # written in per cent


def name_dataset(name: str) -> str:
    """Return a dataset's name as prose has it."""
    return _DATASETS.get(name, name)


def name_source(source: Source) -> str:
    """Return a source as prose has it: `ImageNet → HAM10000`."""
    return " → ".join(map(name_dataset, source.chain or (source.init,)))


def write_settings(settings: Settings) -> str:
    """Return settings as text: `train.epochs=5, train.lr=0.1`."""
    return ", ".join(f"{key}={value}" for key, value in settings)


def name_start(source: Source) -> str:
    """Return a source's name in plans, with what tells it from others of the name."""
    return source.init + _write_details(source)


def name_cell(cell: Cell) -> str:
    """Return what a person would call a cell, without its dataset, model and recipe.

    For example `ImageNet, frozen through stage3`.
    """
    n_units = len(cell.units)
    source = name_source(cell.source)
    if cell.k and cell.k < n_units:
        source += f" through {_name_unit(cell.units, cell.k)}"
    if cell.j == 0:
        frozen = "all trained"
    elif cell.j == n_units:
        frozen = "all frozen"
    else:
        frozen = f"frozen through {_name_unit(cell.units, cell.j)}"
    if cell.j and cell.bn not in ("frozen", None):
        frozen += f" (bn {cell.bn})"
    return f"{source}, {frozen}{_write_details(cell.source)}"


def _name_unit(units: Sequence[str], n: int) -> str:
    return units[n - 1] if n <= len(units) else f"unit {n}"


def _write_details(source: Source) -> str:
    details = [write_settings(source.settings)] if source.settings else []
    details += ["imported"] if source.is_imported else []
    return f" ({', '.join(details)})" if details else ""


def name_metric(metric: str) -> str:
    """Return a metric as prose has it.

    Example:
        >>> name_metric("test/balanced_accuracy"), name_metric("test/recall/mel")
        ('balanced accuracy', 'recall of mel')
    """
    name, *rest = metric.split("/")[1:]
    if name == "group":
        return f"{name_metric('/'.join(['', *rest]))} of groups"
    text = _NAMES.get(name, name.replace("_", " "))
    return f"{text} of {'/'.join(rest)}" if rest else text


def is_share(metric: str) -> bool:
    """Return whether a metric is a share of images, and so written in per cent."""
    return any(name in metric for name in _SHARES)


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


def format_interval(estimate: Estimate, metric: str) -> str:
    """Return `95 % interval -1.0 to 1.8, 3 seeds`, or why there is none."""
    noun = "fold" if Note(NoteKind.FOLDS) in estimate.notes else "seed"
    counted = f"{estimate.n_seeds} {noun}{'s' if estimate.n_seeds != 1 else ''}"
    if math.isnan(estimate.low):
        return f"{counted}: no interval is possible" if estimate.n_seeds < 2 else counted
    low, high = (format_signed(bound, metric) for bound in (estimate.low, estimate.high))
    return f"95 % interval {low} to {high}, {counted}"


def format_signed(value: float, metric: str) -> str:
    """Return a difference in points, or as it is, with a minus sign where it has one."""
    text = f"{100 * value:.1f}" if is_share(metric) else f"{value:.3f}"
    return text.replace("-", "−")


def format_p(p: float) -> str:
    """Return `p = 0.012`, `p < 0.001` or `no p`."""
    if math.isnan(p):
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def format_difference(comparison: Comparison, metric: str, other: str) -> str:
    """Return `2.4 points more (95 % interval 1.1 to 3.7, 3 seeds; adjusted p = 0.01) OTHER`."""
    direction = "more" if comparison.delta.value > 0 else "less"
    gap = format_gap(comparison.delta.value, metric)
    return f"{gap} {direction} ({_format_evidence(comparison, metric)}) {other}"


def format_gain(comparison: Comparison, metric: str) -> str:
    """Return `a gain of 2.4 points (95 % interval 1.1 to 3.7, 3 seeds; adjusted p = 0.012)`."""
    noun = "gain" if comparison.delta.value > 0 else "loss"
    gap = format_gap(comparison.delta.value, metric)
    return f"a {noun} of {gap} ({_format_evidence(comparison, metric)})"


def _format_evidence(comparison: Comparison, metric: str) -> str:
    p = format_p(comparison.p_holm)
    if comparison.p_holm == comparison.p_holm:
        p = f"adjusted {p}"
        if comparison.family_size > 1:
            p += f" in a family of {comparison.family_size}"
    return "; ".join([format_interval(comparison.delta, metric), p])


def format_seeds_needed(comparison: Comparison) -> str:
    """Return what would settle an inconclusive comparison, as a sentence; empty if unknown."""
    needed = comparison.seeds_needed
    if math.isnan(needed):
        return ""
    if math.isinf(needed):
        return "More seeds would not settle it: the test set is too small for such a difference."
    return f"About {needed:.0f} seeds would settle a difference of this size."


def join_words(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
