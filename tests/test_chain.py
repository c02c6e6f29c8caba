"""Runs that start from runs: found or trained first, and never tested on what those have seen."""

import json
import logging
import shutil
from dataclasses import asdict
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from runs import stop_at_every_step, tiny_command, tiny_config
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tlcnn.config.compose import compose_config
from tlcnn.config.spelling import spell
from tlcnn.data.datasets import load_index
from tlcnn.errors import ConfigError, DataError, Stopped, WeightsError
from tlcnn.memory import Memory
from tlcnn.model.build import build_model
from tlcnn.model.initialize import draw_stats
from tlcnn.plan.ancestry import collect_seen, find_run_dir
from tlcnn.plan.chain import load_run_config
from tlcnn.plan.describe import describe_plan, make_plan_record
from tlcnn.plan.plan import make_plan
from tlcnn.records.folder import RunDir
from tlcnn.records.plan_record import write_plan
from tlcnn.records.summary import Summary
from tlcnn.records.weights import write_weights
from tlcnn.records.write import make_parquet, make_splits_file
from tlcnn.run.job import Job, plan_job
from tlcnn.run.network import build_initial_network
from tlcnn.run.run import run

TASK = [
    *("init=task", "init.task=synthetic_source", "init.parent=random"),
    "init.task_dataset.options.n_images=96",
]
SELF = ["init=self"]


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    return lambda *words: make_plan(tiny_config(tmp_path, cache_dir, "train.epochs=1", *words))


def begin(plan):
    """Leave the folder of a run that has begun, without training it."""
    folder = RunDir(plan.run_dir)
    folder.path.mkdir(parents=True)
    write_plan(folder.path, make_plan_record(plan))
    folder.write_config(asdict(plan.config))
    images = plan.dataset
    splits = make_splits_file(images.index, images.splits, images.digests)
    (folder.path / "splits.parquet").write_bytes(splits)
    if plan.ancestry:
        seen = collect_seen(plan.ancestry, folder.path)
        (folder.path / "seen.parquet").write_bytes(make_parquet(seen))
    return plan


def finish(plan):
    """Leave the folder of a finished run, with weights that nobody trained."""
    begin(plan)
    model = build_model(plan.config.model.name, n_classes=3, seed=plan.config.seed)
    write_weights(plan.run_dir, model, make_plan_record(plan))
    RunDir(plan.run_dir).write_done(plan.run_id)
    return plan


# ----------------------------------------------------------------------------- init=task


@pytest.fixture(scope="module")
def family(tmp_path_factory, cache_dir):
    """A run whose source is trained first: what was known before, and the plan."""
    torch.set_num_threads(1)
    words = [*TASK, "freeze=layer1", "train.epochs=1"]
    plan = make_plan(tiny_config(tmp_path_factory.mktemp("family"), cache_dir, *words))
    before = describe_plan(plan)
    assert not plan.parent.run_dir.exists()
    run(plan)
    return plan, before


def test_the_source_is_trained_first_and_the_id_is_known_before(family):
    plan, before = family
    assert plan.run_id in before
    for one in (plan, plan.parent):
        assert json.loads((one.run_dir / "DONE").read_text())["run_id"] == one.run_id
    assert plan.identity["init"] == {
        "source": "run", "k": 5, "digest": f"run:{plan.parent.run_id}"
    }  # fmt: skip
    again = make_plan(plan.config)
    assert again.run_id == plan.run_id and again.parent.run_id == plan.parent.run_id


def test_the_source_of_another_cell_is_found_and_not_trained_again(family, monkeypatch):
    plan, _ = family
    other = make_plan(compose_like(plan, "init.through=stem", "freeze=none"))
    assert other.run_id != plan.run_id and other.parent.run_id == plan.parent.run_id
    trained = []

    def note(plan, *_):
        trained.append(plan)
        return Summary(metrics={})
        yield

    monkeypatch.setattr("tlcnn.run.run.train", note)
    run(other)
    assert trained == [other]


def compose_like(plan, *words):
    """The configuration of the family, changed."""
    places = [f"output_dir={plan.output_dir}", "train.epochs=1", *TASK, *words]
    return tiny_config(plan.output_dir, plan.cache_dir, *places)


def test_transferred_units_are_the_sources_bit_for_bit(family):
    plan, _ = family
    source = load_file(plan.parent.run_dir / "weights.safetensors")
    start = build_initial_network(plan, Memory()).model.state_dict()
    body = plan.unit_map.tensors_of(1, len(plan.unit_map))
    assert all(torch.equal(start[name], source[name]) for name in body)
    end = load_file(plan.run_dir / "weights.safetensors")
    frozen = plan.unit_map.tensors_of(1, plan.treatment.j)
    moved = plan.unit_map.tensors_of(plan.treatment.j + 1, len(plan.unit_map))
    assert frozen and all(torch.equal(end[name], source[name]) for name in frozen)
    assert not all(torch.equal(end[name], source[name]) for name in moved)
    trained = json.loads((plan.run_dir / "init.json").read_text())
    assert set(trained["loaded"]) == set(body)


def test_the_records_carry_the_ancestry(family):
    plan, before = family
    (ancestor,) = json.loads((plan.run_dir / "plan.json").read_text())["ancestry"]
    assert ancestor["run_id"] == plan.parent.run_id
    assert (ancestor["dataset"], ancestor["source"]) == ("synthetic_source", ["random"])
    assert ancestor["manifest"] == plan.parent.dataset.manifest
    assert str(plan.output_dir) not in json.dumps(ancestor)  # the folder may be moved
    with safe_open(plan.run_dir / "weights.safetensors", "pt") as file:
        record = json.loads(file.metadata()["tlcnn"])
    assert record["ancestry"] == [ancestor] and record["run"]["run_id"] == plan.run_id
    assert record["run"]["run_name"] == plan.run_name
    line = f"from     random -> synthetic_source (run {plan.parent.run_id}, seed 0"
    assert f"{line}, to be trained first)" in before
    assert f"{line})" in describe_plan(plan)


def test_a_run_keeps_what_the_runs_before_it_have_trained_on(family):
    plan, _ = family
    seen = pd.read_parquet(plan.run_dir / "seen.parquet")
    source = pd.read_parquet(plan.parent.run_dir / "splits.parquet")
    names = ["dataset", "image_id", "group", "digest"]
    pd.testing.assert_frame_equal(
        seen[names], source[source["split"] == "train"][names].reset_index(drop=True)
    )
    assert set(seen["run_id"]) == {plan.parent.run_id}
    assert not (plan.parent.run_dir / "seen.parquet").exists()


def test_the_source_has_the_recipe_and_sees_images_as_the_run_does(plan_of, tmp_path, cache_dir):
    looks = ["dataset.fit=squash", "dataset.normalize=half", "dataset.image_size=24"]
    words = [*TASK, "seed=3", "train.lr=0.01", "freeze=layer2", *looks]
    parent = plan_of(*words).parent
    assert parent.identity["train"] == plan_of(*words).identity["train"]
    assert (parent.config.seed, parent.treatment.k, parent.treatment.j) == (3, 0, 0)
    data = parent.config.dataset
    assert (data.image_size, data.fit, data.normalize) == (24, "squash", "half")
    assert data.options["n_images"] == 96 and data.name == "synthetic_source"


def test_the_source_is_the_run_that_its_dataset_alone_would_be(plan_of, tmp_path, cache_dir):
    """Also what refers to other keys follows them: pictures are drawn at the size asked for."""
    alone = compose_config(
        [
            *("dataset=synthetic_source", "dataset.options.n_images=96", "dataset.image_size=32"),
            *("model.name=test_resnet", "train=quick", "train.epochs=1", "train.batch_size=16"),
            *("train.precision=fp32", "device=cpu"),
            *(f"output_dir={tmp_path}", f"cache_dir={cache_dir}"),
        ]
    )
    assert plan_of(*TASK).parent.run_dir == make_plan(alone).run_dir


def test_the_sources_cache_is_the_runs(plan_of, cache_dir, monkeypatch):
    seen = []
    monkeypatch.setattr("tlcnn.plan.plan.recall_index", lambda cfg, memory: seen.append(cfg))
    with pytest.raises((DataError, AttributeError)):
        plan_of("init=task", "init.task=dermamnist", "init.parent=random")
    assert [cfg.options["cache_dir"] for cfg in seen if cfg.kind == "medmnist"] == [str(cache_dir)]


@pytest.mark.parametrize(
    "word, key, value",
    [
        ("split_seed=4", "split_seed", 4),
        ("image_size=24", "image_size", 24),
        ("options.data_seed=9", "data_seed", 9),
        ("image_size=24", "size", 24),
        ("root='/my, [data]'", "root", "/my, [data]"),
    ],
)
def test_keys_of_the_sources_dataset_can_be_given(plan_of, word, key, value):
    data = plan_of(*TASK, f"init.task_dataset.{word}").parent.config.dataset
    assert {**asdict(data), **data.options}[key] == value
    assert data.options["n_images"] == 96


@pytest.mark.parametrize(
    "word, message",
    [
        ("init.task=synthetik", "not a dataset. Did you mean 'synthetic'.*\nDatasets: .*ham10000"),
        ("init.task='a,b'", "not a dataset"),
        ("init.task=''", "not a dataset"),
        ("init.task=null", "add init.task=the name of a dataset"),
        ("init.task_dataset.image_siz=3", "Did you mean 'image_size'.*\nKeys: .*split_seed"),
        ("init.task_dataset.image_size=abc", "init.task_dataset.image_size"),
        ("init.task_dataset.folds=many", "init.task_dataset.folds"),
        ("init.task_dataset.options=3", "init.task_dataset.options"),
        ("init.task_dataset.options.n_image=3", "n_image"),
        ("init.task_dataset.fit=sqash", "Did you mean 'squash'"),
        ("init.task_dataset.fold=7", "needs dataset.folds"),
    ],
)
def test_what_is_no_dataset_is_refused_with_names(plan_of, word, message):
    with pytest.raises(ConfigError, match=message):
        plan_of(*TASK, word)


def test_a_pretrained_source_reads_the_weights_that_are_given(plan_of, tmp_path):
    path = tmp_path / "pretrained.safetensors"
    save_file(build_model("test_resnet", n_classes=5, seed=7).state_dict(), path)
    plan = plan_of(*TASK, "init.parent=imagenet", f"init.weights={path}")
    assert (
        plan.parent.treatment.source == "imagenet" and plan.parent.treatment.weights.path == path
    )
    assert plan.source == ("imagenet", "synthetic_source")
    assert plan.run_id != plan_of(*TASK).run_id


# ----------------------------------------------------------------------------- init=self


def test_self_is_the_next_seed_of_this_dataset_from_random_weights(plan_of):
    plan = plan_of(*SELF, "seed=5", "freeze=layer1")
    assert plan.source == ("self",) and "-self-k5-j2-s5" in plan.run_name
    assert plan.parent.run_id == plan_of("seed=6").run_id
    assert plan.parent.treatment.k == plan.parent.treatment.j == 0
    assert plan_of(*SELF, "seed=5", "init.self_seed=0").parent.run_id == plan_of().run_id


@pytest.mark.parametrize("source", [SELF, TASK], ids=["self", "task"])
def test_seeds_of_a_cell_have_one_cell_id(plan_of, source):
    plans = [plan_of(*source, f"seed={seed}") for seed in range(3)]
    assert len({plan.run_id for plan in plans}) == 3
    assert len({plan.cell_id for plan in plans}) == 1
    assert plan_of(*source, "init.through=stem").cell_id != plans[0].cell_id
    assert plan_of(*source, "train.lr=0.1").cell_id != plans[0].cell_id
    other = plan_of(*(TASK if source is SELF else SELF))
    assert other.cell_id != plans[0].cell_id


# ------------------------------------------------------------------------------ init=run


def test_a_run_is_given_by_id_by_its_beginning_by_name_or_by_path(plan_of, monkeypatch):
    source = finish(plan_of())
    names = [source.run_id, source.run_id[:5], source.run_dir.name, str(source.run_dir)]
    ids = {plan_of("init=run", f"init.run='{name}'").run_id for name in names}
    assert len(ids) == 1
    monkeypatch.chdir(source.run_dir.parent)
    assert plan_of("init=run", f"init.run={source.run_dir.name}").run_id in ids


def test_however_a_source_is_named_it_is_one_run(plan_of, tmp_path):
    task = plan_of(*TASK)
    source = finish(task.parent)
    file = source.run_dir / "weights.safetensors"
    ways = [
        ["init=run", f"init.run={source.run_id}"],
        ["init=checkpoint", f"init.weights={source.run_dir}"],
        ["init=checkpoint", f"init.weights={file}"],
        ["init=imagenet", f"init.weights={source.run_dir}"],
    ]
    for way in ways:
        plan = plan_of(*way)
        assert (plan.run_dir, plan.cell_id) == (task.run_dir, task.cell_id)
        assert [a.record for a in plan.ancestry] == [a.record for a in task.ancestry]


def test_the_same_seed_twice_is_another_cell_than_the_next_seed(plan_of):
    cells = {plan_of(*SELF, f"seed={s}", f"init.self_seed={s}").cell_id for s in (0, 1)}
    assert len(cells) == 1
    assert plan_of(*SELF).cell_id not in cells
    assert plan_of(*SELF, "init.self_seed=1").cell_id == plan_of(*SELF).cell_id


@pytest.mark.parametrize("source", [SELF, TASK, ["init=run"], ["init=stats"]], ids=" ".join)
def test_no_units_of_any_source_are_the_random_run(plan_of, source):
    base = plan_of()
    if source == ["init=run"]:
        source = [*source, f"init.run={finish(plan_of('seed=1')).run_id}"]
    plan = plan_of(*source, "init.through=none")
    assert (plan.run_dir, plan.cell_id, plan.source) == (base.run_dir, base.cell_id, ("random",))
    assert plan.ancestry == () and plan.parent is None


def test_an_unfinished_run_is_finished_first(plan_of, monkeypatch):
    source = plan_of("train.views=3")  # a recipe of its own
    with monkeypatch.context() as patched:
        stop_at_every_step(patched)
        with pytest.raises(Stopped):
            run(source)
    child = plan_of("init=run", f"init.run={source.run_id[:6]}", "seed=1")
    assert child.parent.run_dir == source.run_dir
    assert ", to be trained first)" in describe_plan(child)
    run(child)
    assert (source.run_dir / "DONE").is_file() and (child.run_dir / "DONE").is_file()
    after = plan_of("init=run", f"init.run={source.run_id}", "seed=1")
    assert after.run_id == child.run_id and after.parent is None


def test_a_run_of_an_output_folder_below_is_found(plan_of, tmp_path):
    """As `experiment=demo` leaves them, and `tlcnn compare outputs` lists them."""
    source = begin(plan_of(f"output_dir={tmp_path}/demo"))
    assert (
        find_run_dir(source.run_id, tmp_path) == tmp_path / "demo" / "runs" / source.run_dir.name
    )


def test_an_unknown_run_and_one_of_two_are_refused(plan_of):
    runs = [begin(plan_of(f"seed={seed}")) for seed in (0, 1)]
    with pytest.raises(
        WeightsError, match=r"there is no run beef1234beef in .*/runs and .*/\*/runs\."
    ):
        plan_of("init=run", "init.run=beef1234beef")
    typo = ("0" if runs[0].run_id[0] != "0" else "1") + runs[0].run_id[1:]
    with pytest.raises(WeightsError, match=f"Did you mean '{runs[0].run_id}'"):
        plan_of("init=run", f"init.run={typo}")
    with pytest.raises(WeightsError, match="there is no run"):
        plan_of("init=run", f"init.run='{runs[0].run_id[:3]}'")  # too short to be meant
    twin = runs[1].run_dir.with_name(f"x-{runs[0].run_id[:6]}ffffff")
    runs[1].run_dir.rename(twin)
    with pytest.raises(WeightsError, match="fits 2 folders") as error:
        plan_of("init=run", f"init.run='{runs[0].run_id[:6]}'")
    assert twin.name in str(error.value) and runs[0].run_dir.name in str(error.value)


def test_one_run_under_two_names_is_no_ambiguity(plan_of):
    named = [plan_of(), plan_of("dataset.name=renamed")]
    assert named[0].run_id == named[1].run_id and named[0].run_dir != named[1].run_dir
    finish(named[0])
    begin(named[1])
    plan = plan_of("init=run", f"init.run={named[0].run_id}", "dataset.name=renamed", "seed=1")
    assert plan.treatment.weights.path.parent == named[0].run_dir  # the finished one
    for one in named:
        assert plan_of("init=run", f"init.run={one.run_dir.name}", "seed=1")


def test_folders_that_cannot_be_a_source_are_refused(plan_of, tmp_path):
    source = begin(plan_of())
    config = source.run_dir / "config.yaml"
    text = config.read_text()
    for broken in ("", "[1, 2]", "seed: abc", "nokey: 1", "{", "just words"):
        config.write_text(broken)
        with pytest.raises(WeightsError, match="config.yaml cannot be read"):
            plan_of("init=run", f"init.run={source.run_id}")
    config.write_bytes(b"seed: \xff")
    with pytest.raises(WeightsError, match="config.yaml cannot be read"):
        plan_of("init=run", f"init.run={source.run_id}")
    config.write_text(text.replace("seed: 0", "seed: 4", 1))
    with pytest.raises(WeightsError, match="have changed since|not finished"):
        plan_of("init=run", f"init.run={source.run_id}")
    config.write_text(text)
    moved = source.run_dir.rename(tmp_path / source.run_dir.name)
    with pytest.raises(WeightsError, match="not where it would be"):
        plan_of("init=run", f"init.run={moved}")
    (moved / "plan.json").write_text("{}")
    (moved / "DONE").write_text("")
    with pytest.raises(WeightsError):
        plan_of("init=run", f"init.run={moved}")


def test_a_finished_run_whose_plan_has_changed_is_no_source(plan_of):
    source = finish(plan_of())
    path = source.run_dir / "plan.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    for run_name in (source.run_id, source.run_dir):
        with pytest.raises(WeightsError, match="plan.json is not what the run wrote"):
            plan_of("init=run", f"init.run={run_name}")


def test_runs_that_start_from_each_other_are_refused(plan_of, tmp_path, cache_dir):
    ids = ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    for own, other in (ids, ids[::-1]):
        folder = tmp_path / "runs" / f"x-{own}"
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text("{}")
        cfg = tiny_config(tmp_path, cache_dir, "init=run", f"init.run={other}")
        RunDir(folder).write_config(asdict(cfg))
    with pytest.raises(
        ConfigError, match=": x-aaaaaaaaaaaa -> x-bbbbbbbbbbbb -> x-aaaaaaaaaaaa. B"
    ):
        plan_of("init=run", f"init.run={ids[0]}")


def test_a_job_of_an_ancestor_is_the_source(plan_of, tmp_path, cache_dir):
    words = tuple(spell(tiny_command(tmp_path, cache_dir, "train.epochs=1", *TASK)))
    plan = plan_of(*TASK)
    assert plan_job(Job(words), Memory()).run_id == plan.run_id
    assert plan_job(Job(words, ancestor=1), Memory()).run_id == plan.parent.run_id
    assert plan_job(Job(words, ancestor=2), Memory()) is None  # finished since it was planned


def test_three_datasets_make_two_ancestors(plan_of):
    middle = begin(plan_of(*TASK, "dataset.options.data_seed=5", "dataset.name=middle"))
    last = plan_of("init=run", f"init.run={middle.run_id}")
    assert [a.record.dataset for a in last.ancestry] == ["middle", "synthetic_source"]
    assert [a.record.run_id for a in last.ancestry] == [middle.run_id, middle.parent.run_id]
    assert last.source == ("random", "synthetic_source", "middle")
    assert (last.parent.run_id, last.parent.parent.run_id) == (middle.run_id, middle.parent.run_id)
    lines = [line for line in describe_plan(last).splitlines() if " -> " in line]
    assert [line.split()[0] for line in lines] == ["from", "before"]
    assert "random -> synthetic_source -> middle" in lines[0]
    finished = finish_begun(middle)
    again = plan_of("init=run", f"init.run={finished.run_id}")  # now read from its records
    assert again.run_id == last.run_id and again.cell_id == last.cell_id
    assert [a.record for a in again.ancestry] == [a.record for a in last.ancestry]


def finish_begun(plan):
    shutil.rmtree(plan.run_dir)
    return finish(plan)


# ---------------------------------------------------------------------------- init=stats


def test_stats_keep_mean_and_deviation_and_nothing_else():
    model = build_model("test_resnet", n_classes=3, seed=0)
    generator = torch.Generator().manual_seed(0)
    state = {"big": 0.3 + 2 * torch.rand(400, 500, generator=generator) ** 3, "one": torch.ones(7)}
    drawn = draw_stats(state, model, 0)
    n = state["big"].numel()
    mean, deviation = state["big"].mean(), state["big"].std()
    assert abs(drawn["big"].mean() - mean) < 4 * deviation / n**0.5
    assert abs(drawn["big"].std() / deviation - 1) < 4 / (2 * n) ** 0.5
    pair = torch.stack([drawn["big"].flatten(), state["big"].flatten()])
    assert abs(torch.corrcoef(pair)[0, 1]) < 4 / n**0.5
    standard = (drawn["big"] - mean) / deviation
    assert abs((standard**3).mean()) < 4 * (6 / n) ** 0.5  # normal: the source's is 1.1
    assert torch.equal(drawn["one"], torch.ones(7))  # no deviation, no noise
    assert drawn["big"].dtype == torch.float32


@pytest.fixture
def stats(plan_of, tmp_path):
    path = tmp_path / "source.safetensors"
    model = build_model("test_resnet", n_classes=5, seed=7)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(3.0)
            module.num_batches_tracked.fill_(9)
    save_file(model.state_dict(), path)
    return lambda *words: plan_of("init=stats", f"init.weights={path}", *words)


def test_a_stats_draw_is_one_in_every_cell_of_a_seed(stats):
    cells = [stats(f"init.through={k}") for k in (2, 5)]
    states = [build_initial_network(plan, Memory()).model.state_dict() for plan in cells]
    shared = cells[0].unit_map.tensors_of(1, 2)
    weights = [name for name in shared if name.endswith("conv1.weight")]
    assert weights and all(torch.equal(states[0][name], states[1][name]) for name in shared)
    again = build_initial_network(cells[0], Memory()).model.state_dict()
    assert all(torch.equal(again[name], states[0][name]) for name in again)
    other = build_initial_network(stats("init.through=2", "seed=1"), Memory()).model.state_dict()
    assert not any(torch.equal(other[name], states[0][name]) for name in weights)
    assert cells[0].source == ("stats",) and cells[0].treatment.source == "stats"


def test_stats_is_neither_its_source_nor_the_fresh_draw(stats, plan_of):
    plan = stats()
    state, source = (
        build_initial_network(plan, Memory()).model.state_dict(),
        load_file(plan.treatment.weights.path),
    )
    fresh = build_initial_network(plan_of(), Memory()).model.state_dict()
    name = "conv1.weight" if "conv1.weight" in state else next(n for n in state if "conv" in n)
    assert not torch.equal(state[name], source[name]) and not torch.equal(state[name], fresh[name])
    for name in (n for n in state if "running" in n or "num_batches" in n):
        assert torch.equal(state[name], fresh[name]), name
    checkpoint = plan_of("init=checkpoint", f"init.weights={plan.treatment.weights.path}")
    assert checkpoint.run_id != plan.run_id


def test_stats_trains_to_finite_numbers(stats):
    metrics = run(stats("freeze=stem"))["metrics"]
    assert np.isfinite(metrics["test/nll"]) and 0 <= metrics["test/balanced_accuracy"] <= 1


# -------------------------------------------------------------------------- leaks


@pytest.fixture(scope="module")
def photos():
    """Drawn lesions: (first photographs, second photographs of the same lesions)."""
    options = {"task": "lesions", "n_images": 120, "size": 96}
    index = load_index("synthetic", name="synthetic", root=".", options=options)
    firsts, seconds = [], []
    for _, rows in index.table.groupby("group"):
        firsts.append(index.images.load(rows.index[0]))
        seconds += [index.images.load(rows.index[1])] if len(rows) > 1 else []
    return firsts, seconds


def encode(pixels, kind="PNG", **options):
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def folders(tmp_path, cache_dir, photos):
    """Write folders of images in official splits, and plan runs on them."""

    class Folders:
        def __init__(self):
            self.fresh = iter(map(encode, photos[0]))

        def write(self, name, extra=None):
            """Four images a class and split that are nobody else's, and those given."""
            files = {
                f"{split}/{label}/{name}{split}{label}{i}.png": next(self.fresh)
                for split in ("train", "val", "test")
                for label in "ab"
                for i in range(2)
            }
            for path, content in {**files, **(extra or {})}.items():
                place = tmp_path / name / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            return files

        def plan(self, folder, *words, name=None):
            data = ["dataset=folder", f"dataset.root={tmp_path / folder}"]
            data += [f"dataset.name={name or folder}", "dataset.image_size=32"]
            recipe = ["model.name=test_resnet", "train=quick", "train.batch_size=2"]
            places = [f"output_dir={tmp_path / 'out'}", f"cache_dir={cache_dir}", "device=cpu"]
            return make_plan(compose_config([*data, *recipe, *places, *words]))

    return Folders()


def starting(plan):
    return ["init=run", f"init.run={plan.run_id}"]


@pytest.mark.parametrize("leave", [begin, finish])
def test_strangers_are_no_leak(folders, leave):
    folders.write("target")
    folders.write("source")
    source = leave(folders.plan("source"))
    plan = folders.plan("target", *starting(source))
    assert [a.record.run_id for a in plan.ancestry] == [source.run_id]
    assert plan.source == ("random", "source")


def refuse(folders, source, *, match, name=None):
    """Check that a run on the target may not start from this one, and return the words."""
    with pytest.raises(DataError, match=match) as error:
        folders.plan("target", *starting(source), name=name)
    assert f"{source.run_name}-{source.run_id}" in str(error.value)
    return str(error.value)


def test_a_test_image_of_the_same_bytes_is_a_leak(folders):
    files = folders.write("target")
    folders.write("source", {"train/b/other.png": files["test/a/targettesta0.png"]})
    words = refuse(folders, finish(folders.plan("source")), match="1 images by their bytes")
    assert "test/a/targettesta0.png" in words


def test_a_test_image_saved_again_is_a_leak(folders, photos):
    files = folders.write("target")
    pixels = np.array(Image.open(BytesIO(files["test/b/targettestb1.png"])))
    folders.write("source", {"train/a/other.jpg": encode(pixels, "JPEG", quality=60)})
    words = refuse(folders, finish(folders.plan("source")), match="1 images that are the same pi")
    assert "test/b/targettestb1.png = train/a/other.jpg" in words


def test_another_photograph_of_a_lesion_is_not_told_by_pixels(folders, photos, tmp_path):
    folders.write("target")
    looks = [encode(pixels) for pixels in photos[1][:6]]
    firsts = [encode(pixels) for pixels in photos[0]]
    lesions = [content for content in looks if content not in firsts]
    assert lesions
    folders.write("source", {f"train/a/more{i}.png": one for i, one in enumerate(lesions)})
    assert folders.plan("target", *starting(finish(folders.plan("source"))))


def test_a_similar_image_is_not_refused(folders, photos):
    files = folders.write("target")
    pixels = np.array(Image.open(BytesIO(files["test/b/targettestb1.png"])))
    side = len(pixels) * 3 // 4
    similar = np.ascontiguousarray(pixels[:side, :side])  # another part of the same lesion
    folders.write("source", {"train/a/similar.png": encode(similar)})
    assert folders.plan("target", *starting(finish(folders.plan("source"))))


def test_a_mirrored_and_a_squared_image_are_leaks(folders, photos):
    wide = photos[0][-1][12:-12]
    square = np.asarray(Image.fromarray(wide).resize((64, 64)))
    files = folders.write("target", {"test/a/wide.png": encode(wide)})
    pixels = np.array(Image.open(BytesIO(files["test/b/targettestb1.png"])))
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    more = {"train/a/mirrored.png": encode(mirrored), "train/b/square.png": encode(square)}
    folders.write("source", more)
    match = "2 images that are the same picture"
    words = refuse(folders, finish(folders.plan("source")), match=match)
    assert "test/b/targettestb1.png = train/a/mirrored.png" in words
    assert "test/a/wide.png = train/b/square.png" in words


def test_an_image_of_the_sources_val_or_test_split_was_not_trained_on(folders):
    files = folders.write("target")
    leaked = files["test/a/targettesta0.png"]
    folders.write(
        "source", {"val/b/x.png": leaked, "test/b/y.png": files["test/a/targettesta1.png"]}
    )
    assert folders.plan("target", *starting(finish(folders.plan("source"))))


def test_an_image_that_the_run_trains_on_itself_is_no_leak(folders, photos):
    """Even where its own test split holds the picture again: that is not the source's doing."""
    mine, again = encode(photos[0][-1]), encode(photos[0][-1], "JPEG", quality=60)
    folders.write("target", {"train/a/mine.png": mine, "test/a/again.jpg": again})
    folders.write("source", {"train/a/same.png": mine})
    assert folders.plan("target", *starting(finish(folders.plan("source"))))


def test_an_isic_id_is_a_leak_under_any_name(folders, photos):
    folders.write("target", {"test/a/ISIC_0000001.png": encode(photos[0][-1])})
    folders.write("source", {"train/b/isic_0000001.jpg": encode(photos[0][-2], "JPEG")})
    words = refuse(folders, finish(folders.plan("source")), match="1 images by id")
    assert "test/a/ISIC_0000001.png" in words


def test_equal_ids_of_one_dataset_are_a_leak_whatever_their_bytes(tmp_path, cache_dir, photos):
    """Without official splits ids are CLASS/name; the two folders hold different pictures."""
    fresh = iter(map(encode, photos[0]))
    for folder in ("one", "two"):
        for label in "ab":
            place = tmp_path / folder / label
            place.mkdir(parents=True)
            for i in range(12):
                (place / f"{label}{i}.png").write_bytes(next(fresh))
    base = ["dataset=folder", "dataset.image_size=32", "model.name=test_resnet", "train=quick"]
    base += [
        f"output_dir={tmp_path}",
        f"cache_dir={cache_dir}",
        "train.batch_size=2",
        "device=cpu",
    ]

    def plan(folder, *words):
        return make_plan(compose_config([*base, f"dataset.root={tmp_path / folder}", *words]))

    source = finish(plan("one", "dataset.name=mine", "dataset.split_seed=1"))
    with pytest.raises(DataError, match="images by id .*[ab]/[ab]\\d.*png") as error:
        plan("two", "dataset.name=mine", *starting(source))
    assert source.run_name in str(error.value) and "groups" in str(error.value)
    assert plan("two", "dataset.name=other", *starting(source))
    same = plan("one", "dataset.name=mine", "dataset.split_seed=1", *starting(source))
    assert same.source == ("self",)  # one split of one dataset
    with pytest.raises(DataError, match="by their bytes"):
        plan("one", "dataset.name=mine", *starting(source))


def make_chain(folders, name="source"):
    """A run that trains on a target's test image, and one that starts from it; both finished."""
    files = folders.write("target")
    folders.write(name, {"train/b/other.png": files["test/a/targettesta0.png"]})
    folders.write("middle")
    source = finish(folders.plan(name))
    return source, finish(folders.plan("middle", *starting(source)))


def test_what_the_runs_before_have_seen_counts(folders):
    source, middle = make_chain(folders)
    with pytest.raises(DataError, match="by their bytes .test/a/targettesta0.png") as error:
        folders.plan("target", *starting(middle))
    assert source.run_id in str(error.value) and middle.run_id not in str(error.value)


def test_records_of_images_that_are_gone_tell_bytes_and_ids(folders, tmp_path):
    _, middle = make_chain(folders)
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(DataError, match="by their bytes"):
        folders.plan("target", *starting(middle))


def test_images_that_have_changed_since_count_as_the_records_say(folders, tmp_path, photos):
    _, middle = make_chain(folders)
    (tmp_path / "source/train/b/other.png").write_bytes(encode(photos[0][-1]))
    with pytest.raises(DataError, match="by their bytes"):
        folders.plan("target", *starting(middle))


def test_a_name_in_common_with_images_that_are_gone_is_a_warning(folders, tmp_path, heard):
    folders.write("target")
    folders.write("source", {"train/b/targettesta0.png": next(folders.fresh)})
    source = finish(folders.plan("source"))
    assert folders.plan("target", *starting(source)) and not heard()  # pixels tell them apart
    shutil.rmtree(tmp_path / "source")
    assert folders.plan("target", *starting(source))
    assert "1 test images look like training images of source" in heard()


UNCHECKED = "init.allow_unchecked=true"


def forget(tmp_path, plan):
    """Delete what is left of a run: its folder and its images."""
    shutil.rmtree(plan.run_dir)
    shutil.rmtree(tmp_path / plan.config.dataset.name)


def test_a_run_that_is_gone_is_known_from_the_runs_after_it(folders, tmp_path):
    source, middle = make_chain(folders)
    folders.write("late")
    last = finish(folders.plan("late", *starting(middle)))
    forget(tmp_path, source)
    for plan in (middle, last):
        with pytest.raises(DataError, match="by their bytes .test/a/targettesta0.png") as error:
            folders.plan("target", *starting(plan), UNCHECKED)
        assert source.run_id in str(error.value)
    forget(tmp_path, middle)
    with pytest.raises(DataError, match="by their bytes"):
        folders.plan("target", *starting(last), UNCHECKED)
    folders.write("another")
    begun = begin(folders.plan("another", *starting(last)))  # it hands on what it was told
    forget(tmp_path, last)
    ids = [source.run_id, middle.run_id, last.run_id]
    seen = pd.read_parquet(begun.run_dir / "seen.parquet")
    assert set(seen["run_id"]) == set(ids)
    assert set(collect_seen(begun.ancestry, begun.run_dir)["run_id"]) == set(ids)  # resumed


def test_a_run_of_another_output_dir_is_known_from_the_runs_after_it(folders, tmp_path):
    source, _ = make_chain(folders)
    there = f"output_dir={tmp_path / 'there'}"
    child = finish(folders.plan("middle", "init=run", f"init.run={source.run_dir}", there))
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(DataError, match="by their bytes"):
        folders.plan("target", *starting(child), there)
    kept = folders.plan("middle", *starting(child), there)
    assert ", its folder is not here)" in describe_plan(kept)
    assert "to be trained first" not in describe_plan(kept)


def test_nothing_left_of_a_run_is_refused_or_allowed_by_hand(folders, tmp_path, heard):
    source, middle = make_chain(folders)
    forget(tmp_path, source)
    for broken in (b"", b"PAR1", None):
        if broken is None:
            (middle.run_dir / "seen.parquet").unlink()
        else:
            (middle.run_dir / "seen.parquet").write_bytes(broken)
        with pytest.raises(DataError, match="cannot be checked.*allow_unchecked=true") as error:
            folders.plan("target", *starting(middle))
        assert str(source.run_dir) in str(error.value)
    plan = folders.plan("target", *starting(middle), UNCHECKED)
    assert "cannot be checked" in heard() and source.run_name in heard()
    assert plan.ancestry[1].record.run_id == source.run_id


@pytest.mark.parametrize("way", ["checkpoint", "imagenet", "stats"])
def test_a_copy_of_a_runs_weights_is_still_that_runs(folders, tmp_path, way):
    source, middle = make_chain(folders)
    copy = tmp_path / "mine.safetensors"
    for one in (source, middle):
        shutil.copy(one.run_dir / "weights.safetensors", copy)
        with pytest.raises(DataError, match="by their bytes"):
            folders.plan("target", f"init={way}", f"init.weights={copy}")
    plan = folders.plan("middle", f"init={way}", f"init.weights={copy}")
    told = folders.plan("middle", *starting(middle))
    assert [a.record for a in plan.ancestry] == [a.record for a in told.ancestry]
    assert plan.treatment.source == ("stats" if way == "stats" else "checkpoint")
    assert plan.source == (("stats",) if way == "stats" else told.source)
    assert len(plan.identity["init"]["digest"]) == 64  # its content, not what it says


def test_a_copy_whose_run_is_nowhere_is_refused_or_allowed_by_hand(folders, tmp_path, heard):
    source, middle = make_chain(folders)
    copy = tmp_path / "mine.safetensors"
    shutil.copy(middle.run_dir / "weights.safetensors", copy)
    words = ["init=checkpoint", f"init.weights={copy}", f"output_dir={tmp_path / 'there'}"]
    with pytest.raises(DataError, match=f"init=run init.run={middle.run_id}"):
        folders.plan("target", *words)
    plan = folders.plan("target", *words, UNCHECKED)
    assert heard().count("cannot be checked") == 2
    assert plan.source == ("random", "source", "middle")
    told = folders.plan("middle", *starting(middle))
    assert [a.record for a in plan.ancestry] == [a.record for a in told.ancestry]


@pytest.mark.parametrize("says", ["{", "[]", "{}", '{"run_id": "../../x"}', "3"])
def test_a_file_that_does_not_say_which_run_made_it_is_refused(plan_of, tmp_path, says):
    path = tmp_path / "odd.safetensors"
    save_file(build_model("test_resnet", n_classes=3, seed=0).state_dict(), path, {"tlcnn": says})
    with pytest.raises(WeightsError, match="a run made it, but not which"):
        plan_of("init=checkpoint", f"init.weights={path}")


def test_weights_of_others_have_no_ancestry(plan_of, tmp_path):
    state = build_model("test_resnet", n_classes=3, seed=0).state_dict()
    for path, metadata in (("a.safetensors", None), ("b.safetensors", {"format": "pt"})):
        save_file(state, tmp_path / path, metadata)
    torch.save(state, tmp_path / "c.pt")
    (tmp_path / "d.pt").write_bytes(b"\x05" + bytes(7) + b"[[[[[")
    (tmp_path / "plan.json").write_text('{"somebody": "else"}')
    for path in ("a.safetensors", "b.safetensors", "c.pt", "d.pt"):
        plan = plan_of("init=checkpoint", f"init.weights={tmp_path / path}")
        assert (plan.ancestry, plan.source) == ((), ("checkpoint",))


@pytest.mark.parametrize("name", ["checkpoint.last.pt", "weights.safetensors", "renamed.pth"])
def test_weights_of_an_unfinished_run_are_that_runs(folders, name):
    files = folders.write("target")
    folders.write("source", {"train/b/other.png": files["test/a/targettesta0.png"]})
    source = begin(folders.plan("source"))
    path = source.run_dir / name
    torch.save(build_model("test_resnet", n_classes=2, seed=0).state_dict(), path)
    with pytest.raises(DataError, match="by their bytes"):
        folders.plan("target", "init=checkpoint", f"init.weights={path}")
    again = folders.plan("source", "init=checkpoint", f"init.weights={path}")
    assert again.ancestry[0].record.run_id == source.run_id
    assert ", not finished)" in describe_plan(again)


def test_an_unfinished_run_is_trained_as_this_command_says(plan_of):
    here = ["on_locked=wait", "progress=true", "checkpoint_every_s=7", "eval_batch_size=9"]
    there = ["on_locked=fail", "progress=false", "checkpoint_every_s=1", "eval_batch_size=4"]
    source = begin(plan_of(*there))
    cfg = plan_of("init=run", f"init.run={source.run_id}", "seed=1", *here).parent.config
    told = (cfg.on_locked, cfg.progress, cfg.checkpoint_every_s, cfg.eval_batch_size)
    assert told == ("wait", True, 7, 9)
    assert not load_run_config(source.run_dir, cfg).init.allow_unchecked


def test_what_has_changed_of_an_unfinished_run_is_named(plan_of):
    source = begin(plan_of("train.precision=auto"))
    path = source.run_dir / "plan.json"
    record = json.loads(path.read_text())
    now = record["identity"]["train"]["precision"]
    before = {"bf16": "fp32", "fp32": "bf16"}[now]  # as on another device
    record["identity"]["train"]["precision"] = before
    path.write_text(json.dumps(record))
    other = source.run_dir.rename(source.run_dir.with_name("x-0123456789ab"))
    words = f"train.precision was {before} and is {now} .device=cpu"
    with pytest.raises(WeightsError, match=words):
        plan_of("init=run", f"init.run={other}")
    (other / "plan.json").write_text("[]")
    with pytest.raises(WeightsError, match="have changed since"):
        plan_of("init=run", f"init.run={other}")


@pytest.fixture
def heard(caplog, monkeypatch):
    """What was warned of."""
    monkeypatch.setattr(logging.getLogger("tlcnn"), "propagate", True)

    def say():
        return "\n".join(
            record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
        )

    return say


def test_a_source_that_is_only_planned_is_checked_too(folders, tmp_path):
    """init=task: nothing of the parent has been trained, and it is refused before that."""
    files = folders.write("target")
    folders.write("source", {"train/b/other.png": files["test/a/targettesta0.png"]})
    words = ["init=task", "init.task=folder", "init.parent=random"]
    words += [f"init.task_dataset.root={tmp_path / 'source'}", "init.task_dataset.name=source"]
    with pytest.raises(DataError, match="by their bytes"):
        folders.plan("target", *words)
    assert not (tmp_path / "out").exists()
    words[-2] = f"init.task_dataset.root={tmp_path / 'target'}"
    assert folders.plan("target", *words).source == ("self",)


def test_stats_of_a_run_that_saw_test_images_are_refused_too(folders):
    _, middle = make_chain(folders)
    with pytest.raises(DataError, match="by their bytes"):
        folders.plan("target", "init=stats", f"init.weights={middle.run_dir}")
