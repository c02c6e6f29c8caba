"""How general or specific is each unit, from the scores of cells that freeze the first n units.

For n = 1..L, with M the mean of the primary metric over seeds, and Yosinski's names (Yosinski et
al. 2014, arXiv:1411.1792; A the source, B the target):

    full            all L units of A, all trained on
    frozen          all L units of A, the first n frozen
    base            B from random weights
    AnB, AnB+       n units of A, frozen, or trained on
    BnB, BnB+       n units of B's own base, frozen, or trained on
    random-frozen   n units frozen as they were drawn

    F(n) = M(full) - M(frozen)   freezing cost, within one source
    C(n) = M(base) - M(BnB)      co-adaptation loss
    S(n) = M(BnB) - M(AnB)       specificity gap
    G(n) = M(AnB+) - M(BnB+)     transfer boost
    gamma(n) = [M(AnB) - M(random-frozen)] / [M(BnB) - M(random-frozen)]   generality index

F compares networks that start from the same weights. S compares two sources, and so it also
measures how much each of them was trained.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.comparison import compute_holm, compute_one_sided_p
from tlcnn.statistics.estimate import Terms, compute_parts, estimate_contrast
from tlcnn.statistics.notes import Note, NoteKind, Notes, merge_notes
from tlcnn.statistics.ratio import estimate_ratio
from tlcnn.statistics.resolution import Resolution, compute_resolution
from tlcnn.study.cells import Cell, Source

TREATMENTS = ("full", "frozen", "base", "AnB", "AnB+", "BnB", "BnB+", "random-frozen")
WHOLE = ("full", "base")  # treatments without n
LEVEL = 0.05
POINT = 0.01  # the margin where the test set does not tell one
GAPS = {
    "F": ("full", "frozen"),
    "S": ("BnB", "AnB"),
    "C": ("base", "BnB"),
    "G": ("AnB+", "BnB+"),
}

LayerVerdict = Literal["general", "specific", "better", "undetermined", "not measured"]
Basis = Literal["F", "S"]  # the gap that verdicts rest on
JUDGED: tuple[LayerVerdict, ...] = ("general", "specific", "better")  # each has a test
Treated = Mapping[tuple[str, int], Arm]


@dataclass(frozen=True)
class UnitScores:
    """How general or specific the first n units are.

    Attributes:
        gaps: F, S, C and G; None where one of their treatments was not trained.
        gamma: None where it is not known, or its denominator may be 0.
        serves_better: S(n) is below 0: the source's units serve better than the network's own.
        p_values: the one-sided p of each verdict that was tested, adjusted over n by Holm's
            method: that the gap is not below the margin (general), not above it (specific), and,
            where S was measured, that S is not below 0 (better).
    """

    n: int
    unit: str
    gaps: Mapping[str, Estimate | None]
    gamma: Estimate | None
    verdict: LayerVerdict
    serves_better: bool
    notes: Notes
    p_values: Mapping[LayerVerdict, float] = field(default_factory=dict)


def list_treatments(
    cells: Iterable[Cell], source: Source, own: Source | None, n_units: int
) -> dict[tuple[str, int], str]:
    """Return the cell of every (treatment, n) that was trained: `("AnB", 3)` and so on.

    `source` is A; `own` is B, the network's own weights. n is 0 for a treatment without it.
    """
    keys: dict[tuple[str, int], str] = {}
    for cell in cells:
        if not cell.is_plain:
            continue
        if cell.k == 0:
            keys.setdefault(("random-frozen", cell.j) if cell.j else ("base", 0), cell.key)
            continue
        if cell.source == source and cell.k == n_units:
            keys.setdefault(("frozen", cell.j) if cell.j else ("full", 0), cell.key)
        if cell.source in (source, own) and cell.j in (0, cell.k):
            first = "A" if cell.source == source else "B"
            keys.setdefault((f"{first}nB{'' if cell.j else '+'}", cell.k), cell.key)
    return keys


def find_basis(arms: Treated, n_units: int) -> Basis | None:
    """Return the gap that verdicts rest on: F, or S where more units have that; None for none."""
    n_measured = {
        name: sum(bool(_list_terms(arms, n, name)) for n in range(1, n_units + 1))
        for name in ("F", "S")
    }
    if not any(n_measured.values()):
        return None
    return "F" if n_measured["F"] >= n_measured["S"] else "S"


def resolve_gap(arms: Treated, n_units: int, basis: Basis) -> Resolution | None:
    """Return what the test set resolves of a gap, from its variances pooled over n."""
    terms = [_list_terms(arms, n, basis) for n in range(1, n_units + 1)]
    parts = [compute_parts(pair) for pair in terms if pair]
    return compute_resolution(parts, n_compared=len(parts))


def compute_layer_scores(
    arms: Treated, units: Sequence[str], *, basis: Basis = "F", margin: float = POINT
) -> list[UnitScores]:
    """Return F, S, C, G and gamma of n = 1..L with 95 % intervals, and a verdict on each n.

    A verdict needs the gap of the basis on one side of the margin, with its 95 % interval and in a
    one-sided test that is adjusted over n by Holm's method. *general*: below the margin.
    *specific*: above it. *better*, of S alone: below 0. Else *undetermined*. gamma is given where
    its denominator is above a point, lower bound included: elsewhere random filters do as well,
    and the ratio has no meaning.

    Args:
        arms: the arm of each trained treatment; a missing one leaves its gap None.
        units: names of units 1..L.
        margin: in units of the metric, 0.01 is one point of accuracy.

    Example:
        >>> import numpy as np
        >>> def arm(*scores):
        ...     return Arm("", np.arange(len(scores)), np.array(scores))
        >>> arms = {("full", 0): arm(.62, .63), ("frozen", 1): arm(.60, .61)}
        >>> (stem,) = compute_layer_scores(arms, ["stem"])
        >>> round(stem.gaps["F"].value, 3), stem.verdict
        (0.02, 'undetermined')
    """
    ns = range(1, len(units) + 1)
    gaps = {(name, n): _estimate_gap(arms, n, name) for n in ns for name in GAPS}
    judged, source_gaps = ({n: gaps[name, n] for n in ns} for name in (basis, "S"))
    tests: dict[LayerVerdict, tuple[dict[int, float], set[int]]] = {
        "general": _test_beyond(judged, margin, -1),
        "specific": _test_beyond(judged, margin, 1),
        "better": _test_beyond(source_gaps, 0.0, -1),
    }
    better = tests["better"][1]
    scores = []
    for n, unit in zip(ns, units, strict=True):
        gap = judged[n]
        verdict: LayerVerdict = "undetermined"
        if gap is None:
            verdict = "not measured"
        elif basis == "S" and n in better:
            verdict = "better"
        else:
            verdict = next((v for v in JUDGED[:2] if n in tests[v][1]), verdict)
        gamma, note = _estimate_gamma(arms, n)
        notes = merge_notes(note, gap.notes if gap else [Note(NoteKind.NO_PAIR)])
        shown = {name: gaps[name, n] for name in GAPS}
        p_values = {name: p[n] for name, (p, _) in tests.items() if n in p}
        scores.append(UnitScores(n, unit, shown, gamma, verdict, n in better, notes, p_values))
    return scores


def _estimate_gap(arms: Treated, n: int, name: str) -> Estimate | None:
    terms = _list_terms(arms, n, name)
    return estimate_contrast(terms) if terms else None


def _list_terms(arms: Treated, n: int, name: str) -> Terms:
    first, second = (arms.get((t, 0 if t in WHOLE else n)) for t in GAPS[name])
    return [] if first is None or second is None else [(1.0, first), (-1.0, second)]


def _estimate_gamma(arms: Treated, n: int) -> tuple[Estimate | None, Notes]:
    a_frozen, b_frozen, drawn = (arms.get((t, n)) for t in ("AnB", "BnB", "random-frozen"))
    if a_frozen is None or b_frozen is None or drawn is None:
        return None, ()
    gamma = estimate_generality(a_frozen, b_frozen, drawn)
    return gamma, (Note(NoteKind.NO_GAMMA),) if gamma is None else ()


def estimate_generality(source: Arm, own: Arm, drawn: Arm) -> Estimate | None:
    """Return [M(source) - M(drawn)] / [M(own) - M(drawn)], by Fieller's method.

    It is None where the denominator is not shown to be above a point.
    """
    denominator = [(1.0, own), (-1.0, drawn)]
    if not estimate_contrast(denominator).low > POINT:
        return None
    return estimate_ratio([(1.0, source), (-1.0, drawn)], denominator)


def _test_beyond(
    gaps: Mapping[int, Estimate | None], limit: float, side: int
) -> tuple[dict[int, float], set[int]]:
    """Return the p of gaps above a limit (side 1) or below it (-1) by n, and the n that are."""
    tested = {n: gap for n, gap in gaps.items() if gap is not None and not math.isnan(gap.se)}
    p_values = compute_holm(
        [compute_one_sided_p(side * (gap.value - limit), gap) for gap in tested.values()]
    )
    by_n = dict(zip(tested, p_values, strict=True))
    ends = {n: gap.low if side > 0 else gap.high for n, gap in tested.items()}
    return by_n, {n for n, p in by_n.items() if p < LEVEL and side * (ends[n] - limit) > 0}
