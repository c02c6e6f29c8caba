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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from tlcnn.data.index import Images
from tlcnn.data.progress import watch
from tlcnn.errors import DataError
from tlcnn.storage import digest_of, remember

GROUPING_VERSION = 2
ANGLES = tuple(range(0, 26, 2))  # degrees that a copy may have been turned by; L of them
SOURCE_SIDE = 112  # pixels a side that a whole source image is compared at
N_RINGS = 26
RING_RATIO = 0.94  # a ring's radius divided by that of the next larger one
N_ANGLES = 128  # samples of a ring
N_HARMONICS = 16
N_TURNS = 48  # tried in a circle: 7.5 degrees apart, half the finest harmonic's wavelength

MIN_ALIKE = 0.6  # correlation of the harmonics' sizes from which a pair is examined
MAX_NEIGHBOURS = 48  # pairs that are examined for an image; LC25000 has 19 copies of each
MIN_COPY = 0.75  # correlation from which two images are copies: 0.71 is the most by chance
MAX_GROUP = 100  # images; in larger groups MIN_COPY is raised
STEP = 0.02
BLOCK = 1024  # images or pairs that are compared at once

RADII = 0.5 * RING_RATIO ** np.arange(N_RINGS)  # as parts of the source image's side
TINY = np.finfo(np.float32).tiny

log = logging.getLogger(__name__)


def load_copy_groups(
    images: Images, labels: Sequence[int], digests: Sequence[str], cache_dir: Path
) -> np.ndarray:
    """Return which images are copies of one source, remembered by their content.

    The answer does not depend on the order of the images. Copies have the same class.

    Returns:
        (N,) int64, the position of the group's first image by digest.
    """
    order = np.array(sorted(range(len(images)), key=lambda i: (digests[i], labels[i])))
    text = "\n".join(f"{digests[i]} {labels[i]}" for i in order)

    def compute() -> list[int]:
        log.info("looking for augmented copies among %d images, once", len(images))
        ordered_labels = np.asarray(labels)[order]
        first = np.arange(len(order))
        for label in np.unique(ordered_labels):
            members = np.flatnonzero(ordered_labels == label)
            contents = [digests[position] for position in order[members]]

            def compute_class(members: np.ndarray = members) -> list[int]:
                pairs, scores = find_copy_pairs(load_harmonics(images, order[members].tolist()))
                return make_groups(len(members), pairs, scores).tolist()

            # After a stop, the finished classes are there.
            class_key = [GROUPING_VERSION, digest_of(contents)]
            first[members] = members[remember(cache_dir, "class copies", class_key, compute_class)]
        return first.tolist()

    key = [GROUPING_VERSION, hashlib.sha256(text.encode()).hexdigest()]
    groups = np.empty(len(order), np.int64)
    groups[order] = order[remember(cache_dir, "copies", key, compute)]
    return groups


def make_groups(n_images: int, pairs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the first member of each image's group, (N,) int64: the connected images.

    Pairs are (M, 2) positions of likely copies, and scores their correlations. A group of more
    than `MAX_GROUP` images is connected by chance somewhere: its weakest pairs are left out until
    it falls apart.

    Example:
        >>> make_groups(4, np.array([[0, 2], [2, 3]]), np.array([0.9, 0.9])).tolist()
        [0, 1, 0, 0]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    threshold, is_large = MIN_COPY, np.ones(n_images, bool)
    is_copy = np.ones(len(pairs), bool)
    while is_large.any():
        is_copy &= (scores >= threshold) | ~is_large[pairs[:, 0]]
        left, right = pairs[is_copy].T
        graph = coo_array((np.ones(len(left)), (left, right)), shape=(n_images, n_images))
        _, component = connected_components(graph, directed=False)
        is_large = np.bincount(component)[component] > MAX_GROUP
        threshold += STEP
    return np.unique(component, return_index=True)[1][component]


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


# The largest ring that a copy turned by each of the angles still shows whole.
FIRST_RINGS = tuple(int(np.argmax(min(compute_crop(angle)) / 2 >= RADII)) for angle in ANGLES)


def load_harmonics(images: Images, positions: Sequence[int]) -> np.ndarray:
    """Return the angular harmonics of rings, (P, L, N_RINGS, N_HARMONICS) complex64.

    They are zero where an image does not show a ring, and for images that cannot be decoded.
    """

    def load(position: int) -> np.ndarray:
        try:
            return make_harmonics(images.load(position))
        except DataError:
            return np.zeros((len(ANGLES), N_RINGS, N_HARMONICS), np.complex64)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loaded = watch(pool.map(load, positions), len(positions), "reading images for copies")
        return np.stack(list(loaded))


def make_harmonics(image: np.ndarray) -> np.ndarray:
    """Return (L, N_RINGS, N_HARMONICS) complex64 of an (H, W, 3) uint8 image."""
    from scipy.ndimage import map_coordinates

    side = 2 * SOURCE_SIDE
    grey = Image.fromarray(image).convert("L").resize((side, side), Image.Resampling.LANCZOS)
    turn = 2 * np.pi * np.arange(N_ANGLES) / N_ANGLES
    harmonics = np.zeros((len(ANGLES), N_RINGS, N_HARMONICS), np.complex64)
    for level, angle in enumerate(ANGLES):
        width, height = (round(part * SOURCE_SIDE) for part in compute_crop(angle))
        unstretched = grey.resize((width, height), Image.Resampling.LANCZOS)
        radii = SOURCE_SIDE * RADII[FIRST_RINGS[level] :, None]
        y, x = (height - 1) / 2 + radii * np.sin(turn), (width - 1) / 2 + radii * np.cos(turn)
        pixels = np.asarray(unstretched, np.float32)
        rings = map_coordinates(pixels, [y, x], order=1, mode="nearest")
        harmonics[level, FIRST_RINGS[level] :] = np.fft.rfft(rings, axis=1)[:, :N_HARMONICS]
    return harmonics


def find_copy_pairs(harmonics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of likely copies, (M, 2) positions, and how well they fit, (M,) float32."""
    order = np.arange(N_HARMONICS)
    fold = np.where(order == 0, 1, 2)  # a real signal has each harmonic but the mean twice
    # A ring's area is as its radius squared; the factor (1 + order) weighs detail up.
    weighted = harmonics * (RADII[:, None] * np.sqrt(fold * (order + 1))).astype(np.float32)
    pairs, levels = _propose_pairs(weighted)
    scores = np.zeros(len(pairs), np.float32)
    angles = product(range(len(ANGLES)), repeat=2)
    for left, right in watch(angles, len(ANGLES) ** 2, "examining pairs, angles"):
        at_levels = np.flatnonzero((levels == (left, right)).all(axis=1))
        ring = max(FIRST_RINGS[left], FIRST_RINGS[right])
        for rows in np.array_split(at_levels, len(at_levels) // BLOCK + 1):
            first = _centre(weighted[pairs[rows, 0], left, ring:], ring)
            second = _centre(weighted[pairs[rows, 1], right, ring:], ring)
            scores[rows] = np.maximum(_correlate(first, second), _correlate(first, second.conj()))
    return pairs, scores


def _propose_pairs(weighted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's most alike later images: (M, 2) positions and (M, 2) levels."""
    sizes = np.abs(weighted)
    sizes = sizes[:, :, ::2] + sizes[:, :, 1::2]  # (N, L, N_RINGS / 2, N_HARMONICS)
    n_images, n_levels = sizes.shape[:2]

    def standardize(level: int, ring: int) -> np.ndarray:
        """Return (N, D) unit vectors around the mean of all images."""
        flat = sizes[:, level, ring:].reshape(n_images, -1)
        flat = flat - flat.mean(axis=0)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), TINY)

    pairs, levels = [], []
    starts = range(0, n_images, BLOCK)
    for start in watch(starts, len(starts), f"comparing {n_images:,} images, blocks"):
        n_rows = min(BLOCK, n_images - start)
        best = np.full((n_rows, n_images), -1, np.float32)
        code = np.zeros((n_rows, n_images), np.int16)
        for left, right in product(range(n_levels), repeat=2):
            ring = (max(FIRST_RINGS[left], FIRST_RINGS[right]) + 1) // 2
            rows = standardize(left, ring)[start : start + n_rows]
            correlation = rows @ standardize(right, ring).T
            is_better = correlation > best
            best[is_better] = correlation[is_better]
            code[is_better] = left * n_levels + right
        best[np.arange(n_rows)[:, None] + start >= np.arange(n_images)] = -1
        neighbours = np.argsort(-best, axis=1, kind="stable")[:, :MAX_NEIGHBOURS]
        rows = np.broadcast_to(np.arange(n_rows)[:, None], neighbours.shape)
        is_alike = best[rows, neighbours] >= MIN_ALIKE
        pairs.append(np.stack([rows[is_alike] + start, neighbours[is_alike]], axis=1))
        levels.append(np.stack(np.divmod(code[rows, neighbours][is_alike], n_levels), axis=1))
    return np.concatenate(pairs), np.concatenate(levels)


def _centre(rings: np.ndarray, first_ring: int) -> np.ndarray:
    """Return (n, R, N_HARMONICS) with the mean of the disc taken away, of length 1."""
    radii = RADII[first_ring:].astype(np.float32)
    mean = (rings[:, :, 0].real @ radii) / (radii**2).sum()
    rings = rings.copy()
    rings[:, :, 0] -= mean[:, None] * radii
    norm = np.sqrt((np.abs(rings) ** 2).sum(axis=(1, 2), keepdims=True))
    return rings / np.maximum(norm, TINY)


def _correlate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return (n,) the largest correlation of two discs over all turns."""
    products = (first * second.conj()).sum(axis=1)  # (n, N_HARMONICS)
    products[:, 1:] /= 2  # irfft counts all but the mean twice
    return np.fft.irfft(products, N_TURNS, axis=1).max(axis=1) * N_TURNS
