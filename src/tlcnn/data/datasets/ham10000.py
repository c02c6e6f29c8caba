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

from tlcnn.data.files import IMAGE_SUFFIXES, FileRef, check_folder, find_images, list_all_files
from tlcnn.data.images import FileImages
from tlcnn.data.index import Index
from tlcnn.data.tabular import (
    check_columns,
    check_filled,
    check_known,
    check_unique,
    load_table_text,
    make_index_table,
)
from tlcnn.errors import ConfigError, DataError, list_names

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
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
    "Harvard Dataverse (https://doi.org/10.7910/DVN/DBW86T), the ISIC 2018 challenge, task 3 "
    "(https://challenge.isic-archive.com/data/#2018), or Kaggle "
    "(kmader/skin-cancer-mnist-ham10000), or give the folder with dataset.root=FOLDER"
)

# Parts of the publications that are no training images.
OTHER_PARTS = re.compile(
    r"ISIC2018_Task3_(Test|Validation)|segmentation|superpixel", re.IGNORECASE
)

# Names of the published tables, in lower case.
METADATA = "ham10000_metadata"
TRUTH = "isic2018_task3_training_groundtruth"
LESIONS = "isic2018_task3_training_lesiongroupings"
TABLE_SUFFIXES = ("", ".csv", ".tab", ".tsv", ".txt")

# The ISIC archive's column names and values -> those of HAM10000_metadata.
RENAMED = {"image": "image_id", "diagnosis": "dx", "diagnosis_confirm_type": "dx_type"}
CONFIRMED = {
    "histopathology": "histo",
    "serial imaging showing no change": "follow_up",
    "single image expert consensus": "consensus",
    "confocal microscopy with consensus dermoscopy": "confocal",
}
KEY = ["image_id", "lesion_id", "dx"]

log = logging.getLogger(__name__)


def load_ham10000(root: Path, *, name: str, missing: str = "refuse") -> Index:
    """Load the index of HAM10000 from any layout that it is published or shared in.

    Args:
        missing: the answer to rows whose image is not there: `refuse`, or `drop` them (for
            people who hold a part of the dataset; the number is logged).

    Raises:
        ConfigError: `missing` is neither.
        DataError: images or rows are missing, double or contradictory.
    """
    if missing not in ("refuse", "drop"):
        raise ConfigError(f"missing={missing} is not allowed; choose refuse or drop")
    check_folder(root, EXPECTED)
    files = list_all_files(root, skip=OTHER_PARTS)
    candidates = [(ref.stem.upper(), ref) for ref in files if ref.is_image]
    images = find_images(candidates, files, root, EXPECTED)
    rows, source = load_rows(files, root)
    for column in ("image_id", "dx", "lesion_id"):
        check_filled(rows, column, source)
    check_known(rows, "dx", list(CLASSES), source)
    check_unique(rows, source, "dx")
    rows = match_rows(rows, images, source, missing).sort_values("image_id", ignore_index=True)
    if len(rows) != N_PUBLISHED:
        log.warning("%s holds %d of HAM10000's %d images", root, len(rows), N_PUBLISHED)
    table = make_index_table(
        rows["image_id"].tolist(),
        [CLASSES.index(dx) for dx in rows["dx"]],
        [SAME_LESIONS.get(lesion, lesion) for lesion in rows["lesion_id"]],
    )
    for column in ("dx_type", "age", "sex", "localization", "dataset"):
        if column in rows:
            table[column] = rows[column].astype(object)
    if "age" in table:
        table["age"] = pd.to_numeric(table["age"], errors="coerce").astype("float64")
    return Index(name, CLASSES, table, FileImages([images[i] for i in table["image_id"]]))


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


def load_rows(files: list[FileRef], root: Path) -> tuple[pd.DataFrame, str]:
    """Return lesion_id, image_id, dx and metadata, and the name of the table they are from.

    Harvard Dataverse and Kaggle have one table (HAM10000_metadata); the ISIC 2018 challenge has a
    one-hot table of diagnoses and a table of lesions.

    Raises:
        DataError: no table, a table without the needed columns, or tables that contradict.
    """
    tables = [ref for ref in files if ref.suffix in TABLE_SUFFIXES]
    metadata, truth, lesions = (
        [ref for ref in tables if ref.stem.lower() == stem] for stem in (METADATA, TRUTH, LESIONS)
    )
    if metadata:
        return _load_metadata(metadata), metadata[0].name
    if truth and lesions:
        return _load_isic(truth[0], lesions[0]), truth[0].name
    if truth:
        raise DataError(
            f"{root} has {truth[0].name} but not ISIC2018_Task3_Training_LesionGroupings.csv: "
            "without it, images of one lesion cannot be kept in one split. Get it from "
            "https://challenge.isic-archive.com/data/#2018"
        )
    raise DataError(f"no metadata at {root}. {EXPECTED}")


def _load_metadata(refs: list[FileRef]) -> pd.DataFrame:
    """Read the one table. It may be there several times if the rows are the same."""
    frames = [_load_normalised(ref, KEY) for ref in refs]
    for frame in frames:
        frame["dx"] = frame["dx"].str.lower()
    keys = [frame[KEY].sort_values(KEY, ignore_index=True) for frame in frames]
    for ref, key in zip(refs, keys, strict=True):
        if not key.equals(keys[0]):
            raise DataError(f"{refs[0]} and {ref} differ; keep the one that is right")
    return frames[0]


def _load_normalised(ref: FileRef, columns: list[str]) -> pd.DataFrame:
    """Read a table with our column names and image ids (upper case, no suffix)."""
    frame = load_table_text(ref)
    names = [name.lower().replace(" ", "_") for name in frame.columns]
    frame.columns = [RENAMED.get(name, name) for name in names]
    check_columns(frame, columns, ref.name)
    suffix = "|".join(IMAGE_SUFFIXES).replace(".", r"\.")
    frame["image_id"] = frame["image_id"].str.replace(rf"(?i)({suffix})$", "", regex=True)
    frame["image_id"] = frame["image_id"].str.upper()
    return frame


def _load_isic(truth: FileRef, lesions: FileRef) -> pd.DataFrame:
    frame = _load_normalised(truth, ["image_id", *CLASSES])
    hot = frame[list(CLASSES)].apply(pd.to_numeric, errors="coerce") == 1
    unclear = frame.loc[hot.sum(axis=1) != 1, "image_id"].tolist()
    if unclear:
        raise DataError(
            f"{truth.name}: {len(unclear):,} rows do not have exactly one diagnosis: "
            f"{list_names(unclear)}"
        )
    rows = pd.DataFrame({"image_id": frame["image_id"], "dx": hot.idxmax(axis=1)})
    groups = _load_normalised(lesions, ["image_id", "lesion_id"])
    check_unique(groups, lesions.name, "lesion_id")
    if "dx_type" in groups:
        groups["dx_type"] = groups["dx_type"].replace(CONFIRMED)
    columns = [column for column in ("image_id", "lesion_id", "dx_type") if column in groups]
    joined = rows.merge(groups[columns], on="image_id", how="left")
    return joined.fillna({column: "" for column in columns})
