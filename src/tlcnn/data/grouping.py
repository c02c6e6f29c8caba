"""Groups of augmented copies: which images were cut and turned out of the same source image.

For copies made with Augmentor's `rotate` (Bloice et al. 2019, arXiv 1708.04680) and flips, as
LC25000's are. A copy turned by an angle is also stretched, since Augmentor cuts the largest
upright box out of the turned image by a formula and scales that box to a square again. So:

    image -> for each angle it may have been turned by: unstretched, rings around its centre,
             their angular harmonics             (turning changes phases, flipping conjugates)
          -> pairs whose harmonics have alike sizes                    (any turn, any flip)
          -> the best correlation over all turns and flips confirms    (phases)
          -> connected images are one group

Source images that overlap, such as two microscope fields of one slide, are not found. Only for
images with structure all over, such as tissue: round spots on skin look like turned copies of
each other.
"""

import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from tlcnn.data.index import Images
from tlcnn.errors import DataError
from tlcnn.storage import remember

GROUPING_VERSION = 1
ANGLES = tuple(range(0, 26, 2))  # degrees that a copy may have been turned by; L of them
SOURCE_SIDE = 112  # pixels a side that a whole source image is compared at
N_RINGS = 26
RING_RATIO = 0.94  # of a ring's radius to the next larger one's
N_ANGLES = 128  # a ring is sampled at
N_HARMONICS = 16
N_TURNS = 48  # tried in a circle: 7.5 degrees apart, half the finest harmonic's wavelength

MIN_ALIKE = 0.6  # correlation of the harmonics' sizes from which a pair is looked at
MAX_NEIGHBOURS = 48  # pairs an image is looked at in; LC25000 has 19 copies of each
MIN_COPY = 0.75  # correlation from which two images are copies: 0.71 is the most by chance
LARGEST = 100  # images a group: where there are more, MIN_COPY is raised for these
STEP = 0.02

_RADII = 0.5 * RING_RATIO ** np.arange(N_RINGS)  # of the source image's side
_BLOCK = 1024  # images whose pairs are looked for at once

log = logging.getLogger(__name__)


def load_copy_groups(
    images: Images, labels: Sequence[int], digests: Sequence[str], cache_dir: Path
) -> np.ndarray:
    """Return which images are copies of one source, remembered by their content.

    The answer does not depend on the order of the images.

    Args:
        labels: (N,) classes; copies have the same one.
        digests: (N,) content digests.

    Returns:
        (N,) int64, the position of the group's first image by digest.
    """
    order = sorted(range(len(images)), key=lambda i: (digests[i], labels[i]))
    text = "\n".join(f"{digests[i]} {labels[i]}" for i in order)
    key = [GROUPING_VERSION, hashlib.sha256(text.encode()).hexdigest()]

    def compute() -> list[int]:
        log.info("looking for augmented copies among %d images, once", len(images))
        return [int(first) for first in find_copies(images, order, [labels[i] for i in order])]

    found = remember(cache_dir, "copies", key, compute)
    groups = np.empty(len(order), np.int64)
    groups[order] = [order[first] for first in found]
    return groups


def find_copies(images: Images, positions: Sequence[int], labels: Sequence[int]) -> np.ndarray:
    """Return for each of these images the first one that it is a copy of, (P,) int64.

    Args:
        positions: (P,) which images.
        labels: (P,) their classes.
    """
    groups = np.arange(len(positions))
    for label in sorted(set(labels)):
        members = np.flatnonzero(np.asarray(labels) == label)
        harmonics = load_harmonics(images, [positions[int(i)] for i in members])
        pairs, scores = find_copy_pairs(harmonics)
        groups[members] = members[make_groups(len(members), pairs, scores)]
    return groups


def make_groups(n_images: int, pairs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the first member of each image's group, (N,) int64: the connected images.

    A group of more than `LARGEST` images is connected by chance somewhere: its weakest pairs are
    left out until it falls apart.

    Args:
        pairs: (M, 2) positions of copies.
        scores: (M,) how sure that is.

    Example:
        >>> make_groups(4, np.array([[0, 2], [2, 3]]), np.array([0.9, 0.9])).tolist()
        [0, 1, 0, 0]
    """
    least = MIN_COPY
    keep = scores >= least
    groups = _connect(n_images, pairs[keep])
    while (large := np.bincount(groups, minlength=n_images) > LARGEST).any():
        least += STEP
        keep &= (scores >= least) | ~large[groups[pairs[:, 0]]]
        groups = _connect(n_images, pairs[keep])
    return groups


def _connect(n_images: int, pairs: np.ndarray) -> np.ndarray:
    first = list(range(n_images))

    def find(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for left, right in pairs.tolist():
        low, high = sorted((find(left), find(right)))
        first[high] = low
    return np.array([find(i) for i in range(n_images)], np.int64)


# ---- from images to harmonics -------------------------------------------------------------------


def compute_crop(degrees: float, side: int = 768) -> tuple[float, float]:
    """Return the width and height of what Augmentor keeps of a turned square, as parts of it.

    Its formula (`RotateRange.perform_operation`), including the slip that divides by 1.

    Example:
        >>> compute_crop(0), [round(part, 3) for part in compute_crop(24)]
        ((1.0, 1.0), [0.669, 0.435])
    """
    angle = math.radians(degrees)
    slope = math.tan(angle)
    canvas = side * (math.cos(angle) + math.sin(angle))
    left = slope * (canvas - canvas * slope) - slope**2
    top = slope * (canvas - left)
    return (canvas - 2 * left) / side, (canvas - 2 * top) / side


def _first_ring(level: int) -> int:
    """Return the largest ring that a copy turned by `ANGLES[level]` still holds whole."""
    largest = min(compute_crop(ANGLES[level])) / 2
    return int(np.argmax(largest >= _RADII))


_CUTS = tuple(_first_ring(level) for level in range(len(ANGLES)))


def load_harmonics(images: Images, positions: Sequence[int]) -> np.ndarray:
    """Return the angular harmonics of rings, (P, L, N_RINGS, N_HARMONICS) complex64.

    They are zero where an image does not show a ring, and for images that cannot be decoded.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda i: _load_one(images, i), positions)
        shape = (len(positions), len(ANGLES), N_RINGS, N_HARMONICS)
        return np.fromiter(made, np.dtype((np.complex64, shape[1:])), len(positions))


def _load_one(images: Images, position: int) -> np.ndarray:
    try:
        return make_harmonics(images.load(position))
    except DataError as error:
        log.debug("a group of its own: %s", error)
        return np.zeros((len(ANGLES), N_RINGS, N_HARMONICS), np.complex64)


def make_harmonics(pixels: np.ndarray) -> np.ndarray:
    """Return (L, N_RINGS, N_HARMONICS) complex64 of an (H, W, 3) uint8 image."""
    side = 2 * SOURCE_SIDE
    grey = Image.fromarray(pixels).convert("L").resize((side, side), Image.Resampling.LANCZOS)
    made = np.zeros((len(ANGLES), N_RINGS, N_HARMONICS), np.complex64)
    for level, cut in enumerate(_CUTS):
        corners, weights = _place_rings(level)
        natural = grey.resize(_natural_size(level), Image.Resampling.LANCZOS)
        rings = (np.asarray(natural, np.float32).ravel()[corners] * weights).sum(axis=0)
        made[level, cut:] = np.fft.rfft(rings, axis=1)[:, :N_HARMONICS]
    return made


def _natural_size(level: int) -> tuple[int, int]:
    """Return the width and height of a copy at the source image's scale, in pixels."""
    width, height = compute_crop(ANGLES[level])
    return round(width * SOURCE_SIDE), round(height * SOURCE_SIDE)


@lru_cache(maxsize=len(ANGLES))
def _place_rings(level: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where rings lie: (4, R, N_ANGLES) flat pixel positions, and their weights."""
    width, height = _natural_size(level)
    angles = 2 * np.pi * np.arange(N_ANGLES) / N_ANGLES
    radii = SOURCE_SIDE * _RADII[_CUTS[level] :, None]
    y = np.clip((height - 1) / 2 + radii * np.sin(angles), 0, height - 1)
    x = np.clip((width - 1) / 2 + radii * np.cos(angles), 0, width - 1)
    top = np.minimum(y.astype(np.int64), height - 2)
    left = np.minimum(x.astype(np.int64), width - 2)
    down, right = y - top, x - left
    corner = top * width + left
    weights = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    corners = [corner, corner + 1, corner + width, corner + width + 1]
    return np.stack(corners), np.stack(weights).astype(np.float32)


# ---- from harmonics to pairs --------------------------------------------------------------------


def find_copy_pairs(harmonics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of likely copies, (M, 2) positions, and how well they fit, (M,) float32.

    Args:
        harmonics: (N, L, N_RINGS, N_HARMONICS) complex64.
    """
    weighted = harmonics * _make_weights()  # areas of rings, and fine detail over coarse
    pairs, levels = _propose_pairs(_make_sizes(weighted))
    return pairs, _confirm_pairs(weighted, pairs, levels)


def _make_weights() -> np.ndarray:
    """Return (N_RINGS, N_HARMONICS): a ring's area is as its radius squared; 1 + m is ours."""
    order = np.arange(N_HARMONICS)
    fold = np.where(order == 0, 1, 2)  # a real signal has each harmonic but the mean twice
    return (_RADII[:, None] * np.sqrt(fold * (order + 1))).astype(np.float32)


def _make_sizes(weighted: np.ndarray) -> np.ndarray:
    """Return the harmonics' sizes, two rings as one: (L, N, N_RINGS / 2, N_HARMONICS)."""
    sizes = np.abs(weighted)
    return np.moveaxis(sizes[:, :, ::2] + sizes[:, :, 1::2], 1, 0).copy()


def _list_levels() -> Iterator[tuple[int, int]]:
    levels = range(len(ANGLES))
    return ((left, right) for left in levels for right in levels)


def _propose_pairs(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's most alike others: (M, 2) positions and (M, 2) levels."""
    pairs, levels = [], []
    for start in range(0, sizes.shape[1], _BLOCK):
        best, code = _compare_block(sizes, start)
        kept = np.argsort(-best, axis=1, kind="stable")[:, :MAX_NEIGHBOURS]
        rows = np.broadcast_to(np.arange(len(best))[:, None], kept.shape)
        good = best[rows, kept] >= MIN_ALIKE
        found = np.stack([rows[good] + start, kept[good]], axis=1)
        pairs.append(found)
        levels.append(np.stack(np.divmod(code[rows, kept][good], len(ANGLES)), axis=1))
    return np.concatenate(pairs), np.concatenate(levels)


def _compare_block(sizes: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (B, N) the best correlation with later images, and the levels it was found at."""
    n_images = sizes.shape[1]
    n_rows = min(_BLOCK, n_images - start)
    best = np.full((n_rows, n_images), -1, np.float32)
    code = np.zeros((n_rows, n_images), np.int16)
    for left, right in _list_levels():
        cut = (max(_CUTS[left], _CUTS[right]) + 1) // 2
        rows = _standardize(sizes[left, :, cut:])[start : start + n_rows]
        found = rows @ _standardize(sizes[right, :, cut:]).T
        better = found > best
        best[better] = found[better]
        code[better] = left * len(ANGLES) + right
    best[np.arange(n_rows)[:, None] + start >= np.arange(n_images)] = -1
    return best, code


def _standardize(sizes: np.ndarray) -> np.ndarray:
    """Return (N, D) unit vectors around the mean of all images."""
    flat = sizes.reshape(len(sizes), -1)
    flat = flat - flat.mean(axis=0)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.maximum(norm, np.finfo(np.float32).tiny)


def _confirm_pairs(weighted: np.ndarray, pairs: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return (M,) the best correlation over turns and flips, at the levels proposed."""
    scores = np.zeros(len(pairs), np.float32)
    for left, right in _list_levels():
        mine = np.flatnonzero((levels == (left, right)).all(axis=1))
        cut = max(_CUTS[left], _CUTS[right])
        for some in np.array_split(mine, len(mine) // _BLOCK + 1):
            first = _centre(weighted[pairs[some, 0], left, cut:], cut)
            second = _centre(weighted[pairs[some, 1], right, cut:], cut)
            scores[some] = np.maximum(_turn(first, second), _turn(first, second.conj()))
    return scores


def _centre(rings: np.ndarray, cut: int) -> np.ndarray:
    """Return (n, R, N_HARMONICS) with the mean of the disc taken away, of length 1."""
    radii = _RADII[cut:].astype(np.float32)
    mean = (rings[:, :, 0].real @ radii) / (radii**2).sum()
    rings = rings.copy()
    rings[:, :, 0] -= mean[:, None] * radii
    norm = np.sqrt((np.abs(rings) ** 2).sum(axis=(1, 2), keepdims=True))
    return rings / np.maximum(norm, np.finfo(np.float32).tiny)


def _turn(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return (n,) the largest correlation of two discs over all turns."""
    products = (first * second.conj()).sum(axis=1)  # (n, N_HARMONICS)
    products[:, 1:] /= 2  # irfft counts all but the mean twice
    return np.fft.irfft(products, N_TURNS, axis=1).max(axis=1) * N_TURNS
