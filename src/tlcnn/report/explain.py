"""The test images that a run is surest of, and where in them its network looks (Grad-CAM).

    predictions.parquet -> choose_examples -> open_run -> compute_gradcam -> Examples

Grad-CAM is Selvaraju et al. 2017 (arXiv:1610.02391) as captum computes it. Of all reports only
the figure of examples needs torch, captum and the dataset.
"""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tlcnn.model.weights import RUN_WEIGHTS
from tlcnn.records.open_run import open_run

if TYPE_CHECKING:
    import torch
    from torch import nn

SIDE = 224  # pixels of a picture
LEAST = 4  # the smallest side of a unit's output that is explained, where the network has one
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

    test = predictions[predictions["split"] == "test"]
    columns = [name for name in test.columns if name.startswith("logit/")]
    classes = np.array([name.removeprefix("logit/") for name in columns])
    probabilities = compute_softmax(test[columns].to_numpy())
    table = test[["image_id", "group"]].assign(
        true=classes[test["label"]],
        predicted=classes[probabilities.argmax(axis=1)],
        probability=probabilities.max(axis=1),
        is_right=probabilities.argmax(axis=1) == test["label"],
    )
    table = table.sort_values(["probability", "image_id"], ascending=[False, True])
    table = table.drop_duplicates(["is_right", "group"])
    turn = table.groupby(["is_right", "true"]).cumcount()
    order = sorted(classes, key=lambda name: name != first)
    place = table["true"].map({name: i for i, name in enumerate(order)})
    table = table.assign(wrong=~table["is_right"], turn=turn, place=place)
    table = table.sort_values(["wrong", "turn", "place"]).groupby("wrong").head(n_each)
    return table.drop(columns=["group", "wrong", "turn", "place"]).reset_index(drop=True)


def load_examples(folder: Path, *, n_each: int = 6, first: str | None = None) -> Examples:
    """Read a run's surest test images and compute its Grad-CAM for them.

    Raises:
        DataError: the dataset is not where the run read it, or is another one.
        WeightsError: the run's weights are not those that it wrote, or do not fit its network.
    """
    from tlcnn.data.cache import stored_size
    from tlcnn.data.resize import resize_image

    run = open_run(folder)
    cfg = run.config.dataset
    table = choose_examples(run.predictions(), n_each, first)
    index = run.dataset().index
    rows = pd.Index(index.table["image_id"].astype(str)).get_indexer(table["image_id"].astype(str))
    originals = [index.images.load(int(row)) for row in rows]
    start, stop = (stored_size(SIDE) - SIDE) // 2, (stored_size(SIDE) + SIDE) // 2
    large = [resize_image(image, stored_size(SIDE), cfg.fit) for image in originals]
    pictures = np.stack(large)[:, start:stop, start:stop]  # the part that a network sees
    heats, place, note = None, "", ""
    if not (folder / RUN_WEIGHTS).is_file():
        note = "the run's weights have been deleted"
    elif importlib.util.find_spec("captum") is None:
        note = INSTALL
    else:
        import torch

        model = run.model()
        inputs = torch.stack([run.transform(image) for image in originals])
        targets = torch.tensor([run.classes.index(name) for name in table["predicted"]])
        layers = [(unit.name, path) for unit in run.unit_map().units for path in unit.natives]
        unit_name, path, side = find_layer(model, inputs[:1], layers)
        heats = compute_gradcam(model, inputs, targets, path)
        place = f"the output of {unit_name} ({path}, {side} x {side})"
    return Examples(table, pictures, heats, place, cfg.image_size, note)


def find_layer(
    model: "nn.Module", image: "torch.Tensor", layers: Iterable[tuple[str, str]]
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

    def record(unit: str, path: str, module: "nn.Module", inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.dim() == 4:
            outputs[unit] = (unit, path, int(min(output.shape[2:])))

    hooks = [
        model.get_submodule(path).register_forward_hook(partial(record, unit, path))
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
