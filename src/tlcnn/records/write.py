"""The two large records of a run: per-image predictions and the weights."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from tlcnn.data.index import Index
from tlcnn.storage import write_atomic


def write_predictions(
    run_dir: Path,
    table: pd.DataFrame,
    rows: Mapping[str, np.ndarray],
    logits: Mapping[str, np.ndarray],
    classes: Sequence[str],
) -> None:
    """Write predictions.parquet: split, image_id, group, label and one logit column a class.

    Args:
        table: (N rows) the index.
        rows: per split, (n,) positions in `table`.
        logits: per split, (n, K) float32.
    """
    parts = []
    for split, positions in rows.items():
        part = table.iloc[positions][["image_id", "group", "label"]].reset_index(drop=True)
        part.insert(0, "split", split)
        columns = [f"logit/{name}" for name in classes]
        parts.append(pd.concat([part, pd.DataFrame(logits[split], columns=columns)], axis=1))
    buffer = io.BytesIO()
    pd.concat(parts, ignore_index=True).to_parquet(buffer, index=False)
    write_atomic(run_dir / "predictions.parquet", buffer.getvalue())


def write_splits(run_dir: Path, index: Index, splits: np.ndarray, digests: Sequence[str]) -> None:
    """Write splits.parquet: dataset, image_id, label, group, split and digest of every image.

    With it a later run can tell whether it would be tested on what this one trained on.
    """
    table = index.table[["image_id", "label", "group"]].assign(split=splits, digest=digests)
    table.insert(0, "dataset", index.name)
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomic(run_dir / "splits.parquet", buffer.getvalue())


def write_weights(run_dir: Path, model: nn.Module, record: dict[str, Any]) -> None:
    """Write weights.safetensors, whose metadata says what the weights are and from what data."""
    from safetensors.torch import save

    state = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    metadata = {"tlcnn": json.dumps(record, sort_keys=True)}
    write_atomic(run_dir / "weights.safetensors", save(state, metadata))
