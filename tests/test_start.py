"""Runs of one process share what they start from, and start as they would alone."""

import pytest
import torch
from runs import tiny_config

from tlcnn.data import array_store
from tlcnn.errors import ConfigError
from tlcnn.memory import Memory
from tlcnn.plan.plan import make_plan
from tlcnn.run.network import build_initial_network
from tlcnn.run.run import run


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    def make(*words):
        return make_plan(tiny_config(tmp_path, cache_dir, *words))

    return make


def state_of(plan, memory):
    return build_initial_network(plan, memory).model.state_dict()


def is_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_cells_of_one_memory_start_as_they_would_alone(plan_of, tmp_path):
    memory = Memory()
    run(plan_of(), memory)
    (weights,) = tmp_path.glob("runs/*/weights.safetensors")
    source = ["init=checkpoint", f"init.weights='{weights}'"]
    cells = [[], ["seed=1"], [*source, "init.through=2"], [*source, "seed=1"], ["seed=1"], []]
    for words in cells:
        assert is_equal(state_of(plan_of(*words), memory), state_of(plan_of(*words), Memory()))


def test_training_a_network_leaves_the_next_ones_draw_alone(plan_of):
    memory, plan = Memory(), plan_of()
    model = build_initial_network(plan, memory).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    assert is_equal(state_of(plan, memory), before)


def test_decoded_images_are_checked_once_a_process(plan_of, monkeypatch):
    run(plan_of("seed=5"))  # they are decoded now
    checked = []
    real = array_store.digest_of_blocks
    monkeypatch.setattr(
        array_store, "digest_of_blocks", lambda *words: checked.append(words) or real(*words)
    )
    memory = Memory()
    for seed in (6, 7):
        run(plan_of(f"seed={seed}"), memory)
    assert len(checked) == 1


def test_a_window_that_does_not_fit_the_images_is_refused_with_the_size_that_fits(plan_of):
    """Swin's windows raise an AssertionError."""
    plan = plan_of("model.name=swin_tiny_patch4_window7_224", "dataset.image_size=32")
    with pytest.raises(ConfigError, match=r"32 px .* Use dataset\.image_size=224"):
        build_initial_network(plan)
