"""A run's network as files that need no tlcnn, each checked against the run's own logits.

timm          model.safetensors + config.json   timm.create_model("local-dir:FOLDER"), from 1.0.26
torchscript   model.torchscript.pt              torch.jit.load
torch.export  model.pt2                         torch.export.load
onnx          model.onnx                        any ONNX runtime; needs tlcnn[onnx]
every one     preprocessing.json, preprocess.py
"""

import importlib.util
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from tlcnn.data.policy import NORMALIZE
from tlcnn.data.resize import FILTER
from tlcnn.errors import BrokenPromise, ConfigError, DataError
from tlcnn.inference.network import Network, computing
from tlcnn.inference.preprocess import preprocess
from tlcnn.model.build import parse_architecture
from tlcnn.model.difference import measure_difference
from tlcnn.plan.reuse import TOLERANCES
from tlcnn.storage import make_dir, write_atomic, writing

FORMATS = ("timm", "torchscript", "torch.export", "onnx")
# The largest difference from recorded logits, relative to the largest one. A run in fp32 may have
# computed in TF32 on a GPU, and one in bf16 has rounded after every layer.
RECORDED = {"fp32": TOLERANCES["tf32"], "bf16": 0.25}
N_CHECKED = 64  # test images whose logits are compared
_ONNX = ("onnx", "onnxscript", "onnxruntime")

Compute = Callable[[Tensor], Tensor]  # images (N, 3, H, W) to logits (N, K), read from the file
Written = tuple[str, Compute]  # the name of a file, and what it computes
_BATCH = {0: torch.export.Dim("n", min=1, max=4096)}  # an exported network takes any batch size


@dataclass(frozen=True)
class Check:
    """How far the logits of an exported file are from the network's and from the run's record.

    A difference is the largest one, divided by the largest logit. Exported networks compute in
    fp32.

    Attributes:
        n_images: test images that were compared.
        difference: from the network in fp32.
        recorded_difference: from the recorded logits; None where the run's images are not there.
            A run that computed in bf16, or in TF32 on a GPU, rounded its logits more.
        n_same_class: the images whose recorded logits have the same most probable class.
    """

    file: str
    n_images: int
    difference: float
    tolerance: float
    recorded_difference: float | None = None
    recorded_tolerance: float | None = None
    n_same_class: int | None = None


def export_network(network: Network, folder: Path, formats: Sequence[str]) -> dict[str, Check]:
    """Write a network, on the CPU, to a folder in some formats, with its preprocessing.

    Raises:
        ConfigError: a format that does not exist, needs packages that are not installed, or does
            not fit the network.
        BrokenPromise: the logits of a file are not those of the run.
        StorageError: the folder cannot be written.
    """
    _check_formats(network, formats)
    make_dir(folder)
    _check_owner(network, folder)
    model = network.run.model().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images, recorded = _load_examples(network)
    checks = {}
    for name in formats:
        with writing(folder), computing(network), torch.no_grad():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch advises other formats, and on traced sizes
                file, compute = _WRITERS[name](network, model, folder, images[:2])
            logits = compute(images)
            expected = model(images)
        difference = measure_difference(expected, logits)
        check = Check(file, len(images), difference, TOLERANCES["fp32"])
        pairs = [("network", check.difference, check.tolerance)]
        if recorded is not None:
            distance = measure_difference(recorded, logits)
            most = RECORDED[network.record.precision]
            n_same = int((recorded.argmax(1) == logits.argmax(1)).sum())
            check = replace(
                check, recorded_difference=distance, recorded_tolerance=most, n_same_class=n_same
            )
            pairs.append(("run's record", distance, most))
        for reference, measured, allowed in pairs:
            if not measured <= allowed:
                raise BrokenPromise(
                    f"the logits of {folder / file} differ from those of the {reference} by "
                    f"{measured:.2g} of the largest one; {allowed:.2g} is allowed. Do not use it"
                )
        checks[name] = check
    recipe = describe_preprocessing(network, checks)
    write_atomic(folder / "preprocessing.json", json.dumps(recipe, indent=1, ensure_ascii=False))
    write_atomic(folder / "preprocess.py", Path(preprocess.__code__.co_filename).read_bytes())
    return checks


def _check_owner(network: Network, folder: Path) -> None:
    """Raise ConfigError where a folder holds the export of another run."""
    recipe = folder / "preprocessing.json"
    try:
        run_id = json.loads(recipe.read_text(encoding="utf-8"))["run_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if run_id != network.record.run_id:
        raise ConfigError(
            f"{folder} holds the export of another run, {run_id}: give -o a folder of its own"
        )


def _check_formats(network: Network, formats: Sequence[str]) -> None:
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"--to {name} is not allowed: {', '.join(FORMATS)}")
    missing = [package for package in _ONNX if importlib.util.find_spec(package) is None]
    if "onnx" in formats and missing:
        raise ConfigError(f"--to onnx needs {', '.join(missing)}: pip install 'tlcnn[onnx]'")
    if "timm" in formats and network.run.unit_map().dropped:
        raise ConfigError(
            f"timm cannot build {network.run.folder.name}, whose units behind {network.units[-1]} "
            "were dropped. Use --to torch.export, torchscript or onnx"
        )


def _load_examples(network: Network) -> tuple[Tensor, Tensor | None]:
    """Return preprocessed test images and their recorded logits, or drawn inputs and None."""
    try:
        images = next(network.run.images("test"))[:N_CHECKED].contiguous()
    except DataError:
        size = network.run.config.dataset.image_size
        generator = torch.Generator().manual_seed(0)
        return torch.randn(8, 3, size, size, generator=generator), None
    frame = network.run.predictions()
    frame = frame[frame["split"] == "test"][[f"logit/{name}" for name in network.classes]]
    return images, torch.from_numpy(frame.to_numpy(np.float32)[: len(images)].copy())


# ---- formats: write, then read again what was written -------------------------------------------


def _write_timm(network: Network, model: nn.Module, folder: Path, example: Tensor) -> Written:
    import timm

    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    path = folder / "model.safetensors"
    write_atomic(path, save(state, {"format": "pt"}))
    cfg = network.run.config.dataset
    mean, std = NORMALIZE[cfg.normalize]
    architecture = parse_architecture(network.run.config.model.name)
    n_classes = len(network.classes)
    config = {
        "architecture": architecture,
        "num_classes": n_classes,
        "label_names": list(network.classes),
        "pretrained_cfg": {
            "num_classes": n_classes,
            "input_size": [3, cfg.image_size, cfg.image_size],
            "mean": list(mean),
            "std": list(std),
            "interpolation": FILTER,
            "crop_pct": cfg.image_size / network.stored_form[0],
            "crop_mode": {"crop": "center", "squash": "squash", "pad": "border"}[cfg.fit],
        },
    }
    write_atomic(folder / "config.json", json.dumps(config, indent=1, ensure_ascii=False))
    read = timm.create_model(architecture, num_classes=n_classes, checkpoint_path=str(path))
    return path.name, read.eval()


def _write_torchscript(
    network: Network, model: nn.Module, folder: Path, example: Tensor
) -> Written:
    path = folder / "model.torchscript.pt"
    torch.jit.trace(model, example).save(str(path))
    return path.name, torch.jit.load(str(path))


def _write_torch_export(
    network: Network, model: nn.Module, folder: Path, example: Tensor
) -> Written:
    path = folder / "model.pt2"
    program = torch.export.export(model, (example,), dynamic_shapes=(_BATCH,))
    torch.export.save(program, path)
    return path.name, torch.export.load(path).module()


def _write_onnx(network: Network, model: nn.Module, folder: Path, example: Tensor) -> Written:
    import onnxruntime

    path = folder / "model.onnx"
    torch.onnx.export(
        model,
        (example,),
        path,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=(_BATCH,),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def compute(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(logits)

    return path.name, compute


_WRITERS: dict[str, Callable[[Network, nn.Module, Path, Tensor], Written]] = {
    "timm": _write_timm,
    "torchscript": _write_torchscript,
    "torch.export": _write_torch_export,
    "onnx": _write_onnx,
}


# ---- preprocessing ------------------------------------------------------------------------------


def describe_preprocessing(network: Network, checks: dict[str, Check]) -> dict[str, Any]:
    """Return what is done to an image before the network, and what its outputs are, as JSON."""
    cfg, record = network.run.config.dataset, network.record
    mean, std = NORMALIZE[cfg.normalize]
    sigmoid = record.task == "multi-label"
    return {
        "run_id": record.run_id,
        "steps": [
            {
                "step": "decode",
                "to": "RGB, 8 bits, upright; transparency over white",
                "bits": network.stored_form[-1],
            },
            {"step": "resize", "side": network.stored_form[0], "fit": cfg.fit, "filter": FILTER},
            {"step": "crop the centre", "side": cfg.image_size},
            {"step": "divide", "by": 255},
            {"step": "normalize", "mean": list(mean), "std": list(std)},
        ],
        "bits": "the significant bits of 16-bit grey images, of which the upper 8 are used",
        "fits": {
            "crop": "the shorter side becomes `side`, and the centre square is cut out",
            "squash": "both sides become `side`",
            "pad": "the longer side becomes `side`, with black around",
        },
        "input": {"shape": ["N", 3, cfg.image_size, cfg.image_size], "dtype": "float32"},
        "output": {
            "classes": list(network.classes),
            "logits_to": "sigmoid" if sigmoid else "softmax",
        },
        "checks": {name: asdict(check) for name, check in checks.items()},
    }
