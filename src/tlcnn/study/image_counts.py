"""On how many images the weights of a cell were trained, from the records of its runs."""

import re
from pathlib import Path

from tlcnn.errors import DataError
from tlcnn.records.files import SEEN
from tlcnn.records.read import read_table
from tlcnn.study.cells import Cell

IMAGENET = 1_281_167  # training images of ImageNet-1k
_FURTHER = re.compile(r"_ft_|in\d\dk")  # a timm tag of weights that saw other images as well


def count_train_images(cell: Cell) -> int | None:
    """Return the number of training images of a cell's dataset; None where it is not recorded."""
    return cell.runs[0].plan.count_images("train") or None


def count_source_images(cell: Cell) -> int | None:
    """Return the number of images that a cell's source was trained on, over all of its chain.

    None where the records do not say: for files of weights, and for ImageNet weights of timm that
    saw other images as well.
    """
    run = cell.runs[0]
    plan, first = run.plan, cell.source.chain[:1]
    if first == ("imagenet",):
        n_images = IMAGENET
    elif first == ("random",):
        n_images = 0
    else:
        return None
    if not plan.ancestry:
        is_other = plan.weights and _FURTHER.search(plan.weights.tag)
        return None if is_other or not n_images else n_images
    try:
        seen = read_table(Path(run.folder) / SEEN)["run_id"].value_counts()
    except (DataError, KeyError):
        return None
    counts = [int(seen.get(ancestor.run_id, 0)) for ancestor in plan.ancestry]
    return n_images + sum(counts) if all(counts) else None
