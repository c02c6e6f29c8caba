"""Which cells and runs a figure shows, when it cannot show all."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd

from tlcnn.records.summary import read_history
from tlcnn.report.content import Content
from tlcnn.report.words import name_dataset
from tlcnn.text import count

MOST = 8  # cells of a dataset in one figure
MAIN_CELLS = (
    f"Shown are at most {MOST} cells of a dataset: random weights, of each source the best on "
    "validation, full fine-tuning and all units frozen, then others that transfer all units, "
    "those with the fewest frozen ones first."
)
_MAX_NAMES = 4  # cells that a sentence names one by one


def list_datasets(content: Content) -> list[str]:
    """Return the datasets of a report's cells, in their order."""
    return list(dict.fromkeys(content.cells["dataset"])) if len(content.cells) else []


def find_highlights(content: Content, dataset: str) -> pd.DataFrame:
    """Return the highlighted cells of a dataset, rows of `Content.cells` with a `role` each.

    A cell with several roles is one row, its roles joined.
    """
    roles: dict[str, list[str]] = {}
    for name, role, cell in content.highlights:
        if name == dataset:
            roles.setdefault(cell, []).append(role)
    cells = content.cells.drop_duplicates("cell").set_index("cell", drop=False)
    highlights = name_apart(cells.loc[[cell for cell in roles if cell in cells.index]])
    return highlights.assign(role=[", ".join(roles[str(cell)]) for cell in highlights["cell"]])


def describe_hidden(content: Content, dataset: str, shown: Collection[str]) -> str:
    """Return which cells of a dataset a figure does not show, as a sentence; empty for none.

    Args:
        shown: the keys of the cells that it shows.
    """
    cells = content.cells[content.cells["dataset"] == dataset].drop_duplicates("cell")
    labels = name_apart(cells)["label"][~cells["cell"].isin(list(shown))]
    names = "; ".join(labels) if len(labels) <= _MAX_NAMES else count(len(labels), "cell")
    return f" Not shown of {name_dataset(dataset)}: {names}." if len(labels) else ""


def choose_cells(content: Content, dataset: str, limit: int = MOST) -> pd.DataFrame:
    """Return the cells of a dataset that its questions are about, in a fixed order.

    Highlights come first, then cells with all units transferred and none frozen, then those with
    more and more frozen units. The order of the result is that of source, k and j.
    """
    cells = content.cells[content.cells["dataset"] == dataset].drop_duplicates("cell")
    highlights = set(find_highlights(content, dataset)["cell"])
    deepest = cells["k"] == cells.groupby("model")["k"].transform("max")
    rank = pd.Series(3, index=cells.index)
    rank[deepest & (cells["j"] > 0)] = 2
    rank[(cells["j"] == 0) & (deepest | (cells["k"] == 0))] = 1
    rank[cells["cell"].isin(highlights)] = 0
    rank[(cells["init"] == "self") | (cells["j"] > cells["k"])] += 10
    chosen = rank[rank < 3].sort_values(kind="stable").index[:limit]
    return sort_cells(name_apart(cells.loc[chosen]))


def name_apart(cells: pd.DataFrame) -> pd.DataFrame:
    """Return cells with labels that name the model and the settings in which twins differ."""
    labels = cells["label"].astype(str)
    if cells["model"].nunique() > 1:
        labels = cells["model"].astype(str) + ": " + labels
    twins = labels.duplicated(keep=False)
    if "difference" in cells and twins.any():
        difference = cells["difference"].fillna("").astype(str)
        labels = labels.where(~twins | (difference == ""), labels + " (" + difference + ")")
    return cells.assign(label=labels)


def sort_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Return cells in the order of model, source, k and j; random ones first."""
    order = cells.assign(_first=cells["init"] != "random")
    by = ["_first", "model", "init", "k", "j"]
    return order.sort_values(by, kind="stable").drop(columns="_first")


def list_runs(content: Content, cell: pd.Series) -> pd.DataFrame:
    """Return the finished runs of a cell, rows of `Content.runs` by seed."""
    runs = content.runs
    in_cell = runs["run_id"].isin(list(cell["run_ids"])) & (runs["state"] == "done")
    return runs[in_cell].drop_duplicates("run_id").sort_values("seed", kind="stable")


def list_histories(content: Content) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each dataset with the epochs of its main cells, where any are recorded.

    Yields:
        A dataset and the records of metrics.jsonl of all runs of these cells: cell, label, j, seed
        and the records' columns: epoch, step, val/..., train/...
    """
    for dataset in list_datasets(content):
        rows = []
        for _, cell in choose_cells(content, dataset).iterrows():
            names = {key: cell[key] for key in ("cell", "label", "j")}
            for _, run in list_runs(content, cell).iterrows():
                epochs = read_history(Path(str(run["folder"])))
                rows += [{**epoch.values, **names, "seed": run["seed"]} for epoch in epochs]
        if rows:
            yield dataset, pd.DataFrame(rows)


def find_val_metric(metric: str, history: pd.DataFrame) -> str:
    """Return the report's metric on validation if epochs have it, else balanced accuracy."""
    val_metric = f"val/{metric.split('/', 1)[-1]}"
    return val_metric if val_metric in history else "val/balanced_accuracy"
