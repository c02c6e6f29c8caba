"""Reading any file of weights into a state dict, without running what is in it."""

import argparse
import hashlib
import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
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
_MAX_NESTING = 3
_RESAVE = (
    "Only if you trust where it comes from, save its weights again in a process of your own:\n"
    "  python -c \"import torch, safetensors.torch as s; c = torch.load('FILE', map_location="
    "'cpu', weights_only=False); s.save_file(c.state_dict() if hasattr(c, 'state_dict') "
    "else c['state_dict'], 'FILE.safetensors')\""
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
    _check_start(path, data[:64])
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsError(
            f"{path} has changed: its sha256 is not the one that was recorded. Restore the file "
            "from a copy. A run's weights are written anew when the run's folder is deleted and "
            "the run trained again."
        )
    # Eight bytes of length, then JSON. The name decides only for empty files.
    is_safetensors = data[8:9] == b"{" or path.suffix == ".safetensors"
    content = (_parse_safetensors if is_safetensors else _parse_torch)(data, path)
    state = find_state(content)
    if state:
        return state
    if isinstance(content, Mapping):
        what = f"a dict with {list_names([str(key) for key in content]) or 'nothing in it'}"
    else:
        what = f"a {type(content).__name__}"
    raise WeightsError(
        f"{path} holds no state dict, but {what}. A file of weights is a dict of name -> tensor, "
        f"possibly under one of: {', '.join(WRAPPERS)}."
    )


def find_state(content: Any, depth: int = 0) -> State:
    """Return the first dict of named tensors in a checkpoint, or an empty dict.

    Example:
        >>> find_state({"epoch": 3, "model": {"fc.bias": torch.zeros(2)}})
        {'fc.bias': tensor([0., 0.])}
    """
    if not isinstance(content, Mapping) or depth > _MAX_NESTING:
        return {}
    for key in WRAPPERS:
        state = find_state(content.get(key), depth + 1)
        if state:
            return state
    return {
        name: value.detach()
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }


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
        with torch.serialization.safe_globals(inert):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and storage readers each have their own
        text = str(error)
        if "TorchScript" in text:
            what = "is a TorchScript program, not a file of weights"
        elif isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
            names = list(dict.fromkeys(re.findall(r"GLOBAL ([\w.]+)", text)))
            asks = f" ({list_names(names)})" if names else ""
            what = f"asks to run code or build objects{asks}, which no file of weights needs"
        else:
            raise WeightsError(_describe_damage(path, error)) from error
        advice = _RESAVE.replace("FILE", path.name)
        raise WeightsError(
            f"{path} {what}; it was refused and nothing in it ran. {advice}"
        ) from error


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise WeightsError(f"{path} is empty. Copy or download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull`.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(f"{path} is a web page, not weights. Download the file itself.")
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        raise WeightsError(f"{path} is a text file, not weights (.pt, .pth or .safetensors).")


def _describe_damage(path: Path, error: Exception) -> str:
    return (
        f"{path} cannot be read as weights: it is damaged, cut off, or no checkpoint "
        f"({type(error).__name__}: {first_line(error)}). Copy or download it again."
    )
