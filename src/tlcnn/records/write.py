"""The tables of a run: predictions, splits, and what the runs before it have seen.

They are made durable when the run is finished, by `RunDir.write_done`; seen.parquet at once,
because the folders it was read from may go before.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.data.index import Index
from tlcnn.records.files import PREDICTIONS, SEEN, SPLITS
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
    content = _make_parquet(pd.concat(parts, ignore_index=True))
    write_atomic(run_dir / PREDICTIONS, content, durable=False)


def make_splits_file(index: Index, splits: np.ndarray, digests: Sequence[str]) -> bytes:
    """Return splits.parquet: dataset, image_id, label, group, split and digest of every image.

    With it a later run can tell whether it would be tested on what this one trained on.
    """
    table = index.table[["image_id", "label", "group"]].assign(split=splits, digest=digests)
    table.insert(0, "dataset", index.name)
    return _make_parquet(table)


def write_splits(run_dir: Path, content: bytes) -> None:
    """Write splits.parquet, as `make_splits_file` makes it."""
    write_atomic(run_dir / SPLITS, content, durable=False)


def write_seen(run_dir: Path, seen: pd.DataFrame) -> None:
    """Write seen.parquet: what the runs before this one have trained on, and which of them.

    With it a later run can be checked after their folders are gone.

    Args:
        seen: dataset, image_id, group, digest and run_id of every training image.
    """
    write_atomic(run_dir / SEEN, _make_parquet(seen))


def _make_parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
