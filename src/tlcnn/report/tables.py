"""Runs as tables: one row a run, or one row a cell with mean and deviation over seeds."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tlcnn.align import align_columns

CELL = ("dataset", "model", "init", "k", "j", "bn")
# Settings that the columns of a cell tell already, or that are only places.
_TOLD = {
    *("dataset.name", "dataset.root", "model.name", "init.source", "init.through"),
    *("freeze.through", "freeze.bn", "freeze.allow_random", "init.allow_unchecked"),
}
DEFAULT_METRICS = ("val/balanced_accuracy", "test/balanced_accuracy", "test/macro_auroc")


def make_run_table(runs: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS) -> pd.DataFrame:
    """Return one row a run, sorted by cell and seed.

    Args:
        runs: what `read_runs` returned.
        metrics: metric columns; one that no run has is left empty.
    """
    runs, varying = _spread_settings(runs)
    columns = [*CELL, *varying, "seed", *metrics, "epochs", "train_s", "state", "run_id"]
    table = runs.reindex(columns=columns)
    return table.sort_values(
        [*CELL, *varying, "seed"], kind="stable", na_position="last", ignore_index=True
    )


def make_seed_table(runs: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS) -> pd.DataFrame:
    """Return one row a cell: n seeds, and `<metric>` with `<metric> sd` of the finished runs.

    A cell is runs that are equal but for the seed. Settings in which cells of one name differ
    (the recipe, the image size, the fold) become columns; `cell_id` tells apart what is left.

    The deviation is the sample's (n - 1), and NaN for one seed: one seed says nothing of noise.
    """
    runs, varying = _spread_settings(runs[runs["state"] == "done"])
    done = runs.reindex(columns=[*CELL, *varying, "cell_id", "seed", *metrics, "train_s"])
    grouped = done.groupby([*CELL, *varying, "cell_id"], dropna=False, sort=True)
    table = grouped.agg(n=("seed", "nunique")).reset_index()
    if not table.duplicated([*CELL, *varying]).any():
        table = table.drop(columns="cell_id")  # it would tell nothing
    for metric in metrics:
        means, deviations = grouped[metric].mean(), grouped[metric].std(ddof=1)
        table[metric] = means.to_numpy()
        table[f"{metric} sd"] = deviations.to_numpy()
    table["train_s"] = grouped["train_s"].mean().to_numpy()
    return table


def _spread_settings(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Make columns of the settings in which runs of one cell's name differ, and list them."""
    if "settings" not in runs or runs.empty:
        return runs, []
    kept = [s if isinstance(s, dict) else {} for s in runs["settings"]]
    settings = pd.DataFrame(kept, index=runs.index).map(_plain)
    names = [runs[column].astype(str) for column in CELL]
    varying = [
        key
        for key in settings.columns
        if key not in _TOLD and (settings[key].groupby(names).nunique(dropna=False) > 1).any()
    ]
    return runs.join(settings[varying]), varying


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, (list, dict)) else value


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
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:g}"
    return str(value)


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
