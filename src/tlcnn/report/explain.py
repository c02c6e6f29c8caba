"""The test images that a run is surest of, and where in them its network looks (Grad-CAM).

    predictions.parquet -> choose_examples -> load_run -> compute_gradcam -> Examples

Grad-CAM is Selvaraju et al. 2017 (arXiv:1610.02391) as captum computes it. Of all reports only
the figure of examples needs torch, captum and the dataset.
"""

import importlib.util
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet

from tlcnn.errors import DataError, WeightsError, list_names
from tlcnn.records.read import read_predictions

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tlcnn.config.schema import Config

SIDE = 224  # pixels of a picture
LEAST = 4  # the smallest side of a layer's output that is explained, where the network has one
TOLERANCE = 0.05  # between recorded and recomputed probabilities: precisions and devices differ
INSTALL = 'captum is missing: pip install "tlcnn[explain]"'


@dataclass(frozen=True)
class Examples:
    """n test images of one run.

    Attributes:
        table: image_id, true and predicted (names), probability (of the predicted), is_right.
        pictures: (n, SIDE, SIDE, 3) uint8, the part of each image that the network sees, sharper.
        heats: (n, SIDE, SIDE) in 0..1, the Grad-CAM of the predicted class, or None.
        place: the layer whose output was explained, in words.
        image_size: the pixels of a side that the network sees.
        note: why there are no heats; empty where there are.
    """

    table: pd.DataFrame
    pictures: np.ndarray
    heats: np.ndarray | None
    place: str
    image_size: int
    note: str = ""


def choose_examples(
    predictions: pd.DataFrame, n_each: int = 6, first: str | None = None
) -> pd.DataFrame:
    """Return the images of the test split that a run is surest of, right ones and wrong ones.

    Classes take turns, so that none fills the figure. Within a class the most confident images
    come first, at most one of a group.

    Args:
        predictions: what `read_predictions` returned, for a task with one class an image.
        n_each: the number of right images, and of wrong ones.
        first: the class that begins, e.g. the positive one.

    Returns:
        image_id, true, predicted, probability, is_right; right ones first.
    """
    from tlcnn.statistics.predictions import compute_softmax

    test = predictions[predictions["split"] == "test"].reset_index(drop=True)
    columns = [name for name in test.columns if name.startswith("logit/")]
    classes = np.array([name.removeprefix("logit/") for name in columns])
    probabilities = compute_softmax(test[columns].to_numpy())
    labels = test["label"].to_numpy()
    table = pd.DataFrame(
        {
            "image_id": test["image_id"],
            "group": test["group"],
            "true": classes[labels],
            "predicted": classes[probabilities.argmax(axis=1)],
            "probability": probabilities.max(axis=1),
            "is_right": probabilities.argmax(axis=1) == labels,
        }
    )
    order = [*([first] if first else []), *(name for name in classes if name != first)]
    parts = [_take_turns(table[table["is_right"] == right], order, n_each) for right in (1, 0)]
    return pd.concat(parts, ignore_index=True).drop(columns="group")


def _take_turns(table: pd.DataFrame, order: list[str], n_most: int) -> pd.DataFrame:
    ranked = table.sort_values(["probability", "image_id"], ascending=[False, True])
    ranked = ranked.drop_duplicates("group")
    turn = ranked.groupby("true").cumcount()
    place = ranked["true"].map({name: i for i, name in enumerate(order)})
    ranked = ranked.assign(_turn=turn, _place=place).sort_values(["_turn", "_place"])
    return ranked.drop(columns=["_turn", "_place"]).iloc[:n_most]


def load_examples(folder: Path, *, n_each: int = 6, first: str | None = None) -> Examples:
    """Read a run's surest test images and compute its Grad-CAM for them.

    Raises:
        DataError: the dataset is not where the run read it, or is another one.
        WeightsError: the run's weights are not those that it was tested with.
    """
    from tlcnn.data.cache import stored_size
    from tlcnn.data.resize import resize_image

    table = choose_examples(read_predictions(folder), n_each, first)
    run = load_run(folder, table)
    start, stop = (stored_size(SIDE) - SIDE) // 2, (stored_size(SIDE) + SIDE) // 2
    large = [resize_image(image, stored_size(SIDE), run.fit) for image in run.originals]
    pictures = np.stack(large)[:, start:stop, start:stop]  # the part that a network sees
    heats, place, note = None, "", ""
    if run.network is None or run.inputs is None:
        note = "the run's weights have been deleted"
    elif importlib.util.find_spec("captum") is None:
        note = INSTALL
    else:
        targets = _find_targets(run.network, run.inputs, run.classes, table, folder)
        unit, path, side = find_layer(run.network, run.inputs[:1], run.layers)
        heats = compute_gradcam(run.network, run.inputs, targets, path)
        place = f"the output of {unit} ({path}, {side} x {side})"
    return Examples(table, pictures, heats, place, run.image_size, note)


@dataclass(frozen=True)
class LoadedRun:
    """A finished run's network with n of its test images.

    Attributes:
        originals: the images as they are stored, each (H, W, 3) uint8.
        inputs: the images as the network was tested on them, (n, 3, H, W) float32.
        network: the trained network, in evaluation mode; None where the weights were deleted.
        layers: (unit, path of a module inside it) of the whole network.
    """

    originals: list[np.ndarray]
    fit: str
    image_size: int
    classes: list[str]
    inputs: "torch.Tensor | None" = None
    network: "nn.Module | None" = None
    layers: list[tuple[str, str]] = field(default_factory=list)


def load_run(folder: Path, table: pd.DataFrame) -> LoadedRun:
    """Build a run's network again and read its test images.

    Args:
        table: image_id and true class of the images.

    Raises:
        DataError: the dataset is not where the run read it, or is another one.
        WeightsError: the weights do not fit the network.
    """
    from tlcnn.config.schema import Config, find_cache_dir
    from tlcnn.plan.chain import load_run_config

    if not (folder / "config.yaml").is_file():
        raise DataError(f"{folder.name} has no config.yaml, which says where its images are")
    cfg = load_run_config(folder, Config())
    originals = _load_images(cfg, table)
    names = pyarrow.parquet.read_schema(folder / "predictions.parquet").names
    classes = [name.removeprefix("logit/") for name in names if name.startswith("logit/")]
    run = LoadedRun(originals, cfg.dataset.fit, cfg.dataset.image_size, classes)
    if not (folder / "weights.safetensors").is_file():
        return run

    import torch

    from tlcnn.data.augment import make_eval_batch
    from tlcnn.data.cache import stored_size
    from tlcnn.data.policy import NORMALIZE
    from tlcnn.data.resize import resize_image
    from tlcnn.model.build import build_model
    from tlcnn.model.checkpoint_file import load_state
    from tlcnn.model.load_units import load_unit_map

    size = stored_size(run.image_size)
    stored = torch.from_numpy(
        np.stack([resize_image(image, size, run.fit) for image in originals])
    )
    scaling = NORMALIZE[cfg.dataset.normalize]
    inputs = make_eval_batch(stored, image_size=run.image_size, scaling=scaling)
    network = build_model(cfg.model.name, n_classes=len(classes), seed=0).eval()
    try:
        network.load_state_dict(load_state(folder / "weights.safetensors"))
    except RuntimeError as error:
        raise WeightsError(
            f"the weights of {folder.name} do not fit {cfg.model.name} as this version of timm "
            "builds it: report with the version that the run was trained with"
        ) from error
    cache_dir = find_cache_dir(cfg.cache_dir)
    units = load_unit_map(
        cfg.model.name, granularity=cfg.model.granularity, cache_dir=cache_dir
    ).units
    layers = [(unit.name, path) for unit in units for path in unit.natives]
    return replace(run, inputs=inputs, network=network, layers=layers)


def _load_images(cfg: "Config", table: pd.DataFrame) -> list[np.ndarray]:
    """Return the stored images of a table, each (H, W, 3) uint8."""
    from tlcnn.data.dataset import load_dataset_index

    index = load_dataset_index(cfg.dataset)
    position = pd.Series(np.arange(len(index)), index=index.table["image_id"].astype(str))
    missing = [str(name) for name in table["image_id"] if str(name) not in position.index]
    if missing:
        raise DataError(
            f"{cfg.dataset.name} no longer has {list_names(missing)}, which the run was tested "
            "on: put the dataset back that it was trained with, or report without examples"
        )
    rows = [int(position[str(name)]) for name in table["image_id"]]
    labels = np.array(index.strata)[index.table["label"].to_numpy()[rows]]
    changed = table["image_id"][labels != table["true"].to_numpy()]
    if len(changed):
        raise DataError(f"{cfg.dataset.name}: the labels of {list_names(list(changed))} changed")
    return [index.images.load(row) for row in rows]


def _find_targets(
    network: "nn.Module",
    inputs: "torch.Tensor",
    classes: list[str],
    table: pd.DataFrame,
    folder: Path,
) -> "torch.Tensor":
    """Return the predicted class of each image, (n,).

    Raises:
        WeightsError: the network's probabilities are not those that the test recorded.
    """
    import torch

    targets = torch.tensor([classes.index(name) for name in table["predicted"]])
    with torch.no_grad():
        probabilities = network(inputs).softmax(dim=1)[torch.arange(len(targets)), targets]
    gap = float(np.abs(probabilities.numpy() - table["probability"].to_numpy()).max())
    if gap > TOLERANCE:
        raise WeightsError(
            f"{folder.name}: recomputed probabilities differ by up to {gap:.2f} from the recorded "
            "ones, so the images or the weights are not those that it was tested with"
        )
    return targets


def find_layer(
    model: "nn.Module", image: "torch.Tensor", layers: list[tuple[str, str]]
) -> tuple[str, str, int]:
    """Return (unit, module path, side) of the deepest unit whose output is `LEAST` wide or more.

    Where none is, the last of the widest is taken: heat of 1 x 1 shows no place.

    Args:
        image: (1, 3, H, W).
        layers: (unit, path of a module inside it); a unit's output is that of its module that
            finishes last.
    """
    import torch

    outputs: dict[str, tuple[str, str, int]] = {}

    def record(unit: str, path: str, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.dim() == 4:
            outputs[unit] = (unit, path, int(min(output.shape[2:])))

    modules = dict(model.named_modules())
    hooks = [
        modules[path].register_forward_hook(
            lambda module, inputs, output, unit=unit, path=path: record(unit, path, output)
        )
        for unit, path in layers
    ]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    widest = max(side for *_, side in outputs.values())
    return [output for output in outputs.values() if output[2] >= min(LEAST, widest)][-1]


def compute_gradcam(
    model: "nn.Module", images: "torch.Tensor", targets: "torch.Tensor", path: str
) -> np.ndarray:
    """Return the Grad-CAM of each image, (n, SIDE, SIDE) in 0..1.

    Args:
        images: (n, 3, H, W).
        targets: (n,) the class that is explained.
        path: the module whose output is explained.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # it would overwrite what is read
    layer = model.get_submodule(path)
    heat = LayerGradCam(model, layer).attribute(images, target=targets, relu_attributions=True)
    large = LayerAttribution.interpolate(heat, (SIDE, SIDE), "bilinear")[:, 0]
    most = large.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    return (large / most).detach().numpy()
