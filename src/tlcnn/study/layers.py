"""How general or specific is each unit, from the scores of Yosinski's treatments.

For n = 1..L, with M the mean of the primary metric over seeds (Yosinski et al. 2014,
arXiv:1411.1792; A the source, B the target):

    base            B from random weights
    AnB, AnB+       n units of A, frozen, or trained on
    BnB, BnB+       n units of B's own base, frozen, or trained on
    random-frozen   n units frozen as they were drawn

    C(n) = M(base) - M(BnB)      co-adaptation loss
    S(n) = M(BnB) - M(AnB)       specificity gap
    G(n) = M(AnB+) - M(BnB+)     transfer boost
    gamma(n) = [M(AnB) - M(random-frozen)] / [M(BnB) - M(random-frozen)]   generality index
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.comparison import compute_holm, compute_tail
from tlcnn.statistics.estimate import compute_parts, estimate_contrast
from tlcnn.statistics.ratio import estimate_ratio
from tlcnn.statistics.settle import compute_seeds_needed_one_sided
from tlcnn.study.scores import estimate_cell

ARMS = ("base", "AnB", "AnB+", "BnB", "BnB+", "random-frozen")
LEVEL = 0.05
_GAPS = {"C": ("base", "BnB"), "S": ("BnB", "AnB"), "G": ("AnB+", "BnB+")}


def list_treatments(
    cells: pd.DataFrame, source: str, own: str = "self"
) -> dict[tuple[str, int], str]:
    """Return the cell of every (treatment, n) that was trained: `("AnB", 3)` and so on.

    Only `freeze.bn=frozen` counts: the other treatments of norms let frozen units change.

    Args:
        cells: `make_cells` of one dataset, model and recipe.
        source: A, as the column `start` names it.
        own: the network's own weights, as the column `start` names them.
    """
    found: dict[tuple[str, int], str] = {}
    for row in cells[~cells["imported"].astype(bool)].to_dict("records"):
        k, j, start = int(row["k"]), int(row["j"]), row["start"]
        if j and row["bn"] not in ("frozen", None):
            continue
        if k == 0:
            key = ("base", 0) if j == 0 else ("random-frozen", j)
        elif start in (source, own) and j in (0, k):
            key = (f"{'A' if start == source else 'B'}nB" + ("" if j else "+"), k)
        else:
            continue
        found.setdefault(key, row["cell"])
    return found


def make_curves(arms: Mapping[tuple[str, int], Arm], metric: str) -> pd.DataFrame:
    """Return the mean and interval of every (treatment, n): arm, n, value, low, high, n_seeds."""
    rows = []
    for name, n in sorted(arms, key=lambda key: (ARMS.index(key[0]), key[1])):
        found = estimate_cell(arms[name, n], metric)
        rows.append({"arm": name, "n": n, **_tell("value", found), "n_seeds": found.n_seeds})
    frame = pd.DataFrame(rows, columns=["arm", "n", "value", "value_low", "value_high", "n_seeds"])
    return frame.rename(columns={"value_low": "low", "value_high": "high"})


def compute_layer_scores(
    arms: Mapping[tuple[str, int], Arm],
    units: Sequence[str],
    *,
    margin: float = 0.01,
) -> pd.DataFrame:
    """Return C, S, G and gamma of n = 1..L with 95 % intervals, and a verdict on each n.

    *general*: S(n) is below the margin (one-sided test and the upper 95 % bound); *specific*:
    S(n) is above zero (one-sided test and the lower 95 % bound) and its point above the margin;
    else *undetermined*, with the seeds at which a gap of the measured size would be settled. The
    one-sided tests are adjusted over n by Holm's method. gamma is told where its denominator is
    above the margin, lower bound included: elsewhere random filters do as well, and there is no
    ratio to speak of.

    Args:
        arms: of `list_treatments`, scored by one metric; those that are missing leave gaps.
        units: names of units 1..L.
        margin: in units of the metric, 0.01 is one point of accuracy.

    Returns:
        n, unit, then `<name>`, `<name>_low`, `<name>_high` for C, S, G and gamma, verdict
        (general | specific | undetermined | not measured), seeds_needed, note.

    Example:
        >>> import numpy as np
        >>> def arm(*scores):
        ...     return Arm("", np.arange(len(scores)), np.array(scores))
        >>> arms = {("base", 0): arm(.62, .63), ("BnB", 1): arm(.60, .61),
        ...         ("AnB", 1): arm(.50, .54)}
        >>> scores = compute_layer_scores(arms, ["stem"])
        >>> float(scores.C[0].round(3)), float(scores.S[0].round(3)), scores.verdict[0]
        (0.02, 0.085, 'undetermined')
    """
    gaps = {
        n: {name: _estimate_gap(arms, n, pair) for name, pair in _GAPS.items()}
        for n in range(1, len(units) + 1)
    }
    n_known = sum(found["S"] is not None for found in gaps.values())
    verdicts = _judge({n: found["S"] for n, found in gaps.items()}, margin)
    rows = []
    for n, found in gaps.items():
        row: dict[str, Any] = {"n": n, "unit": units[n - 1]}
        for name, gap in found.items():
            row |= _tell(name, gap)
        ratio, note = _estimate_gamma(arms, n, margin)
        row |= _tell("gamma", ratio) | {"verdict": verdicts[n], "seeds_needed": math.nan}
        gap = found["S"]
        if gap is not None and verdicts[n] == "undetermined":
            parts = compute_parts(_list_terms(arms, n, _GAPS["S"]))
            row["seeds_needed"] = compute_seeds_needed_one_sided(
                parts, margin=margin, n_compared=n_known
            )
        notes = [note, gap.note if gap is not None else "no pair of AnB and BnB"]
        rows.append({**row, "note": "; ".join(filter(None, notes))})
    return pd.DataFrame(rows)


def _estimate_gap(
    arms: Mapping[tuple[str, int], Arm], n: int, pair: tuple[str, str]
) -> Estimate | None:
    terms = _list_terms(arms, n, pair)
    return estimate_contrast(terms) if terms else None


def _list_terms(
    arms: Mapping[tuple[str, int], Arm], n: int, pair: tuple[str, str]
) -> list[tuple[float, Arm]]:
    first, second = (arms.get((name, 0 if name == "base" else n)) for name in pair)
    return [] if first is None or second is None else [(1.0, first), (-1.0, second)]


def _estimate_gamma(
    arms: Mapping[tuple[str, int], Arm], n: int, margin: float
) -> tuple[Estimate | None, str]:
    ours, own, drawn = (arms.get((name, n)) for name in ("AnB", "BnB", "random-frozen"))
    if ours is None or own is None or drawn is None:
        return None, ""
    below = [(1.0, own), (-1.0, drawn)]
    room = estimate_contrast(below)
    if not room.low > margin:
        return None, "gamma not identifiable: random filters may do as well as B's own"
    return estimate_ratio([(1.0, ours), (-1.0, drawn)], below), ""


def _tell(name: str, found: Estimate | None) -> dict[str, float]:
    if found is None:
        return {name: math.nan, f"{name}_low": math.nan, f"{name}_high": math.nan}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _judge(gaps: Mapping[int, Estimate | None], margin: float) -> dict[int, str]:
    known = {n: gap for n, gap in gaps.items() if gap is not None and not math.isnan(gap.se)}
    general = _adjust({n: _p_above(margin - g.value, g) for n, g in known.items()})
    specific = _adjust({n: _p_above(g.value, g) for n, g in known.items()})
    verdicts = {n: "not measured" if gap is None else "undetermined" for n, gap in gaps.items()}
    for n, gap in known.items():
        if gap.high < margin and general[n] < LEVEL:
            verdicts[n] = "general"
        elif gap.low > 0 and gap.value > margin and specific[n] < LEVEL:
            verdicts[n] = "specific"
    return verdicts


def _p_above(distance: float, gap: Estimate) -> float:
    """Return the one-sided p of `distance` <= 0, by Student's t of the gap's error."""
    if gap.se == 0:
        return 0.0 if distance > 0 else 1.0
    return compute_tail(distance / gap.se, gap.df)


def _adjust(p_values: Mapping[int, float]) -> dict[int, float]:
    return dict(zip(p_values, compute_holm(list(p_values.values())), strict=True))
