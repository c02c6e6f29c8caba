"""Features of images inside a trained network."""

from pathlib import Path
from typing import Any

import numpy as np

from tlcnn.errors import DataError
from tlcnn.inference.network import Network, load
from tlcnn.inference.outputs import iter_outputs, list_parts
from tlcnn.inference.predict import find_image_list

HEAD = "head"  # what enters the classifier


def features(
    run: Any,
    images: Any = None,
    at: str = HEAD,
    *,
    split: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    root: str | Path | None = None,
) -> np.ndarray:
    """Return what leaves a unit of a run's network, averaged over the map, for some images.

    Args:
        run: a run as `load` takes it.
        images, split: as in `predict`; None: the run's own test images.
        at: a unit by name or number (`stage3`, `layer3`), or `head` for what enters the
            classifier.
        batch_size: images of a forward pass; None: that of the run's own evaluation.
        device, root: as in `load`.

    Returns:
        (N, D) float32, in the order of the images.

    Raises:
        ConfigError: the network has no such unit, or an option that `load` refuses.
        DataError: more than one tensor leaves the unit, or an image cannot be decoded.
    """
    network = load(run, device=device, root=root)
    image_list = find_image_list(images, network, split=split)
    n_batch = batch_size or network.run.config.eval_batch_size
    parts = list_parts(len(image_list), n_batch)
    number = None if at == HEAD else _find_unit(network, at)
    rows = []
    for outputs in iter_outputs([network], image_list, parts, batch_size=n_batch, at=number):
        for position, why in outputs.bad.items():
            name = image_list.table["image_id"].iloc[outputs.rows[position]]
            raise DataError(f"{name} cannot be decoded: {why}")
        rows.append(outputs.features[0])
    return np.concatenate(rows)


def _find_unit(network: Network, at: str) -> int:
    """Return the number of a unit that a single tensor leaves."""
    unit_map = network.run.unit_map()
    number = unit_map.select(at)[-1]
    obstacle = unit_map.units[number - 1].cut_obstacle
    if obstacle is not None:
        raise DataError(f"no single tensor leaves {at}: {obstacle}. Use another unit, or at=head")
    return number
