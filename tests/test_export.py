"""Exported networks: the logits of the run, from files that need no tlcnn."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from packaging.version import Version
from PIL import Image
from runs import tiny_config

import tlcnn
from tlcnn.cli.main import main
from tlcnn.errors import BrokenPromise, ConfigError, DataError
from tlcnn.inference import export
from tlcnn.inference.export import describe_preprocessing, export_network
from tlcnn.inference.preprocess import preprocess
from tlcnn.plan.plan import make_plan
from tlcnn.records.open_run import OpenRun
from tlcnn.records.plan_record import AncestorRecord, PlanRecord, read_plan
from tlcnn.report.card import _list_limits, _write_counts, describe_licence, write_card
from tlcnn.run.run import run
from tlcnn.statistics.metrics import compute_metrics
from tlcnn.study.runs import make_single_runs


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, cache_dir):
    """The folder of a trained run."""
    torch.set_num_threads(1)
    plan = make_plan(tiny_config(tmp_path_factory.mktemp("runs"), cache_dir, "train.epochs=1"))
    run(plan)
    return plan.run_dir


@pytest.fixture(scope="module")
def folder(run_dir, tmp_path_factory):
    """What the command has exported."""
    place = tmp_path_factory.mktemp("exported")
    words = ["--to", "timm", "torchscript", "torch.export"]
    main(["export", str(run_dir), "-o", str(place), *words])
    return place


def read_recorded(run_dir):
    frame = tlcnn.open_run(run_dir).predictions()
    frame = frame[frame["split"] == "test"]
    return frame[[c for c in frame.columns if c.startswith("logit/")]].to_numpy()


def load_timm(folder):
    if Version(timm.__version__) < Version("1.0.26"):
        pytest.skip("timm before 1.0.26 reads no safetensors from a folder")
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def load_torch_export(folder):
    return torch.export.load(folder / "model.pt2").module()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("load", [load_timm, load_torch_export])
def test_files_give_the_recorded_logits_of_preprocessed_files(run_dir, folder, load, tmp_path):
    recipe = json.loads((folder / "preprocessing.json").read_text())
    network = tlcnn.load(run_dir, device="cpu")
    images = network.run.dataset().index.images
    for number, row in enumerate(network.run.batches("test").rows):
        Image.fromarray(images.load(row)).save(tmp_path / f"{number:03d}.png")
    batch = np.stack([preprocess(path, recipe) for path in sorted(tmp_path.iterdir())])
    with torch.no_grad():
        logits = load(folder)(torch.from_numpy(batch)).numpy()
    assert np.allclose(logits, read_recorded(run_dir), atol=1e-4)
    assert recipe["output"]["classes"] == list(network.classes)
    for check in recipe["checks"].values():
        assert check["difference"] <= 1e-5 and check["recorded_difference"] <= 1e-5
        assert check["n_same_class"] == check["n_images"] == len(batch)
    assert set(recipe["checks"]) == {"timm", "torchscript", "torch.export"}


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_the_preprocessing_that_is_written_is_that_of_the_run(run_dir, folder, fit, tmp_path):
    network = tlcnn.load(run_dir, device="cpu")
    cfg = replace(network.run.config.dataset, fit=fit, image_size=40, normalize="half")
    opened = replace(network.run, config=replace(network.run.config, dataset=cfg))
    network = replace(network, run=opened)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 83, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    recipe = describe_preprocessing(network, {})
    written = preprocess(tmp_path / "a.png", json.loads(json.dumps(recipe)))
    assert np.allclose(written, network.transform(tmp_path / "a.png").numpy(), atol=1e-6)
    code = (
        "import json, sys, preprocess; r = json.load(open('preprocessing.json'));"
        f"print(preprocess.preprocess({str(tmp_path / 'a.png')!r}, r).shape);"
        "assert not {'tlcnn', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout == "(3, 32, 32)\n", done.stderr


@pytest.mark.parametrize("bits", [12, 16])
def test_images_of_16_bits_are_preprocessed_as_in_the_run(run_dir, bits, tmp_path):
    network = tlcnn.load(run_dir, device="cpu")
    record = network.run.record
    identity = {**record.identity, "dataset": {**record.identity["dataset"], "bits": bits}}
    opened = replace(network.run, record=replace(record, identity=identity))
    network = replace(network, run=opened)
    pixels = np.random.default_rng(0).integers(0, 2**bits, (50, 83), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    written = preprocess(tmp_path / "a.png", describe_preprocessing(network, {}))
    assert np.allclose(written, network.transform(tmp_path / "a.png").numpy(), atol=1e-6)
    assert written.std() > 0.1


@pytest.mark.filterwarnings("ignore")
def test_onnx_gives_the_recorded_logits(run_dir, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    checks = export_network(tlcnn.load(run_dir, device="cpu"), tmp_path, ["onnx"])
    assert checks["onnx"].recorded_difference <= checks["onnx"].tolerance
    assert checks["onnx"].n_same_class == checks["onnx"].n_images


def test_a_folder_has_the_export_of_one_run(run_dir, tmp_path):
    network = tlcnn.load(run_dir, device="cpu")
    export_network(network, tmp_path, ["timm"])
    export_network(network, tmp_path, ["timm"])
    record = replace(network.run.record, run_id="0123456789ab")
    other = replace(network, run=replace(network.run, record=record))
    with pytest.raises(ConfigError, match="export of another run"):
        export_network(other, tmp_path, ["timm"])


def test_a_file_with_other_logits_is_refused(run_dir, tmp_path, monkeypatch):
    def write(network, model, folder, example):
        return "model.safetensors", lambda images: model(images) + 0.1

    monkeypatch.setitem(export._WRITERS, "timm", write)
    with pytest.raises(BrokenPromise, match="differ from those of the network by .*Do not use"):
        export_network(tlcnn.load(run_dir, device="cpu"), tmp_path, ["timm"])


def test_without_the_images_the_network_itself_is_compared(run_dir, tmp_path, monkeypatch):
    def refuse(*args):
        raise DataError("gone")

    monkeypatch.setattr(OpenRun, "images", refuse)
    checks = export_network(tlcnn.load(run_dir, device="cpu"), tmp_path, ["timm"])
    assert checks["timm"].difference <= 1e-5 and checks["timm"].recorded_difference is None


def test_trials_of_searches_and_runs_of_two_have_a_model_card(run_dir, tmp_path):
    checks = export_network(tlcnn.load(run_dir, device="cpu"), tmp_path, ["timm"])
    frame = tlcnn.read_runs(run_dir)
    card = write_card(frame, checks)
    assert write_card(frame.assign(is_trial=True), checks) == card
    searched = pd.Series([("first search", "second search")], index=frame.index)
    assert write_card(frame.assign(searched=searched), checks) == card


def test_what_cannot_be_exported_is_refused(run_dir, tmp_path, monkeypatch):
    network = tlcnn.load(run_dir, device="cpu")
    with pytest.raises(ConfigError, match="--to tensorrt is not allowed: timm, torchscript"):
        export_network(network, tmp_path, ["tensorrt"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs onnx, .*pip install 'tlcnn\[onnx\]'"):
        export_network(network, tmp_path, ["onnx"])
    shorter = network.run.unit_map().truncate(3)
    monkeypatch.setattr(OpenRun, "unit_map", lambda self: shorter)
    with pytest.raises(ConfigError, match="timm cannot build .*Use --to torch.export"):
        export_network(network, tmp_path, ["timm"])


def test_a_run_in_bf16_is_said_to_have_rounded_more(run_dir, tmp_path, monkeypatch, capsys):
    main(["export", str(run_dir), "-o", str(tmp_path / "fp32")])
    assert "computed in" not in capsys.readouterr().out
    monkeypatch.setattr(PlanRecord, "precision", "bf16")
    main(["export", str(run_dir), "-o", str(tmp_path / "bf16")])
    recipe = json.loads((tmp_path / "bf16" / "preprocessing.json").read_text())
    difference = recipe["checks"]["timm"]["recorded_difference"]
    sentence = (
        "The run computed in bf16 and the exported network computes in fp32, so their logits "
        f"differ: by at most {difference:.1e} of the largest logit here."
    )
    card = (tmp_path / "bf16" / "README.md").read_text()
    assert sentence in capsys.readouterr().out and sentence in card


def test_the_card_has_data_results_limits_and_licence(run_dir, folder):
    card = (folder / "README.md").read_text()
    for heading in ("Use", "Data", "Results", "Limits", "Training", "Licence", "Files"):
        assert f"\n## {heading}\n" in card
    assert "| accuracy | 0." in card and "[0." in card  # with an interval
    assert "Few training images: " in card and "drawn by a program, free of rights" in card
    assert "probabilities of rare classes are too high" in card
    assert "`model.pt2`" in card and read_plan(run_dir).run_id in card


def test_a_class_with_a_bar_in_its_name_breaks_no_table(run_dir):
    plan = replace(read_plan(run_dir), classes=("a|b",), split_sizes={"train": {"a|b": 3}})
    assert _write_counts(plan).endswith("\n| a\\|b | 3 | 0 | 0 |")


@pytest.mark.parametrize(
    ("logits", "labels", "is_said"),
    [
        ("aaaa", "aabc", True),
        ("aaca", "aabb", False),  # recalls of 1, 0.5 and none
        ("aacb", "aabc", False),  # recalls of 1, 0 and 0, but not all images are an a
        ("aaaa", "aaaa", False),  # there are no others
        ("bbbb", "aabb", True),
    ],
)
def test_a_run_that_gives_every_test_image_one_class_says_so(run_dir, logits, labels, is_said):
    (run_,) = make_single_runs(tlcnn.read_runs(run_dir))
    sizes = {name: labels.count(name) for name in "abc"}
    plan = replace(run_.plan, classes=("a", "b", "c"), split_sizes={"test": sizes})
    truth, chosen = (np.array(["abc".index(name) for name in text]) for text in (labels, logits))
    scores = compute_metrics("multi-class", np.eye(3)[chosen], truth, classes=list("abc"))
    defined = {f"test/{key}": score for key, score in scores.items() if np.isfinite(score)}
    limits = "\n".join(_list_limits(replace(run_, plan=plan, scores=defined)))
    assert (f"It gave every test image the class {logits[0]}." in limits) == is_said
    findings = replace(plan, task="multi-label")
    assert "It gave" not in "\n".join(_list_limits(replace(run_, plan=findings, scores=defined)))


def test_the_licence_is_that_of_every_dataset_on_the_way(run_dir):
    plan = replace(read_plan(run_dir), dataset="mine")
    before = AncestorRecord("a", "b", "c", "ham10000", ("random",), 0, 0, 0, "m")
    text = describe_licence(replace(plan, ancestry=(before,)))
    assert "mine: unknown to tlcnn" in text and "CC BY-NC 4.0" in text
