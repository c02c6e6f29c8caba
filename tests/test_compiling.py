"""train.compile: one compiled function for all runs of a process that have a shape in common."""

import json
import warnings
from functools import partial

import pytest
import torch
from runs import tiny_config
from test_run import check_same

from tlcnn.memory import Memory
from tlcnn.plan.describe import describe_plan
from tlcnn.plan.plan import make_plan
from tlcnn.run.run import run

# Warnings of torch's own, raised when it compiles for a GPU: it imports what it will drop.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

COMPILED = ["train.compile=true", "freeze.allow_random=true", "train.augment=none"]


@pytest.fixture
def counted(monkeypatch):
    """The graphs that were compiled so far, by a backend that takes no time."""
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch._dynamo.utils import counters

        torch._dynamo.reset()
        yield lambda: counters["stats"]["unique_graphs"]
        torch._dynamo.reset()


@pytest.fixture
def train(tmp_path, cache_dir):
    memory = Memory()

    def start(*words, folder="out"):
        plan = make_plan(tiny_config(tmp_path / folder, cache_dir, *COMPILED, *words), memory)
        run(plan, memory)
        return plan

    return start


def test_cells_of_one_shape_are_compiled_once(train, counted):
    before = counted()
    train("seed=0")
    first = counted()
    assert first - before == 1
    train("seed=1")
    train("train.lr=1e-3", "train.ema_decay=0.9", "eval_batch_size=7")
    assert counted() == first


@pytest.mark.slow
def test_every_frozen_depth_and_batch_is_compiled_once(train, counted):
    """More of them than torch lets a function have by itself, which is 8."""
    words = [
        *([f"freeze.through={n}"] for n in ("stem", "stage1", "stage2", "stage3", "all")),
        *([f"train.batch_size={n}"] for n in (4, 8, 12)),
        *([f"train.batch_size={n}", "freeze.through=stem"] for n in (4, 8)),
    ]
    counts = []
    for seed in (0, 1):
        before = counted()
        for each in words:
            train(*each, f"seed={seed}", "train.epochs=1", "train.warmup_epochs=0")
        counts.append(counted() - before)
    assert counts == [len(words), 0]


def test_what_follows_stored_features_is_compiled_once(train, counted):
    words = ["train.features=close", "freeze.through=stage2"]
    train(*words)
    first = counted()
    plan = train(*words, "seed=1")
    assert counted() == first
    counts = json.loads((plan.run_dir / "summary.json").read_text())["reuse"]
    assert counts["images_reused"] > 0 and counts["largest_difference"] == 0


def test_every_batch_size_is_compiled_for_itself(train, counted):
    """Torch alone makes a function for all of them after a few, with other bits."""
    counts = []
    for size in (8, 12, 16, 20):
        before = counted()
        train(f"train.batch_size={size}", "train.epochs=1", "train.warmup_epochs=0")
        counts.append(counted() - before)
    assert counts == [1, 1, 1, 1]


@pytest.mark.slow
def test_no_bit_depends_on_what_inductor_compiled_before(train):
    torch.set_num_threads(1)
    train("train.batch_size=8", folder="before")
    after = train()
    torch._dynamo.reset()
    alone = train(folder="alone")
    check_same(after.run_dir, alone.run_dir)


def test_the_plan_says_what_compiling_costs(tmp_path, cache_dir):
    plans = [make_plan(tiny_config(tmp_path, cache_dir, *words)) for words in (COMPILED, [])]
    assert "compiled before the first step" in describe_plan(plans[0])
    assert "compiled" not in describe_plan(plans[1])


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning")
def test_a_gpu_compiles_cells_of_one_shape_once(train):
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counts = []
    for words in (["seed=0"], ["seed=1"], ["freeze=stage2"], ["freeze=stage2", "seed=1"]):
        before = counters["stats"]["unique_graphs"]
        train("device=cuda", *words)
        counts.append(counters["stats"]["unique_graphs"] - before)
    assert counts == [1, 0, 1, 0]
