"""One row a cell: means over its runs, with intervals, compared with a baseline.

runs -> rows (runs by cell) -> scored (arms, estimates) -> Table
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.report.baseline import add_comparisons
from tlcnn.report.rows import Row, Rows, make_rows
from tlcnn.report.scored import Scored, score_row
from tlcnn.report.tables import DEFAULT_METRICS, Table, find_best

INTERVALS = ("full", "seeds", "none")


def make_cell_table(
    runs: pd.DataFrame,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    group: Sequence[str] = (),
    interval: str = "full",
    baseline: Sequence[str] = (),
    margin: float = 0.01,
    watch: Callable[[Sequence[Row]], Iterable[Row]] = iter,
) -> Table:
    """Return one row a cell of the finished runs, with the best of each dataset marked.

    Args:
        runs: what `read_runs` returned.
        metrics: `val/...` or `test/...`.
        group: columns or settings that make a row instead; see `make_rows`.
        interval: `full` is over new seeds and new test groups and reads the predictions, `seeds`
            is over new seeds alone, `none` gives the standard deviation of seeds.
        baseline: conditions such as `init=random` for the cell that the others of its dataset and
            model are compared with.
        margin: differences smaller than this do not matter, in units of the metric.
        watch: passes rows on, e.g. to show how many are scored.

    Raises:
        ConfigError: columns, values or a baseline that are not there.
    """
    rows = make_rows(runs, group)
    options = {"read": interval == "full", "read_single": bool(baseline)}
    scored = [score_row(row, metrics, **options) for row in watch(rows.rows)]
    table = _make_table(rows, scored, metrics, interval)
    return add_comparisons(table, scored, metrics, baseline, margin) if baseline else table


def _make_table(
    rows: Rows, scored: Sequence[Scored], metrics: Sequence[str], interval: str
) -> Table:
    records = [_make_record(rows, one, metrics, interval) for one in scored]
    parts = {"none": ("sd",)}.get(interval, ("low", "high"))
    columns = [*rows.columns, "n", *(["folds"] if any(r.is_folded for r in rows.rows) else [])]
    columns += [name for m in metrics for name in (m, *(f"{m} {part}" for part in parts))]
    frame = pd.DataFrame(records, columns=[*columns, "train_s"])
    notes = [*rows.notes, *(_collect_notes(scored, metrics) if interval != "none" else [])]
    return Table(frame, scored=tuple(metrics), best=find_best(frame, metrics), notes=tuple(notes))


def _make_record(
    rows: Rows, scored: Scored, metrics: Sequence[str], interval: str
) -> dict[str, Any]:
    runs = scored.row.runs
    record = {column: scored.row.key[column] for column in rows.columns}
    record |= {"n": int(runs["seed"].nunique()) or len(runs)}
    record |= {"folds": len(scored.row.cells) if scored.row.is_folded else 1}
    if len(scored.row.cells) > 1 and not scored.row.is_folded:
        record["n"] = len(runs)
    for metric in metrics:
        one = scored.estimates[metric]
        values = np.concatenate([arm.scores for arm in scored.arms[metric]])
        value = float(values.mean()) if len(values) and interval == "none" else one.value
        deviation = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        record |= {metric: value, f"{metric} low": one.low, f"{metric} high": one.high}
        record |= {f"{metric} sd": deviation}
    times = pd.to_numeric(runs["train_s"]) if "train_s" in runs else pd.Series(dtype=float)
    return record | {"train_s": times.mean()}


def _collect_notes(scored: Sequence[Scored], metrics: Sequence[str]) -> list[str]:
    """Return what the intervals leave out, with the number of rows where not all."""
    places: dict[str, set[int]] = {}
    for position, one in enumerate(scored):
        for metric in metrics:
            for note in filter(None, one.estimates[metric].note.split("; ")):
                if not note.startswith("folds share"):  # said already
                    places.setdefault(note, set()).add(position)
    return [
        note if len(found) == len(scored) else f"{note} ({len(found)} of {len(scored)} rows)"
        for note, found in places.items()
    ]
