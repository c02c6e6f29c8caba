"""`predict`: the recorded logits again, from any images, for any runs, in parts."""

import numpy as np
import pytest
import torch
from PIL import Image
from runs import tiny_config

import tlcnn
from tlcnn.inference.predict import predict
from tlcnn.plan.plan import make_plan
from tlcnn.run.run import run

FAMILIES = (
    *("test_resnet", "mobilenetv2_035", "mobilenetv3_small_050", "test_convnext", "regnetx_002"),
    *("test_nfnet", "cs3darknet_s", "lcnet_035"),
)


def train(output_dir, cache_dir, *words):
    """Train a tiny run and return its plan."""
    torch.set_num_threads(1)
    plan = make_plan(tiny_config(output_dir, cache_dir, "train.epochs=1", *words))
    run(plan)
    return plan


@pytest.fixture(scope="module")
def plans(tmp_path_factory, cache_dir):
    """Two runs that differ in the seed."""
    folder = tmp_path_factory.mktemp("runs")
    words = ("eval_batch_size=9", "train.class_weights=balanced")
    return [train(folder, cache_dir, f"seed={seed}", *words) for seed in (0, 1)]


@pytest.fixture(scope="module")
def folder(plans, tmp_path_factory):
    """The test images of the runs as PNG files, and their ids in the order of the files."""
    place = tmp_path_factory.mktemp("images")
    dataset = plans[0].dataset
    for number, row in enumerate(np.flatnonzero(dataset.splits == "test")):
        Image.fromarray(dataset.index.images.load(row)).save(place / f"{number:03d}.png")
    return place


def read_recorded(plan, split="test"):
    """The predictions that a run has recorded."""
    table = tlcnn.open_run(plan.run_dir).predictions()
    return table[table["split"] == split].reset_index(drop=True)


def take_logits(frame):
    return frame[[c for c in frame.columns if c.startswith("logit/")]].to_numpy()


@pytest.mark.parametrize("model", FAMILIES)
def test_the_recorded_logits_come_out_again_bit_for_bit(model, tmp_path, cache_dir):
    plan = train(tmp_path, cache_dir, f"model.name={model}", "eval_batch_size=9")
    frame = predict(plan.run_dir, device="cpu", checks=False)
    recorded = read_recorded(plan)
    assert frame["image_id"].tolist() == recorded["image_id"].tolist()
    assert np.array_equal(take_logits(frame), take_logits(recorded))


def test_files_and_arrays_give_the_same_bits_as_the_dataset(plans, folder):
    recorded = take_logits(read_recorded(plans[0]))
    from_folder = predict(plans[0].run_dir, folder, device="cpu", checks=False)
    assert np.array_equal(take_logits(from_folder), recorded)
    arrays = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    assert np.array_equal(take_logits(predict(plans[0].run_dir, arrays, checks=False)), recorded)
    alone = predict(plans[0].run_dir, folder / "003.png", device="cpu", checks=False)
    assert np.array_equal(take_logits(alone), recorded[3:4])
