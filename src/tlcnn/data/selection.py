"""Which of the listed files are a dataset's images: globs of the user, and masks that are noticed.

A segmentation mask beside its image is no further image: a blank mask gives a class away.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from glob import escape
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from tlcnn.config.schema import find_cache_dir
from tlcnn.config.spelling import quote_for_shell, write_override
from tlcnn.data.dicom import MissingPackage
from tlcnn.data.images import FileImages
from tlcnn.data.tabular import parse_split
from tlcnn.errors import ConfigError, DataError, list_names
from tlcnn.storage import remember

MASK_WORDS = frozenset(
    ("mask", "masks", "msk", "segmentation", "segmentations", "seg", "segm", "gt", "groundtruth")
    + ("annotation", "annotations", "annot", "contour", "contours")
)
MIN_PAIRS = 4  # of files whose names say nothing, before their pixels are looked at
LOOK_VERSION = 1  # of what is remembered about pixels
N_LOOKED = 8  # files whose pixels are looked at
MAX_SIBLINGS = 3  # folders that hold files of one name: more of them are patients, or classes
NEAR_END = 0.15  # of the range: how far JPEG moves the two values of a mask
NEAR_LEVELS = 3  # grey levels: how far the values may lie apart in other formats
MIN_AT_ENDS = 0.98  # of a mask's pixels

_SUFFIX = re.compile(r"(.+?)([ _.-]*[A-Za-z]+)[ _-]?\d*")  # benign (3) | _mask | _1
_PREFIX = re.compile(r"([A-Za-z]+[ _.-]+)(.+)")  # mask_ | benign (3)


def select_images(
    paths: Sequence[str],
    images: FileImages,
    *,
    include: Any,
    exclude: Any,
    place: str,
    cache_dir: str | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return which images belong to a dataset, (N,) bool, and sentences that say what was done.

    A glob is compared with the name of a file and with its path below the root; `*` stands for
    any characters, also for `/`.

    Args:
        paths: N paths of image files below the root, with `/`.
        images: the images of the paths.
        include: globs of the images that are used; None: all. Masks among them are used as well.
        exclude: globs of the images that are left out; None: none.
        place: the dataset's folder or table, for messages.
        cache_dir: the folder where it is remembered which pixels look like masks; as in
            `find_cache_dir`.

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

    def are_two_valued(positions: Sequence[int]) -> bool:
        looked = rows[list(positions[:N_LOOKED])].tolist()
        pixels = FileImages([images.refs[row] for row in looked])
        names = [paths[row] for row in looked]
        key = [LOOK_VERSION, names, pixels.signature()]
        compute = partial(_are_two_valued, names, pixels)
        return bool(remember(find_cache_dir(cache_dir), "two values", key, compute))

    masks = find_masks([paths[row] for row in rows.tolist()], are_two_valued)
    names = sorted({path for members in masks.values() for path in members})
    if names and include is None:
        globs = ",".join(_choose_globs([paths[row] for row in rows.tolist()], masks))
        exclude = write_override("dataset.options.exclude", globs)
        raise DataError(
            f"{place}: {len(names):,} of {len(rows):,} images look like segmentation masks of the "
            f"others ({list_names(names, 3)}). A network would learn from the masks. Leave them "
            f"out with {quote_for_shell(exclude)}, or use them as images with "
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
        fits = [_fits(path, glob) for path in paths]
        if not any(fits):
            raise ConfigError(
                f"dataset.options.{key}={glob} fits none of the {len(paths):,} images, such as "
                f"{list_names([*paths[:2]])}"
            )
        is_matching |= fits
    return is_matching


def _fits(path: str, glob: str) -> bool:
    """Whether a glob fits a file's path or its name."""
    return any(fnmatchcase(text, glob) for text in (path, f"/{path}", path.rpartition("/")[2]))


def _choose_globs(paths: Sequence[str], masks: dict[str, list[str]]) -> list[str]:
    """Return the globs of masks; of one that fits other images as well, the masks' endings."""
    names = {path for members in masks.values() for path in members}
    rest = [path for path in paths if path not in names]
    chosen: list[str] = []
    for glob, members in masks.items():
        word = glob.strip("*")
        if glob.endswith("/*") or not any(_fits(path, glob) for path in rest):
            chosen.append(glob)
        elif glob.startswith("*"):
            chosen += sorted({f"*{word}{path.rpartition(word)[2]}" for path in members})
        else:  # the names themselves
            chosen += sorted({path.rpartition("/")[2] for path in members})
    return list(dict.fromkeys(chosen))


def find_masks(
    paths: Sequence[str], are_two_valued: Callable[[Sequence[int]], bool]
) -> dict[str, list[str]]:
    """Return the paths that look like masks of other paths, by a glob that fits them.

    `are_two_valued` tells whether the images at some positions show two grey levels.

    A candidate has the name of another image and a word more (`a_mask.png` beside `a.png`), or its
    name in another folder (`masks/a.png` beside `images/a.png`). It is a mask where a word of
    `MASK_WORDS` says so within a class. A word in front of the name, or one that tells classes
    apart, may be the name of a class: then, and for at least `MIN_PAIRS` of another word, each of
    another image, the masks must show two grey levels and their images more.
    """
    pairs: dict[tuple[str, bool], list[tuple[int, int]]] = defaultdict(list)
    known_globs = set()
    for position, glob, word, partner, is_within in _list_mask_candidates(paths):
        is_known = is_mask_word(word)
        pairs[glob, is_known and is_within].append((position, partner))
        known_globs |= {glob} if is_known else set()

    masks: dict[str, list[str]] = {}
    for (glob, is_sure), members in pairs.items():
        positions, partners = [list(side) for side in zip(*members, strict=True)]
        is_one_each = len(set(partners)) == len(partners) >= MIN_PAIRS
        if is_sure or (
            (glob in known_globs or is_one_each)
            and are_two_valued(positions)
            and not are_two_valued(partners)
        ):
            masks[glob] = masks.get(glob, []) + [paths[position] for position in positions]
    return masks


def is_mask_word(text: str) -> bool:
    """Whether the letters of a folder's name, or of a part of a file's, are called a mask."""
    return "".join(re.findall("[a-z]", text.lower())) in MASK_WORDS


def _list_mask_candidates(paths: Sequence[str]) -> Iterator[tuple[int, str, str, int, bool]]:
    """Yield how each file may be a mask of another.

    They are its position, a glob, its word, the position of its image, and whether the word says
    enough: it follows the name, or is one of few folders, and both lie in the same class.
    """
    files = [PurePosixPath(path) for path in paths]
    parts_of = [file.parts for file in files]
    classes = [
        parts[:-1][: 2 if len(parts) > 1 and parse_split(parts[0]) else 1] for parts in parts_of
    ]
    named: dict[str, int] = {}  # the first file of each name
    nearby: dict[tuple[tuple[str, ...], str], int] = {}  # and the first in each folder
    # name, folder -> the first file of this name in each entry of the folder
    beside: dict[tuple[str, tuple[str, ...]], dict[str, int]] = defaultdict(dict)
    for position, (file, parts) in enumerate(zip(files, parts_of, strict=True)):
        named.setdefault(file.stem, position)
        nearby.setdefault((parts[:-1], file.stem), position)
        for depth, entry in enumerate(parts):
            beside[file.stem, parts[:depth]].setdefault(entry, position)
    for position, (file, parts) in enumerate(zip(files, parts_of, strict=True)):
        spellings = []
        if match := _SUFFIX.fullmatch(file.stem):
            spellings.append((f"*{match[2]}*", match[2], match[1], True))
        if match := _PREFIX.fullmatch(file.stem):
            spellings.append((f"{match[1]}*", match[1], match[2], False))
        for glob, word, stem, follows in spellings:
            image = nearby.get((parts[:-1], stem), named.get(stem))
            if image is not None:
                yield position, glob, word, image, follows and classes[image] == classes[position]
        for depth, folder in enumerate(parts[:-1]):
            entries = beside[file.stem, parts[:depth]]
            image = next((n for entry, n in entries.items() if entry != folder), None)
            is_few = len(entries) <= MAX_SIBLINGS
            if image is not None and (is_few or is_mask_word(folder)):
                is_within = is_few and classes[image] == classes[position]
                yield position, f"*/{escape(folder)}/*", folder, image, is_within


def _are_two_valued(paths: Sequence[str], images: FileImages) -> bool:
    """Whether images show two grey levels, or one, and not all of them one.

    A dark image with a bright spot has few pixels in between as well, but none that JPEG explains.
    """
    is_mixed = False
    for position, path in enumerate(paths):
        try:
            grey = images.load(position).max(axis=2).astype(np.int64)
        except MissingPackage:
            raise
        except DataError:
            continue
        low, high = int(grey.min()), int(grey.max())
        if high == low:
            continue
        is_jpeg = path.lower().endswith((".jpg", ".jpeg"))
        margin = (high - low) * NEAR_END if is_jpeg else NEAR_LEVELS
        if ((grey <= low + margin) | (grey >= high - margin)).mean() < MIN_AT_ENDS:
            return False
        is_mixed = True
    return is_mixed
