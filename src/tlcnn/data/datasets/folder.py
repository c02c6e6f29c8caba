"""Images in one folder a class, with or without a folder a split above.

Input: root/CLASS/**/image, or root/{train,val,test}/CLASS/**/image.
Label: the name of the class's folder.
Group: what `group_regex` captures in the file's name or path; without it, every image is its own.
"""

import logging
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tlcnn.data.files import IMAGE_SUFFIXES, FileRef, check_folder, is_hidden, list_files
from tlcnn.data.images import FileImages
from tlcnn.data.index import Index
from tlcnn.data.tabular import make_classes, make_index_table, parse_split
from tlcnn.errors import ConfigError, DataError, list_names

EXPECTED = (
    f"Expected: one folder for each class with images ({', '.join(IMAGE_SUFFIXES)}), or folders "
    "train, val and test that hold them; give the folder with dataset.root=FOLDER"
)

log = logging.getLogger(__name__)


def load_folder(
    root: Path,
    *,
    name: str,
    classes: Sequence[str] | None = None,
    group_regex: str | None = None,
) -> Index:
    r"""Load the index of a folder of class folders.

    Args:
        classes: the names of all class folders, in the order of the labels; sorted if None.
        group_regex: searched in each file's name without its suffix, or, where one file has no
            match, in the paths below the root; its one capture group says what may not straddle
            splits, such as `^(patient\d+)_` or `/(patient\d+)/`.

    Raises:
        ConfigError: classes that are not the folders' names, or a regex that does not fit.
        DataError: the folder is missing, or empty, or mixes classes and splits.
    """
    check_folder(root, EXPECTED)
    files = [ref for ref in list_files(root) if ref.is_image]
    paths = [ref.path.relative_to(root).parts for ref in files]
    is_official = _is_official(root)
    depth = 1 if is_official else 0
    if not paths:
        raise DataError(f"no images at {root}. {EXPECTED}")
    loose = ["/".join(parts) for parts in paths if len(parts) < depth + 2]
    if loose:
        raise DataError(
            f"{root}: {len(loose):,} images are in no class folder: {list_names(loose)}. "
            "Move them into their class or away"
        )
    folder_names = {parts[depth] for parts in paths}
    parents = [root / folder for folder in _list_folders(root)] if is_official else [root]
    empty = {folder for parent in parents for folder in _list_folders(parent)} - folder_names
    if empty:  # a copy that went wrong
        raise DataError(
            f"{root}: {len(empty)} class folders hold no image: {list_names(sorted(empty))}. "
            "Complete them or take them away"
        )
    ordered = make_classes(folder_names, classes)
    if set(ordered) != folder_names:
        raise ConfigError(
            f"dataset.options.classes={list(ordered)} are not the class folders: "
            f"{list_names(sorted(folder_names), 20)}"
        )
    image_ids = [_compose("/".join(parts)) for parts in paths]
    table = make_index_table(
        image_ids,
        [ordered.index(parts[depth]) for parts in paths],
        _make_groups(files, group_regex, root) or image_ids,
        [parse_split(parts[0]) or "" for parts in paths] if is_official else "",
    )
    order = table["image_id"].argsort().to_numpy()
    table = table.iloc[order].reset_index(drop=True)
    names = tuple(_compose(class_name) for class_name in ordered)
    return Index(name, names, table, FileImages([files[i] for i in order]))


def _compose(text: str) -> str:
    """Write accents as one character, as not every disk does."""
    return unicodedata.normalize("NFC", text)


def _list_folders(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not is_hidden(p.name))


def _is_official(root: Path) -> bool:
    """Whether the top folders are splits; refuses a mixture of splits and classes."""
    splits = [folder for folder in _list_folders(root) if parse_split(folder)]
    if "train" not in map(parse_split, splits):
        return False
    if class_folders := [folder for folder in _list_folders(root) if folder not in splits]:
        raise DataError(
            f"{root} holds the splits {list_names(splits)} beside other folders "
            f"({list_names(class_folders)}); move these away, or rename the splits if they are "
            "classes"
        )
    return True


def _make_groups(files: list[FileRef], regex: str | None, root: Path) -> list[str]:
    """Return each file's group; none without a regex."""
    if regex is None:
        log.warning(
            "%s: every image is taken as its own group. If patients, lesions or source images "
            "have several, give dataset.options.group_regex or use dataset=table, or test "
            "images will be known from training",
            root,
        )
        return []
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise ConfigError(f"dataset.options.group_regex={regex} is no regex: {error}") from error
    if pattern.groups != 1:
        raise ConfigError(
            f"dataset.options.group_regex={regex} has {pattern.groups} capture groups; put "
            "exactly one pair of parentheses around what names the group"
        )
    names = [_compose(ref.stem) for ref in files]
    places = [ref.path.relative_to(root) for ref in files]
    paths = [_compose(place.with_suffix("").as_posix()) for place in places]
    groups: list[str] = []
    for texts in (names, paths):  # the patient may be a folder
        matches = [pattern.search(text) for text in texts]
        groups = [match.group(1) or "" if match else "" for match in matches]
        if all(groups):
            return groups
    unmatched = [str(place) for place, group in zip(places, groups, strict=True) if not group]
    raise DataError(
        f"group_regex={regex} captures nothing in {len(unmatched):,} of {len(files):,} paths "
        f"below {root}: {list_names(unmatched)}"
    )
