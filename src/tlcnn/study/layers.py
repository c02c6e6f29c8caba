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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.comparison import compute_holm, compute_one_sided_p
from tlcnn.statistics.estimate import Terms, estimate_contrast
from tlcnn.statistics.notes import Note, NoteKind, Notes, merge_notes
from tlcnn.statistics.ratio import estimate_ratio
from tlcnn.study.cells import Cell, Source

TREATMENTS = ("base", "AnB", "AnB+", "BnB", "BnB+", "random-frozen")
LEVEL = 0.05
GAPS = {"C": ("base", "BnB"), "S": ("BnB", "AnB"), "G": ("AnB+", "BnB+")}

LayerVerdict = Literal["general", "specific", "undetermined", "not measured"]
Treated = Mapping[tuple[str, int], Arm]


@dataclass(frozen=True)
class UnitScores:
    """How general or specific the first n units are.

    Attributes:
        gaps: C, S and G; None where one of their treatments was not trained.
        gamma: None where it is not known, or its denominator may be 0.
    """

    n: int
    unit: str
    gaps: Mapping[str, Estimate | None]
    gamma: Estimate | None
    verdict: LayerVerdict
    notes: Notes


def list_treatments(
    cells: Iterable[Cell], source: Source, own: Source
) -> dict[tuple[str, int], str]:
    """Return the cell of every (treatment, n) that was trained: `("AnB", 3)` and so on.

    `source` is A; `own` is B, the network's own weights.
    """
    keys: dict[tuple[str, int], str] = {}
    for cell in cells:
        if not cell.is_plain:
            continue
        if cell.k == 0:
            place = ("base", 0) if cell.j == 0 else ("random-frozen", cell.j)
        elif cell.source in (source, own) and cell.j in (0, cell.k):
            first = "A" if cell.source == source else "B"
            place = (f"{first}nB{'' if cell.j else '+'}", cell.k)
        else:
            continue
        keys.setdefault(place, cell.key)
    return keys


def compute_layer_scores(
    arms: Treated, units: Sequence[str], *, margin: float = 0.01
) -> list[UnitScores]:
    """Return C, S, G and gamma of n = 1..L with 95 % intervals, and a verdict on each n.

    *general*: S(n) is below the margin (one-sided test and the upper 95 % bound); *specific*:
    S(n) is above zero (one-sided test and the lower 95 % bound) and its point above the margin;
    else *undetermined*. The one-sided tests are adjusted over n by Holm's method. gamma is given
    where its denominator is above the margin, lower bound included: elsewhere random filters do as
    well, and the ratio has no meaning.

    Args:
        arms: the arm of each trained treatment; a missing one leaves its gap None.
        units: names of units 1..L.
        margin: in units of the metric, 0.01 is one point of accuracy.

    Example:
        >>> import numpy as np
        >>> def arm(*scores):
        ...     return Arm("", np.arange(len(scores)), np.array(scores))
        >>> arms = {("base", 0): arm(.62, .63), ("BnB", 1): arm(.60, .61),
        ...         ("AnB", 1): arm(.50, .54)}
        >>> (stem,) = compute_layer_scores(arms, ["stem"])
        >>> round(stem.gaps["C"].value, 3), round(stem.gaps["S"].value, 3), stem.verdict
        (0.02, 0.085, 'undetermined')
    """
    ns = range(1, len(units) + 1)
    terms = {(name, n): _list_terms(arms, n, pair) for n in ns for name, pair in GAPS.items()}
    gaps = {place: estimate_contrast(pair) if pair else None for place, pair in terms.items()}
    verdicts = _judge({n: gaps["S", n] for n in ns}, margin)
    scores = []
    for n, unit in zip(ns, units, strict=True):
        gap = gaps["S", n]
        gamma, note = _estimate_gamma(arms, n, margin)
        notes = merge_notes(note, gap.notes if gap else [Note(NoteKind.NO_PAIR)])
        shown = {name: gaps[name, n] for name in GAPS}
        scores.append(UnitScores(n, unit, shown, gamma, verdicts[n], notes))
    return scores


def _list_terms(arms: Treated, n: int, pair: tuple[str, str]) -> Terms:
    first, second = (arms.get((name, 0 if name == "base" else n)) for name in pair)
    return [] if first is None or second is None else [(1.0, first), (-1.0, second)]


def _estimate_gamma(arms: Treated, n: int, margin: float) -> tuple[Estimate | None, Notes]:
    a_frozen, b_frozen, drawn = (arms.get((t, n)) for t in ("AnB", "BnB", "random-frozen"))
    if a_frozen is None or b_frozen is None or drawn is None:
        return None, ()
    denominator = [(1.0, b_frozen), (-1.0, drawn)]
    if not estimate_contrast(denominator).low > margin:
        return None, (Note(NoteKind.NO_GAMMA),)
    return estimate_ratio([(1.0, a_frozen), (-1.0, drawn)], denominator), ()


def _judge(gaps: Mapping[int, Estimate | None], margin: float) -> dict[int, LayerVerdict]:
    tested = {n: gap for n, gap in gaps.items() if gap is not None and not math.isnan(gap.se)}
    general = compute_holm([compute_one_sided_p(margin - g.value, g) for g in tested.values()])
    specific = compute_holm([compute_one_sided_p(g.value, g) for g in tested.values()])
    verdicts: dict[int, LayerVerdict] = {
        n: "not measured" if gap is None else "undetermined" for n, gap in gaps.items()
    }
    for (n, gap), p_general, p_specific in zip(tested.items(), general, specific, strict=True):
        if gap.high < margin and p_general < LEVEL:
            verdicts[n] = "general"
        elif gap.low > 0 and gap.value > margin and p_specific < LEVEL:
            verdicts[n] = "specific"
    return verdicts
