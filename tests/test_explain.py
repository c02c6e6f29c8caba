"""Examples are the surest of the test images, and heat is where the network looks."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from runs import tiny_config
from torch import nn

from tlcnn.errors import DataError, TlcnnError, WeightsError
from tlcnn.plan.plan import make_plan
from tlcnn.records.folder import RunDir
from tlcnn.records.read import read_predictions
from tlcnn.report.explain import (
    INSTALL,
    SIDE,
    choose_examples,
    compute_gradcam,
    find_layer,
    load_examples,
)
from tlcnn.report.figures.examples import plot_examples
from tlcnn.run.run import run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, cache_dir):
    plan = make_plan(tiny_config(tmp_path_factory.mktemp("outputs"), cache_dir))
    run(plan)
    return plan.run_dir


@pytest.fixture
def copied(run_dir, tmp_path):
    """A copy of the run that a test may damage."""
    import shutil

    return shutil.copytree(run_dir, tmp_path / run_dir.name)


# ---- which --------------------------------------------------------------------------------------


def make_predictions():
    """Two classes; the logit of the right one falls with the row, every fourth row is wrong."""
    rows = []
    for n in range(40):
        label, sure = n % 2, 5 - n / 10
        wrong = n % 4 == 3
        logits = [sure, -sure] if (label == 0) != wrong else [-sure, sure]
        split = "val" if n < 8 else "test"
        rows.append((split, f"i{n:02d}", f"g{n // 2 if n > 30 else n}", label, *logits))
    columns = ["split", "image_id", "group", "label", "logit/a", "logit/b"]
    return pd.DataFrame(rows, columns=columns)


def test_examples_are_the_surest_of_the_test_images_and_of_no_others():
    table = choose_examples(make_predictions(), n_each=4)
    assert list(table["is_right"]) == [True] * 4 + [False] * 4
    assert list(table["image_id"][:4]) == ["i08", "i09", "i10", "i13"]  # a, b, a, b
    assert list(table["true"]) == ["a", "b", "a", "b", "b", "b", "b", "b"]  # only b is ever wrong
    assert list(table["image_id"][4:]) == ["i11", "i15", "i19", "i23"]
    assert (table["predicted"] == table["true"]).equals(table["is_right"])
    assert table["probability"].between(0.5, 1).all()


def test_the_class_that_matters_comes_first_and_a_lesion_once():
    table = choose_examples(make_predictions().assign(group="one"), n_each=4, first="b")
    assert len(table) == 2  # one right, one wrong: all images are of one lesion
    first = choose_examples(make_predictions(), n_each=2, first="b")
    assert first["true"].iloc[0] == "b"


# ---- where --------------------------------------------------------------------------------------


class Red(nn.Module):
    """Class 0 is red less blue, class 1 the reverse."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 3, 1, bias=False)
        self.body.weight.data = torch.eye(3)[:, :, None, None]
        self.head = nn.Linear(3, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0, 0.0, -1.0], [-1.0, 0.0, 1.0]])

    def forward(self, images):
        return self.head(self.body(images).mean(dim=(2, 3)))


def test_heat_is_where_the_class_is():
    images = torch.zeros(2, 3, 32, 32)
    images[:, 0, 4:12, 4:12] = 1.0  # red, upper left
    images[:, 2, 20:28, 20:28] = 1.0  # blue, lower right
    heats = compute_gradcam(Red().eval(), images, torch.tensor([0, 1]), "body")
    assert heats.shape == (2, SIDE, SIDE) and heats.min() >= 0 and heats.max() == 1
    peaks = [np.unravel_index(heat.argmax(), heat.shape) for heat in heats]
    assert max(peaks[0]) < SIDE / 2 < min(peaks[1])
    assert heats[0, SIDE // 2 :].max() == 0  # nothing else speaks for red


def test_heat_is_read_from_the_deepest_unit_that_still_has_places():
    body = nn.Sequential(*(nn.Conv2d(3, 3, 3, stride=2, padding=1) for _ in range(4)))
    layers = [(f"u{i}", str(i)) for i in range(4)]
    assert find_layer(body, torch.zeros(1, 3, 32, 32), layers) == ("u2", "2", 4)
    assert find_layer(body, torch.zeros(1, 3, 64, 64), layers) == ("u3", "3", 4)
    assert find_layer(body, torch.zeros(1, 3, 4, 4), layers) == ("u0", "0", 2)


def test_a_unit_gives_out_what_its_last_module_to_finish_does():
    body = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), nn.Conv2d(3, 3, 8))
    layers = [("one", "0.0"), ("one", "0"), ("one", "0.1"), ("two", "1")]
    assert find_layer(body, torch.zeros(1, 3, 8, 8), layers) == ("one", "0", 8)


# ---- a real run ---------------------------------------------------------------------------------


def test_a_run_is_explained_on_its_own_test_images(run_dir):
    examples = load_examples(run_dir, n_each=4)
    predictions = read_predictions(run_dir).set_index("image_id")
    assert set(predictions.loc[examples.table["image_id"], "split"]) == {"test"}
    n = len(examples.table)
    assert examples.pictures.shape == (n, SIDE, SIDE, 3) and examples.pictures.dtype == np.uint8
    assert examples.heats.shape == (n, SIDE, SIDE) and examples.note == ""
    assert examples.image_size == 32 and " x " in examples.place


def test_pictures_are_drawn_with_what_they_were_taken_for(run_dir):
    examples = load_examples(run_dir, n_each=3)
    figure = plot_examples(examples)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(titles) == len(examples.table)
    for title, row in zip(titles, examples.table.to_dict("records"), strict=True):
        assert title.startswith(f"{row['true']}\n") and f"{row['probability']:.2f}" in title
        assert row["is_right"] or f"as {row['predicted']}" in title
    plain = plot_examples(replace(examples, heats=None))
    assert sum(len(ax.images) for ax in plain.axes) == len(examples.table)


def test_without_captum_pictures_are_shown_without_heat(run_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    examples = load_examples(run_dir, n_each=2)
    assert examples.heats is None and examples.note == INSTALL and len(examples.pictures)


def test_weights_that_are_gone_are_told(copied):
    (copied / "weights.safetensors").unlink()
    assert "deleted" in load_examples(copied, n_each=2).note


def test_weights_of_another_network_are_noticed(copied):
    from safetensors.torch import load_file, save_file

    path = copied / "weights.safetensors"
    state = load_file(path)
    head = next(name for name in state if name.endswith("bias") and state[name].shape == (7,))
    save_file({**state, head: torch.arange(7.0)}, path)
    with pytest.raises(WeightsError, match="has changed"):
        load_examples(copied, n_each=2)


def test_a_dataset_that_is_gone_or_another_is_told(copied):
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["dataset"]["options"]["n_images"] = 30
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    RunDir(copied).write_done(copied.name)
    with pytest.raises(DataError, match="changed since the run"):
        load_examples(copied, n_each=6)
    config["dataset"] |= {"kind": "folder", "root": "/nowhere", "options": {}}
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    RunDir(copied).write_done(copied.name)
    with pytest.raises(TlcnnError, match="nowhere"):
        load_examples(copied, n_each=6)
