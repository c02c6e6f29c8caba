"""Says before any training that a test set has too few groups of a class for a verdict."""

import numpy as np

from tlcnn.config.schema import DatasetCfg
from tlcnn.data.index import Index
from tlcnn.statistics.few_groups import (
    LEAST_GROUPS,
    REMEDY,
    find_few_groups,
    list_few_groups,
)
from tlcnn.statistics.metrics import make_score
from tlcnn.statistics.predictions import Predictions
from tlcnn.statistics.resample import make_sample

_METRICS = {"balanced accuracy": "test/balanced_accuracy", "macro AUROC": "test/macro_auroc"}


def describe_few_groups(index: Index, splits: np.ndarray, data: DatasetCfg) -> str:
    """Return by which metrics no verdict is possible on the test split, and why; empty for none.

    Args:
        splits: (N,) the split of each image; not those of a fold, whose images are tested together
            with those of the others.
        data: how the dataset was split.
    """
    test, classes = index.table[splits == "test"], index.classes
    if test.empty or index.task == "multi-label":
        return ""
    labels = test["label"].to_numpy()
    sample = make_sample(test["group"].to_numpy(), labels, test["image_id"].to_numpy())
    sizes = np.bincount(sample.strata, minlength=len(classes))
    member = np.searchsorted(sample.groups, test["group"].astype(str))
    guesses = np.full((len(labels), len(classes)), 1 / len(classes))
    predictions = Predictions(guesses, labels, member, len(sample.groups))
    is_few, metrics = np.zeros(len(classes), dtype=bool), []
    for name, metric in _METRICS.items():
        reach = make_score(metric, predictions, tuple(classes)).reach
        if reach is None:
            continue
        is_few_here = find_few_groups(reach, sizes)
        is_few |= is_few_here
        metrics += [name] if is_few_here.any() else []
    if not metrics:
        return ""
    return (
        f"no verdict by {' or '.join(metrics)}: fewer than {LEAST_GROUPS} test groups of "
        f"{list_few_groups(is_few, sizes, classes)}: {REMEDY}{_name_keys(index, data)}"
    )


def _name_keys(index: Index, data: DatasetCfg) -> str:
    """Return the keys that give more test groups; empty where they do not decide the split."""
    is_official = data.split == "official" or (
        data.split == "auto" and bool((index.table["split"] != "").any())
    )
    if data.hold_out is not None or is_official:
        return ""
    return ", as of a larger dataset.test_fraction or of dataset.folds"
