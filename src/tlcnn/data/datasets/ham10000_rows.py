"""The rows of HAM10000 from either publication: lesion_id, image_id, dx and metadata.

Harvard Dataverse and Kaggle have one table (HAM10000_metadata); the ISIC 2018 challenge has a
one-hot table of diagnoses and a table of lesions.
"""

from pathlib import Path

import pandas as pd

from tlcnn.data.files import IMAGE_SUFFIXES, FileRef
from tlcnn.data.tabular import check_columns, check_unique, load_table_text
from tlcnn.errors import DataError, list_names

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")

TABLE_SUFFIXES = ("", ".csv", ".tab", ".tsv", ".txt")
METADATA = "ham10000_metadata"
TRUTH = "isic2018_task3_training_groundtruth"
LESIONS = "isic2018_task3_training_lesiongroupings"

RENAMED = {"image": "image_id", "diagnosis": "dx", "diagnosis_confirm_type": "dx_type"}
CONFIRMED = {  # the words of the ISIC archive -> those of HAM10000_metadata
    "histopathology": "histo",
    "serial imaging showing no change": "follow_up",
    "single image expert consensus": "consensus",
    "confocal microscopy with consensus dermoscopy": "confocal",
}
KEY = ["image_id", "lesion_id", "dx"]


def load_rows(files: list[FileRef], root: Path, expected: str) -> tuple[pd.DataFrame, str]:
    """Return the rows and the name of the table that they are from.

    Raises:
        DataError: no table, a table without the needed columns, or tables that contradict.
    """
    metadata = _find(files, METADATA)
    if metadata:
        return _load_metadata(metadata), metadata[0].name
    truth, lesions = _find(files, TRUTH), _find(files, LESIONS)
    if truth and lesions:
        return _load_isic(truth[0], lesions[0]), truth[0].name
    if truth:
        raise DataError(
            f"{root} has {truth[0].name} but not ISIC2018_Task3_Training_LesionGroupings.csv: "
            "without it, images of one lesion cannot be kept in one split. Get it from "
            "https://challenge.isic-archive.com/data/#2018"
        )
    raise DataError(f"no metadata at {root}. {expected}")


def _find(files: list[FileRef], stem: str) -> list[FileRef]:
    tables = [ref for ref in files if ref.suffix in TABLE_SUFFIXES]
    return [ref for ref in tables if ref.stem.lower() == stem]


def _load_metadata(refs: list[FileRef]) -> pd.DataFrame:
    frames = []
    for ref in refs:
        frame = _load_normalised(ref)
        check_columns(frame, KEY, ref.name)
        frame["dx"] = frame["dx"].str.lower()
        frames.append(frame)
    first = _sorted_key(frames[0])
    for ref, frame in zip(refs[1:], frames[1:], strict=True):
        if not first.equals(_sorted_key(frame)):
            raise DataError(f"{refs[0]} and {ref} differ; keep the one that is right")
    return frames[0]


def _sorted_key(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[KEY].sort_values(KEY, ignore_index=True)


def _load_normalised(ref: FileRef) -> pd.DataFrame:
    """Read a table with our column names and image ids (upper case, no suffix)."""
    frame = load_table_text(ref)
    frame.columns = [RENAMED.get(_snake(name), _snake(name)) for name in frame.columns]
    check_columns(frame, ["image_id"], ref.name)
    suffixes = "|".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
    without_suffix = frame["image_id"].str.replace(rf"(?i)\.({suffixes})$", "", regex=True)
    frame["image_id"] = without_suffix.str.upper()
    return frame


def _snake(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _load_isic(truth: FileRef, lesions: FileRef) -> pd.DataFrame:
    frame = _load_normalised(truth)
    check_columns(frame, list(CLASSES), truth.name)
    hot = frame[list(CLASSES)].apply(pd.to_numeric, errors="coerce") == 1
    unclear = frame.loc[hot.sum(axis=1) != 1, "image_id"].tolist()
    if unclear:
        raise DataError(
            f"{truth.name}: {len(unclear):,} rows do not have exactly one diagnosis: "
            f"{list_names(unclear)}"
        )
    rows = pd.DataFrame({"image_id": frame["image_id"], "dx": hot.idxmax(axis=1)})
    groups = _load_normalised(lesions)
    check_columns(groups, ["image_id", "lesion_id"], lesions.name)
    check_unique(groups, lesions.name, "lesion_id")
    if "dx_type" in groups:
        groups["dx_type"] = groups["dx_type"].replace(CONFIRMED)
    columns = [column for column in ("image_id", "lesion_id", "dx_type") if column in groups]
    joined = rows.merge(groups[columns], on="image_id", how="left")
    return joined.fillna({column: "" for column in columns})
