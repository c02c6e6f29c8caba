"""The Python interface: what its page and its notebook show works as printed."""

import doctest
import json
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import tiny_command

import tlcnn
from tlcnn.errors import ConfigError, DataError
from tlcnn.plan.plan import Plan

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache_dir):
    """What `tlcnn.train` returns."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("outputs")
    return tlcnn.train(tiny_command(folder, cache_dir, "train.epochs=1"))


def test_a_run_is_trained_as_a_row_of_read_runs(trained, cache_dir):
    folder = Path(trained["folder"])
    (row,) = tlcnn.read_runs(folder.parents[1]).to_dict("records")
    assert row["run_id"] == trained["run_id"] == trained.name
    assert row["test/accuracy"] == trained["test/accuracy"] and row["state"] == "done"


def test_plan_and_train_are_functions_and_modules(tmp_path, cache_dir):
    import tlcnn.plan.plan  # an import of a module leaves the function
    import tlcnn.train

    plan = tlcnn.plan(" ".join(tiny_command(tmp_path, cache_dir)))
    assert isinstance(plan, Plan) and not plan.run_dir.exists()
    assert plan.run_id in tlcnn.describe_plan(plan)
    assert callable(tlcnn.train.main) and tlcnn.plan.plan.make_plan
    for words, message in (
        (["-m", "seed=0,1"], "are for one run"),
        (["seed=0,1"], "seed=0,1 is several runs, and .* are for one run"),
        (["freeze.through=each"], "are for one run"),
        (["+experiment=demo"], "are for one run"),
        (["sed=0"], "no key 'sed'"),
        (["seed=x"], "must be an integer"),
    ):
        with pytest.raises(ConfigError, match=message):
            tlcnn.plan(["dataset=synthetic", *words])


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path, cache_dir):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen = []

    def train():
        seen.append(tlcnn.train(tiny_command(tmp_path, cache_dir, "train.epochs=1")))
        seen.append(tlcnn.predict(seen[0], device="cpu", checks=False))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert len(seen) == 2 and len(seen[1])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_every_kind_of_image_is_transformed_alike(trained, tmp_path):
    network = tlcnn.load(trained, device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = network.run.transform(pixels)
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(pixels), pixels):
        assert torch.equal(network.transform(image), expected)
    grey = Image.fromarray(pixels[:, :, 0])
    assert torch.equal(network.transform(grey), network.transform(pixels[:, :, 0]))
    with torch.no_grad():
        assert network.model(expected[None]).shape == (1, len(network.classes))
    assert not network.model.training and network.units == ("stem", *network.units[1:])


def test_features_of_the_head_give_the_logits(trained):
    network = tlcnn.load(trained, device="cpu")
    features = tlcnn.features(network, split="test")
    classifier = network.model.get_submodule(network.classifier_path)
    with torch.no_grad():
        logits = classifier(torch.from_numpy(features)).numpy()
    frame = tlcnn.predict(network, device="cpu", checks=False)
    recorded = frame[[f"logit/{name}" for name in network.classes]].to_numpy()
    assert np.allclose(logits, recorded, atol=1e-5)


def test_features_of_a_unit_are_means_over_its_map(trained):
    network = tlcnn.load(trained, device="cpu")
    maps = []
    hook = network.model.layer2.register_forward_hook(lambda m, i, out: maps.append(out))
    images = torch.cat(list(network.run.images("test")))
    with torch.no_grad():
        network.model(images)
    hook.remove()
    expected = maps[0].mean(dim=(2, 3)).numpy()
    for at in ("stage2", "layer2", "3"):
        assert np.allclose(tlcnn.features(network, at=at), expected, atol=1e-5)
    with pytest.raises(ConfigError, match="no unit 'stage9'"):
        tlcnn.features(network, at="stage9")


def test_features_need_every_image(trained, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png cannot be decoded"):
        tlcnn.features(trained, tmp_path)


def test_tables_and_figures_are_objects(trained):
    folder = Path(trained["folder"]).parents[1]
    frame = tlcnn.compare(folder, metrics=["test/accuracy"], where=["dataset=synthetic"])
    assert frame["test/accuracy"].tolist() == [trained["test/accuracy"]]
    figures = tlcnn.draw(folder)
    assert figures["learning"].figure.axes and figures["learning"].caption
    assert figures["learning"]._repr_png_().startswith(b"\x89PNG")


def test_the_page_works_as_printed(tmp_path, monkeypatch, cache_dir):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLCNN_CACHE", str(cache_dir))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST
    result = doctest.testfile(str(DOCS / "python.md"), module_relative=False, optionflags=options)
    assert result.failed == 0 and result.attempted


def test_the_notebook_runs(tmp_path, monkeypatch, cache_dir):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLCNN_CACHE", str(cache_dir))
    notebook = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    names: dict[str, object] = {}
    for cell in cells:
        exec(compile(cell, "notebook", "exec"), names)
    assert cells


def test_a_dry_run_trains_nothing(tmp_path):
    words = ["dataset=synthetic", "dry_run=true", f"output_dir={tmp_path}", "device=cpu"]
    with pytest.raises(ConfigError, match=r"call tlcnn\.plan"):
        tlcnn.train(words)
    assert not (tmp_path / "runs").exists()
