"""Back from a run folder to its network and images: the very bits, or an error that says why."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from runs import tiny_config
from test_read import make_run

import tlcnn
from tlcnn.errors import DataError, WeightsError
from tlcnn.plan.plan import make_plan
from tlcnn.records.folder import RunDir
from tlcnn.records.open_run import open_run
from tlcnn.run.run import run


@pytest.fixture(scope="module")
def plan(tmp_path_factory, cache_dir):
    """A trained run that starts from another one, with frozen units."""
    torch.set_num_threads(1)
    words = ["init=self", "freeze=layer1", "train.epochs=1", "eval_batch_size=9"]
    plan = make_plan(tiny_config(tmp_path_factory.mktemp("runs"), cache_dir, *words))
    run(plan)
    return plan


@pytest.fixture
def copy(plan, tmp_path):
    """A copy of the run folder to be damaged."""
    return shutil.copytree(plan.run_dir, tmp_path / plan.run_dir.name)


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_network_says_again_what_it_said_to_the_last_bit(plan, cache_dir, split):
    opened = open_run(plan.run_dir, cache_dir=cache_dir)
    table = opened.predictions()
    table = table[table["split"] == split]
    recorded = table[[f"logit/{name}" for name in opened.classes]].to_numpy()
    model = opened.model()
    assert not model.training
    with torch.no_grad():
        logits = torch.cat([model(images) for images in opened.images(split)]).numpy()
    assert np.array_equal(logits, recorded)
    assert np.array_equal(opened.compute_logits(split), recorded)
    index, batches = opened.dataset().index, opened.batches(split)
    assert index.table["image_id"].iloc[batches.rows].tolist() == table["image_id"].tolist()
    assert batches.labels.tolist() == table["label"].tolist()


def test_one_image_is_seen_as_in_the_run(plan, cache_dir):
    opened = tlcnn.open_run(plan.run_dir, cache_dir=cache_dir)
    row = opened.batches("test").rows[3]
    image = opened.dataset().index.images.load(row)
    first = next(opened.images("test"))
    assert torch.equal(opened.transform(image), first[3])


def test_what_the_run_was_is_typed(plan, cache_dir):
    opened = open_run(plan.run_dir, cache_dir=cache_dir)
    assert (opened.record.run_id, opened.record.source) == (plan.run_id, ("self",))
    assert opened.config.train == plan.config.train
    assert opened.unit_map().digest() == plan.unit_map.digest()
    assert opened.dataset().manifest == plan.dataset.manifest == opened.record.manifest
    with pytest.raises(DataError, match="no split all: train, val, test"):
        opened.batches("all")


def flip(path, position=0.7):
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 1
    path.write_bytes(content)


def test_weights_that_have_changed_are_refused(copy, cache_dir):
    flip(copy / "weights.safetensors")
    with pytest.raises(WeightsError, match="weights.safetensors has changed.*train"):
        open_run(copy, cache_dir=cache_dir).model()
    (copy / "weights.safetensors").unlink()
    with pytest.raises(WeightsError, match="there are no weights"):
        open_run(copy, cache_dir=cache_dir).model()
    (copy / "DONE").write_text("")
    with pytest.raises(DataError, match="does not record the sha256"):
        open_run(copy, cache_dir=cache_dir)


@pytest.mark.parametrize("name", ["plan.json", "config.yaml"])
def test_a_plan_and_a_configuration_that_have_changed_are_refused(copy, cache_dir, name):
    flip(copy / name)
    with pytest.raises(DataError, match=f"{name} is not what the run wrote"):
        open_run(copy, cache_dir=cache_dir)


def change(copy, old, new):
    """Change config.yaml as if the run had written it so."""
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace(old, new))
    RunDir(copy).write_done(copy.name)


def test_weights_of_another_network_are_refused(copy, cache_dir):
    change(copy, "test_resnet", "test_efficientnet")
    with pytest.raises(WeightsError, match="do not fit test_efficientnet"):
        open_run(copy, cache_dir=cache_dir).model()


def test_images_that_have_changed_or_moved_are_refused_with_advice(copy, cache_dir):
    change(copy, "n_images: 140", "n_images: 141")
    with pytest.raises(DataError, match="have changed since the run.*\n.*root=IMAGES"):
        open_run(copy, cache_dir=cache_dir).dataset()
    change(copy, "kind: synthetic", "kind: folder")
    with pytest.raises(DataError, match="root=IMAGES"):
        open_run(copy, root=copy / "none", cache_dir=cache_dir).batches("test")


def test_what_is_no_trained_run_is_refused(copy, tmp_path):
    with pytest.raises(DataError, match="no run folder .*none"):
        open_run(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no plan.json"):
        open_run(tmp_path / "empty")
    plan = {"dataset": "d", "model": "m", "source": ["x"], "k": 0, "j": 0, "bn": "frozen"}
    imported = make_run(tmp_path, "a", plan={**plan, "seed": 0, "imported": True})
    with pytest.raises(DataError, match="imported predictions"):
        open_run(imported)
    for text in ("{", "nokey: 1", "seed: abc", "- 1"):
        (copy / "config.yaml").write_text(text)
        RunDir(copy).write_done(copy.name)
        with pytest.raises(DataError, match=r"config\.yaml"):
            open_run(copy)


def test_the_package_alone_loads_neither_torch_nor_pandas():
    code = (
        "import sys, tlcnn; assert not {'torch', 'pandas'} & set(sys.modules);"
        "tlcnn.open_run, tlcnn.read_runs; assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match="nothing"):
        tlcnn.nothing  # noqa: B018
