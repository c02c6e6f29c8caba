"""The one place where numbers become text: per cent and points in reports, fractions in tables.

`tlcnn compare` and most figures show fractions (0.612). The page, the paper, report.md and the
figure of a grid show shares of images in per cent (61.2) and their differences in points (+3.1).
"""

import math
import re
from collections.abc import Iterable
from typing import Any

from tlcnn.report.words import is_share, name_metric
from tlcnn.statistics.metrics import parse_metric

NONE = "–"
LEAST_P = 0.001  # smaller ones are written as `< 0.001`
MINUS = "\N{MINUS SIGN}"


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
    except (TypeError, OverflowError):
        return False


# ---- per cent and points ------------------------------------------------------------------------


def format_score(value: Any, metric: str, more: int = 0) -> str:
    """Return a score: shares in per cent without the sign, other metrics as they are.

    Args:
        more: further digits after the point.

    Example:
        >>> format_score(0.61249, "test/accuracy"), format_score(0.61249, "test/macro_auroc")
        ('61.2', '0.612')
        >>> format_score(float("nan"), "test/accuracy")
        '–'
    """
    if not is_number(value):
        return NONE
    digits = more + (2 if metric == "gamma" else 3)
    text = f"{100 * value:.{1 + more}f}" if is_share(metric) else f"{value:.{digits}f}"
    return text.replace("-", MINUS)


def format_gap(value: Any, metric: str, more: int = 0) -> str:
    """Return a difference with its sign: shares in points, other metrics as they are.

    Args:
        more: further digits after the point.

    Example:
        >>> format_gap(0.0312, "test/accuracy"), format_gap(-0.0312, "test/nll")
        ('+3.1', '−0.031')
        >>> format_gap(-0.00001, "test/accuracy"), format_gap(None, "test/accuracy")
        ('0.0', '–')
    """
    if not is_number(value):
        return NONE
    text = f"{100 * value:+.{1 + more}f}" if is_share(metric) else f"{value:+.{3 + more}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("+-")


def format_error(value: Any, metric: str, more: int = 0) -> str:
    """Return a standard error: of shares in points with two digits after the point.

    Args:
        more: further digits after the point.

    Example:
        >>> format_error(0.01461, "test/accuracy"), format_error(0.01461, "test/nll")
        ('1.46', '0.0146')
    """
    if not is_number(value):
        return NONE
    return f"{100 * value:.{2 + more}f}" if is_share(metric) else f"{value:.{4 + more}f}"


def format_range(low: Any, high: Any, metric: str, *, signed: bool = False, more: int = 0) -> str:
    """Return an interval.

    Args:
        more: further digits after the point.

    Example:
        >>> format_range(0.59, 0.63, "test/accuracy")
        '59.0 to 63.0'
        >>> format_range(-0.01, 0.02, "test/accuracy", signed=True)
        '−1.0 to +2.0'
    """
    if not (is_number(low) and is_number(high)):
        return NONE
    form = format_gap if signed else format_score
    return f"{form(low, metric, more)} to {form(high, metric, more)}"


def count_further_digits(limits: Iterable[Any], bound: float, metric: str) -> int:
    """Return 1 where a limit would print like a bound that it differs from, else 0.

    Example:
        >>> count_further_digits([0.0306], 0.0308, "test/accuracy")
        1
        >>> count_further_digits([0.0296], 0.0308, "test/accuracy")
        0
    """
    text = format_score(bound, metric)
    return int(any(format_score(limit, metric) == text and limit != bound for limit in limits))


def name_unit(metric: str) -> str:
    """Return the unit of a metric's differences; empty for the metric's own unit."""
    return "points" if is_share(metric) else ""


def name_column(metric: str) -> str:
    """Return the head of a metric's column, with its unit.

    Example:
        >>> name_column("test/balanced_accuracy"), name_column("val/macro_auroc")
        ('balanced accuracy, %', 'validation macro AUROC')
    """
    lead = "validation " if metric.startswith("val/") else ""
    return f"{lead}{name_metric(metric)}{', %' if is_share(metric) else ''}"


def describe_metric(metric: str) -> str:
    """Return a metric with its split, as figures and captions name it.

    Example:
        >>> describe_metric("test/balanced_accuracy"), describe_metric("val/macro_f1")
        ('test balanced accuracy', 'validation macro F1')
    """
    split = parse_metric(metric).split
    return f"{'validation' if split == 'val' else split} {name_metric(metric)}"


# ---- in sentences -------------------------------------------------------------------------------


def write_score(value: float, metric: str) -> str:
    """Return a score with its unit.

    Example:
        >>> write_score(0.559, "test/accuracy"), write_score(0.912, "test/macro_auroc")
        ('55.9 %', '0.912')
    """
    text = format_score(value, metric)
    return f"{text} %" if is_share(metric) and text != NONE else text


def write_gap(value: float, metric: str, more: int = 0) -> str:
    """Return the size of a difference, without its sign.

    Args:
        more: further digits after the point.

    Example:
        >>> write_gap(-0.024, "test/accuracy"), write_gap(0.0002, "test/accuracy")
        ('2.4 points', '0.02 points')
    """
    size = abs(100 * value) if is_share(metric) else abs(value)
    if not is_share(metric):
        return f"{size:.{3 + more}f}"
    return f"{size:.2g} points" if 0 < size < 0.05 else f"{size:.{1 + more}f} points"


def write_ratio(value: float) -> str:
    """Return a ratio of two counts: three digits, none after the point above 100.

    Example:
        >>> write_ratio(182.76), write_ratio(0.08333)
        ('183', '0.0833')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# ---- fractions ----------------------------------------------------------------------------------


def format_fraction(value: float, digits: int = 3, *, narrow: bool = False) -> str:
    """Return a score as it is; `narrow` leaves out the zero before the point.

    Example:
        >>> format_fraction(0.6274), format_fraction(-0.6274, narrow=True)
        ('0.627', '−.627')
    """
    text = f"{value:.{digits}f}"
    text = re.sub(r"^(-?)0\.", r"\1.", text) if narrow else text
    return text.replace("-", MINUS)


def format_estimate(
    value: Any,
    *,
    low: Any = None,
    high: Any = None,
    sd: Any = None,
    n: Any = None,
    digits: int = 4,
    signed: bool = False,
) -> str:
    """Return a score as a fraction, with its standard deviation or interval, and its number.

    Example:
        >>> format_estimate(0.61249, low=0.58, high=0.64, n=3)
        '0.612 [0.580, 0.640] (3)'
        >>> format_estimate(-0.02, sd=0.01), format_estimate(0.02, signed=True, digits=3)
        ('−0.0200 ± 0.0100', '+0.020')
    """
    if not is_number(value):
        return NONE
    sign = "+" if signed else ""
    if is_number(sd):
        text = f"{value:{sign}.4f} ± {sd:.4f}"
    elif is_number(low):
        text = f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
    else:
        text = f"{value:{sign}.{digits}f}"
    text += f" ({int(n)})" if is_number(n) else ""
    return text.replace("-", MINUS)


# ---- other values -------------------------------------------------------------------------------


def format_p(value: Any) -> str:
    """Return a probability.

    Example:
        >>> format_p(0.00001), format_p(0.0123), format_p(1.0), format_p(float("nan"))
        ('< 0.001', '0.012', '1', '–')
    """
    if not is_number(value):
        return NONE
    if value < LEAST_P:
        return f"< {LEAST_P}"
    return "1" if value > 0.9995 else f"{value:.3f}"


def format_seconds(value: Any) -> str:
    """Return seconds, or another rate: one digit after the point below 100, none above."""
    if not is_number(value):
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def format_value(value: Any) -> str:
    """Return any value of a table: whole numbers plain, others in six digits, – for none.

    Example:
        >>> format_value(3.0), format_value(0.00051234), format_value("a"), format_value([1, 2])
        ('3', '0.00051234', 'a', '1, 2')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple, set)):
        return ", ".join(format_value(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={format_value(item)}" for key, item in value.items()) or NONE
    if is_number(value):
        is_whole = float(value).is_integer() and abs(value) < 1e9
        return (f"{value:.0f}" if is_whole else f"{value:g}").replace("-", MINUS)
    return str(value) if isinstance(value, str) and value else NONE
