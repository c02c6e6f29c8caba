"""Which images belong together: a regular expression on their paths, or a table of groups."""

import re
from collections.abc import Sequence
from pathlib import Path

from tlcnn.config.spelling import quote_for_shell
from tlcnn.data.files import FileRef, compose_accents
from tlcnn.data.places import find_table
from tlcnn.data.tabular import check_columns, check_filled, check_unique, load_table_text
from tlcnn.errors import ConfigError, DataError, list_names

HINT = (
    "{}: every image is taken as its own group. If patients, lesions or source images have "
    "several, {}, or test images will be known from training"
)


def check_one_way(**options: str | None) -> None:
    """Raise ConfigError where several options say what a group is."""
    ways = [name for name, value in options.items() if value]
    if len(ways) > 1:
        raise ConfigError(
            f"dataset.options.{' and '.join(ways)} both say what a group is: leave one of them "
            "out. A table that tlcnn data audit … --groups wrote with the other options holds "
            "their groups, too"
        )


def load_groups(file: str, root: Path, image_ids: Sequence[str]) -> list[str]:
    """Return the group of each image from a table with the columns image and group.

    `tlcnn data audit NAME --groups FILE` writes such tables. `find_table` says where it may be.

    Raises:
        DataError: there is no such table, or an image has no row, or several.
    """
    source = find_table(file, root)
    if not source.is_file():
        raise DataError(
            f"no table of groups at {source}, nor in the current folder: give its path in "
            "dataset.options.groups"
        )
    frame = load_table_text(FileRef(source))
    check_columns(frame, ["image", "group"], str(source))
    frame = frame.rename(columns={"image": "image_id"})
    check_unique(frame, str(source), "group")
    check_filled(frame, "group", str(source), lambda group: group == "")  # NA may be a name
    groups = dict(zip(frame["image_id"], frame["group"], strict=True))
    missing = [name for name in image_ids if name.strip() not in groups]  # as cells are stripped
    if missing:
        raise DataError(
            f"{source} has no group of {len(missing):,} of {len(image_ids):,} images: "
            f"{list_names(missing)}. Write it again with tlcnn data audit … --groups "
            f"{quote_for_shell(str(source))}"
        )
    return [groups[image_id.strip()] for image_id in image_ids]


def match_groups(files: Sequence[FileRef], regex: str, root: Path) -> list[str]:
    """Return what a regular expression captures in each file's name, or in its path below root.

    Raises:
        ConfigError: it is no regular expression with one capture group.
        DataError: it captures nothing in some of the names, or paths.
    """
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise ConfigError(f"dataset.options.group_regex={regex} is no regex: {error}") from error
    if pattern.groups != 1:
        raise ConfigError(
            f"dataset.options.group_regex={regex} has {pattern.groups} capture groups; put "
            "exactly one pair of parentheses around what names the group"
        )
    names = [compose_accents(ref.stem) for ref in files]
    places = [ref.path.relative_to(root) for ref in files]
    paths = [compose_accents(place.with_suffix("").as_posix()) for place in places]
    groups: list[str] = []
    for texts in (names, paths):  # the patient may be a folder
        matches = [pattern.search(text) for text in texts]
        groups = [match.group(1) or "" if match else "" for match in matches]
        if any(groups):
            break
    if all(groups):
        return groups
    unmatched = [str(place) for place, group in zip(places, groups, strict=True) if not group]
    searched = "names" if texts is names else "paths"
    raise DataError(
        f"group_regex={regex} captures nothing in {len(unmatched):,} of {len(files):,} {searched} "
        f"below {root}: {list_names(unmatched)}"
    )
