"""From runs to what a report says: cells, arms, comparisons, answers, grids, layer scores."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import pandas as pd

from tlcnn.errors import ConfigError, did_you_mean, list_names
from tlcnn.records.left_out import describe_left_out
from tlcnn.report.assumptions import ASSUMPTIONS, FOLDS
from tlcnn.report.cell_table import compute_deviation
from tlcnn.report.comparison_frame import tabulate_comparisons
from tlcnn.report.content import Content, Grid, LayerScores
from tlcnn.report.detectable import tabulate_detectable
from tlcnn.report.external import make_external
from tlcnn.report.held_out import tabulate_held_out
from tlcnn.report.layer_measures import add_measures, make_layer_measures
from tlcnn.report.layer_sentences import write_margin
from tlcnn.report.provenance import make_provenance
from tlcnn.report.remarks import (
    write_improving,
    write_notes,
    write_omissions,
    write_response,
    write_tuning,
)
from tlcnn.report.sentences import write_finding
from tlcnn.report.subgroups import Asked, choose_cells, tabulate_subgroups
from tlcnn.report.words import (
    name_cell,
    name_source,
    name_start,
    tell_apart,
    write_settings,
)
from tlcnn.statistics.arm import Arm
from tlcnn.statistics.metrics import is_lower_better
from tlcnn.study.answers import LayersAnswer, answer_questions
from tlcnn.study.arms import estimate_mean, load_arms
from tlcnn.study.block import Block, find_val_metric, make_blocks
from tlcnn.study.calibration import measure_calibration
from tlcnn.study.cells import Cell, Source, make_cells
from tlcnn.study.comparisons import compare_blocks, list_compared_sources
from tlcnn.study.held_out import find_hold_out
from tlcnn.study.layers import JUDGED, POINT, TREATMENTS
from tlcnn.study.runs import make_runs
from tlcnn.study.tune import check_tuned, tune_cells

PRIMARY = "test/balanced_accuracy"
METRICS = (PRIMARY, "test/macro_auroc", "test/accuracy", "test/nll")


def make_content(
    runs: pd.DataFrame,
    *,
    metric: str = PRIMARY,
    metrics: Sequence[str] = METRICS,
    margin: float | None = None,
    tuned: Sequence[str] = (),
    title: str = "Transfer learning study",
    measures: pd.DataFrame | None = None,
    tests: pd.DataFrame | None = None,
    asked: Asked | None = None,
) -> Content:
    """Return what a report on these runs says.

    Args:
        runs: what `read_runs` returned, in any state; the finished ones are compared.
        metric: the metric that cells are judged by, higher is better.
        metrics: further metrics of the table of cells.
        margin: the margin of equivalence and of the layers' verdicts, in units of the metric; by
            default 0.01 for equivalence, and what the test set resolves for the layers.
        tuned: settings of training of which each cell takes its best on validation.
        measures: what `read_measures` returned of the same folders; None for no measures.
        tests: what `read_tests` returned of the same folders; None for no tests.
        asked: the subgroups of test images to score; None for none.

    Raises:
        ConfigError: no finished run has the metric, or less of it is better; or a setting that
            cannot be tuned.
    """
    _check_metric(metric, runs)
    check_tuned(runs, tuned)
    val_metric = find_val_metric(metric)
    cells = {c.key: c for c in tune_cells(make_cells(make_runs(runs)), tuned, val_metric)}
    metrics = [name for name in dict.fromkeys([metric, *metrics]) if name in runs]
    scored_metrics = dict.fromkeys([*metrics, val_metric])
    arms = {key: load_arms(cell, [*scored_metrics]) for key, cell in cells.items()}
    candidates = {k: c for cell in cells.values() for k, c in cell.candidates.items()}
    arms |= {k: load_arms(c, [metric, val_metric]) for k, c in candidates.items() if k not in arms}
    blocks = make_blocks(cells, arms, metric)
    contrasts = compare_blocks(blocks, margin or POINT)
    answers = answer_questions(blocks, contrasts, margin)
    layers = [(a, _make_layers(a)) for a in answers if isinstance(a, LayersAnswer)]
    measured = list(make_layer_measures(measures, blocks, layers))
    table = _tabulate_cells(cells, arms, metrics)
    highlights = tuple(_list_highlights(blocks))
    vals = {key: block.mean_val(key) for block in blocks for key in block.cells}
    chosen = choose_cells(highlights, cells, vals)
    subgroups = tabulate_subgroups(chosen, asked or Asked(), metric, margin or POINT)
    return Content(
        title=title,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        metric=metric,
        metrics=tuple(metrics),
        runs=runs,
        left_out=(
            *describe_left_out(runs),
            *_list_left_out(cells, arms, metric),
            *subgroups.lines,
        ),
        cells=table,
        comparisons=tabulate_comparisons(contrasts),
        detectable=tabulate_detectable(contrasts),
        findings=tuple(
            add_measures(write_finding(answer, contrasts, blocks), answer, measured)
            for answer in answers
        ),
        grids=tuple(_make_grids(blocks)),
        layers=tuple(scores for _, scores in layers),
        measures=tuple(part for _, part in measured),
        highlights=highlights,
        external=make_external(tests, cells, arms, scored_metrics, metric, margin or POINT),
        calibration=_tabulate_calibration(cells[key] for _, _, key in highlights),
        held_out=tabulate_held_out(cells, arms, metric),
        subgroups=subgroups.frame,
        undivided=subgroups.lacking,
        provenance=make_provenance(runs, table),
        assumptions=(
            *ASSUMPTIONS,
            *([FOLDS] if any(cell.places for cell in cells.values()) else []),
        ),
    )


def _check_metric(metric: str, runs: pd.DataFrame) -> None:
    measured = [name for name in runs.columns if name.startswith("test/")]
    higher = [name for name in measured if not is_lower_better(name)]
    if measured and metric not in higher:
        why = "less of it is better" if metric in measured else "no finished run has it"
        raise ConfigError(
            f"a report cannot judge by {metric}: {why}.{did_you_mean(metric, higher)} There are: "
            f"{list_names(higher, 8)}"
        )


def _list_left_out(
    cells: Mapping[str, Cell], arms: Mapping[str, Mapping[str, Arm]], metric: str
) -> Iterator[str]:
    """Yield a line for each cell that is in no comparison, or of which runs are left out."""
    for key, cell in cells.items():
        name, omissions = f"{cell.dataset}: {name_cell(cell)}", write_omissions(cell.omissions)
        if metric not in arms[key]:
            why = omissions or f"no run has {metric}"
            yield f"cell in no comparison ({why}): {name}"
        elif omissions:
            yield f"{omissions}: {name}"


# ---- tables -------------------------------------------------------------------------------------

_PARTS = {"": "value", " low": "low", " high": "high"}  # of a column -> field of an estimate


def _tabulate_cells(
    cells: Mapping[str, Cell],
    arms: Mapping[str, Mapping[str, Arm]],
    metrics: Sequence[str],
) -> pd.DataFrame:
    names = ("dataset", "model", "init", "k", "j", "bn", "units", "n_epochs")
    columns: dict[str, list[Any]] = {
        "cell": list(cells),
        "label": [name_cell(cell) for cell in cells.values()],
        **{name: [getattr(cell, name) for cell in cells.values()] for name in names},
        "recipe": [write_settings(cell.recipe) for cell in cells.values()],
        "difference": tell_apart([*cells.values()]),
        "seeds": [list(cell.seeds) for cell in cells.values()],
        "n_seeds": [len(cell.seeds) for cell in cells.values()],
        "run_ids": [[run.run_id for run in cell.runs] for cell in cells.values()],
        "folders": [[[r.folder for r in fold] for fold in c.folds] for c in cells.values()],
        "missing": [write_omissions(cell.omissions) for cell in cells.values()],
        "source": [name_source(cell.source) for cell in cells.values()],
        "imported": [cell.source.is_imported for cell in cells.values()],
        "dataset_digest": [cell.image_digest for cell in cells.values()],
    }
    held_out = [find_hold_out(cell) for cell in cells.values()]
    if any(held_out):
        columns["held_out"] = [hold_out.words if hold_out else "" for hold_out in held_out]
    notes: dict[str, str] = {}
    for metric in metrics:
        scored = {key: arms[key][metric] for key in cells if metric in arms[key]}
        estimates = {key: estimate_mean([arm]) for key, arm in scored.items()}
        for part, name in _PARTS.items():
            columns[metric + part] = [
                getattr(estimates[key], name) if key in estimates else math.nan for key in cells
            ]
        columns[f"{metric} sd"] = [
            compute_deviation([*filter(None, [scored.get(key)])]) for key in cells
        ]
        notes = {key: write_notes(e.notes) for key, e in estimates.items()} | notes
    columns["note"] = [
        "; ".join(
            filter(
                None,
                [
                    notes.get(key),
                    write_response(cell),
                    write_improving(cell),
                    write_tuning(cell),
                ],
            )
        )
        for key, cell in cells.items()
    ]
    return pd.DataFrame(columns)


def _tabulate_calibration(cells: Iterable[Cell]) -> pd.DataFrame:
    rows = []
    for cell in cells:
        places = {"dataset": cell.dataset, "model": cell.model}
        names = {**places, "cell": cell.key, "label": name_cell(cell)}
        numbers = measure_calibration(cell)
        rows += [names | numbers] if numbers else []
    return pd.DataFrame(rows)


def _name_sources(block: Block) -> dict[Source, str]:
    """Return a name for each source of a block; no two are equal."""
    names: dict[Source, str] = {}
    for source in block.sources:
        name = name_start(source)
        n_equal = sum(name_start(earlier) == name for earlier in names)
        names[source] = f"{name} {n_equal + 1}" if n_equal else name
    return names


def _make_grids(blocks: Iterable[Block]) -> Iterator[Grid]:
    for block in blocks:
        names = _name_sources(block)
        for source in block.sources:
            cells, best = block.list_grid(source), block.find_best(source)
            if best is None:
                continue
            rows = []
            for cell in sorted(cells, key=lambda cell: (cell.k, cell.j)):
                score = estimate_mean([block.arms[cell.key]])
                row: dict[str, Any] = {"k": cell.k, "j": cell.j}
                row |= {"value": score.value, "low": score.low, "high": score.high}
                row |= {"n_seeds": score.n_seeds, "val": block.mean_val(cell.key)}
                rows.append({**row, "cell": cell.key, "label": name_cell(cell)})
            yield Grid(
                block.dataset,
                block.model,
                names[source],
                block.metric,
                block.units,
                pd.DataFrame(rows),
                best.cell,
                write_settings(block.recipe),
                name_source(source),
            )


def _make_layers(answer: LayersAnswer) -> LayerScores:
    block = answer.block
    curves = []
    for name, n in sorted(answer.arms, key=lambda place: (TREATMENTS.index(place[0]), place[1])):
        score = estimate_mean([answer.arms[name, n]])
        row = {"arm": name, "n": n, "value": score.value, "low": score.low, "high": score.high}
        curves.append({**row, "n_seeds": score.n_seeds})
    scores = []
    control = answer.control.scores if answer.control else [None] * len(answer.scores)
    for unit, matched in zip(answer.scores, control, strict=True):
        row = {"n": unit.n, "unit": unit.unit}
        of_control = matched.gaps["S"] if matched else None
        shown = {**unit.gaps, "gamma": unit.gamma, "S_control": of_control}
        for name, estimate in shown.items():
            for part in ("value", "low", "high"):
                column = name if part == "value" else f"{name}_{part}"
                row[column] = getattr(estimate, part) if estimate else math.nan
        p_values = {f"p_{name}": unit.p_values.get(name, math.nan) for name in JUDGED}
        row |= {"verdict": unit.verdict, **p_values, "margin": answer.margin}
        scores.append({**row, "image_ratio": answer.image_ratio, "note": write_notes(unit.notes)})
    return LayerScores(
        block.dataset,
        block.model,
        _name_sources(block)[answer.source],
        block.metric,
        tuple(unit.unit for unit in answer.scores),
        pd.DataFrame(curves),
        pd.DataFrame(scores),
        answer.margin,
        write_settings((*block.recipe, *(answer.own.settings if answer.own else ()))),
        name_source(answer.source),
        answer.basis,
        answer.image_ratio,
        write_margin(answer),
    )


def _list_highlights(blocks: Iterable[Block]) -> Iterator[tuple[str, str, str]]:
    """Name the cells that stand for a dataset: best, full fine-tuning, all frozen, random, ..."""
    seen = set()
    for block in blocks:
        roles = [("random", block.scratch)]
        for source in block.sources:
            name, full = name_source(source), block.find_deepest_trained(source)
            if source in list_compared_sources(block):
                best, role = block.find_best(source), "best on validation"
                if best is None:  # two cells are no choice, but the better one stands for them
                    best = block.choose(source, block.list_grid(source), full)
                    role = "better of two on validation"
                roles.append((f"{name}, {role}", best.cell if best else None))
            roles.append((name, full))
            frozen = block.find(source, block.n_units, block.n_units)
            roles.append((f"{name}, all frozen", frozen))
        for role, cell in roles:
            if cell and cell not in seen:
                seen.add(cell)
                yield block.dataset, role, cell
