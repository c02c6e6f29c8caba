"""The `LayerMeasures` of a report: readings of measures, held against the costs of freezing.

frame of `read_measures` + blocks + answers -> SourceMeasures -> LayerMeasures of a `Content`
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from tlcnn.report.content import Finding, LayerMeasures, LayerScores
from tlcnn.report.measure_sentences import (
    count_digits,
    find_answer_depth,
    write_curve,
    write_summary,
)
from tlcnn.report.measure_words import choose_variants, find_words
from tlcnn.report.words import name_cell, name_source, name_start, write_settings
from tlcnn.study.answers import Answer, LayersAnswer
from tlcnn.study.block import Block
from tlcnn.study.measures import (
    MeasureCurve,
    SourceMeasures,
    compare_with_costs,
    summarize_measures,
)
from tlcnn.text import count

READINGS = (
    *("measure", "title", "variant", "is_shown", "n", "unit", "value", "low", "high", "null"),
    *("ceiling", "n_seeds", "n_images", "over", "note", "digits"),
)


def make_layer_measures(
    frame: pd.DataFrame | None,
    blocks: Iterable[Block],
    layers: Sequence[tuple[LayersAnswer, LayerScores]],
) -> Iterator[tuple[LayersAnswer | None, LayerMeasures]]:
    """Yield what measures say of each source that was analysed, with the answer it stands beside.

    Args:
        frame: what `read_measures` returned; None for no measures.
        layers: the answers on layers, each with what a report shows of it.
    """
    for measured in summarize_measures(pd.DataFrame() if frame is None else frame, blocks):
        place = (id(measured.block), measured.source)
        pairs = [(a, costs) for a, costs in layers if (id(a.block), a.source) == place]
        answer, costs = pairs[0] if pairs else (None, None)
        yield answer, _make_measures(measured, answer, costs)


def _make_measures(
    measured: SourceMeasures, answer: LayersAnswer | None, costs: LayerScores | None
) -> LayerMeasures:
    block, shown = measured.block, _find_shown(measured.curves)
    gaps = {}
    if answer is not None:
        of_units = {unit.n: unit.gaps[answer.basis] for unit in answer.scores}
        gaps = {n: gap.value for n, gap in of_units.items() if gap}
    agreements = [
        (curve, compare_with_costs(curve.readings, gaps, find_words(curve.measure).side))
        for curve in shown
    ]
    depth = find_answer_depth(answer)
    leading = list({curve.measure: (curve, a) for curve, a in reversed(agreements)}.values())[::-1]
    units = {reading.n: reading.unit for curve in measured.curves for reading in curve.readings}
    sentences = [write_curve(*pair, answer) for pair in leading]
    if measured.n_others:
        cells = count(measured.n_others, "further cell")
        sentences.append(("Not shown", f"{cells} of this source with records of measures."))
    return LayerMeasures(
        block.dataset,
        block.model,
        name_start(measured.source),
        block.units or tuple(units[n] for n in sorted(units)),
        name_cell(measured.cell),
        pd.DataFrame(_list_readings(measured.curves, shown), columns=[*READINGS]),
        pd.DataFrame(
            [
                {
                    "measure": curve.measure,
                    "title": find_words(curve.measure).title,
                    "variant": curve.variant,
                    "tau": agreement.tau,
                    "n_units": agreement.n_units,
                    "depth": math.nan if agreement.depth is None else agreement.depth,
                    "standing": depth.judge(agreement.depth) if depth else "",
                }
                for curve, agreement in agreements
                if find_words(curve.measure).side
            ],
            columns=["measure", "title", "variant", "tau", "n_units", "depth", "standing"],
        ),
        costs,
        (depth.value, depth.low, depth.high) if depth else None,
        write_summary(leading, answer),
        tuple(sentences),
        write_settings(block.recipe),
        name_source(measured.source),
    )


def _find_shown(curves: Sequence[MeasureCurve]) -> list[MeasureCurve]:
    """Return the curves that figures show, the most important variant of a measure first."""
    by_measure: dict[str, dict[str, MeasureCurve]] = {}
    for curve in curves:
        by_measure.setdefault(curve.measure, {})[curve.variant] = curve
    return [
        variants[name]
        for measure, variants in by_measure.items()
        for name in choose_variants(
            measure, [n for n, c in variants.items() if _has_value(c)] or list(variants)
        )
    ]


def _has_value(curve: MeasureCurve) -> bool:
    return any(math.isfinite(reading.estimate.value) for reading in curve.readings)


def _list_readings(
    curves: Sequence[MeasureCurve], shown: Sequence[MeasureCurve]
) -> Iterator[dict[str, Any]]:
    for curve in curves:
        digits = count_digits([reading.estimate.value for reading in curve.readings])
        for reading in curve.readings:
            estimate = reading.estimate
            yield {
                "measure": curve.measure,
                "title": find_words(curve.measure).title,
                "variant": curve.variant,
                "is_shown": any(curve is shown_curve for shown_curve in shown),
                **{name: getattr(reading, name) for name in ("n", "unit", "null", "ceiling")},
                **{name: getattr(estimate, name) for name in ("value", "low", "high", "n_seeds")},
                **{name: getattr(reading, name) for name in ("n_images", "over", "note")},
                "digits": digits,
            }


def add_measures(
    finding: Finding,
    answer: Answer,
    measured: Iterable[tuple[LayersAnswer | None, LayerMeasures]],
) -> Finding:
    """Return a finding with what measures say beside its answer, where there are any."""
    texts = [part.summary for beside, part in measured if beside is answer]
    lines = [f"Measures of the networks themselves: {text}" for text in texts]
    return replace(finding, details=(*finding.details, *lines))
