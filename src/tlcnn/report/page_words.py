"""Numbers as a page has them: shares in per cent, differences in points, – for none."""

import math
from collections.abc import Sequence
from typing import Any

from tlcnn.report.content import Content
from tlcnn.report.words import is_share, name_dataset, name_metric

NONE = "–"
MINUS = "\N{MINUS SIGN}"

TONES = {
    **dict.fromkeys(("yes", "better", "general"), "for"),
    **dict.fromkeys(("no", "worse", "specific", "failed", "unreadable"), "against"),
    **dict.fromkeys(("inconclusive", "undetermined", "running", "stopped", "partly"), "open"),
    **dict.fromkeys(("equivalent", "as good", "full fine-tuning"), "same"),
    "done": "calm",
    **dict.fromkeys(("not measured", "missing", ""), "open"),
}

WORDS = (
    ("unit", "a block of layers that is transferred or frozen as a whole, counted from the input"),
    ("k", "how many units start from the source's weights; the others start from random ones"),
    ("j", "how many units are frozen: they stay bitwise as they were and are not trained"),
    ("balanced accuracy", "the mean recall over classes, so that a rare class counts as much"),
    ("point", "a hundredth: from 61 % to 62 % is one point"),
    ("interval", "the range that holds the true value in 95 of 100 such studies"),
    ("adjusted p", "corrected for the number of comparisons (Holm); the interval is not"),
    ("cell", "one choice of source, k, j and recipe; its runs differ in the seed alone"),
)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number.

    Example:
        >>> is_number(0.5), is_number(float("inf")), is_number(None), is_number("0.5")
        (True, False, False, False)
    """
    if isinstance(value, (str, bytes, bool)) or value is None:
        return False
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def format_score(value: Any, metric: str) -> str:
    """Return a score: of shares in per cent without its sign, of others as it is.

    Example:
        >>> format_score(0.61249, "test/accuracy"), format_score(0.61249, "test/macro_auroc")
        ('61.2', '0.612')
        >>> format_score(float("nan"), "test/accuracy")
        '–'
    """
    if not is_number(value):
        return NONE
    digits = 2 if metric == "gamma" else 3
    text = f"{100 * value:.1f}" if is_share(metric) else f"{value:.{digits}f}"
    return text.replace("-", MINUS)


def format_gap(value: Any, metric: str) -> str:
    """Return a difference with its sign: of shares in points, of others as it is.

    Example:
        >>> format_gap(0.0312, "test/accuracy"), format_gap(-0.0312, "test/nll")
        ('+3.1', '−0.031')
        >>> format_gap(-0.00001, "test/accuracy"), format_gap(None, "test/accuracy")
        ('0.0', '–')
    """
    if not is_number(value):
        return NONE
    text = f"{100 * value:+.1f}" if is_share(metric) else f"{value:+.3f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("+-")


def format_p(value: Any) -> str:
    """Return a probability.

    Example:
        >>> format_p(0.00001), format_p(0.0123), format_p(1.0), format_p(float("nan"))
        ('< 0.001', '0.012', '1', '–')
    """
    if not is_number(value):
        return NONE
    if value < 0.001:
        return "< 0.001"
    return "1" if value > 0.9995 else f"{value:.3f}"


def format_value(value: Any) -> str:
    """Return any cell of a table: whole numbers plain, others in four digits, – for none.

    Example:
        >>> format_value(3.0), format_value(0.00051234), format_value("a"), format_value([1, 2])
        ('3', '0.0005123', 'a', '1, 2')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple, set)):
        return ", ".join(format_value(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={format_value(item)}" for key, item in value.items()) or NONE
    if is_number(value):
        whole = float(value).is_integer() and abs(value) < 1e9
        return (f"{value:.0f}" if whole else f"{value:.4g}").replace("-", MINUS)
    return str(value) if isinstance(value, str) and value else NONE


def format_range(low: Any, high: Any, metric: str, *, signed: bool = False) -> str:
    """Return an interval.

    Example:
        >>> format_range(0.59, 0.63, "test/accuracy")
        '59.0 to 63.0'
        >>> format_range(-0.01, 0.02, "test/accuracy", signed=True)
        '−1.0 to +2.0'
    """
    if not (is_number(low) and is_number(high)):
        return NONE
    form = format_gap if signed else format_score
    return f"{form(low, metric)} to {form(high, metric)}"


def name_column(metric: str) -> str:
    """Return a metric as a table's head has it, with its unit.

    Example:
        >>> name_column("test/balanced_accuracy"), name_column("val/macro_auroc")
        ('balanced accuracy, %', 'validation macro AUROC')
    """
    lead = "validation " if metric.startswith("val/") else ""
    return f"{lead}{name_metric(metric)}{', %' if is_share(metric) else ''}"


def name_unit(metric: str) -> str:
    """Return what a difference of a metric is counted in; empty for the metric's own unit."""
    return "points" if is_share(metric) else ""


def find_tone(verdict: Any) -> str:
    """Return how a verdict is shown: for, against, same, calm, open, or said."""
    return TONES.get(str(verdict).strip().lower(), "said")


def write_lead(content: Content) -> str:
    """Return in two sentences what a report is about: how many runs, on what, judged how."""
    runs = content.runs
    done = int((runs["state"] == "done").sum()) if len(runs) else 0
    names = [name_dataset(str(n)) for n in dict.fromkeys(content.cells.get("dataset", []))]
    n_cells = len(content.cells)
    unfinished = f" (of {len(runs):,})" if done < len(runs) else ""
    where = f" on {_join(names)}" if names else ""
    split = "test" if content.metric.startswith("test/") else "validation"
    return (
        f"{_count(done, 'finished run', 'finished runs')}{unfinished} in "
        f"{_count(n_cells, 'cell', 'cells')}{where}, judged by {name_metric(content.metric)} on "
        f"the {split} images. Epochs and cells are chosen on validation images alone."
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _join(names: Sequence[str], limit: int = 4) -> str:
    if len(names) > limit:
        return f"{len(names)} datasets"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
