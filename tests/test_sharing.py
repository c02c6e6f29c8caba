"""A sweep whose runs share frozen units: in which order, told what, and to the same bits."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from runs import tiny_command
from safetensors.torch import save_file
from test_run import check_same

from tlcnn.config.compose import Composer
from tlcnn.memory import Memory
from tlcnn.model.build import build_model
from tlcnn.sweep.drive import Request, drive, launch_here
from tlcnn.sweep.sharing import describe_sharing, find_shared_depths, order_by_source


def run(name, source, n_frozen, role="cell"):
    plan = SimpleNamespace(treatment=SimpleNamespace(depth=n_frozen))
    return SimpleNamespace(run_id=name, role=role, source_key=source, plan=plan)


RUNS = [
    run("a2", "a", 2),
    run("x", None, 0),
    run("b1", "b", 1),
    run("a1", "a", 1),
    run("p", None, 0, role="parent"),
    run("b1again", "b", 1),
    run("c3", "c", 3),
]


def test_runs_of_a_source_follow_each_other_and_parents_stay_first():
    ordered = [each.run_id for each in order_by_source(RUNS)]
    assert ordered == ["p", "a1", "a2", "x", "b1", "b1again", "c3"]


def test_runs_know_the_depths_that_share_their_source():
    depths = {each.run_id: find_shared_depths(each, RUNS) for each in RUNS}
    assert depths["a1"] == depths["a2"] == (1, 2)
    assert depths["b1"] == (1, 1)
    assert depths["x"] == depths["p"] == depths["c3"] == ()
    assert describe_sharing(RUNS) == ["  4 runs share the outputs of frozen units, from 2 sources"]
    assert describe_sharing(RUNS[1:3]) == []


@pytest.mark.parametrize(
    "views",
    [
        "train.views=null",
        pytest.param("train.views=2", marks=pytest.mark.slow),
        pytest.param("train.augment=none", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_computes_what_it_shares_once_and_no_bit_depends_on_it(
    tmp_path, cache_dir, views, capsys
):
    torch.set_num_threads(1)
    shutil.rmtree(cache_dir / "features", ignore_errors=True)
    weights = tmp_path / "source.safetensors"
    save_file(build_model("test_resnet", n_classes=5, seed=7).state_dict(), weights)
    grid = ["init=checkpoint", f"init.weights={weights}", "init.through=2,4", views]
    grid += ["freeze.through=1,2,4", "seed=0,1", "reuse_disk_gib=1"]
    said = {}
    for reuse in ("none", "auto"):
        folder, memory = tmp_path / reuse, Memory()
        memory.recall("composer", "", Composer)
        words = tiny_command(folder, cache_dir, *grid, f"reuse={reuse}")
        request = Request(words, {}, (), (), folder, None, False, False)
        drive(request, lambda jobs, memory=memory: launch_here(jobs, memory))
        said[reuse] = capsys.readouterr().out
    runs = sorted((tmp_path / "auto" / "runs").iterdir())
    assert len(runs) == 2 * (2 + 3)
    for run_dir in runs:
        check_same(run_dir, tmp_path / "none" / "runs" / run_dir.name)
    assert "10 runs share the outputs of frozen units" in said["auto"]
    assert "share" not in said["none"] and "outputs of frozen units" not in said["none"]
    assert "outputs of frozen units: computed for" in said["auto"]
    counts = [json.loads((each / "summary.json").read_text())["reuse"] for each in runs]
    n_views = {"train.views=null": 4, "train.views=2": 2, "train.augment=none": 1}[views]
    assert sum(each["arrays_filled"] for each in counts) == 3 * (2 + n_views)
