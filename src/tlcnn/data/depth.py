"""How many of their bits the 16-bit images of a dataset use, and which store white as 0."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlcnn.data.images import FULL_BITS, MAX_PIXELS, FileImages, is_deep_suffix
from tlcnn.storage import remember
from tlcnn.text import count

MAX_NARROW_BITS = 14  # up to which the upper 8 of 16 would be 64 grey levels or fewer
N_NAMED = 3  # images in a sentence
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262  # tags
_MIN_IS_WHITE = 0
_PNG_BITS = 24  # the position of the bit depth in a PNG


@dataclass(frozen=True)
class Depth:
    """The 16-bit images among some images. Names are those of the first `N_NAMED`.

    Attributes:
        bits: the significant bits of the grey ones: those of their largest value, and at least 8;
            `FULL_BITS` where there is none, or where more than `MAX_NARROW_BITS` are significant.
        n_grey: the number of grey ones.
        n_colour: the number of colour ones, of which Pillow reads the upper 8 bits.
        colour_bits: their significant bits, `FULL_BITS` where more than `MAX_NARROW_BITS` are.
        colour_names: the names of colour ones.
        n_inverted: the number of grey TIFF images that store white as 0, and are read as stored.
        inverted_names: their names.
    """

    bits: int = FULL_BITS
    n_grey: int = 0
    n_colour: int = 0
    colour_bits: int = FULL_BITS
    colour_names: Sequence[str] = ()
    n_inverted: int = 0
    inverted_names: Sequence[str] = ()

    @property
    def is_narrow_colour(self) -> bool:
        """Whether the upper 8 bits of the colour images are nearly black."""
        return self.colour_bits < FULL_BITS

    def describe_colour(self) -> str:
        """Return a sentence on colour images that use few of their bits."""
        names = _list_first(self.colour_names, self.n_colour)
        return (
            f"{count(self.n_colour, 'image')} with 16 bits a colour: at most {self.colour_bits} "
            f"are used ({names}), and only the upper 8 can be read, which are nearly black"
        )

    def describe_inverted(self) -> str:
        """Return a sentence on images that store white as 0."""
        return (
            f"{count(self.n_inverted, '16-bit TIFF image')} with white stored as 0 "
            "(PhotometricInterpretation 0): they are read as stored, bright and dark exchanged "
            f"({_list_first(self.inverted_names, self.n_inverted)}). If other images of the "
            "dataset store black as 0, save all of them in that way"
        )


def _list_first(names: Sequence[str], n_all: int) -> str:
    rest = n_all - len(names)
    return ", ".join(names) + (f" and {rest:,} more" if rest else "")


def load_depth(images: FileImages, key: Any, cache_dir: Path) -> Depth:
    """Return the depth of some images, remembered by a key of their content.

    Every PNG and TIFF is opened, and the 16-bit ones are decoded.
    """
    if not images.may_be_deep:
        return Depth()
    return Depth(**remember(cache_dir, "depth", key, lambda: asdict(find_depth(images))))


def find_depth(images: FileImages) -> Depth:
    """Return the depth of some images."""
    deep = [n for n, ref in enumerate(images.refs) if is_deep_suffix(ref.suffix)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = dict(zip(deep, pool.map(lambda n: _look(images.read(n)), deep), strict=True))
    grey = [look[1] for look in looks.values() if look[0] in ("grey", "inverted")]
    colour = {n: look[1] for n, look in looks.items() if look[0] == "colour"}
    inverted = [n for n, look in looks.items() if look[0] == "inverted"]
    return Depth(
        bits=_count_bits(max(grey, default=0)),
        n_grey=len(grey),
        n_colour=len(colour),
        # The lower 8 bits are not read: they may all be used.
        colour_bits=_count_bits(max(colour.values()) << 8 | 255) if colour else FULL_BITS,
        colour_names=[str(images.refs[n].name) for n in [*colour][:N_NAMED]],
        n_inverted=len(inverted),
        inverted_names=[str(images.refs[n].name) for n in inverted[:N_NAMED]],
    )


def _count_bits(largest: int) -> int:
    bits = max(8, largest.bit_length())
    return bits if largest and bits <= MAX_NARROW_BITS else FULL_BITS


def _look(content: bytes) -> tuple[str, int]:
    """Return the kind of an image and its largest value: of 16 bits, or the upper 8 of colours.

    The kind is empty of images without 16 bits, of broken ones, and of those that are too large.
    """
    try:
        with Image.open(BytesIO(content), formats=("PNG", "TIFF")) as image:
            tags = getattr(image, "tag_v2", None)
            samples = (content[_PNG_BITS],) if tags is None else tags.get(_TIFF_BITS, (1,))
            if image.width * image.height > MAX_PIXELS:
                return "", 0
            if image.mode.startswith("I;16"):
                is_inverted = tags is not None and tags.get(_TIFF_PHOTOMETRIC) == _MIN_IS_WHITE
                return "inverted" if is_inverted else "grey", int(np.asarray(image).max())
            if set(np.atleast_1d(samples).tolist()) == {16} and image.mode in ("RGB", "RGBA"):
                return "colour", int(np.asarray(image)[..., :3].max())
            return "", 0
    except MemoryError:
        raise
    except Exception:  # whoever decodes it says what is wrong
        return "", 0
