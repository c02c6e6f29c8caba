"""What measures of the networks say, in words: each by itself, and all beside the costs."""

import math
from collections.abc import Iterator, Mapping, Sequence

from tlcnn.report.measure_words import TRUSTED, UNTRUSTED, find_words
from tlcnn.report.numbers import MINUS, NONE, is_number, write_gap
from tlcnn.report.words import GAP_NAMES, join_words
from tlcnn.study.answers import LayersAnswer
from tlcnn.study.measures import (
    Agreement,
    CostDepth,
    MeasureCurve,
    Standing,
    UnitReading,
    find_cost_depth,
    list_apart,
)
from tlcnn.text import count

_STATED = 12  # units that a sentence lists before it counts them

Compared = tuple[MeasureCurve, Agreement]


def count_digits(values: Sequence[float]) -> int:
    """Return the digits after the point that show the largest of some readings to two places.

    Example:
        >>> count_digits([0.98, 0.4]), count_digits([0.00031]), count_digits([12.5])
        (2, 5, 2)
    """
    largest = max((abs(value) for value in values if is_number(value)), default=0.0)
    return min(max(2, 1 - math.floor(math.log10(largest))), 8) if largest else 2


def format_reading(value: object, digits: int) -> str:
    """Return a reading.

    Example:
        >>> format_reading(-0.314, 2), format_reading(-0.001, 2), format_reading(None, 2)
        ('−0.31', '0.00', '–')
    """
    if not is_number(value):
        return NONE
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def write_curve(
    curve: MeasureCurve, agreement: Agreement, answer: LayersAnswer | None
) -> tuple[str, str]:
    """Return the name of a curve, and what it looks at and says, also beside the costs."""
    measure = find_words(curve.measure)
    name = f"{measure.title[:1].upper()}{measure.title[1:]}, {curve.variant}"
    valued = [r for r in curve.readings if is_number(r.estimate.value)]
    if not valued:
        notes = dict.fromkeys(reading.note for reading in curve.readings if reading.note)
        return name, f"No reading{f' ({join_words(list(notes))})' if notes else ''}."
    digits = count_digits([reading.estimate.value for reading in valued])
    ends = [_write_reading(reading, digits) for reading in (valued[0], valued[-1])]
    extent = f"Here it is {ends[0]}" + (f" and {ends[1]}." if len(valued) > 1 else ".")
    parts = [measure.looks_at, extent, *_write_absent(curve)]
    if measure.side:
        parts += [_write_apart(curve, measure.side), _write_agreement(curve, agreement, answer)]
    return name, " ".join(filter(None, parts))


def _write_absent(curve: MeasureCurve) -> Iterator[str]:
    """Yield at which units there is no reading, for each reason."""
    absent: dict[str, list[str]] = {}
    for reading in curve.readings:
        if not is_number(reading.estimate.value) and reading.note:
            absent.setdefault(reading.note, []).append(reading.unit)
    for note, units in absent.items():
        yield f"There is no reading at {_list_units(units)}: {note}."


def _list_units(units: Sequence[str]) -> str:
    """Return the names of units, the later ones of many counted."""
    few = units if len(units) <= _STATED else [*units[:2], f"{len(units) - 2} more"]
    return join_words(few)


def _write_reading(reading: UnitReading, digits: int) -> str:
    """Return `0.98 [0.95 to 1.01] at stem`, and that it is of one seed."""
    estimate = reading.estimate
    value, low, high = (
        format_reading(number, digits) for number in (estimate.value, estimate.low, estimate.high)
    )
    interval = "" if low == NONE else f" [{low} to {high}]"
    return f"{value}{interval} at {reading.unit}{' (one seed)' * (estimate.n_seeds == 1)}"


def _write_apart(curve: MeasureCurve, side: int) -> str:
    """Return where a curve leaves its ceiling, and where it is clear of its null."""
    sentences = []
    sides = {1: "above", -1: "below"}
    for reference, towards in (("ceiling", side), ("null", -side)):
        units = list_apart(curve.readings, towards, reference)
        if units is None:
            continue
        where = "no unit"
        if units:
            where = "every unit" if len(units) == len(curve.readings) else _list_units(units)
        sentences.append(f"{sides[towards]} its {reference} at {where}")
    return f"It is {join_words(sentences)}, interval included." if sentences else ""


def _write_agreement(
    curve: MeasureCurve, agreement: Agreement, answer: LayersAnswer | None
) -> str:
    """Return the depth that a curve points to, and its order of units, beside the costs'."""
    names = {reading.n: reading.unit for reading in curve.readings}
    if agreement.depth is None:
        text = "No step towards specific is shown, so it points to no depth"
    elif agreement.depth == 0:
        text = "Its largest step towards specific is at the first unit: it calls no unit general"
    else:
        text = f"Its largest step towards specific comes after {names[agreement.depth]}"
    depth = find_answer_depth(answer)
    if answer and depth and agreement.depth is not None:
        beside = {
            "same": f"where {answer.basis}(n) comes to its margin",
            "open": f"which the verdicts on {answer.basis}(n) leave open",
            "disagrees": f"which the verdicts on {answer.basis}(n) exclude",
        }
        text += f", {beside[depth.judge(agreement.depth)]}"
    if answer and is_number(agreement.tau):
        tau = format_reading(agreement.tau, 2)
        text += f" (order of the units beside {answer.basis}(n): Kendall's τ = {tau})"
    return f"{text}."


def find_answer_depth(answer: LayersAnswer | None) -> CostDepth | None:
    """Return the depth that the costs of an answer point to; None without any cost."""
    return find_cost_depth(answer.scores, answer.basis, answer.margin) if answer else None


# ---- all together -------------------------------------------------------------------------------


def write_summary(compared: Sequence[Compared], answer: LayersAnswer | None) -> str:
    """Return the depth of the costs, which measures point to it, and whether any is trusted.

    Measures that are for information only are not counted.

    Args:
        compared: the most important variant of each measure.
    """
    trust = " ".join(TRUSTED[c.measure] for c, _ in compared if c.measure in TRUSTED) or UNTRUSTED
    depth = find_answer_depth(answer)
    if answer is None or depth is None:
        return f"No cost of freezing was measured here: the measures stand alone. {trust}"
    names = {unit.n: unit.unit for unit in answer.scores}
    if depth.value == len(names):
        text = _write_cost_depth(answer, depth, names)
        return (
            f"{text} So the costs cannot decide which measure, if any, points to the right depth. "
            f"{trust}"
        )
    groups: dict[Standing, list[str]] = {"same": [], "open": [], "disagrees": [], "none": []}
    for curve, agreement in compared:
        measure = find_words(curve.measure)
        if not measure.is_counted:
            continue
        after = f" ({name_depth(agreement.depth, names)})" if agreement.depth is not None else ""
        standing: Standing = depth.judge(agreement.depth) if measure.side else "none"
        groups[standing].append(measure.title + after * (standing in ("open", "disagrees")))
    texts: dict[Standing, str] = {
        "same": "to the same depth",
        "open": "to another depth that the verdicts leave open",
        "disagrees": "to a depth that the verdicts exclude, so these disagree with the costs",
        "none": "to no depth",
    }
    sentences = [
        f"{count(len(titles), 'measure')} {'points' if len(titles) == 1 else 'point'} "
        f"{texts[standing]}: {join_words(titles)}."
        for standing, titles in groups.items()
        if titles
    ]
    return " ".join([_write_cost_depth(answer, depth, names), *sentences, trust])


def _write_cost_depth(answer: LayersAnswer, depth: CostDepth, names: Mapping[int, str]) -> str:
    margin = write_gap(answer.margin, answer.block.metric)
    where = f"below its margin of {margin} {name_depth(depth.value, names)}"
    where = where if depth.value else f"already not below its margin of {margin} for n = 1"
    text = f"As estimated, the {GAP_NAMES[answer.basis]} is {where}"
    if depth.value == len(names):
        text += ", the last unit"
    if depth.low < depth.high:
        low, high = (names[n] if n else "none" for n in (depth.low, depth.high))
        text += f". By its verdicts the last general unit may be any from {low} to {high}"
    return f"{text}."


def name_depth(n: int, names: Mapping[int, str]) -> str:
    """Return `through stage2`, or `for no unit` where n is 0."""
    return f"through {names.get(n, f'unit {n}')}" if n else "for no unit"
