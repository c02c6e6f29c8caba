"""Frozen units that ignore the images are warned of, recorded, and named in the report."""

import logging

import pytest
import torch
from runs import tiny_config
from safetensors.torch import load_file, save_file

from tlcnn.plan.plan import make_plan
from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.run import response
from tlcnn.run.run import run


@pytest.fixture(scope="module")
def weights(tmp_path_factory, cache_dir):
    """Files of a trained network, as it is and with a last unit whose outputs are all zero."""
    folder = tmp_path_factory.mktemp("weights")
    plan = make_plan(tiny_config(folder, cache_dir))
    run(plan)
    state = load_file(plan.run_dir / "weights.safetensors")
    norms = [name.removesuffix("running_var") for name in state if name.endswith("running_var")]
    dead = dict(state)
    for name in norms:
        if name.startswith("layer4"):
            dead |= {
                f"{name}weight": torch.zeros_like(state[f"{name}weight"]),
                f"{name}bias": torch.full_like(state[f"{name}bias"], -1),
            }
    for name, tensors in (("live", state), ("dead", dead)):
        save_file(tensors, folder / f"{name}.safetensors")
    return folder


def plan_frozen(tmp_path, cache_dir, weights, name, *words):
    source = ["init=checkpoint", f"init.weights='{weights / name}.safetensors'"]
    return make_plan(tiny_config(tmp_path, cache_dir, *source, "freeze.through=all", *words))


def test_units_that_ignore_the_images_are_named(tmp_path, cache_dir, weights, caplog):
    for name in ("live", "dead"):
        with caplog.at_level(logging.WARNING, logger="tlcnn"):
            plan = plan_frozen(tmp_path, cache_dir, weights, name)
            summary = run(plan)
        is_dead = name == "dead"
        size = plan.config.dataset.image_size
        assert (f"{plan.run_dir.name}: 0.00% of" in caplog.text) == is_dead
        assert (f"Try dataset.image_size={2 * size}, or freeze" in caplog.text) == is_dead
        assert (summary["frozen_response"] < 0.01) == is_dead
        assert ("0.00% of the outputs of the 5 frozen units" in caplog.text) == is_dead
    notes = make_content(read_runs(tmp_path)).cells["note"]
    assert sum("frozen units hardly respond" in note for note in notes) == 1
    assert any("at most 0.0 % of their outputs differed" in note for note in notes)


def test_a_run_without_frozen_units_has_no_such_share(weights):
    assert "frozen_response" not in read_runs(weights)


def test_the_check_changes_no_bit(tmp_path, cache_dir, weights, monkeypatch):
    parts = []
    for name in ("with", "without"):
        if name == "without":
            monkeypatch.setattr(response, "measure_response", lambda *words: None)
        plan = plan_frozen(tmp_path / name, cache_dir, weights, "live", "freeze.through=2")
        run(plan)
        parts.append(load_file(plan.run_dir / "weights.safetensors"))
    one, other = parts
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
