"""Which of the listed files are a dataset's images: globs of the user, and masks that are noticed.

A segmentation mask beside its image is no further image: a blank mask gives a class away.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from glob import escape
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from tlcnn.errors import ConfigError, DataError, list_names

MASK_WORDS = frozenset(
    ("mask", "masks", "msk", "segmentation", "segmentations", "seg", "segm", "gt", "groundtruth")
    + ("annotation", "annotations", "annot", "contour", "contours")
)
MIN_PAIRS = 4  # of files whose names say nothing, before their pixels are looked at
N_LOOKED = 8  # files whose pixels are looked at
NEAR_END = 0.15  # of the range: how far JPEG moves the two values of a mask
MIN_AT_ENDS = 0.98  # of a mask's pixels

_SUFFIX = re.compile(r"(.+?)([ _.-]*[A-Za-z]+)[ _-]?\d*")  # benign (3) | _mask | _1
_PREFIX = re.compile(r"([A-Za-z]+[ _.-]+)(.+)")  # mask_ | benign (3)


def select_images(
    paths: Sequence[str],
    load: Callable[[int], np.ndarray],
    *,
    include: Any,
    exclude: Any,
    place: str,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return which images belong to a dataset, (N,) bool, and sentences that say what was done.

    A glob is compared with the name of a file and with its path below the root; `*` stands for
    any characters, also for `/`.

    Args:
        paths: N paths of image files below the root, with `/`.
        load: opens the image at a position, (H, W, 3) uint8, or raises DataError.
        include: globs of the images that are used; None: all. Masks among them are used as well.
        exclude: globs of the images that are left out; None: none.
        place: the dataset's folder or table, for messages.

    Raises:
        ConfigError: a glob that fits no path.
        DataError: masks among the images, without `include`.
    """
    is_chosen = np.ones(len(paths), bool)
    if include is not None:
        is_chosen &= _match(paths, include, "include")
    if exclude is not None:
        is_chosen &= ~_match(paths, exclude, "exclude")
    notes = []
    if not is_chosen.all():
        rest = [path for path, chosen in zip(paths, is_chosen, strict=True) if not chosen]
        notes.append(
            f"left out {len(rest):,} of {len(paths):,} images by dataset.options.include and "
            f"exclude: {list_names(rest, 3)}"
        )
    rows = np.flatnonzero(is_chosen)
    masks = find_masks(
        [paths[row] for row in rows.tolist()], lambda position: load(int(rows[position]))
    )
    names = sorted({path for members in masks.values() for path in members})
    if names and include is None:
        globs = ",".join(masks)
        raise DataError(
            f"{place}: {len(names):,} of {len(rows):,} images look like segmentation masks of the "
            f"others ({list_names(names, 3)}). A network would learn from the masks. Leave them "
            f"out with \"dataset.options.exclude='{globs}'\", or use them as images with "
            "\"dataset.options.include='*'\""
        )
    if names:
        notes.append(
            f"{len(names):,} images look like segmentation masks of others and are used: "
            f"{list_names(names, 3)}"
        )
    return is_chosen, tuple(notes)


def parse_globs(value: Any, key: str) -> list[str]:
    """Return globs, given as a list or as one text with commas. Raises ConfigError."""
    globs = value.split(",") if isinstance(value, str) else value
    if not isinstance(globs, Sequence) or not all(isinstance(glob, str) for glob in globs):
        raise ConfigError(
            f"dataset.options.{key}={value} must be globs such as '*_mask*', one or a list"
        )
    return [glob.strip() for glob in globs if glob.strip()]


def _match(paths: Sequence[str], value: Any, key: str) -> np.ndarray:
    """Return which paths fit one of the globs, (N,) bool."""
    is_matching = np.zeros(len(paths), bool)
    for glob in parse_globs(value, key):
        fits = [
            fnmatchcase(f"/{p}", glob) or fnmatchcase(p.rpartition("/")[2], glob) for p in paths
        ]
        fits = [fit or fnmatchcase(path, glob) for fit, path in zip(fits, paths, strict=True)]
        if not any(fits):
            raise ConfigError(
                f"dataset.options.{key}={glob} fits none of the {len(paths):,} images, such as "
                f"{list_names([*paths[:2]])}"
            )
        is_matching |= fits
    return is_matching


def find_masks(paths: Sequence[str], load: Callable[[int], np.ndarray]) -> dict[str, list[str]]:
    """Return the paths that look like masks of other paths, by a glob that fits them.

    A candidate has the name of another image and a word more (`a_mask.png` beside `a.png`), or its
    name in another folder (`masks/a.png` beside `images/a.png`). It is a mask where the word says
    so, or where there are at least `MIN_PAIRS` of that word, each of another image, which show two
    grey levels while their images show more.
    """
    files = [PurePosixPath(path) for path in paths]
    stems: dict[str, list[int]] = defaultdict(list)
    for position, file in enumerate(files):
        stems[file.stem].append(position)
    words: dict[str, str] = {}
    pairs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for position, file in enumerate(files):
        for glob, word, partner in _list_readings(file, files, stems):
            words[glob] = word
            pairs[glob].append((position, partner))
    masks = {}
    for glob, members in pairs.items():
        positions, partners = [list(side) for side in zip(*members, strict=True)]
        is_known = "".join(re.findall("[a-z]", words[glob].lower())) in MASK_WORDS
        is_one_each = len(set(partners)) == len(partners) >= MIN_PAIRS
        if is_known or (
            is_one_each
            and _are_two_valued(positions, load)
            and not _are_two_valued(partners, load)
        ):
            masks[glob] = [paths[position] for position in positions]
    return masks


def _list_readings(
    file: PurePosixPath, files: Sequence[PurePosixPath], stems: dict[str, list[int]]
) -> list[tuple[str, str, int]]:
    """Return how a file may be a mask: a glob, its word, and the position of its image."""

    def find_image(stem: str) -> list[int]:
        """Return the position of an image of this name, if there is one, nearby first."""
        named = stems.get(stem, [])
        return [n for n in named if files[n].parent == file.parent][:1] or named[:1]

    readings = []
    if match := _SUFFIX.fullmatch(file.stem):
        readings += [(f"*{match[2]}*", match[2], n) for n in find_image(match[1])]
    if match := _PREFIX.fullmatch(file.stem):
        readings += [(f"{match[1]}*", match[1], n) for n in find_image(match[2])]
    twins = stems[file.stem]
    if len(twins) == 1:
        return readings
    for depth, folder in enumerate(file.parts[:-1]):
        # The image lies beside this folder, in another one.
        above, inside = file.parts[:depth], file.parts[: depth + 1]
        beside = (
            n
            for n in twins
            if files[n].parts[:depth] == above and files[n].parts[: depth + 1] != inside
        )
        readings += [(f"*/{escape(folder)}/*", folder, n) for n in islice(beside, 1)]
    return readings


def _are_two_valued(positions: Sequence[int], load: Callable[[int], np.ndarray]) -> bool:
    """Whether the first images of these show two grey levels, or one, and not all of them one."""
    is_mixed = False
    for position in positions[:N_LOOKED]:
        try:
            grey = load(position).max(axis=2).astype(np.int64)
        except DataError:
            continue
        low, high = int(grey.min()), int(grey.max())
        if high == low:
            continue
        margin = (high - low) * NEAR_END
        if ((grey <= low + margin) | (grey >= high - margin)).mean() < MIN_AT_ENDS:
            return False
        is_mixed = True
    return is_mixed
