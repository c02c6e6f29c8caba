"""Runs to cells: what differs in the seed alone is one, and nothing else."""

import json
from dataclasses import replace

import pytest
from records_made import write_cell, write_record

from tlcnn.records.folder import RunDir
from tlcnn.records.plan_record import read_plan
from tlcnn.records.read import read_runs
from tlcnn.report.cell_table import make_cell_table
from tlcnn.report.words import name_cell, name_source, write_settings
from tlcnn.study.arms import load_arms
from tlcnn.study.block import make_blocks
from tlcnn.study.cells import Source, make_cells
from tlcnn.study.runs import IMAGES, make_runs

UNITS = ("stem", "stage1", "stage2")
METRIC = "test/balanced_accuracy"


def cells_of(folder):
    return make_cells(make_runs(read_runs(folder)))


def test_runs_that_differ_in_the_seed_alone_are_one_cell(tmp_path):
    write_cell(tmp_path, (0.1, 0.2, 0.3))
    (cell,) = cells_of(tmp_path)
    assert cell.seeds == (0, 1, 2) and len(cell.runs) == 3 and len(cell.folds) == 1
    assert cell.units == ("stem", "stage1", "stage2", "stage3", "stage4")


@pytest.mark.parametrize(
    "other", [{"j": 1}, {"k": 4}, {"init": "random", "k": 0}, {"dataset": "x"}, {"model": "y"}]
)
def test_anything_else_makes_another_cell(tmp_path, other):
    write_cell(tmp_path, (0.1, 0.2))
    write_cell(tmp_path, (0.1, 0.2), **other)
    assert [len(cell.seeds) for cell in cells_of(tmp_path)] == [2, 2]


def test_a_recipe_is_told_where_cells_of_one_name_differ_in_it(tmp_path):
    for lr in (0.1, 0.01):
        write_cell(tmp_path, (0.1,), **{"train.lr": lr, "train.epochs": 3})
    recipes = [cell.recipe for cell in cells_of(tmp_path)]
    assert recipes == [(("train.lr", 0.01),), (("train.lr", 0.1),)]
    assert write_settings(recipes[0]) == "train.lr=0.01"


def test_other_images_under_one_name_are_another_block_and_the_table_says_so(tmp_path):
    for manifest in ("aaaaaaaaaa", "bbbbbbbbbb"):
        write_cell(tmp_path, (0.1, 0.2), manifest=manifest, **{"dataset.split_seed": 0})
        options = {"manifest": manifest, "init": "random", "k": 0}
        write_cell(tmp_path, (0.2, 0.3), **options, **{"dataset.split_seed": 0})
    runs = read_runs(tmp_path)
    cells = {cell.key: cell for cell in make_cells(make_runs(runs))}
    assert {cell.recipe for cell in cells.values()} == {
        ((IMAGES, "aaaaaaaa"),),
        ((IMAGES, "bbbbbbbb"),),
    }
    arms = {key: load_arms(cell, [METRIC]) for key, cell in cells.items()}
    assert [len(block.cells) for block in make_blocks(cells, arms, METRIC)] == [2, 2]
    table = make_cell_table(runs, [METRIC], interval="seeds", baseline=["init=random"])
    assert IMAGES in [column.name for column in table.columns]
    assert any("ham10000: runs of this name have different images" in n for n in table.notes)
    families = [note for note in table.notes if note.startswith("family")]
    assert [f"{IMAGES}=aaaaaaaa" in note for note in families] == [True, False], families


def test_a_baseline_with_other_images_is_none(tmp_path):
    split = {"dataset.split_seed": 0}
    for manifest in ("aaaaaaaaaa", "bbbbbbbbbb"):
        write_cell(tmp_path, (0.1, 0.2), manifest=manifest, **split)
    write_cell(tmp_path, (0.2, 0.3), manifest="aaaaaaaaaa", init="random", k=0, **split)
    runs = read_runs(tmp_path)
    table = make_cell_table(runs, [METRIC], interval="seeds", baseline=["init=random"])
    (note,) = [note for note in table.notes if "because there is no baseline" in note]
    assert note.endswith("bbbbbbbb")


def test_another_split_of_the_same_images_needs_no_such_name(tmp_path):
    for number, manifest in enumerate(("aaaaaaaaaa", "bbbbbbbbbb")):
        write_cell(tmp_path, (0.1,), manifest=manifest, **{"dataset.split_seed": number})
    write_cell(tmp_path, (0.1,), imported=True)
    assert {cell.recipe for cell in cells_of(tmp_path)} == {
        (),
        (("dataset.split_seed", 0),),
        (("dataset.split_seed", 1),),
    }


def test_folds_of_other_images_are_another_cell(tmp_path):
    folds = {"dataset.folds": 2, "dataset.split_seed": 0}
    for root in ("raw", "clean"):
        for fold in range(2):
            settings = {**folds, "dataset.fold": fold, "dataset.root": root}
            n_train = 10 if root == "raw" else 9
            manifest = f"{root}{fold}"
            write_cell(tmp_path, (0.1, 0.2), manifest=manifest, n_train=n_train, **settings)
    cells = cells_of(tmp_path)
    assert [len(cell.folds) for cell in cells] == [2, 2]
    assert [cell.omissions for cell in cells] == [(), ()]


def test_another_source_of_one_name_is_told_in_the_label_and_not_in_the_recipe(tmp_path):
    for weights in ("a.pt", "b.pt"):
        write_cell(tmp_path, (0.1,), init="checkpoint", **{"init.weights": weights})
    cells = cells_of(tmp_path)
    assert {cell.recipe for cell in cells} == {()}
    assert sorted(map(name_cell, cells)) == [
        "checkpoint, all trained (init.weights=a.pt)",
        "checkpoint, all trained (init.weights=b.pt)",
    ]


@pytest.mark.parametrize("score", [1e308, 1.5, -0.1])
def test_a_score_outside_the_range_of_its_metric_is_no_score(tmp_path, score):
    write_record(tmp_path, seed=0, test=score)
    (run,) = make_runs(read_runs(tmp_path))
    assert "test/balanced_accuracy" not in run.scores


def test_unfinished_runs_are_in_no_cell(tmp_path):
    (write_record(tmp_path, seed=0, test=0.5) / "DONE").unlink()
    assert not cells_of(tmp_path)


def test_a_plan_that_changes_after_it_was_read_changes_no_cell(tmp_path):
    folder = write_record(tmp_path, seed=0, test=0.5)
    frame = read_runs(tmp_path)
    (folder / "plan.json").write_text("{")
    (cell,) = make_cells(make_runs(frame))
    assert cell.units == ("stem", "stage1", "stage2", "stage3", "stage4")


def test_the_key_of_a_cell_is_the_same_in_every_folder(tmp_path):
    for name in "ab":
        write_cell(tmp_path / name, (0.1, 0.2))
    write_cell(tmp_path / "b", (0.1, 0.2), **{"train.lr": 0.1})  # other cells do not change it
    first, second = (cells_of(tmp_path / name)[0].key for name in "ab")
    assert first == second


@pytest.mark.parametrize(
    "name", ["train.ema_decay", "freeze.allow_random", "init.allow_unchecked"]
)
def test_a_default_that_some_folds_do_not_record_parts_no_folds(tmp_path, name):
    for fold in range(3):
        recorded = {name: None if name == "train.ema_decay" else True} if fold == 2 else {}
        folds = {"dataset.folds": 3, "dataset.fold": fold}
        write_record(tmp_path, seed=0, test=0.6, cell=f"fold{fold}", **folds, **recorded)
    (cell,) = make_cells(make_runs(read_runs(tmp_path)))
    assert cell.places == ((0, 0), (0, 1), (0, 2))


def test_an_option_that_older_folds_do_not_record_parts_no_folds(tmp_path):
    for regex in (None, "(p[0-9]+)"):
        for fold in range(3):
            later = {"dataset.options.group_regex": regex, "dataset.options.label_values": None}
            recorded = later if fold == 2 or regex else {}
            folds = {"dataset.folds": 3, "dataset.fold": fold}
            cell = f"fold{fold} {regex}"
            write_record(tmp_path, seed=0, test=0.6, cell=cell, **folds, **recorded)
    cells = cells_of(tmp_path)
    assert [cell.places for cell in cells] == [((0, 0), (0, 1), (0, 2))] * 2  # one a regex


def test_a_setting_that_differs_between_seeds_parts_no_cell_and_no_folds(tmp_path):
    """The parent of a chain is another run for each seed and fold."""
    for fold in (0, 1):
        for seed in (0, 1):
            settings = {"dataset.folds": 2, "dataset.fold": fold, "init.run": f"p{seed}-{fold}"}
            write_record(tmp_path, seed=seed, test=0.5, cell=f"fold{fold}", **settings)
    (cell,) = cells_of(tmp_path)
    assert cell.seeds == (0, 1) and cell.places == ((0, 0), (0, 1))


@pytest.mark.parametrize("value", [10**30, 1.5, "one", None])
@pytest.mark.parametrize("name", ["seed", "k", "j"])
def test_a_record_with_an_odd_place_is_unreadable_and_in_no_cell(tmp_path, name, value):
    write_cell(tmp_path, (0.1, 0.2))
    folder = write_record(tmp_path, seed=2, test=0.3)
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps({**plan, name: value}))
    RunDir(folder).write_done("x")
    frame = read_runs(tmp_path)
    assert frame.set_index("folder").loc[str(folder), "state"] == "unreadable"
    assert [run.seed for run in make_runs(frame)] == [0, 1]


@pytest.mark.parametrize("value", [10**30, "one", [1], None])
@pytest.mark.parametrize("name", ["dataset.fold", "dataset.folds"])
def test_an_odd_fold_ends_nothing(tmp_path, name, value):
    for fold in (0, 1):
        settings = {"dataset.folds": 2, "dataset.fold": fold}
        write_record(tmp_path, seed=0, test=0.5, cell=f"fold{fold}", **settings)
    odd = {"dataset.folds": 2, "dataset.fold": 2, name: value}
    write_record(tmp_path, seed=0, test=0.5, cell="odd", **odd)
    assert sum(len(cell.runs) for cell in cells_of(tmp_path)) >= 2


@pytest.mark.parametrize(
    ("init", "k", "j", "bn", "name"),
    [
        ("random", 0, 0, "frozen", "random, all trained"),
        ("random", 0, 2, "frozen", "random, frozen through stage1"),
        ("imagenet", 3, 0, "frozen", "ImageNet, all trained"),
        ("imagenet", 3, 3, "frozen", "ImageNet, all frozen"),
        ("imagenet", 2, 1, "frozen", "ImageNet through stage1, frozen through stem"),
        ("imagenet", 3, 1, "adapt", "ImageNet, frozen through stem (bn adapt)"),
    ],
)
def test_cells_are_named_as_a_person_would(tmp_path, init, k, j, bn, name):
    write_record(tmp_path, seed=0, test=0.5, init=init, k=k, j=j, bn=bn, units=UNITS)
    assert name_cell(cells_of(tmp_path)[0]) == name


def test_a_chain_is_named_in_its_order():
    assert name_source(Source("x", chain=("imagenet", "ham10000"))) == "ImageNet → HAM10000"


def test_a_name_with_a_dash_is_one_name(tmp_path):
    """A dataset may be called isic-2019: what a chain is made of stands in `ancestry`."""
    named = {"init": "imagenet-isic-2019", "ancestry": ("isic-2019",), "first": "imagenet"}
    folder = write_record(tmp_path / "chain", seed=0, test=0.5, **named)
    assert read_plan(folder).source == ("imagenet", "isic-2019")
    (cell,) = cells_of(tmp_path / "chain")
    assert cell.source.datasets == ("isic-2019",)
    assert name_cell(cell).startswith("ImageNet → isic-2019, ")
    write_record(tmp_path / "other", seed=0, test=0.5, init="isic-2019", imported=True)
    assert name_source(cells_of(tmp_path / "other")[0].source) == "isic-2019"
    assert replace(cell.source, chain=()) == cell.source  # names do not part sources
