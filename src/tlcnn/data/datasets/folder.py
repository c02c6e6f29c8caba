"""Images in one folder a class, with or without a folder a split above.

Input: root/CLASS/**/image, or root/{train,val,test}/CLASS/**/image.
Label: the name of the class's folder.
Group: what `group_regex` captures in the file's name or path; without it, every image is its own.
"""

from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from tlcnn.data.files import (
    IMAGE_SUFFIXES,
    FileRef,
    check_folder,
    compose_accents,
    describe_unread,
    filter_images,
    is_hidden,
    list_files,
)
from tlcnn.data.groups import HINT, check_one_way, load_groups, match_groups
from tlcnn.data.images import FileImages
from tlcnn.data.index import Index
from tlcnn.data.layout import find_split_folders
from tlcnn.data.selection import select_images
from tlcnn.data.tabular import make_classes, make_index_table
from tlcnn.errors import ConfigError, DataError, list_names

EXPECTED = (
    f"Expected: one folder for each class with images ({', '.join(IMAGE_SUFFIXES)}), or folders "
    "train, val and test that hold them; give the folder with dataset.root=FOLDER"
)


def load_folder(
    root: Path,
    *,
    name: str,
    classes: Sequence[str] | None = None,
    group_regex: str | None = None,
    include: Sequence[str] | str | None = None,
    exclude: Sequence[str] | str | None = None,
    splits: Mapping[str, Any] | None = None,
    groups: str | None = None,
    cache_dir: str | None = None,
) -> Index:
    r"""Load the index of a folder of class folders.

    Args:
        classes: the names of all class folders, in the order of the labels; sorted if None.
        group_regex: searched in each file's name without its suffix, or, where no file has a
            match, in the paths below the root; its one capture group says what may not straddle
            splits, such as `^(patient\d+)_` or `/(patient\d+)/`.
        include: globs of the images that are used, compared with names and with paths below root.
        exclude: globs of the images that are left out.
        splits: the top folders that are train, val and test, such as {train: [a, b], test: c};
            other folders are left out. None: their names decide; {}: they are classes.
        groups: a table with the columns image and group, instead of group_regex; below root or,
            if it is not there, below the working folder.
        cache_dir: the folder where it is remembered which images look like masks; None:
            `$TLCNN_CACHE`, or the user's cache.

    Raises:
        ConfigError: classes that are not the folders' names, or a regex that does not fit.
        DataError: the folder is missing, or empty, or mixes classes and splits.
    """
    check_folder(root, EXPECTED)
    check_one_way(groups=groups, group_regex=group_regex)
    files, paths, split_of, notes = _choose_files(root, include, exclude, splits, cache_dir)
    depth = 1 if split_of else 0
    folder_names = {parts[depth] for parts in paths}
    ordered = make_classes(folder_names, classes)
    if set(ordered) != folder_names:
        raise ConfigError(
            f"dataset.options.classes={list(ordered)} are not the class folders: "
            f"{list_names(sorted(folder_names), 20)}"
        )
    image_ids = [compose_accents("/".join(parts)) for parts in paths]
    names_of_groups, hint = image_ids, ""
    if groups:
        names_of_groups = load_groups(groups, root, image_ids)
    elif group_regex:
        names_of_groups = match_groups(files, group_regex, root)
    else:
        hint = HINT.format(root, "give dataset.options.group_regex or use dataset=table")
    table = make_index_table(
        image_ids,
        [ordered.index(parts[depth]) for parts in paths],
        names_of_groups,
        [split_of[parts[0]] for parts in paths] if split_of else "",
    )
    order = table["image_id"].argsort().to_numpy()
    table = table.iloc[order].reset_index(drop=True)
    names = tuple(compose_accents(class_name) for class_name in ordered)
    images = FileImages([files[i] for i in order])
    return Index(name, names, table, images, notes=notes, hint=hint)


def _choose_files(
    root: Path, include: Any, exclude: Any, splits: Any, cache_dir: str | None
) -> tuple[list[FileRef], list[tuple[str, ...]], dict[str, str], tuple[str, ...]]:
    """Return the images, the parts of each one's path, the splits of top folders, and notes.

    Raises:
        ConfigError: `include`, `exclude` or `splits` that do not fit the folder.
        DataError: there is no image, an image lies in no class, or a class has no image.
    """
    listed = list_files(root)
    files = filter_images(listed)
    read = set(files)
    unread = describe_unread(ref for ref in listed if ref not in read)
    if not files:
        hint = f": {unread}; save them as PNG" if unread else ""
        raise DataError(f"no images at {root}{hint}. {EXPECTED}")
    all_paths = [ref.path.relative_to(root).parts for ref in files]
    is_chosen, chosen_notes = select_images(
        ["/".join(parts) for parts in all_paths],
        FileImages(files),
        include=include,
        exclude=exclude,
        place=str(root),
        cache_dir=cache_dir,
    )
    files, paths = list(compress(files, is_chosen)), list(compress(all_paths, is_chosen))
    if not paths:
        raise ConfigError(f"{root}: dataset.options.include and exclude leave no image")
    emptied = {parts[0] for parts in all_paths} - {parts[0] for parts in paths}
    top_folders = [folder for folder in _list_folders(root) if folder not in emptied]
    split_of, split_notes = find_split_folders(root, top_folders, paths, splits)
    if split_of:
        is_in_split = [parts[0] in split_of for parts in paths]
        files, paths = list(compress(files, is_in_split)), list(compress(paths, is_in_split))
    depth = 1 if split_of else 0
    loose = ["/".join(parts) for parts in paths if len(parts) < depth + 2]
    if loose:
        raise DataError(
            f"{root}: {len(loose):,} images are in no class folder: {list_names(loose)}. "
            "Move them into their class or away"
        )
    parents = [root / folder for folder in split_of] if split_of else [root]
    empty = {folder for parent in parents for folder in _list_folders(parent)}
    empty -= {parts[depth] for parts in all_paths if len(parts) > depth}
    if empty:  # a copy that went wrong
        raise DataError(
            f"{root}: {len(empty)} class folders hold no image: {list_names(sorted(empty))}. "
            "Complete them or take them away"
        )
    return files, paths, split_of, (*filter(None, [unread]), *chosen_notes, *split_notes)


def _list_folders(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not is_hidden(p.name))
