"""Reusing what frozen units compute never changes a bit, and computes nothing twice."""

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import stop_at_every_step, tiny_command, tiny_config
from test_run import check_same, one_thread

from tlcnn.data.array_store import ArrayStore
from tlcnn.data.augment import make_image_keys
from tlcnn.data.batches import Batches
from tlcnn.data.feed import Feed
from tlcnn.data.policy import AUGMENTS
from tlcnn.errors import Stopped
from tlcnn.frozen import batches as batches_module
from tlcnn.frozen import frozen_units
from tlcnn.memory import Memory
from tlcnn.model.build import build_model
from tlcnn.model.cut import pass_boundaries
from tlcnn.model.load_units import load_unit_map
from tlcnn.plan.describe import describe_plan
from tlcnn.plan.plan import make_plan
from tlcnn.plan.reuse import decide_reuse, make_source_key
from tlcnn.run.run import run

VIEWS = {
    "one view": ["train.augment=none"],
    "a pool": ["train.views=2"],
    "new views": ["shared_depths=[1,1,2,3,4,5]"],
    "new views alone": [],
}
FROZEN = ["freeze.allow_random=true", "model.drop_rate=0.3", "train.ema_decay=0.9"]


pytestmark = pytest.mark.usefixtures("one_core", "feature_dir")


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    """A plan of its own folder: every one of them trains, and they share what is stored."""
    numbers = itertools.count()

    def make(*words):
        folder = tmp_path / f"out{next(numbers)}"
        depths = [json.loads(w.split("=")[1]) for w in words if w.startswith("shared_depths=")]
        keys = [word for word in words if not word.startswith("shared_depths=")]
        plan = make_plan(tiny_config(folder, cache_dir, *FROZEN, *keys))
        return replace(plan, shared_depths=tuple(depths[-1] if depths else ()))

    return make


def check_reuse(plan_of, *words, stored=True, sessions=2):
    """Train without reuse, with it, and with all of it there; return what the last two counted."""
    plain = plan_of(*words, "reuse=none")
    assert run(plain)["reuse"] is None
    counts = []
    for _ in range(sessions):
        plan = plan_of(*words)
        assert plan.run_id == plain.run_id
        counts.append(run(plan)["reuse"])
        check_same(plain.run_dir, plan.run_dir)
        said = (plan.run_dir / "log.txt").read_text()
        assert " not used" not in said and "computed every time" not in said
    if stored and sessions == 2:
        assert counts[1]["images_computed"] == counts[1]["arrays_filled"] == 0
        assert counts[1]["images_reused"] > 0
    return counts


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("unit", ["stem", "stage2", "all"])
def test_no_bit_depends_on_reuse(plan_of, unit, views):
    words = [f"freeze.through={unit}", *VIEWS[views]]
    first, _ = check_reuse(plan_of, *words, stored=views != "new views alone")
    assert first["images_computed"] > 0 and first["arrays_filled"] >= 2  # val and test


@pytest.mark.parametrize("views", VIEWS)
def test_no_bit_depends_on_reuse_under_autocast(plan_of, views):
    words = ["freeze.through=stage2", "train.precision=bf16", *VIEWS[views]]
    check_reuse(plan_of, *words, stored=views != "new views alone")


@pytest.mark.parametrize("name", ["test_convnext", "test_nfnet", "mobilenetv3_small_050"])
def test_no_bit_of_other_families_depends_on_reuse(plan_of, name):
    check_reuse(plan_of, f"model.name={name}", "freeze.through=2", "train.views=2")


FAMILIES = {
    "resnet18": 32,
    "densenet121": 32,
    "mobilenetv2_100": 32,
    "efficientnet_b0": 32,
    "convnext_atto": 32,
    "regnetx_002": 32,
    "repvgg_a0": 32,
    "resnetv2_18": 32,
    "test_nfnet": 32,
    "mobilenetv3_small_050": 64,
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("views", ["one view", "a pool"])
@pytest.mark.parametrize("name", FAMILIES)
def test_no_bit_depends_on_reuse_at_any_boundary(plan_of, cache_dir, name, views, precision):
    """Three epochs of every cell; deeper boundaries are computed from shallower ones."""
    units = load_unit_map(name, cache_dir=cache_dir)
    numbers = [n for n, unit in enumerate(units.units, start=1) if unit.cut_obstacle is None]
    assert numbers
    words = [f"model.name={name}", "train.epochs=3", f"train.precision={precision}"]
    words += [f"dataset.image_size={FAMILIES[name]}", "train.batch_size=32"]
    words += VIEWS["one view"] if views == "one view" else ["train.views=4"]
    for number in numbers:  # two runs of three epochs see four views
        frozen = [f"freeze.through={number}", f"shared_depths=[{number},{number}]"]
        check_reuse(plan_of, *words, *frozen, sessions=1)
    check_reuse(plan_of, *words, "freeze=all", "model.drop_rate=0", sessions=1)  # a probe


# ------------------------------------------------------------------------ what is computed once


def test_each_unit_computes_an_image_once_in_a_sweep_of_increasing_depth(plan_of, monkeypatch):
    """Deeper boundaries are computed from the shallower ones that are there."""
    entered = []
    real = frozen_units.pass_boundaries

    def watch(model, unit_map, first, wanted):
        entered.append((first, tuple(wanted)))
        return real(model, unit_map, first, wanted)

    monkeypatch.setattr(frozen_units, "pass_boundaries", watch)
    for unit in (1, 2, 4):
        words = [f"freeze.through={unit}", "train.augment=none"]
        plans = [plan_of(*words), plan_of(*words, "reuse=none")]
        assert run(plans[0])["reuse"]["arrays_filled"] == 3
        run(plans[1])
        check_same(plans[0].run_dir, plans[1].run_dir)
    fills = [(first, wanted) for first, wanted in entered if first or wanted != (1,)]
    assert {(1, (2,)), (2, (4,))} <= set(fills)
    assert not [pair for pair in fills if pair[0] == 0 and len(pair[1]) > 1]


def test_one_pass_fills_all_boundaries_that_a_sweep_needs(plan_of, tmp_path):
    own = ["shared_depths=[1,2,4]", "init=checkpoint"]
    own.append(f"init.weights={save_source(tmp_path)}")
    first = run(plan_of("freeze.through=1", *own))["reuse"]
    assert first["arrays_filled"] == 3 * (2 + 2)  # boundaries x (val, test, two epochs)
    for unit in (2, 4):
        plan = plan_of(f"freeze.through={unit}", *own)
        counts = run(plan)["reuse"]
        assert counts["arrays_filled"] == counts["images_computed"] - checked(counts) == 0
        plain = plan_of(f"freeze.through={unit}", *own, "reuse=none")
        run(plain)
        check_same(plain.run_dir, plan.run_dir)


def checked(counts):
    """Images of the batches that are compared before anything is reused: one an epoch."""
    return counts["images_computed"] if counts["images_computed"] <= 2 * 16 else 0


def save_source(folder):
    from safetensors.torch import save_file

    path = folder / "source.safetensors"
    save_file(build_model("test_resnet", n_classes=5, seed=7).state_dict(), path)
    return path


def test_deeper_boundaries_in_one_pass_are_those_of_the_untrained_source(plan_of, tmp_path):
    """The run that fills them trains these units, and its later epochs have moved them."""
    source = [f"init.weights={save_source(tmp_path)}", "init=checkpoint", "train.epochs=3"]
    source += ["shared_depths=[1,3]"]
    run(plan_of("freeze.through=1", *source))
    plan, plain = (plan_of("freeze.through=3", *source, word) for word in ("seed=0", "reuse=none"))
    counts = run(plan)["reuse"]
    run(plain)
    check_same(plan.run_dir, plain.run_dir)
    assert counts["arrays_filled"] == 0


def test_seeds_share_a_pool_of_views(plan_of, tmp_path):
    own = ["init=checkpoint", "freeze.through=stage3"]
    own += [f"init.weights={save_source(tmp_path)}", "train.views=2"]
    filled = [run(plan_of(*own, f"seed={seed}"))["reuse"]["arrays_filled"] for seed in range(2)]
    assert filled == [2 + 2, 0]


def test_other_weights_buffers_or_pixels_share_nothing(plan_of):
    own = ["freeze.through=stage1", "train.augment=none"]
    others = ["seed=1", "dataset.normalize=half", "train.precision=bf16"]
    others += ["train.channels_last=false", "dataset.options.data_seed=5"]
    for word in ("seed=0", *others):
        counts = run(plan_of(*own, word))["reuse"]
        assert counts["arrays_filled"] == 3, word


def test_a_run_alone_keeps_no_views_that_come_once(plan_of, feature_dir):
    assert run(plan_of("freeze.through=1"))["reuse"]["arrays_filled"] == 2
    assert len(list(feature_dir.glob("*.bin"))) == 2


# --------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("views", ["a pool", "new views"])
def test_sessions_with_and_without_reuse_end_in_the_same_bits(plan_of, monkeypatch, views):
    words = ["freeze.through=stage2", *VIEWS[views], "eval_batch_size=16"]
    whole, stopped = plan_of(*words, "reuse=none"), plan_of(*words)
    run(whole)
    sessions = itertools.count()
    stop_at_every_step(monkeypatch)
    while True:
        reuse = ("auto", "none")[next(sessions) % 2]
        try:
            run(replace(stopped, config=replace(stopped.config, reuse=reuse)))
            break
        except Stopped:
            continue
    assert next(sessions) > 4
    check_same(whole.run_dir, stopped.run_dir)


def test_a_stop_while_features_are_computed_leaves_nothing_half_done(plan_of, feature_dir):
    words = ["freeze.through=stage2", "train.augment=none", "eval_batch_size=8"]
    plan, plain = plan_of(*words), plan_of(*words, "reuse=none")
    real, n_calls = pass_boundaries, itertools.count()

    def stop_later(*arguments):
        function = real(*arguments)

        def run_and_signal(inputs):
            if next(n_calls) == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return function(inputs)

        return run_and_signal

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(frozen_units, "pass_boundaries", stop_later)
        with pytest.raises(Stopped):
            run(plan)
    assert not list(feature_dir.glob("*.bin"))
    assert not list(feature_dir.glob(".*.tmp"))
    run(plan)
    run(plain)
    check_same(plan.run_dir, plain.run_dir)


SLOW_FILL = """
import sys, time
from tlcnn.frozen.features import FeatureWriter

real = FeatureWriter.add
def slowly(self, batch, **options):
    print("row", file=sys.stderr, flush=True)
    time.sleep(0.05)
    real(self, batch, **options)
FeatureWriter.add = slowly
sys.argv = ["tlcnn", *sys.argv[1:]]
from tlcnn.train import main
main()
"""


@pytest.mark.parametrize("memory", ["2", "0"])
def test_a_kill_while_filling_and_the_same_command_end_in_the_same_bits(
    tmp_path, cache_dir, plan_of, feature_dir, memory
):
    words = [*FROZEN, "freeze.through=stage2", "train.views=2", f"reuse_memory_gib={memory}"]
    command = tiny_command(tmp_path / "killed", cache_dir, *words)
    for n_rows in (3, 9):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_FILL, *command],
            stderr=subprocess.PIPE,
            text=True,
            env=one_thread(),
        )
        rows = (line for line in process.stderr if line == "row\n")
        for _ in range(n_rows):
            next(rows)
        process.kill()
        process.communicate()
    plan = make_plan(tiny_config(tmp_path / "killed", cache_dir, *words))
    run(plan)
    plain = plan_of(*words[3:], "reuse=none")
    run(plain)
    check_same(plan.run_dir, plain.run_dir)
    assert not list(feature_dir.glob(".*.tmp"))
    store = ArrayStore(feature_dir, disk_bytes=2**30, memory_bytes=0)
    stems = [path.stem for path in feature_dir.glob("*.bin")]
    assert len(stems) == 4 and all(store.find(stem) for stem in stems)


def test_two_processes_at_once_compute_each_array_once(tmp_path, cache_dir, plan_of):
    words = [*FROZEN, "freeze.through=stage2", "train.augment=none", "init=checkpoint"]
    words.append(f"init.weights={save_source(tmp_path)}")
    commands = [
        [
            *(sys.executable, "-c", SLOW_FILL),
            *tiny_command(tmp_path / "both", cache_dir, *words, f"seed={seed}"),
        ]
        for seed in range(2)
    ]
    both = [
        subprocess.Popen(each, stderr=subprocess.PIPE, text=True, env=one_thread())
        for each in commands
    ]
    said = [process.communicate(timeout=180)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    counts = []
    for seed in range(2):
        config = tiny_config(tmp_path / "both", cache_dir, *words, f"seed={seed}")
        plan, plain = make_plan(config), plan_of(*words[3:], f"seed={seed}", "reuse=none")
        run(plain)
        check_same(plan.run_dir, plain.run_dir)
        counts.append(json.loads((plan.run_dir / "summary.json").read_text())["reuse"])
    assert sum(each["arrays_filled"] for each in counts) == 3


# ------------------------------------------------------------------------------ bad conditions


@pytest.mark.parametrize("budget", [("0", "2"), ("2", "0"), ("0", "0")])
def test_budgets_change_no_bit(plan_of, feature_dir, budget):
    words = ["freeze.through=stage2", "train.augment=none"]
    words += [f"reuse_disk_gib={budget[0]}", f"reuse_memory_gib={budget[1]}"]
    plan, plain = plan_of(*words), plan_of(*words, "reuse=none")
    counts = run(plan)["reuse"]
    run(plain)
    check_same(plan.run_dir, plain.run_dir)
    assert counts["arrays_filled"] == (0 if budget == ("0", "0") else 3)
    assert feature_dir.exists() == (budget[0] != "0")


def test_memory_serves_the_runs_of_a_process_where_the_disk_may_not(plan_of):
    words = ["freeze.through=stage2", "train.augment=none", "reuse_disk_gib=0"]
    memory = Memory()
    assert run(plan_of(*words), memory)["reuse"]["arrays_filled"] == 3
    assert run(plan_of(*words, "train.lr=1e-3"), memory)["reuse"]["images_computed"] == 0


def test_a_full_disk_changes_no_bit(plan_of, feature_dir, monkeypatch, heard):
    from test_array_store import FullDisk

    for memory in ("2", "0"):
        words = ["freeze.through=stage2", "train.augment=none", f"reuse_memory_gib={memory}"]
        monkeypatch.setattr("tlcnn.data.array_store.open_new", FullDisk(10_000))
        plan, plain = plan_of(*words), plan_of(*words, "reuse=none")
        run(plan)
        run(plain)
        check_same(plan.run_dir, plain.run_dir)
        assert "arrays are no longer stored in" in heard.text
        assert not list(feature_dir.glob("*.bin"))


def test_wrong_features_are_noticed_before_they_are_used(plan_of, monkeypatch, heard):
    """As where a family's frozen units gave other bits in other batches."""
    words = ["freeze.through=stage2", "train.augment=none"]
    real = frozen_units.FrozenUnits._fill

    def drift(self, split, view, names, batches):
        if len(batches[0]) != 16:  # of an evaluation, which is computed in its very batches
            return real(self, split, view, names, batches)
        with torch.no_grad():
            weight = next(self.model.parameters())
            kept = weight.clone()
            weight.mul_(1.0001)
            try:
                return real(self, split, view, names, batches)
            finally:
                weight.copy_(kept)

    monkeypatch.setattr(frozen_units.FrozenUnits, "_fill", drift)
    plan, plain = plan_of(*words), plan_of(*words, "reuse=none")
    run(plan)
    run(plain)
    check_same(plan.run_dir, plain.run_dir)
    assert "stored features are not used" in heard.text


# ----------------------------------------------------------------------------------- in words


def reuse_line(plan):
    (line,) = [line for line in describe_plan(plan).splitlines() if line.startswith("reuse ")]
    return line


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["freeze=none"], "nothing is frozen"),
        (["freeze=stage2", "freeze.bn=adapt"], "freeze.bn=adapt lets the frozen units change"),
        (["freeze=stage2", "train.compile=true"], "train.compile fuses"),
        (["freeze=stage2", "reuse=none"], "reuse=none"),
    ],
)
def test_the_plan_says_why_nothing_is_reused(plan_of, words, why):
    plan = plan_of(*words)
    assert f"none: {why}" in reuse_line(plan)
    assert make_source_key(plan) is None


def test_the_plan_says_where_a_network_cannot_be_cut(plan_of):
    line = reuse_line(plan_of("model.name=hrnet_w18_small", "freeze=stage2"))
    assert "none: no single tensor leaves stage2: a list of tensors crosses" in line


def test_the_plan_says_what_is_kept(plan_of):
    frozen = "freeze.through=stage3"
    said = reuse_line(plan_of(frozen, "train.views=2"))
    assert "(192x2x2 fp32) for val and test images; for 2 views of training images" in said
    assert "; for training images" in reuse_line(plan_of(frozen, "train.augment=none"))
    assert "views are new in every epoch (see train.views" in reuse_line(plan_of(frozen))
    assert "have 3 views, more than 2 epochs show" in reuse_line(plan_of(frozen, "train.views=3"))
    shared = reuse_line(plan_of(frozen, "train.precision=bf16", "shared_depths=[3,3,3]"))
    assert "192x2x2 bf16" in shared and "the training views of 2 epochs" in shared
    assert "shared with 2 more runs" in shared
    tight = ["reuse_disk_gib=0.00005", "reuse_memory_gib=0", "train.augment=none"]
    assert "exceed" in reuse_line(plan_of(frozen, *tight))


def test_a_budget_that_holds_some_epochs_keeps_these(plan_of):
    words = ["freeze.through=stage3", "shared_depths=[3,3]", "train.epochs=40"]
    plan = plan_of(*words)
    sizes = {
        split: int((plan.dataset.splits == split).sum()) for split in ("train", "val", "test")
    }
    eval_gib, view_gib = (
        n * 192 * 2 * 2 * 4 / 2**30 for n in (sizes["val"] + sizes["test"], sizes["train"])
    )
    tight = ["reuse_memory_gib=0", f"reuse_disk_gib={eval_gib + 7.5 * view_gib}"]
    assert decide_reuse(plan_of(*words, *tight)).n_views == 7
    assert decide_reuse(plan_of(*words)).n_views == 40


def test_a_run_stores_what_the_other_depths_of_its_sweep_need(plan_of, tmp_path):
    words = ["init=checkpoint", f"init.weights={save_source(tmp_path)}", "freeze.through=2"]
    shared, alone = plan_of(*words, "shared_depths=[1,2,2,4]"), plan_of(*words)
    reuse = decide_reuse(shared)
    assert reuse.other_boundaries == (1, 4) and reuse.n_views == 2 and reuse.n_sharing == 3
    assert decide_reuse(alone).other_boundaries == () and decide_reuse(alone).n_sharing == 0


def test_who_shares_a_source(plan_of, tmp_path):
    source = ["init=checkpoint", f"init.weights={save_source(tmp_path)}"]
    key = make_source_key(plan_of(*source, "freeze.through=2", "train.views=2"))
    for word in ("freeze.through=3", "seed=1", "train.lr=0.1", "init.through=4"):
        assert make_source_key(plan_of(*source, "freeze.through=2", "train.views=2", word)) == key
    for word in ("dataset.image_size=64", "train.views=3", "train.precision=bf16"):
        assert make_source_key(plan_of(*source, "freeze.through=2", "train.views=2", word)) != key
    fresh = [make_source_key(plan_of(*source, "freeze.through=2", f"seed={s}")) for s in (0, 1)]
    assert fresh[0] != fresh[1]


def test_the_shapes_of_a_plan_are_those_of_the_arrays(plan_of, feature_dir):
    own = ["freeze.through=stage2", "train.augment=none"]
    run(plan_of(*own))
    sidecars = [json.loads(path.read_text()) for path in feature_dir.glob("*.json")]
    shapes = {tuple(sidecar["info"]["shape"]) for sidecar in sidecars}
    assert shapes == {(48, 4, 4)} and "48x4x4" in reuse_line(plan_of(*own))


# ---------------------------------------------------------------------------------- how fast


def test_a_head_on_stored_features_trains_without_the_network(plan_of):
    """Every step reads D numbers an image: no pixel is touched and no frozen unit is called."""
    words = ["freeze=all", "train.augment=none"]
    run(plan_of(*words))
    plan = plan_of(*words)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            batches_module, "feed_images", lambda *_: Feed(lambda _: 1 / 0, lambda _: 1 / 0, "")
        )
        patched.setattr(frozen_units.FrozenUnits, "compute", lambda *_: 1 / 0)
        counts = run(plan)["reuse"]
    assert counts["images_computed"] == 0


def test_a_prefix_is_named_by_weights_and_buffers_of_its_own_units(cache_dir):
    units = load_unit_map("test_resnet", cache_dir=cache_dir)
    model = build_model("test_resnet", n_classes=3, seed=0)
    before = frozen_units.digest_units(model, units, 3)
    for number in (1, 2, 3):
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name in (units.tensors_of(number, number)[0], units.tensors_of(number, number)[-1]):
            kept = tensors[name].detach().clone()
            with torch.no_grad():
                tensors[name].add_(1)
                found = frozen_units.digest_units(model, units, 3)
                tensors[name].copy_(kept)
            assert [n for n in before if found[n] != before[n]] == list(range(number, 4)), name
    statistics = model.get_buffer("bn1.running_mean")
    statistics.add_(1)
    assert not set(before.values()) & set(frozen_units.digest_units(model, units, 3).values())


def test_stored_views_are_of_the_images_of_these_ids():
    """A view depends on an image's id: the same files under other names look another way."""
    keys = make_image_keys(["a", "b"])
    pixels, rows = torch.zeros(2, 8, 8, 3, dtype=torch.uint8), np.arange(2)
    split = Batches(pixels, rows, torch.zeros(2), keys, image_size=8, normalize="half")
    renamed = replace(split, keys=make_image_keys(["a", "c"]))
    view = frozen_units.View(AUGMENTS["standard"], 1)
    assert view.make_key(split) != view.make_key(renamed)
    assert frozen_units.View().make_key(split) == frozen_units.View().make_key(renamed)
