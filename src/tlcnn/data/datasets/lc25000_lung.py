"""LC25000, lung: 15,000 H&E tiles in 3 classes, augmented copies of 750 source tiles.

Input: JPEG, 768x768 as published; any square size is read.
Label: the folder: lung_aca (adenocarcinoma), lung_n (benign), lung_scc (squamous cell carcinoma).
Group: the source tile. The publication does not say which tiles are copies of one, so either a
    table does, or the copies are found by their pixels (see `tlcnn.data.grouping`).
Website: https://github.com/tampapath/lung_colon_image_set
Publication: Borkowski et al. 2019, arXiv:1912.12142
Licence: free for AI researchers; the images are never part of this project.

    list files and archives -> images by id -> groups (a table, or pixels) -> Index
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.config.schema import find_cache_dir
from tlcnn.data.files import FileRef, check_folder, find_images, list_all_files
from tlcnn.data.grouping import load_copy_groups
from tlcnn.data.images import FileImages
from tlcnn.data.index import Index
from tlcnn.data.places import find_table
from tlcnn.data.tabular import (
    check_columns,
    check_filled,
    check_unique,
    load_table_text,
    make_index_table,
)
from tlcnn.errors import DataError, list_names
from tlcnn.storage import remember

CLASSES = ("lung_aca", "lung_n", "lung_scc")
N_PUBLISHED = 15_000
TABLE = "labels.csv"

EXPECTED = (
    "LC25000's lung tiles are expected there: folders lung_aca, lung_n and lung_scc, also inside "
    "lung_image_sets, or the zip archive unopened. Get LC25000.zip from "
    "https://github.com/tampapath/lung_colon_image_set, or give the folder with "
    "dataset.root=FOLDER"
)
NOTE = (
    "no table says which tiles are augmented copies of one source tile: {n_groups:,} groups were "
    "found among {n_images:,} tiles by their pixels. Source tiles that overlap, such as two "
    "fields of one slide, and tiles of one patient may still be in different splits"
)

log = logging.getLogger(__name__)


def load_lc25000_lung(
    root: Path, *, name: str, groups: str | None = "auto", cache_dir: str | None = None
) -> Index:
    """Load the index of LC25000's lung tiles, published layout or parts of it.

    Args:
        groups: a table with the columns image, group and perhaps label, below root or the
            working folder; "auto" takes labels.csv where it is there; None finds the groups by
            pixels.
        cache_dir: the folder where groups are remembered that were found by pixels; None:
            `$TLCNN_CACHE`, or the user's cache folder.

    Raises:
        DataError: images are missing or contradictory, or the table does not fit them.
    """
    tiles = find_tiles(root)
    rows = pd.DataFrame(
        [(image_id, _find_class(ref)) for image_id, ref in sorted(tiles.items())],
        columns=["image_id", "label"],
    )
    images = FileImages([tiles[image_id] for image_id in rows["image_id"]])
    if len(rows) != N_PUBLISHED:
        log.warning("%s holds %d of LC25000's %d lung tiles", root, len(rows), N_PUBLISHED)
    if groups == "auto":
        groups = TABLE if (root / TABLE).is_file() else None
    notes: tuple[str, ...] = ()
    if groups is not None:
        tile_groups = read_groups(find_table(groups, root), rows)
    else:
        tile_groups, notes = find_groups(rows, images, find_cache_dir(cache_dir))
    labels = [CLASSES.index(label) for label in rows["label"]]
    table = make_index_table(rows["image_id"].tolist(), labels, tile_groups)
    return Index(name, CLASSES, table, images, notes=notes)


def find_tiles(root: Path) -> dict[str, FileRef]:
    """Return the file of each tile. Raises DataError when tiles are missing or contradictory."""
    check_folder(root, EXPECTED)
    files = list_all_files(root)
    refs = [ref for ref in files if ref.is_image and _find_class(ref) in CLASSES]
    tiles = find_images(((ref.stem, ref) for ref in refs), files, root, EXPECTED)
    for ref in refs:
        if _find_class(ref) != _find_class(tiles[ref.stem]):
            raise DataError(
                f"{ref.stem} is there twice with different class: {tiles[ref.stem]} and {ref}. "
                "Keep one of them"
            )
    lost = sorted(set(CLASSES) - {_find_class(ref) for ref in tiles.values()})
    if lost:
        raise DataError(f"{root} has no tiles of {list_names(lost)}. {EXPECTED}")
    return tiles


def _find_class(ref: FileRef) -> str:
    return ref.inner_path.parent.name


def read_groups(path: Path, rows: pd.DataFrame) -> list[str]:
    """Return each tile's group from a table; `rows` are the tiles' `image_id` and `label`.

    Raises:
        DataError: there is no table, or it lacks columns or tiles or contradicts their classes.
    """
    if not path.is_file():
        raise DataError(
            f"no table of groups at {path}; name another with dataset.options.groups=FILE, or "
            "find the groups by pixels with dataset.options.groups=null"
        )
    frame = load_table_text(FileRef(path))
    check_columns(frame, ["image", "group"], str(path))
    frame["image_id"] = [Path(image.replace("\\", "/")).stem for image in frame["image"]]
    check_filled(frame, "group", str(path))
    check_unique(frame, str(path), "group")
    tiles = rows.merge(frame, on="image_id", how="left", suffixes=("", "_of_table"))
    lost = tiles["image_id"][tiles["group"].isna()].tolist()
    if lost:
        raise DataError(f"{path} has no row for {len(lost):,} tiles: {list_names(lost)}")
    if "label_of_table" in tiles:
        wrong = tiles["image_id"][tiles["label_of_table"] != tiles["label"]].tolist()
        if wrong:
            raise DataError(
                f"{path} gives {len(wrong):,} tiles another class than their folder: "
                f"{list_names(wrong)}. Correct the table or move the tiles"
            )
    return tiles["group"].tolist()


def find_groups(
    rows: pd.DataFrame, images: FileImages, cache_dir: Path
) -> tuple[list[str], tuple[str, ...]]:
    """Return each tile's group by pixels, named after its first tile, and what to know of it."""
    digests = remember(cache_dir, "images", images.signature(), images.load_digests)
    labels = [CLASSES.index(label) for label in rows["label"]]
    copy_groups = load_copy_groups(images, labels, digests, cache_dir)
    first = rows["image_id"].groupby(copy_groups).min()
    groups = [str(first[number]) for number in copy_groups]
    note = NOTE.format(n_groups=len(np.unique(copy_groups)), n_images=len(rows))
    log.warning("%s", note)
    return groups, (note,)
