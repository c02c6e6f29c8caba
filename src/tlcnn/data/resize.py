"""One image at its stored size: decoded, cut to a square, resized."""

import numpy as np
from PIL import Image, ImageOps

from tlcnn.data.dicom import MissingPackage
from tlcnn.data.images import FileImages
from tlcnn.data.index import Images
from tlcnn.errors import DataError

FILTER = "bilinear"  # Pillow's, which is antialiased when it shrinks

Chunk = tuple[np.ndarray, dict[int, str]]  # (n, S, S, 3) uint8; position -> why it is bad

# Errors that readers raise for a broken file; Pillow raises all of them.
UNREADABLE = (DataError, OSError, ValueError, SyntaxError)


def resize_image(image: np.ndarray, size: int, fit: str) -> np.ndarray:
    """Return an (H, W, 3) uint8 image as (size, size, 3), antialiased.

    Args:
        fit: "crop" (shorter side to `size`, then centre), "squash" (ignore the aspect ratio) or
            "pad" (longer side to `size`, black around).
    """
    height, width = image.shape[:2]
    picture = Image.fromarray(np.ascontiguousarray(image))
    if fit == "pad":
        scale = size / max(height, width)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = Image.new("RGB", (size, size))
        resized = picture.resize(inner, Image.Resampling.BILINEAR)
        canvas.paste(resized, ((size - inner[0]) // 2, (size - inner[1]) // 2))
        return np.asarray(canvas)
    if fit == "crop":  # only the centre square is resampled: less work for the same pixels
        return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def choose_decoding(
    images: Images, size: int, fit: str, decode: str, bits: int | None = None
) -> Images:
    """Return the images to decode: at full size, or JPEGs no larger than they are needed.

    `bits` are the significant ones of 16-bit images; None: as the images have it.
    """
    if not isinstance(images, FileImages):
        return images
    images = images if bits is None else images.with_bits(bits)
    return FileImages(images.refs, (size, fit), images.bits) if decode == "scaled" else images


def decode_range(images: Images, positions: range, size: int, fit: str) -> Chunk:
    """Return the images at these positions, (n, S, S, 3); bad ones are black and named."""
    pixels = np.zeros((len(positions), size, size, 3), dtype=np.uint8)
    bad = {}
    for row, position in enumerate(positions):
        try:
            image = images.load(position)
            if image.dtype != np.uint8 or image.shape[2:] != (3,) or image.size == 0:
                raise DataError(f"(H, W, 3) uint8 expected, got {image.shape} {image.dtype}")
            pixels[row] = resize_image(image, size, fit)
        except MissingPackage:  # no fault of the image, so nothing to remember
            raise
        except UNREADABLE as error:
            bad[position] = str(error) or type(error).__name__
    return pixels, bad
