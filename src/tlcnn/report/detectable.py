"""The smallest differences that a study detects, in words and as a table."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from tlcnn.report.remarks import name_family
from tlcnn.statistics.arm import Comparison
from tlcnn.statistics.detect import DESIGNS, find_detectable
from tlcnn.study.comparisons import Contrast, Family
from tlcnn.text import count

DETECTABLE = "the smallest true difference that is found in 80 % of studies"
SEVERAL = 10  # seeds that are worth a sentence


def write_detectable(comparison: Comparison, form: Callable[[float], str]) -> str:
    """Return what a comparison can detect as half a sentence; empty where it is not known.

    Args:
        form: how a difference becomes text.
    """
    noise = comparison.noise
    if noise is None:
        return ""
    n_seeds = SEVERAL if noise.n_seeds < SEVERAL else 2 * noise.n_seeds
    designs: list[tuple[int | None, float, str]] = [
        (None, 1, f"{count(noise.n_seeds, 'seed')} and these test groups"),
        (n_seeds, 1, f"{n_seeds} seeds"),
        (None, 4, "four times the test groups"),
    ]
    parts = []
    for seeds, groups, name in designs:
        size = find_detectable(comparison, seeds, groups)
        if not math.isnan(size):
            parts.append(f"{'none' if math.isinf(size) else form(size)} with {name}")
    zero = ""
    if noise.variance <= noise.joint:
        zero = " (the variance between seeds was estimated as 0, which few seeds cannot show)"
    return (
        f"{DETECTABLE}: {', '.join(parts)}{zero}"
        "; it is one number for the whole family, from variances pooled over the cells"
    )


def find_typical(comparisons: Sequence[Comparison]) -> dict[Family, Comparison]:
    """Return the comparison of fewest seeds of each family, of those whose variances are known."""
    typical: dict[Any, Comparison] = {}
    for comparison in comparisons:
        noise, rival = comparison.noise, typical.get(comparison.family)
        if noise and not (rival and rival.noise and rival.noise.n_seeds <= noise.n_seeds):
            typical[comparison.family] = comparison
    return typical


def name_design(n_seeds: int | None, groups: float) -> str:
    """Return the name of a design's column.

    Example:
        >>> name_design(None, 1), name_design(5, 1), name_design(None, 4)
        ('now', '5 seeds', '4 × groups')
    """
    if groups != 1:
        return f"{groups:g} × groups"
    return f"{n_seeds} seeds" if n_seeds else "now"


def tabulate_detectable(contrasts: Sequence[Contrast]) -> pd.DataFrame:
    """Return one row a family: the smallest difference that each design detects.

    `se_seeds` and `se_groups` are the parts of the standard error of a difference that fall with
    the number of seeds alone, and with the number of test groups.
    """
    rows = []
    for family, comparison in find_typical([contrast.result for contrast in contrasts]).items():
        noise = comparison.noise
        assert noise
        sizes = {name_design(*design): find_detectable(comparison, *design) for design in DESIGNS}
        names = {"family": name_family(family), "family_size": comparison.family_size}
        errors = dict(zip(("se_seeds", "se_groups"), noise.split_error(), strict=True))
        rows.append({**names, "n_seeds": noise.n_seeds, **errors, **sizes})
    return pd.DataFrame(rows)
