"""Single test images that a run is sure of, and where in them it looks (Grad-CAM).

    predictions.parquet -> choose_examples -> load_examples -> Examples

Grad-CAM is Selvaraju et al. 2017 (arXiv:1610.02391) as captum computes it. torch, captum and the
dataset are needed only here, and only while a figure of examples is drawn.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tlcnn.errors import DataError, WeightsError, list_names
from tlcnn.records.read import read_predictions

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tlcnn.config.schema import Config

SIDE = 224  # pixels of a picture
LEAST = 4  # side of the map that heat is read from, where the network has one
TOLERANCE = 0.05  # between recorded and recomputed probabilities: precisions and devices differ
INSTALL = 'captum is missing: pip install "tlcnn[explain]"'


@dataclass(frozen=True)
class Examples:
    """n test images of one run.

    Attributes:
        table: image_id, true and predicted (names), probability (of the predicted), is_right.
        pictures: (n, SIDE, SIDE, 3) uint8, what the network sees, but sharper.
        heats: (n, SIDE, SIDE) in 0..1, what spoke for the predicted class; None without captum.
        place: where in the network heat was read, in words.
        image_size: pixels that the network sees.
        note: why there is no heat; empty where there is.
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

    Classes take turns, so that none fills the picture; within a class the most confident come
    first, at most one of a group.

    Args:
        predictions: what `read_predictions` returned, of a task with one class an image.
        n_each: of right ones, and of wrong ones.
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
        DataError: the dataset is not where the run found it, or is another one.
        WeightsError: the run has no weights, or others than it was tested with.
    """
    from tlcnn.config.schema import Config
    from tlcnn.plan.chain import load_run_config

    if not (folder / "config.yaml").is_file():
        raise DataError(f"{folder.name} has no config.yaml, which says where its images are")
    chosen = choose_examples(read_predictions(folder), n_each, first)
    cfg = load_run_config(folder, Config())
    originals = _load_images(cfg, chosen)
    size = cfg.dataset.image_size
    pictures = np.stack([_see(image, SIDE, cfg.dataset.fit) for image in originals])
    if not (folder / "weights.safetensors").is_file():
        return Examples(chosen, pictures, None, "", size, "the run's weights have been deleted")
    try:
        import captum.attr  # noqa: F401
    except ImportError:
        return Examples(chosen, pictures, None, "", size, INSTALL)
    heats, place = _compute_heats(folder, cfg, originals, chosen)
    return Examples(chosen, pictures, heats, place, size)


def _load_images(cfg: "Config", chosen: pd.DataFrame) -> list[np.ndarray]:
    """Return the original images, each (H, W, 3) uint8."""
    from tlcnn.data.dataset import load_dataset_index

    index = load_dataset_index(cfg.dataset)
    position = pd.Series(np.arange(len(index)), index=index.table["image_id"].astype(str))
    missing = [str(name) for name in chosen["image_id"] if str(name) not in position.index]
    if missing:
        raise DataError(
            f"{cfg.dataset.name} no longer has {list_names(missing)}, which the run was tested "
            "on: put the dataset back that it was trained with, or report without examples"
        )
    rows = [int(position[str(name)]) for name in chosen["image_id"]]
    labels = np.array(index.strata)[index.table["label"].to_numpy()[rows]]
    changed = chosen["image_id"][labels != chosen["true"].to_numpy()]
    if len(changed):
        raise DataError(f"{cfg.dataset.name}: the labels of {list_names(list(changed))} changed")
    return [index.images.load(row) for row in rows]


def _see(image: np.ndarray, side: int, fit: str) -> np.ndarray:
    """Return the part of an image that a network sees, (side, side, 3) uint8."""
    from tlcnn.data.cache import stored_size
    from tlcnn.data.resize import resize_image

    size = stored_size(side)
    start = (size - side) // 2
    return resize_image(image, size, fit)[start : start + side, start : start + side]


# ---- torch --------------------------------------------------------------------------------------


def _compute_heats(
    folder: Path, cfg: "Config", originals: list[np.ndarray], chosen: pd.DataFrame
) -> tuple[np.ndarray, str]:
    """Return (n, SIDE, SIDE) heat of the predicted classes and where it was read."""
    import torch

    from tlcnn.config.schema import find_cache_dir
    from tlcnn.model.load_units import load_unit_map

    classes = _list_classes(folder)
    model = _load_model(folder, cfg, len(classes))
    images = _make_inputs(originals, cfg)
    targets = torch.tensor([classes.index(name) for name in chosen["predicted"]])
    _check_same(model, images, targets, chosen, folder)
    unit_map = load_unit_map(
        cfg.model.name,
        granularity=cfg.model.granularity,
        cache_dir=find_cache_dir(cfg.cache_dir),
    )
    layers = [(unit.name, path) for unit in unit_map.units for path in unit.natives]
    unit, path, side = find_layer(model, images[:1], layers)
    heats = compute_gradcam(model, images, targets, path)
    return heats, f"the output of {unit} ({path}, {side} x {side})"


def _list_classes(folder: Path) -> list[str]:
    import pyarrow.parquet

    names = pyarrow.parquet.read_schema(folder / "predictions.parquet").names
    return [name.removeprefix("logit/") for name in names if name.startswith("logit/")]


def _load_model(folder: Path, cfg: "Config", n_classes: int) -> "nn.Module":
    from tlcnn.model.build import build_model
    from tlcnn.model.checkpoint_file import load_state

    model = build_model(cfg.model.name, n_classes=n_classes, seed=0)
    try:
        model.load_state_dict(load_state(folder / "weights.safetensors"))
    except RuntimeError as error:
        raise WeightsError(
            f"the weights of {folder.name} do not fit {cfg.model.name} as this version of timm "
            "builds it: report with the version that the run was trained with"
        ) from error
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # it would overwrite what is read
    return model.eval()


def _make_inputs(originals: list[np.ndarray], cfg: "Config") -> "torch.Tensor":
    """Return what the run was tested on, (n, 3, H, W) float32."""
    import torch

    from tlcnn.data.augment import make_eval_batch
    from tlcnn.data.cache import stored_size
    from tlcnn.data.policy import NORMALIZE
    from tlcnn.data.resize import resize_image

    size, fit = stored_size(cfg.dataset.image_size), cfg.dataset.fit
    stored = torch.from_numpy(np.stack([resize_image(image, size, fit) for image in originals]))
    mean, std = NORMALIZE[cfg.dataset.normalize]
    return make_eval_batch(stored, image_size=cfg.dataset.image_size, mean=mean, std=std)


def _check_same(
    model: "nn.Module",
    images: "torch.Tensor",
    targets: "torch.Tensor",
    chosen: pd.DataFrame,
    folder: Path,
) -> None:
    """Raise WeightsError unless the network says again what it said in the test."""
    import torch

    with torch.no_grad():
        said = model(images).softmax(dim=1)[torch.arange(len(targets)), targets].numpy()
    gap = float(np.abs(said - chosen["probability"].to_numpy()).max())
    if gap > TOLERANCE:
        raise WeightsError(
            f"{folder.name}: recomputed probabilities differ by up to {gap:.2f} from the recorded "
            "ones, so the images or the weights are not those that it was tested with"
        )


def find_layer(
    model: "nn.Module", image: "torch.Tensor", layers: list[tuple[str, str]]
) -> tuple[str, str, int]:
    """Return (unit, module path, side) of the deepest unit whose output is `LEAST` wide or more.

    Where none is, the last of the widest is taken: heat of 1 x 1 could not say where.

    Args:
        image: (1, 3, H, W).
        layers: (unit, path of a module inside it); a unit's output is that of the one that
            finishes last.
    """
    import torch

    found: list[tuple[str, str, int]] = []
    units = {path: unit for unit, path in layers}

    def note(path: str) -> Any:
        def hook(_module: Any, _given: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.dim() == 4:
                found.append((units[path], path, int(min(output.shape[2:]))))

        return hook

    modules = dict(model.named_modules())
    hooks = [modules[path].register_forward_hook(note(path)) for path in units]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    outputs = list({unit: (unit, path, side) for unit, path, side in found}.values())
    enough = min(LEAST, max(side for *_, side in outputs))
    return [one for one in outputs if one[2] >= enough][-1]


def compute_gradcam(
    model: "nn.Module", images: "torch.Tensor", targets: "torch.Tensor", path: str
) -> np.ndarray:
    """Return the Grad-CAM of each image, (n, SIDE, SIDE) in 0..1; 0 where nothing speaks for it.

    Args:
        images: (n, 3, H, W).
        targets: (n,) the class that is explained.
        path: the module whose output is weighed.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    layer = dict(model.named_modules())[path]
    heat = LayerGradCam(model, layer).attribute(images, target=targets, relu_attributions=True)
    large = LayerAttribution.interpolate(heat, (SIDE, SIDE), "bilinear")[:, 0]
    most = large.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    return (large / most).detach().numpy()
