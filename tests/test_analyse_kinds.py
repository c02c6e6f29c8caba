"""`tlcnn analyse` on runs of every kind: their units, training, task and network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from medmnist_files import write_file
from runs import TINY, tiny_config
from safetensors.torch import save_file

import tlcnn
from tlcnn.cli.main import main
from tlcnn.config.compose import compose_config
from tlcnn.config.schema import find_conf_dir
from tlcnn.errors import ConfigError
from tlcnn.layers import DEFAULT, MEASURES
from tlcnn.layers.networks import build_subject
from tlcnn.layers.roles import Candidates, find_bases, make_analysis
from tlcnn.layers.subject import compute_features
from tlcnn.memory import Memory
from tlcnn.model.build import build_model
from tlcnn.plan.plan import make_plan
from tlcnn.records.open_run import open_run
from tlcnn.records.read import read_runs
from tlcnn.run.run import run as train
from tlcnn.study.runs import make_runs

KINDS = {
    "base": ["init=random", "init.weights=null"],
    "units": ["init.units=[1,3,4]", "freeze.units=[3]"],
    "truncated": ["init.through=3", "init.above=truncate", "freeze.through=1"],
    "stats": ["init.through=2", "init.above=stats"],
    "anchor": ["train.anchor=1", "train.layer_decay=0.5"],
    "schedule": ["train.schedule=head_first", "train.head_epochs=1", "train.warmup_epochs=0"],
    "blocks": ["model.granularity=block", "freeze.through=2"],
}
# Several tensors leave units of these: lists of them, or a layer's output and a skip connection.
UNCUT = {"hrnet_w18_small", "mobilenetv2, layers"}
OF_ONE_CLASS = {"probe", "knn", "reinit", "gradient"}  # measures of one class an image


def train_runs(folder, cache_dir, kinds):
    """Train runs from drawn weights in a file; return their folders by kind."""
    torch.set_num_threads(1)
    weights = folder / "source.safetensors"
    save_file(build_model("test_resnet", n_classes=3, seed=7).state_dict(), weights)
    words = ["train.warmup_epochs=0", "init=checkpoint", f"init.weights={weights}"]
    plans = {
        kind: make_plan(tiny_config(folder / "out", cache_dir, *words, *kinds[kind]))
        for kind in kinds
    }
    for plan in plans.values():
        train(plan)
    return {kind: plan.run_dir for kind, plan in plans.items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache_dir):
    return train_runs(tmp_path_factory.mktemp("kinds"), cache_dir, KINDS)


def read_run(folder):
    return {Path(run.folder).name: run for run in make_runs(read_runs(folder.parent))}[folder.name]


def build(folder):
    run = read_run(folder)
    bases = find_bases(run, "self", Candidates())
    analysis = make_analysis(run, bases, MEASURES, n_images=40)
    return build_subject(analysis, "cpu", Memory()), bases


def analyse(outputs, *words):
    main(["analyse", str(outputs), "--images", "60", "--device", "cpu", *words])
    return tlcnn.read_measures(outputs)


def check_rows(frame, n_units, measures=DEFAULT):
    """Every measure has a row for every unit, and where it has no value it says why."""
    assert set(frame["measure"]) == set(measures)
    for _, rows in frame.groupby(["measure", "variant"]):
        assert rows["n"].tolist() == list(range(1, n_units + 1))
    assert (frame["note"] != "")[frame["value"].isna()].all()


def test_every_kind_of_run_has_all_measures(trained):
    frame = analyse(trained["base"].parent)
    base = read_run(trained["base"])
    by_run = dict(list(frame.groupby("run_id")))
    for kind in KINDS.keys() - {"base"}:
        run = read_run(trained[kind])
        rows = by_run[run.run_id]
        check_rows(rows, len(run.plan.units))
        # All have the recipe of the base, but for what is said of transferred units; and those of
        # blocks have other units.
        assert set(rows["against"]) == {"" if kind == "blocks" else base.run_id}
        compared = rows[(rows["measure"] == "cka") & (rows["variant"] == "pooled against")]
        assert compared["value"].notna().all() == (kind != "blocks")
    truncated = by_run[read_run(trained["truncated"]).run_id]
    assert truncated["unit"].unique().tolist() == ["stem", "stage1", "stage2"]


def test_a_truncated_run_is_compared_with_the_same_units_of_whole_networks(trained):
    subject, bases = build(trained["truncated"])
    whole = open_run(bases[0].folder)
    images = subject.images["train"]
    expected = compute_features(whole.model(), whole.unit_map(), images, subject.numbers)
    for n, features in subject.features("own", "train").items():
        assert np.array_equal(features, expected["pooled"][n])
    assert list(subject.features("random", "train")) == [1, 2, 3]
    tensors = [{*network.state_dict()} for network in subject.networks.values()]
    assert all(names == tensors[0] for names in tensors)
    frame = analyse(trained["truncated"], "--measures", "stitch")
    notes = frame.loc[frame["measure"] == "stitch", "note"]
    assert notes.str.startswith("the network has dropped units").all() and len(notes) == 3


def test_the_start_has_the_source_in_the_units_that_were_transferred_alone(trained):
    subject, _ = build(trained["units"])
    source = build_model("test_resnet", n_classes=3, seed=7).state_dict()
    start = subject.networks["start"].state_dict()
    for n, unit in enumerate(subject.unit_map.units, start=1):
        weights = [name for name in unit.tensors if source[name].ndim == 4]
        assert weights
        assert all(torch.equal(start[w], source[w]) for w in weights) == (n in (1, 3, 4))


def test_a_network_with_other_units_or_another_model_is_no_base(trained):
    run = read_run(trained["units"])
    for kind, text in (("blocks", "other units"), ("truncated", "other units")):
        with pytest.raises(ConfigError, match=f"{text}, compared with"):
            find_bases(run, str(trained[kind]), Candidates())


def test_a_task_with_several_labels_has_the_measures_that_need_no_class(tmp_path, cache_dir):
    write_file(tmp_path / "data", "chestmnist", counts={"train": 60, "val": 20, "test": 20})
    weights = tmp_path / "source.safetensors"
    save_file(build_model("test_resnet", n_classes=3, seed=7).state_dict(), weights)
    words = [word for word in TINY if not word.startswith("dataset")]
    words += ["dataset=chestmnist", f"dataset.root={tmp_path / 'data'}", "train.epochs=1"]
    words += [f"output_dir={tmp_path / 'out'}", f"cache_dir={cache_dir}", "train.warmup_epochs=0"]
    train(make_plan(compose_config([*words, "init=checkpoint", f"init.weights={weights}"])))
    frame = analyse(tmp_path / "out", "--measures", ",".join(MEASURES))
    check_rows(frame, 5, MEASURES)
    valued = set(frame.loc[frame["value"].notna(), "measure"])
    assert valued == MEASURES.keys() - OF_ONE_CLASS - {"stitch"}
    notes = frame.loc[frame["measure"].isin(OF_ONE_CLASS), "note"]
    assert notes.str.contains("several labels").all()


# ---- every network ------------------------------------------------------------------------------

MODELS = sorted(path.stem for path in (find_conf_dir() / "model").glob("*.yaml"))
NETWORKS = {
    **{name: [f"model={name}"] for name in MODELS},
    "resnet18, blocks": ["model=resnet18", "model.granularity=block"],
    "mobilenetv2, layers": ["model=mobilenetv2", "model.granularity=layer"],
    "hrnet_w18_small": ["model.name=hrnet_w18_small"],
}
PIXELS = {"inception_v3": 96}  # the least that it takes; all others have 32
OF_ACTIVATIONS = {"probe", "knn", "cka", "svcca", "logme"}


def test_all_shipped_models_are_here():
    assert len(MODELS) == 16


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_has_all_measures(network, tmp_path, cache_dir):
    torch.set_num_threads(1)
    words = [word for word in TINY if not word.startswith(("model", "dataset.image_size"))]
    words += [f"dataset.image_size={PIXELS.get(network, 32)}", *NETWORKS[network]]
    words += [f"output_dir={tmp_path}", f"cache_dir={cache_dir}", "train.epochs=1"]
    plan = make_plan(compose_config([*words, "init=self", "train.warmup_epochs=0"]))
    train(plan)
    frame = analyse(plan.run_dir, "--measures", ",".join(MEASURES))
    check_rows(frame, len(plan.unit_map), MEASURES)
    uncut = [u.name for u in plan.unit_map.units if u.cut_obstacle is not None]
    assert bool(uncut) == (network in UNCUT)
    rows = frame[frame["measure"].isin(OF_ACTIVATIONS) & frame["unit"].isin(uncut)]
    assert rows["note"].str.startswith("no single tensor leaves the unit").all()
    valued = frame[frame["value"].notna()]
    for measure in ("movement", "gradient", "logme", "cka"):
        n_units = valued.loc[valued["measure"] == measure, "n"].nunique()
        expected = len(plan.unit_map) - (len(uncut) if measure in OF_ACTIVATIONS else 0)
        assert n_units == expected, measure
