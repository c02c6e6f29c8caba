"""Treatments of training: known limits, frozen tensors, resumption, and what the plan refuses."""

import numpy as np
import pytest
import torch
from families import FAMILIES as ALL_FAMILIES
from medmnist_files import write_file
from runs import run_until_done, stop_at_every_step, tiny_config
from safetensors.torch import load_file, save_file
from statistics_data import write_run
from test_recording import ALL, TREATMENTS, run_recorded
from test_run import check_same
from test_tasks import plan_of as plan_task
from torch import nn
from torch.nn import functional as F

from tlcnn.data.augment import PARAMS, draw_params, make_image_keys, view_numbers
from tlcnn.data.batches import make_balanced_order
from tlcnn.data.feed import Feed
from tlcnn.data.mixing import apply_mix, draw_mixes, get_partners
from tlcnn.data.policy import AUGMENTS, Policy, find_policy
from tlcnn.errors import ConfigError
from tlcnn.model.build import build_model
from tlcnn.plan.describe import describe_plan
from tlcnn.plan.plan import make_plan
from tlcnn.plan.reuse import decide_reuse
from tlcnn.records.read import read_run, read_runs
from tlcnn.records.settings import spread_settings
from tlcnn.run.run import run
from tlcnn.training.recipe import Recipe
from tlcnn.training.state import Network
from tlcnn.training.tasks import build_objective
from tlcnn.training.update import Updates


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "source.safetensors"
    save_file(build_model("test_resnet", n_classes=5, seed=8).state_dict(), path)
    return path


@pytest.fixture
def plan_of(tmp_path, cache_dir, weights):
    def make(place, *words):
        source = ["init=checkpoint", f"init.weights={weights}", *words]
        return make_plan(tiny_config(tmp_path / place, cache_dir, *source))

    return make


def load_weights(plan):
    return load_file(plan.run_dir / "weights.safetensors")


# ---- every treatment ----------------------------------------------------------------------------


def check_treatment(plan_of, monkeypatch, words, *, source=None):
    """Check that units 1 and 2 stay as they are, and that a stopped run ends in the same bits."""
    words = [*words, "freeze.through=2"]
    whole, stopped = plan_of("whole", *words), plan_of("stopped", *words)
    run(whole)
    if source is not None:
        after = load_weights(whole)
        frozen = whole.unit_map.tensors_of(1, 2)
        assert all(torch.equal(after[name], source[name]) for name in frozen)
        trained = [name for name in whole.unit_map.tensors_of(3, 5) if name.endswith("weight")]
        assert not all(torch.equal(after[name], source[name]) for name in trained)
    with monkeypatch.context() as patched:
        stop_at_every_step(patched, n_steps=1)
        assert run_until_done(stopped) >= 4
    check_same(whole.run_dir, stopped.run_dir)


@pytest.mark.parametrize("words", TREATMENTS.values(), ids=TREATMENTS)
def test_frozen_units_stay_and_a_stopped_run_ends_in_the_same_bits(
    plan_of, weights, monkeypatch, words
):
    check_treatment(plan_of, monkeypatch, words, source=load_file(weights))


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", [family for family in ALL_FAMILIES if not family.heavy], ids=lambda f: f.name
)
def test_every_family_can_have_all_treatments(tmp_path, cache_dir, monkeypatch, family):
    def plan_of(place, *words):
        random = ["freeze.allow_random=true", f"model.name={family.name}"]
        random += [f"dataset.image_size={max(family.pixels, 64)}", "train.epochs=1"]
        return make_plan(tiny_config(tmp_path / place, cache_dir, *words, *random))

    check_treatment(plan_of, monkeypatch, ALL)


@pytest.mark.parametrize("words", TREATMENTS.values(), ids=TREATMENTS)
def test_a_treatment_is_another_run_and_the_plan_names_it(plan_of, words):
    plan = plan_of("plans", *words)
    assert plan.run_id != plan_of("plans").run_id
    treatment = words[0].removeprefix("train.").split("=")[0].removesuffix("_ranges")
    (line,) = [line for line in describe_plan(plan).splitlines() if line.startswith("with ")]
    assert treatment in line or "rates times stem" in line


PLAIN = ["layer_decay=1", "unit_lr={stage1: 1}", "head_lr=0.0005", "accumulate=1", "anchor=0"]
PLAIN += ["mixup=0", "cutmix=0", "erase=0", "sampling=natural", "loss=cross_entropy"]
PLAIN += [
    "augment_ranges={rotate: 20, scale: [0.85, 1.2]}",
    "focal_gamma=5",
    "logit_adjustment=0",
    "select=balanced_accuracy",
]


@pytest.mark.parametrize("word", PLAIN)
def test_a_treatment_that_changes_nothing_renames_no_run(plan_of, word):
    plain, spelled = plan_of("plans"), plan_of("plans", f"train.{word}")
    assert spelled.run_dir == plain.run_dir and spelled.identity == plain.identity


def test_other_numbers_of_views_are_another_run(plan_of):
    words = [f"train.augment_ranges={{{w}}}" for w in ("rotate: 30", "rotate: 45", "tint: 0.1")]
    assert len({plan_of("plans", word).run_id for word in words}) == 3


IDLE = {
    "focal loss with gamma 0": (["train.loss=focal", "train.focal_gamma=0"], []),
    "an anchor of random weights": (
        ["init.through=none", "train.anchor=1"],
        ["init.through=none"],
    ),
    "an anchor of frozen units": (
        ["freeze.through=2", "init.through=2", "train.anchor=1"],
        ["freeze.through=2", "init.through=2"],
    ),
    "the rate of a frozen unit": (
        ["freeze.through=2", "train.unit_lr={stem: 0.1}"],
        ["freeze.through=2"],
    ),
    "class weights of balanced images": (
        ["train.sampling=balanced", "train.class_weights=none", "train.logit_adjustment=1"],
        ["train.sampling=balanced"],
    ),
    "ranges of another policy": (
        ["train.augment_ranges={rotate: 0, scale: [1, 1], brightness: 0, contrast: 0}"]
        + ["train.augment_ranges.saturation=0"],
        ["train.augment=light"],
    ),
    "two names of a unit": (["train.unit_lr={layer2: 0.1}"], ["train.unit_lr={stage2: 0.1}"]),
}


@pytest.mark.parametrize(("words", "plain"), IDLE.values(), ids=IDLE)
def test_what_has_no_effect_is_not_in_the_id(plan_of, words, plain):
    assert plan_of("plans", *words).run_id == plan_of("plans", *plain).run_id


LIMITS = {
    "every word at its limit": (
        [f"train.{word}" for word in PLAIN if "head_lr" not in word] + ["train.layer_decay=1"],
        [],
    ),
    "truncated behind the last unit": (["init.above=truncate"], []),
    "a schedule with nothing to wait for": (["train.schedule=together"], []),
    "the head's own rate": (["train.head_lr=0.003", "train.lr=0.003"], ["train.lr=0.003"]),
    **IDLE,
}


@pytest.mark.parametrize(("words", "plain"), LIMITS.values(), ids=LIMITS)
def test_a_word_at_its_limit_has_the_bits_of_the_run_without_it(plan_of, words, plain, one_core):
    first, second = plan_of("with", *words), plan_of("without", *plain)
    assert first.run_id == second.run_id
    run(first)
    run(second)
    check_same(first.run_dir, second.run_dir)


@pytest.mark.parametrize("word", ["train.anchor=1", "train.unit_lr={stem: 0.1}"])
def test_trained_norms_of_frozen_units_can_be_treated(plan_of, word):
    frozen = ["freeze.through=2", "init.through=2", "freeze.bn=affine"]
    assert plan_of("plans", *frozen, word).run_id != plan_of("plans", *frozen).run_id


WRONG = {
    "unit_lr={stage9: 0.1}": "no unit 'stage9'",
    "unit_lr={head: 0.1}": r"train.head_lr=RATE",
    "unit_lr={all: 0.1}": "unit_lr.all is not one unit. Units: stem, stage1",
    "unit_lr={stage1: 0}": "stage1=0 is not allowed: it must be a number above 0. freeze.through",
    "unit_lr={stage1: fast}": "stage1=fast is not allowed",
    "unit_lr={stage1: 1, layer1: 2}": "stage1 and layer1, which are both unit stage1",
    "augment_ranges={zoom: 2}": "augment_ranges.zoom is no number of an augmentation",
    "augment_ranges={rotat: 2}": "Did you mean 'rotate'",
    "augment_ranges={rotate: 200}": "rotate=200 is not allowed: it must be a number from 0 to 180",
    "augment_ranges={scale: 0.8}": "scale=0.8 is not allowed: it must be two numbers, the lower",
    "augment_ranges={scale: [1.2, 0.8]}": "must be two numbers, the lower one first, from 0.1 to",
    "augment_ranges={tint: true}": "tint=True is not allowed: it must be a number from 0 to 1",
    "layer_decay=1.5": "must be above 0 and at most 1",
    "select=auc": "train.select=auc is not allowed",
    "accumulate=50": "accumulate=50: 62 training images are fewer than two in each.*up to 31",
}


@pytest.mark.parametrize(("word", "message"), WRONG.items(), ids=WRONG)
def test_what_is_wrong_is_refused(plan_of, word, message):
    with pytest.raises(ConfigError, match=message):
        plan_of("plans", f"train.{word}")


@pytest.mark.parametrize("word", ["sampling=balanced", "logit_adjustment=1"])
def test_a_multi_label_task_has_no_balance_of_classes(tmp_path, cache_dir, word):
    write_file(tmp_path / "data", "chestmnist", counts={"train": 40, "val": 20, "test": 20})
    with pytest.raises(ConfigError, match=f"train.{word} is not possible in a multi-label task"):
        plan_task(tmp_path, cache_dir, "chestmnist", f"train.{word}")


def test_a_multi_label_training_can_be_treated(tmp_path, cache_dir):
    write_file(tmp_path / "data", "chestmnist", counts={"train": 80, "val": 40, "test": 40})
    words = ["train.batch_size=8", "train.accumulate=2", "train.mixup=1", "train.loss=focal"]
    words += ["train.select=macro_auroc", "train.epochs=3", "threads=1"]
    called, recorded = (
        plan_task(tmp_path, cache_dir, "chestmnist", *words, f"output_dir={tmp_path / name}")
        for name in ("called", "recorded")
    )
    run(called)
    assert run_recorded(recorded)[1] > 3
    check_same(called.run_dir, recorded.run_dir)


# ---- rates, anchor, accumulation: one update ----------------------------------------------------


def make_network(seed=0):
    torch.manual_seed(seed)
    first = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    return nn.Sequential(first, nn.Linear(8, 4, bias=False))


def draw_images(n=64):
    draws = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=draws), torch.arange(n) % 4


def make_updates(model, network=None, **recipe):
    recipe = Recipe(**{"optimizer": "sgd", "clip_norm": None, "weight_decay": 0.0, **recipe})
    objective = build_objective("multi-class", (torch.arange(9) + 1) // 4 + 1, 4, recipe)
    network = network or Network(model, model)
    return Updates(network, recipe, objective, torch.device("cpu"), None)


def make_update(updates, images, labels, rate=0.1, n_parts=1):
    values = updates.schedule([rate], 0)
    feed = Feed(lambda number: {}, lambda v: v["images"], "images")
    size = len(images) // n_parts
    parts = [
        {"images": images[start : start + size], "labels": labels[start : start + size]}
        for start in range(0, len(images), size)
    ]
    updates.run(feed, parts, {name: value[0] for name, value in values.items()})
    return updates.loss_sum.item()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_two_batches_of_32_are_one_of_64(optimizer, loss):
    """Without BatchNorm, also where the weights of the classes of the two batches differ."""
    images, labels = draw_images()
    labels = torch.cat([labels[:32].clamp(1, 2), labels[32:].clamp(1, 3)])
    models = [make_network(), make_network()]
    losses = []
    for model, n_parts in zip(models, (1, 2), strict=True):
        updates = make_updates(model, optimizer=optimizer, loss=loss, clip_norm=1.0)
        for _ in range(3):
            losses.append(make_update(updates, images, labels, n_parts=n_parts))
    assert losses[3:] == pytest.approx(losses[:3], rel=1e-6)
    for whole, parts in zip(models[0].parameters(), models[1].parameters(), strict=True):
        scale = whole.abs().max().item()
        assert torch.allclose(whole, parts, rtol=0, atol=2e-6 * scale)


def test_rates_of_tensors_are_factors_of_the_rate():
    images, labels = draw_images()
    steps = []
    for factors in ({}, {"0.0.weight": 0.25, "1.weight": 3.0}):
        model = make_network()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        make_update(make_updates(model, Network(model, model, factors=factors)), images, labels)
        steps.append({name: model.state_dict()[name] - before[name] for name in before})
    for name, factor in {"0.0.weight": 0.25, "0.0.bias": 1, "1.weight": 3}.items():
        torch.testing.assert_close(steps[1][name], factor * steps[0][name], rtol=1e-4, atol=1e-7)


def test_a_decay_by_depth_counts_once_in_the_last_unit(plan_of):
    factors = plan_of("plans", "train.layer_decay=0.5").identity["train"]["unit_factors"]
    assert factors == [0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5]
    factors = plan_of("plans", "train.layer_decay=0.5", "train.unit_lr.5=4").identity["train"]
    assert factors["unit_factors"][3:] == [0.25, 2.0]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_strong_anchor_keeps_the_start_and_a_weak_one_changes_nothing(optimizer):
    images, labels = draw_images()
    ends = {}
    for anchor in (None, 1e-9, 1e9):
        model = make_network()
        starts = {n: p.detach().clone() for n, p in model.named_parameters() if n[0] == "0"}
        network = Network(model, model, starts={} if anchor is None else starts)
        updates = make_updates(model, network, optimizer=optimizer, anchor=anchor or 0.0)
        for _ in range(5):
            make_update(updates, images, labels)
        ends[anchor] = model.state_dict()
    assert all(torch.allclose(ends[1e9][n], start, atol=1e-6) for n, start in starts.items())
    assert not torch.allclose(ends[1e9]["1.weight"], make_network().state_dict()["1.weight"])
    for name, value in ends[None].items():
        torch.testing.assert_close(ends[1e-9][name], value, rtol=1e-6, atol=1e-7)


def test_the_anchor_is_the_proximal_step_of_l2_sp():
    """It minimises strength / 2 |w - start|^2 + |w - step|^2 / (2 rate)."""
    images, labels = draw_images()
    ends = []
    for starts in (False, True):
        model = make_network()
        start = torch.ones_like(model[1].weight)
        network = Network(model, model, starts={"1.weight": start} if starts else {})
        make_update(make_updates(model, network, anchor=2.0), images, labels, rate=0.1)
        ends.append(model[1].weight.detach())
    torch.testing.assert_close(ends[1], (ends[0] + 0.1 * 2.0 * start) / (1 + 0.1 * 2.0))


def test_the_anchor_takes_the_place_of_weight_decay():
    model = make_network()
    start = {"1.weight": model[1].weight.detach().clone()}
    updates = make_updates(model, Network(model, model, starts=start), weight_decay=0.5)
    decays = {
        id(p): g["weight_decay"] for g in updates.optimizer.param_groups for p in g["params"]
    }
    assert decays[id(model[1].weight)] == 0 and decays[id(model[0][0].weight)] == 0.5


def test_only_transferred_units_are_anchored(plan_of, weights):
    plan = plan_of("out", "init.through=3", "train.anchor=1e9")
    run(plan)
    source, after = load_file(weights), load_weights(plan)
    parameters = dict(build_model("test_resnet", n_classes=7, seed=0).named_parameters())
    for number in (1, 2, 3, 4, 5):
        names = [n for n in plan.unit_map.tensors_of(number, number) if n in parameters]
        close = [torch.allclose(after[n], source[n], atol=1e-6) for n in names if "weight" in n]
        assert all(close) if number <= 3 else not any(close)


# ---- mixing and erasing -------------------------------------------------------------------------


def test_with_an_alpha_of_almost_0_the_loss_of_mixup_is_the_plain_one():
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels, model = torch.arange(8) % 4, nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    plain = F.cross_entropy(model(images), labels)
    for drawn in torch.from_numpy(draw_mixes(20, seed=0, epoch=1, mixup=1e-4, cutmix=0)):
        mixed, weight = apply_mix(images, drawn)
        losses = [F.cross_entropy(model(mixed), y) for y in (labels, get_partners(labels))]
        mean = weight * losses[0] + (1 - weight) * losses[1]
        torch.testing.assert_close(mean, plain, rtol=1e-6, atol=0)


def test_mixes_have_the_distribution_of_the_papers():
    drawn = draw_mixes(20_000, seed=3, epoch=2, mixup=0.4, cutmix=0).astype(np.float64)
    assert drawn[:, 0].mean() == pytest.approx(0.5, abs=0.01)
    assert drawn[:, 0].var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.02)  # of Beta
    assert (drawn[:, 1] == drawn[:, 2]).all()
    drawn = draw_mixes(20_000, seed=3, epoch=2, mixup=0, cutmix=1).astype(np.float64)
    assert (drawn[:, 0] == 1).all() and (drawn[:, 1:] >= 0).all() and (drawn[:, 1:] <= 1).all()
    inner = (drawn[:, 1:] > 0).all(axis=1) & (drawn[:, 1:] < 1).all(axis=1)
    area = (drawn[:, 2] - drawn[:, 1]) * (drawn[:, 4] - drawn[:, 3])
    assert 0 < area[inner].min() < 0.001 and area.max() > 0.9
    both = draw_mixes(20_000, seed=3, epoch=2, mixup=0.4, cutmix=1)
    assert (both[:, 1] < both[:, 2]).mean() == pytest.approx(0.5, abs=0.02)


def test_mixes_depend_on_seed_epoch_and_batch_alone():
    words = {"mixup": 0.2, "cutmix": 1.0}
    first = draw_mixes(6, seed=1, epoch=2, **words)
    assert np.array_equal(first[:3], draw_mixes(3, seed=1, epoch=2, **words))
    for change in ({"seed": 2}, {"epoch": 3}):
        assert (first != draw_mixes(6, **{"seed": 1, "epoch": 2, **change}, **words)).any()
    assert len(np.unique(first, axis=0)) == 6


def test_labels_have_the_share_of_their_pixels():
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 10, 10)
    mixed, weight = apply_mix(images, torch.tensor([1.0, 0.2, 0.7, 0.0, 0.4]))
    assert weight.item() == pytest.approx(0.8)
    assert (mixed[2] == 1).sum() == 3 * 5 * 4 and (mixed[2] == 2).sum() == 3 * 80
    mixed, weight = apply_mix(images, torch.tensor([0.75, 0.0, 0.0, 0.0, 0.0]))
    assert weight.item() == 0.75 and torch.allclose(mixed[2], torch.tensor(1.75))


@pytest.mark.parametrize("word", ["train.mixup=0.2", "train.cutmix=1"])
def test_outputs_of_frozen_units_are_not_reused_where_images_are_mixed(plan_of, word):
    plan = plan_of("plans", "freeze.through=2", "train.augment=none", word)
    assert "mix images in front of the frozen units" in decide_reuse(plan).obstacle
    assert plan_of("plans", "freeze.through=2", "train.augment=none").identity != plan.identity
    run(plan)
    assert read_run(plan.run_dir).get("reuse") is None


@pytest.mark.parametrize("words", [["train.views=2"], ["train.views=2", "train.augment=none"]])
@pytest.mark.parametrize("more", [["train.erase=0.5"], ["train.sampling=balanced"]])
def test_stored_views_have_the_bits_of_computed_ones(plan_of, words, more):
    for freeze in ("freeze.through=3", "freeze=all"):
        words = [*words, *more, freeze, "train.epochs=4"]
        stored, computed = plan_of("stored", *words), plan_of("computed", *words, "reuse=none")
        run(stored)
        run(computed)
        check_same(stored.run_dir, computed.run_dir)
        assert read_run(stored.run_dir)["reuse"]["images_reused"] > 0


def test_erasing_changes_no_other_parameter_and_has_its_probability():
    keys = make_image_keys([str(i) for i in range(4000)])
    views = view_numbers(keys, seed=0, epoch=1, n_views=None)
    plain = draw_params(views, keys, AUGMENTS["standard"])
    erased = draw_params(views, keys, find_policy("standard", 0.25))
    assert np.array_equal(plain, erased[:, :-4])
    top, bottom, left, right = erased[:, -4:].astype(np.float64).T
    area = (bottom - top) * (right - left)
    assert (area > 0).mean() == pytest.approx(0.25, abs=0.02)
    assert area[area > 0].min() > 0.019 and 0.3 < area.max() < 0.334
    assert erased[:, -4:].min() >= 0 and erased[:, -4:].max() <= 1
    assert find_policy("none", 0.0) == Policy() and find_policy("none", 0.1) != Policy()


def test_ranges_are_those_of_the_parameters_of_views():
    keys = make_image_keys([str(i) for i in range(4000)])
    views = view_numbers(keys, seed=0, epoch=1, n_views=None)
    policy = find_policy("none", ranges={"rotate": 30, "scale": [0.5, 2], "brightness": 0.4})
    yy, yx, xy, xx = draw_params(views, keys, policy)[:, :4].T.astype(np.float64)
    angles = np.rad2deg(np.arctan2(xy, xx))
    sizes = 1 / np.sqrt(yy * xx - yx * xy)
    light = draw_params(views, keys, policy)[:, PARAMS.index("red")]
    for values, low, high in ((angles, -30, 30), (np.log2(sizes), -1, 1), (light, 0.6, 1.4)):
        assert values.min() == pytest.approx(low, abs=0.01 * (high - low))
        assert values.max() == pytest.approx(high, abs=0.01 * (high - low))
        assert np.median(values) == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
    assert not policy.shift and policy.dihedral == "none"


# ---- sampling -----------------------------------------------------------------------------------


def test_balanced_epochs_show_every_class_equally_often():
    labels = np.repeat([0, 1, 2], [3, 20, 77])
    keys = make_image_keys([str(i) for i in range(100)])
    seen = set()
    for epoch in range(1, 12):
        order, repeats = make_balanced_order(keys, labels, seed=0, epoch=epoch)
        counts = np.bincount(labels[order])
        assert len(order) == 100 and counts.min() == 33 and counts.max() == 34
        pairs = set(zip(order.tolist(), repeats.tolist(), strict=True))
        assert len(pairs) == 100  # an image that comes again is a repeat
        shown = np.bincount(order, minlength=100)
        assert set(shown[:3]) <= {11, 12} and set(shown[3:23]) == {1, 2} and shown[23:].max() == 1
        seen |= set(order.tolist())
    assert len(seen) == 100
    again = make_balanced_order(keys, labels, seed=0, epoch=11)
    assert np.array_equal(order, again[0]) and np.array_equal(repeats, again[1])
    assert not np.array_equal(order, make_balanced_order(keys, labels, seed=1, epoch=11)[0])


@pytest.mark.parametrize("n_views", [None, 1000])
def test_a_repeated_image_is_another_view(n_views):
    keys = make_image_keys(["a"] * 4)
    words = {"seed": 0, "epoch": 3, "n_views": n_views}
    views = view_numbers(keys, **words, repeats=np.array([0, 1, 2, 1]))
    assert len(set(views.tolist())) == 3 and views[1] == views[3]
    assert views[0] == view_numbers(keys, **words)[0]


# ---- selection ----------------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["macro_auroc", "nll", "brier", "accuracy", "macro_f1"])
def test_the_best_epoch_has_the_best_score_that_was_asked_for(plan_of, select):
    import json

    plan = plan_of("out", f"train.select={select}", "train.epochs=5", "train.lr=0.003")
    run(plan)
    lines = (plan.run_dir / "metrics.jsonl").read_text().splitlines()
    scores = [json.loads(line)[f"val/{select}"] for line in lines]
    best = min(scores) if select in ("nll", "brier") else max(scores)
    assert scores[read_run(plan.run_dir)["best_epoch"] - 1] == best
    assert read_run(plan.run_dir)[f"val/{select}"] == pytest.approx(best, abs=1e-6)


def test_runs_from_before_a_key_existed_differ_from_those_that_set_it(tmp_path):
    labels, logits = np.arange(8) % 4, np.zeros((8, 4))
    for name, more in {"before": {}, "after": {"train.mixup": 0.2}}.items():
        plan = {"cell_id": name, "settings": {"train.lr": 0.1, **more}}
        write_run(tmp_path / name, 0, logits=logits, labels=labels, groups=labels, **plan)
    runs, varying = spread_settings(read_runs(tmp_path))
    assert varying == ["train.mixup"] and sorted(runs["train.mixup"]) == [0.0, 0.2]
