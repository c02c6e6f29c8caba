"""Images as a network was trained to see them; needs Pillow and NumPy alone.

This file is also written beside exported networks:

    recipe = json.load(open("preprocessing.json"))
    batch = numpy.stack([preprocess(path, recipe) for path in paths])   # (N, 3, H, W) float32
"""

from os import PathLike
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def preprocess(image: "str | PathLike[str] | Image.Image", recipe: dict[str, Any]) -> np.ndarray:
    """Return an image as the network takes it, (3, H, W) float32.

    Args:
        image: a file, or an image of Pillow.
        recipe: the content of preprocessing.json.
    """
    decode, resize, crop, _, scaling = recipe["steps"]
    picture = image if isinstance(image, Image.Image) else Image.open(image)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        upper = np.minimum(np.asarray(picture) >> (decode["bits"] - 8), 255)
        picture = Image.fromarray(upper.astype(np.uint8))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    picture = picture.convert("RGB")
    side, filter_ = resize["side"], Image.Resampling.BILINEAR
    if resize["fit"] == "crop":
        picture = ImageOps.fit(picture, (side, side), filter_)
    elif resize["fit"] == "pad":
        factor = side / max(picture.size)
        width, height = (max(1, round(length * factor)) for length in picture.size)
        canvas = Image.new("RGB", (side, side))
        resized = picture.resize((width, height), filter_)
        canvas.paste(resized, ((side - width) // 2, (side - height) // 2))
        picture = canvas
    else:
        picture = picture.resize((side, side), filter_)
    start = (side - crop["side"]) // 2
    end = start + crop["side"]
    pixels = np.asarray(picture)[start:end, start:end].astype(np.float32)
    mean, std = np.array(scaling["mean"]), np.array(scaling["std"])
    scaled = pixels * (1 / (255 * std)).astype(np.float32) + (-mean / std).astype(np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))
