"""Drawn datasets: nothing is downloaded, every picture is a pure function of a seed.

Input: drawn skin lesions (`task=lesions`) or natural textures (`task=textures`), size x size RGB.
Label: the seven diagnoses of HAM10000, imbalanced as they are; or twelve textures, balanced.
Group: the lesion, with one to four photographs; every texture is its own.
Website: none, the pictures are caricatures for demonstrations and tests, not medical data.
Publication: none; the class and photograph counts are modelled on HAM10000 (Tschandl et al. 2018).
Licence: that of this package.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlcnn.data.drawing.field import Draws
from tlcnn.data.drawing.lesion import draw_lesion
from tlcnn.data.drawing.texture import TEXTURES, draw_texture
from tlcnn.data.index import Index
from tlcnn.data.tabular import make_index_table
from tlcnn.errors import ConfigError, DataError, did_you_mean
from tlcnn.storage import digest_of

DRAWING_VERSION = 1  # raise it with every change of any pixel

# Images of each diagnosis and lesions with 1 to 4 photographs in HAM10000.
HAM_COUNTS = {
    "akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142,
}  # fmt: skip
PHOTO_WEIGHTS = (5514, 1423, 490, 43)
FEWEST_IMAGES = 16  # a diagnosis has at least these, while there are images enough
TASKS = ("lesions", "textures")
SIZES = (16, 1024)


@dataclass(frozen=True)
class DrawnImages:
    """Pictures that are drawn when they are asked for; implements `Images`.

    Each subject is (label, number of the lesion or texture in its class, photograph).
    """

    task: str
    data_seed: int
    size: int
    subjects: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.subjects)

    def signature(self) -> Any:
        """Return the drawing's version and parameters, and a digest of the subjects."""
        return [*self._drawing(), len(self), digest_of(self.subjects)]

    def load_digests(self) -> list[str]:
        """Return a digest of what each picture is drawn from; nothing is drawn."""
        drawing = self._drawing()
        return [digest_of([drawing, subject]) for subject in self.subjects]

    def load(self, position: int) -> np.ndarray:
        """Draw one picture alone. Returns (size, size, 3) uint8. Raises DataError."""
        if not 0 <= position < len(self):
            raise DataError(
                f"there is no drawn image {position}; positions go from 0 to {len(self) - 1}"
            )
        label, number, photo = self.subjects[position]
        key = (self.data_seed, TASKS.index(self.task), label, number)
        if self.task == "lesions":
            return draw_lesion(key, label, photo, self.size)
        return draw_texture(key, label, self.size)

    def _drawing(self) -> list[Any]:
        return ["drawn", DRAWING_VERSION, self.task, self.data_seed, self.size]


def load_synthetic(
    root: Path | None = None,
    *,
    name: str = "synthetic",
    task: str = "lesions",
    n_images: int = 1600,
    data_seed: int = 0,
    size: int = 96,
    imbalance: float = 0.6,
) -> Index:
    """Return the index of a drawn dataset. The pictures of a smaller one are in a larger one.

    Args:
        task: "lesions" (7 classes, groups of 1-4 photographs) or "textures" (12 classes).
        data_seed: another seed is another set of patients, or of textures.
        size: pixels a side, drawn natively at this size.
        imbalance: class counts go as HAM10000's to this power: 1 is as imbalanced as HAM10000,
            0 is balanced, 0.6 keeps its order and leaves the rarest class with 4 % instead of 1 %.
            No class has fewer than 16 images while there are images enough. Lesions only.

    Raises:
        ConfigError: a task, size, seed, imbalance or number of images that cannot be drawn.
    """
    _check_options(task, n_images, data_seed, size, imbalance)
    classes = tuple(HAM_COUNTS) if task == "lesions" else TEXTURES
    if task == "lesions":
        subjects = _plan_lesions(n_images, data_seed, imbalance)
    else:
        subjects = [(i % len(classes), i // len(classes), 0) for i in range(n_images)]
    groups = [f"{task}{data_seed}-{classes[label]}-{number:05d}" for label, number, _ in subjects]
    ids = [f"{group}-{photo}" for group, (_, _, photo) in zip(groups, subjects, strict=True)]
    table = make_index_table(ids, [label for label, _, _ in subjects], groups, "")
    return Index(name, classes, table, DrawnImages(task, data_seed, size, tuple(subjects)))


def _check_options(task: str, n_images: int, data_seed: int, size: int, imbalance: float) -> None:
    if task not in TASKS:
        raise ConfigError(
            f"task={task!r} cannot be drawn; choose one of {', '.join(TASKS)}."
            f"{did_you_mean(task, TASKS)}"
        )
    least = {"lesions": 7 * len(PHOTO_WEIGHTS), "textures": 12}[task]
    if n_images < least:
        raise ConfigError(f"n_images={n_images} is too few for task={task}: give {least} or more")
    if data_seed < 0:
        raise ConfigError(f"data_seed={data_seed} is negative; give 0 or more")
    if not SIZES[0] <= size <= SIZES[1]:
        raise ConfigError(f"size={size} pixels cannot be drawn; give {SIZES[0]} to {SIZES[1]}")
    if not 0 <= imbalance <= 1:
        raise ConfigError(f"imbalance={imbalance} is not between 0 (balanced) and 1 (as HAM10000)")


def _plan_lesions(n_images: int, data_seed: int, imbalance: float) -> list[tuple[int, int, int]]:
    """Return (label, lesion, photograph) of N images, the classes mixed."""
    plan: list[tuple[float, tuple[int, int, int]]] = []
    for label, count in enumerate(compute_class_counts(n_images, imbalance)):
        photos: list[tuple[int, int]] = []
        for lesion in itertools.count():
            if len(photos) >= count:
                break
            n_photos = 1 + Draws(data_seed, 0, label, lesion, 0).choice(PHOTO_WEIGHTS)
            photos += [(lesion, photo) for photo in range(n_photos)]
        for i, (lesion, photo) in enumerate(photos[:count]):
            plan.append(((i + 0.5) / count, (label, lesion, photo)))
    return [subject for _, subject in sorted(plan)]


def compute_class_counts(n_images: int, imbalance: float) -> list[int]:
    """Return how many images each diagnosis has: tempered HAM10000 counts above a floor.

    Example:
        >>> compute_class_counts(10015, 1.0)
        [327, 514, 1099, 115, 1113, 6705, 142]
        >>> compute_class_counts(2400, 0.6)
        [175, 229, 362, 93, 364, 1071, 106]
    """
    floor = min(FEWEST_IMAGES, n_images // len(HAM_COUNTS))
    weights = [count**imbalance for count in HAM_COUNTS.values()]
    raised: set[int] = set()  # classes that would have fewer than the floor
    while True:
        rest = n_images - floor * len(raised)
        weight = sum(w for i, w in enumerate(weights) if i not in raised)
        exact = [floor if i in raised else rest * w / weight for i, w in enumerate(weights)]
        below = {i for i, share in enumerate(exact) if share < floor}
        if not below:
            break
        raised |= below
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: n_images - sum(counts)]:
        counts[i] += 1
    return counts
