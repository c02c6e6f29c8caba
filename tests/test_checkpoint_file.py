"""Every file that holds weights is read; no file runs anything; no damage is taken for weights."""

import argparse
import contextlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tlcnn.errors import WeightsError
from tlcnn.model.checkpoint_file import find_state, load_state

STATE = {"conv.weight": torch.arange(6.0).reshape(1, 2, 3, 1), "conv.bias": torch.ones(1)}


def _same(found: dict[str, torch.Tensor]) -> bool:
    return set(found) == set(STATE) and all(torch.equal(found[n], t) for n, t in STATE.items())


def _save(content: object, path: Path, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("name", ["a.safetensors", "no_suffix", "a.pth"])
def test_safetensors_by_content(tmp_path, name):
    save_file(STATE, tmp_path / name)
    assert _same(load_state(tmp_path / name))


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files(tmp_path, legacy):
    assert _same(load_state(_save(STATE, tmp_path / "a.pth", legacy=legacy)))


OPTIMISER = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}
CHECKPOINTS = {
    "torch examples": {"epoch": 3, "arch": "resnet18", "state_dict": STATE, "best": np.float64(9)},
    "torchvision": {"model": STATE, "optimizer": OPTIMISER, "args": argparse.Namespace(lr=0.1)},
    "timm": {"state_dict": STATE, "state_dict_ema": {"conv.bias": torch.zeros(1)}, "version": 2},
    "lightning": {"pytorch-lightning_version": "2.6", "state_dict": STATE, "loops": {"a": {}}},
    "tutorial": {"epoch": torch.tensor(3), "model_state_dict": STATE, "loss": torch.tensor(1.0)},
    "nested": {"net": {"state_dict": STATE}},
    "twice": {"model": {"module": {"state_dict": STATE}}},
    "only an average": {"epoch": 1, "model_ema": STATE},
    "parameters": {name: torch.nn.Parameter(tensor) for name, tensor in STATE.items()},
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_wrappers(tmp_path, kind):
    found = load_state(_save(CHECKPOINTS[kind], tmp_path / "a.pth"))
    assert _same(found)
    assert not any(tensor.requires_grad for tensor in found.values())


def test_order_is_the_file_s():
    names = [f"layer{i}.weight" for i in (10, 2, 1)]
    assert list(find_state({"model": {name: torch.zeros(1) for name in names}})) == names


class Evil:
    """Writes a canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return (Path.write_text, (self.canary, "ran"))


def _plain_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def _legacy(content: object, path: Path) -> None:
    _save(content, path, legacy=True)


def _oldest(content: object, path: Path) -> None:
    """The tar format of torch 0.1, which has readers of its own."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(content)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("save", [_save, _legacy, _plain_pickle, _oldest])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pt2"])
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: {"state_dict": {**STATE, "x": e}}])
def test_malicious_pickles_never_run(tmp_path, save, suffix, wrap):
    canary, path = tmp_path / "canary", tmp_path / f"evil{suffix}"
    save(wrap(Evil(canary)), path)
    with pytest.raises(WeightsError) as caught:
        load_state(path)
    assert not canary.exists()
    assert str(path) in str(caught.value)


def test_the_canary_works(tmp_path):
    _save(Evil(tmp_path / "canary"), tmp_path / "evil.pth")
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert (tmp_path / "canary").exists()


def test_a_whole_model_is_refused_with_advice(tmp_path):
    path = _save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(WeightsError) as caught:
        load_state(path)
    assert "torch.nn.modules.linear.Linear" in str(caught.value)
    assert "weights_only=False" in str(caught.value) and "nothing in it ran" in str(caught.value)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(WeightsError, match="TorchScript"):
        load_state(tmp_path / "script.pt")


def _bytes(tmp_path: Path, kind: str) -> bytes:
    path = tmp_path / f"whole.{kind}"
    save_file(STATE, path) if kind == "safetensors" else _save(STATE, path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_cut_files(tmp_path, kind, share):
    content = _bytes(tmp_path, kind)
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match="again"):
        load_state(path)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_a_flipped_bit_never_escapes_as_another_error(tmp_path, kind):
    content = _bytes(tmp_path, kind)
    path = tmp_path / f"flipped.{kind}"
    for position in range(0, len(content), max(1, len(content) // 97)):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        path.write_bytes(flipped)
        with contextlib.suppress(WeightsError):
            load_state(path)  # in the numbers it cannot be seen: that is what digests are for


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"PK\x03\x04 and nothing", "cannot be read as weights"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, expected):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=expected):
        load_state(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], torch.zeros(3)])
def test_files_without_weights(tmp_path, content):
    with pytest.raises(WeightsError, match="holds no state dict"):
        load_state(_save(content, tmp_path / "a.pth"))


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="there are no weights at"):
        load_state(tmp_path / "a.pth")


def test_a_text_file_is_called_one(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,label\na.png,nevus\n" * 9)
    with pytest.raises(WeightsError, match="is a text file, not weights"):
        load_state(path)
