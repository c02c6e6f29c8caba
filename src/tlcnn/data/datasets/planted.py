"""Drawn images with two independent cues: which of them a network needs is decided by the label.

Input: a shape filled with stripes, size x size RGB, drawn when it is asked for.
Label: the direction of the stripes (`cue=texture`), the shape (`cue=outline`), or both of them;
or what a trained network makes of the picture (`cue=source` and `cue=target`), of which the two
tasks share the first units.
Group: every image is its own.
Website: none; the images are drawn by this package.
Publication: none; the two cues follow Geirhos et al. 2019 (texture against shape).
Licence: that of this package.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlcnn.config.schema import find_cache_dir
from tlcnn.data.drawing.cues import OUTLINES, TEXTURES, draw_cues, scramble
from tlcnn.data.drawing.field import Draws
from tlcnn.data.drawing.teacher import (
    N_UNITS,
    SIZE,
    UPPER_WIDTH,
    compute_codes,
    compute_signs,
    find_digest,
    make_labeller,
)
from tlcnn.data.index import SPLITS, Index, make_strata
from tlcnn.data.tabular import make_index_table
from tlcnn.errors import ConfigError, DataError, did_you_mean
from tlcnn.storage import digest_of, remember

DRAWING_VERSION = 1  # raise it with every change of any pixel or label

N_OUTPUTS = 32  # of the source: so many that a network has to keep what the shared units hold
CLASSES = {
    "texture": TEXTURES,
    "outline": OUTLINES,
    "both": tuple(f"{texture} {outline}" for texture in TEXTURES for outline in OUTLINES),
    "source": tuple(f"output {n}" for n in range(1, N_OUTPUTS + 1)),
    "target": tuple(f"class {n}" for n in range(1, 2**UPPER_WIDTH + 1)),
}
TAUGHT = {"source": 1, "target": 2}  # cues whose labels are the teacher's, by their random units
SIZES = (16, 256)
N_REFERENCE, REFERENCE_SEED = 2000, 1_000_000  # pictures from which random units are scaled
_PICTURE, _NOISY_LABEL, _PERMUTATION, _MIXTURE = 1, 2, 3, 4  # streams of random numbers


@dataclass(frozen=True)
class PlantedImages:
    """Pictures that are drawn when they are asked for; implements `Images`.

    Attributes:
        numbers: one an image; a picture is a function of `data_seed` and its number.
        noise: as of `draw_cues`.
        block: the side of blocks that change places, in pixels; 0: none do.
    """

    data_seed: int
    size: int
    noise: float
    block: int
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def signature(self) -> Any:
        """Return the drawing's version and parameters, and a digest of the numbers."""
        return [*self._list_drawing(), len(self), digest_of(self.numbers)]

    def load_digests(self) -> list[str]:
        """Return a digest of what each picture is drawn from; nothing is drawn."""
        drawing = self._list_drawing()
        return [digest_of([drawing, number]) for number in self.numbers]

    def load(self, position: int) -> np.ndarray:
        """Draw one picture alone. Returns (size, size, 3) uint8. Raises DataError."""
        if not 0 <= position < len(self):
            raise DataError(
                f"there is no drawn image {position}; positions go from 0 to {len(self) - 1}"
            )
        number = self.numbers[position]
        draws = Draws(self.data_seed, number, _PICTURE)
        picture = draw_cues(draws, *draw_labels(self.data_seed, number), self.size, self.noise)
        if self.block == 0:
            return picture
        # One permutation for all images: the label stays a function of the pixels, so that a
        # network can be trained well, but on pixels that are not neighbours in the true picture.
        return scramble(picture, Draws(self.data_seed, 0, _PERMUTATION), self.block)

    def _list_drawing(self) -> list[Any]:
        return ["planted", DRAWING_VERSION, self.data_seed, self.size, self.noise, self.block]


def draw_labels(data_seed: int, number: int) -> tuple[int, int]:
    """Return the positions of an image's texture and outline in `TEXTURES` and `OUTLINES`."""
    draws = Draws(data_seed, number)
    return draws.count(0, len(TEXTURES) - 1), draws.count(0, len(OUTLINES) - 1)


def load_planted(
    root: Path | None = None,
    *,
    name: str = "planted",
    cue: str = "outline",
    shared: int = 0,
    n_images: int = 1500,
    n_val: int = 500,
    n_test: int = 6000,
    data_seed: int = 0,
    size: int = 32,
    noise: float = 0.1,
    label_noise: float = 0.0,
    block: int = 0,
    cache_dir: str | None = None,
) -> Index:
    """Return the index of a drawn dataset with a split of its own.

    The images of a smaller split are the first of a larger one, whatever the sizes of the others.
    The pictures do not depend on `cue` and `label_noise`.

    Args:
        cue: "texture", "outline" (4 classes each), "both" (16 classes), "source" (32 outputs, of
            which any can hold) or "target" (8 classes).
        shared: the first units of the teacher that "source" and "target" have in common.
        n_images: training images.
        n_val, n_test: images for validation and test.
        data_seed: another seed is another draw of all images.
        size: pixels a side.
        noise: the standard deviation of the noise of each pixel; white is 1.
        label_noise: the share of training labels that are replaced by a class drawn at random;
            1 leaves nothing to learn. Labels for validation and test stay true.
        block: the side of square blocks of pixels that change places, in the same way in all
            images; 0: none do.
        cache_dir: the folder where the teacher's labels are remembered; None: `$TLCNN_CACHE`, or
            the user's cache folder.

    Raises:
        ConfigError: a value that cannot be drawn.
    """
    sizes = dict(zip(SPLITS, (n_images, n_val, n_test), strict=True))
    _check_options(cue, sizes, data_seed, size, noise, label_noise, block)
    # Numbers of the three splits take turns, so that none depends on the size of another.
    splits = [split for split, n in sizes.items() for _ in range(n)]
    numbers = [3 * i + SPLITS.index(split) for split, n in sizes.items() for i in range(n)]
    if cue in TAUGHT:
        _check_taught(cue, shared, size)
        truth = load_taught(cue, shared, data_seed, numbers, find_cache_dir(cache_dir))
    else:
        cues = np.array([draw_labels(data_seed, number) for number in numbers])
        texture, outline = cues.T
        truth = {"texture": texture, "outline": outline}.get(
            cue, len(OUTLINES) * texture + outline
        )
    n_values = len(CLASSES[cue]) if truth.ndim == 1 else 2
    for i, number in enumerate(numbers[:n_images] if label_noise else []):
        draws = Draws(data_seed, number, _NOISY_LABEL)
        if draws.chance(label_noise):
            values = [draws.count(0, n_values - 1) for _ in range(truth[i].size)]
            truth[i] = np.reshape(values, truth[i].shape)
    ids = [f"planted{data_seed}-{number}" for number in numbers]
    images = PlantedImages(data_seed, size, noise, block, tuple(numbers))
    if truth.ndim == 1:
        table = make_index_table(ids, truth.tolist(), ids, splits)
        return Index(name, CLASSES[cue], table, images)
    table = make_index_table(ids, make_strata(truth).tolist(), ids, splits)
    return Index(name, CLASSES[cue], table, images, task="multi-label", targets=truth)


def load_taught(
    cue: str, shared: int, data_seed: int, numbers: Sequence[int], cache_dir: Path
) -> np.ndarray:
    """Return the teacher's classes (N,), or its signs (N, N_OUTPUTS); they are stored on disk.

    It sees the clean pictures: labels depend neither on noise nor on scrambled blocks.
    """

    def compute() -> list[Any]:
        reference = PlantedImages(REFERENCE_SEED, SIZE, 0.0, 0, tuple(range(N_REFERENCE)))
        pictures = PlantedImages(data_seed, SIZE, 0.0, 0, tuple(numbers))
        labeller = make_labeller(_draw_all(reference), shared, TAUGHT[cue])
        outputs = labeller.compute_outputs(_draw_all(pictures))
        if cue == "target":
            codes: list[Any] = compute_codes(outputs, labeller.reference).tolist()
            return codes
        draws = Draws(TAUGHT[cue], shared, _MIXTURE)
        signs: list[Any] = compute_signs(outputs, labeller.reference, N_OUTPUTS, draws).tolist()
        return signs

    constants = [DRAWING_VERSION, N_REFERENCE, REFERENCE_SEED, N_OUTPUTS]
    key = [find_digest(), constants, cue, shared, data_seed, digest_of(list(numbers))]
    dtype = np.int64 if cue == "target" else np.uint8
    return np.array(remember(cache_dir, "planted", key, compute), dtype=dtype)


def _draw_all(images: PlantedImages) -> np.ndarray:
    return np.stack([images.load(position) for position in range(len(images))])


def _check_taught(cue: str, shared: int, size: int) -> None:
    if not 0 <= shared <= N_UNITS:
        raise ConfigError(f"shared={shared}: the teacher has {N_UNITS} units; give 0 to {N_UNITS}")
    if size != SIZE:
        raise ConfigError(
            f"size={size} and cue={cue}: the teacher sees {SIZE} pixels; give size={SIZE}, or "
            "another cue"
        )


def _check_options(
    cue: str,
    sizes: dict[str, int],
    data_seed: int,
    size: int,
    noise: float,
    label_noise: float,
    block: int,
) -> None:
    if cue not in CLASSES:
        raise ConfigError(
            f"cue={cue!r} cannot be drawn; choose one of {', '.join(CLASSES)}."
            f"{did_you_mean(cue, list(CLASSES))}"
        )
    for key, n in zip(("n_images", "n_val", "n_test"), sizes.values(), strict=True):
        if n < 16:
            raise ConfigError(f"{key}={n} is too few for up to 16 classes: give 16 or more")
    if data_seed < 0:
        raise ConfigError(f"data_seed={data_seed} is negative; give 0 or more")
    if not SIZES[0] <= size <= SIZES[1]:
        raise ConfigError(f"size={size} pixels cannot be drawn; give {SIZES[0]} to {SIZES[1]}")
    for key, share in (("noise", noise), ("label_noise", label_noise)):
        if not 0 <= share <= 1:
            raise ConfigError(f"{key}={share} is not allowed; give 0 to 1")
    if block < 0 or (block and size % block):
        raise ConfigError(
            f"block={block} does not divide size={size}; give 0 for no scrambling, or a divisor"
        )
