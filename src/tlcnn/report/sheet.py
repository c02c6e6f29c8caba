"""A contact sheet of a dataset: one row a class, so that a person can see what is in it."""

import numpy as np
from PIL import Image, ImageDraw

from tlcnn.data.index import Index

_LABEL_WIDTH, _GAP = 64, 2  # pixels


def plot_sheet(index: Index, *, n_columns: int = 8, side: int = 112) -> Image.Image:
    """Return the first images of every class, each of another group, as one picture.

    Args:
        n_columns: images a class.
        side: pixels of an image in the sheet; rectangles are cut to their middle.
    """
    table = index.table.drop_duplicates("group")
    step = side + _GAP
    size = (_LABEL_WIDTH + n_columns * step, len(index.classes) * step)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(index.classes):
        pen.text((4, row * step + side // 2 - 6), name[:10], fill="black")
        positions = table.index[table["label"] == row][:n_columns]
        for column, position in enumerate(positions):
            picture = _square(index.images.load(int(position)), side)
            sheet.paste(picture, (_LABEL_WIDTH + column * step, row * step))
    return sheet


def _square(image: np.ndarray, side: int) -> Image.Image:
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    middle = Image.fromarray(image[top : top + edge, left : left + edge])
    return middle.resize((side, side), Image.Resampling.LANCZOS)
