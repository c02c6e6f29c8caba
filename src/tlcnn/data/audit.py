"""The audit of a dataset and its split: images that are there twice, and whether a split leaks.

groups in several splits | equal bytes | fingerprints propose, pixels confirm -> Audit
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.data.duplicates import (
    MAX_BITS,
    NO_FINGERPRINT,
    confirm_pairs,
    find_near,
    load_fingerprints,
)
from tlcnn.data.index import SPLITS, Index
from tlcnn.data.overlap import Overlap
from tlcnn.data.splits import compute_split_counts, find_shared_groups

MAX_LOOKS = 100_000  # pairs whose pixels are compared; a thousand take about three seconds


@dataclass(frozen=True)
class Pair:
    """Two images that show the same picture.

    Attributes:
        first, second: image ids.
        kind: "bytes" (equal files) or "picture" (the same picture, saved again).
        splits, groups, labels: those of the two images.
    """

    first: str
    second: str
    kind: str
    splits: tuple[str, str]
    groups: tuple[str, str]
    labels: tuple[str, str]

    @property
    def is_across(self) -> bool:
        """Whether the two are in different splits."""
        return self.splits[0] != self.splits[1]

    @property
    def is_one_group(self) -> bool:
        """Whether the two are in one group."""
        return self.groups[0] == self.groups[1]

    @property
    def is_contradictory(self) -> bool:
        """Whether the two have different labels."""
        return self.labels[0] != self.labels[1]


@dataclass(frozen=True)
class Audit:
    """What was found in a dataset and its split.

    Attributes:
        n_images, n_groups: per split.
        n_per_class: per split and class.
        shared_groups: group -> the splits that it is in, of groups in more than one.
        pairs: images that are there twice; of many equal files, each with one of each split.
        n_looked: pairs whose pixels were compared.
        max_bits: the distance of fingerprints up to which they were.
        n_unprinted: images without a fingerprint: blank or broken, compared by bytes only.
        notes: the notes of the dataset's reader.
        against: the overlap of the test images with other datasets' training images, by name.
        seconds: the time that the audit took.
    """

    name: str
    n_images: dict[str, int]
    n_groups: dict[str, int]
    n_per_class: dict[str, dict[str, int]]
    shared_groups: dict[str, tuple[str, ...]]
    pairs: tuple[Pair, ...]
    n_looked: int
    max_bits: int
    n_unprinted: int
    notes: tuple[str, ...]
    against: dict[str, Overlap]
    seconds: float = 0.0

    @property
    def leaks(self) -> tuple[Pair, ...]:
        """Pairs in different splits and different groups."""
        return tuple(pair for pair in self.pairs if pair.is_across and not pair.is_one_group)

    @property
    def is_leaking(self) -> bool:
        """Whether test scores count pictures that training has seen."""
        return bool(self.shared_groups or self.leaks or any(self.against.values()))

    def record(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {"is_leaking": self.is_leaking, "n_leaks": len(self.leaks), **asdict(self)}

    def make_pair_table(self) -> pd.DataFrame:
        """Return one row a pair, those that leak first."""
        rows = []
        for pair in sorted(self.pairs, key=lambda pair: (pair not in self.leaks, pair.first)):
            row: dict[str, Any] = {"leaks": pair in self.leaks, "kind": pair.kind}
            row["first_image"], row["second_image"] = pair.first, pair.second
            row["first_split"], row["second_split"] = pair.splits
            row["first_group"], row["second_group"] = pair.groups
            row["first_label"], row["second_label"] = pair.labels
            rows.append(row)
        return pd.DataFrame(rows)


def compute_audit(
    index: Index,
    splits: np.ndarray,
    digests: Sequence[str],
    cache_dir: Path,
    against: Mapping[str, Callable[[], Overlap]],
) -> Audit:
    """Audit a dataset and its split.

    Args:
        splits: (N,) train, val or test.
        digests: (N,) content digests.
        cache_dir: fingerprints are remembered there.
        against: functions that compare the test images with another dataset, by its name.

    Raises:
        StorageError: the cache cannot be written.
    """
    fingerprints = load_fingerprints(index.images, digests, cache_dir)
    # Further copies in a split are found by their bytes, so one of them is compared by pixels.
    places = [f"{split}/{digest}" for split, digest in zip(splits, digests, strict=True)]
    rows = np.sort(np.unique(places, return_index=True)[1])
    candidates, max_bits = _propose_pairs(fingerprints[rows])
    candidates = rows[candidates]
    contents = np.asarray(digests)
    differing = candidates[contents[candidates[:, 0]] != contents[candidates[:, 1]]]
    pairs = [(i, j, "bytes") for i, j in _find_equal(digests, splits)]
    results = confirm_pairs(index.images, index.images, differing)
    for (i, j), is_same in zip(differing.tolist(), results, strict=True):
        if is_same:
            pairs.append((i, j, "picture"))
    ids, groups = index.table["image_id"].to_numpy(), index.table["group"].to_numpy()
    memberships, names = index.memberships, np.array(index.strata, dtype=object)

    def make_pair(i: int, j: int, kind: str) -> Pair:
        labels = ["+".join(names[memberships[row] > 0]) for row in (i, j)]
        return Pair(
            first=str(ids[i]),
            second=str(ids[j]),
            kind=kind,
            splits=(str(splits[i]), str(splits[j])),
            groups=(str(groups[i]), str(groups[j])),
            labels=(labels[0], labels[1]),
        )

    counts = compute_split_counts(memberships, splits, index.strata)
    return Audit(
        name=index.name,
        n_images={split: int((splits == split).sum()) for split in SPLITS},
        n_groups={split: len(set(groups[splits == split])) for split in SPLITS},
        n_per_class={s: {str(k): int(n) for k, n in counts[s].items()} for s in SPLITS},
        shared_groups=find_shared_groups(groups, splits),
        pairs=tuple(make_pair(*pair) for pair in sorted(pairs)),
        n_looked=len(candidates),
        max_bits=max_bits,
        n_unprinted=int((fingerprints == NO_FINGERPRINT).sum()),
        notes=index.notes,
        against={name: compare() for name, compare in against.items()},
    )


def _find_equal(digests: Sequence[str], splits: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs of rows of one content: each row with the first one in each split."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        rows[digest].append(row)
    pairs = set()
    for equal in rows.values():
        first = {str(splits[row]): row for row in reversed(equal)}
        pairs |= {(min(i, j), max(i, j)) for i in equal for j in first.values() if i != j}
    return sorted(pairs)


def _propose_pairs(fingerprints: np.ndarray) -> tuple[np.ndarray, int]:
    """Return (M, 2) positions of pairs whose pixels are to be compared, and their distance.

    The largest distance is `MAX_BITS`, or the one that leaves at most `MAX_LOOKS` pairs.
    """
    for max_bits in range(MAX_BITS, -1, -1):
        pairs = find_near(fingerprints, fingerprints, max_bits)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        if len(pairs) <= MAX_LOOKS:
            return pairs, max_bits
    return pairs[:MAX_LOOKS], 0
