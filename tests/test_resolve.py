"""Cells to jobs: equal ones once, parents before children, what is impossible left out."""

import subprocess
import sys

import pytest
from runs import tiny_command

from tlcnn.config.compose import Composer
from tlcnn.errors import ConfigError
from tlcnn.run.job import Job
from tlcnn.sweep.blocks import expand
from tlcnn.sweep.resolve import resolve


@pytest.fixture
def sweep_of(tmp_path, cache_dir):
    composer = Composer()

    def make(*words, blocks=()):
        arguments = tiny_command(tmp_path, cache_dir, *words)
        cells = expand(arguments, params={}, blocks=blocks, parse=composer.parse)
        return resolve([Job(cell) for cell in cells], composer)

    return make


def tell(run):
    """`self-k5-j0-s0` of a run's name."""
    return run.plan.run_name.removeprefix("synthetic-test_resnet-")


def finish(run):
    run.run_dir.mkdir(parents=True)
    (run.run_dir / "DONE").write_text(run.run_id)


def test_cells_keep_the_order_of_the_grid(sweep_of):
    sweep = sweep_of("seed=3,1,2")
    assert [tell(run) for run in sweep.runs] == [f"random-k0-j0-s{seed}" for seed in (3, 1, 2)]
    assert {run.wave for run in sweep.runs} == {0}
    assert {run.role for run in sweep.runs} == {"cell"}


def test_no_units_of_any_source_are_one_run(sweep_of):
    sweep = sweep_of("init=random,self", "init.through=none,stem", "seed=0")
    # random twice, self through none: one run; self through stem; and its parent of seed 1
    assert sweep.n_same == 2
    assert sorted(tell(run) for run in sweep.runs) == [
        "random-k0-j0-s0",
        "random-k0-j0-s1",
        "self-k1-j0-s0",
    ]


def test_names_and_numbers_of_one_unit_are_one_run(sweep_of):
    sweep = sweep_of("init=self", "init.through=stage2,layer2,3", "freeze.through=stem,1")
    cells = [run for run in sweep.runs if run.role == "cell"]
    assert len(cells) == 1 and sweep.n_same == 5


def test_impossible_cells_of_a_grid_are_left_out_with_the_reason(sweep_of):
    sweep = sweep_of("init=self", "init.through=none,stem,stage1", "freeze.through=none,stage1")
    kept = sorted(tell(run) for run in sweep.runs if run.role == "cell")
    assert kept == ["random-k0-j0-s0", "self-k1-j0-s0", "self-k2-j0-s0", "self-k2-j2-s0"]
    assert [cell.overrides[-2:] for cell in sweep.left_out] == [
        ("init.through=none", "freeze.through=stage1"),
        ("init.through=stem", "freeze.through=stage1"),
    ]
    assert all("would stay random filters" in cell.error for cell in sweep.left_out)
    control = sweep_of("init.through=none", "freeze.through=stage1", "freeze.allow_random=true")
    assert not control.left_out and len(control.runs) == 1


def test_a_wrong_unit_refuses_the_whole_sweep_and_names_the_cell(sweep_of, tmp_path):
    with pytest.raises(ConfigError) as error:
        sweep_of("init=self", "freeze.through=none,layr2")
    assert "freeze.through=layr2: test_resnet has no unit 'layr2'" in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_missing_data_breaks_only_the_cells_that_need_it(sweep_of, tmp_path):
    gone = {"dataset": "folder", "dataset.root": str(tmp_path / "gone"), "seed": [0, 1]}
    composer_words = [w for w in tiny_command(tmp_path, tmp_path) if not w.startswith("dataset")]
    composer = Composer()
    blocks = [gone, {"dataset": "synthetic", "dataset.image_size": 32, "seed": [0, 1]}]
    cells = expand(composer_words, params={}, blocks=blocks, parse=composer.parse)
    sweep = resolve([Job(cell) for cell in cells], composer)
    assert len(sweep.runs) == 2
    assert [outcome.code for _, outcome in sweep.broken] == [2, 2]
    assert all("gone" in broken[1].error for broken in sweep.broken)
    assert all(broken[1].error.startswith("DataError: ") for broken in sweep.broken)
    assert f"dataset.root={tmp_path / 'gone'}" in sweep.broken[0][0]


def test_a_parent_is_added_once_and_trained_before_its_children(sweep_of):
    sweep = sweep_of("init=self", "init.through=stem,stage1,all", "seed=0")
    assert tell(sweep.runs[0]) == "random-k0-j0-s1"
    parent, *children = sweep.runs
    assert (parent.role, parent.wave) == ("parent", 0)
    assert parent.job.ancestor == 1 and parent.job.overrides == children[0].job.overrides
    assert [(run.role, run.wave) for run in children] == [("cell", 1)] * 3
    assert {run.plan.parent.run_id for run in children} == {parent.run_id}
    assert [len(wave) for wave in sweep.waves()] == [1, 3]


def test_the_words_of_a_parent_mean_the_parent(sweep_of):
    sweep = sweep_of("init=self", "seed=0")
    parent = sweep.runs[0]
    again = resolve([parent.job], Composer())
    assert [run.run_id for run in again.runs] == [parent.run_id]
    assert again.runs[0].role == "cell"


def test_a_parent_that_is_itself_asked_for_is_a_cell(sweep_of):
    for words in (["init=self,random"], ["init=random,self"]):
        sweep = sweep_of(*words, "seed=0,1")
        roles = {tell(run): run.role for run in sweep.runs}
        assert roles == {
            "random-k0-j0-s0": "cell",
            "random-k0-j0-s1": "cell",
            "random-k0-j0-s2": "parent",
            "self-k5-j0-s0": "cell",
            "self-k5-j0-s1": "cell",
        }
        assert sweep.n_same == 0
        waves = [{tell(run)[:4] for run in wave} for wave in sweep.waves()]
        assert waves == [{"rand"}, {"self"}]
        jobs = {tell(run): run.job for run in sweep.runs}
        assert jobs["random-k0-j0-s1"].ancestor == 0


def test_a_finished_parent_lets_its_children_begin_at_once(sweep_of):
    words = ["init=self", "init.through=stem,all"]
    finish(sweep_of(*words).runs[0])
    sweep = sweep_of(*words)
    assert [run.wave for run in sweep.runs] == [0, 0, 0]
    assert [len(wave) for wave in sweep.waves()] == [2]


def test_grandparents_come_in_a_wave_before_parents(sweep_of):
    textures = [f"init.task_dataset.options.{w}" for w in ("n_images=140", "size=32")]
    chain = ["init=task", "init.task=synthetic_source", *[f"++{word}" for word in textures]]
    sweep = sweep_of(*chain, "init.parent=random", "init.through=stem,all")
    assert [(tell(run), run.wave) for run in sweep.runs[1:]] == [
        ("random-synthetic_source-k1-j0-s0", 1),
        ("random-synthetic_source-k5-j0-s0", 1),
    ]
    assert sweep.runs[0].plan.run_name == "synthetic_source-test_resnet-random-k0-j0-s0"
    assert sweep.runs[0].wave == 0


NO_TORCH = """
import sys
from tlcnn.train import main

code = main(sys.argv[1:])
assert "torch" not in sys.modules and "timm" not in sys.modules
sys.exit(code)
"""


def test_a_finished_sweep_answers_without_torch(sweep_of, tmp_path, cache_dir):
    words = ["init=random,self", "init.through=stem,all", "seed=0,1"]
    for run in sweep_of(*words).runs:
        finish(run)
    command = [sys.executable, "-c", NO_TORCH, "-m", *tiny_command(tmp_path, cache_dir, *words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "7 runs: 7 done, 0 to train" in done.stdout
    assert "0 trained, 7 skipped, 0 failed" in done.stdout
