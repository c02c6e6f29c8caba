"""What is published about the twelve 2-D MedMNIST datasets: one table, shipped with the code.

Website: https://medmnist.com
Publication: Yang et al., MedMNIST v2, Scientific Data 2023; files of MedMNIST+ (Zenodo 10519652).
Licence: of each dataset, in the table.
"""

import json
from pathlib import Path
from typing import Any

SIZES = (28, 64, 128, 224)  # pixels a side

_TABLE = Path(__file__).with_suffix(".json")


def load_medmnist_info() -> dict[str, dict[str, Any]]:
    """Return the facts of each flag, such as `breastmnist`.

    Each has: task (binary, multi-class, ordinal or multi-label), classes (official names in the
    order of the labels), positive (the class that sensitivity is about, or None), n_channels,
    n_samples (of train, val and test), license, and files: size in pixels as text ->
    {"file", "url", "md5"}.

    Example:
        >>> load_medmnist_info()["breastmnist"]["files"]["64"]["file"]
        'breastmnist_64.npz'
    """
    table: dict[str, dict[str, Any]] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table
