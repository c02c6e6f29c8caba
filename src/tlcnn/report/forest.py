"""Forest bars: the scale that the intervals of a table share, and where a value lies on it."""

import math

import pandas as pd

from tlcnn.report.numbers import is_number

Scale = tuple[float, float, float, float]  # low end, high end, start and end of the band
BAR_WIDTH = 170  # pixels


def make_scale(
    frame: pd.DataFrame, low: str, value: str, high: str, margin: float, *, is_cost: bool = False
) -> Scale:
    """Return the ends of the bars of three columns, and of the band of the margin.

    Zero, the margin and every point are inside. An interval may be far wider than the others
    (two seeds give such): it then ends in an arrow rather than make all others invisible.

    Args:
        is_cost: whether the margin bounds values from above alone, so that the band has no lower
            end.
    """
    numbers = frame.reindex(columns=[low, value, high]).apply(pd.to_numeric, errors="coerce")
    numbers = numbers[numbers.map(is_number).all(axis=1)]
    width = margin if is_number(margin) else 0.0
    points = [*numbers[value], 0.0 if is_cost else -width, width, 0.0]
    usual = 2.5 * float((numbers[high] - numbers[low]).median()) if len(numbers) else 0.0
    smallest = max(min([*numbers[low], *points]), min(points) - usual)
    largest = min(max([*numbers[high], *points]), max(points) + usual)
    pad = 0.04 * (largest - smallest) or 0.01
    return (smallest - pad, largest + pad, smallest - pad if is_cost else -width, width)


def list_ticks(scale: Scale) -> list[float]:
    """Return two to five round numbers inside a scale, zero among them.

    Example:
        >>> [round(100 * tick) for tick in list_ticks((-0.031, 0.112, -0.01, 0.01))]
        [0, 5, 10]
    """
    low, high, *_ = scale
    size = 10.0 ** math.floor(math.log10(high - low))
    steps = (size / 5, size / 2, size, 2 * size, 5 * size)  # a width is below 10 sizes
    step = next(s for s in steps if (high - low) / s <= 4)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def place(value: float, scale: Scale) -> str:
    """Return where a value lies on a bar, in its pixels."""
    low, high, *_ = scale
    x = (value - low) / (high - low) * BAR_WIDTH
    return f"{min(max(x, 0.0), BAR_WIDTH):.1f}"
