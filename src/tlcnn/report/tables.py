"""Tables of runs: one row a run, or one row a cell with means and intervals.

runs -> Table (numbers) -> pivot -> render
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tlcnn.records.settings import CELL, check_columns, spread_settings
from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.metrics import is_lower_better
from tlcnn.study.cells import list_numbers

DEFAULT_METRICS = ("val/balanced_accuracy", "test/balanced_accuracy", "test/macro_auroc")
# Columns that stand beside a scored one, `<column> low`, and are part of its cell.
PARTS = ("low", "high", "sd", "n", "family", "family_size")


@dataclass(frozen=True)
class Table:
    """Numbers that are to be shown.

    Attributes:
        frame: plain columns, and scored ones, beside which `<column> low`, `<column> high`,
            `<column> sd` and `<column> n` may stand; beside differences also `<column> family`
            and `<column> family_size`, the comparisons that their p is adjusted with.
        scored: the scored columns.
        differences: those of them that are differences, shown with their sign.
        best: (row position, scored column) of the cells in bold.
        notes: sentences below the table.
    """

    frame: pd.DataFrame
    scored: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    best: frozenset[tuple[int, str]] = field(default_factory=frozenset)
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """The columns that are shown: parts stand in their scored column's cells."""
        parts = {f"{column} {part}" for column in self.scored for part in PARTS}
        return [column for column in self.frame.columns if column not in parts]


@dataclass(frozen=True)
class ScoredRow:
    """A row of a table of cells, with what it scored.

    Attributes:
        key: column -> value.
        arms: per metric, one arm a cell.
        estimates: per metric, of the mean over all runs of the row.
        n: seeds of its cell; of several cells, runs.
        n_folds: folds of its cell; 1 without folds.
        train_s: mean seconds of training.
        is_cell: whether it is one cell; others are not compared.
    """

    key: dict[str, Any]
    arms: dict[str, tuple[Arm, ...]]
    estimates: dict[str, Estimate]
    n: int
    n_folds: int
    train_s: float
    is_cell: bool


def make_run_table(runs: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS) -> Table:
    """Return one row a run, whatever its state, sorted by cell and seed.

    Args:
        runs: what `read_runs` returned.
        metrics: metric columns; one that no run has is left empty.
    """
    runs, varying = spread_settings(runs)
    imported = list_imported(runs)
    names = [*CELL, *varying, *imported, "seed"]
    columns = [*names, *metrics, "epochs", "train_s", "state", "run_id"]
    return Table(sort_rows(runs.reindex(columns=columns), names), scored=tuple(metrics))


def list_imported(runs: pd.DataFrame) -> list[str]:
    """Return `imported` as a further column where there are imported runs."""
    return ["imported"] if "imported" in runs and runs["imported"].eq(True).any() else []


def sort_rows(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return rows in the order of columns: numbers as numbers, then texts, nothing last."""
    keys = pd.DataFrame(
        {
            f"{i}{kind}": made
            for i, column in enumerate(columns)
            for kind, made in _make_keys(table[column]).items()
        }
    )
    order = keys.sort_values(list(keys.columns), kind="stable", na_position="last").index
    return table.loc[order].reset_index(drop=True)


def _make_keys(values: pd.Series) -> dict[str, pd.Series]:
    numbers = pd.Series(list_numbers(values), values.index, dtype=float)
    texts = values.map(str).where(numbers.isna() & values.notna(), "")
    return {"nothing": values.isna(), "number": numbers.fillna(float("inf")), "text": texts}


def sort_table(table: Table, columns: Sequence[str]) -> Table:
    """Return a table sorted by columns, a metric's best first.

    Raises:
        ConfigError: a column that the table has not got.
    """
    checked = check_columns(table.frame.assign(settings=None), columns, "--sort")
    keys = checked[list(columns)].copy()
    for column in columns:
        if column in table.scored and not is_lower_better(column):
            keys[column] = -pd.to_numeric(keys[column])
    keys["position"] = range(len(keys))
    order = sort_rows(keys, columns)["position"].tolist()
    best = frozenset((order.index(row), column) for row, column in table.best)
    frame = table.frame.iloc[order].reset_index(drop=True)
    return Table(frame, table.scored, table.differences, best, table.notes)


def find_best(frame: pd.DataFrame, metrics: Sequence[str]) -> frozenset[tuple[int, str]]:
    """Return (row position, metric) of the best of each dataset, where there are several rows."""
    best = set()
    frame = frame.reset_index(drop=True)
    blocks = frame.groupby("dataset", dropna=False) if "dataset" in frame else [("", frame)]
    for _, block in blocks:
        for metric in metrics:
            values = pd.to_numeric(block[metric]).dropna()
            if len(values) > 1 and values.nunique() > 1:
                top = values.min() if is_lower_better(metric) else values.max()
                best |= {(int(row), metric) for row in values.index[values == top]}
    return frozenset(best)
