"""The table of cells that `tlcnn compare` shows: means over runs, with intervals.

runs -> cells -> rows (arms, estimates) -> Table
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from tlcnn.config.hold_out import KEY as HOLD_OUT
from tlcnn.errors import list_names
from tlcnn.records.settings import (
    CELL,
    list_held_out,
    list_naming,
    list_values,
    list_varying,
    write_value,
)
from tlcnn.report.baseline import compare_rows, list_difference_columns
from tlcnn.report.numbers import format_estimate, format_seconds
from tlcnn.report.remarks import write_note, write_omissions, write_tuning
from tlcnn.report.show import show_column
from tlcnn.report.table import Column, Entry, Table
from tlcnn.report.tables import DEFAULT_METRICS, join_columns, make_sort_key
from tlcnn.report.words import name_cell
from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.estimate import make_unknown
from tlcnn.statistics.metrics import is_lower_better
from tlcnn.statistics.notes import NoteKind
from tlcnn.study.arms import estimate_mean, load_arms
from tlcnn.study.block import Block, find_val_metric, make_blocks
from tlcnn.study.cells import FOLD, SEARCH, SPLIT_SEED, Cell, make_cells
from tlcnn.study.runs import IMAGES, Run, make_runs
from tlcnn.study.select import group_runs, name_value
from tlcnn.study.tune import check_tuned, tune_cells
from tlcnn.text import count

Key = Mapping[str, Any]  # column -> value

_OUTSIDE = (
    "not shown, because they belong to no grid: {} (imported predictions, frozen random units, "
    "another freeze.bn, or units that are not the first ones); --rows k --columns j shows them too"
)


@dataclass(frozen=True)
class CellRow:
    """The cells that a table shows as one row (one, or all of a group), and what they scored.

    Attributes:
        arms: the arm of each cell, by metric.
        estimates: the mean over all runs, by metric.
    """

    key: Key
    cells: tuple[Cell, ...]
    arms: Mapping[str, tuple[Arm, ...]]
    estimates: Mapping[str, Estimate]

    @property
    def n(self) -> int:
        """Seeds of its cell; of several cells, runs."""
        return len(self.cells[0].seeds) if len(self.cells) == 1 else len(self.runs)

    @property
    def n_folds(self) -> int:
        """Folds of its cell, of all repeats; 1 without folds, and for several cells."""
        return len(self.cells[0].folds) if len(self.cells) == 1 else 1

    @property
    def runs(self) -> list[Run]:
        """The runs of all its cells."""
        return [run for cell in self.cells for run in cell.runs]


def make_cell_table(
    runs: pd.DataFrame,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    group: Sequence[str] = (),
    only_grids: bool = False,
    interval: str = "full",
    baseline: Sequence[str] = (),
    margin: float = 0.01,
    tuned: Sequence[str] = (),
) -> Table:
    """Return one row a cell of the finished runs, with the best of each dataset marked.

    Args:
        group: columns or settings; each combination of their values is one row.
        only_grids: leave out cells that stand in no k x j grid (see `Cell.is_in_grid`).
        interval: `full` is over new seeds and new test groups and reads the predictions, `seeds`
            is over new seeds alone, `none` gives the standard deviation of seeds.
        baseline: conditions such as `init=random` for the cell that the others of its dataset and
            model are compared with.
        margin: absolute differences smaller than this are equivalence, in units of the metric.
        tuned: settings of training of which each cell takes its best on validation, by the first
            metric.

    Raises:
        ConfigError: columns, values or a baseline that are not there, or a setting that cannot
            be tuned.
    """
    check_tuned(runs, tuned)
    finished = runs[runs["state"] == "done"] if len(runs) else runs
    cells = tune_cells(make_cells(make_runs(finished)), tuned, find_val_metric(metrics[0]))
    whole_cells = {cell.key: cell for cell in cells}
    members, names = _group_cells(finished, group) if group else list_cells(cells)
    notes = _describe_averaged(members, names) if group else []
    if only_grids:
        n_outside = sum(not cell.is_in_grid for _, cells in members for cell in cells)
        members = [(key, tuple(c for c in cells if c.is_in_grid)) for key, cells in members]
        members = [(key, cells) for key, cells in members if cells]
        notes += [_OUTSIDE.format(count(n_outside, "cell"))] if n_outside else []
    options = {"redraws": interval == "full", "include_single_runs": bool(baseline)}
    # A bar on a terminal, once it takes long.
    watched = tqdm(members, unit="cell", leave=False, delay=2, disable=None)
    rows = [_score_row(key, cells, metrics, **options) for key, cells in watched]
    columns = [show_column(n, [row.key.get(n) for row in rows], role="key") for n in names]
    columns.append(show_column("n", [row.n for row in rows]))
    if any(row.n_folds > 1 for row in rows):
        columns.append(show_column("folds", [row.n_folds for row in rows]))
    parts = ("sd",) if interval == "none" else ("low", "high")
    columns += [(Column(m, "number", role="score"), _show_scores(rows, m, parts)) for m in metrics]
    notes += _describe_rows(rows, () if interval == "none" else metrics)
    if baseline:
        keys = pd.DataFrame([row.key for row in rows], columns=list(names))
        arms = [
            {m: scored[0] for m, scored in row.arms.items() if scored and len(row.cells) == 1}
            for row in rows
        ]
        blocks = _make_blocks(whole_cells, rows, metrics)
        compared, remarks = compare_rows(keys, arms, blocks, baseline, margin)
        for metric, comparisons in compared.items():
            columns += list_difference_columns(comparisons, metric, len(rows))
        notes += remarks
    times = [pd.Series([run.train_s for run in row.runs]).mean() for row in rows]
    columns.append(show_column("train_s", times, format_seconds))
    return join_columns(columns, notes)


# ---- which cells make a row ---------------------------------------------------------------------

Members = list[tuple[Key, tuple[Cell, ...]]]


def list_cells(cells: Sequence[Cell]) -> tuple[Members, list[str]]:
    """Return a row for each cell, and the columns that tell them apart.

    The columns are those of a cell, the settings that name some cell beside them, and those in
    which runs of one name differ, with nothing for a setting that differs inside a cell.
    """
    members = [(cell, run) for cell in cells for run in cell.runs]
    settings = [
        {k: v for k, v in run.settings.items() if k not in (FOLD, SPLIT_SEED) or not cell.places}
        for cell, run in members
    ]
    varying = [
        name
        for name in list_varying([run.name for _, run in members], settings)
        if len({name_value(cell.settings.get(name)) for cell in cells}) > 1
    ]
    named = [*list_naming(cell.settings for cell in cells), *varying, *list_held_out(settings)]
    varying = list(dict.fromkeys(named))
    shown = {key for cell in cells for key in cell.shown_settings}
    varying = [name for name in varying if name in shown]
    columns = [*CELL, *varying]
    columns += [SEARCH] if any(cell.searched for cell in cells) else []
    columns += ["imported"] if any(cell.source.is_imported for cell in cells) else []
    keys = [
        {
            **{name: getattr(cell, name) for name in CELL},
            **{name: write_value(cell.shown_settings.get(name)) for name in varying},
            SEARCH: cell.searched.search.study if cell.searched else None,
            "imported": cell.source.is_imported,
            "cell_id": cell.cell_id,
        }
        for cell in cells
    ]
    names = {tuple(name_value(key[name]) for name in columns) for key in keys}
    rows = _sort([(k, (c,)) for k, c in zip(keys, cells, strict=True)], [*columns, "cell_id"])
    columns += ["cell_id"] if len(names) < len(keys) else []
    return rows, columns


def _group_cells(runs: pd.DataFrame, group: Sequence[str]) -> tuple[Members, list[str]]:
    """Return a row for each combination of values of some columns, and those columns."""
    parts = group_runs(runs, group)
    rows: Members = [(key, make_cells(make_runs(part))) for key, part in parts]
    columns = list(dict.fromkeys(group))
    return _sort(rows, columns), columns


def _sort(rows: Members, columns: Sequence[str]) -> Members:
    return sorted(rows, key=lambda row: [make_sort_key(row[0].get(name)) for name in columns])


def _describe_averaged(rows: Members, group: Sequence[str]) -> list[str]:
    """Return a line on what differs between cells that share a row."""
    members = [(at, cell) for at, (_, cells) in enumerate(rows) for cell in cells]
    facts = [
        {**{name: getattr(cell, name) for name in CELL}, **cell.settings} for _, cell in members
    ]
    texts = []
    for name in list_varying([at for at, _ in members], facts):
        if name not in group:
            values = pd.Series([write_value(cell.get(name)) for cell in facts], dtype=object)
            texts.append(f"{name} ({list_values(values, 6)})")
    n_cells = max((len(cells) for _, cells in rows), default=0)
    if not texts and n_cells > 1:
        texts = [f"cells ({n_cells} in a row)"]
    return [f"averaged over different {'; '.join(texts)}"] if texts else []


# ---- scores -------------------------------------------------------------------------------------


def _score_row(
    key: Key, cells: tuple[Cell, ...], metrics: Sequence[str], **options: bool
) -> CellRow:
    by_cell = [load_arms(cell, metrics, **options) for cell in cells]
    arms = {m: tuple(scored[m] for scored in by_cell if m in scored) for m in metrics}
    unknown = make_unknown(math.nan, 0)
    estimates = {m: estimate_mean(scored) if scored else unknown for m, scored in arms.items()}
    return CellRow(key, cells, arms, estimates)


def _make_blocks(
    cells: Mapping[str, Cell], rows: Sequence[CellRow], metrics: Sequence[str]
) -> dict[str, list[Block]]:
    """Return the blocks of the rows that are a whole cell, by metric.

    There are none of a metric of which less is better, as no question is judged by it.
    """
    lone = [(row.cells[0].key, row) for row in rows if len(row.cells) == 1]
    whole = {key: row for key, row in lone if len(row.runs) == len(cells[key].runs)}
    candidates = {
        k: c for key in whole for k, c in cells[key].candidates.items() if k not in whole
    }
    blocks: dict[str, list[Block]] = {}
    for metric in metrics:
        val_metric = find_val_metric(metric)
        arms = {
            key: {
                **load_arms(cells[key], [val_metric], redraws=False),
                metric: row.arms[metric][0],
            }
            for key, row in whole.items()
            if row.arms[metric] and not is_lower_better(metric)
        }
        scored = {key: cells[key] for key in arms}
        if arms:
            arms |= {k: load_arms(c, [val_metric, metric]) for k, c in candidates.items()}
        blocks[metric] = make_blocks(scored, arms, metric)
    return blocks


def compute_deviation(arms: Sequence[Arm]) -> float:
    """Return the standard deviation of the scores of all runs; NaN for fewer than two."""
    scores = np.concatenate([arm.scores for arm in arms]) if arms else np.array([])
    return float(scores.std(ddof=1)) if len(scores) > 1 else math.nan


def _show_scores(rows: Sequence[CellRow], metric: str, parts: Sequence[str]) -> list[Entry]:
    """Return the entries of a metric, the best of each dataset marked."""
    values = pd.Series([row.estimates[metric].value for row in rows], dtype=float)
    images = ("dataset", IMAGES, HOLD_OUT)
    datasets = values.groupby([str([row.key.get(name) for name in images]) for row in rows])
    best = datasets.transform("min" if is_lower_better(metric) else "max")
    is_best = (values == best) & (datasets.transform("nunique") > 1)
    entries = []
    for row, is_marked in zip(rows, is_best, strict=True):
        estimate = row.estimates[metric]
        spread = {"low": estimate.low, "high": estimate.high}
        spread["sd"] = compute_deviation(row.arms[metric])
        shown: dict[str, Any] = {part: spread[part] for part in parts}
        text = format_estimate(estimate.value, **shown, digits=3 if "low" in shown else 4)
        entries.append(Entry(text, estimate.value, shown, is_best=bool(is_marked)))
    return entries


def _describe_rows(rows: Sequence[CellRow], metrics: Sequence[str]) -> list[str]:
    """Return what is left out, and what the intervals leave out, with the number of rows."""
    lines = []
    several = sorted({c.dataset for row in rows for c in row.cells if IMAGES in c.settings})
    if several:
        lines.append(
            f"{list_names(several)}: runs of this name have different images or splits "
            f"({IMAGES}); they are not compared with each other"
        )
    n_folded = sum(row.n_folds > 1 for row in rows)
    if n_folded:
        lines.append(
            f"{n_folded} of {len(rows)} rows are of folds: a seed is scored on the images of all "
            "folds together; the intervals are corrected for the training images that folds share "
            "(Nadeau and Bengio 2003; repeated folds: Bouckaert and Frank 2004)"
        )
    for cell in (cell for row in rows for cell in row.cells if cell.omissions):
        lines.append(f"{write_omissions(cell.omissions)}: {cell.dataset}, {name_cell(cell)}")
    for cell in (cell for row in rows for cell in row.cells if cell.tuning or cell.searched):
        lines.append(f"{write_tuning(cell)}: {cell.dataset}, {name_cell(cell)}")
    positions: dict[str, set[int]] = {}
    for at, row in enumerate(rows):
        for note in (note for metric in metrics for note in row.estimates[metric].notes):
            if note.kind is not NoteKind.FOLDS or row.n_folds == 1:
                positions.setdefault(write_note(note), set()).add(at)
    for text, hits in positions.items():
        is_everywhere = len(hits) == len(rows)
        lines.append(text if is_everywhere else f"{text} ({len(hits)} of {len(rows)} rows)")
    return lines
