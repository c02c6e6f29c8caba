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
from tlcnn.report.baseline import compare_rows, list_difference_columns
from tlcnn.report.cell_rows import Key, describe_averaged, group_cells, list_cells
from tlcnn.report.held_out import COUNTED, MEAN, list_held_out_means
from tlcnn.report.numbers import format_estimate, format_seconds
from tlcnn.report.remarks import write_note, write_omissions, write_tuning
from tlcnn.report.show import show_column
from tlcnn.report.table import Column, Entry, Table
from tlcnn.report.tables import DEFAULT_METRICS, join_columns
from tlcnn.report.words import name_cell
from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.estimate import make_unknown
from tlcnn.statistics.few_groups import RULE
from tlcnn.statistics.metrics import is_lower_better
from tlcnn.statistics.notes import NoteKind
from tlcnn.study.arms import estimate_mean, load_arms
from tlcnn.study.block import Block, find_val_metric, make_blocks
from tlcnn.study.cells import Cell, make_cells
from tlcnn.study.held_out import find_hold_out
from tlcnn.study.runs import IMAGES, Run, make_runs
from tlcnn.study.tune import check_tuned, tune_cells
from tlcnn.text import count

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
        n_seeds: of a mean over held-out values; 0 for other rows.
    """

    key: Key
    cells: tuple[Cell, ...]
    arms: Mapping[str, tuple[Arm, ...]]
    estimates: Mapping[str, Estimate]
    n_seeds: int = 0

    @property
    def n(self) -> int:
        """Seeds of its cell, or of a mean over held-out values; of other cells, runs."""
        if self.n_seeds:
            return self.n_seeds
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
    has_means: bool = True,
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
        has_means: add the means over held-out values as rows.

    Raises:
        ConfigError: columns, values or a baseline that are not there, or a setting that cannot
            be tuned.
    """
    check_tuned(runs, tuned)
    finished = runs[runs["state"] == "done"] if len(runs) else runs
    cells = tune_cells(make_cells(make_runs(finished)), tuned, find_val_metric(metrics[0]))
    whole_cells = {cell.key: cell for cell in cells}
    members, names = group_cells(finished, group) if group else list_cells(cells)
    notes = describe_averaged(members, names) if group else []
    if only_grids:
        n_outside = sum(not cell.is_in_grid for _, cells in members for cell in cells)
        members = [(key, tuple(c for c in cells if c.is_in_grid)) for key, cells in members]
        members = [(key, cells) for key, cells in members if cells]
        notes += [_OUTSIDE.format(count(n_outside, "cell"))] if n_outside else []
    options = {"redraws": interval == "full", "include_single_runs": bool(baseline)}
    # A bar on a terminal, once it takes long.
    watched = tqdm(members, unit="cell", leave=False, delay=2, disable=None)
    rows = [_score_row(key, cells, metrics, **options) for key, cells in watched]
    rows = (
        rows if group or not has_means else _add_held_out_means(rows, metrics, interval == "full")
    )
    columns = [show_column(n, [row.key.get(n) for row in rows], role="key") for n in names]
    columns.append(show_column("n", [row.n for row in rows]))
    if any(row.n_folds > 1 for row in rows):
        columns.append(show_column("folds", [row.n_folds for row in rows]))
    parts = ("sd",) if interval == "none" else ("low", "high")
    columns += [(Column(m, "number", role="score"), _show_scores(rows, m, parts)) for m in metrics]
    notes += _describe_rows(rows, () if interval == "none" else metrics)
    if any(row.n_seeds for row in rows):
        notes.append(MEAN if interval == "full" else COUNTED)
    if baseline:
        blocks = _make_blocks(whole_cells, rows, metrics)
        differences, remarks = _list_differences(rows, names, blocks, baseline, margin)
        columns += differences
        notes += remarks
    times = [pd.Series([run.train_s for run in row.runs]).mean() for row in rows]
    columns.append(show_column("train_s", times, format_seconds))
    is_held_out = any(find_hold_out(cell) for row in rows for cell in row.cells)
    best_of = "its dataset and held-out values" if is_held_out else "its dataset"
    return join_columns(columns, notes, best_of=best_of)


# ---- scores -------------------------------------------------------------------------------------


def _score_row(
    key: Key, cells: tuple[Cell, ...], metrics: Sequence[str], **options: bool
) -> CellRow:
    by_cell = [load_arms(cell, metrics, **options) for cell in cells]
    arms = {m: tuple(scored[m] for scored in by_cell if m in scored) for m in metrics}
    unknown = make_unknown(math.nan, 0)
    estimates = {m: estimate_mean(scored) if scored else unknown for m, scored in arms.items()}
    return CellRow(key, cells, arms, estimates)


def _add_held_out_means(
    rows: Sequence[CellRow], metrics: Sequence[str], has_interval: bool
) -> list[CellRow]:
    """Return the rows, and after those that differ in what they hold out alone, their mean."""
    by_key = {row.cells[0].key: row for row in rows}
    arms = {
        key: {metric: arms[0] for metric, arms in row.arms.items() if arms}
        for key, row in by_key.items()
    }
    cells = {key: row.cells[0] for key, row in by_key.items()}
    means: dict[str, list[CellRow]] = {}  # by the key of the cell in front
    for mean in list_held_out_means(cells, arms, metrics, interval=has_interval):
        last = max(mean.keys, key=[*by_key].index)
        first = by_key[mean.keys[0]].key
        shared = {
            name: value if all(by_key[key].key[name] == value for key in mean.keys) else None
            for name, value in first.items()
        }
        if first.get("init.run") != shared.get("init.run"):  # it tells two means apart
            shared["init.run"] = f"{first['init.run']}, …"
        row = CellRow(
            {**shared, HOLD_OUT: mean.tested},
            tuple(cells[key] for key in mean.keys),
            {metric: (mean.arms[metric],) if metric in mean.arms else () for metric in metrics},
            {metric: make_unknown(math.nan, 0) for metric in metrics} | {**mean.estimates},
            max(len(arm.seeds) for arm in mean.arms.values()),
        )
        means.setdefault(last, []).append(row)
    return [row for key in by_key for row in (by_key[key], *means.get(key, ()))]


def _list_differences(
    rows: Sequence[CellRow],
    names: Sequence[str],
    blocks: Mapping[str, Sequence[Block]],
    baseline: Sequence[str],
    margin: float,
) -> tuple[list[tuple[Column, list[Entry]]], list[str]]:
    """Return the columns of differences to the baseline, and notes; means are not compared."""
    places = [at for at, row in enumerate(rows) if not row.n_seeds]
    keys = pd.DataFrame([rows[at].key for at in places], columns=list(names))
    arms = [
        {m: arms[0] for m, arms in rows[at].arms.items() if arms and len(rows[at].cells) == 1}
        for at in places
    ]
    compared, notes = compare_rows(keys, arms, blocks, baseline, margin)
    columns = []
    for metric, results in compared.items():
        comparisons = {places[at]: result for at, result in results.items()}
        columns += list_difference_columns(comparisons, metric, len(rows))
    return columns, notes


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
    datasets = values.groupby([_make_image_key(row) for row in rows])
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


def _make_image_key(row: CellRow) -> str:
    """Return a key that rows share if they were tested on the same images."""
    names = {(c.dataset, c.settings.get(IMAGES), str(find_hold_out(c))) for c in row.cells}
    return str(sorted(map(str, names)))


def _describe_rows(rows: Sequence[CellRow], metrics: Sequence[str]) -> list[str]:
    """Return what is left out, and what the intervals leave out, with the number of rows."""
    lines = []
    lone = [row for row in rows if not row.n_seeds]
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
    for cell in (cell for row in lone for cell in row.cells if cell.omissions):
        lines.append(f"{write_omissions(cell.omissions)}: {cell.dataset}, {name_cell(cell)}")
    for cell in (cell for row in lone for cell in row.cells if cell.tuning or cell.searched):
        lines.append(f"{write_tuning(cell)}: {cell.dataset}, {name_cell(cell)}")
    positions: dict[str, set[int]] = {}
    for at, row in enumerate(rows):
        notes = ((metric, note) for metric in metrics for note in row.estimates[metric].notes)
        for metric, note in notes:
            if note.kind is not NoteKind.FOLDS or row.n_folds == 1:
                start = f"{metric}: " if note.kind is NoteKind.FEW_GROUPS else ""
                positions.setdefault(start + write_note(note), set()).add(at)
    for text, hits in positions.items():
        is_everywhere = len(hits) == len(rows)
        lines.append(text if is_everywhere else f"{text} ({len(hits)} of {len(rows)} rows)")
    is_decidable = (row.estimates[metric].is_decidable for row in rows for metric in metrics)
    return lines if all(is_decidable) else [*lines, RULE]
