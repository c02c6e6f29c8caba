"""The tables of a run: predictions and splits."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.data.index import Index
from tlcnn.records.files import PREDICTIONS
from tlcnn.storage import write_atomic


def write_predictions(
    run_dir: Path,
    table: pd.DataFrame,
    rows: Mapping[str, np.ndarray],
    logits: Mapping[str, np.ndarray],
    classes: Sequence[str],
    targets: np.ndarray | None = None,
) -> None:
    """Write predictions.parquet: split, image_id, group, label and `logit/CLASS` columns.

    A multi-label task has `target/CLASS` columns as well; its label only says how it was split.

    Args:
        table: (N rows) the index.
        rows: per split, (n,) positions in `table`.
        logits: per split, (n, K) float32.
        targets: (N, K) uint8 of a multi-label task.
    """
    parts = []
    for split, positions in rows.items():
        part = table.iloc[positions][["image_id", "group", "label"]].reset_index(drop=True)
        part.insert(0, "split", split)
        scores = {"logit": logits[split]}
        if targets is not None:
            scores["target"] = targets[positions]
        for kind, values in scores.items():
            columns = [f"{kind}/{name}" for name in classes]
            part = pd.concat([part, pd.DataFrame(values, columns=columns)], axis=1)
        parts.append(part)
    content = make_parquet(pd.concat(parts, ignore_index=True))
    write_atomic(run_dir / PREDICTIONS, content, durable=False)


def make_splits_file(index: Index, splits: np.ndarray, digests: Sequence[str]) -> bytes:
    """Return splits.parquet: dataset, image_id, label, group, split and digest of every image.

    With it a later run can tell whether it would be tested on what this one trained on.
    """
    table = index.table[["image_id", "label", "group"]].assign(split=splits, digest=digests)
    table.insert(0, "dataset", index.name)
    return make_parquet(table)


def make_parquet(table: pd.DataFrame) -> bytes:
    """Return a table as the content of a parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
