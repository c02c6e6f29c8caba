"""The answer on general and specific layers in words."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from tlcnn.report.content import Finding
from tlcnn.report.missing import write_missing
from tlcnn.report.numbers import (
    count_further_digits,
    format_error,
    format_gap,
    format_range,
    format_score,
    is_number,
    name_unit,
    write_gap,
    write_ratio,
)
from tlcnn.report.remarks import write_note, write_room
from tlcnn.report.words import (
    join_words,
    name_block,
    name_dataset,
    name_metric,
    name_source,
)
from tlcnn.statistics.notes import NoteKind
from tlcnn.study.answers import LayersAnswer, MissingCells
from tlcnn.study.layers import LayerVerdict, UnitScores
from tlcnn.text import count

_VERDICTS: dict[LayerVerdict, str] = {
    "general": "shown to cost less than δ = {margin}",
    "specific": "shown to cost more than δ = {margin}",
    "better": "the source's layers are shown to serve better than the network's own",
    "undetermined": "not shown to be below or above δ = {margin}",
}


def write_layers(answer: LayersAnswer) -> Finding:
    """Return which layers are general and which specific, in words."""
    block, metric, source = answer.block, answer.block.metric, name_source(answer.source)
    by_verdict = {v: [u for u in answer.scores if u.verdict == v] for v in _VERDICTS}
    by_verdict = {verdict: units for verdict, units in by_verdict.items() if units}
    margin = write_gap(answer.margin, metric, _count_digits(answer))
    parts = [
        f"{verdict.capitalize()} ({_VERDICTS[verdict].format(margin=margin)}): "
        f"{_list_gaps(answer, units, answer.basis)}."
        for verdict, units in by_verdict.items()
    ]
    gap, instead = "F(n) is the cost", "training every unit"
    if answer.basis == "S":
        gap, instead = "S(n) is the loss", "the network's own"
    return Finding(
        "layers",
        f"which layers of {source} are general, which specific?",
        ", ".join(f"{verdict} for n = {_list_ns(units)}" for verdict, units in by_verdict.items()),
        f"{_write_short(answer, margin)} "
        f"On {name_block(block)}, {gap} of freezing the first n of {count(block.n_units, 'unit')} "
        f"of {source} instead of {instead}, in {name_unit(metric) or 'units'} of "
        f"{name_metric(metric)} (95 % intervals in brackets). "
        f"{' '.join([*parts, *_write_limit(answer)])}",
        (
            f"General: {answer.basis}(n) is below {margin}, interval included. Specific: it is "
            f"above {margin}, interval included. Both also need a one-sided test that is adjusted "
            "for the number of n (Holm), so an interval that is just clear of the margin is not "
            "enough. Else undetermined.",
            *_write_origin(answer),
            *_write_obstacles(answer.scores),
            *_define_gaps(answer),
            *_write_own_gap(answer),
            *write_missing(_list_missing(answer)),
        ),
        block.dataset,
    )


def _write_short(answer: LayersAnswer, margin: str) -> str:
    """Return how many of the first units can be frozen, and for which numbers that is open."""
    scores = answer.scores
    deepest = max((u.n for u in scores if u.verdict in ("general", "better")), default=0)
    open_ones = [u for u in scores if u.verdict == "undetermined" and u.n > deepest]
    costly = [u for u in scores if u.verdict == "specific"]
    cost = "cost" if answer.basis == "F" else "lose"
    if deepest:
        which = "the first unit" if deepest == 1 else f"the first {deepest} units"
        which = f"{which} (through {scores[deepest - 1].unit})"
        text = f"{which} can stay as transferred, frozen: that is shown to {cost} less"
    else:
        text = f"it is not shown for any number of units that freezing them {cost}s less"
    parts = [f"In short: {text} than {margin}."]
    if costly:
        parts.append(f"For n = {_list_ns(costly)}, freezing the first n is shown to {cost} more.")
    if open_ones:
        parts.append(f"For n = {_list_ns(open_ones)}, these runs leave it open.")
    return " ".join(parts)


def _count_digits(answer: LayersAnswer) -> int:
    """Return how many more digits tell the margin from the ends of all intervals."""
    gaps = [gap for unit in answer.scores if (gap := unit.gaps[answer.basis])]
    limits = [limit for gap in gaps for limit in (gap.low, gap.high)]
    return count_further_digits(limits, answer.margin, answer.block.metric)


def _list_ns(units: Sequence[UnitScores]) -> str:
    """Return `1 to 3 and 5` for the units behind 1, 2, 3 and 5."""
    groups = groupby(enumerate(unit.n for unit in units), lambda pair: pair[1] - pair[0])
    spans = [[n for _, n in members] for _, members in groups]
    texts = [
        f"{ns[0]} to {ns[-1]}" if len(ns) > 2 else join_words([*map(str, ns)]) for ns in spans
    ]
    return join_words(texts)


def _list_gaps(answer: LayersAnswer, units: Iterable[UnitScores], name: str) -> str:
    """Return `n = 1 (stem) 0.3 (−1.0 to 1.6) and n = 2 (through stage1) 0.9 (−0.5 to 2.3)`."""
    metric, n_units = answer.block.metric, answer.block.n_units
    more = _count_digits(answer) if name == answer.basis else 0
    texts = []
    for unit in units:
        gap = unit.gaps[name]
        if gap is not None:
            interval = format_range(gap.low, gap.high, metric, more=more)
            last = f"through {unit.unit}" if unit.n > 1 else unit.unit
            last = "all units; only the classifier is trained" if unit.n == n_units else last
            text = f"n = {unit.n} ({last}) {format_score(gap.value, metric, more)}"
            texts.append(f"{text} ({interval})" if is_number(gap.low) else text)
    return join_words(texts)


def _write_obstacles(scores: Iterable[UnitScores]) -> Iterator[str]:
    """Yield why no unit can have a verdict, if that is so."""
    notes = {note for unit in scores for note in unit.notes if note.kind is NoteKind.FEW_GROUPS}
    for text in sorted(map(write_note, notes)):
        yield f"{text[0].upper()}{text[1:]}."


def write_margin(answer: LayersAnswer) -> str:
    """Return the margin, where it comes from, and whether there is as much to lose."""
    return " ".join([*_write_origin(answer), *_write_limit(answer)])


def _write_limit(answer: LayersAnswer) -> Iterator[str]:
    """Yield that the margin is larger than all that freezing costs, if it is."""
    metric = answer.block.metric
    whole = next((u.gaps["F"] for u in answer.scores if u.n == answer.block.n_units), None)
    has_specific = any(unit.verdict == "specific" for unit in answer.scores)
    if whole and whole.value < answer.margin and answer.basis == "F" and not has_specific:
        cost = f"{format_gap(whole.value, metric)} {name_unit(metric)}".rstrip()
        yield (
            f"δ is larger than what freezing all units costs here ({cost}): “specific” is not to "
            "be expected for any n, and “general” tells no n from another."
        )


def _write_origin(answer: LayersAnswer) -> Iterator[str]:
    """Yield where the margin comes from, and that guessing is within it, if it is."""
    metric, resolution = answer.block.metric, answer.resolution
    margin = write_gap(answer.margin, metric, _count_digits(answer))
    sample = next((arm.sample for arm in answer.arms.values() if arm.sample), None)
    if resolution is None or sample is None:
        yield f"The margin δ is {margin}. It was not computed from the test set."
    else:
        sizes = np.bincount(sample.strata)
        # One digit more than elsewhere, so that the printed numbers multiply to the margin.
        se = f"{format_error(resolution.se, metric, more=1)} {name_unit(metric)}".rstrip()
        n_seeds = min(len(arm.scores) for arm in answer.arms.values())
        yield (
            f"The margin δ is what this test set resolves: ({resolution.level_factor:.2f} + "
            f"{resolution.power_factor:.2f}) × {se} = {margin}. Here {se} is the standard error "
            f"of {answer.basis}(n) that remains with any number of seeds on "
            f"{count(len(sample.strata), 'test group')} ({sizes[sizes > 0].min()} in the smallest "
            "class), pooled over n; the factors are the normal quantiles of an error of "
            f"{100 * resolution.tail:.2g} % a verdict and of a power of 80 %. With "
            f"{count(n_seeds, 'seed')} the power is lower. δ follows from these data and has no "
            "clinical meaning: verdicts on datasets with other margins are not comparable."
        )
    room = write_room(answer.margin, list(answer.arms.values()), metric)
    if room:
        yield f"{room[0].upper()}{room[1:]}."


def _define_gaps(answer: LayersAnswer) -> Iterator[str]:
    """Yield what the gaps that the answer has are, and of which networks."""
    block, source = answer.block, name_source(answer.source)
    mean = f"M is the mean {name_metric(block.metric)} over seeds."
    if any(unit.gaps["F"] for unit in answer.scores):
        yield (
            f"F(n) = M(L, 0) − M(L, n). {mean} In (L, n) all L = {block.n_units} units come from "
            f"{source} and the first n are frozen; in (L, 0) none is. Both start from the same "
            "weights, so F(n) is a matter of freezing alone."
        )
    if any(unit.gaps["S"] for unit in answer.scores):
        yield (
            f"S(n) = M(BnB) − M(AnB). {mean} In AnB the first n units come from {source} (A) and "
            "are frozen; in BnB they come from a network that was trained on "
            f"{name_dataset(block.dataset)} itself (B) and are frozen. All other units are "
            "trained."
        )


def _write_own_gap(answer: LayersAnswer) -> Iterator[str]:
    """Yield S(n) beside the numbers of images that both sources were trained on."""
    measured = [unit for unit in answer.scores if unit.gaps["S"]]
    if not measured:
        return
    source = name_source(answer.source)
    if answer.basis != "S":
        yield f"S(n): {_list_gaps(answer, measured, 'S')}."
        better = [unit.unit for unit in measured if unit.serves_better]
        if better:
            yield (
                f"Through {join_words(better)} the source's layers serve better than the "
                "network's own: S(n) is below 0, interval included."
            )
    if not is_number(answer.image_ratio):
        yield (
            f"S(n) compares two sources, and it is not recorded on how many images {source} was "
            "trained. The more images a source saw, the smaller S(n) tends to be."
        )
    else:
        yield (
            f"S(n) compares two sources: {source} was trained on {answer.n_source:,} images, the "
            f"network's own weights on {answer.n_own:,}, a ratio of "
            f"{write_ratio(answer.image_ratio)}. The more images a source saw, the smaller S(n) "
            "tends to be."
        )
    control = answer.control
    if control:
        gaps = _list_gaps(control, control.scores, "S")
        yield (
            f"Size-matched control: from {name_source(control.source)}, trained on "
            f"{control.n_source:,} images, S(n) is {gaps}."
        )
    elif not answer.is_matched:
        yield "No source of as many images as the network's own weights was trained as a control."


def _list_missing(answer: LayersAnswer) -> Iterator[MissingCells]:
    """Yield the cells that the basis of the verdicts lacks for some n."""
    block = answer.block
    ns = range(1, block.n_units + 1)
    if answer.basis == "F":
        sides = {
            answer.source.init: [
                (block.n_units, n) for n in ns if ("frozen", n) not in answer.arms
            ]
        }
    else:
        sides = {
            source.init: [(n, n) for n in ns if (name, n) not in answer.arms]
            for name, source in (("AnB", answer.source), ("BnB", answer.own))
            if source
        }
    for init, points in sides.items():
        if points:
            yield MissingCells(block, init, tuple(points))
