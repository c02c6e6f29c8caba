"""The twelve 2-D datasets of MedMNIST, in the four sizes of MedMNIST+.

Input: root/FLAG.npz (28 pixels) or root/FLAG_SIZE.npz, as published, read without unpacking.
Label: one class; ChestMNIST has 14 findings an image of which any can hold.
Group: none is published, so every image is its own group.
Website: https://medmnist.com
Publication: Yang et al., MedMNIST v2, Scientific Data 2023.
Licence: CC BY 4.0; CC BY-NC 4.0 for dermamnist.

The classes, sizes and files that are published are in medmnist.json (MedMNIST+, Zenodo 10519652).
"""

import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tlcnn.config.schema import find_cache_dir
from tlcnn.data.files import check_folder
from tlcnn.data.index import SPLITS, Index, make_strata
from tlcnn.data.npz import NpzArray, list_arrays, load_array
from tlcnn.data.tabular import make_index_table
from tlcnn.errors import ConfigError, DataError, did_you_mean, list_names
from tlcnn.storage import digest_of, stat_signature

SIZES = (28, 64, 128, 224)  # pixels a side
LEAKS = {
    "dermamnist": (
        "the official split of DermaMNIST leaks: 44 % of its test images show a lesion that is "
        "also in training, and the file does not say which, so no other split of it is clean "
        "either. Its scores are too high; dataset=ham10000 has the same images split by lesion"
    )
}

log = logging.getLogger(__name__)


def load_medmnist_info() -> dict[str, dict[str, Any]]:
    """Return the published facts of each flag, such as `breastmnist`.

    Each has: task (binary, multi-class, ordinal or multi-label), classes (official names in the
    order of the labels), positive (the class that sensitivity is about, or None), n_channels,
    n_samples (of train, val and test), license, and files: size in pixels as text ->
    {"file", "url", "md5"}.

    Example:
        >>> load_medmnist_info()["breastmnist"]["files"]["64"]["file"]
        'breastmnist_64.npz'
    """
    text = Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = json.loads(text)
    return table


def load_medmnist(
    root: Path, *, name: str, flag: str, size: int = 28, cache_dir: str | None = None
) -> Index:
    """Load the index of one MedMNIST dataset; of the images, headers only.

    Args:
        flag: such as `breastmnist`.
        size: pixels a side of the images in the file: 28, 64, 128 or 224.
        cache_dir: the folder where large arrays are unpacked; None: `$TLCNN_CACHE`, or the
            user's cache folder.

    Raises:
        ConfigError: an unknown flag or size.
        DataError: the file is missing, broken, or not what is published under that name.
    """
    facts = _find_facts(flag, size)
    file = facts["files"][str(size)]
    fetch = f"tlcnn data get {flag}" + (f" --size {size}" if size != 28 else "")
    advice = (
        f"`{fetch}` fetches it; or download {file['url']} to {root / file['file']} "
        "(dataset.root=FOLDER is another place)"
    )
    path = _find_file(root, facts, flag, size, advice)
    try:
        images, truth = _load_arrays(path, facts, size)
    except DataError as error:
        raise DataError(f"{error}. {advice}") from error
    n_images = {split: array.shape[0] for split, array in zip(SPLITS, images, strict=True)}
    if n_images != facts["n_samples"]:  # a reduced file is legal
        log.warning("%s holds %s images; published are %s", path, n_images, facts["n_samples"])
    ids = [f"{split}-{i:06d}" for split in SPLITS for i in range(n_images[split])]
    splits = [image_id.partition("-")[0] for image_id in ids]
    targets = np.concatenate(truth) if facts["task"] == "multi-label" else None
    labels = np.concatenate(truth) if targets is None else make_strata(targets)
    return Index(
        name,
        tuple(facts["classes"]),
        make_index_table(ids, labels.tolist(), ids, splits),
        NpzImages(tuple(images), find_cache_dir(cache_dir)),
        task=facts["task"],
        targets=targets,
        positive=facts["positive"],
        notes=(LEAKS[flag],) if flag in LEAKS else (),
    )


def _find_facts(flag: str, size: int) -> Mapping[str, Any]:
    info = load_medmnist_info()
    if flag not in info:
        raise ConfigError(
            f"dataset.options.flag={flag} is no 2-D MedMNIST dataset; choose one of "
            f"{list_names(list(info), 20)}.{did_you_mean(flag, list(info))}"
        )
    if size not in SIZES:
        raise ConfigError(
            f"dataset.options.size={size}: MedMNIST has {', '.join(map(str, SIZES))} pixels. "
            "Images are scaled to dataset.image_size, which can be any"
        )
    return info[flag]


def _find_file(root: Path, facts: Mapping[str, Any], flag: str, size: int, advice: str) -> Path:
    check_folder(root, advice)
    names = {s: facts["files"][str(s)]["file"] for s in SIZES}
    for file in (names[size], f"{flag}_{size}.npz"):
        if (root / file).is_file():
            return root / file
    present = list_names([f"size={s}" for s in SIZES if (root / names[s]).is_file()])
    hint = f" (of {flag} there is {present})" if present else ""
    raise DataError(f"no {names[size]} in {root}{hint}. {advice}")


def _load_arrays(
    path: Path, facts: Mapping[str, Any], size: int
) -> tuple[list[NpzArray], list[np.ndarray]]:
    """Return the headers of each split's images and its truth; refuse what is not published."""
    arrays = list_arrays(path)
    images, truth = [], []
    pixel = (size, size) if facts["n_channels"] == 1 else (size, size, 3)
    for split in SPLITS:
        for array_name in (f"{split}_images", f"{split}_labels"):
            if array_name not in arrays:
                present = list_names(list(arrays), 8) or "nothing"
                raise DataError(f"{path} has no {array_name}; it has {present}")
        array = arrays[f"{split}_images"]
        if array.dtype != "|u1" or array.shape[1:] != pixel or array.shape[0] == 0:
            expected = ", ".join(["N", *map(str, pixel)])
            raise DataError(
                f"{array} is {array.shape} {np.dtype(array.dtype)}: ({expected}) uint8 is "
                "expected, N above 0"
            )
        labels = _load_labels(arrays[f"{split}_labels"], facts)
        if array.shape[0] != len(labels):
            raise DataError(f"{array}: {array.shape[0]:,} images but {len(labels):,} labels")
        images.append(array)
        truth.append(labels)
    return images, truth


def _load_labels(array: NpzArray, facts: Mapping[str, Any]) -> np.ndarray:
    """Return labels (n,) int64, or the targets (n, K) uint8 of a multi-label dataset."""
    n_classes, is_multi = len(facts["classes"]), facts["task"] == "multi-label"
    width = n_classes if is_multi else 1
    fits = array.shape[1:] == (width,) or (not is_multi and len(array.shape) == 1)
    if np.dtype(array.dtype).kind not in "iub" or not fits:
        raise DataError(
            f"{array} is {array.shape} {np.dtype(array.dtype)}: (N, {width}) whole numbers are "
            "expected"
        )
    labels = load_array(array, Path()).astype(np.int64)  # always small: no cache folder
    highest = 1 if is_multi else n_classes - 1
    if labels.size and not (labels.min() >= 0 and labels.max() <= highest):
        raise DataError(
            f"{array} holds {labels.min()} to {labels.max()}: 0 to {highest} is expected"
        )
    return labels.astype(np.uint8) if is_multi else labels.reshape(-1)


class NpzImages:
    """The images of several arrays, one after the other; implements `Images`.

    The arrays are (n, H, W) grey or (n, H, W, 3) RGB, uint8. Large ones are unpacked in
    `cache_dir`.
    """

    def __init__(self, parts: tuple[NpzArray, ...], cache_dir: Path) -> None:
        self.parts, self.cache_dir = parts, cache_dir
        self._starts = np.cumsum([0, *(part.shape[0] for part in parts)])
        self._loaded: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return NpzImages, (self.parts, self.cache_dir)  # each process opens its own

    def signature(self) -> Any:
        """Return the arrays' sizes and checksums and the files' sizes and times of change."""
        stats = [stat_signature(path) for path in sorted({part.path for part in self.parts})]
        rows = [[part.member, list(part.shape), part.crc] for part in self.parts]
        return {"npz": digest_of([stats, rows])}

    def load_digests(self) -> list[str]:
        """Return the sha256 of each image's pixels, in order."""
        return [hashlib.sha256(self._read(i).tobytes()).hexdigest() for i in range(len(self))]

    def load(self, position: int) -> np.ndarray:
        """Return one image, (H, W, 3) uint8 RGB. Raises DataError naming the file."""
        pixels = self._read(position)
        if pixels.ndim == 2:
            return np.repeat(pixels[:, :, None], 3, axis=2)  # grey to (H, W, 3)
        return np.array(pixels)

    def _read(self, position: int) -> np.ndarray:
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        with self._lock:
            if part not in self._loaded:
                self._loaded[part] = load_array(self.parts[part], self.cache_dir)
        return self._loaded[part][position - int(self._starts[part])]
