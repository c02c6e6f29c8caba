"""Overlap of two sets of images: the same groups, ids, bytes, or pictures saved again.

Groups and ids mean something inside one dataset. An id of the ISIC archive is one photograph
wherever it is found; any other id that two datasets share only proposes a pair, as a small
distance of two fingerprints does, and the pixels decide.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.data.duplicates import (
    MAX_BITS,
    MAX_TURNED_BITS,
    N_TURNS,
    load_confirmations,
    load_fingerprints,
    propose_copies,
)
from tlcnn.data.index import Images

WAYS = ("id", "bytes", "picture", "group")  # how an image is shared, the surest first
_ISIC = re.compile(r"(?:^|/)(ISIC_\d{7})(?:_downsampled)?(?:\.\w+)?$", re.IGNORECASE)
_MAX_PAIRS = 200_000  # pairs whose pixels are compared; more would take hours


@dataclass(frozen=True)
class Part:
    """Some images of a dataset.

    Attributes:
        dataset: its name; groups and ids mean the same inside one name.
        table: n rows of `image_id`, `group` and `digest`.
        images: the dataset's N images, or None where they cannot be opened.
        rows: (n,) position of each row among them.
        digests: N content digests, the keys of remembered fingerprints.
    """

    dataset: str
    table: pd.DataFrame
    images: Images | None
    rows: np.ndarray
    digests: list[str]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def stems(self) -> list[str]:
        """The ids without folders and suffixes, in lower case."""
        return [Path(image_id).stem.lower() for image_id in self.table["image_id"]]

    def without(self, digests: set[str]) -> "Part":
        """Return the images whose content is not among these."""
        is_kept = ~self.table["digest"].isin(digests).to_numpy()
        table = self.table[is_kept].reset_index(drop=True)
        return Part(self.dataset, table, self.images, self.rows[is_kept], self.digests)


@dataclass(frozen=True)
class Overlap:
    """What two parts share.

    Attributes:
        groups: groups in both.
        ids: images of the first by their id.
        copies: images of the first by their bytes.
        near: pairs of ids that show one picture, confirmed by pixels, also squashed or cut to a
            square, mirrored or turned by quarters.
        n_unconfirmed: pairs that look alike by their fingerprints and whose pixels could not be
            compared.
    """

    groups: list[str]
    ids: list[str]
    copies: list[str]
    near: list[tuple[str, str]]
    n_unconfirmed: int

    def __bool__(self) -> bool:
        return bool(self.groups or self.ids or self.copies or self.near)


def find_overlap(first: Part, second: Part, cache_dir: Path) -> Overlap:
    """Find what two parts share; images are opened only to compare pixels.

    Raises:
        StorageError: the cache cannot be written.
    """
    same_name = first.dataset == second.dataset
    copies = first.table["digest"].isin(set(second.table["digest"]))
    isic_ids = set(second.table["image_id"].map(find_isic_id).dropna())
    ids = first.table["image_id"].map(find_isic_id).isin(isic_ids)
    if same_name:
        ids |= first.table["image_id"].isin(set(second.table["image_id"]))
    groups = set(first.table["group"]) & set(second.table["group"]) if same_name else set()
    is_shared = (copies | ids).to_numpy()
    pairs = _propose(first, second, cache_dir)
    pairs = pairs[~is_shared[pairs[:, 0]]]  # they are known already
    near: list[tuple[str, str]] = []
    n_unconfirmed = len(np.unique(pairs[:, :2], axis=0))
    if first.images is not None and second.images is not None and len(pairs) <= _MAX_PAIRS:
        placed = pairs.copy()
        placed[:, 0], placed[:, 1] = first.rows[pairs[:, 0]], second.rows[pairs[:, 1]]
        results = load_confirmations(
            first.images, second.images, placed, (first.digests, second.digests), cache_dir
        )
        ways: dict[tuple[int, int], list[bool | None]] = {}
        for (i, j, *_), is_same in zip(pairs.tolist(), results, strict=True):
            ways.setdefault((i, j), []).append(is_same)
        ids_of = [part.table["image_id"].map(str).tolist() for part in (first, second)]
        near = [
            (ids_of[0][i], ids_of[1][j]) for (i, j), answers in ways.items() if True in answers
        ]
        n_unconfirmed = sum(None in a and True not in a for a in ways.values())
    return Overlap(
        groups=sorted(groups),
        ids=first.table["image_id"][ids].tolist(),
        copies=first.table["image_id"][copies].tolist(),
        near=near,
        n_unconfirmed=n_unconfirmed,
    )


def name_ways(overlap: Overlap, table: pd.DataFrame) -> dict[str, str]:
    """Return the surest of `WAYS` in which each image of the first part is shared, by its id.

    Args:
        table: the first part's rows of `image_id` and `group`.
    """
    shared: dict[str, list[str]] = {
        "id": overlap.ids,
        "bytes": overlap.copies,
        "picture": [image_id for image_id, _ in overlap.near],
        "group": table.loc[table["group"].isin(overlap.groups), "image_id"].tolist(),
    }
    return {image_id: way for way in reversed(WAYS) for image_id in shared[way]}


def find_group_mates(is_shared: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return which images are of a group of which another image is shared, (n,) bool.

    Args:
        is_shared: (n,) bool; images that are shared themselves are no mates.

    Example:
        >>> find_group_mates(np.array([True, False, False]), np.array(["a", "a", "b"])).tolist()
        [False, True, False]
    """
    return np.isin(groups, np.unique(groups[is_shared])) & ~is_shared


def find_isic_id(image_id: str) -> str | None:
    """Return the id of the ISIC archive in an image's id.

    Example:
        >>> find_isic_id("nv/isic_0024306.jpg"), find_isic_id("0024306.jpg")
        ('ISIC_0024306', None)
    """
    match = _ISIC.search(image_id)
    return match[1].upper() if match else None


def _propose(first: Part, second: Part, cache_dir: Path) -> np.ndarray:
    """Return the pairs whose pixels are to be compared, as (M, 4) rows of `propose_copies`."""
    position = {stem: i for i, stem in enumerate(second.stems)}
    equal_stems = [
        (i, position[stem], 0, 0) for i, stem in enumerate(first.stems) if stem in position
    ]
    pairs = [np.array(equal_stems, dtype=np.int64).reshape(-1, 4)]
    if first.images is not None and second.images is not None:
        prints = [
            load_fingerprints(part.images, part.digests, cache_dir).take(part.rows)
            for part in (first, second)
            if part.images is not None
        ]
        pairs.append(propose_copies(prints[0], prints[1], range(1), MAX_BITS))
        pairs.append(propose_copies(prints[0], prints[1], range(1, N_TURNS), MAX_TURNED_BITS))
    return np.unique(np.concatenate(pairs), axis=0)
