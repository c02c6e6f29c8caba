"""A contact sheet of a dataset: one row of images a class."""

from PIL import Image, ImageDraw, ImageOps

from tlcnn.data.index import Index

_LABEL_WIDTH, _GAP = 64, 2  # pixels


def plot_sheet(index: Index, *, n_columns: int = 8, side: int = 112) -> Image.Image:
    """Return the first images of every class, one of each group, as one picture.

    Args:
        n_columns: the number of images a class.
        side: the side of an image in pixels; images that are no squares lose their edges.
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
            image = Image.fromarray(index.images.load(int(position)))
            picture = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
            sheet.paste(picture, (_LABEL_WIDTH + column * step, row * step))
    return sheet
