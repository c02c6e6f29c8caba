"""On a GPU: whichever way a training takes there, it ends in the same bits.

eager = recorded = packed with others = stopped and continued = killed and continued
"""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import run_until_done, stop_at_every_step, tiny_command, tiny_config
from test_packing import RANDOM, make_jobs
from test_recording import FAMILIES, Reader
from test_run import check_same
from torch import nn

from tlcnn.config.compose import make_memory
from tlcnn.data import batches as batches_module
from tlcnn.data.batches import load_batches
from tlcnn.memory import Memory
from tlcnn.plan.plan import make_plan
from tlcnn.run.job import Outcome
from tlcnn.run.run import run
from tlcnn.sweep.drive import launch_here
from tlcnn.training import recorder, update

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from bench.exactness import count_differing  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]

EAGER = "cuda_graph=false"
CASES = {
    "dropout and drop path": ["model.drop_rate=0.3", "model.drop_path_rate=0.2"],
    "sgd": ["train.optimizer=sgd", "train.momentum=0.9", "train.clip_norm=null"],
    "sgd without momentum": ["train.optimizer=sgd", "train.momentum=0"],
    "an average": ["train.ema_decay=0.9", "train.clip_norm=0.5"],
    "weights and smoothing": ["train.label_smoothing=0.1", "train.class_weights=balanced"],
    "views": ["train.views=2", "train.augment=strong"],
    "frozen": ["freeze.through=stage2", RANDOM, "reuse=none"],
    "frozen, stored": ["freeze.through=stage2", RANDOM, "train.views=2", "train.features=close"],
    "a probe": ["freeze=all", RANDOM, "train.views=2", "train.features=close"],
    "adapted norms": ["freeze.through=stage2", "freeze.bn=adapt", RANDOM],
    "trained norms": ["freeze.through=stage2", "freeze.bn=affine", RANDOM],
}
PACKED = (
    ["model.drop_rate=0.3"],
    ["freeze.through=stage2", RANDOM, "train.views=2"],
    ["train.ema_decay=0.9", "train.epochs=4", "train.precision=bf16"],
    ["seed=1", "model.drop_rate=0.3", "train.optimizer=sgd"],
    ["seed=2", "train.precision=bf16"],
)


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    def make(place, *words):
        words = ("device=cuda", "train.epochs=3", "eval_batch_size=7", *words)
        return make_plan(tiny_config(tmp_path / place, cache_dir, *words))

    return make


@pytest.fixture
def replays(monkeypatch):
    """The number of replays so far."""
    real, counted = recorder.CudaGraph.replay, []
    monkeypatch.setattr(
        recorder.CudaGraph, "replay", lambda self: (counted.append(1), real(self))[1]
    )
    return counted


def check_ways(plan_of, caplog, replays, *words):
    """Train eagerly and recorded; the bits are equal, and nothing was launched one by one."""
    eager, recorded = plan_of("eager", EAGER, *words), plan_of("recorded", *words)
    run(eager)
    assert not replays
    with caplog.at_level(logging.DEBUG, "tlcnn"):
        run(recorded)
    messages = [record.getMessage() for record in caplog.records]
    assert sum(text.startswith("recorded the work") for text in messages) >= 2, messages
    assert not any("cannot be recorded" in text for text in messages), messages
    assert len(replays) > 9
    check_same(eager.run_dir, recorded.run_dir)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_a_recorded_training_has_the_bits_of_an_eager_one(
    plan_of, caplog, replays, words, precision
):
    check_ways(plan_of, caplog, replays, f"train.precision={precision}", *words)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_the_bits_of_an_eager_training(plan_of, caplog, replays, name, precision):
    words = [f"model.name={name}", f"train.precision={precision}", "dataset.image_size=64"]
    check_ways(plan_of, caplog, replays, *words, "freeze.through=1", RANDOM, "reuse=none")


def test_images_that_do_not_fit_are_sent_in_time(plan_of, caplog, replays, monkeypatch):
    resident = plan_of("resident")
    run(resident)
    replays.clear()
    monkeypatch.setattr(batches_module, "place_pixels", lambda array, device: array)
    check_ways(plan_of, caplog, replays)
    check_same(resident.run_dir, plan_of("recorded").run_dir)


@pytest.mark.slow
def test_a_compiled_training_is_recorded_too(plan_of, caplog, replays):
    check_ways(plan_of, caplog, replays, "train.compile=true", "model.drop_rate=0.3")


@pytest.mark.parametrize("images", ["on the card", "sent"])
def test_runs_that_share_the_card_have_the_bits_of_runs_alone(plan_of, monkeypatch, images):
    if images == "sent":
        monkeypatch.setattr(batches_module, "place_pixels", lambda array, device: array)
    alone = [plan_of("alone", EAGER, *words) for words in PACKED]
    together = [plan_of("together", *words) for words in PACKED]
    for plan in alone:
        run(plan)
    for n_together in (len(PACKED), None):
        outcomes = launch_here(make_jobs(together), make_memory([]), n_together=n_together)
        assert outcomes == [Outcome()] * len(PACKED)
        for first, second in zip(alone, together, strict=True):
            check_same(first.run_dir, second.run_dir)
        together = [plan_of("automatic", *words) for words in PACKED]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_that_is_stopped_often_ends_in_the_same_bits(plan_of, monkeypatch, precision):
    words = [f"train.precision={precision}", "model.drop_rate=0.3", "train.ema_decay=0.9"]
    whole, stopped = plan_of("whole", *words), plan_of("stopped", *words)
    run(whole)
    monkeypatch.setattr(recorder, "N_REAL", 1)  # the second step of a session is recorded
    stop_at_every_step(monkeypatch, n_steps=2)
    assert run_until_done(stopped) >= 4
    check_same(whole.run_dir, stopped.run_dir)


def test_a_training_that_is_killed_ends_in_the_same_bits(plan_of, tmp_path, cache_dir):
    words = ["device=cuda", "train.epochs=6", "checkpoint_every_s=0", "model.drop_rate=0.3"]
    whole = plan_of("whole", *words)
    run(whole)
    command = [sys.executable, "-m", "tlcnn.train"]
    command += tiny_command(tmp_path / "killed", cache_dir, *words, "eval_batch_size=7")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "epoch 2/" in line:
            os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, capture_output=True)
    check_same(whole.run_dir, plan_of("killed", *words).run_dir)


@pytest.mark.parametrize("draws", [False, True])
def test_what_cannot_be_recorded_trains_eagerly_and_the_log_says_why(
    plan_of, monkeypatch, caplog, draws
):
    """Also where the recording had drawn random numbers before it failed."""
    real = update.Updates.__init__

    def init(self, network, *arguments):
        real(self, network, *arguments)
        before = [nn.Dropout(0.1)] if draws else []
        self.forward = nn.Sequential(*before, Reader(), network.trained)

    with monkeypatch.context() as patched:
        patched.setattr(update.Updates, "__init__", init)
        eager, recorded = plan_of("eager", EAGER), plan_of("recorded")
        run(eager)
        with caplog.at_level(logging.WARNING, "tlcnn"):
            run(recorded)
    texts = [record.getMessage() for record in caplog.records]
    assert any("cannot be recorded" in text and "captur" in text for text in texts), texts
    check_same(eager.run_dir, recorded.run_dir)
    later, expected = plan_of("later", "seed=1"), plan_of("expected", "seed=1", EAGER)
    run(later)
    run(expected)
    check_same(later.run_dir, expected.run_dir)


def test_the_memory_of_runs_that_have_ended_is_free_again(plan_of):
    memory, held = Memory(), []
    for seed in range(6):
        run(plan_of("out", f"seed={seed}"), memory)
        torch.cuda.empty_cache()
        held.append(torch.cuda.memory_reserved())
    assert held[-1] <= held[1] + 8 * 2**20, held


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_units_compute_an_image_to_the_same_bits_in_any_batch(plan_of, name, precision):
    """The question whether stored outputs are exact on this card; an answer of no is a failure."""
    words = [f"model.name={name}", f"train.precision={precision}", "dataset.image_size=64"]
    plan = plan_of("out", *words, "freeze=all", RANDOM)
    counts = count_differing(plan)
    assert not any(counts.values()), counts


def test_the_images_of_a_split_lie_on_the_card(plan_of):
    plan = plan_of("out")
    splits = load_batches(
        plan.config.dataset,
        plan.dataset,
        Memory(),
        device="cuda",
        cache_dir=plan.cache_dir,
        workers=1,
        progress=False,
    )
    batch = splits["train"].take(np.arange(3))
    assert batch.is_cuda and isinstance(splits["train"].pixels, torch.Tensor)
