"""The images that a trained network is applied to: a list of ids, and a way to load each image.

folder | files | table | npz | dataset=NAME | arrays  ->  ImageList
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tlcnn.config.compose import compose_config
from tlcnn.config.schema import DatasetCfg, check_config
from tlcnn.data.dataset import Dataset, recall_dataset
from tlcnn.data.datasets.medmnist import NpzImages
from tlcnn.data.datasets.table import find_files
from tlcnn.data.files import IMAGE_SUFFIXES, FileRef, list_all_files
from tlcnn.data.images import FULL_BITS, FileImages, make_pixels
from tlcnn.data.index import SPLITS, Images
from tlcnn.data.npz import list_arrays
from tlcnn.data.tabular import check_columns, check_unique, load_table_text
from tlcnn.errors import DataError, list_names
from tlcnn.memory import Memory

TABLES = (".csv", ".tsv", ".txt")
_IMAGE_COLUMNS = ("image", "image_id", "path", "file", "filename")
_GROUP_COLUMNS = ("group", "patient", "lesion", "lesion_id", "patient_id")
ALLOWED = (
    f"A folder, files ({', '.join(IMAGE_SUFFIXES)}), one table ({', '.join(TABLES)}), one .npz "
    "file, or dataset=NAME with its options can be given"
)


@dataclass(frozen=True)
class ImageList:
    """N images with their ids, and what else is recorded of them.

    Attributes:
        dataset: the name of the dataset that ids and groups belong to; empty for other images.
        table: N rows of `image_id`, and `group`, `split` and `label` (a class) where recorded.
        images: the N images, in the order of the rows.
        stored_digests: the digest of each image's content, where it has been computed already.
        truth: labels (N,) or targets (N, K) of a dataset, as in `Index.truth`.
    """

    dataset: str
    table: pd.DataFrame
    images: Images
    stored_digests: list[str] | None = field(default=None, repr=False)
    truth: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.table)

    def pick(self, rows: np.ndarray) -> "ImageList":
        """Return the images at these positions."""
        images, digests = self.images, self.stored_digests
        return replace(
            self,
            table=self.table.iloc[rows].reset_index(drop=True),
            images=pick_images(images, rows),
            stored_digests=None if digests is None else [digests[row] for row in rows],
            truth=None if self.truth is None else self.truth[rows],
        )

    def load_digests(self) -> list[str]:
        """Return the digest of each image's content."""
        return self.images.load_digests() if self.stored_digests is None else self.stored_digests


@dataclass(frozen=True)
class PickedImages:
    """Some of many images; implements `Images`."""

    images: Images
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def signature(self) -> Any:
        """Return a cheap value that changes whenever an image may have changed."""
        return [self.images.signature(), hashlib.sha256(self.rows.tobytes()).hexdigest()]

    def load_digests(self) -> list[str]:
        """Return a digest of each image's pixels."""
        return [hashlib.sha256(self.load(i).tobytes()).hexdigest() for i in range(len(self))]

    def load(self, position: int) -> np.ndarray:
        """Return one image, (H, W, 3) uint8 RGB."""
        return self.images.load(int(self.rows[position]))


@dataclass(frozen=True)
class ArrayImages:
    """Images in memory, each (H, W, 3) or (H, W) uint8; implements `Images`."""

    arrays: Sequence[np.ndarray] | np.ndarray

    def __len__(self) -> int:
        return len(self.arrays)

    def signature(self) -> Any:
        """Return the digests of all pixels."""
        return self.load_digests()

    def load_digests(self) -> list[str]:
        """Return the sha256 of each image's pixels."""
        return [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in self.arrays]

    def load(self, position: int) -> np.ndarray:
        """Return one image, (H, W, 3) uint8 RGB."""
        return make_rgb(self.arrays[position])


def make_rgb(image: np.ndarray | Image.Image, bits: int = FULL_BITS) -> np.ndarray:
    """Return an image as (H, W, 3) uint8. Raises DataError where it is no uint8 image."""
    if isinstance(image, Image.Image):
        return make_pixels(image, "the image", bits)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise DataError(
            f"an image must be (H, W, 3) or (H, W) uint8, and is {array.shape} {array.dtype}"
        )
    return np.repeat(array[:, :, None], 3, axis=2) if array.ndim == 2 else array


def pick_images(images: Images, rows: np.ndarray) -> Images:
    """Return the images at some positions."""
    if isinstance(images, FileImages):
        return FileImages([images.refs[row] for row in rows], images.reduce_for, images.bits)
    return PickedImages(images, rows)


def load_image_list(
    places: Sequence[str | Path],
    *,
    cache_dir: Path,
    split: str | None = None,
    image_column: str | None = None,
    group_column: str | None = None,
    memory: Memory | None = None,
) -> ImageList:
    """List the images that the words of a command line mean; no image is opened.

    Args:
        places: a folder, files, one table, one npz file, or `dataset=NAME` with further
            overrides of a dataset.
        split: train, val or test of a dataset; None: all of its images.
        image_column, group_column: of a table; by default the usual names are looked for.

    Raises:
        DataError: there are no such images, or ids occur twice.
        ConfigError: overrides that no run can have.
    """
    words = [str(place) for place in places]
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    if overrides and len(overrides) < len(words):
        raise DataError(f"images of a dataset ({overrides[0]}) and others together. {ALLOWED}")
    if overrides:
        return list_dataset(load_named_dataset(overrides, cache_dir, memory or Memory()), split)
    if split is not None:
        raise DataError(f"--split {split} is for datasets: the images have no splits. {ALLOWED}")
    paths = [Path(word).expanduser() for word in words]
    lost = [str(path) for path in paths if not path.exists()]
    if lost or not paths:
        raise DataError(f"there is no {list_names(lost) or 'image'}. {ALLOWED}")
    suffix = paths[0].suffix.lower()
    if suffix in TABLES and len(paths) == 1:
        return _list_table(paths[0], image_column, group_column)
    if suffix == ".npz" and len(paths) == 1:
        return _list_npz(paths[0], cache_dir)
    return _list_files(paths)


def load_named_dataset(overrides: Sequence[str], cache_dir: Path, memory: Memory) -> Dataset:
    """Return the dataset that words such as `dataset=ham10000` mean.

    Raises:
        ConfigError: overrides that no run can have.
        DataError: there are no such images.
    """
    return recall_dataset(compose_dataset(overrides), cache_dir, memory)


def compose_dataset(overrides: Sequence[str]) -> DatasetCfg:
    """Return the configuration that words such as `dataset=ham10000` mean; or ConfigError."""
    config = compose_config(list(overrides))
    check_config(config)
    return config.dataset


def list_dataset(dataset: Dataset, split: str | None) -> ImageList:
    """Return the images of a dataset, or of one of its splits, in its order."""
    if split is not None and split not in SPLITS:
        raise DataError(f"there is no split {split}: {', '.join(SPLITS)}")
    index = dataset.index
    table = index.table[["image_id", "group"]].assign(split=dataset.splits)
    if index.targets is None:
        table["label"] = [index.classes[label] for label in index.table["label"]]
    whole = ImageList(index.name, table, index.images, list(dataset.digests), index.truth)
    if split is None:
        return whole
    return whole.pick(np.flatnonzero(dataset.splits == split))


def list_arrays_of(images: Any) -> ImageList:
    """Return images in memory: (N, H, W, 3) uint8, or a list of arrays or of Pillow's images."""
    arrays = [make_rgb(image) for image in images]
    return _make_list([f"{i:06d}" for i in range(len(arrays))], ArrayImages(arrays))


def _make_list(
    ids: Sequence[str], images: Images, groups: Sequence[str] | None = None
) -> ImageList:
    table = pd.DataFrame({"image_id": list(ids)})
    if groups is not None:
        table["group"] = list(groups)
    if table.empty:
        raise DataError(f"there are no images. {ALLOWED}")
    check_unique(table.assign(path=table["image_id"]), "the images", "path")
    return ImageList("", table, images)


def _list_files(paths: Sequence[Path]) -> ImageList:
    """Return the images of files and folders; ids are paths, inside the folder if it is one."""
    root = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
    refs: list[FileRef] = []
    for path in paths:
        files = list_all_files(path) if path.is_dir() else [FileRef(path)]
        refs += [ref for ref in files if ref.is_image or not path.is_dir()]
    strange = [str(ref) for ref in refs if not ref.is_image]
    if strange:
        raise DataError(f"{list_names(strange)} cannot be read together with others. {ALLOWED}")

    def name(ref: FileRef) -> str:
        outer = ref.path if root is None else ref.path.relative_to(root)
        return f"{outer.as_posix()}/{ref.member}" if ref.member else outer.as_posix()

    if not refs:
        raise DataError(f"no images at {list_names([str(path) for path in paths])}. {ALLOWED}")
    return _make_list([name(ref) for ref in refs], FileImages(refs))


def _list_table(path: Path, image_column: str | None, group_column: str | None) -> ImageList:
    """Return the images that a table lists; their files are looked for beside the table."""
    frame = load_table_text(FileRef(path))
    columns = [str(column) for column in frame.columns]
    image = image_column or next((c for c in _IMAGE_COLUMNS if c in columns), _IMAGE_COLUMNS[0])
    group = group_column or next((c for c in _GROUP_COLUMNS if c in columns), None)
    check_columns(frame, [image, *([group] if group else [])], str(path))
    files = find_files(frame, f"{{{image}}}", path.parent)
    refs = [FileRef(path.parent / file) for file in files]
    return _make_list(
        frame[image].tolist(), FileImages(refs), frame[group].tolist() if group else None
    )


def _list_npz(path: Path, cache_dir: Path) -> ImageList:
    """Return the images of an npz file: every array of (N, H, W) or (N, H, W, 3) uint8."""
    arrays = {
        name: array
        for name, array in list_arrays(path).items()
        if array.dtype == "|u1" and (array.shape[3:] == (3,) or len(array.shape) == 3)
    }
    if not arrays:
        raise DataError(f"{path} has no array of images: (N, H, W) or (N, H, W, 3) uint8")
    ids = [
        f"{name.removesuffix('_images')}-{i:06d}"
        for name, array in arrays.items()
        for i in range(array.shape[0])
    ]
    return _make_list(ids, NpzImages(tuple(arrays.values()), cache_dir))
