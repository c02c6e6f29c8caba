"""train.features=close: what is stored may differ from the network's own, but not by much."""

import json
import shutil

import pytest
import torch
from runs import tiny_config
from test_reuse import reuse_line, save_source
from test_run import check_same

from tlcnn.device import Device
from tlcnn.frozen import device_cache, frozen_units
from tlcnn.frozen.features import FeatureViews
from tlcnn.model.difference import measure_difference
from tlcnn.plan.plan import make_plan
from tlcnn.plan.reuse import TOLERANCES, find_reason, find_tolerance, make_source_key
from tlcnn.run.run import run

CLOSE = ["train.features=close", "freeze.allow_random=true", "freeze.through=stage2"]
FP32 = TOLERANCES["fp32"]


pytestmark = pytest.mark.usefixtures("one_core", "feature_dir")


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    def make(name, *words):
        return make_plan(tiny_config(tmp_path / name, cache_dir, "train.augment=none", *words))

    return make


def disturb(monkeypatch, size):
    """Let a fill come out off by `size` of the largest value: as on a GPU, in other batches."""
    real = frozen_units.pass_boundaries

    def pass_disturbed(model, unit_map, first, wanted):
        function = real(model, unit_map, first, wanted)

        def compute(entering):
            crossed = function(entering)
            if not filling:
                return crossed
            return {n: each + size * each.abs().max() for n, each in crossed.items()}

        return compute

    real_fill, filling = frozen_units.FrozenUnits._fill, []

    def fill(self, *arguments):
        filling.append(True)
        try:
            return real_fill(self, *arguments)
        finally:
            filling.pop()

    monkeypatch.setattr(frozen_units, "pass_boundaries", pass_disturbed)
    monkeypatch.setattr(frozen_units.FrozenUnits, "_fill", fill)


# ------------------------------------------------------------------------------ how close is close


def test_where_nothing_differs_close_is_exact(plan_of):
    close, plain = plan_of("close", *CLOSE), plan_of("none", *CLOSE, "reuse=none")
    counts = run(close)["reuse"]
    run(plain)
    check_same(close.run_dir, plain.run_dir)
    assert counts["largest_difference"] == 0 and counts["tolerance"] == FP32
    assert counts["arrays_filled"] == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_small_differences_are_used_and_written_down(plan_of, monkeypatch, heard, precision):
    size = TOLERANCES[precision] / 4
    disturb(monkeypatch, size)
    words = [*CLOSE, f"train.precision={precision}"]
    plan = plan_of("close", *words)
    counts = run(plan)["reuse"]
    assert 0 < counts["largest_difference"] <= 2 * size
    assert counts["images_reused"] > counts["images_computed"] / 2 > 0
    assert "not used" not in heard.text
    assert f"differed by up to {counts['largest_difference']:.2g} of" in heard.text
    assert json.loads((plan.run_dir / "summary.json").read_text())["reuse"] == counts
    plain = plan_of("none", *words, "reuse=none")
    run(plain)
    with pytest.raises(AssertionError):  # the numbers are really others, hence the other id
        check_same(plan.run_dir, plain.run_dir)
    again = plan_of("again", *words)
    assert run(again)["reuse"]["largest_difference"] == counts["largest_difference"]


def test_large_differences_are_refused_with_a_line_that_says_so(plan_of, monkeypatch, heard):
    disturb(monkeypatch, 1e-2)
    plan, plain = plan_of("close", *CLOSE), plan_of("none", *CLOSE, "reuse=none")
    counts = run(plan)["reuse"]
    run(plain)
    check_same(plan.run_dir, plain.run_dir)
    assert counts["largest_difference"] == pytest.approx(1e-2, rel=0.01)
    said = "stored features are not used: they differ by 0.01, relative to the largest value"
    assert said in heard.text and "train.features=close allows 0.00012" in heard.text


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_another_image_is_never_close(plan_of, monkeypatch, heard, precision):
    real = FeatureViews.feed

    def feed_neighbours(self, batches, which=None):
        neighbours = [(picked + 1) % len(self.arrays[0].rows) for picked in batches]
        return real(self, neighbours, which)

    monkeypatch.setattr(FeatureViews, "feed", feed_neighbours)
    words = [*CLOSE, f"train.precision={precision}"]
    plan, plain = plan_of("close", *words), plan_of("none", *words, "reuse=none")
    counts = run(plan)["reuse"]
    run(plain)
    check_same(plan.run_dir, plain.run_dir)
    assert counts["largest_difference"] > 0.2
    assert heard.text.count("stored features are not used") == 3  # train, val and test


def test_exact_refuses_what_close_takes(plan_of, monkeypatch, heard):
    disturb(monkeypatch, 1e-7)
    words = [*CLOSE, "train.features=exact", "eval_batch_size=16"]
    plan, plain = plan_of("exact", *words), plan_of("none", *words, "reuse=none")
    shutil.rmtree(plan.cache_dir / "features", ignore_errors=True)
    run(plan)
    run(plain)
    assert "give other bits in batches of another size or order" in heard.text
    heard.clear()
    run(plan_of("close", *CLOSE))
    assert "not used" not in heard.text


def test_other_draws_are_refused_however_close(plan_of, monkeypatch, heard):
    real = frozen_units.FrozenUnits.compute

    def draw(self, images):
        torch.rand(1)
        return real(self, images)

    monkeypatch.setattr(frozen_units.FrozenUnits, "compute", draw)
    counts = run(plan_of("close", *CLOSE))["reuse"]
    assert "or the network draws random numbers" in heard.text
    assert counts["largest_difference"] == 0  # and JSON has no infinity


def test_differences_are_relative_to_the_largest_value():
    expected = torch.tensor([[-4.0, 1.0], [0.0, 2.0]])
    assert measure_difference(expected, expected.clone()) == 0
    assert measure_difference(expected, expected + torch.tensor([0.0, 0.5])) == 0.125
    negative_zero = torch.where(expected == 0, -expected, expected)
    assert 0 < measure_difference(expected, negative_zero) < 1e-40
    for odd in (expected[:1], expected.double(), expected / 0):
        assert measure_difference(expected, odd) == float("inf")
    assert measure_difference(torch.zeros(2), torch.ones(2)) == float("inf")


# -------------------------------------------------------------------------------- what a plan says


def on(plan, name, bf16=True):
    import dataclasses

    return dataclasses.replace(plan, device=Device(name, bf16, "a card"))


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_devices_reuse_in_the_declared_mode_only(plan_of, device):
    exact, close = (
        on(plan_of("p", *CLOSE, f"train.features={word}"), device) for word in ("exact", "close")
    )
    assert f"none: off on {device}" in reuse_line(exact)
    assert "train.features=close allows that" in reuse_line(exact)
    assert make_source_key(exact) is None and make_source_key(close) is not None
    line = reuse_line(close)
    assert "outputs of stage2" in line and "close: they may differ by" in line


def test_tolerances_follow_the_arithmetic(plan_of):
    fp32 = plan_of("p", *CLOSE)
    bf16 = plan_of("p", *CLOSE, "train.precision=bf16")
    assert find_tolerance(plan_of("p", *CLOSE, "train.features=exact")) == 0
    assert find_tolerance(fp32) == TOLERANCES["fp32"] == 2**-13
    assert find_tolerance(bf16) == find_tolerance(on(bf16, "cuda")) == 2**-4
    assert find_tolerance(on(fp32, "cuda")) == TOLERANCES["tf32"] == 2**-7
    assert (
        find_tolerance(on(fp32, "cuda", bf16=False)) == find_tolerance(on(fp32, "mps")) == 2**-13
    )


def test_what_stands_in_the_way_stands_in_the_way_of_both(plan_of):
    for word, why in {
        "freeze.through=none": "nothing is frozen",
        "reuse=none": "reuse=none",
        "freeze.bn=adapt": "freeze.bn=adapt lets",
        "model.name=hrnet_w18_small": "no single tensor leaves stage2",
    }.items():
        assert find_reason(plan_of("p", *CLOSE, word)).startswith(why)
    compiled = [*CLOSE, "train.compile=true"]
    assert find_reason(plan_of("p", *compiled)) is None
    exact = find_reason(plan_of("p", *compiled, "train.features=exact"))
    assert exact.startswith("train.compile fuses")


# --------------------------------------------------------------------------------- on the device


@pytest.fixture
def device_memory(monkeypatch):
    """A CPU whose memory is taken for a device's: `free` bytes of it, less what is placed."""
    room = {"free": 10**9, "uploads": 0}
    real = device_cache.copy_rows

    def upload(views, device):
        room["uploads"] += 1
        return real(views, device)

    monkeypatch.setattr(device_cache, "has_own_memory", lambda device: True)
    monkeypatch.setattr(device_cache, "copy_rows", upload)
    monkeypatch.setattr(device_cache, "find_room", lambda device, n_held=0: room["free"] // 2)
    return room


VIEWS = {"one view": ["train.augment=none"], "a pool": ["train.augment=standard", "train.views=2"]}


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("free", [10**9, 520_000, 0], ids=["all fit", "some fit", "none fits"])
def test_no_bit_depends_on_where_features_lie(plan_of, device_memory, views, free, heard):
    device_memory["free"] = free
    words = [*CLOSE, *VIEWS[views], "train.epochs=3"]
    placed, plain = plan_of("placed", *words), plan_of("none", *words, "reuse=none")
    counts = run(placed)["reuse"]
    run(plain)
    check_same(placed.run_dir, plain.run_dir)
    assert counts["largest_difference"] == 0 and counts["images_reused"] > 0
    wanted = {10**9: 3, 520_000: 2, 0: 0}[free]
    assert device_memory["uploads"] == wanted  # train, val, test, and each of them once
    assert ("do not fit on cpu: sent by batch" in heard.text) == (wanted < 3)


@pytest.mark.parametrize("views", VIEWS)
def test_a_probe_reads_what_lies_on_the_device(plan_of, device_memory, views):
    words = [*CLOSE, "freeze.through=all", *VIEWS[views]]
    placed, plain = plan_of("placed", *words), plan_of("none", *words, "reuse=none")
    counts = run(placed)["reuse"]
    run(plain)
    check_same(placed.run_dir, plain.run_dir)
    assert counts["largest_difference"] == 0 and device_memory["uploads"] == 3


def test_a_probe_whose_rows_are_off_by_little_is_a_probe(plan_of, monkeypatch, heard):
    """Its rows are made in large batches, which a GPU may compute in another way."""
    from tlcnn.frozen.probe import ProbeBatches

    real, is_off = ProbeBatches._pool_views, [1.0]
    monkeypatch.setattr(
        ProbeBatches, "_pool_views", lambda self, views: real(self, views) * is_off[0]
    )
    reached = []
    gather = ProbeBatches._gather

    def watch(self, *arguments):
        reached.append(self._may_use)
        return gather(self, *arguments)

    monkeypatch.setattr(ProbeBatches, "_gather", watch)
    for size, n_good in ((1e-6, 3), (1e-1, 1)):  # epochs, and the comparison
        is_off[0] = 1 + size
        reached.clear()
        counts = run(plan_of(f"off{size}", *CLOSE, "freeze.through=all"))["reuse"]
        assert counts["largest_difference"] == pytest.approx(size, rel=0.2)
        assert sum(reached) == n_good, reached


def test_the_runs_of_a_process_bring_an_array_to_the_device_once(plan_of, device_memory, tmp_path):
    from tlcnn.memory import Memory

    source = ["init=checkpoint", f"init.weights={save_source(tmp_path)}"]
    memory = Memory()
    for seed in (0, 1, 2):
        run(plan_of("out", *CLOSE, *source, f"seed={seed}"), memory)
    assert device_memory["uploads"] == 3


# ---------------------------------------------------------------------------------- on a real one


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_reuses_within_the_tolerance(plan_of, precision):
    words = [*CLOSE, "device=cuda", f"train.precision={precision}", *VIEWS["a pool"]]
    plain = run(plan_of("none", *words, "reuse=none"))["metrics"]
    for session in ("first", "second"):
        summary = run(plan_of(session, *words))
        counts = summary["reuse"]
        assert counts["largest_difference"] <= counts["tolerance"]
        assert counts["arrays_filled"] == (4 if session == "first" else 0)
        assert summary["metrics"]["test/nll"] == pytest.approx(plain["test/nll"], rel=0.05)
    n_compared = counts["images_computed"]
    assert 0 < n_compared < 140  # a training batch, and the ends of the evaluations
