"""Recorded updates and evaluations have the bits of those that are called.

`tape.Tape` stands in for a CUDA graph.
"""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from medmnist_files import write_file
from runs import run_until_done, stop_at_every_step, tiny_config
from tape import Tape
from test_run import check_same
from test_tasks import plan_of as plan_task
from torch import nn

from tlcnn.data import batches as batches_module
from tlcnn.data.augment import make_image_tensor
from tlcnn.errors import Stopped
from tlcnn.plan.plan import make_plan
from tlcnn.run.run import run
from tlcnn.training import fit as fitting
from tlcnn.training.optim import compute_lr
from tlcnn.training.recorder import N_REAL, Recorder

RANDOM = ["freeze.allow_random=true"]
CASES = {
    "adamw": ["model.drop_rate=0.3"],
    "sgd": ["train.optimizer=sgd", "train.momentum=0.9", "train.clip_norm=null"],
    "sgd without momentum": ["train.optimizer=sgd", "train.momentum=0"],
    "bf16": ["train.precision=bf16", "train.label_smoothing=0.1", "train.class_weights=balanced"],
    "an average": ["train.ema_decay=0.9", "train.clip_norm=0.5"],
    "views": ["train.views=2", "train.augment=strong"],
    "no views": ["train.augment=none"],
    "frozen": ["freeze.through=stage2", *RANDOM, "reuse=none", "model.drop_path_rate=0.2"],
    "frozen, stored": ["freeze.through=stage2", *RANDOM, "train.augment=none"],
    "frozen, a pool": ["freeze.through=stage2", *RANDOM, "train.views=2"],
    "frozen, stored for one epoch": ["freeze.through=stage2", *RANDOM, "shared_depths=[2,2]"],
    "a probe": ["freeze=all", *RANDOM, "train.views=2"],
    "norms in training mode": ["freeze.through=stage2", "freeze.bn=batch", *RANDOM],
    "adapted norms": ["freeze.through=stage2", "freeze.bn=adapt", *RANDOM],
    "trained norms": ["freeze.through=stage2", "freeze.bn=affine", *RANDOM],
    "small evaluations": ["eval_batch_size=7"],
}
TREATMENTS = {
    "rates by depth": ["train.layer_decay=0.5", "train.head_lr=0.003"],
    "rates by unit": [
        "train.unit_lr={stage3: 0.1, stage4: 2}",
        "train.optimizer=sgd",
        "train.lr=0.05",
    ],
    "anchor": ["train.anchor=5", "train.layer_decay=0.7", "train.ema_decay=0.9"],
    "mixup": ["train.mixup=0.4", "model.drop_rate=0.2"],
    "cutmix": ["train.cutmix=1", "train.augment=none"],
    "mixup and cutmix": ["train.mixup=0.4", "train.cutmix=1", "train.batch_size=8"],
    "erase": ["train.erase=0.5", "train.views=2"],
    "erase alone": ["train.erase=0.5", "train.augment=none"],
    "balanced": ["train.sampling=balanced"],
    "balanced, a pool": ["train.sampling=balanced", "train.views=3"],
    "ranges of views": ["train.augment_ranges={rotate: 45, scale: [0.9, 1.2]}", "train.views=2"],
    "focal": ["train.loss=focal", "train.label_smoothing=0.1"],
    "logit adjustment": ["train.logit_adjustment=1", "train.class_weights=none"],
    "selection": ["train.select=macro_auroc", "train.patience=1"],
    "accumulation": ["train.accumulate=2", "train.batch_size=8", "model.drop_rate=0.2"],
}
# All that go together.
ALL = ["train.layer_decay=0.7", "train.head_lr=0.003", "train.anchor=0.1", "train.mixup=0.4"]
ALL += ["train.cutmix=1", "train.erase=0.5", "train.sampling=balanced", "train.loss=focal"]
ALL += ["train.select=nll", "train.accumulate=2", "train.batch_size=8", "train.ema_decay=0.9"]
ALL += ["train.label_smoothing=0.1", "train.augment_ranges={rotate: 45, tint: 0.1}"]
CASES |= TREATMENTS | {"anchor": ["init=self", *TREATMENTS["anchor"]]}


@pytest.fixture
def recording(monkeypatch):
    """Records on the CPU."""
    monkeypatch.setattr(fitting, "find_graph", lambda device: Tape)
    Tape.n_recorded = Tape.n_replayed = 0


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    def make(place, *overrides):
        depths = [word for word in overrides if word.startswith("shared_depths")]
        words = [word for word in overrides if word not in depths]
        plan = make_plan(tiny_config(tmp_path / place, cache_dir, "train.epochs=3", *words))
        return replace(plan, shared_depths=(2, 2)) if depths else plan

    return make


def run_recorded(plan):
    """Train with recordings, and return how many there were and how often they were replayed."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fitting, "find_graph", lambda device: Tape)
        Tape.n_recorded = Tape.n_replayed = 0
        run(plan)
    return Tape.n_recorded, Tape.n_replayed


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_a_recorded_training_has_the_same_bits(plan_of, words):
    called, recorded = plan_of("called", *words), plan_of("recorded", *words)
    run(called)
    n_recorded, n_replayed = run_recorded(recorded)
    assert n_recorded >= 1 and n_replayed > N_REAL
    check_same(called.run_dir, recorded.run_dir)


def test_images_on_the_device_are_gathered_in_the_recording(plan_of, monkeypatch):
    called, recorded = plan_of("called"), plan_of("recorded")
    run(called)
    place = lambda array, device: make_image_tensor(array).clone()  # noqa: E731
    monkeypatch.setattr(batches_module, "place_pixels", place)
    assert run_recorded(recorded)[1] > N_REAL
    check_same(called.run_dir, recorded.run_dir)


def test_a_multi_label_training_can_be_recorded(tmp_path, cache_dir):
    write_file(tmp_path / "data", "chestmnist", counts={"train": 80, "val": 40, "test": 40})
    words = ["train.epochs=3", "train.batch_size=16", "threads=1"]
    called, recorded = (
        plan_task(tmp_path, cache_dir, "chestmnist", *words, f"output_dir={tmp_path / name}")
        for name in ("called", "recorded")
    )
    run(called)
    assert run_recorded(recorded)[1] > N_REAL
    check_same(called.run_dir, recorded.run_dir)


@pytest.mark.parametrize("words", [["model.drop_rate=0.3", "train.ema_decay=0.9"], CASES["sgd"]])
def test_a_recorded_training_that_is_stopped_often_goes_on_to_the_same_bits(
    plan_of, monkeypatch, words, recording
):
    whole, stopped = plan_of("whole", *words), plan_of("stopped", *words)
    run(whole)
    assert Tape.n_replayed > N_REAL
    monkeypatch.setattr("tlcnn.training.recorder.N_REAL", 1)
    stop_at_every_step(monkeypatch, n_steps=2)
    assert run_until_done(stopped) >= 4
    check_same(whole.run_dir, stopped.run_dir)


class Reader(nn.Module):
    """Reads a number from a tensor, which makes a GPU's host wait."""

    def forward(self, images):
        return images * (1.0 if images.sum().item() > -1e9 else 0.0)


def test_what_cannot_be_recorded_is_called_and_the_log_says_why(plan_of, monkeypatch, caplog):
    from tlcnn.training import update

    real = update.Updates.__init__

    def init(self, network, *arguments):
        real(self, network, *arguments)
        self.forward = nn.Sequential(Reader(), network.trained)

    called, recorded = plan_of("called"), plan_of("recorded")
    run(called)
    monkeypatch.setattr(update.Updates, "__init__", init)
    with caplog.at_level(logging.WARNING, "tlcnn"):
        run_recorded(recorded)
    check_same(called.run_dir, recorded.run_dir)
    (message,) = [r.getMessage() for r in caplog.records if "cannot be recorded" in r.getMessage()]
    assert "_local_scalar_dense" in message


def test_the_log_names_the_first_error(caplog):
    """Where a recording ends with an error, a GPU only says that there was an error before."""

    class Broken(Tape):
        def record(self, function):
            try:
                raise RuntimeError("operation not permitted when stream is capturing\nat line 1")
            finally:
                raise RuntimeError("operation failed due to a previous error during capture")

    recorder = Recorder(Broken)
    with caplog.at_level(logging.WARNING, "tlcnn"):
        for _ in range(N_REAL + 2):
            recorder.run(lambda v: v["x"] + 1, {"x": torch.ones(1)}, "key")
    (record,) = caplog.records
    assert record.getMessage().endswith("slower: operation not permitted when stream is capturing")


@pytest.mark.parametrize("stops", [False, True])
def test_a_run_that_has_ended_holds_no_memory(plan_of, monkeypatch, recording, stops):
    """On a GPU the next runs need it, and Python collects cycles when it likes."""
    import gc
    import weakref

    references, real = [], fitting.Fit.train_epoch

    def watch(self):
        if self.position.epoch == 3:
            updates = self.updates
            references.extend(map(weakref.ref, (updates, updates._recorder._graph)))
            references.extend(map(weakref.ref, (self.network.model, updates.optimizer)))
            if stops:
                self.stop.signal_name = "SIGTERM"
        yield from real(self)

    monkeypatch.setattr(fitting.Fit, "train_epoch", watch)
    plan = plan_of("out")
    gc.collect()
    gc.disable()
    try:
        if stops:
            with pytest.raises(Stopped):
                run(plan)
        else:
            run(plan)
        assert [reference() for reference in references] == [None] * 4
    finally:
        gc.enable()


FAMILIES = (
    *("resnet10t", "seresnet18", "mobilenetv2_035", "mobilenetv3_small_050", "efficientnet_lite0"),
    *("densenet121", "test_convnext", "regnetx_002", "vgg11_bn", "ghostnet_050", "test_nfnet"),
)


@pytest.mark.parametrize("name", [f for f in FAMILIES if f not in ("densenet121", "vgg11_bn")])
def test_every_family_can_be_recorded(plan_of, name):
    check_family(plan_of, name, "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_recorded_in_either_precision(plan_of, name, precision):
    check_family(plan_of, name, precision)


def check_family(plan_of, name, precision):
    # Maps of a single pixel have strides in which the tape's aliases and autograd differ.
    words = [f"model.name={name}", "train.epochs=2", "dataset.image_size=64"]
    words += [f"train.precision={precision}", "freeze.through=1", *RANDOM, "reuse=none"]
    called, recorded = plan_of("called", *words), plan_of("recorded", *words)
    run(called)
    assert run_recorded(recorded)[1] > 1
    check_same(called.run_dir, recorded.run_dir)


# ---- the recorder alone -------------------------------------------------------------------------


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_recording_reads_the_values_of_each_call(one_thread):
    recorder = Recorder(Tape)
    for number in range(N_REAL + 3):
        value = torch.full((2,), float(number))
        result = recorder.run(lambda v: v["x"] * 2, {"x": value}, "key")
        assert result.tolist() == [2 * number] * 2


def test_python_numbers_are_those_of_the_recording(one_thread):
    """So that a test above would fail if an update used one that changes."""
    recorder, factors = Recorder(Tape), iter(range(100))
    results = [
        recorder.run(lambda v: v["x"] * next(factors), {"x": torch.ones(1)}, "key").item()
        for _ in range(N_REAL + 3)
    ]
    assert results == [0, 1, 2, 3, 3, 3]


def test_nothing_is_carried_over_in_memory_of_the_recording(one_thread):
    recorder, carried = Recorder(Tape), []

    def accumulate(values):
        carried.append(values["x"] + (carried[-1] if carried else 0))
        return carried[-1]

    results = [
        recorder.run(accumulate, {"x": torch.ones(1)}, "key").item() for _ in range(N_REAL + 2)
    ]
    assert results[-1] != N_REAL + 2


@pytest.mark.parametrize("change", ["key", "shape", "type"])
def test_another_function_or_shape_is_recorded_anew(one_thread, change):
    recorder = Recorder(Tape)
    Tape.n_recorded = 0
    for turn in range(2):
        for _ in range(N_REAL + 1):
            value = torch.ones(
                3 + turn * (change == "shape"),
                dtype=torch.float64 if turn and change == "type" else torch.float32,
            )
            result = recorder.run(
                lambda v, turn=turn: v["x"] + turn, {"x": value}, turn * (change == "key")
            )
        assert result.tolist() == [1 + turn if change == "key" or not turn else 2] * len(value)
    assert Tape.n_recorded == 2


def test_what_a_recording_reads_is_not_deleted(one_thread):
    import gc
    import weakref

    recorder = Recorder(Tape)

    class Maker:
        def __call__(self, values):
            return values["x"] + 1

    maker = Maker()
    reference = weakref.ref(maker)
    for _ in range(N_REAL + 1):
        recorder.run(maker, {"x": torch.ones(1)}, "key")
    del maker
    gc.collect()
    assert reference() is not None
    recorder.run(lambda v: v["x"], {"x": torch.ones(2)}, "another")
    gc.collect()
    assert reference() is None


def test_gradients_do_not_add_up_when_a_recording_ends(one_thread):
    """After a failed recording, and between recordings, the host clears what they left."""
    weight = torch.nn.Parameter(torch.ones(1))

    def clear():
        weight.grad = None

    recorder, gradients = Recorder(Tape, clear), []

    def update(values):
        (weight * values["x"]).sum().backward()
        gradients.append(weight.grad)
        return weight.grad.clone()

    for key in ("first", "second"):
        results = [
            recorder.run(update, {"x": torch.full((1,), 2.0)}, key).item()
            for _ in range(N_REAL + 2)
        ]
        assert results == [2.0] * (N_REAL + 2)
    assert np.isfinite(results).all()


def test_a_plan_says_how_a_gpu_gets_its_work(plan_of):
    from tlcnn.device import Device
    from tlcnn.plan.describe import describe_plan

    gpu = Device("cuda", bf16=True, hardware="a card")
    for word, text in (("true", "recorded as a CUDA graph"), ("false", "launched from Python")):
        plan = plan_of("plan", f"cuda_graph={word}", "train.precision=fp32")
        assert "CUDA graph" not in describe_plan(plan) and "launched" not in describe_plan(plan)
        assert text in describe_plan(replace(plan, device=gpu))


def test_a_recording_that_finds_no_memory_is_no_reason_to_call(one_thread):
    class Full(Tape):
        def record(self, function):
            raise torch.OutOfMemoryError("CUDA out of memory")

    recorder = Recorder(Full)
    for _ in range(N_REAL):
        recorder.run(lambda v: v["x"], {"x": torch.ones(1)}, "key")
    with pytest.raises(torch.OutOfMemoryError):
        recorder.run(lambda v: v["x"], {"x": torch.ones(1)}, "key")


@pytest.mark.parametrize("is_recorded", [False, True])
def test_every_update_is_made_with_the_rate_of_the_schedule(plan_of, monkeypatch, is_recorded):
    plan, rates = plan_of("rates"), []
    real = fitting.Updates.run

    def note_the_rate(self, *update):
        real(self, *update)
        rates.append(self.optimizer.param_groups[0]["lr"].item())

    monkeypatch.setattr(fitting.Updates, "run", note_the_rate)
    run_recorded(plan) if is_recorded else run(plan)
    recipe, n_steps = plan.config.train, plan.steps_per_epoch
    assert rates == [
        compute_lr(
            step,
            peak=recipe.lr,
            n_steps=recipe.epochs * n_steps,
            n_warmup_steps=round(recipe.warmup_epochs * n_steps),
            final_fraction=recipe.final_lr_fraction,
        )
        for step in range(recipe.epochs * n_steps)
    ]
    assert len(set(rates)) > 3
    lines = (plan.run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["lr"] for line in lines] == rates[n_steps - 1 :: n_steps]
