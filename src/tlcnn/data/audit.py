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

from tlcnn.data.dataset import Dataset
from tlcnn.data.duplicates import (
    CUT,
    MAX_BITS,
    MAX_TURNED_BITS,
    N_TURNS,
    SAME_SHAPE,
    SQUASHED,
    Fingerprints,
    load_confirmations,
    load_fingerprints,
    propose_copies,
)
from tlcnn.data.index import SPLITS, Index
from tlcnn.data.overlap import Overlap
from tlcnn.data.splits import compute_split_counts, find_shared_groups

MAX_LOOKS = 100_000  # comparisons of pixels, and as many of turned ones; 1,000 take three seconds
KINDS = {SAME_SHAPE: "picture", SQUASHED: "squashed", CUT: "cut"}


@dataclass(frozen=True)
class Audit:
    """What was found in a dataset and its split.

    Attributes:
        n_images, n_groups: per split.
        n_per_class: per split and class.
        shared_groups: group -> the splits that it is in, of groups in more than one.
        pairs: one row a pair of images that show the same picture, those that leak first: `leaks`
            (in different splits and groups), `kind` ("bytes": equal files; "picture": saved
            again; "squashed" or "cut" to a square; "turned" by quarters or mirrored), and
            `first_` and `second_` image, split, group and label. Of many equal files, each is
            there with one of each split.
        n_touched: per split, its images whose picture is in the training split as well.
        groups: N rows of `image` and `group`: groups that hold all images of one picture.
        n_looked: pairs of different files whose pixels were compared.
        n_left_out: pairs of equal fingerprints that were not compared, because they are too many.
        max_bits: the largest distance of fingerprints at which pixels were compared.
        max_turned_bits: the same for images that are turned or mirrored.
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
    pairs: pd.DataFrame
    n_touched: dict[str, int]
    groups: pd.DataFrame
    n_looked: int
    n_left_out: int
    max_bits: int
    max_turned_bits: int
    n_unprinted: int
    notes: tuple[str, ...]
    against: dict[str, Overlap]
    seconds: float = 0.0

    @property
    def leaks(self) -> pd.DataFrame:
        """Pairs in different splits and different groups."""
        return self.pairs[self.pairs["leaks"]]

    @property
    def is_leaking(self) -> bool:
        """Whether test scores count pictures that training has seen."""
        return bool(self.shared_groups or len(self.leaks) or any(self.against.values()))

    def record(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        summary = {"is_leaking": self.is_leaking, "n_leaks": len(self.leaks)}
        values = {**summary, **asdict(self), "pairs": self.pairs.to_dict("records")}
        del values["groups"]  # one row an image
        return values


@dataclass(frozen=True)
class _Candidates:
    """Pairs of images whose pixels are to be compared.

    Attributes:
        ways: (M, 4) sorted rows of `propose_copies`; a pair has one for each way of copying.
        n_pairs, n_left_out, max_bits, max_turned_bits: as in `Audit`.
    """

    ways: np.ndarray
    n_pairs: int
    n_left_out: int
    max_bits: int
    max_turned_bits: int


def compute_audit(
    dataset: Dataset,
    cache_dir: Path,
    against: Mapping[str, Callable[[], Overlap]],
) -> Audit:
    """Audit a dataset and its split.

    Args:
        against: functions that compare the test images with another dataset, by its name.

    Raises:
        StorageError: the cache cannot be written.
    """
    index, splits, digests = dataset.index, dataset.splits, dataset.digests
    fingerprints = load_fingerprints(index.images, dataset.pixel_digests, cache_dir)
    candidates = _propose_candidates(fingerprints, digests, splits)
    kinds = {(i, j): "bytes" for i, j in _find_equal(digests, splits)}
    results = load_confirmations(
        index.images, index.images, candidates.ways, (dataset.pixel_digests,) * 2, cache_dir
    )
    for (i, j, shape, turn), is_same in zip(candidates.ways.tolist(), results, strict=True):
        if is_same:
            kinds.setdefault((i, j), "turned" if turn else KINDS[shape])
    pairs = [(i, j, kind) for (i, j), kind in kinds.items()]
    groups = index.table["group"].to_numpy()
    edges = np.array([pair[:2] for pair in pairs], dtype=np.int64).reshape(-1, 2)
    pictures = _join(len(index), edges)
    is_trained = np.isin(pictures, pictures[splits == "train"])
    counts = compute_split_counts(index.memberships, splits, index.strata)
    return Audit(
        name=index.name,
        n_images={split: int((splits == split).sum()) for split in SPLITS},
        n_groups={split: len(set(groups[splits == split])) for split in SPLITS},
        n_per_class={s: {str(k): int(n) for k, n in counts[s].items()} for s in SPLITS},
        shared_groups=find_shared_groups(groups, splits),
        pairs=_make_pair_table(index, splits, sorted(pairs)),
        n_touched={s: int((is_trained & (splits == s)).sum()) for s in SPLITS if s != "train"},
        groups=_merge_groups(index.table, edges),
        n_looked=candidates.n_pairs,
        n_left_out=candidates.n_left_out,
        max_bits=candidates.max_bits,
        max_turned_bits=candidates.max_turned_bits,
        n_unprinted=int(fingerprints.is_missing.sum()),
        notes=index.notes,
        against={name: compare() for name, compare in against.items()},
    )


def _join(n: int, edges: np.ndarray) -> np.ndarray:
    """Return the component of each of n nodes, (n,), that edges (M, 2) connect."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = edges.T
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])


def _merge_groups(table: pd.DataFrame, edges: np.ndarray) -> pd.DataFrame:
    """Return the group of each image after those of every pair became one, named by its first."""
    codes, names = pd.factorize(table["group"], sort=True)
    component = _join(len(names), codes[edges])
    first = np.unique(component, return_index=True)[1]  # names are sorted
    return pd.DataFrame({"image": table["image_id"], "group": names[first[component[codes]]]})


def _make_pair_table(
    index: Index, splits: np.ndarray, pairs: list[tuple[int, int, str]]
) -> pd.DataFrame:
    """Return the table of pairs, given as two rows of the index and a kind."""
    strata, memberships = np.array(index.strata, dtype=object), index.memberships
    table = pd.DataFrame({"leaks": False, "kind": [kind for _, _, kind in pairs]})
    positions = np.array([pair[:2] for pair in pairs], dtype=np.int64).reshape(-1, 2)
    rows = {"first": positions[:, 0], "second": positions[:, 1]}
    columns = {"image": index.table["image_id"], "split": splits, "group": index.table["group"]}
    for name, values in columns.items():
        for side in rows:
            table[f"{side}_{name}"] = np.asarray(values, dtype=object)[rows[side]]
    for side in rows:
        table[f"{side}_label"] = ["+".join(strata[row > 0]) for row in memberships[rows[side]]]
    is_across = table["first_split"] != table["second_split"]
    table["leaks"] = is_across & (table["first_group"] != table["second_group"])
    return table.sort_values(
        ["leaks", "first_image"], ascending=[False, True], kind="stable", ignore_index=True
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


def _propose_candidates(
    fingerprints: Fingerprints, digests: Sequence[str], splits: np.ndarray
) -> _Candidates:
    """Return the pairs of N images whose pixels are to be compared."""
    # Further copies in a split are found by their bytes, so one of them is compared by pixels.
    places = [f"{split}/{digest}" for split, digest in zip(splits, digests, strict=True)]
    rows = np.sort(np.unique(places, return_index=True)[1])
    printed, contents = fingerprints.take(rows), np.asarray(digests)[rows]
    upright, max_bits = _propose_pairs(printed, contents, range(1), MAX_BITS)
    turned, max_turned_bits = _propose_pairs(printed, contents, range(1, N_TURNS), MAX_TURNED_BITS)
    ways = np.concatenate([upright[:MAX_LOOKS], turned[:MAX_LOOKS]])
    n_pairs, n_proposed = _count_pairs(ways), _count_pairs(np.concatenate([upright, turned]))
    ways[:, :2] = rows[ways[:, :2]]
    ways = ways[np.lexsort(ways.T[::-1])]
    return _Candidates(ways, n_pairs, n_proposed - n_pairs, max_bits, max_turned_bits)


def _propose_pairs(
    fingerprints: Fingerprints, contents: np.ndarray, turns: Sequence[int], most_bits: int
) -> tuple[np.ndarray, int]:
    """Return (M, 4) rows of `propose_copies`, and the largest distance of their fingerprints.

    Pairs of equal contents are left out. The distance is `most_bits`, or the largest one with at
    most `MAX_LOOKS` rows. There can be more rows than that only at a distance of 0.
    """
    for max_bits in range(most_bits, -1, -1):
        pairs = propose_copies(fingerprints, fingerprints, turns, max_bits)
        left, right = pairs[:, 0], pairs[:, 1]
        pairs = pairs[(left < right) & (contents[left] != contents[right])]
        if len(pairs) <= MAX_LOOKS:
            break
    return pairs, max_bits


def _count_pairs(ways: np.ndarray) -> int:
    """Return the number of pairs in (M, 4) rows, of which a pair can have several."""
    return len(np.unique(ways[:, :2], axis=0))
