"""Which images of a dataset a run, or a run before it, was trained on or chosen by.

A test on such images says nothing about new ones. Images are compared as for chains of runs
(`tlcnn.plan.ancestry`): by id, bytes, picture and group.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.data.dataset import Dataset
from tlcnn.data.duplicates import FINGERPRINT_VERSION
from tlcnn.data.overlap import Overlap, find_group_mates, find_overlap, name_ways
from tlcnn.errors import DataError, list_names
from tlcnn.memory import Memory
from tlcnn.plan.ancestry import (
    GUARD_VERSION,
    Ancestor,
    find_used_images,
    pick_part,
    read_ancestors,
)
from tlcnn.plan.plan import open_ancestor_images
from tlcnn.records.open_run import OpenRun
from tlcnn.storage import digest_of, remember
from tlcnn.text import count

log = logging.getLogger(__name__)

LEAKS = ("refuse", "leave_out", "accept")  # what can be done about images that were seen
_ROLES = {"train": "training", "val": "validation"}


@dataclass(frozen=True)
class SeenRows:
    """Images of a dataset that a run has used.

    Attributes:
        ways: (n,) how each of the images was used, such as `training by id`; empty for the others.
        unchecked: runs whose training images are not known.
        n_unconfirmed: images that look like used ones, whose pixels could not be compared.
    """

    ways: np.ndarray
    unchecked: tuple[str, ...] = ()
    n_unconfirmed: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The number of images by the way that they were used."""
        names, numbers = np.unique(self.ways[self.ways != ""], return_counts=True)
        return dict(zip(map(str, names), numbers.tolist(), strict=True))


def find_seen_rows(run: OpenRun, dataset: Dataset, rows: np.ndarray, memory: Memory) -> SeenRows:
    """Compare images of a dataset with those that a run and the runs before it have used.

    Images of a group of which one image was seen are seen as well. The validation images of the
    run itself count, too: they chose its epoch.

    Args:
        rows: (n,) positions of the images in the dataset.
    """
    table = dataset.index.table.iloc[rows]
    ways = pd.Series("", index=table["image_id"].to_numpy(), dtype=object)
    unchecked, n_unconfirmed = [], 0
    is_own_test = set(dataset.splits[rows]) == {"test"}
    for ancestor, split in _list_uses(run):
        if ancestor.record.manifest == dataset.manifest and is_own_test:
            continue  # one split of one dataset
        overlap = _compare(run, ancestor, split, dataset, rows, memory)
        if overlap is None:
            unchecked.append(ancestor.full_name)
            continue
        n_unconfirmed += overlap.n_unconfirmed
        for image_id, way in name_ways(overlap, table).items():
            if not ways[image_id]:
                ways[image_id] = f"{_ROLES[split]} by {way}"
        is_hit = ways.str.startswith(_ROLES[split]).to_numpy()
        is_mate = find_group_mates(is_hit, table["group"].to_numpy(dtype=str))
        ways[is_mate & (ways == "").to_numpy()] = f"{_ROLES[split]} by group"
    return SeenRows(ways.to_numpy(dtype=str), tuple(dict.fromkeys(unchecked)), n_unconfirmed)


def _list_uses(run: OpenRun) -> Iterator[tuple[Ancestor, str]]:
    """Yield the runs and splits that images are compared with: training images first."""
    ancestors = read_ancestors(run.folder)
    yield from ((ancestor, "train") for ancestor in ancestors)
    yield ancestors[0], "val"


def find_own_tests(run: OpenRun, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return which images of a dataset a run was tested on when it was trained, (n,) bool.

    They are recognised by id and bytes: the dataset may be split in another way now. Without a
    record of them, only the very dataset and split of the run are recognised.

    Args:
        rows: (n,) positions of the images in the dataset.
    """
    if dataset.manifest == run.record.manifest:
        return np.asarray(dataset.splits[rows] == "test")
    part = find_used_images(read_ancestors(run.folder)[0], lambda _: None, "test")
    if part is None:
        return np.zeros(len(rows), dtype=bool)
    known = set(zip(part.table["image_id"], part.table["digest"], strict=True))
    ids = dataset.index.table["image_id"].to_numpy()
    return np.array([(ids[row], dataset.digests[row]) in known for row in rows], dtype=bool)


def _compare(
    run: OpenRun,
    ancestor: Ancestor,
    split: str,
    dataset: Dataset,
    rows: np.ndarray,
    memory: Memory,
) -> Overlap | None:
    """Return what images share with those of a run; None where these are not known."""

    def open_images(used: Ancestor) -> Dataset | None:
        if used.folder != run.folder.absolute():
            return open_ancestor_images(used, run.cache_dir, memory)
        try:
            return run.dataset()
        except DataError as error:
            log.warning("pictures are not compared with those of %s: %s", used.full_name, error)
            return None

    part = find_used_images(
        replace(ancestor, folder=ancestor.folder.absolute()), open_images, split
    )
    if part is None:
        return None
    key: list[Any] = [GUARD_VERSION, FINGERPRINT_VERSION, dataset.index.name, dataset.manifest]
    key += [digest_of(rows.tolist()), part.dataset, ancestor.record.manifest, split]
    key += [part.images is not None]

    def compute() -> dict[str, Any]:
        return vars(find_overlap(pick_part(dataset, rows), part, run.cache_dir))

    return Overlap(**remember(run.cache_dir, "external-overlap", key, compute))


def choose_unseen(
    seen: SeenRows,
    own: np.ndarray,
    ids: np.ndarray,
    leaks: str,
    *,
    run_name: str,
    dataset_name: str,
) -> np.ndarray:
    """Return which of n images are tested, (n,) bool.

    Args:
        own: (n,) which images are of the run's own test set.
        ids: (n,) the ids of the images.
        leaks: one of `LEAKS`.

    Raises:
        DataError: images were seen, or it is not known, and neither is accepted; or images of
            the run's own test set are left.
    """
    is_seen = seen.ways != ""
    n_own, n_new = int((own & ~is_seen).sum()), int((~is_seen).sum())
    if n_own and (leaks == "leave_out" or not is_seen.any()):
        raise DataError(
            f"{n_own:,} of the {n_new:,} images of {dataset_name} that {run_name} has not seen "
            "are its own test set. Its scores there are in its summary (tlcnn compare); give "
            "other images"
        )
    if seen.n_unconfirmed:
        log.warning(
            "%s: %s, whose pixels cannot be compared, look like images that %s has used",
            *(dataset_name, count(seen.n_unconfirmed, "image"), run_name),
        )
    if leaks == "accept":
        return np.ones(len(ids), dtype=bool)
    if seen.unchecked:
        raise DataError(
            f"whether {list_names(seen.unchecked)} was trained on images of {dataset_name} cannot "
            f"be checked: neither its images nor a record of them is here. --root names the "
            f"images of {run_name}; --leaks accept tests unchecked, and the record says so"
        )
    if not is_seen.any() or (leaks == "leave_out" and not is_seen.all()):
        return ~is_seen
    kinds = "; ".join(
        f"{n:,} in {way} ({list_names(ids[seen.ways == way].tolist(), 3)})"
        for way, n in seen.counts.items()
    )
    is_advised = n_new and not n_own
    advice = f"--leaks leave_out tests on the other {n_new:,}; " if is_advised else ""
    raise DataError(
        f"{int(is_seen.sum()):,} of the {len(ids):,} images of {dataset_name} were used to train "
        f"{run_name}, or to choose its epoch: {kinds}. Their scores say nothing about new images. "
        f"{advice}--leaks accept tests on all, and the record says how many were seen"
    )
