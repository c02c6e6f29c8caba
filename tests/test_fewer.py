"""Fewer training images: whole groups, the shares of the classes, and sizes inside each other."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import tiny_config

from tlcnn.data.fewer import keep_train_images
from tlcnn.data.splits import check_splits, make_splits
from tlcnn.errors import ConfigError
from tlcnn.plan.describe import describe_plan
from tlcnn.plan.plan import make_plan
from tlcnn.records.plan_record import PlanRecord
from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.report.methods import make_methods
from tlcnn.run.run import run
from tlcnn.study.cells import measure_fold_ratio


def draw_dataset(seed, n_groups=120, n_classes=4):
    """(labels, groups, splits) of groups of 1 to 4 images, the classes skewed."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 5, n_groups)
    classes = random.choice(n_classes, n_groups, p=[0.6, 0.25, 0.1, 0.05])
    labels = np.repeat(classes, sizes)
    groups = np.repeat([f"g{n}" for n in range(n_groups)], sizes).astype(object)
    splits = make_splits(
        labels, groups, val_fraction=0.15, test_fraction=0.2, seed=seed, n_classes=n_classes
    )
    return labels, groups, splits


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 1), st.floats(0.1, 1))
def test_a_smaller_number_is_part_of_a_larger_one(seed, one, two):
    labels, groups, splits = draw_dataset(seed)
    n_train = int((splits == "train").sum())
    kept = {}
    for n_images in sorted({max(4, int(share * n_train)) for share in (one, two)}):
        smaller = keep_train_images(labels, groups, splits, n_images, seed=seed, n_classes=4)
        check_splits(groups, smaller)
        kept[n_images] = set(np.flatnonzero(smaller == "train"))
        assert n_images - 4 < len(kept[n_images]) <= n_images, "less by part of a group"
        others = splits != "train"
        assert (smaller[others] == splits[others]).all()
        assert kept[n_images] <= set(np.flatnonzero(splits == "train"))
        for label in range(4):
            n_all = int(((labels == label) & (splits == "train")).sum())
            n_kept = sum(labels[row] == label for row in kept[n_images])
            assert abs(n_kept - n_all * n_images / n_train) <= 8, "within two groups"
    sizes = list(kept.values())
    assert sizes[0] <= sizes[-1]


def test_the_order_of_the_rows_is_no_part_of_it_and_the_seed_is():
    labels, groups, splits = draw_dataset(0)
    options = {"n_classes": 4}
    kept = keep_train_images(labels, groups, splits, 60, seed=0, **options)
    order = np.random.default_rng(1).permutation(len(labels))
    again = keep_train_images(labels[order], groups[order], splits[order], 60, seed=0, **options)
    assert (again == kept[order]).all()
    other = keep_train_images(labels, groups, splits, 60, seed=1, **options)
    assert (other != kept).any()


def test_numbers_that_cannot_be_are_refused():
    labels, groups, splits = draw_dataset(0)
    with pytest.raises(ConfigError, match="=9999: the training split has [0-9]+ images. Give at"):
        keep_train_images(labels, groups, splits, 9999, seed=0, n_classes=4)
    whole = np.full(len(labels), "train", dtype=object)
    with pytest.raises(ConfigError, match="=2: a group has .* images, and groups are kept whole"):
        keep_train_images(np.zeros(9, int), ["g"] * 9, whole[:9], 2, seed=0, n_classes=1)


def test_a_run_trains_on_them_alone_and_says_so(tmp_path, cache_dir):
    output = tmp_path / "outputs"
    every, few = (
        make_plan(tiny_config(output, cache_dir, "train.epochs=1", *words))
        for words in ([], ["dataset.train_images=40"])
    )
    assert few.run_id != every.run_id and few.identity["dataset"]["train_images"] == 40
    n_unused = int((few.dataset.splits == "unused").sum())
    assert f"\nunused   {n_unused} images of the training split" in describe_plan(few)
    run(few)
    (row,) = read_runs(output).itertuples()
    n_train = row.plan.count_images("train")
    assert 36 < n_train <= 40 and n_train + n_unused == sum(
        every.dataset.counts()["train"].values()
    )
    for split in ("val", "test"):
        assert row.plan.count_images(split) == sum(every.dataset.counts()[split].values())
    assert json.loads((few.run_dir / "summary.json").read_text())["n_skipped_images"] == 0
    methods = str(make_methods(make_content(read_runs(output))))
    assert f"Of its training images, {n_train}, at most 40 were used" in methods
    assert row.plan.count_images("unused") == n_unused


def test_the_source_of_a_task_has_all_its_images(tmp_path, cache_dir):
    words = ["init=task", "init.task=synthetic_source", "init.parent=random"]
    plan = make_plan(tiny_config(tmp_path, cache_dir, *words, "dataset.train_images=40"))
    assert {*plan.dataset.splits} == {"train", "val", "test", "unused"}
    (source,) = plan.ancestry
    assert source.images is not None and "unused" not in source.images.splits


def test_folds_overlap_as_their_whole_training_splits_do():
    """Nadeau and Bengio's ratio does not grow where folds are trained on a part of them."""
    sizes = {"train": {"a": 30, "b": 10}, "val": {"a": 9, "b": 3}, "test": {"a": 15, "b": 5}}
    whole = make_plan_record_of(sizes)
    few = make_plan_record_of(
        sizes | {"train": {"a": 6, "b": 2}, "unused": {"a": 24, "b": 8}, "test": sizes["test"]}
    )
    assert measure_fold_ratio([whole] * 5) == 0.5 == measure_fold_ratio([few] * 5)
    assert measure_fold_ratio([make_plan_record_of({})]) == 0


def make_plan_record_of(split_sizes):
    names = {"run_id": "r", "cell_id": "c", "dataset": "d", "model": "m", "bn": "frozen"}
    return PlanRecord(**names, source=("random",), k=0, j=0, seed=0, split_sizes=split_sizes)
