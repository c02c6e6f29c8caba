"""Runs to cells: what differs in the seed alone is one, and nothing else."""

import pytest
from records_made import write_cell, write_record

from tlcnn.records.read import read_runs
from tlcnn.study.cells import make_cells, name_cell, name_source

UNITS = ("stem", "stage1", "stage2")


def cells_of(folder):
    return make_cells(read_runs(folder))


def test_runs_that_differ_in_the_seed_alone_are_one_cell(tmp_path):
    write_cell(tmp_path, (0.1, 0.2, 0.3))
    (cell,) = cells_of(tmp_path).to_dict("records")
    assert cell["seeds"] == [0, 1, 2] and cell["n_seeds"] == 3
    assert len(cell["folders"][0]) == 3
    assert cell["units"] == ("stem", "stage1", "stage2", "stage3", "stage4")


@pytest.mark.parametrize(
    "other", [{"j": 1}, {"k": 4}, {"init": "random", "k": 0}, {"dataset": "x"}, {"model": "y"}]
)
def test_anything_else_makes_another_cell(tmp_path, other):
    write_cell(tmp_path, (0.1, 0.2))
    write_cell(tmp_path, (0.1, 0.2), **other)
    assert cells_of(tmp_path)["n_seeds"].tolist() == [2, 2]


def test_a_recipe_is_told_where_cells_of_one_name_differ_in_it(tmp_path):
    for lr in (0.1, 0.01):
        write_cell(tmp_path, (0.1,), **{"train.lr": lr, "train.epochs": 3})
    assert sorted(cells_of(tmp_path)["recipe"]) == ["train.lr=0.01", "train.lr=0.1"]


def test_another_source_of_one_name_is_told_in_the_label_and_not_in_the_recipe(tmp_path):
    for weights in ("a.pt", "b.pt"):
        write_cell(tmp_path, (0.1,), init="checkpoint", **{"init.weights": weights})
    cells = cells_of(tmp_path)
    assert set(cells["recipe"]) == {""}
    assert sorted(cells["label"]) == [
        "checkpoint, all trained (init.weights=a.pt)",
        "checkpoint, all trained (init.weights=b.pt)",
    ]


def test_unfinished_runs_are_in_no_cell(tmp_path):
    (write_record(tmp_path, seed=0, test=0.5) / "DONE").unlink()
    assert not len(cells_of(tmp_path))


def test_the_key_of_a_cell_is_the_same_in_every_folder(tmp_path):
    for name in "ab":
        write_cell(tmp_path / name, (0.1, 0.2))
    first, second = (cells_of(tmp_path / name)["cell"][0] for name in "ab")
    assert first == second


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
def test_cells_are_named_as_a_person_would(init, k, j, bn, name):
    assert name_cell({"init": init, "k": k, "j": j, "bn": bn, "units": UNITS}) == name


def test_a_chain_is_named_in_its_order():
    assert name_source("imagenet-ham10000") == "ImageNet → HAM10000"
