"""What a question lacks is trained by the commands that stand beside it."""

import json
import re
import shlex

import pytest
from records_made import write_cell, write_record

from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content

RECIPE = ["dataset=mine", "model=resnet10t", "train.lr=0.1"]


def record_words(folder, words):
    """Record a study that has trained all runs of a folder with these words."""
    runs = []
    for run in sorted((folder / "runs").iterdir()):
        plan = json.loads((run / "plan.json").read_text())
        point = [f"init={plan['init'] if 'init' in plan else plan['source'][-1]}"]
        point += [f"init.through={plan['k']}", f"freeze.through={plan['j']}"]
        overrides = [*words, *point, f"seed={plan['seed']}", "output_dir=/somewhere"]
        runs.append({"run_id": plan["run_id"], "run_name": "x", "overrides": overrides})
    (folder / "studies").mkdir()
    (folder / "studies" / "s.json").write_text(json.dumps({"version": 1, "runs": runs}))


def list_commands(folder, key):
    findings = make_content(read_runs(folder)).findings
    details = [line for finding in findings if finding.key == key for line in finding.details]
    missing = [line for line in details if "Missing" in line]
    return [shlex.split(command) for line in missing for command in re.findall("`(.+?)`", line)]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("imagenet_vs_random", ["init=random", "init.through=none", "freeze.through=none"]),
        ("best_cell", ["init=imagenet", "init.through=all", "freeze.through=stem,stage1"]),
        (
            "layers",
            ["init=imagenet", "init.through=all"]
            + ["freeze.through=stem,stage1,stage2,stage3,all"],
        ),
    ],
)
def test_one_command_has_the_recipe_all_points_and_the_seeds(tmp_path, key, words):
    write_cell(tmp_path, (0.5, 0.6, 0.7))
    record_words(tmp_path, RECIPE)
    start = ["python", "-m", "tlcnn.train", "-m"]
    (command,) = list_commands(tmp_path, key)
    assert command == [*start, *RECIPE, *words, "seed=0,1,2"]


def test_a_source_keeps_its_words_and_another_has_its_own_command(tmp_path):
    write_cell(tmp_path, (0.5, 0.6), k=1, j=1)
    record_words(tmp_path, [*RECIPE, "init.weights=mine.pt", "freeze.bn=frozen"])
    first, second = list_commands(tmp_path, "imagenet_vs_random")
    assert "init=random" in first and "init.weights=mine.pt" not in first
    assert "init.weights=mine.pt" in second and "freeze.bn=frozen" not in second
    assert first[-2:] == second[-2:] == ["freeze.through=none", "seed=0,1"]


def test_an_experiments_own_cells_are_not_trained_with_the_missing_ones(tmp_path):
    write_cell(tmp_path, (0.5, 0.6))
    record_words(tmp_path, ["experiment=grid"])
    (command,) = list_commands(tmp_path, "imagenet_vs_random")
    assert command[4:6] == ["experiment=grid", "hydra.sweeper.blocks=[]"]


def test_cells_of_folds_are_trained_on_every_fold(tmp_path):
    for fold in (0, 1):
        settings = {"dataset.folds": 2, "dataset.fold": fold}
        write_record(tmp_path, seed=0, test=0.5, **settings)
    record_words(tmp_path, ["dataset.folds=2", "dataset.fold=0"])
    (command,) = list_commands(tmp_path, "imagenet_vs_random")
    assert command[4:6] == ["dataset.folds=2", "dataset.fold=0,1"]


def test_without_a_recorded_command_the_block_is_named(tmp_path):
    write_cell(tmp_path, (0.5, 0.6))
    (command,) = list_commands(tmp_path, "imagenet_vs_random")
    (finding, *_) = make_content(read_runs(tmp_path)).findings
    assert "no command of a run is recorded" in finding.details[0]
    assert command[4:7] == ["dataset=ham10000", "model.name=resnet18", "init=random"]


def test_a_dataset_without_a_chain_is_not_told_that_imagenet_alone_is_missing(tmp_path):
    """It would still lack the second source; one with a chain lacks ImageNet alone."""
    write_cell(tmp_path, (0.5, 0.6), init="random", k=0)
    findings = make_content(read_runs(tmp_path)).findings
    (chain,) = [finding for finding in findings if finding.key == "chain"]
    assert not [line for line in chain.details if "Missing" in line]
    assert "init=imagenet,task init.task=SOURCE" in chain.details[0]
    named = {"init": "random-ham10000", "ancestry": ("ham10000",), "dataset": "lc25000_lung"}
    write_cell(tmp_path, (0.5, 0.6), **named)
    (command,) = list_commands(tmp_path, "chain")
    assert command[4] == "dataset=lc25000_lung" and "init=imagenet" in command
