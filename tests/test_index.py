"""What an index says of images that are of one class, of several, or of none."""

import numpy as np
import pandas as pd
import pytest

from tlcnn.data.index import Index, make_strata
from tlcnn.data.splits import compute_split_counts, list_split_warnings, manifest_digest
from tlcnn.data.tabular import make_index_table

IDS, SPLITS = ["a", "b", "c", "d"], ["train", "train", "val", "test"]
TARGETS = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], dtype=np.uint8)


def make_index(targets=None):
    labels = [0, 1, 2, 0] if targets is None else make_strata(targets)
    table = make_index_table(IDS, labels, IDS, SPLITS)
    task = "multi-class" if targets is None else "multi-label"
    return Index("toy", ("x", "y", "z"), table, None, task=task, targets=targets)


def test_images_of_one_class():
    index = make_index()
    assert index.strata == index.classes and index.truth.tolist() == [0, 1, 2, 0]
    assert np.array_equal(index.memberships, np.eye(3)[[0, 1, 2, 0]])


def test_images_of_several_classes_or_none():
    index = make_index(TARGETS)
    assert index.strata == ("x", "y", "z", "no finding") and index.truth is TARGETS
    assert index.table["label"].tolist() == [0, 1, 3, 0]  # x and y are equally rare
    assert index.memberships[:, 3].tolist() == [0, 0, 1, 0]


def test_the_rarest_class_names_the_stratum():
    targets = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 1], [1, 0, 1], [0, 0, 0]])
    assert make_strata(targets).tolist() == [2, 0, 1, 2, 3]


@pytest.mark.parametrize("targets", [None, TARGETS])
def test_counts_are_of_images(targets):
    index = make_index(targets)
    counts = compute_split_counts(index.memberships, SPLITS, index.strata)
    if targets is None:
        labels = index.table["label"]
        pd.testing.assert_frame_equal(counts, compute_split_counts(labels, SPLITS, index.classes))
    else:
        assert counts["train"].tolist() == [1, 2, 0, 0]
        assert counts["val"].tolist() == [0, 0, 0, 1] and counts["test"].tolist() == [1, 0, 0, 0]


def test_a_finding_that_a_split_lacks_is_named():
    assert list_split_warnings(TARGETS, SPLITS, ["x", "y", "z"]) == [
        "train has no image of 1 of 3 classes (z): their scores there do not exist",
        "val has no image of 3 of 3 classes (x, y, z): their scores there do not exist",
        "test has no image of 2 of 3 classes (y, z): their scores there do not exist",
    ]


def test_the_manifest_holds_every_finding_and_no_label():
    index, digests = make_index(TARGETS), ["1", "2", "3", "4"]

    def digest(table=index.table, targets=TARGETS, splits=SPLITS, digests=digests):
        return manifest_digest(table, index.classes, splits, digests, targets)

    assert digest() == digest(index.table.assign(label=0))
    back = index.table.iloc[::-1]
    assert digest() == digest(back, TARGETS[::-1], SPLITS[::-1], digests[::-1])
    changed = [TARGETS.copy() for _ in range(12)]
    for i, targets in enumerate(changed):
        targets.flat[i] ^= 1
    assert len({digest(), *(digest(targets=targets) for targets in changed)}) == 13
