"""Reading any file of weights into a state dict, without running what is in it."""

import argparse
import hashlib
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch

from tlcnn.errors import WeightsError, list_names
from tlcnn.text import first_line

State = dict[str, torch.Tensor]

# Keys under which frameworks keep the weights. Order matters: the trained weights come before
# their moving average, and a network's own name before a generic one.
WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "net_state_dict"),
    *("model", "net", "network", "backbone", "encoder", "weights", "params", "module"),
    *("state_dict_ema", "ema_state_dict", "model_ema", "ema"),
)
_MAX_NESTING = 5
_RESAVE = (  # what saves the weights of another kind of file for `load_state`
    "c = torch.load(f, map_location='cpu', weights_only=False); "
    "c = c.state_dict() if hasattr(c, 'state_dict') else c.get('state_dict', c); "
    "torch.save({k: torch.as_tensor(v) for k, v in c.items() if hasattr(v, 'shape')}, f + '.pth')"
)
_FIRST_BYTES = (  # of files that are no weights of PyTorch
    (rb"\x89HDF", "an HDF5 file, as Keras writes them"),
    (rb"\x08[\x03-\x20]\x12", "an ONNX file"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "a compressed file: unpack it"),
    (rb"\x93NUMPY", "one array of numpy"),
    (rb"(?s)(?!PK|\x80|.{257}ustar)", "no file that torch or safetensors writes"),
)
_ARCHIVES = (  # a member of a zip archive, what the archive is, and what saves its weights
    (
        r".*\.npy",
        "an archive of numpy arrays",
        "{k: torch.from_numpy(v) for k, v in np.load(f).items()}",
    ),
    (r"config\.json|.*weights\.h5", "a Keras file", ""),
    (r".*/code/.*", "a TorchScript program", "torch.jit.load(f, 'cpu').state_dict()"),
    (r".*/archive_format", "a program of torch.export", "torch.export.load(f).state_dict"),
)


def load_state(path: Path, *, sha256: str | None = None) -> State:
    """Read the weights in a file: safetensors, or anything that `torch.save` wrote.

    Torch files are read with `weights_only=True`, always: a pickle that asks for code is refused
    and nothing in it runs. Wrappers of training frameworks are taken off.

    Args:
        sha256: the digest that its bytes must have; None takes any.

    Returns:
        Tensor names as in the file -> tensors on the CPU, in the order of the file.

    Raises:
        WeightsError: the file is missing, truncated, unsafe, holds no weights, or has another
            digest.
    """
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}.")
    data = path.read_bytes()
    # Eight bytes of length, then JSON. The name decides only for empty files.
    is_safetensors = data[8:9] == b"{" or path.suffix == ".safetensors"
    _check_content(path, data, is_safetensors)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsError(
            f"{path} has changed: its sha256 is not the one that was recorded. Restore the file "
            "from a copy. A run's weights are written anew when the run's folder is deleted and "
            "the run trained again."
        )
    content = (_parse_safetensors if is_safetensors else _parse_torch)(data, path)
    state = find_state(content)
    if state:
        return state
    kind, advice = f"a {type(content).__name__}", ""
    if isinstance(content, Mapping):
        kind = f"a dict with {list_names([str(key) for key in content]) or 'nothing in it'}"
        networks = [str(key) for key, value in content.items() if find_state(value)]
        if networks:
            code = (
                f"torch.save(torch.load(f, 'cpu', weights_only=True)[{networks[0]!r}], f + '.pth')"
            )
            advice = (
                f" It has several networks: {list_names(networks)}. Save the one that you mean to "
                f"a file of its own:\n{_write_command(path, code)}"
            )
    raise WeightsError(
        f"{path} holds no state dict, but {kind}. A file of weights is a dict of name -> tensor, "
        f"possibly under one of: {', '.join(WRAPPERS)}.{advice}"
    )


def find_state(content: Any, depth: int = 0) -> State:
    """Return the first dict of named tensors in a checkpoint, or an empty dict.

    Example:
        >>> find_state({"epoch": 3, "model": {"fc.bias": torch.zeros(2)}})
        {'fc.bias': tensor([0., 0.])}
    """
    if not isinstance(content, (Mapping, list, tuple)) or depth > _MAX_NESTING:
        return {}
    values: Iterable[Any] = content
    if isinstance(content, Mapping):
        for key in WRAPPERS:
            state = find_state(content.get(key), depth + 1)
            if state:
                return state
        state = {
            name: value.detach()
            for name, value in content.items()
            if isinstance(name, str) and isinstance(value, torch.Tensor)
        }
        if any(tensor.dim() for tensor in state.values()):
            return state
        values = content.values()
    states = (find_state(value, depth + 1) for value in values)
    networks = [state for state in states if any("." in name for name in state)]
    return networks[0] if len(networks) == 1 else {}


def _parse_safetensors(data: bytes, path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(_describe_damage(path, error)) from error


def _parse_torch(data: bytes, path: Path) -> Any:
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")}
    inert = [argparse.Namespace, np.dtype, scalar, *dtypes]  # they only hold values
    try:
        with torch.serialization.safe_globals(inert), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and storage readers each have their own
        names = list(dict.fromkeys(re.findall(r"GLOBAL ([\w.]+)", str(error))))
        if names:
            raise WeightsError(
                f"{path} asks to run code or build objects ({list_names(names)}), which no file "
                "of weights needs; it was refused and nothing in it ran. Only if you trust where "
                "it comes from, save its weights again in a process of your own:\n"
                + _write_command(path, _RESAVE)
            ) from error
        if isinstance(error, pickle.UnpicklingError):
            raise WeightsError(
                f"{path} is a pickle that torch.save did not write, or it is damaged; nothing in "
                "it ran. Save its tensors with torch.save where it was made."
            ) from error
        raise WeightsError(_describe_damage(path, error)) from error


def _write_command(path: Path, code: str) -> str:
    """Return a command line that runs `code` on a file, which it calls `f`."""
    return (
        f'  python -c "import sys, numpy as np, torch; f = sys.argv[1]; {code}" {quote(str(path))}'
    )


def _check_content(path: Path, data: bytes, is_safetensors: bool) -> None:
    """Refuse what is no file of weights of PyTorch by what it is."""
    start = data[:64]
    if not start:
        raise WeightsError(f"{path} is empty. Copy or download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull`.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(f"{path} is a web page, not weights. Download the file itself.")
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        raise WeightsError(f"{path} is a text file, not weights (.pt, .pth or .safetensors).")
    if is_safetensors:
        return
    advice = "tlcnn reads files of PyTorch: the state dict of a network, in .pth or .safetensors."
    for start_pattern, kind in _FIRST_BYTES:
        if re.match(start_pattern, data[:262]):
            raise WeightsError(f"{path} is {kind}. {advice}")
    try:
        members = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except Exception:  # no zip archive, or a damaged one: torch's readers decide
        return
    for pattern, kind, state in _ARCHIVES:
        if any(re.fullmatch(pattern, member) for member in members):
            code = f"torch.save({state}, f + '.pth')"
            command = f" This saves its weights as such:\n{_write_command(path, code)}"
            raise WeightsError(f"{path} is {kind}. {advice}{command if state else ''}")
    if not any(member.endswith("data.pkl") for member in members):
        inside = list_names(members) or "nothing"
        raise WeightsError(f"{path} is a zip archive with {inside}. {advice}")


def _describe_damage(path: Path, error: Exception) -> str:
    return (
        f"{path} cannot be read as weights: it is damaged, cut off, or no checkpoint "
        f"({type(error).__name__}: {first_line(error)}). Copy or download it again."
    )
