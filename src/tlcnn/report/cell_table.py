"""One row a cell: means over its runs, with intervals, compared with a baseline.

runs -> cells -> ScoredRow (arms, estimates) -> Table
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.records.settings import CELL, list_values, list_varying, write_value
from tlcnn.report.baseline import add_comparisons
from tlcnn.report.sentences import write_note, write_omissions
from tlcnn.report.tables import DEFAULT_METRICS, ScoredRow, Table, find_best, sort_rows
from tlcnn.report.words import name_cell
from tlcnn.statistics.estimate import make_unknown
from tlcnn.statistics.notes import NoteKind
from tlcnn.study.arms import estimate_mean, load_arms
from tlcnn.study.cells import FOLD, Cell, make_cells, make_runs
from tlcnn.study.select import group_runs, name_value

INTERVALS = ("full", "seeds", "none")


@dataclass(frozen=True)
class TableRow:
    """The cells that a table shows as one row: one, or all that `--group` puts together.

    Attributes:
        key: column -> value.
    """

    key: dict[str, Any]
    cells: tuple[Cell, ...]


def make_cell_table(
    runs: pd.DataFrame,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    group: Sequence[str] = (),
    interval: str = "full",
    baseline: Sequence[str] = (),
    margin: float = 0.01,
    watch: Callable[[Sequence[TableRow]], Iterable[TableRow]] = iter,
) -> Table:
    """Return one row a cell of the finished runs, with the best of each dataset marked.

    Args:
        runs: what `read_runs` returned.
        metrics: `val/...` or `test/...`.
        group: columns or settings whose values make a row instead, whatever else differs.
        interval: `full` is over new seeds and new test groups and reads the predictions, `seeds`
            is over new seeds alone, `none` gives the standard deviation of seeds.
        baseline: conditions such as `init=random` for the cell that the others of its dataset and
            model are compared with.
        margin: differences smaller than this do not matter, in units of the metric.
        watch: passes rows on, e.g. to show how many are scored.

    Raises:
        ConfigError: columns, values or a baseline that are not there.
    """
    finished = runs[runs["state"] == "done"] if len(runs) else runs
    rows, columns = _group_rows(finished, group) if group else _make_rows(finished)
    notes = _describe_averaged(rows, columns) if group else []
    options = {"redraws": interval == "full", "lone": bool(baseline)}
    scored = [_score_row(row, metrics, **options) for row in watch(rows)]
    columns = [*columns, "n", *(["folds"] if any(row.n_folds > 1 for row in scored) else [])]
    parts = ("sd",) if interval == "none" else ("low", "high")
    columns += [name for m in metrics for name in (m, *(f"{m} {part}" for part in parts))]
    records = [_make_record(row, metrics) for row in scored]
    frame = pd.DataFrame(records, columns=[*columns, "train_s"])
    notes += _describe_rows(rows, scored, [] if interval == "none" else metrics)
    best = find_best(frame, metrics)
    table = Table(frame, scored=tuple(metrics), best=best, notes=tuple(notes))
    return add_comparisons(table, scored, metrics, baseline, margin) if baseline else table


# ---- which cells make a row ---------------------------------------------------------------------


def _make_rows(runs: pd.DataFrame) -> tuple[list[TableRow], list[str]]:
    """Return a row for each cell, and the columns that tell them apart.

    The columns are those of a cell and the settings in which runs of one name differ, with
    nothing for a setting that differs inside a cell.
    """
    cells = make_cells(make_runs(runs))
    members = [(cell, run) for cell in cells for run in cell.runs]
    settings = [
        {k: v for k, v in run.settings.items() if k != FOLD or not cell.fold_numbers}
        for cell, run in members
    ]
    varying = [
        name
        for name in list_varying([run.name for _, run in members], settings)
        if len({name_value(cell.settings.get(name)) for cell in cells}) > 1
    ]
    imported = ["imported"] if any(cell.source.is_imported for cell in cells) else []
    rows = [
        TableRow(
            {
                **{name: getattr(cell, name) for name in CELL},
                **{name: write_value(cell.settings.get(name)) for name in varying},
                "imported": cell.source.is_imported,
                "cell_id": cell.cell_id,
            },
            (cell,),
        )
        for cell in cells
    ]
    columns = [*CELL, *varying, *imported]
    names = {tuple(name_value(row.key[name]) for name in columns) for row in rows}
    shown = columns if len(names) == len(rows) else [*columns, "cell_id"]
    return _sort(rows, [*columns, "cell_id"]), shown


def _group_rows(runs: pd.DataFrame, group: Sequence[str]) -> tuple[list[TableRow], list[str]]:
    """Return a row for each combination of values of some columns, and those columns."""
    rows = [TableRow(key, make_cells(make_runs(part))) for key, part in group_runs(runs, group)]
    columns = list(dict.fromkeys(group))
    return _sort(rows, columns), columns


def _sort(rows: list[TableRow], columns: Sequence[str]) -> list[TableRow]:
    if not rows:
        return []
    frame = pd.DataFrame([row.key for row in rows]).assign(position=range(len(rows)))
    return [rows[at] for at in sort_rows(frame, columns)["position"]]


def _describe_averaged(rows: Sequence[TableRow], group: Sequence[str]) -> list[str]:
    """Return a line on what differs between cells that share a row."""
    facts = [
        [{**{name: getattr(cell, name) for name in CELL}, **cell.settings} for cell in row.cells]
        for row in rows
    ]
    cells = [cell for row in facts for cell in row]
    varying = list_varying([at for at, row in enumerate(facts) for _ in row], cells)
    averaged = [name for name in varying if name not in group]
    texts = []
    for name in averaged:
        values = pd.Series([write_value(cell.get(name)) for cell in cells], dtype=object)
        texts.append(f"{name} ({list_values(values, 6)})")
    if not texts and any(len(row) > 1 for row in facts):
        texts = [f"cells ({max(map(len, facts))} in a row)"]
    return [f"averaged over different {'; '.join(texts)}"] if texts else []


# ---- scores -------------------------------------------------------------------------------------


def _score_row(row: TableRow, metrics: Sequence[str], *, redraws: bool, lone: bool) -> ScoredRow:
    scored = [load_arms(cell, metrics, redraws=redraws, lone=lone) for cell in row.cells]
    arms = {metric: tuple(arms[metric] for arms in scored if metric in arms) for metric in metrics}
    estimates = {
        metric: estimate_mean(found, metric) if found else make_unknown(math.nan, 0)
        for metric, found in arms.items()
    }
    is_one = len(row.cells) == 1
    n_folds = len(row.cells[0].fold_numbers) if is_one else 1
    runs = [run for cell in row.cells for run in cell.runs]
    n = len(row.cells[0].seeds) if is_one else len(runs)
    times = [run.train_s for run in runs if run.train_s == run.train_s]
    train_s = float(np.mean(times)) if times else math.nan
    return ScoredRow(row.key, arms, estimates, n, max(n_folds, 1), train_s, is_one)


def _make_record(row: ScoredRow, metrics: Sequence[str]) -> dict[str, Any]:
    record = {**row.key, "n": row.n, "folds": row.n_folds, "train_s": row.train_s}
    for metric in metrics:
        estimate, arms = row.estimates[metric], row.arms[metric]
        scores = np.concatenate([arm.scores for arm in arms]) if arms else np.array([])
        deviation = float(scores.std(ddof=1)) if len(scores) > 1 else math.nan
        record |= {metric: estimate.value, f"{metric} sd": deviation}
        record |= {f"{metric} low": estimate.low, f"{metric} high": estimate.high}
    return record


def _describe_rows(
    rows: Sequence[TableRow], scored: Sequence[ScoredRow], metrics: Sequence[str]
) -> list[str]:
    """Return what is left out, and what the intervals leave out, with the number of rows."""
    lines = []
    for row in rows:
        for cell in row.cells:
            if cell.omissions:
                place = f"{cell.dataset}, {name_cell(cell)}"
                lines.append(f"{write_omissions(cell.omissions)}: {place}")
    n_folded = sum(row.n_folds > 1 for row in scored)
    if n_folded:
        lines.insert(
            0,
            f"{n_folded} of {len(scored)} rows are means over folds; their intervals are "
            "corrected for the training images that folds share (Nadeau and Bengio 2003)",
        )
    places: dict[str, set[int]] = {}
    for position, scores in enumerate(scored):
        for metric in metrics:
            for note in scores.estimates[metric].notes:
                if note.kind is not NoteKind.FOLDS or scores.n_folds == 1:
                    places.setdefault(write_note(note), set()).add(position)
    lines += [
        text
        if len(positions) == len(scored)
        else f"{text} ({len(positions)} of {len(scored)} rows)"
        for text, positions in places.items()
    ]
    return lines
