"""Runs as tables: one row a run, or one row a cell with mean and deviation over seeds."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tlcnn.align import align_columns

CELL = ("dataset", "model", "init", "k", "j", "bn")
DEFAULT_METRICS = ("val/balanced_accuracy", "test/balanced_accuracy", "test/macro_auroc")


def make_run_table(runs: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS) -> pd.DataFrame:
    """Return one row a run, sorted by cell and seed.

    Args:
        runs: what `read_runs` returned.
        metrics: metric columns; one that no run has is left empty.
    """
    columns = [*CELL, "seed", *metrics, "epochs", "train_s", "state", "run_id"]
    table = runs.reindex(columns=columns)
    return table.sort_values([*CELL, "seed"], kind="stable", na_position="last", ignore_index=True)


def make_seed_table(runs: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS) -> pd.DataFrame:
    """Return one row a cell: n seeds, and `<metric>` with `<metric> sd` of the finished runs.

    A cell is runs that are equal but for the seed. Where two of them differ in something that is
    no column of the table (the recipe, the image size, the fold), `cell_id` tells them apart.

    The deviation is the sample's (n - 1), and NaN for one seed: one seed says nothing of noise.
    """
    columns = [*CELL, "cell_id", "seed", *metrics, "train_s"]
    done = runs[runs["state"] == "done"].reindex(columns=columns)
    grouped = done.groupby([*CELL, "cell_id"], dropna=False, sort=True)
    table = grouped.agg(n=("seed", "nunique")).reset_index()
    if not table.duplicated(list(CELL)).any():
        table = table.drop(columns="cell_id")  # it would tell nothing
    for metric in metrics:
        means, deviations = grouped[metric].mean(), grouped[metric].std(ddof=1)
        table[metric] = means.to_numpy()
        table[f"{metric} sd"] = deviations.to_numpy()
    table["train_s"] = grouped["train_s"].mean().to_numpy()
    return table


def format_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of texts: metrics to four digits, `mean ± sd` in one cell, no NaN."""
    texts = pd.DataFrame(index=table.index)
    for column in table.columns:
        if f"{column} sd" in table.columns:
            pairs = zip(table[column], table[f"{column} sd"], strict=True)
            texts[column] = [_format_pair(mean, sd) for mean, sd in pairs]
        elif not column.endswith(" sd"):
            texts[column] = [_format_cell(column, value) for value in table[column]]
    return texts


def _format_pair(mean: float, sd: float) -> str:
    if pd.isna(mean):
        return "-"
    return f"{mean:.4f}" if pd.isna(sd) else f"{mean:.4f} ± {sd:.4f}"


def _format_cell(column: str, value: Any) -> str:
    if pd.isna(value):
        return "-"
    if "/" in column:
        return f"{value:.4f}"
    if column == "train_s":
        return f"{value:.1f}"
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def render_text(table: pd.DataFrame) -> str:
    """Return a table for the terminal: text left, numbers right, without a box."""
    texts = format_table(table)
    numeric = {c for c in table.columns if pd.api.types.is_numeric_dtype(table[c])}
    rows = [list(texts.columns), *texts.to_numpy().tolist()]
    right = [i for i, name in enumerate(texts.columns) if name in numeric]
    return "\n".join(align_columns(rows, right))


def render_markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown; bars in the data cannot break a row."""
    texts = format_table(table)
    rows = [list(texts.columns), *texts.to_numpy().tolist()]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(texts.columns), *lines[1:]]) + "\n"


def render_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV, in full precision; no cell can start a spreadsheet formula."""
    safe = table.copy()
    for column in safe.columns[[not pd.api.types.is_numeric_dtype(t) for t in safe.dtypes]]:
        safe[column] = [_defuse(value) for value in safe[column]]
    return safe.to_csv(index=False)


def _defuse(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
