"""Where a table is, and the images that it names: by path, by name without suffix or case."""

import os
import re
from pathlib import Path, PurePosixPath

import pandas as pd

from tlcnn.data.dicom import SUFFIXES as DICOM_SUFFIXES
from tlcnn.data.files import IMAGE_SUFFIXES, filter_images, list_files
from tlcnn.data.selection import is_mask_word
from tlcnn.errors import ConfigError, DataError, list_names

N_TRIED = 100  # paths
FIELD = r"\{([^{}]*)\}"  # a column in the path of an image


def find_table(file: str, root: Path) -> Path:
    """Return the path of a table: below the root or, as on the command line, the working folder.

    Below the root comes first. A file that is in neither has its path below the root.
    """
    place = Path(file).expanduser()
    return place if place.is_file() and not (root / place).is_file() else root / place


def find_files(
    frame: pd.DataFrame, template: str, root: Path, *, may_lack: bool = False
) -> list[str]:
    """Return the path of each image's file, relative to root, with its suffix.

    The template is the path of an image, with columns of the table in braces. A path that is not
    there as written is looked up without case and suffix; a name without a folder in all folders
    but those of masks; and of an absolute path, such as that of another machine, its last parts.
    Folders that all paths begin with, and that are not below the root, are left out.
    An image that may lack and is not there has an empty path.

    Raises:
        ConfigError: braces that name no column.
        DataError: images are not there, or a name is there several times.
    """
    fields = list(dict.fromkeys(re.findall(FIELD, template)))
    if not fields or not set(fields) <= set(frame.columns):
        raise ConfigError(
            f"dataset.options.image_path={template} needs columns of the table in braces; they "
            f"are {list_names([str(column) for column in frame.columns], 20)}"
        )
    paths = []
    for row in frame[fields].to_dict("records"):
        path = template
        for field in fields:
            path = path.replace(f"{{{field}}}", row[field])
        paths.append(path.replace("\\", "/"))
    files = [_find_as_written(path, root) for path in paths]
    if not any(files) and template.startswith("{"):
        paths = _strip_common_folders(paths, root)
        files = [_find_as_written(path, root) for path in paths]
    if not all(files):
        files = _look_up(paths, files, root)
    lost = [path for path, file in zip(paths, files, strict=True) if not file]
    if lost and (not may_lack or len(lost) == len(files)):
        raise DataError(
            f"{len(lost):,} of {len(files):,} rows have no image under {root}: "
            f"{list_names(lost)}. Say where they are with dataset.options.image_path, "
            "such as 'images/{image}', or leave them out with dataset.options.missing=drop"
        )
    return files


def _find_as_written(path: str, root: Path) -> str:
    suffixes = ("", *IMAGE_SUFFIXES, *DICOM_SUFFIXES)
    candidates = [path + suffix for suffix in suffixes] if path else []
    return next((c for c in candidates if os.path.isfile(root / c)), "")


def _strip_common_folders(paths: list[str], root: Path) -> list[str]:
    """Return paths without the folders that all begin with, such as the name of the root itself.

    As few are left out as lets one of the first images be there; the paths as they are if none.
    """
    folders = [PurePosixPath(path).parts[:-1] for path in paths]
    n_common = len(os.path.commonprefix(folders))
    for n in range(1, n_common + 1):
        shorter = ["/".join(PurePosixPath(path).parts[n:]) for path in paths]
        if any(_find_as_written(path, root) for path in shorter[:N_TRIED]):
            return shorter
    return paths


def _look_up(paths: list[str], files: list[str], root: Path) -> list[str]:
    """Return the files, with those that were not there as written looked up in the listing."""
    images = filter_images(list_files(root))
    listing = [ref.path.relative_to(root).as_posix() for ref in images]
    by_path: dict[str, list[str]] = {}
    by_name: dict[str, list[str]] = {}
    for file in listing:
        key = _strip(file)
        by_path.setdefault(key, []).append(file)
        if not any(map(is_mask_word, file.split("/")[:-1])):  # a mask is no lost image
            by_name.setdefault(key.rpartition("/")[2], []).append(file)
    looked_up, doubtful = [], []
    for path, file in zip(paths, files, strict=True):
        fits = [file] if file else next(filter(None, map(by_path.get, _list_tails(path))), [])
        if not fits and "/" not in path:
            fits = by_name.get(_strip(path), [])
        spelled = [f for f in fits if f.lower().endswith(path.lower())]
        fits = spelled if len(spelled) == 1 else fits
        if len(fits) > 1:
            doubtful.append(f"{path} ({list_names(fits, 3)})")
        looked_up.append(fits[0] if fits else "")
    if doubtful:
        raise DataError(
            f"{len(doubtful):,} of {len(paths):,} names fit several images under {root}: "
            f"{list_names(doubtful)}. Say which with dataset.options.image_path, such as "
            "'{folder}/{image}'"
        )
    return looked_up


def _strip(path: str) -> str:
    """Return a path in lower case without the suffix of an image."""
    lower = path.lower().removeprefix("./")
    suffix = PurePosixPath(lower).suffix
    is_image = suffix in IMAGE_SUFFIXES or suffix in DICOM_SUFFIXES
    return lower.removesuffix(suffix) if is_image else lower


def _list_tails(path: str) -> list[str]:
    """Return what a path may be below the root, longest first: the last parts of an absolute one.

    Example:
        >>> _list_tails("C:/data/images/A.jpg"), _list_tails("images/A.jpg")
        (['data/images/a', 'images/a', 'a'], ['images/a'])
    """
    is_absolute = path.startswith("/") or re.match(r"[A-Za-z]:/", path)
    parts = _strip(path).split("/")[bool(is_absolute) :]
    return ["/".join(parts[n:]) for n in range(len(parts) if is_absolute else 1)]
