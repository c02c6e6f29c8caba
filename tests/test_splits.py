"""No group in two splits, every class in proportion, and the same result everywhere."""

import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tlcnn.data.splits import (
    check_splits,
    choose_splits,
    compute_split_counts,
    list_split_warnings,
    make_splits,
    manifest_digest,
)
from tlcnn.errors import ConfigError, DataError

FRACTIONS = {"train": Fraction(13, 20), "val": Fraction(3, 20), "test": Fraction(1, 5)}
OURS = {"val_fraction": 0.15, "test_fraction": 0.2}


@st.composite
def group_tables(draw, pure: bool):
    """(labels, groups, K): 3 to 80 groups of 1 to 6 (rarely 40) images of 1 to 5 classes."""
    n_classes = draw(st.integers(1, 5))
    size = st.one_of(st.integers(1, 6), st.integers(1, 40))
    sizes = draw(st.lists(size, min_size=3, max_size=80))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    skew = random.dirichlet(np.full(n_classes, draw(st.sampled_from([0.3, 1.0, 10.0]))))
    labels, groups = [], []
    for number, n_images in enumerate(sizes):
        drawn = random.choice(n_classes, size=1 if pure else n_images, p=skew)
        labels += np.resize(drawn, n_images).tolist()
        groups += [f"g{number}"] * n_images
    return np.array(labels), np.array(groups, dtype=object), n_classes


def measure_excess(labels, groups, splits, parts):
    """Return the worst |images - ideal| / (largest group) over classes and parts."""
    worst = Fraction(0)
    for label in set(labels.tolist()):
        mine = labels == label
        largest = max(Counter(groups[mine]).values())
        found = Counter(splits[mine])
        for part, fraction in parts.items():
            worst = max(worst, abs(found[part] - fraction * int(mine.sum())) / largest)
    return worst


def try_splits(labels, groups, **options):
    """Return splits, or None where there are too few groups to fill the parts."""
    try:
        return make_splits(labels, groups, **options)
    except DataError as error:
        assert "too few" in str(error)
        return None


@settings(max_examples=500, deadline=None)
@given(group_tables(pure=True), st.integers(0, 10))
def test_pure_groups_are_whole_and_classes_within_one_group_of_ideal(table, seed):
    labels, groups, n_classes = table
    splits = try_splits(labels, groups, **OURS, seed=seed, n_classes=n_classes)
    if splits is None:
        per_class = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
        assert max(per_class.values()) < 3, "3 groups of a class fill 3 parts"
        return
    check_splits(groups, splits)
    assert measure_excess(labels, groups, splits, FRACTIONS) <= 1


@settings(max_examples=500, deadline=None)
@given(group_tables(pure=False), st.integers(0, 10))
def test_mixed_groups_are_whole_and_in_some_proportion(table, seed):
    labels, groups, n_classes = table
    splits = try_splits(labels, groups, **OURS, seed=seed, n_classes=n_classes)
    if splits is None:
        return
    check_splits(groups, splits)
    largest = max(Counter(groups).values())
    for part, fraction in FRACTIONS.items():
        assert abs((splits == part).sum() - fraction * len(labels)) <= 2 * largest


@settings(max_examples=100, deadline=None)
@given(group_tables(pure=True), st.integers(2, 6), st.integers(0, 3))
def test_folds_partition_the_data(table, folds, seed):
    labels, groups, n_classes = table
    assume(len(set(groups)) >= folds)
    options = {"val_fraction": 0.15, "test_fraction": 0.2, "folds": folds, "seed": seed}
    drawn = [
        try_splits(labels, groups, **options, fold=fold, n_classes=n_classes)
        for fold in range(folds)
    ]
    if any(splits is None for splits in drawn):
        return
    tested = sum((splits == "test").astype(int) for splits in drawn)
    assert (tested == 1).all()
    for splits in drawn:
        check_splits(groups, splits)
        ideal = {"test": Fraction(1, folds), "val": Fraction(3, 20)}
        assert measure_excess(labels, groups, splits, ideal) <= 1
        train = {"train": 1 - Fraction(1, folds) - Fraction(3, 20)}
        assert measure_excess(labels, groups, splits, train) <= 2


@settings(max_examples=100, deadline=None)
@given(group_tables(pure=False), st.randoms(use_true_random=False))
def test_result_does_not_depend_on_the_order_of_rows(table, random):
    labels, groups, n_classes = table
    order = list(range(len(labels)))
    random.shuffle(order)
    splits = try_splits(labels, groups, **OURS, n_classes=n_classes)
    shuffled = try_splits(labels[order], groups[order], **OURS, n_classes=n_classes)
    if splits is not None:
        assert (splits[order] == shuffled).all()


def make_lesions(n=300):
    """HAM10000 in small: 3 classes of unequal size, 1 to 3 images a lesion."""
    number = np.arange(n)
    label = np.digitize(number * 7919 % 101 / 101, [0.75, 0.95])
    times = 1 + np.digitize(number * 104729 % 103 / 103, [0.7, 0.9])
    groups = np.array([f"HAM_{i:07d}" for i in number], dtype=object)
    return label.repeat(times), groups.repeat(times)


def test_images_per_group_are_in_proportion_too():
    """Multi-image lesions pushed into train make the test set easier (DermaMNIST-C's flaw)."""
    labels, groups = make_lesions(1000)
    splits = make_splits(labels, groups, **OURS, n_classes=3)
    times = pd.Series(groups).map(pd.Series(groups).value_counts())
    table = pd.crosstab(times, splits, normalize="index")
    for part, fraction in FRACTIONS.items():
        assert (table[part] - float(fraction)).abs().max() < 0.03


def test_large_groups_of_many_sizes_do_not_all_go_to_train():
    sizes = range(20, 140)
    groups = np.repeat([f"p{n}" for n in sizes], sizes)
    splits = make_splits(np.zeros(len(groups), int), groups, **OURS, n_classes=1)
    mean = {part: np.mean([int(g[1:]) for g in set(groups[splits == part])]) for part in FRACTIONS}
    assert max(mean.values()) - min(mean.values()) < 15


def test_known_split():
    """A golden: nobody's split may change with a version of anything."""
    labels, groups = make_lesions(40)
    splits = make_splits(labels, groups, **OURS, n_classes=3, seed=0)
    test = sorted({int(group[4:]) for group in groups[splits == "test"]})
    val = sorted({int(group[4:]) for group in groups[splits == "val"]})
    assert test == [1, 4, 14, 21, 27, 29, 33, 35]
    assert val == [7, 13, 15, 24, 28]


def test_same_in_another_process_with_another_hash_seed():
    code = (
        "from tests.test_splits import *; l, g = make_lesions();"
        "print(''.join(s[1] for s in make_splits(l, g, **OURS, n_classes=3)))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            cwd=__file__.rsplit("/tests/", 1)[0],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    labels, groups = make_lesions()
    here = "".join(split[1] for split in make_splits(labels, groups, **OURS, n_classes=3))
    assert runs == {here + "\n"}


def test_seeds_differ_and_fractions_stay():
    labels, groups = make_lesions()
    first, second = (make_splits(labels, groups, **OURS, n_classes=3, seed=s) for s in (0, 1))
    assert (first != second).mean() > 0.3
    for splits in (first, second):
        assert measure_excess(labels, groups, splits, FRACTIONS) <= 1


def split_few(n_groups, **options):
    labels = np.array([0] * 20 + [1] * n_groups)
    groups = np.array([f"a{n}" for n in range(20)] + [f"b{n}" for n in range(n_groups)])
    splits = make_splits(labels, groups, **(OURS | options), n_classes=3)
    return labels, splits


@pytest.mark.parametrize(
    ("n_groups", "expected"),
    [(1, ["train"]), (2, ["test", "train"]), (3, ["test", "train", "val"])],
)
@pytest.mark.parametrize("options", [{}, {"val_fraction": 0.3, "test_fraction": 0.45}])
def test_rare_classes_fill_train_then_test_then_val(n_groups, expected, options):
    labels, splits = split_few(n_groups, **options)
    assert sorted(set(splits[labels == 1])) == expected


def test_an_absent_class_is_visible():
    labels, splits = split_few(1)
    classes = ["nv", "mel", "df"]
    assert list_split_warnings(labels, splits, classes) == [
        "train has no image of 1 of 3 classes (df): their scores there do not exist",
        "val has no image of 2 of 3 classes (mel, df): their scores there do not exist",
        "test has no image of 2 of 3 classes (mel, df): their scores there do not exist",
    ]
    counts = compute_split_counts(labels, splits, classes)
    assert counts.loc["df"].tolist() == [0, 0, 0] and counts.to_numpy().sum() == 21


def test_a_fraction_of_zero_gives_no_images():
    labels, groups = make_lesions()
    splits = make_splits(labels, groups, val_fraction=0, test_fraction=0.2, n_classes=3)
    assert set(splits) == {"train", "test"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"folds": 1}, "dataset.folds=1: at least 2"),
        ({"folds": 5, "fold": 5}, "dataset.fold=5: with 5 folds it is 0 to 4"),
        ({"val_fraction": -0.1}, "dataset.val_fraction=-0.1 is not allowed"),
        ({"test_fraction": 1.0}, "dataset.test_fraction=1.0 is not allowed"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"val_fraction": 0.5, "folds": 2}, "leave nothing to train on"),
    ],
)
def test_impossible_requests(options, text):
    labels, groups = make_lesions()
    with pytest.raises(ConfigError, match=text):
        make_splits(labels, groups, **(OURS | options), n_classes=3)


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match="2 groups are too few: no image is left for val"):
        make_splits([0, 0, 0], ["a", "b", "b"], **OURS, n_classes=1)
    one = make_splits([0, 1, 0, 1, 0, 1], list("aabbcc"), **OURS, n_classes=2)
    assert set(one) == {"train", "val", "test"}


def test_check_splits_names_the_groups():
    check_splits(["a", "a", "b"], ["train", "train", "test"])
    with pytest.raises(DataError, match=r"2 groups .*: a \(train, val\), c \(test, train\)"):
        check_splits(list("aabcc"), ["val", "train", "val", "train", "test"])
    with pytest.raises(DataError, match="unknown splits holdout"):
        check_splits(["a"], ["holdout"])
    with pytest.raises(DataError, match="1 groups"):  # a group without a name is one group
        check_splits(["a", None, None], ["train", "train", "test"])


def make_official(val: bool):
    labels, groups = make_lesions()
    splits = make_splits(labels, groups, **OURS, n_classes=3, seed=5)
    if not val:
        splits = np.where(splits == "val", "train", splits)
    return pd.DataFrame({"label": labels, "group": groups, "split": splits.astype(object)})


def test_an_official_split_is_used_as_it_is():
    table = make_official(val=True)
    for mode in ("auto", "official"):
        splits = choose_splits(table, n_classes=3, mode=mode, **OURS)
        assert (splits == table["split"]).all()
    assert (choose_splits(table, n_classes=3, mode="grouped", **OURS) != table["split"]).any()
    folded = choose_splits(table, n_classes=3, mode="auto", folds=5, **OURS)
    assert (folded != table["split"]).any()
    with pytest.raises(ConfigError, match="needs dataset.split=grouped"):
        choose_splits(table, n_classes=3, mode="official", folds=5, **OURS)


def test_validation_is_cut_from_an_official_train():
    table = make_official(val=False)
    splits = choose_splits(
        table, mode="official", val_fraction=0.15, test_fraction=0.2, n_classes=3
    )
    assert ((splits == "test") == (table["split"] == "test")).all()
    assert abs((splits == "val").mean() - 0.15) < 0.01
    check_splits(table["group"], splits)
    with pytest.raises(ConfigError, match="is not less than the official training split"):
        choose_splits(table, mode="official", val_fraction=0.9, test_fraction=0.2, n_classes=3)


def test_no_or_half_an_official_split():
    table = make_official(val=True)
    for what, split in (("no", ""), ("an incomplete", table["split"].replace("test", ""))):
        with pytest.raises(ConfigError, match=f"{what} official split; use dataset.split=grouped"):
            choose_splits(
                table.assign(split=split),
                mode="official",
                val_fraction=0.1,
                test_fraction=0.2,
                n_classes=3,
            )


def test_manifest_reacts_to_everything_in_it_and_nothing_else():
    table = pd.DataFrame(
        {"image_id": ["a", "b"], "label": [0, 1], "group": ["g", "h"], "age": [1.0, 2.0]}
    )
    splits, digests, classes = ["train", "test"], ["d1", "d2"], ["nv", "mel"]
    digest = manifest_digest(table, classes, splits, digests)
    assert digest == manifest_digest(table.iloc[::-1], classes, splits[::-1], digests[::-1])
    assert digest == manifest_digest(table.assign(age=0), classes, splits, digests)
    others = [
        manifest_digest(table, classes, ["val", "test"], digests),
        manifest_digest(table, classes, splits, ["d1", "d3"]),
        manifest_digest(table, ["nv", "bcc"], splits, digests),
        manifest_digest(table.assign(image_id=["a", "c"]), classes, splits, digests),
        manifest_digest(table.assign(group=["g", "g"]), classes, splits, digests),
        manifest_digest(table.assign(label=[1, 1]), classes, splits, digests),
    ]
    assert len({digest, *others}) == 7 and len(digest) == 64


def test_more_folds_than_groups_are_refused():
    options = {"val_fraction": 0.15, "test_fraction": 0.2, "folds": 5, "n_classes": 2}
    with pytest.raises(ConfigError, match="dataset.folds=5 is more than there are groups"):
        make_splits([0, 1, 0, 1], ["a", "b", "c", "d"], **options)
