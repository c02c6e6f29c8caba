"""Every file that holds weights is read; no file runs anything; no damage is taken for weights."""

import argparse
import contextlib
import io
import pickle
import shlex
import subprocess
import sys
import tarfile
import zipfile
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
    "a name of its own": {"best_wts": STATE, "best_acc": 0.9, "optimizer": OPTIMISER},
    "vissl": {"classy_state_dict": {"base_model": {"model": {"trunk": STATE}}}},
    "a list": [STATE, 3],
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


def _run_advice(message: str) -> None:
    """Run the command at the end of a message as it is printed."""
    command = message.splitlines()[-1].strip()
    assert command.startswith("python -c ")
    subprocess.run([sys.executable, *shlex.split(command)[1:]], check=True)


def _save_numpy(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in STATE.items()})


def _save_script(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(2, 1, (3, 1))), path)


def _save_export(path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    torch.export.save(torch.export.export(net, (torch.zeros(1, 2),)), path)


def _save_two_networks(path: Path) -> None:
    torch.save({"student": STATE, "teacher": STATE, "optimizer": {}}, path)


def _save_objects(path: Path) -> None:
    torch.save({"state_dict": STATE, "place": Path("/data")}, path)


def _save_arrays(path: Path) -> None:
    torch.save({name: tensor.numpy() for name, tensor in STATE.items()}, path)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("save", "expected"),
    [
        (_save_numpy, "an archive of numpy arrays"),
        (_save_script, "a TorchScript program"),
        (_save_export, r"a program of torch\.export"),
        (_save_two_networks, "several networks: student, teacher"),
        (_save_objects, "build objects .pathlib"),
        (_save_arrays, "build objects .numpy"),
    ],
)
def test_the_command_of_a_refusal_saves_the_weights(tmp_path, save, expected):
    path = tmp_path / "it's (1).pt2"
    save(path)
    with pytest.raises(WeightsError, match=expected) as caught:
        load_state(path)
    _run_advice(str(caught.value))
    assert len(load_state(tmp_path / "it's (1).pt2.pth")) == 2


def _zip(member: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(member, "{}")
    return data.getvalue()


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
        (b"\x89HDF\r\n\x1a\n" + bytes(range(256)), "an HDF5 file, as Keras"),
        (b"\x08\x07\x12\x07pytorch" + bytes(99), "an ONNX file"),
        (b"\x1f\x8b" + bytes(range(256)), "a compressed file: unpack it"),
        (bytes(range(200, 256)) * 9, "no file that torch or safetensors writes"),
        (_zip("config.json"), "a Keras file"),
        (_zip("a/b.png"), r"a zip archive with a/b\.png"),
        (pickle.dumps({"a": [1.5] * 99}, protocol=4), "a pickle that torch.save did not write"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, expected):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=expected) as caught:
        load_state(tmp_path / "a.pth")
    assert "weights_only=False" not in str(caught.value)


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
