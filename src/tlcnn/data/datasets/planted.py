"""Drawn images with two independent cues: which of them a network needs is decided by the label.

Input: a shape filled with stripes, size x size RGB, drawn when it is asked for.
Label: the direction of the stripes (`cue=texture`), the shape (`cue=outline`), or both of them.
Group: every image is its own.
Website: none; the images are drawn by this package.
Publication: none; the two cues follow Geirhos et al. 2019 (texture against shape).
Licence: that of this package.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlcnn.data.drawing.cues import OUTLINES, TEXTURES, draw_cues, scramble
from tlcnn.data.drawing.field import Draws
from tlcnn.data.index import SPLITS, Index
from tlcnn.data.tabular import make_index_table
from tlcnn.errors import ConfigError, DataError, did_you_mean
from tlcnn.storage import digest_of

DRAWING_VERSION = 1  # raise it with every change of any pixel or label

CLASSES = {
    "texture": TEXTURES,
    "outline": OUTLINES,
    "both": tuple(f"{texture} {outline}" for texture in TEXTURES for outline in OUTLINES),
}
SIZES = (16, 256)
_PICTURE, _NOISY_LABEL, _PERMUTATION = 1, 2, 3  # streams of random numbers


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
    n_images: int = 1500,
    n_val: int = 500,
    n_test: int = 6000,
    data_seed: int = 0,
    size: int = 32,
    noise: float = 0.1,
    label_noise: float = 0.0,
    block: int = 0,
) -> Index:
    """Return the index of a drawn dataset with a split of its own.

    The images of a smaller split are the first of a larger one, whatever the sizes of the others.
    The pictures do not depend on `cue` and `label_noise`.

    Args:
        cue: "texture", "outline" (4 classes each) or "both" (16 classes).
        n_images: training images.
        n_val, n_test: images for validation and test.
        data_seed: another seed is another draw of all images.
        size: pixels a side.
        noise: the standard deviation of the noise of each pixel; white is 1.
        label_noise: the share of training labels that are replaced by a class drawn at random;
            1 leaves nothing to learn. Labels for validation and test stay true.
        block: the side of square blocks of pixels that change places, in the same way in all
            images; 0: none do.

    Raises:
        ConfigError: a value that cannot be drawn.
    """
    sizes = dict(zip(SPLITS, (n_images, n_val, n_test), strict=True))
    _check_options(cue, sizes, data_seed, size, noise, label_noise, block)
    # Numbers of the three splits take turns, so that none depends on the size of another.
    splits = [split for split, n in sizes.items() for _ in range(n)]
    numbers = [3 * i + SPLITS.index(split) for split, n in sizes.items() for i in range(n)]
    labels = []
    for split, number in zip(splits, numbers, strict=True):
        texture, outline = draw_labels(data_seed, number)
        both = texture * len(OUTLINES) + outline
        label = {"texture": texture, "outline": outline, "both": both}[cue]
        draws = Draws(data_seed, number, _NOISY_LABEL)
        if split == "train" and draws.chance(label_noise):
            label = draws.count(0, len(CLASSES[cue]) - 1)
        labels.append(label)
    ids = [f"planted{data_seed}-{number}" for number in numbers]
    table = make_index_table(ids, labels, ids, splits)
    images = PlantedImages(data_seed, size, noise, block, tuple(numbers))
    return Index(name, CLASSES[cue], table, images)


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
