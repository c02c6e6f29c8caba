"""HAM10000: 10,015 dermatoscopic images of 7,468 pigmented skin lesions.

Input: JPEG, 600x450 as published; any size is read.
Label: dx, one of 7 diagnoses, in the order of `CLASSES`.
Group: lesion_id, of which 7,470 are published; 2 pairs of them are one lesion each
    (`SAME_LESIONS`), so there are 7,468 groups, 1,958 of them with two to six images.
Website: https://doi.org/10.7910/DVN/DBW86T
Publication: Tschandl, Rosendahl, Kittler 2018, doi:10.1038/sdata.2018.161
Licence: CC BY-NC 4.0, so the images are never part of this project.

    list files and archives -> rows (HAM10000_metadata or ISIC tables) -> images by id -> Index
"""

import logging
import re
from pathlib import Path

import pandas as pd

from tlcnn.data.datasets.ham10000_rows import CLASSES, load_rows
from tlcnn.data.files import FileRef, check_folder, is_same_content, list_files, list_members
from tlcnn.data.images import FileImages
from tlcnn.data.index import Index
from tlcnn.data.tabular import check_filled, check_known, check_unique, make_index_table
from tlcnn.errors import ConfigError, DataError, list_names

N_PUBLISHED = 10_015

# One photograph in two colourings, published under two lesion ids. Found by `tlcnn data audit`,
# confirmed by their pixels and by eye; each lesion has no other image. The group's name is the
# smaller id.
SAME_LESIONS = {
    "HAM_0007604": "HAM_0000955",  # ISIC_0027027 = ISIC_0029036, bkl
    "HAM_0004919": "HAM_0000140",  # ISIC_0025226 = ISIC_0030074, nv
}

EXPECTED = (
    "HAM10000 is expected there: the images (HAM10000_images_part_1 and _part_2, or one folder, "
    "or the zip archives unopened) and HAM10000_metadata.csv; or ISIC2018_Task3_Training_Input, "
    "_GroundTruth and _LesionGroupings.csv. `tlcnn data get ham10000` fetches it; or get it from "
    "Harvard Dataverse "
    "(https://doi.org/10.7910/DVN/DBW86T), the ISIC 2018 challenge, task 3 "
    "(https://challenge.isic-archive.com/data/#2018), or Kaggle "
    "(kmader/skin-cancer-mnist-ham10000), or give the folder with dataset.root=FOLDER"
)

# Parts of the publications that are no training images.
OTHER_PARTS = re.compile(
    r"ISIC2018_Task3_(Test|Validation)|segmentation|superpixel", re.IGNORECASE
)

log = logging.getLogger(__name__)


def load_ham10000(root: Path, *, name: str, missing: str = "refuse") -> Index:
    """Load the index of HAM10000 from any layout that it is published or shared in.

    Args:
        root: the folder with images and metadata.
        name: the dataset's name in records.
        missing: the answer to rows whose image is not there: `refuse`, or `drop` them (for
            people who hold a part of the dataset; the number is logged).

    Raises:
        ConfigError: `missing` is neither.
        DataError: images or rows are missing, double or contradictory.
    """
    if missing not in ("refuse", "drop"):
        raise ConfigError(f"missing={missing} is not allowed; choose refuse or drop")
    check_folder(root, EXPECTED)
    files = list_ham_files(root)
    images = find_images(files, root)
    rows, source = load_rows(files, root, EXPECTED)
    for column in ("image_id", "dx", "lesion_id"):
        check_filled(rows, column, source)
    check_known(rows, "dx", list(CLASSES), source)
    check_unique(rows, source, "dx")
    rows = match_rows(rows, images, source, missing)
    if len(rows) != N_PUBLISHED:
        log.warning("%s holds %d of HAM10000's %d images", root, len(rows), N_PUBLISHED)
    table = make_table(rows)
    return Index(name, CLASSES, table, FileImages([images[i] for i in table["image_id"]]))


def list_ham_files(root: Path) -> list[FileRef]:
    """List plain files first, then the members of archives."""
    plain = [ref for ref in list_files(root) if _is_wanted(str(ref.path.relative_to(root)))]
    archives = [ref.path for ref in plain if ref.suffix == ".zip"]
    members = [ref for path in archives for ref in list_members(path) if _is_wanted(ref.member)]
    return [ref for ref in plain if ref.suffix != ".zip"] + members


def _is_wanted(path: str) -> bool:
    return OTHER_PARTS.search(path) is None


def find_images(files: list[FileRef], root: Path) -> dict[str, FileRef]:
    """Return one file for each image id; the same image in several places counts once.

    Raises:
        DataError: there is no image, or an id has files with different content.
    """
    images: dict[str, FileRef] = {}
    for ref in (ref for ref in files if ref.is_image):
        image_id = ref.stem.upper()
        first = images.setdefault(image_id, ref)
        if first is not ref and not is_same_content(first, ref):
            raise DataError(
                f"{image_id} is there twice with different content: {first} and {ref}. "
                "Keep one of them"
            )
    if not images:
        nested = [str(ref) for ref in files if ref.suffix == ".zip"]
        hint = f" Unpack the archive that holds archives once ({list_names(nested)})."
        raise DataError(f"no images at {root}.{hint if nested else ''} {EXPECTED}")
    return images


def match_rows(
    rows: pd.DataFrame, images: dict[str, FileRef], source: str, missing: str
) -> pd.DataFrame:
    """Return the rows that have an image.

    Raises:
        DataError: an image has no row; or a row has no image, unless `missing` is `drop`.
    """
    extra = sorted(set(images) - set(rows["image_id"]))
    if extra:
        raise DataError(
            f"{len(extra):,} images have no row in {source}: {list_names(extra)}. "
            "Complete the table, or move files that are not of HAM10000 out of the folder"
        )
    has_image = rows["image_id"].isin(list(images))
    lost = sorted(rows.loc[~has_image, "image_id"])
    if lost and missing == "refuse":
        raise DataError(
            f"{len(lost):,} rows of {source} have no image: {list_names(lost)}. Complete the "
            "images, or give dataset.options.missing=drop to use the part that is there"
        )
    if lost:
        log.warning("dropped %d rows of %s that have no image", len(lost), source)
    return rows[has_image]


def make_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the index table, sorted by image id, with the metadata columns that are known."""
    rows = rows.sort_values("image_id", ignore_index=True)
    labels = [CLASSES.index(dx) for dx in rows["dx"]]
    groups = [SAME_LESIONS.get(lesion, lesion) for lesion in rows["lesion_id"]]
    table = make_index_table(rows["image_id"].tolist(), labels, groups)
    for column in ("dx_type", "age", "sex", "localization", "dataset"):
        if column in rows:
            table[column] = rows[column].astype(object)
    if "age" in table:
        table["age"] = pd.to_numeric(table["age"], errors="coerce").astype("float64")
    return table
