"""The images of another dataset that a run is tested on, with their labels among its classes.

split -> classes that the run has -> images that it has not seen -> ExternalTest
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.data.dataset import Dataset
from tlcnn.data.splits import manifest_digest
from tlcnn.errors import ConfigError, DataError
from tlcnn.inference.class_map import match_classes
from tlcnn.inference.external_guard import choose_unseen, find_own_tests, find_seen_rows
from tlcnn.inference.image_list import ImageList, list_dataset
from tlcnn.memory import Memory
from tlcnn.model.weights import RUN_WEIGHTS
from tlcnn.records.external import ExternalRecord, find_test_dir, read_test
from tlcnn.records.files import read_digests
from tlcnn.records.open_run import OpenRun

ALL = "all"


@dataclass(frozen=True)
class ExternalTest:
    """A test of a run that may have been computed already.

    Attributes:
        record: what is known before the network is applied.
        images: the n images that are tested.
        table: n rows of `image_id`, `group` and `label`, a position in the classes of the record.
        targets: (n, K) of a multi-label task; None for others.
    """

    run: OpenRun
    record: ExternalRecord
    images: ImageList
    table: pd.DataFrame
    targets: np.ndarray | None

    @property
    def folder(self) -> Path:
        """The folder of its record."""
        return find_test_dir(self.run.folder, self.record)

    @property
    def is_done(self) -> bool:
        """Whether the record is there, whole and unchanged."""
        return is_recorded(self.folder)


def is_recorded(folder: Path) -> bool:
    """Return whether a test is recorded in a folder, whole and unchanged."""
    try:
        read_test(folder)
    except DataError:
        return False
    return True


def choose_rows(dataset: Dataset, split: str | None) -> tuple[np.ndarray, str, bool]:
    """Return the positions of a split's images, its name, and whether it is the dataset's own.

    Args:
        split: train, val, test or all; None: the dataset's own test split, or else all images.
    """
    official = dataset.index.table["split"].to_numpy()
    name = split or (ALL if not _is_official(dataset, official, "test") else "test")
    if name == ALL:
        return np.arange(len(dataset.index)), name, False
    return np.flatnonzero(dataset.splits == name), name, _is_official(dataset, official, name)


def _is_official(dataset: Dataset, official: np.ndarray, split: str) -> bool:
    is_own = official == split
    return bool(is_own.any() and (is_own == (dataset.splits == split)).all())


def make_external_test(
    run: OpenRun,
    dataset: Dataset,
    memory: Memory,
    *,
    split: str | None,
    classes: Mapping[str, str],
    leaks: str,
    words: Sequence[str],
) -> ExternalTest:
    """Return the test of a run: its images, and their labels among the classes of the run.

    Args:
        split, classes, leaks: as in `tlcnn.test`.
        words: how the dataset was asked for.

    Raises:
        ConfigError: classes or tasks that do not match.
        DataError: no image is left, or the run has seen some; see `choose_unseen`.
    """
    index, plan = dataset.index, run.record
    if (index.targets is not None) != (plan.task == "multi-label"):
        raise ConfigError(
            f"{run.folder.name} is {plan.task or 'multi-class'} and {index.name} is {index.task}: "
            "a multi-label run is tested on a multi-label dataset, and others on others"
        )
    class_map = match_classes(index.classes, run.classes, classes)
    rows, name, is_official = choose_rows(dataset, split)
    is_mapped = find_mapped(dataset, class_map)[rows]
    left_out = {"class": int((~is_mapped).sum())}
    rows = rows[is_mapped]
    if not len(rows):
        raise DataError(f"{index.name} has no image of split {name} with a class of the run")
    seen = find_seen_rows(run, dataset, rows, memory)
    ids = index.table["image_id"].to_numpy()[rows]
    is_tested = choose_unseen(
        seen,
        find_own_tests(run, dataset, rows),
        ids,
        leaks,
        run_name=run.folder.name,
        dataset_name=f"{index.name} ({name})",
    )
    left_out["seen"] = int((~is_tested).sum())
    rows = rows[is_tested]
    scored, table, targets = label_rows(dataset, rows, class_map, run.classes)
    digests = [dataset.digests[row] for row in rows]
    splits = np.full(len(rows), "test")
    record = ExternalRecord(
        runs=(plan.run_id,),
        weights=(read_digests(run.folder).get(RUN_WEIGHTS, ""),),
        dataset=index.name,
        split=name,
        is_official=is_official,
        images=manifest_digest(table, scored, splits, digests, targets),
        manifest=dataset.manifest,
        class_map=class_map,
        task=plan.task or "multi-class",
        n_per_class=dict.fromkeys(scored, 0),
        left_out=left_out,
        seen=seen.counts,
        unchecked=seen.unchecked,
        words=tuple(words),
    )
    return ExternalTest(run, record, list_dataset(dataset, None).pick(rows), table, targets)


def find_mapped(dataset: Dataset, class_map: Mapping[str, str]) -> np.ndarray:
    """Return which images of a dataset, (N,) bool, have no class that is left out."""
    index = dataset.index
    is_dropped = np.array([not class_map[name] for name in index.classes])
    if index.targets is not None:
        return np.asarray(~index.targets[:, is_dropped].any(axis=1))
    return np.asarray(~is_dropped[index.truth])


def label_rows(
    dataset: Dataset, rows: np.ndarray, class_map: Mapping[str, str], of_run: Sequence[str]
) -> tuple[tuple[str, ...], pd.DataFrame, np.ndarray | None]:
    """Return the classes that are scored, and the images with their labels among them.

    Findings of a multi-label run that the dataset does not tell are not scored: its images may
    have them.
    """
    index = dataset.index
    table = index.table.iloc[rows][["image_id", "group", "label"]].reset_index(drop=True)
    if index.targets is None:
        place = np.array(
            [of_run.index(class_map[n]) if class_map[n] else -1 for n in index.classes]
        )
        table["label"] = place[table["label"].to_numpy()]
        return tuple(of_run), table, None
    classes = tuple(name for name in of_run if name in class_map.values())
    columns = [
        index.targets[rows][:, [class_map[name] == target for name in index.classes]].any(axis=1)
        for target in classes
    ]
    return classes, table, np.stack(columns, axis=1).astype(np.uint8)
